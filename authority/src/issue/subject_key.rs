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

/// Why an SSH key is refused. The library's own errors repeat what the host sent.
const UNREADABLE: &str = "it is malformed, or its algorithm is not supported";

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

    /// Reads a key in the two forms in which clients of Teleport send it: SubjectPublicKeyInfo, and the wire format of SSH (RFC 4253
    /// section 6.6).
    ///
    /// # Errors
    /// One of them is malformed or not supported, or they are different keys.
    pub fn from_wire(spki: &[u8], ssh: &[u8]) -> Result<Self, SubjectKeyError> {
        let key = Self::from_spki(spki).map_err(|cause| SubjectKeyError::of("TLS", cause))?;
        let ssh = ssh_key::PublicKey::from_bytes(ssh);
        key.same_as(&ssh.map_err(|_| SubjectKeyError::of("SSH", UNREADABLE))?)
    }

    /// The same as text: PEM, and a line of authorized_keys.
    ///
    /// # Errors
    /// See [`Self::from_wire`].
    pub fn from_text(pem: &[u8], line: &[u8]) -> Result<Self, SubjectKeyError> {
        let spki = match der::pem::decode_vec(pem) {
            Ok(("PUBLIC KEY", spki)) => spki,
            Ok((label, _)) => {
                return Err(SubjectKeyError::of("TLS", format_args!("a PEM {label:?}")));
            }
            Err(cause) => return Err(SubjectKeyError::of("TLS", cause)),
        };
        let key = Self::from_spki(&spki).map_err(|cause| SubjectKeyError::of("TLS", cause))?;
        let line = str::from_utf8(line).map_err(|_| SubjectKeyError::of("SSH", UNREADABLE))?;
        let ssh = ssh_key::PublicKey::from_openssh(line.trim_end());
        key.same_as(&ssh.map_err(|_| SubjectKeyError::of("SSH", UNREADABLE))?)
    }

    /// This key, if it is that one.
    fn same_as(self, ssh: &ssh_key::PublicKey) -> Result<Self, SubjectKeyError> {
        let own = self.ssh().map_err(|cause| SubjectKeyError(cause.to_string()))?;
        if own == *ssh.key_data() {
            return Ok(self);
        }
        let reason = "the SSH public key is another key than the TLS public key";
        Err(SubjectKeyError(reason.to_owned()))
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

impl SubjectKeyError {
    fn of(what: &str, cause: impl fmt::Display) -> Self {
        Self(format!("parsing the {what} public key: {cause}"))
    }
}

impl fmt::Display for SubjectKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SubjectKeyError {}
