//! Files of a service changed by others: detected at a start and by a running daemon, and issued again.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Result, ensure};
use tests::host::{Host, WEB, until};

use super::{joined, not_joined, sees, switched_on};

/// Damage to the directory of a service.
type Damage = fn(&Path) -> std::io::Result<()>;

const DAMAGES: [(&str, Damage); 12] = [
    ("key emptied", |web| fs::write(web.join("svid.key"), "")),
    ("key full of NUL", |web| fs::write(web.join("svid.key"), [0; 241])),
    ("another key", |web| fs::copy("/etc/passwd", web.join("svid.key")).map(drop)),
    ("CA file emptied", |web| fs::write(web.join("bundle.pem"), "")),
    ("certificate emptied", |web| fs::write(web.join("svid.pem"), "")),
    ("link to the key removed", |web| fs::remove_file(web.join("svid.key"))),
    ("link replaced by a file", |web| replace(&web.join("svid.key"), |path| fs::write(path, "x"))),
    ("link replaced by a link", |web| {
        replace(&web.join("svid.key"), |path| symlink("/etc/passwd", path))
    }),
    ("key open to all", |web| mode(&web.join("svid.key"), 0o666)),
    ("key without any mode", |web| mode(&web.join("svid.key"), 0)),
    ("directory open to all", |web| mode(&web.join("..data/."), 0o777)),
    ("key removed", |web| fs::remove_file(web.join("..data/svid.key"))),
];

fn replace(path: &Path, with: impl FnOnce(&Path) -> std::io::Result<()>) -> std::io::Result<()> {
    fs::remove_file(path)?;
    with(path)
}

fn mode(path: &Path, mode: u32) -> std::io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Waits until the service was issued again, with another key.
fn is_issued_again(host: &Host, before: &str, issued: usize) -> Result<()> {
    host.until_logged("issued name=web", issued)?;
    host.wait_healthy()?;
    ensure!(key(host)? != before, "the key is the one from before");
    ensure!(fs::metadata(host.path(WEB).join("svid.key"))?.permissions().mode() & 0o777 == 0o600);
    Ok(())
}

fn key(host: &Host) -> Result<String> {
    Ok(fs::read_to_string(host.path(WEB).join("svid.key"))?)
}

#[test]
fn damaged_files_are_issued_again_by_a_running_daemon() -> Result<()> {
    let swtpm = switched_on()?;
    let (host, _) = joined(&swtpm)?;
    for (index, (what, damage)) in DAMAGES.into_iter().enumerate() {
        let before = key(&host)?;
        damage(&host.path(WEB))?;
        is_issued_again(&host, &before, index + 2)
            .map_err(|error| error.context(format!("{what}: {}", host.log())))?;
    }
    ensure!(host.log().contains("other users may have read the key"), "{}", host.log());
    ensure!(host.count("renewed name=identity") == 0, "{}", host.log());
    Ok(())
}

#[test]
fn damaged_files_are_issued_again_at_a_start() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    for (index, (what, damage)) in DAMAGES.into_iter().enumerate() {
        let before = key(&host)?;
        host.kill()?;
        damage(&host.path(WEB))?;
        host.start()?;
        is_issued_again(&host, &before, index + 2)
            .map_err(|error| error.context(format!("{what}: {}", host.log())))?;
    }
    ensure!(host.count("joined name=identity") == 1, "{}", host.log());
    Ok(())
}

/// The identity's files are copies of what the agent knows.
#[test]
fn damaged_files_of_the_identity_are_written_again() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    let copy = host.path("bot/tlscert");
    let is_restored = || {
        until(|| {
            ensure!(fs::metadata(&copy)?.len() > 0);
            Ok(())
        })
    };
    fs::write(&copy, "")?;
    is_restored()?;
    host.wait_healthy()?;
    host.kill()?;
    fs::write(&copy, "")?;
    host.start()?;
    is_restored()?;
    ensure!(host.count("joined name=identity") == 1, "{}", host.log());
    host.wait_healthy()
}

#[test]
fn second_agent_on_a_destination_is_refused_until_the_first_has_ended() -> Result<()> {
    let swtpm = switched_on()?;
    let (mut host, _) = joined(&swtpm)?;
    let before = key(&host)?;
    let text = fs::read_to_string(host.world.path("tbot.yaml"))?;
    let other = text
        .replace(&host.path("bot").display().to_string(), &host.path("b2").display().to_string());
    let other = other.replace("diag_addr:", "oneshot: true # ");
    fs::write(host.world.path("other.yaml"), other)?;
    let second = || host.world.agent(&["start", "-c", "other.yaml"]);
    let said = second()?;
    ensure!(said.code == Some(75) && said.err.contains("another agent is using"), "{said:?}");
    ensure!(key(&host)? == before, "the second replaced the files of the first");
    host.wait_healthy()?;
    host.kill()?;
    host.world.agent(&["start", "-c", "other.yaml"])?.success()?;
    ensure!(key(&host)? != before);
    Ok(())
}

/// What is damaged cannot be issued again while the identity cannot be renewed: the service is not healthy meanwhile.
#[test]
fn damaged_files_are_reported_while_the_identity_cannot_be_renewed() -> Result<()> {
    const YEAR: i64 = 365 * 24 * 3600;
    let swtpm = switched_on()?;
    let (host, _) = joined(&swtpm)?;
    host.world.set_wrong(-YEAR)?;
    sees(&host, not_joined("is not valid yet", "compare the clocks of both machines"))?;
    reason(&host, "by this host's clock the credentials are not valid yet")?;
    fs::write(host.path(WEB).join("svid.key"), "")?;
    reason(&host, "the files were changed: svid.key")?;
    host.world.set_wrong(0)?;
    host.wait_healthy()
}

/// Waits until `/readyz` states this reason for the service.
fn reason(host: &Host, expected: &str) -> Result<()> {
    until(|| {
        let (_, report) = host.readyz()?;
        let component = &report["services"]["web"];
        let reason = component["reason"].as_str().unwrap_or_default();
        ensure!(component["status"] == "unhealthy" && reason.contains(expected), "{report:#}");
        Ok(())
    })
}
