//! The public keys that certificates are issued for.

use std::fmt;

use const_oid::db::rfc8410::ID_ED_25519;
use der::asn1::BitString;
use der::{Decode, Encode};
use p256::PublicKey;
use p256::ecdsa::VerifyingKey;
use rustls::SignatureScheme;
use sha2::{Digest, Sha256};
use spki::{
    AlgorithmIdentifierOwned, DecodePublicKey, SubjectPublicKeyInfo, SubjectPublicKeyInfoOwned,
};
use ssh_key::Mpint;
use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, RsaPublicKey};
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
    /// Ed25519 (RFC 8032).
    Ed25519(Ed25519Key),
}

/// A point of the curve that is not of small order: for those, signatures exist that anybody can make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ed25519Key([u8; 32]);

impl Ed25519Key {
    fn new(bytes: &[u8]) -> Result<Self, SubjectKeyError> {
        let invalid = || SubjectKeyError("it is no valid Ed25519 key".to_owned());
        let bytes: [u8; 32] = bytes.try_into().map_err(|_| invalid())?;
        match ed25519_dalek::VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(bytes)),
            _ => Err(invalid()),
        }
    }

    /// RFC 8410 section 4; `None` if it is a key of another algorithm.
    fn from_spki(der: &[u8]) -> Option<Result<Self, SubjectKeyError>> {
        let info = SubjectPublicKeyInfoOwned::from_der(der).ok()?;
        if info.algorithm.oid != ID_ED_25519 {
            return None;
        }
        let key =
            info.subject_public_key.as_bytes().filter(|_| info.algorithm.parameters.is_none());
        Some(Self::new(key.unwrap_or_default()))
    }

    fn spki(&self) -> Result<SubjectPublicKeyInfoOwned, IssueError> {
        Ok(SubjectPublicKeyInfo {
            algorithm: AlgorithmIdentifierOwned { oid: ID_ED_25519, parameters: None },
            subject_public_key: BitString::from_bytes(&self.0).map_err(IssueError::x509)?,
        })
    }
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
        if let Some(key) = Ed25519Key::from_spki(der) {
            return key.map(Self::Ed25519);
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

    /// Reads the wire format of SSH (RFC 4253 section 6.6).
    ///
    /// # Errors
    /// It is malformed, or its algorithm is not supported.
    pub fn from_ssh(wire: &[u8]) -> Result<Self, SubjectKeyError> {
        let unreadable = || SubjectKeyError(UNREADABLE.to_owned());
        let key = ssh_key::PublicKey::from_bytes(wire).map_err(|_| unreadable())?;
        let error = |cause: verifier::KeyError| SubjectKeyError(cause.to_string());
        match key.key_data() {
            KeyData::Ed25519(key) => Ed25519Key::new(&key.0).map(Self::Ed25519),
            KeyData::Ecdsa(EcdsaPublicKey::NistP256(point)) => {
                PublicKey::from_sec1_bytes(point.as_bytes())
                    .map(Self::P256)
                    .map_err(|_| unreadable())
            }
            KeyData::Ecdsa(EcdsaPublicKey::NistP384(point)) => {
                let size = Curve::P384.field_size();
                // An uncompressed point (SEC 1 section 2.3.3).
                let (x, y) = match point.as_bytes().split_first() {
                    Some((0x04, point)) => point.split_at_checked(size).ok_or_else(unreadable)?,
                    _ => return Err(unreadable()),
                };
                EccKey::new(Curve::P384, x, y).map(Self::P384).map_err(error)
            }
            KeyData::Rsa(key) => {
                let positive = |number: &Mpint| number.as_positive_bytes().map(<[u8]>::to_vec);
                let n = positive(key.n()).ok_or_else(unreadable)?;
                let e = positive(key.e()).ok_or_else(unreadable)?;
                let e = e
                    .iter()
                    .try_fold(0_u32, |e, byte| e.checked_mul(256).map(|e| e | u32::from(*byte)));
                RsaKey::new(&n, e.ok_or_else(unreadable)?).map(Self::Rsa).map_err(error)
            }
            _ => Err(unreadable()),
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
            Self::P256(_) | Self::Ed25519(_) => self.spki()?.to_der().map_err(IssueError::x509),
            Self::P384(key) => Ok(EkPublicKey::Ecc(key.clone()).spki_der()),
            Self::Rsa(key) => Ok(EkPublicKey::Rsa(key.clone()).spki_der()),
        }
    }

    /// Verifies the signature of a message, encoded as in X.509 certificates. A key on P-256 signs by ECDSA with SHA-256; other keys
    /// sign the message's SHA-256 digest in its place, by the algorithm that is theirs in TLS: ECDSA with SHA-384, Ed25519, or
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), signature::Error> {
        let scheme = match self {
            Self::P256(_) => {
                return self.verify_as(SignatureScheme::ECDSA_NISTP256_SHA256, message, signature);
            }
            Self::P384(_) => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::Ed25519(_) => SignatureScheme::ED25519,
            Self::Rsa(_) => SignatureScheme::RSA_PKCS1_SHA256,
        };
        self.verify_as(scheme, &Sha256::digest(message), signature)
    }

    fn verify_as(
        &self,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), signature::Error> {
        let info = self.spki().map_err(|_| signature::Error::new())?;
        let provider = tls::provider();
        let algorithms = provider.signature_verification_algorithms.mapping.iter();
        let mut algorithms = algorithms.filter(|(of, _)| *of == scheme).flat_map(|(_, all)| *all);
        let verified = algorithms.any(|algorithm| {
            let key = info.subject_public_key.raw_bytes();
            algorithm.verify_signature(key, message, signature).is_ok()
        });
        if verified { Ok(()) } else { Err(signature::Error::new()) }
    }

    pub(super) fn spki(&self) -> Result<SubjectPublicKeyInfoOwned, IssueError> {
        match self {
            Self::P256(key) => SubjectPublicKeyInfo::from_key(key).map_err(IssueError::x509),
            Self::P384(_) | Self::Rsa(_) => {
                SubjectPublicKeyInfoOwned::from_der(&self.to_spki()?).map_err(IssueError::x509)
            }
            Self::Ed25519(key) => key.spki(),
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
            Self::Ed25519(key) => Ok(KeyData::Ed25519(Ed25519PublicKey(key.0))),
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
