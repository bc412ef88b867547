//! Signatures of others: ECDSA, FIPS 186-5 section 6.4.2.

use sha2::{Digest, Sha256, Sha384, Sha512};
use signature::Error;
use signature::hazmat::PrehashVerifier;

use crate::choice::{Implementation, implementation};
use crate::fast;
use crate::types::{Curve, Hash, VerifyingKey};

impl VerifyingKey<'_> {
    /// Verifies a signature, which is r and s, each at the size of the field.
    ///
    /// # Errors
    /// It is not this key's signature of the message, or key or signature is malformed.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        if implementation() == Implementation::Graviola
            && let Some(verified) = fast::verify(self, message, signature)
        {
            return verified;
        }
        self.verify_portably(message, signature)
    }

    pub(crate) fn verify_portably(&self, message: &[u8], signature: &[u8]) -> Result<(), Error> {
        let verify = |digest: &[u8]| verify_digest(self.curve, self.point, digest, signature);
        match self.hash {
            Hash::Sha256 => verify(&Sha256::digest(message)),
            Hash::Sha384 => verify(&Sha384::digest(message)),
            Hash::Sha512 => verify(&Sha512::digest(message)),
        }
    }
}

/// Verifies a signature of what is hashed already, such as with a hash of another kind; RustCrypto computes it.
///
/// # Errors
/// As [`VerifyingKey::verify`], or the digest is shorter than half of the field.
pub fn verify_digest(
    curve: Curve,
    point: &[u8],
    digest: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    match curve {
        Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(point)?
            .verify_prehash(digest, &p256::ecdsa::Signature::from_slice(signature)?),
        Curve::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(point)?
            .verify_prehash(digest, &p384::ecdsa::Signature::from_slice(signature)?),
    }
}
