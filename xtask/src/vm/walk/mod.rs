//! `cargo xtask walk`: the guides, as they are written, on a Debian of its own: from the packages to a
//! host that has joined and renewed.

mod guide;
mod teleport;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::swtpm::Kind;

use super::machine::{Machine, Payload};
use super::play::{self, Part};
use super::{Bus, Guest, Report, STEPS, debian};
use crate::setup::{self, Action, Purpose};
use crate::{release, target_directory};

/// The most that one may take, on a machine that does other things too.
const WALK_TIMEOUT: Duration = Duration::from_secs(1800);
const COMMON: &[u8] = include_bytes!("../scripts/walk.sh");
/// The CA of the TPM's manufacturer, in the payload.
const MANUFACTURER: &str = "manufacturer.pem";

/// A guide.
#[derive(Debug)]
struct Walk {
    name: &'static str,
    /// What the guest runs, with `steps.sh` and `walk.sh` at hand. The step `handles` is its last.
    script: &'static [u8],
    /// The steps that must fail, with their exit status and words that they say. All others must succeed.
    refused: &'static [(&'static str, i32, &'static [&'static str])],
    /// What else has to be true. That the TPM holds nothing of ours is seen to for all.
    check: fn(&Report, &Guest) -> Result<()>,
}

impl Part for Walk {
    fn name(&self) -> &'static str {
        self.name
    }
}

/// All of them.
const WALKS: [Walk; 2] = [guide::WALK, teleport::WALK];

/// Makes the packages and walks all, or those of these names.
pub fn run(only: &[String]) -> Result<()> {
    let chosen = play::chosen(&WALKS, only)?;
    setup::run(Purpose::Walk, Action::Install)?;
    let machine = Machine::from_disk(debian::disk()?)?;
    let packages = packages()?;
    play::play_all("walk", &chosen, |walk| play(walk, &machine, &packages))
}

/// The packages, and the names that scripts have for them.
fn packages() -> Result<Vec<(String, Vec<u8>)>> {
    let made = release::make()?;
    let packages = made.iter().filter(|path| path.extension().is_some_and(|end| end == "deb"));
    let mut files = Vec::new();
    let mut settings = String::new();
    for path in packages {
        let name = path.file_name().context("a package")?.to_string_lossy().into_owned();
        let variable =
            if name.starts_with("endorse-agent") { "AGENT" } else { "AUTHORITY_PACKAGE" };
        settings.push_str(&format!("{variable}={name}\n"));
        files.push((name, fs::read(path)?));
    }
    files.push(("settings.sh".to_owned(), settings.into_bytes()));
    Ok(files)
}

fn play(walk: &Walk, machine: &Machine, packages: &[(String, Vec<u8>)]) -> Result<()> {
    let guest = Guest::new(Kind::RsaAndP384)?;
    let manufacturer = guest.made.ca().issuer_pem().as_bytes();
    let mut files: Vec<_> =
        packages.iter().map(|(name, content)| (&name[..], &content[..])).collect();
    files.extend([("run.sh", walk.script), ("steps.sh", STEPS), ("walk.sh", COMMON)]);
    files.push((MANUFACTURER, manufacturer));
    let bus = Bus::start(guest.state())?;
    let run = machine.run(&bus, &Payload { files: &files, programs: &[] }, WALK_TIMEOUT)?;
    drop(bus);
    let raw = transcript(walk, "log");
    fs::write(&raw, &run.output)?;
    let seen = Report::read(&run.output).and_then(|report| {
        fs::write(transcript(walk, "txt"), report.transcript())?;
        check(walk, &report, &guest)
    });
    seen.with_context(|| format!("see {}", raw.display()))?;
    println!(
        "walk: {}: what was typed and said is in {}",
        walk.name,
        transcript(walk, "txt").display()
    );
    Ok(())
}

fn transcript(walk: &Walk, end: &str) -> PathBuf {
    target_directory().join(format!("vm/walk-{}.{end}", walk.name))
}

fn check(walk: &Walk, report: &Report, guest: &Guest) -> Result<()> {
    for step in report.steps() {
        match walk.refused.iter().find(|(name, ..)| *name == step.name) {
            Some((_, status, words)) => step.refused(*status, words)?,
            None => drop(step.success()?),
        }
    }
    (walk.check)(report, guest)?;
    guest.left_behind(report).map(drop)
}
