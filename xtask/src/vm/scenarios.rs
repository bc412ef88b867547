//! What is played in guests: a script there, and what has to be true of it here. One more scenario
//! is one more entry, and a script.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Played;
use crate::swtpm::Kind;

/// One boot of a guest.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// The TPM that the guest has.
    pub tpm: Kind,
    /// What the guest runs, with `steps.sh` at hand.
    pub script: &'static [u8],
    /// Variables for it, besides AUTHORITY, TOKEN and PIN.
    pub settings: &'static str,
    /// What has to be true afterwards. That the TPM holds nothing of ours is seen to for all.
    pub check: fn(&Played) -> Result<()>,
}

/// All of them.
pub const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "join",
        tpm: Kind::RsaAndP384,
        script: include_bytes!("scripts/join.sh"),
        settings: "",
        check: joined,
    },
    Scenario {
        name: "together",
        tpm: Kind::P256NotPersistent,
        script: include_bytes!("scripts/together.sh"),
        settings: "",
        check: together,
    },
    Scenario {
        name: "killed",
        tpm: Kind::P256NotPersistent,
        script: include_bytes!("scripts/killed.sh"),
        settings: "KILLS=40",
        check: killed,
    },
    Scenario {
        name: "device",
        tpm: Kind::P256,
        script: include_bytes!("scripts/device.sh"),
        settings: "",
        check: device,
    },
];

/// The kernel's device shows the same TPM, and a join through its resource manager is good.
fn joined(played: &Played) -> Result<()> {
    let report = &played.report;
    let inside: Value = serde_json::from_str(report.well("identify")?)?;
    let outside: Value = serde_json::from_str(&played.agent(&["identify", "--format", "json"])?)?;
    ensure!(inside == outside, "identify says {inside} in the guest and {outside} outside");
    for name in ["join", "status", "whoami"] {
        let said = report.well(name)?;
        ensure!(said.contains("demo-bot"), "{name} does not name the bot:\n{said}");
    }
    let audit = played.authority.audit()?;
    let granted = audit.iter().filter(|line| line.contains("demo-bot"));
    ensure!(granted.count() >= 1, "the audit log knows of no join: {audit:?}");
    Ok(())
}

fn together(played: &Played) -> Result<()> {
    let report = &played.report;
    let said = report.well("join")?;
    ensure!(said.matches("Joined cluster").count() == 2, "not two joins:\n{said}");
    for name in ["whoami", "again"] {
        let said = report.well(name)?;
        ensure!(said.matches("demo-bot").count() >= 2, "not two answers:\n{said}");
    }
    Ok(())
}

fn killed(played: &Played) -> Result<()> {
    let report = &played.report;
    let ends: Vec<i32> = report
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("killed ")?.split_once(": ")?.1.parse().ok())
        .collect();
    ensure!(ends.len() == 40, "{} joins, not 40", ends.len());
    ensure!(ends.iter().all(|end| [0, 137].contains(end)), "a join failed by itself: {ends:?}");
    let hit = ends.iter().filter(|end| **end == 137).count();
    ensure!(hit >= 20, "only {hit} of 40 were hit while they ran");
    report.well("clean").context("the join after the kills")?;
    report.well("whoami").map(drop)
}

fn device(played: &Played) -> Result<()> {
    let report = &played.report;
    report.refused("held", 75, &["/dev/tpm0"])?;
    report.refused("stranger", 77, &["/dev/tpmrm0", "tss"])?;
    report.refused("absent", 74, &["/dev/tpmrm7"])?;
    let outside = played.agent(&["identify"])?;
    for name in ["beside", "free", "member"] {
        let said = report.well(name)?;
        ensure!(said == outside, "{name} shows another TPM:\n{said}");
    }
    Ok(())
}
