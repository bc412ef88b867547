//! `values [TCTI]`: a quote of PCRs whose values are checked without an event log, as a host and its verifier do it.

use std::error::Error;

use tpm2::attest::{Signer, quote};
use tpm2::crypto::HashAlg;
use tpm2::object::create_primary;
use tpm2::pcr::{self, PcrValue};
use tpm2::session::Auth;
use tpm2::template::AK_P256;
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Alg, Entity, Hierarchy, PcrBits, SensitiveCreate};
use tpm2::{Tpm, attest};
use verifier::{Attestation, AttestationKey, PcrValues};

const BANK: HashAlg = HashAlg::Sha256;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    // From the verifier, which has never used it before.
    let nonce = [0x5a; 32];
    let hierarchy = Hierarchy::Endorsement;
    let (ak, _) = create_primary(tpm, hierarchy, Auth::EMPTY, &AK_P256, SensitiveCreate::EMPTY)?;
    // cookbook: host
    let selected = PcrBits::of(&[0, 7]).ok_or("no such PCR")?;
    let pcrs = [selected.bank(Alg::SHA256)];
    let values = pcr::read(tpm, &pcrs)?;
    let quoted = quote(tpm, Signer { key: ak.object(), auth: Auth::EMPTY }, &nonce, &pcrs)?;
    // cookbook: end
    let secure_boot = verify(ak.public_area(), &nonce, &quoted, &values)?;
    if values.iter().all(|read| read.value.octets() != secure_boot) {
        return Err("another value".into());
    }
    Ok(tpm.flush_all()?)
}

/// The verifier on another machine: what PCR 7 holds.
fn verify(
    public: &[u8],
    nonce: &[u8],
    quoted: &attest::Attestation,
    values: &[PcrValue],
) -> Result<Vec<u8>, Box<dyn Error>> {
    // cookbook: verifier
    let mut claimed = PcrValues::new();
    for PcrValue { pcr, value, .. } in values {
        claimed = claimed.with(BANK, *pcr, value.octets()).ok_or("no value of this bank")?;
    }
    let endorsement = Hierarchy::Endorsement.name().ok_or("a hierarchy has a Name")?;
    let key = AttestationKey::appraise(public)?.under(&endorsement)?;
    let evidence = Attestation { attest: &quoted.attest, signature: &quoted.signature };
    let quote = key.quote(evidence, nonce, &claimed)?;
    let secure_boot = quote.pcrs.values().of(BANK, 7).ok_or("PCR 7 was not quoted")?;
    // cookbook: end
    Ok(secure_boot.to_vec())
}
