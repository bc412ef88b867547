//! `import [TCTI]`: a key that was made elsewhere, wrapped so that only this TPM can import it, imported and used.

use std::error::Error;

use p256::ecdsa::SigningKey;
use tpm2::Tpm;
use tpm2::commands::Sign;
use tpm2::crypto::{HashAlg, duplicate};
use tpm2::object::{create_primary, import, load};
use tpm2::session::Auth;
use tpm2::template::{SRK_P256, ecc_signing};
use tpm2::transport::{Tcti, Transport};
use tpm2::types::{
    Alg, Curve, Digest, EccParameter, EccPoint, EccPublic, Hierarchy, Id, ObjectAttributes,
    PrivateKeyEcc, Public, Sensitive, SensitiveCreate, SensitiveSecret,
};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or(Tcti::DEFAULT.into());
    example(&mut Tpm::open(&address)?)
}

/// The example, over any transport.
pub fn example<T: Transport>(tpm: &mut Tpm<T>) -> Result<(), Box<dyn Error>> {
    let owner = Hierarchy::Owner;
    let (srk, _) = create_primary(tpm, owner, Auth::EMPTY, &SRK_P256, SensitiveCreate::EMPTY)?;

    // cookbook: wrap
    // Anywhere, without a TPM. Who sends the key must know that `parent` is in the right TPM: see EK activation.
    let parent = srk.public()?;
    let key = SigningKey::from_slice(&[7; 32])?;
    let point = key.verifying_key().to_sec1_point(false);
    let (x, y) = point.as_bytes().get(1..).ok_or("no point")?.split_at(32);
    let Id::Ecc(ecc) = ecc_signing(Curve::NIST_P256, Alg::SHA256).id else {
        return Err("no ECC template".into());
    };
    let unique = EccPoint { x: EccParameter::new(x)?, y: EccParameter::new(y)? };
    let public = Public {
        name_alg: Alg::SHA256,
        attributes: ObjectAttributes::USER_WITH_AUTH | ObjectAttributes::SIGN,
        auth_policy: Digest::EMPTY,
        id: Id::Ecc(EccPublic { unique, ..ecc }),
    };
    let scalar = key.to_bytes();
    let sensitive = Sensitive::of(SensitiveSecret::Ecc(PrivateKeyEcc::new(&scalar)?));
    let wrapped = duplicate(&parent, &public, &sensitive)?;
    // cookbook: end

    // cookbook: import
    let (private, seed) = (wrapped.private(), wrapped.seed());
    let imported = import(tpm, srk.object(), Auth::EMPTY, &public, private, seed)?;
    let loaded = load(tpm, srk.object(), Auth::EMPTY, &imported)?;
    let digest = HashAlg::Sha256.digest(&[b"a message"]);
    tpm.run(&Sign::digest(loaded.object(), (&digest).into()), [Auth::EMPTY])?;
    // cookbook: end
    Ok(tpm.flush_all()?)
}
