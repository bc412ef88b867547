//! The disk full, read-only, emptied.

use std::fs;
use std::io::ErrorKind;
use std::process::Command;

use anyhow::{Result, ensure};
use testkit::swtpm::{Handles, Swtpm};
use tests::host::{Host, WEB, may_mount, until};
use tests::programs;
use tests::world::{Said, World, names, run};

use super::{HALF_LIFE, holds, joined, not_stored, sees, switched_on};

/// A host whose files are on a small file system of their own, with more services; `None` if that cannot be.
pub(super) fn on_a_small_disk(
    swtpm: &Swtpm,
    more: impl FnOnce(&World) -> String,
) -> Result<Option<(Host, Handles)>> {
    let before = swtpm.handles()?;
    let world = World::with_clocks(programs!())?;
    fs::create_dir(world.path("disk"))?;
    if !may_mount(&world.path("disk")) {
        return Ok(None);
    }
    world.allow("t", &world.rule(&swtpm.tcti())?, &[])?;
    let more = more(&world);
    let mut host = Host::stranger(world, &swtpm.tcti(), "disk")?;
    host.configure(&more)?;
    host.start_after("mount -t tmpfs -o size=512k,mode=700 none disk")?;
    host.wait_healthy()?;
    Ok(Some((host, before)))
}

/// Writes zeros until there is no more room.
pub(super) fn fill(host: &Host) -> Result<()> {
    let mut file = fs::File::create(host.inside("full"))?;
    for size in [4096, 1] {
        loop {
            match std::io::Write::write_all(&mut file, &vec![0; size]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

#[test]
fn a_disk_that_is_full() -> Result<()> {
    let swtpm = switched_on()?;
    let Some((host, before)) = on_a_small_disk(&swtpm, |_| String::new())? else { return Ok(()) };
    let stored = host.stored()?;
    fill(&host)?;
    host.world.pass(HALF_LIFE)?;
    let full = not_stored("No space left on device", "free space on the disk");
    sees(&host, full)?;
    ensure!(host.log().contains(&format!("cannot write to {}", host.path("bot").display())));
    // What was there is there, whole, and a daemon that starts now finds it.
    ensure!(host.stored()? == stored);
    host.web_is_whole()?;
    fs::remove_file(host.inside("full"))?;
    host.wait_healthy()?;
    ensure!(host.stored()?["not_after"] != stored["not_after"]);
    no_halves(&host)?;
    holds(&swtpm, &before)
}

#[test]
fn log_that_cannot_be_written_ends_no_daemon() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::with_clocks(programs!())?, &swtpm.tcti())?;
    host.start_after("exec >/dev/full 2>&1")?;
    host.wait_healthy()?;
    let issued = host.stored()?["not_after"].clone();
    host.world.pass(HALF_LIFE)?;
    until(|| {
        ensure!(host.stored()?["not_after"] != issued);
        Ok(())
    })?;
    host.wait_healthy()?;
    ensure!(host.log().is_empty());
    Ok(())
}

/// Over a directory is laid the same, read-only: it cannot itself be made so while the daemon has its lock open.
const READ_ONLY: &str = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\"";

/// Two sets at most, and nothing that was begun and not ended.
fn no_halves(host: &Host) -> Result<()> {
    for directory in ["bot", WEB] {
        let names = names(&host.inside(directory));
        let sets = names.iter().filter(|name| name.starts_with("..v")).count();
        ensure!(sets <= 2 && !names.iter().any(|name| name.contains("tmp")), "{names:?}");
    }
    Ok(())
}

#[test]
fn a_disk_that_becomes_read_only() -> Result<()> {
    let swtpm = switched_on()?;
    let Some((host, before)) = on_a_small_disk(&swtpm, |_| String::new())? else { return Ok(()) };
    let stored = host.stored()?;
    let mount = |script: &str| -> Result<()> {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &host.id()?.to_string(), "sh", "-c", script, "sh"]);
        Said::by(command.arg(host.world.path("disk")))?.success().map(drop)
    };
    mount(READ_ONLY)?;
    host.world.pass(HALF_LIFE)?;
    sees(&host, not_stored("Read-only file system", "mount the file system for writing"))?;
    ensure!(host.stored()? == stored);
    host.web_is_whole()?;
    mount("umount \"$1\"")?;
    host.wait_healthy()?;
    ensure!(host.stored()?["not_after"] != stored["not_after"]);
    holds(&swtpm, &before)
}

/// The identity in the storage expires meanwhile, but not the one that is used.
#[test]
fn storage_that_cannot_be_written_for_longer_than_a_lifetime_costs_no_credentials() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::with_clocks(programs!())?, &swtpm.tcti())?;
    if !may_mount(&host.world.path("")) {
        return Ok(());
    }
    host.start_after("true")?;
    host.wait_healthy()?;
    let (stored, instance) = (host.stored()?, host.stored()?["instance"].clone());
    let mount = |script: &str| -> Result<()> {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &host.id()?.to_string(), "sh", "-c", script, "sh"]);
        Said::by(command.arg(host.path("bot")))?.success().map(drop)
    };
    mount(READ_ONLY)?;
    for renewals in 1..4 {
        host.world.pass(HALF_LIFE)?;
        host.until_logged("renewed, but not stored name=identity", renewals)?;
        host.until_logged("INFO  issued name=web", renewals + 1)?;
        host.web_is_whole()?;
    }
    sees(&host, not_stored("Read-only file system", "mount the file system for writing"))?;
    ensure!(host.stored()? == stored && !host.log().contains("expired"), "{}", host.log());
    // The stored identity has expired, and the host does not have to join.
    let status = host.world.agent(&["status", "--storage", "bot"])?.success()?;
    ensure!(status.contains("the daemon has a newer one until"), "{status}");
    ensure!(!status.contains("join again"), "{status}");
    mount("umount \"$1\"")?;
    host.wait_healthy()?;
    let now = host.stored()?;
    ensure!(now["not_after"] != stored["not_after"] && now["instance"] == instance, "{now}");
    ensure!(host.count("INFO  stored name=identity") == 1, "{}", host.log());
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    Ok(())
}

/// What is stored can be read, and nothing else is needed to go on.
#[test]
fn restart_on_a_read_only_storage_costs_no_credentials() -> Result<()> {
    let swtpm = switched_on()?;
    let mut host = Host::new(World::with_clocks(programs!())?, &swtpm.tcti())?;
    if !may_mount(&host.world.path("")) {
        return Ok(());
    }
    host.start()?;
    host.wait_healthy()?;
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    host.start_after("mount --bind bot bot && mount -o remount,bind,ro bot")?;
    host.until_logged("WARN  `agent status` cannot ask this agent yet", 1)?;
    host.world.pass(HALF_LIFE)?;
    host.until_logged("WARN  renewed, but not stored name=identity", 1)?;
    host.until_logged("INFO  issued name=web", 1)?;
    host.web_is_whole()?;
    let mut command = Command::new("nsenter");
    let remount = ["mount", "-o", "remount,bind,rw"];
    command.args(["--mount", "--target", &host.id()?.to_string()]).args(remount);
    Said::by(command.arg(host.path("bot")))?.success()?;
    host.wait_healthy()?;
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    Ok(())
}

/// The daemon keeps its identity and re-creates its storage, with its lock and its socket.
#[test]
fn a_storage_that_is_removed() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    let instance = host.stored()?["instance"].clone();
    fs::remove_dir_all(host.path("bot"))?;
    host.until_logged("INFO  stored name=identity", 1)?;
    host.wait_healthy()?;
    ensure!(host.stored()?["instance"] == instance);
    ensure!(host.count("INFO  joined name=identity") == 1, "{}", host.log());
    let second = host.world.agent(&["start", "-c", "tbot.yaml", "--diag-addr", "127.0.0.1:1"])?;
    ensure!(second.code == Some(75), "two agents have one storage: {second:?}");
    holds(&swtpm, &before)
}

#[test]
fn a_destination_that_is_removed() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, before) = joined(&swtpm)?;
    fs::remove_dir_all(host.path(WEB))?;
    host.until_logged("INFO  issued name=web", 2)?;
    host.wait_healthy()?;
    ensure!(host.count("INFO  renewed name=identity") == 0, "{}", host.log());
    holds(&swtpm, &before)
}

/// A pipe without a writer: opening it would block forever, so it is refused.
#[test]
fn file_that_cannot_be_opened_holds_up_neither_signals_nor_renewals_nor_readyz() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    let file = host.world.path("token");
    fs::write(&file, "t\n")?;
    let config = host.world.path("tbot.yaml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text.replace("token: t\n", &format!("token: {}\n", file.display())))?;
    host.signal("HUP")?;
    host.until_logged("renewed name=identity", 1)?;
    host.wait_healthy()?;

    fs::remove_file(&file)?;
    run("mkfifo", &[&file])?;
    for renewals in 2..4 {
        host.signal("USR1")?;
        host.until_logged("renewed name=identity", renewals)?;
        host.wait_healthy()?;
    }
    host.signal("TERM")?;
    ensure!(host.ended()?.success(), "{}", host.log());
    Ok(())
}
