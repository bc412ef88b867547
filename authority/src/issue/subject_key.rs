//! The public keys that certificates are issued for.

use std::fmt;

use der::{Decode, Encode};
use p256::PublicKey;
use p256::ecdsa::{DerSignature, VerifyingKey};
use signature::hazmat::PrehashVerifier;
use spki::{DecodePublicKey, SubjectPublicKeyInfo, SubjectPublicKeyInfoOwned};
use ssh_key::Mpint;
use ssh_key::public::{EcdsaPublicKey, KeyData, RsaPublicKey};
use verifier::{Curve, EccKey, EkPublicKey, RsaKey};

use super::IssueError;

/// A public key of a host. What its algorithm means for X.509, for SSH and for the proof of possession is
/// decided here: another algorithm is another variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubjectKey {
    /// ECDSA on P-256.
    P256(PublicKey),
    /// ECDSA on P-384, for clients of Teleport.
    P384(EccKey),
    /// RSA of 2048, 3072 or 4096 bits, for old clients of Teleport.
    Rsa(RsaKey),
}

impl SubjectKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 section 4.1).
    ///
    /// # Errors
    /// It is malformed, or its algorithm is not supported.
    pub fn from_spki(der: &[u8]) -> Result<Self, SubjectKeyError> {
        if let Ok(key) = PublicKey::from_public_key_der(der) {
            return Ok(Self::P256(key));
        }
        // The rules for the sizes and exponents of endorsement keys are right for these keys too.
        let error = |cause: verifier::KeyError| SubjectKeyError(cause.to_string());
        match EkPublicKey::from_spki(der).map_err(error)? {
            EkPublicKey::Rsa(key) => Ok(Self::Rsa(key)),
            EkPublicKey::Ecc(key) if key.curve() == Curve::P384 => Ok(Self::P384(key)),
            EkPublicKey::Ecc(key) => {
                Err(SubjectKeyError(format!("keys on {} are not supported", key.curve())))
            }
        }
    }

    /// The SubjectPublicKeyInfo, DER.
    pub fn to_spki(&self) -> Result<Vec<u8>, IssueError> {
        match self {
            Self::P256(_) => self.spki()?.to_der().map_err(IssueError::x509),
            Self::P384(key) => Ok(EkPublicKey::Ecc(key.clone()).spki_der()),
            Self::Rsa(key) => Ok(EkPublicKey::Rsa(key.clone()).spki_der()),
        }
    }

    /// Verifies the signature of a digest. The signature is encoded as in X.509 certificates. Only keys on P-256 prove possession
    /// in this way.
    pub fn verify_prehash(&self, digest: &[u8], signature: &[u8]) -> Result<(), signature::Error> {
        match self {
            Self::P256(key) => {
                let signature = DerSignature::from_bytes(signature)?;
                VerifyingKey::from(key).verify_prehash(digest, &signature)
            }
            Self::P384(_) | Self::Rsa(_) => Err(signature::Error::new()),
        }
    }

    pub(super) fn spki(&self) -> Result<SubjectPublicKeyInfoOwned, IssueError> {
        match self {
            Self::P256(key) => SubjectPublicKeyInfo::from_key(key).map_err(IssueError::x509),
            Self::P384(_) | Self::Rsa(_) => {
                SubjectPublicKeyInfoOwned::from_der(&self.to_spki()?).map_err(IssueError::x509)
            }
        }
    }

    /// The same key in an SSH certificate.
    ///
    /// # Errors
    /// SSH has no form for it, which is not so for any key that was read here.
    pub fn ssh(&self) -> Result<KeyData, IssueError> {
        match self {
            Self::P256(key) => Ok(KeyData::Ecdsa(EcdsaPublicKey::from(VerifyingKey::from(key)))),
            Self::P384(key) => {
                let point = [&[0x04], key.x(), key.y()].concat();
                let key = EcdsaPublicKey::from_sec1_bytes(&point).map_err(IssueError::ssh)?;
                Ok(KeyData::Ecdsa(key))
            }
            Self::Rsa(key) => {
                let number = |bytes: &[u8]| Mpint::from_positive_bytes(bytes);
                let (e, n) = (number(&key.exponent().to_be_bytes()), number(key.modulus()));
                RsaPublicKey::new(e, n).map(KeyData::Rsa).map_err(IssueError::ssh)
            }
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

/// Why no certificate can be issued for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectKeyError(String);

impl fmt::Display for SubjectKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SubjectKeyError {}
