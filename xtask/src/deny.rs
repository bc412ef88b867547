//! `cargo xtask deny`: cargo-deny over `deny.toml`. A command of its own, since it needs a tool and a database of
//! advisories that come over the network.

use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::cargo;

/// What cargo-deny checks without the network.
const OFFLINE: [&str; 3] = ["bans", "licenses", "sources"];

/// Checks bans, licences and sources, then advisories.
pub fn run() -> Result<()> {
    let mut probe = cargo();
    probe.args(["deny", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().context("cannot run cargo")?.success() {
        bail!("cargo-deny is not installed; `cargo install --locked cargo-deny` installs it");
    }
    eprintln!("deny: {}", OFFLINE.join(", "));
    check(&OFFLINE).context("see above; deny.toml has the rules")?;
    eprintln!("deny: advisories, whose database is fetched first");
    check(&["advisories"]).context("see above; without the network there is no database to check")
}

fn check(what: &[&str]) -> Result<()> {
    let mut deny = cargo();
    deny.args(["deny", "--all-features", "check", "--hide-inclusion-graph"]).args(what);
    let status = deny.stdin(Stdio::null()).status().context("cannot run cargo deny")?;
    if !status.success() {
        bail!("cargo deny check {} failed ({status})", what.join(" "));
    }
    Ok(())
}
