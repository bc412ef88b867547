//! The key that signs what a TPM attests. TPM 2.0 Part 1, Attestation.
//!
//! A restricted signing key signs nothing that begins as attestations do unless the TPM made it, so
//! its signature is the TPM's word; but that the key is in a TPM, and in which, its public area
//! does not say. Activation of a credential for [its Name](AttestationKey::name) does.

use std::fmt;

use tpm2::crypto::{HashAlg, NameError, object_name, qualified_name};
use tpm2::types::{
    Alg, AsymScheme, Curve as TpmCurve, EccPublic, Id, KdfScheme, NameBuf, ObjectAttributes,
    Public, RsaPublic, Signature, SymDefObject,
};
use tpm2::wire::{Malformed, Unmarshal};

use crate::error::KeyError;
use crate::key::{Curve, EccKey, PublicKey, RsaKey};
use crate::signature::{self, Hash, SignatureWrong};

/// What the attributes of an attestation key must have.
const REQUIRED: ObjectAttributes = ObjectAttributes::FIXED_TPM
    .with(ObjectAttributes::FIXED_PARENT)
    .with(ObjectAttributes::SENSITIVE_DATA_ORIGIN)
    .with(ObjectAttributes::RESTRICTED)
    .with(ObjectAttributes::SIGN);

/// Optional attributes, which only concern who may use the key.
const ALLOWED: ObjectAttributes = ObjectAttributes::ST_CLEAR
    .with(ObjectAttributes::USER_WITH_AUTH)
    .with(ObjectAttributes::ADMIN_WITH_POLICY)
    .with(ObjectAttributes::NO_DA);

/// A public area that is as it must be: a restricted signing key of this TPM alone, with a scheme
/// of its own and SHA-256 or stronger.
#[derive(Clone, PartialEq, Eq)]
pub struct AttestationKey {
    name: NameBuf,
    qualified_name: Option<NameBuf>,
    key: Key,
    hash: HashAlg,
}

#[derive(Clone, PartialEq, Eq)]
enum Key {
    Rsassa(RsaKey),
    Rsapss(RsaKey),
    Ecdsa(EccKey),
}

impl AttestationKey {
    /// Appraises a TPMT_PUBLIC, nothing before it and nothing after.
    pub fn appraise(public: &[u8]) -> Result<Self, AttestationKeyError> {
        let public = Public::from_bytes(public).map_err(AttestationKeyError::Malformed)?;
        let attributes = public.attributes;
        if !attributes.contains(REQUIRED)
            || attributes.without(REQUIRED).without(ALLOWED) != ObjectAttributes::NONE
        {
            return Err(AttestationKeyError::Attributes(attributes));
        }
        if !matches!(public.name_alg, Alg::SHA256 | Alg::SHA384 | Alg::SHA512) {
            return Err(AttestationKeyError::NameAlgorithm(public.name_alg));
        }
        let (key, scheme_hash) = match &public.id {
            Id::Rsa(rsa) => rsa_key(rsa)?,
            Id::Ecc(ecc) => ecc_key(ecc)?,
            _ => return Err(AttestationKeyError::Template("type is neither RSA nor ECC")),
        };
        let hash = match HashAlg::try_from(scheme_hash) {
            Ok(hash @ (HashAlg::Sha256 | HashAlg::Sha384 | HashAlg::Sha512)) => hash,
            _ => return Err(AttestationKeyError::SchemeHash(scheme_hash)),
        };
        let name = object_name(&public).map_err(AttestationKeyError::Name)?;
        Ok(Self { name, qualified_name: None, key, hash })
    }

    /// The same key, if it is under the parent with this qualified Name, which is the handle of a
    /// hierarchy for a primary key: what another key of the same public area signed is refused.
    pub fn under(self, parent: &NameBuf) -> Result<Self, AttestationKeyError> {
        let qualified_name =
            qualified_name(parent, &self.name).map_err(AttestationKeyError::Name)?;
        Ok(Self { qualified_name: Some(qualified_name), ..self })
    }

    /// Its Name, computed here.
    #[must_use]
    pub fn name(&self) -> &NameBuf {
        &self.name
    }

    /// The hash of its signatures.
    #[must_use]
    pub fn hash(&self) -> HashAlg {
        self.hash
    }

    /// Whether its scheme is RSAPSS.
    pub(crate) fn is_pss(&self) -> bool {
        matches!(self.key, Key::Rsapss(_))
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        match &self.key {
            Key::Rsassa(key) | Key::Rsapss(key) => PublicKey::Rsa(key.clone()),
            Key::Ecdsa(key) => PublicKey::Ecc(key.clone()),
        }
    }

    pub(crate) fn is_qualified_as(&self, signer: &[u8]) -> bool {
        self.qualified_name.as_ref().is_none_or(|expected| expected.octets() == signer)
    }

    /// Checks its TPMT_SIGNATURE over a message: of its own scheme and hash, and no other.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureWrong> {
        let signature = Signature::from_bytes(signature).map_err(|_| SignatureWrong)?;
        let (hash, alg) = (hash(self.hash).ok_or(SignatureWrong)?, self.hash.alg());
        match (&self.key, signature) {
            (Key::Rsassa(key), Signature::Rsassa(made)) if made.hash == alg => {
                signature::verify_rsa(key, hash, message, made.signature.octets())
            }
            (Key::Rsapss(key), Signature::Rsapss(made)) if made.hash == alg => {
                signature::verify_rsa_pss(key, hash, message, made.signature.octets())
            }
            (Key::Ecdsa(key), Signature::Ecdsa(made)) if made.hash == alg => {
                let (r, s) = (made.r.octets(), made.s.octets());
                signature::verify_scalars(key, hash, message, r, s)
            }
            _ => Err(SignatureWrong),
        }
    }
}

impl fmt::Debug for AttestationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AttestationKey({})", self.name)
    }
}

fn rsa_key(rsa: &RsaPublic<'_>) -> Result<(Key, Alg), AttestationKeyError> {
    if rsa.symmetric != SymDefObject::Null {
        return Err(AttestationKeyError::Template("symmetric is not null"));
    }
    let exponent = if rsa.exponent == 0 { 65537 } else { rsa.exponent };
    let key = RsaKey::new(rsa.unique.octets(), exponent).map_err(AttestationKeyError::Key)?;
    if key.bits() != usize::from(rsa.key_bits) {
        return Err(AttestationKeyError::Template("modulus does not have the size of keyBits"));
    }
    match rsa.scheme {
        AsymScheme::Rsassa(scheme) => Ok((Key::Rsassa(key), scheme.hash)),
        AsymScheme::Rsapss(scheme) => Ok((Key::Rsapss(key), scheme.hash)),
        _ => Err(AttestationKeyError::Template("scheme is neither RSASSA nor RSAPSS")),
    }
}

fn ecc_key(ecc: &EccPublic<'_>) -> Result<(Key, Alg), AttestationKeyError> {
    if ecc.symmetric != SymDefObject::Null || ecc.kdf != KdfScheme::Null {
        return Err(AttestationKeyError::Template("symmetric or kdf is not null"));
    }
    let AsymScheme::Ecdsa(scheme) = ecc.scheme else {
        return Err(AttestationKeyError::Template("scheme is not ECDSA"));
    };
    let (x, y) = (ecc.unique.x.octets(), ecc.unique.y.octets());
    let form = || AttestationKeyError::Key(KeyError::PointForm);
    let padded = |coordinate| signature::padded::<32>(coordinate).ok_or_else(form);
    let padded_48 = |coordinate| signature::padded::<48>(coordinate).ok_or_else(form);
    let key = match ecc.curve {
        TpmCurve::NIST_P256 => EccKey::new(Curve::P256, &padded(x)?, &padded(y)?),
        TpmCurve::NIST_P384 => EccKey::new(Curve::P384, &padded_48(x)?, &padded_48(y)?),
        _ => return Err(AttestationKeyError::Template("curve is neither P-256 nor P-384")),
    };
    Ok((Key::Ecdsa(key.map_err(AttestationKeyError::Key)?), scheme.hash))
}

fn hash(alg: HashAlg) -> Option<Hash> {
    Some(match alg {
        HashAlg::Sha1 => Hash::Sha1,
        HashAlg::Sha256 => Hash::Sha256,
        HashAlg::Sha384 => Hash::Sha384,
        HashAlg::Sha512 => Hash::Sha512,
        _ => return None,
    })
}

/// Why a public area is not an attestation key's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttestationKeyError {
    /// Not a TPMT_PUBLIC, or more than one.
    Malformed(Malformed),
    /// Not a restricted signing key that a TPM made and keeps, or one that does more than sign.
    Attributes(ObjectAttributes),
    /// A name algorithm that is weaker than SHA-256, or none.
    NameAlgorithm(Alg),
    /// A signature's hash that is weaker than SHA-256, or none.
    SchemeHash(Alg),
    /// Another part of the template.
    Template(&'static str),
    /// A key that is weak or none.
    Key(KeyError),
    /// A public area without a Name.
    Name(NameError),
}

impl fmt::Display for AttestationKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "the attestation key's public area: {error}"),
            Self::Attributes(attributes) => write!(
                f,
                "the attestation key has attributes {attributes:?} instead of {REQUIRED:?}"
            ),
            Self::NameAlgorithm(alg) => {
                write!(f, "the attestation key's name algorithm {alg:?} is not SHA-256 or stronger")
            }
            Self::SchemeHash(alg) => {
                write!(f, "the attestation key signs with {alg:?}, not with SHA-256 or stronger")
            }
            Self::Template(what) => write!(f, "the attestation key's {what}"),
            Self::Key(error) => write!(f, "the attestation key: {error}"),
            Self::Name(error) => write!(f, "the attestation key: {error}"),
        }
    }
}

impl std::error::Error for AttestationKeyError {}
