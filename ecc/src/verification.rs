//! Signatures of others: ECDSA, FIPS 186-5 section 6.4.2.

use sha2::{Digest, Sha256, Sha384, Sha512};
use signature::Error;
use signature::hazmat::PrehashVerifier;

use crate::choice::{Implementation, implementation};
use crate::fast;

/// A curve of SEC 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
}

/// A hash of FIPS 180-4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// Whose signature it should be, and of which kind.
#[derive(Debug, Clone, Copy)]
pub struct VerifyingKey<'a> {
    /// The curve of the key.
    pub curve: Curve,
    /// What the message is hashed with.
    pub hash: Hash,
    /// The key, in an encoding of SEC 1 section 2.3.3.
    pub point: &'a [u8],
}

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
        let (sha256, sha384, sha512);
        let digest: &[u8] = match self.hash {
            Hash::Sha256 => {
                sha256 = Sha256::digest(message);
                &sha256
            }
            Hash::Sha384 => {
                sha384 = Sha384::digest(message);
                &sha384
            }
            Hash::Sha512 => {
                sha512 = Sha512::digest(message);
                &sha512
            }
        };
        match self.curve {
            Curve::P256 => p256::ecdsa::VerifyingKey::from_sec1_bytes(self.point)?
                .verify_prehash(digest, &p256::ecdsa::Signature::from_slice(signature)?),
            Curve::P384 => p384::ecdsa::VerifyingKey::from_sec1_bytes(self.point)?
                .verify_prehash(digest, &p384::ecdsa::Signature::from_slice(signature)?),
        }
    }
}
