//! Signatures of ours: ECDSA on P-256 with SHA-256, FIPS 186-5 section 6.4.1.

use std::fmt;

use p256::ecdsa::{DerSignature, Signature, VerifyingKey};
use p256::elliptic_curve::Generate;
use p256::{PublicKey, SecretKey};
use signature::{Error, Keypair, Signer};
use spki::{AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier};

use crate::choice::{Implementation, implementation};
use crate::fast;

/// A private key on P-256 that signs. It is wiped when it is dropped, and never shown.
///
/// RustCrypto's signatures depend on key and message alone (RFC 6979); graviola adds randomness, so that two signatures of one
/// message differ.
pub struct SigningKey {
    portable: p256::ecdsa::SigningKey,
    fast: Option<fast::SigningKey>,
}

impl SigningKey {
    /// A new key, from the operating system's randomness.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn generate() -> Result<Self, Error> {
        SecretKey::try_generate().map(Self::from).map_err(|_| Error::new())
    }

    /// The public key.
    pub fn public_key(&self) -> PublicKey {
        self.portable.verifying_key().into()
    }
}

impl From<SecretKey> for SigningKey {
    fn from(secret: SecretKey) -> Self {
        let fast = match implementation() {
            Implementation::Graviola => fast::SigningKey::new(&secret),
            Implementation::RustCrypto => None,
        };
        Self { portable: secret.into(), fast }
    }
}

impl Signer<Signature> for SigningKey {
    fn try_sign(&self, message: &[u8]) -> Result<Signature, Error> {
        match &self.fast {
            Some(key) => key.sign(message),
            None => self.portable.try_sign(message),
        }
    }
}

impl Signer<DerSignature> for SigningKey {
    fn try_sign(&self, message: &[u8]) -> Result<DerSignature, Error> {
        let signature: Signature = self.try_sign(message)?;
        Ok(signature.to_der())
    }
}

impl Keypair for SigningKey {
    type VerifyingKey = VerifyingKey;

    fn verifying_key(&self) -> VerifyingKey {
        *self.portable.verifying_key()
    }
}

impl DynSignatureAlgorithmIdentifier for SigningKey {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        self.portable.signature_algorithm_identifier()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}
