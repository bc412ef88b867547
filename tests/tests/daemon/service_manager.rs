//! How a run begins and ends for systemd and for signals: notifications, reloads, `--oneshot`.

use std::fs;
use std::sync::mpsc::sync_channel;

use anyhow::{Context, Result, ensure};
use testkit::bus::{command_code, forward};
use testkit::tap::Tap;
use tests::host::{Host, WEB, until};
use tests::programs;
use tests::world::{TIMEOUT, World};
use tpm2::types::CommandCode;

use super::{host, stop, tpm};

/// Otherwise systemd would restart, at each TimeoutStartSec, an agent that waits for one of its destinations.
#[test]
fn service_manager_grants_a_start_the_time_it_needs() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    let web = host.path(WEB);
    fs::write(&web, "not a directory")?;
    host.start()?;
    host.until_logged("not issued name=web", 1)?;
    let is_extension = |message: &String| message.starts_with("EXTEND_TIMEOUT_USEC=180000000");
    until(|| {
        let messages = host.notifications();
        ensure!(messages.iter().filter(|message| is_extension(message)).count() > 1);
        ensure!(!messages.iter().any(|message| message.starts_with("READY=1")), "{messages:#?}");
        Ok(())
    })?;
    fs::remove_file(&web)?;
    host.signal("USR1")?;
    host.wait_healthy()?;
    let messages = host.notifications();
    let ready = messages.iter().position(|message| message.starts_with("READY=1"));
    ensure!(messages.iter().rposition(is_extension) < ready, "{messages:#?}");
    stop(&mut host)
}

/// systemd waits for READY=1 after RELOADING=1, whatever became of the reload.
#[test]
fn every_reload_ends_for_the_service_manager() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    host.start()?;
    host.wait_healthy()?;
    let ready = |host: &Host| {
        let messages = host.notifications();
        let reloading = messages.iter().rposition(|message| message.starts_with("RELOADING=1"));
        let last = messages.get(reloading.map_or(0, |at| at + 1)..).unwrap_or_default();
        let ready = last.iter().find(|message| message.starts_with("READY=1\nSTATUS="));
        ready.cloned().with_context(|| format!("{messages:#?}"))
    };
    let config = fs::read_to_string(host.world.path("tbot.yaml"))?;
    host.configure("nonsense: true\n")?;
    host.signal("HUP")?;
    host.until_logged("the configuration was not changed", 1)?;
    let status = until(|| ready(&host))?;
    ensure!(status.contains("the new configuration was rejected: "), "{status}");

    fs::write(host.world.path("tbot.yaml"), config)?;
    host.signal("HUP")?;
    host.until_logged("all credentials are valid", 2)?;
    let status = until(|| ready(&host))?;
    ensure!(!status.contains("was rejected"), "{status}");
    stop(&mut host)?;
    let messages = host.notifications();
    ensure!(messages.iter().any(|message| message.starts_with("STOPPING=1")), "{messages:#?}");
    Ok(())
}

/// A reload hook is a job like any other: the first signal waits for it, the second does not.
#[test]
fn second_sigterm_ends_a_daemon_whose_hook_runs() -> Result<()> {
    let (mut host, _swtpm) = host()?;
    let config = host.world.path("tbot.yaml");
    let text = fs::read_to_string(&config)?;
    let hook = format!("[sh, -c, 'touch {}; exec sleep 300']", host.world.path("runs").display());
    let touch = format!("[touch, {}]", host.world.path("reloaded").display());
    ensure!(text.contains(&touch), "{text}");
    fs::write(&config, text.replace(&touch, &format!("{hook}\n      timeout: 300s")))?;
    host.start()?;
    until(|| {
        ensure!(host.world.path("runs").exists(), "the hook does not run");
        Ok(())
    })?;
    host.signal("TERM")?;
    host.until_logged("INFO  stopping", 1)?;
    host.signal("TERM")?;
    let ended = host.ended()?;
    ensure!(ended.code() == Some(75), "{ended}: {}", host.log());
    Ok(())
}

#[test]
fn oneshot_is_ended_by_a_signal() -> Result<()> {
    let swtpm = tpm()?;
    let (reaching, reached) = sync_channel(1);
    let (_go_on, going_on) = sync_channel::<()>(1);
    let tap = Tap::with(&swtpm, move |command, tpm| {
        if command_code(command) == CommandCode::CREATE_PRIMARY {
            let _ = reaching.try_send(());
            let _ = going_on.recv_timeout(TIMEOUT);
        }
        forward(tpm, command)
    })?;
    let mut host = Host::new(World::new(programs!())?, &tap.tcti())?;
    host.configure("oneshot: true\n")?;
    host.start()?;
    reached.recv_timeout(TIMEOUT)?;
    host.signal("TERM")?;
    let ended = host.ended()?;
    ensure!(ended.code() == Some(75), "{ended}: {}", host.log());
    Ok(())
}

#[test]
fn oneshot_writes_all_credentials_and_exits() -> Result<()> {
    let (host, _swtpm) = host()?;
    host.configure("oneshot: true\n")?;
    host.world.agent(&["start", "-c", "tbot.yaml"])?.success()?;
    host.web_is_whole()?;
    Ok(())
}
