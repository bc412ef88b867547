//! A signing key that its TPM created and never gives away, as far as its public area can say so.
//!
//! Activation of a credential proves that the TPM has loaded an object with exactly this public
//! area, and nothing else. Software keys can be loaded too, but not with these attributes: a TPM
//! refuses fixedTPM to whatever it did not make itself. So the attributes are compared bit by bit.

use std::fmt;

use p256::ecdsa::VerifyingKey;
use tpm2::crypto::{NameError, object_name};
use tpm2::types::{
    Alg, AsymScheme, Curve as TpmCurve, Digest, EccParameter, EccPoint, EccPublic, Id, KdfScheme,
    NameBuf, ObjectAttributes, Public, SymDefObject,
};
use tpm2::wire::{Malformed, Unmarshal};

use crate::error::KeyError;
use crate::key::{Curve, EccKey};
use crate::signature;

/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, noDA, sign; every other bit is clear: a signing key that its TPM
/// made and never gives away, free to sign what TLS asks for, and outside the dictionary-attack logic, so that a lockout does
/// not cut the host off. Part 2 §8.3, `TPMA_OBJECT`.
pub(crate) const ATTRIBUTES: ObjectAttributes = ObjectAttributes(0x0004_0472);

/// A key of one of this crate's templates: P-256, [`ATTRIBUTES`], no policy, and the scheme of the template.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ResidentKey {
    pub(crate) name: NameBuf,
    pub(crate) key: EccKey,
    pub(crate) verifying_key: VerifyingKey,
}

/// The template with this scheme and this unique field.
pub(crate) const fn template<'u>(scheme: AsymScheme, unique: EccPoint<'u>) -> Public<'u> {
    let (symmetric, curve, kdf) = (SymDefObject::Null, TpmCurve::NIST_P256, KdfScheme::Null);
    Public {
        name_alg: Alg::SHA256,
        attributes: ATTRIBUTES,
        auth_policy: Digest::EMPTY,
        id: Id::Ecc(EccPublic { symmetric, scheme, curve, kdf, unique }),
    }
}

impl ResidentKey {
    /// Appraises a TPMT_PUBLIC, nothing before it and nothing after.
    pub(crate) fn appraise(public: &[u8], scheme: AsymScheme) -> Result<Self, KeyTemplateError> {
        let public = Public::from_bytes(public).map_err(KeyTemplateError::Malformed)?;
        if public.attributes != ATTRIBUTES {
            return Err(KeyTemplateError::Attributes(public.attributes));
        }
        if !matches!(public.name_alg, Alg::SHA256 | Alg::SHA384 | Alg::SHA512) {
            return Err(KeyTemplateError::NameAlgorithm(public.name_alg));
        }
        if !public.auth_policy.octets().is_empty() {
            return Err(KeyTemplateError::Policy);
        }
        let key = signing_key(&public, scheme)?;
        let name = object_name(&public).map_err(KeyTemplateError::Name)?;
        let verifying_key = VerifyingKey::from_sec1_bytes(key.sec1())
            .map_err(|_| KeyTemplateError::Key(KeyError::PointOffCurve))?;
        Ok(Self { name, key, verifying_key })
    }
}

/// The template below the attributes: no cipher, this scheme, P-256, no key derivation.
fn signing_key(public: &Public<'_>, expected: AsymScheme) -> Result<EccKey, KeyTemplateError> {
    let Id::Ecc(ecc) = public.id else {
        return Err(KeyTemplateError::Template("type is not ECC"));
    };
    let EccPublic { symmetric, scheme, curve, kdf, unique } = ecc;
    if symmetric != SymDefObject::Null {
        return Err(KeyTemplateError::Template("symmetric is not null"));
    }
    if scheme != expected {
        return Err(KeyTemplateError::Template(match expected {
            AsymScheme::Null => "scheme is not null",
            _ => "scheme is not ECDSA with SHA-256",
        }));
    }
    if curve != TpmCurve::NIST_P256 {
        return Err(KeyTemplateError::Template("curve is not P-256"));
    }
    if kdf != KdfScheme::Null {
        return Err(KeyTemplateError::Template("kdf is not null"));
    }
    EccKey::new(Curve::P256, &padded(unique.x)?, &padded(unique.y)?).map_err(KeyTemplateError::Key)
}

/// A coordinate at the size of the field. TPMs may leave leading zeros out, and never add any.
fn padded(coordinate: EccParameter<'_>) -> Result<[u8; 32], KeyTemplateError> {
    signature::padded(coordinate.octets()).ok_or(KeyTemplateError::Key(KeyError::PointForm))
}

/// Why a public area is not of a key made from its template.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyTemplateError {
    /// Not a TPMT_PUBLIC, or more than one.
    Malformed(Malformed),
    /// Other attributes than those of the template.
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

/// The stable codes of refusals of one kind of key.
pub(crate) struct Codes {
    pub(crate) malformed: &'static str,
    pub(crate) attributes: &'static str,
    pub(crate) name_algorithm: &'static str,
    pub(crate) policy: &'static str,
    pub(crate) template: &'static str,
}

impl KeyTemplateError {
    /// Which of these codes it has.
    pub(crate) const fn code(&self, codes: &Codes) -> &'static str {
        match self {
            Self::Malformed(_) | Self::Key(_) | Self::Name(_) => codes.malformed,
            Self::Attributes(_) => codes.attributes,
            Self::NameAlgorithm(_) => codes.name_algorithm,
            Self::Policy => codes.policy,
            Self::Template(_) => codes.template,
        }
    }
}

impl fmt::Display for KeyTemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "the public area: {error}"),
            Self::Attributes(attributes) => {
                write!(f, "it has attributes {attributes:?} instead of {ATTRIBUTES:?}")
            }
            Self::NameAlgorithm(alg) => {
                write!(f, "its name algorithm {alg:?} is not SHA-256 or stronger")
            }
            Self::Policy => f.write_str("it has a policy"),
            Self::Template(what) => write!(f, "its {what}"),
            Self::Key(error) => error.fmt(f),
            Self::Name(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for KeyTemplateError {}
