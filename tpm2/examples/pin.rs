//! `pin [TCTI]`: data that the TPM unseals with a PIN, while a PCR holds what it holds now.

use std::error::Error;

use tpm2::commands::PcrEvent;
use tpm2::crypto::HashAlg;
use tpm2::object::create_primary;
use tpm2::policy::{Policy, Step};
use tpm2::seal::{seal, unseal};
use tpm2::session::Auth;
use tpm2::template::SRK_P256;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Alg, Event, Hierarchy, Pcr, PcrBits, ResponseCode, SensitiveCreate};
use tpm2::wire::List;
use tpm2::{Tpm, pcr};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    // cookbook: seal
    let owner = Hierarchy::Owner;
    let (srk, _) = create_primary(tpm, owner, Auth::EMPTY, &SRK_P256, SensitiveCreate::EMPTY)?;
    let selected = PcrBits::of(&[16]).ok_or("no such PCR")?;
    let pcrs = [selected.bank(Alg::SHA256)];
    let now = pcr::digest(tpm, HashAlg::Sha256, &pcrs)?;
    let steps = [Step::Pcr { pcrs: List::new(&pcrs), digest: (&now).into() }, Step::AuthValue];
    let policy = Policy::new(&steps);
    let digest = policy.digest(HashAlg::Sha256)?;
    let sealed = seal(tpm, &srk, Auth::EMPTY, b"secret", &digest, b"PIN")?;

    let data = unseal(tpm, &srk, Auth::EMPTY, &sealed, &policy, b"PIN")?;
    // cookbook: end
    if data.expose() != b"secret" {
        return Err("other data".into());
    }
    // cookbook: refused
    let refused = unseal(tpm, &srk, Auth::EMPTY, &sealed, &policy, b"PIX");
    let wrong_pin = refused.err().and_then(|error| error.refusal());
    assert_eq!(wrong_pin, Some(ResponseCode::AUTH_FAIL));

    let event = PcrEvent { pcr_handle: Some(Pcr(16)), event_data: Event::from(b"an event") };
    tpm.run(&event, [Auth::EMPTY])?;
    let refused = unseal(tpm, &srk, Auth::EMPTY, &sealed, &policy, b"PIN");
    let other_pcr = refused.err().and_then(|error| error.refusal());
    assert_eq!(other_pcr, Some(ResponseCode::VALUE));
    // cookbook: end
    Ok(tpm.flush_all()?)
}
