//! The key that a host wants certified: is it one that a TPM made, keeps, and uses for signing
//! only?
//!
//! Activation of a credential proves that the TPM has loaded an object with exactly this public
//! area, and nothing else. Software keys can be loaded too, but not with these attributes: a TPM
//! refuses fixedTPM to whatever it did not make itself. So the attributes are compared bit by bit.

use std::fmt;

use p256::ecdsa::VerifyingKey;
use tpm2::crypto::{NameError, object_name};
use tpm2::types::{
    Alg, AsymScheme, Curve as TpmCurve, Digest, EccParameter, EccPoint, EccPublic, HashScheme, Id,
    KdfScheme, NameBuf, ObjectAttributes, Public, SymDefObject,
};
use tpm2::wire::{Malformed, Unmarshal};

use crate::error::KeyError;
use crate::key::{Curve, EccKey};
use crate::signature::{self, SignatureWrong};

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign; every other bit is clear: a signing key that its TPM
/// made and never gives away, free to sign what TLS asks for, and outside the dictionary-attack logic, so that a lockout does
/// not cut the host off. Part 2 §8.3, `TPMA_OBJECT`.
pub const JOIN_KEY_ATTRIBUTES: ObjectAttributes = ObjectAttributes(0x0004_0472);

/// A public area that is as it must be: ECDSA with SHA-256 on P-256, [`JOIN_KEY_ATTRIBUTES`], no
/// policy. Whether a TPM holds the key is for the activation to show.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinKey {
    name: NameBuf,
    key: EccKey,
    verifying_key: VerifyingKey,
}

impl JoinKey {
    /// The template of a join key, to be created as a primary key, so that nothing is stored: the TPM derives the key from
    /// its hierarchy's seed and this template. Each `unique` gives another key.
    #[must_use]
    pub fn template(unique: &[u8; 32]) -> Public<'_> {
        let unique = EccPoint { x: EccParameter::from(unique), y: EccParameter::from(&[0; 32]) };
        let symmetric = SymDefObject::Null;
        let scheme = AsymScheme::Ecdsa(HashScheme { hash: Alg::SHA256 });
        let (curve, kdf) = (TpmCurve::NIST_P256, KdfScheme::Null);
        Public {
            name_alg: Alg::SHA256,
            attributes: JOIN_KEY_ATTRIBUTES,
            auth_policy: Digest::EMPTY,
            id: Id::Ecc(EccPublic { symmetric, scheme, curve, kdf, unique }),
        }
    }

    /// Appraises a TPMT_PUBLIC, nothing before it and nothing after.
    pub fn appraise(public: &[u8]) -> Result<Self, JoinKeyError> {
        let public = Public::from_bytes(public).map_err(JoinKeyError::Malformed)?;
        if public.attributes != JOIN_KEY_ATTRIBUTES {
            return Err(JoinKeyError::Attributes(public.attributes));
        }
        if !matches!(public.name_alg, Alg::SHA256 | Alg::SHA384 | Alg::SHA512) {
            return Err(JoinKeyError::NameAlgorithm(public.name_alg));
        }
        if !public.auth_policy.octets().is_empty() {
            return Err(JoinKeyError::Policy);
        }
        let key = signing_key(&public)?;
        let name = object_name(&public).map_err(JoinKeyError::Name)?;
        let verifying_key = VerifyingKey::from_sec1_bytes(key.sec1())
            .map_err(|_| JoinKeyError::Key(KeyError::PointOffCurve))?;
        Ok(Self { name, key, verifying_key })
    }

    /// Its Name, computed here.
    #[must_use]
    pub fn name(&self) -> &NameBuf {
        &self.name
    }

    /// Its SubjectPublicKeyInfo, canonical.
    #[must_use]
    pub fn spki_der(&self) -> Vec<u8> {
        self.key.spki_der()
    }

    /// The public key as that of the crate `p256`, such as for a certificate.
    #[cfg(feature = "p256")]
    #[must_use]
    pub fn verifying_key(&self) -> &VerifyingKey {
        &self.verifying_key
    }

    /// Checks the key's ECDSA signature (Ecdsa-Sig-Value in DER) over a SHA-256 digest.
    pub fn verify(&self, digest: &[u8; 32], signature: &[u8]) -> Result<(), SignatureWrong> {
        signature::verify_ecdsa(&self.key, digest, signature)
    }
}

impl fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinKey({})", self.name)
    }
}

/// The template below the attributes: no cipher, ECDSA with SHA-256, P-256, no key derivation.
fn signing_key(public: &Public<'_>) -> Result<EccKey, JoinKeyError> {
    let Id::Ecc(ecc) = public.id else {
        return Err(JoinKeyError::Template("type is not ECC"));
    };
    let EccPublic { symmetric, scheme, curve, kdf, unique } = ecc;
    if symmetric != SymDefObject::Null {
        return Err(JoinKeyError::Template("symmetric is not null"));
    }
    if scheme != AsymScheme::Ecdsa(HashScheme { hash: Alg::SHA256 }) {
        return Err(JoinKeyError::Template("scheme is not ECDSA with SHA-256"));
    }
    if curve != TpmCurve::NIST_P256 {
        return Err(JoinKeyError::Template("curve is not P-256"));
    }
    if kdf != KdfScheme::Null {
        return Err(JoinKeyError::Template("kdf is not null"));
    }
    EccKey::new(Curve::P256, &padded(unique.x)?, &padded(unique.y)?).map_err(JoinKeyError::Key)
}

/// A coordinate at the size of the field. TPMs may leave leading zeros out, and never add any.
fn padded(coordinate: EccParameter<'_>) -> Result<[u8; 32], JoinKeyError> {
    signature::padded(coordinate.octets()).ok_or(JoinKeyError::Key(KeyError::PointForm))
}

/// Why a public area is not a join key's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinKeyError {
    /// Not a TPMT_PUBLIC, or more than one.
    Malformed(Malformed),
    /// Other attributes than [`JOIN_KEY_ATTRIBUTES`].
    Attributes(ObjectAttributes),
    /// A name algorithm that is weaker than SHA-256, or none.
    NameAlgorithm(Alg),
    /// A policy, which could let others use the key.
    Policy,
    /// Another part of the template that is different.
    Template(&'static str),
    /// Not a valid point of the curve.
    Key(KeyError),
    /// A public area without a Name.
    Name(NameError),
}

impl JoinKeyError {
    /// A short word for logs, metrics and tests. Stable.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Key(_) | Self::Name(_) => "join_key_malformed",
            Self::Attributes(_) => "join_key_attributes",
            Self::NameAlgorithm(_) => "join_key_name_algorithm",
            Self::Policy => "join_key_policy",
            Self::Template(_) => "join_key_template",
        }
    }
}

impl fmt::Display for JoinKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "the join key's public area: {error}"),
            Self::Attributes(attributes) => write!(
                f,
                "the join key has attributes {attributes:?} instead of {JOIN_KEY_ATTRIBUTES:?}"
            ),
            Self::NameAlgorithm(alg) => {
                write!(f, "the join key's name algorithm {alg:?} is not SHA-256 or stronger")
            }
            Self::Policy => f.write_str("the join key has a policy"),
            Self::Template(what) => write!(f, "the join key's {what}"),
            Self::Key(error) => write!(f, "the join key: {error}"),
            Self::Name(error) => write!(f, "the join key: {error}"),
        }
    }
}

impl std::error::Error for JoinKeyError {}
