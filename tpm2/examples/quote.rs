//! `quote TCTI NONCE DIRECTORY`: what a verifier wants to know of a boot.
//!
//! Makes an attestation key, has the PCRs of the firmware quoted with it, the nonce in hexadecimal, and writes `public`
//! (`TPMT_PUBLIC`), `attest` (`TPMS_ATTEST`) and `signature` (`TPMT_SIGNATURE`) to a directory. The TPM is left as it was.

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use tpm2::attest::{self, Signer};
use tpm2::session::Auth;
use tpm2::transport::Tcti;
use tpm2::types::{Alg, Hierarchy, PcrBits, SensitiveCreate};
use tpm2::{Tpm, object, template};

/// Those that the firmware extends. PTP §4.6.
const PCRS: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [address, nonce, directory] = &arguments[..] else {
        return Err("usage: quote TCTI NONCE DIRECTORY".into());
    };
    let (address, nonce): (Tcti, _) = (address.parse()?, octets(nonce)?);
    let mut tpm = Tpm::new(address.open()?);
    // cookbook: quote
    let (key, _) = object::create_primary(
        &mut tpm,
        Hierarchy::Endorsement,
        Auth::EMPTY,
        &template::AK_P256,
        SensitiveCreate::EMPTY,
    )?;
    let signer = Signer { key: key.object(), auth: Auth::EMPTY };
    let pcrs = PcrBits::of(&PCRS).ok_or("there are no such PCRs")?;
    let quote = attest::quote(&mut tpm, signer, &nonce, &[pcrs.bank(Alg::SHA256)])?;
    // cookbook: end
    let directory = Path::new(directory);
    fs::create_dir_all(directory)?;
    fs::write(directory.join("public"), key.public_area())?;
    fs::write(directory.join("attest"), &quote.attest)?;
    fs::write(directory.join("signature"), &quote.signature)?;
    Ok(())
}

fn octets(hexadecimal: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let pairs = hexadecimal.as_bytes().chunks(2);
    pairs.map(|pair| Ok(u8::from_str_radix(str::from_utf8(pair)?, 16)?)).collect()
}
