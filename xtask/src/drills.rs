//! `cargo xtask drills`: the long drills of tests/tests/fleet, one after the other, since each needs the whole machine.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::cargo;
use crate::setup::{self, Action, Purpose};

/// Runs those whose name contains `filter`, or all.
pub fn run(filter: Option<&str>) -> Result<()> {
    setup::run(Purpose::Test, Action::Install)?;
    let mut drills = cargo();
    drills.args(["test", "-p", "tests", "--test", "fleet", "--"]).args(filter);
    drills.args(["--ignored", "--test-threads=1", "--nocapture"]).stdin(Stdio::null());
    let status = drills.status().context("cannot run cargo test")?;
    ensure!(status.success(), "a drill failed ({status})");
    Ok(())
}
