//! `sign [TCTI]`: signs with a key that the TPM made under the storage root key, and verifies with the crate `p256`.

use std::error::Error;

use p256::PublicKey;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use tpm2::Tpm;
use tpm2::commands::Sign;
use tpm2::crypto::HashAlg;
use tpm2::object::{create, create_primary, load};
use tpm2::session::Auth;
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{Alg, Curve, Hierarchy, SensitiveCreate};

fn main() -> Result<(), Box<dyn Error>> {
    example(&mut Tpm::open(&std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into()))?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    // cookbook: sign
    let (owner, empty) = (Hierarchy::Owner, SensitiveCreate::EMPTY);
    let (srk, _) = create_primary(tpm, owner, Auth::EMPTY, &SRK_P256, empty)?;
    let template = ecc_signing(Curve::NIST_P256, Alg::SHA256);
    let (wrapped, _) = create(tpm, srk.object(), Auth::EMPTY, &template, empty)?;
    let key = load(tpm, srk.object(), Auth::EMPTY, &wrapped)?;
    let digest = HashAlg::Sha256.digest(&[b"a message"]);
    let sign = Sign::digest(key.object(), (&digest).into());
    let signature = Signature::try_from(&tpm.run(&sign, [Auth::EMPTY])?.signature)?;
    // cookbook: end
    // cookbook: verify
    VerifyingKey::from(PublicKey::try_from(&key.public()?)?).verify(b"a message", &signature)?;
    // cookbook: end
    Ok(tpm.flush_all()?)
}
