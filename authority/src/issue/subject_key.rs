//! The public keys that certificates are issued for.

use der::Encode;
use p256::PublicKey;
use p256::ecdsa::{DerSignature, VerifyingKey};
use signature::hazmat::PrehashVerifier;
use spki::{DecodePublicKey, SubjectPublicKeyInfo, SubjectPublicKeyInfoOwned};
use ssh_key::public::{EcdsaPublicKey, KeyData};

use super::IssueError;

/// A public key of a host. What its algorithm means for X.509, for SSH and for the proof of possession is
/// decided here: another algorithm is another variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectKey {
    /// ECDSA on P-256.
    P256(PublicKey),
}

impl SubjectKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 section 4.1).
    ///
    /// # Errors
    /// It is malformed, or its algorithm is not supported.
    pub fn from_spki(der: &[u8]) -> Result<Self, spki::Error> {
        PublicKey::from_public_key_der(der).map(Self::P256)
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn to_spki(&self) -> Result<Vec<u8>, IssueError> {
        self.spki()?.to_der().map_err(IssueError::x509)
    }

    /// Verifies the signature of a digest. The signature is encoded as in X.509 certificates.
    pub fn verify_prehash(&self, digest: &[u8], signature: &[u8]) -> Result<(), signature::Error> {
        match self {
            Self::P256(key) => {
                let signature = DerSignature::from_bytes(signature)?;
                VerifyingKey::from(key).verify_prehash(digest, &signature)
            }
        }
    }

    pub(super) fn spki(&self) -> Result<SubjectPublicKeyInfoOwned, IssueError> {
        match self {
            Self::P256(key) => SubjectPublicKeyInfo::from_key(key).map_err(IssueError::x509),
        }
    }

    /// The same key in an SSH certificate.
    pub(super) fn ssh(&self) -> KeyData {
        match self {
            Self::P256(key) => KeyData::Ecdsa(EcdsaPublicKey::from(VerifyingKey::from(key))),
        }
    }
}

impl From<PublicKey> for SubjectKey {
    fn from(key: PublicKey) -> Self {
        Self::P256(key)
    }
}

impl From<&VerifyingKey> for SubjectKey {
    fn from(key: &VerifyingKey) -> Self {
        Self::P256(key.into())
    }
}
