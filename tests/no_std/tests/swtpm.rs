//! The client without std and without an allocator, and sessions that replay.

use anyhow::{Context, Result};
use no_std::{BusError, Failure};
use testkit::swtpm::{Factory, Kind, Maker, Swtpm};
use tpm2::crypto::{HashAlg, NoRandomness};
use tpm2::transport::{AnyTransport, Record, Recording, Replay, Tcti, Transport};
use tpm2::{Fault, Tpm};

fn start() -> Result<Swtpm> {
    Factory::shared().tpm(Maker::Vendor, Kind::NoCertificates)?.start()
}

fn way(swtpm: &Swtpm) -> Result<AnyTransport> {
    Ok(swtpm.tcti().parse::<Tcti>()?.open()?)
}

/// Octets that are the same each time, and never the same twice.
fn seeded(seed: u8) -> impl FnMut(&mut [u8]) -> Result<(), NoRandomness> {
    let mut count = 0_u64;
    move |octets| {
        for chunk in octets.chunks_mut(32) {
            count += 1;
            let block = HashAlg::Sha256.digest(&[&[seed], &count.to_be_bytes()]);
            chunk.copy_from_slice(&block.octets()[..chunk.len()]);
        }
        Ok(())
    }
}

/// The host's end of the bus.
fn shim(mut transport: impl Transport) -> impl FnMut(&[u8], &mut [u8]) -> Option<usize> {
    move |command, response| transport.exchange(command, response).ok()
}

#[test]
fn sessions_nv_and_sealing_work_without_std() -> Result<()> {
    let swtpm = start()?;
    let recording = Recording::default();
    no_std::run(shim(Record::new(way(&swtpm)?, recording.clone())), seeded(1))?;
    // Without a TPM, octet for octet, since the nonces and the salts are the same.
    no_std::run(shim(Replay::new(recording.exchanges())), seeded(1))?;

    let other = no_std::run(shim(Replay::new(recording.exchanges())), seeded(2));
    let refused =
        matches!(&other, Err(Failure::Tpm(error)) if error.transport() == Some(&BusError));
    assert!(refused, "{:?}", other.err());
    Ok(())
}

#[test]
fn no_session_starts_without_randomness() -> Result<()> {
    let swtpm = start()?;
    let mut tpm = Tpm::with_random(way(&swtpm)?, |_: &mut [u8]| Err(NoRandomness));
    let plan = tpm2::session::NewSession::hmac(HashAlg::Sha256);
    let error = tpm.start(&plan).err().context("started")?;
    assert!(matches!(error.fault(), Fault::NoRandomness), "{error}");
    Ok(())
}
