//! `boot NONCE DIRECTORY`: whether a machine booted as its event log says.
//!
//! Reads what the example `quote` of the crate `tpm2` wrote, and `log`, which Linux has as
//! `/sys/kernel/security/tpm0/binary_bios_measurements`. Says each quoted PCR with its value, once all are as the log leads
//! to. That the key is in a TPM is another question, which the activation of a credential answers.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use tpm2::crypto::HashAlg;
use tpm2::types::{Entity, Hierarchy};
use verifier::event_log::EventLog;
use verifier::{Attestation, AttestationKey, PcrValues};

const BANK: HashAlg = HashAlg::Sha256;

fn main() -> ExitCode {
    match verdict() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn verdict() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [nonce, directory] = &arguments[..] else {
        return Err("usage: boot NONCE DIRECTORY".into());
    };
    let read = |name: &str| fs::read(Path::new(directory).join(name));
    let (public, attest) = (read("public")?, read("attest")?);
    let (signature, log) = (read("signature")?, read("log")?);

    // cookbook: boot
    let endorsement = Hierarchy::Endorsement.name().ok_or("a hierarchy has a Name")?;
    let key = AttestationKey::appraise(&public)?.under(&endorsement)?;
    let log = EventLog::parse(&log)?;
    let claimed = PcrValues::new().with_bank(&log.replay(BANK)?);
    let evidence = Attestation { attest: &attest, signature: &signature };
    let quote = key.quote(evidence, &octets(nonce)?, &claimed)?;
    let measured = log.measured(&quote.pcrs, BANK)?;
    // cookbook: end

    let mut out = io::stdout().lock();
    for (pcr, value) in quote.pcrs.values().bank(BANK) {
        let value: String = value.iter().map(|octet| format!("{octet:02x}")).collect();
        let events = measured.of_pcr(pcr)?.count();
        writeln!(out, "{pcr} {value} {events} events")?;
    }
    Ok(())
}

fn octets(hexadecimal: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?)).collect()
}
