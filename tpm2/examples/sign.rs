//! `sign [TCTI]`: signs with a key that the TPM made under the storage root key, and verifies with the crate `p256`.

use std::error::Error;

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use p256::ecdsa::{Signature, VerifyingKey};
use tpm2::Tpm;
use tpm2::commands::Sign;
use tpm2::crypto::HashAlg;
use tpm2::object::{create, create_primary, load};
use tpm2::session::Auth;
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{self, Alg, Curve, Hierarchy, Id, SensitiveCreate};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let (empty, curve) = (SensitiveCreate::EMPTY, Curve::NIST_P256);
    // cookbook: sign
    let (srk, _) = create_primary(tpm, Hierarchy::Owner, Auth::EMPTY, &SRK_P256, empty)?;
    let template = ecc_signing(curve, Alg::SHA256);
    let (wrapped, _) = create(tpm, srk.object(), Auth::EMPTY, &template, empty)?;
    let key = load(tpm, srk.object(), Auth::EMPTY, &wrapped)?;
    let digest = HashAlg::Sha256.digest(&[b"a message"]);
    let answer = tpm.run(&Sign::digest(key.object(), (&digest).into()), [Auth::EMPTY])?;
    // cookbook: end
    // cookbook: verify
    let types::Signature::Ecdsa(made) = answer.signature else { return Err("no ECDSA".into()) };
    let signature = Signature::from_slice(made.to_fixed(curve).ok_or("too long")?.octets())?;
    let Id::Ecc(public) = key.public()?.id else { return Err("no ECC key".into()) };
    let sec1 = public.to_sec1().ok_or("too long")?;
    VerifyingKey::from_sec1_bytes(sec1.octets())?.verify_prehash(digest.octets(), &signature)?;
    // cookbook: end
    Ok(tpm.flush_all()?)
}
