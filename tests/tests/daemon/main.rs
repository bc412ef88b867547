//! `agent start`: a daemon that keeps credentials fresh, on a software TPM, against a real authority.

mod commands;
mod configuration;
mod service_manager;

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use testkit::child::Scratch;
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tests::host::{Host, IDENTITY, until};
use tests::programs;
use tests::world::{World, run};

fn tpm() -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()
}

fn host() -> Result<(Host, Swtpm)> {
    let swtpm = tpm()?;
    Ok((Host::new(World::new(programs!())?, &swtpm.tcti())?, swtpm))
}

#[test]
fn daemon_joins_serves_renews_on_signal_and_stops_cleanly() -> Result<()> {
    let (mut host, swtpm) = host()?;
    let before = swtpm.handles()?;
    host.start()?;
    host.wait_healthy()?;
    ensure!(host.world.path("reloaded").exists(), "the reload hook has not run");
    ensure!(swtpm.handles()? == before, "something is left behind in the TPM");

    for (signal, renewals) in [("USR1", 1), ("HUP", 2)] {
        host.signal(signal)?;
        host.until_logged("renewed name=identity", renewals)?;
        host.until_logged("issued name=web", renewals + 1)?;
        host.web_is_whole()?;
    }
    let private = run("find", &[&host.world.path("bot"), Path::new("-name"), Path::new("key")])?;
    ensure!(private.is_empty(), "a private key in the bot's storage: {private}");

    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    ensure!(!host.world.path("pid").exists() && !host.world.path("bot/agent.sock").exists());
    ensure!(swtpm.handles()? == before, "something is left behind in the TPM");
    Ok(())
}

#[test]
fn a_restart_with_valid_credentials_asks_nothing_of_the_tpm() -> Result<()> {
    let (mut host, swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    host.kill()?;

    // The TPM is gone and so is the authority: what is valid needs neither.
    host.world.stop()?;
    let tcti = swtpm.tcti();
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    fs::write(host.world.path("tbot.yaml"), text.replace(&tcti, "swtpm:path=/nonexistent"))?;
    host.start()?;
    host.wait_healthy()?;
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    Ok(())
}

/// The consumer that has not heard of its files hears of them after a restart, without the TPM and the authority.
#[test]
fn pending_reload_hook_runs_after_a_restart() -> Result<()> {
    for end in [Host::kill, stop] {
        let (mut host, swtpm) = host()?;
        let config = host.world.path("tbot.yaml");
        let works = fs::read_to_string(&config)?;
        fs::write(&config, works.replace("command: [touch, ", "command: [\"false\", "))?;
        host.start()?;
        host.until_logged("the reload hook failed name=web", 1)?;
        end(&mut host)?;

        host.world.stop()?;
        fs::write(&config, works.replace(&swtpm.tcti(), "swtpm:path=/nonexistent"))?;
        host.start()?;
        host.wait_healthy()?;
        ensure!(
            host.world.path("reloaded").exists(),
            "the reload hook has not run: {}",
            host.log()
        );
        ensure!(host.count("issued name=web") == 0, "{}", host.log());

        // And then no more.
        stop(&mut host)?;
        fs::remove_file(host.world.path("reloaded"))?;
        host.start()?;
        host.wait_healthy()?;
        ensure!(!host.world.path("reloaded").exists(), "the reload hook ran again: {}", host.log());
    }
    Ok(())
}

#[test]
fn a_foreign_file_is_no_pid_file_and_a_damaged_identity_no_end() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    fs::write(host.world.path("pid"), "precious")?;
    let said = host.world.agent(&["start", "-c", "tbot.yaml", "--pid-file", "pid"])?;
    ensure!(said.code == Some(64) && said.err.contains("the pid file pid: "), "{said:?}");
    ensure!(fs::read_to_string(host.world.path("pid"))? == "precious");
    fs::remove_file(host.world.path("pid"))?;

    host.start()?;
    host.wait_healthy()?;
    stop(&mut host)?;
    fs::write(host.path("bot/identity.json"), b"{\xff")?;
    host.start()?;
    host.until_logged("the stored identity is not used", 1)?;
    host.until_logged("joined name=identity", 2)?;
    host.wait_healthy()
}

#[test]
fn an_outage_is_said_and_outlived() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    host.world.stop()?;
    host.start()?;
    host.until_logged("not joined", 2)?;
    ensure!(host.log().contains("cannot reach the authority"), "{}", host.log());
    host.world.start(&[])?;
    host.wait_healthy()
}

#[test]
fn a_host_that_is_no_longer_allowed_says_why_and_comes_back_when_it_is() -> Result<()> {
    let (mut host, swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    host.world.authority(&["rm", "token/t"])?.success()?;
    host.signal("USR1")?;
    until(|| {
        ensure!(host.health()?["services"][IDENTITY]["status"] == "unhealthy");
        Ok(())
    })?;
    let rule = host.world.rule(&swtpm.tcti())?;
    host.world.allow("t", &rule, &[])?;
    host.signal("USR1")?;
    host.wait_healthy()
}

fn stop(host: &mut Host) -> Result<()> {
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    Ok(())
}

/// A copy of the whole storage, on a machine with another TPM that has joined by itself.
#[test]
fn a_copy_of_the_storage_is_worth_nothing_on_another_machine() -> Result<()> {
    let (mut host, swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    let other = Factory::shared().unit(Maker::Vendor, Kind::RsaAndP384, 1)?.start()?;
    let before = other.handles()?;
    let copies = Scratch::new("endorse-copy")?;
    let copy = |name: &str| -> Result<String> {
        let to = copies.path().join(name).display().to_string();
        run("cp", &["-r", &host.path("bot").display().to_string(), &to])?;
        Ok(to)
    };
    let [stolen, started] = [copy("stolen")?, copy("started")?];
    let instances = host.world.instances()?;
    host.world.events()?;

    // It shows what is public, and no key.
    let said = host.world.agent(&["status", "--storage", &stolen])?.success()?;
    ensure!(said.contains("Daemon:      not running"), "{said}");
    let keys = run("sh", &["-c", "grep -rl 'PRIVATE KEY' \"$1\" || true", "grep", &stolen])?;
    ensure!(keys.is_empty(), "a private key in {keys}");
    // No one else can use it.
    let tcti = other.tcti();
    let said = host.world.agent(&["whoami", "--storage", &stolen, "--tpm", &tcti])?;
    ensure!(
        said.failure(65)?[0].contains("a different join key than the stored identity's"),
        "{said:?}"
    );
    // It does not join, neither with an open door.
    let said = host.world.join(&tcti, "t", &stolen)?;
    ensure!(said.failure(65)?[0].contains("not the one of the stored identity"));
    host.world.allow("t", &host.world.rule(&tcti)?, &[])?;
    let said = host.world.join(&tcti, "t", &stolen)?;
    ensure!(said.failure(65)?[0].contains("not the one of the stored identity"));
    // Nor does it renew.
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    let text = text.replace(&host.path("bot").display().to_string(), &started);
    let text =
        text.replace(&swtpm.tcti(), &tcti).replace(&host.path("web").display().to_string(), "/x");
    let text = text.replace("diag_addr", "oneshot: true # ");
    fs::write(host.world.path("copy.yaml"), text)?;
    let said = host.world.agent(&["start", "-c", "copy.yaml"])?;
    ensure!(said.code == Some(65) && !Path::new("/x").exists(), "{said:?}");
    ensure!(said.err.contains("a different join key than the stored identity's"), "{said:?}");

    ensure!(other.handles()? == before, "something is left behind in the TPM");
    ensure!(host.world.instances()? == instances);
    // The host itself goes on, its instance untouched.
    let rule = format!("{}{}", host.world.rule(&swtpm.tcti())?, host.world.rule(&tcti)?);
    host.world.allow("t", &rule, &[])?;
    host.signal("USR1")?;
    host.until_logged("renewed name=identity", 1)?;
    let refused = host.world.authority(&["audit", "ls", "--refused"])?.success()?;
    ensure!(refused == "No events found.\n", "{refused}");
    Ok(())
}
