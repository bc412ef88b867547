//! `cargo xtask walk`: the guide, as it is written, on a Debian of its own: from the packages to a
//! host that is up again after a restart.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::swtpm::Kind;

use super::machine::{Machine, Payload};
use super::{Bus, Guest, Report, STEPS, debian};
use crate::setup::{self, Action, Purpose};
use crate::{release, target_directory};

/// The most that all of it may take, on a machine that does other things too.
const WALK_TIMEOUT: Duration = Duration::from_secs(1800);
const SCRIPT: &[u8] = include_bytes!("scripts/walk.sh");

/// Steps that must succeed, in their order.
const STEPS_OF_THE_GUIDE: [&str; 43] = [
    "install-agent",
    "install-authority",
    "device",
    "lacks",
    "authority-on",
    "identify",
    "token",
    "create",
    "authority-said",
    "authority-status",
    "check",
    "write",
    "verify",
    "verify-authority",
    "security",
    "security-authority",
    "on",
    "healthy",
    "status",
    "says",
    "hosts",
    "files",
    "groups",
    "reload",
    "reloaded",
    "still",
    "restart",
    "other",
    "comes-back",
    "healthy-too",
    "reload-authority",
    "restart-authority",
    "watchdog",
    "journal",
    "up",
    "up-authority",
    "healthy-again",
    "status-again",
    "journal-again",
    "failed",
    "remove",
    "removed",
    "handles",
];

/// Makes the packages and walks.
pub fn run() -> Result<()> {
    setup::run(Purpose::Walk, Action::Install)?;
    let disk = debian::disk()?;
    let made = release::make()?;
    let packages = made.iter().filter(|path| path.extension().is_some_and(|end| end == "deb"));
    let mut files = vec![("run.sh".to_owned(), SCRIPT.to_vec())];
    files.push(("steps.sh".to_owned(), STEPS.to_vec()));
    let mut settings = String::new();
    for path in packages {
        let name = path.file_name().context("a package")?.to_string_lossy().into_owned();
        let variable =
            if name.starts_with("endorse-agent") { "AGENT" } else { "AUTHORITY_PACKAGE" };
        settings.push_str(&format!("{variable}={name}\n"));
        files.push((name, fs::read(path)?));
    }
    files.push(("settings.sh".to_owned(), settings.into_bytes()));
    let files: Vec<_> = files.iter().map(|(name, content)| (&name[..], &content[..])).collect();

    let machine = Machine::from_disk(disk)?;
    let guest = Guest::new(Kind::RsaAndP384)?;
    let started = Instant::now();
    let bus = Bus::start(guest.state())?;
    let run = machine.run(&bus, &Payload { files: &files, programs: &[] }, WALK_TIMEOUT)?;
    drop(bus);
    let transcript = target_directory().join("vm/walk.log");
    fs::write(&transcript, &run.output)?;
    check(&run.output, &guest).with_context(|| format!("see {}", transcript.display()))?;
    let seconds = started.elapsed().as_secs();
    println!("walk: passed, {seconds} s; the transcript is in {}", transcript.display());
    Ok(())
}

fn check(output: &str, guest: &Guest) -> Result<()> {
    let report = Report::read(output)?;
    for name in STEPS_OF_THE_GUIDE {
        report.success(name)?;
    }
    for name in ["status", "status-again"] {
        let said = report.success(name)?;
        for words in ["active (running)", "in place: identity"] {
            ensure!(said.contains(words), "{name} does not say {words:?}:\n{said}");
        }
    }
    for name in ["verify", "verify-authority", "failed"] {
        let said = report.success(name)?;
        ensure!(said.is_empty(), "{name}:\n{said}");
    }
    let hosts = report.success("hosts")?;
    ensure!(hosts.contains(" vm "), "the host's name is not known:\n{hosts}");
    let watchdog = report.success("watchdog")?;
    ensure!(watchdog.contains("WatchdogUSec=5min"), "no watchdog:\n{watchdog}");
    guest.left_behind(&report).map(drop)
}
