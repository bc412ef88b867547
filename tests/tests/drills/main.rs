//! Everything that befalls a host in its years, to a real daemon: what its log, `/readyz` and `agent status` say, and how it
//! heals. docs/troubleshooting.md has the list for operators.

mod access;
mod addresses;
mod authority;
mod clock;
mod configuration;
mod damage;
mod disk;
mod hung;
mod identity_mismatch;
mod killed;
mod tpm;
mod workloads;

use std::time::Duration;

use anyhow::{Result, ensure};
use testkit::swtpm::{Factory, Handles, Kind, Maker, Swtpm};
use tests::host::{Host, IDENTITY, Trouble, WEB};
use tests::programs;
use tests::world::World;

/// More than half of an hour with a tenth more or less, and less than an hour: time to renew.
const HALF_LIFE: Duration = Duration::from_secs(34 * 60);

/// A host with a TPM that has an RSA key and certificate.
fn switched_on() -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, Kind::RsaAndP384)?.start()
}

/// A host that has joined, in a world with a clock of its own.
fn joined(swtpm: &Swtpm) -> Result<(Host, Handles)> {
    joined_at(&swtpm.tcti(), swtpm)
}

/// The same, whose agent finds its TPM at another address.
fn joined_at(tcti: &str, swtpm: &Swtpm) -> Result<(Host, Handles)> {
    let before = swtpm.handles()?;
    let mut host = Host::new(World::with_clocks(programs!())?, tcti)?;
    host.start()?;
    host.wait_healthy()?;
    Ok((host, before))
}

/// Nothing of ours is in the TPM, when the daemon has had the time to put it in order.
fn holds(swtpm: &Swtpm, before: &Handles) -> Result<()> {
    tests::host::until(|| {
        let handles = swtpm.handles()?;
        ensure!(handles == *before, "left behind in the TPM: {handles:x?}");
        Ok(())
    })
}

const fn not_renewed<'a>(what: &'a str, advice: &'a str) -> Trouble<'a> {
    Trouble { of: IDENTITY, event: "not renewed", what, advice }
}

const fn not_stored<'a>(what: &'a str, advice: &'a str) -> Trouble<'a> {
    Trouble { of: IDENTITY, event: "not stored", what, advice }
}

const fn not_joined<'a>(what: &'a str, advice: &'a str) -> Trouble<'a> {
    Trouble { of: IDENTITY, event: "not joined", what, advice }
}

fn sees(host: &Host, trouble: Trouble<'_>) -> Result<()> {
    host.sees(trouble)?;
    host.status_says(trouble)
}
