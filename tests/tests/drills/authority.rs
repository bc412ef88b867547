//! The authority is restarted while a host waits for it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::bus::{command_code, forward};
use testkit::swtpm::Swtpm;
use testkit::tap::Tap;
use tests::host::Host;
use tests::programs;
use tests::world::{TIMEOUT, World};
use tpm2::types::CommandCode;

use super::{HALF_LIFE, Trouble, WEB, holds, joined_at, switched_on};

const ACTIVATE_CREDENTIAL: CommandCode = CommandCode(0x147);
const SIGN: CommandCode = CommandCode(0x15d);

/// A TPM that stops at a command until it is released.
struct Held {
    tap: Tap,
    reached: Receiver<()>,
    go_on: SyncSender<()>,
}

impl Held {
    /// Stops at the first command of this code after [`Self::arm`] was called.
    fn at(swtpm: &Swtpm, code: CommandCode) -> Result<(Self, SyncSender<()>)> {
        let (arm, armed) = sync_channel::<()>(1);
        let (reaching, reached) = sync_channel(1);
        let (go_on, going_on) = sync_channel::<()>(1);
        let tap = Tap::with(swtpm, move |command, tpm| {
            if command_code(command) == code && armed.try_recv().is_ok() {
                let _ = reaching.send(());
                let _ = going_on.recv_timeout(TIMEOUT);
            }
            forward(tpm, command)
        })?;
        Ok((Self { tap, reached, go_on }, arm))
    }

    /// Does something to the authority in this moment.
    fn meanwhile(
        &self,
        world: &mut World,
        what: impl FnOnce(&mut World) -> Result<()>,
    ) -> Result<()> {
        self.reached.recv_timeout(TIMEOUT).context("the TPM is not asked")?;
        what(world)?;
        self.go_on.send(()).context("the TPM is gone")
    }
}

/// It has sent its challenge, and does not know of it any more when the answer comes.
#[test]
fn a_restart_between_challenge_and_answer_of_a_join() -> Result<()> {
    let swtpm = switched_on()?;
    let before = swtpm.handles()?;
    let (held, arm) = Held::at(&swtpm, ACTIVATE_CREDENTIAL)?;
    let mut host = Host::new(World::with_clocks(programs!())?, &held.tap.tcti())?;
    arm.send(())?;
    host.start()?;
    held.meanwhile(&mut host.world, |world| {
        world.kill();
        world.start(&[])
    })?;
    host.wait_healthy()?;
    ensure!(host.count("WARN  not joined name=identity") == 1, "{}", host.log());
    has_no_words_of_libraries(&host)?;
    ensure!(host.world.instances()? == 1, "the join that was cut off is no instance");
    holds(&swtpm, &before)
}

/// The TPM is about to sign the handshake when the other end of it goes.
#[test]
fn a_restart_in_the_middle_of_a_renewal() -> Result<()> {
    let swtpm = switched_on()?;
    let (held, arm) = Held::at(&swtpm, SIGN)?;
    let (mut host, before) = joined_at(&held.tap.tcti(), &swtpm)?;
    let stored = host.stored()?;
    arm.send(())?;
    host.world.pass(HALF_LIFE)?;
    held.meanwhile(&mut host.world, |world| {
        world.kill();
        world.start(&[])
    })?;
    host.until_logged("INFO  renewed name=identity", 1)?;
    host.wait_healthy()?;
    ensure!(host.count("WARN  not renewed name=identity") == 1, "{}", host.log());
    has_no_words_of_libraries(&host)?;
    ensure!(host.stored()?["instance"] == stored["instance"]);
    ensure!(host.stored()?["certificates"] != stored["certificates"]);
    holds(&swtpm, &before)
}

/// Above the debug level.
fn has_no_words_of_libraries(host: &Host) -> Result<()> {
    let log = host.log().to_lowercase();
    for words in ["h2 ", "http2", "hyper", "tonic", "rustls", "transport error", "handshake eof"] {
        let is_shown = log.lines().any(|line| !line.contains("debug") && line.contains(words));
        ensure!(!is_shown, "{words}: {log}");
    }
    Ok(())
}

#[test]
fn debug_log_has_events_commands_and_calls() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::new(programs!())?, &swtpm.tcti())?;
    host.configure("debug: true\n")?;
    host.start()?;
    host.wait_healthy()?;
    for words in [
        "DEBUG event event=Woke actions=[Begin(Join)]",
        "DEBUG TPM command command=TPM2_ActivateCredential milliseconds=",
        "DEBUG called the authority call=join milliseconds=",
        "DEBUG called the authority call=issue milliseconds=",
    ] {
        host.until_logged(words, 1)?;
    }
    Ok(())
}

#[test]
fn stopping_authority_finishes_a_join_that_has_begun() -> Result<()> {
    let swtpm = switched_on()?;
    let before = swtpm.handles()?;
    let (held, arm) = Held::at(&swtpm, ACTIVATE_CREDENTIAL)?;
    let mut host = Host::new(World::with_clocks(programs!())?, &held.tap.tcti())?;
    arm.send(())?;
    host.start()?;
    held.meanwhile(&mut host.world, |world| {
        world.begin_to_stop()?;
        // Time to begin with it; more or less of it changes nothing.
        std::thread::sleep(Duration::from_millis(100));
        Ok(())
    })?;
    host.until_logged("INFO  joined name=identity", 1)?;
    host.world.stop()?;
    let what = "cannot reach the authority at";
    host.sees(Trouble { of: WEB, event: "not issued", what, advice: "check that it runs" })?;
    host.world.start(&[])?;
    host.wait_healthy()?;
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    holds(&swtpm, &before)
}

/// A second SIGTERM stops the daemon without waiting for its TPM, whatever was requested before.
#[test]
fn reload_and_stop_during_a_slow_tpm_command_are_served() -> Result<()> {
    let swtpm = switched_on()?;
    let (held, arm) = Held::at(&swtpm, ACTIVATE_CREDENTIAL)?;
    let mut host = Host::new(World::with_clocks(programs!())?, &held.tap.tcti())?;
    arm.send(())?;
    host.start()?;
    held.reached.recv_timeout(TIMEOUT).context("the TPM is not asked")?;
    host.signal("HUP")?;
    host.signal("TERM")?;
    host.until_logged("INFO  stopping", 1)?;
    host.signal("TERM")?;
    let ended = host.ended()?;
    ensure!(ended.code() == Some(75), "{ended}: {}", host.log());
    held.go_on.send(()).context("the TPM is gone")
}

/// A configuration is not read under a job that has it, but after it, and then everything is renewed.
#[test]
fn reload_during_a_slow_tpm_command_is_applied() -> Result<()> {
    let swtpm = switched_on()?;
    let (held, arm) = Held::at(&swtpm, ACTIVATE_CREDENTIAL)?;
    let mut host = Host::new(World::with_clocks(programs!())?, &held.tap.tcti())?;
    arm.send(())?;
    host.start()?;
    held.reached.recv_timeout(TIMEOUT).context("the TPM is not asked")?;
    host.signal("HUP")?;
    held.go_on.send(()).context("the TPM is gone")?;
    host.until_logged("INFO  reloading the configuration", 1)?;
    host.until_logged("INFO  renewed name=identity", 1)?;
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    host.wait_healthy()
}

/// One that cannot be used is reported, the end of the job is not lost, and everything goes on.
#[test]
fn invalid_configuration_during_a_job_changes_nothing() -> Result<()> {
    let swtpm = switched_on()?;
    let before = swtpm.handles()?;
    let (held, arm) = Held::at(&swtpm, ACTIVATE_CREDENTIAL)?;
    let mut host = Host::new(World::with_clocks(programs!())?, &held.tap.tcti())?;
    arm.send(())?;
    host.start()?;
    held.reached.recv_timeout(TIMEOUT).context("the TPM is not asked")?;
    host.configure("nonsense: true\n")?;
    host.signal("HUP")?;
    host.until_logged("INFO  asked to reload the configuration", 1)?;
    held.go_on.send(()).context("the TPM is gone")?;
    host.until_logged("WARN  the configuration was not changed", 1)?;
    host.wait_healthy()?;
    host.signal("USR1")?;
    host.until_logged("INFO  renewed name=identity", 1)?;
    host.signal("TERM")?;
    let ended = host.ended()?;
    ensure!(ended.success(), "{ended}: {}", host.log());
    holds(&swtpm, &before)
}

/// Longer than any network may take. Nothing else waits for the TPM meanwhile, and neither end takes it for the network.
#[test]
fn signature_that_takes_long_blocks_nothing_and_times_nothing_out() -> Result<()> {
    const TPM_TIME: Duration = Duration::from_secs(12);
    let swtpm = switched_on()?;
    let (held, arm) = Held::at(&swtpm, SIGN)?;
    let (host, before) = joined_at(&held.tap.tcti(), &swtpm)?;
    arm.send(())?;
    host.signal("USR1")?;
    held.reached.recv_timeout(TIMEOUT).context("the TPM is not asked")?;
    let answers = |host: &Host| {
        let (code, report) = host.readyz()?;
        ensure!(code == 200, "{report:#}");
        Ok(())
    };
    answers(&host)?;
    host.signal("USR1")?;
    host.until_logged("INFO  asked to renew", 2)?;
    // This is the TPM that takes its time.
    std::thread::sleep(TPM_TIME);
    answers(&host)?;
    let said = "INFO  the TPM has not responded to TPM2_Sign yet";
    ensure!(host.count(said) == 1, "{}", host.log());
    held.go_on.send(()).context("the TPM is gone")?;
    host.until_logged("INFO  renewed name=identity", 1)?;
    host.wait_healthy()?;
    ensure!(host.count("WARN") == 0, "{}", host.log());
    holds(&swtpm, &before)
}

#[test]
fn second_sigterm_ends_a_daemon_whose_tpm_signs() -> Result<()> {
    let swtpm = switched_on()?;
    let (held, arm) = Held::at(&swtpm, SIGN)?;
    let (mut host, _before) = joined_at(&held.tap.tcti(), &swtpm)?;
    arm.send(())?;
    host.signal("USR1")?;
    held.reached.recv_timeout(TIMEOUT).context("the TPM is not asked")?;
    host.signal("TERM")?;
    host.until_logged("INFO  stopping", 1)?;
    host.signal("TERM")?;
    let ended = host.ended()?;
    ensure!(ended.code() == Some(75), "{ended}: {}", host.log());
    held.go_on.send(()).context("the TPM is gone")
}
