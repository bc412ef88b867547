//! What only the TPM that holds both the endorsement key and the join key can answer.
//! TPM 2.0 Part 1, Credential Protection.

use std::fmt;

use tpm2::crypto::{CredentialError, NoRandomness, make_credential_with, random};
use tpm2::types::{
    Alg, AsymScheme, BlockCipher, Curve as TpmCurve, Digest, EccParameter, EccPoint, EccPublic, Id,
    KdfScheme, NameBuf, ObjectAttributes, Public, PublicKeyRsa, RsaPublic, SecretBuf, SymDefObject,
};
use tpm2::wire::TooLarge;

use crate::key::{Curve, EccKey, EkPublicKey, RsaKey};

/// The secret is as long as this: HMAC-SHA256 wants no more.
const SECRET: usize = 32;

/// A credential for one join key in one TPM, and the secret in it.
#[derive(Debug)]
pub struct Challenge {
    blob: Vec<u8>,
    encrypted_seed: Vec<u8>,
    secret: SecretBuf,
}

impl Challenge {
    /// Makes a credential with a fresh secret for the object of this Name in the TPM of that key.
    pub(crate) fn new(ek: &EkPublicKey, object: &NameBuf) -> Result<Self, ChallengeError> {
        Self::with(ek, object, &mut random)
    }

    pub(crate) fn with(
        ek: &EkPublicKey,
        object: &NameBuf,
        random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
    ) -> Result<Self, ChallengeError> {
        let public = endorsement_key(ek)?;
        let mut secret = SecretBuf::zeroed(SECRET).ok_or(ChallengeError::UnknownProfile)?;
        random(secret.expose_mut()).map_err(|_| ChallengeError::NoRandomness)?;
        let credential = make_credential_with(&public, object, secret.expose(), random)
            .map_err(ChallengeError::Credential)?;
        Ok(Self {
            blob: credential.blob().octets().to_vec(),
            encrypted_seed: credential.secret().octets().to_vec(),
            secret,
        })
    }

    /// TPMS_ID_OBJECT: the content of TPM2_ActivateCredential's credentialBlob.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The content of TPM2_ActivateCredential's secret.
    #[must_use]
    pub fn encrypted_seed(&self) -> &[u8] {
        &self.encrypted_seed
    }

    /// What the TPM will answer. Never sent, never shown, wiped when dropped.
    #[must_use]
    pub fn secret(&self) -> &SecretBuf {
        &self.secret
    }
}

/// The public area of an endorsement key as far as it enters the mathematics: TCG EK Credential
/// Profile, templates L-1, L-2 and H-1 to H-7. A wrong guess makes a credential that no TPM opens.
fn endorsement_key(ek: &EkPublicKey) -> Result<Public<'_>, ChallengeError> {
    let (name_alg, key_bits) = match ek {
        EkPublicKey::Rsa(key) if key.bits() == 2048 => (Alg::SHA256, 128),
        EkPublicKey::Rsa(_) => (Alg::SHA384, 256),
        EkPublicKey::Ecc(key) => match key.curve() {
            Curve::P256 => (Alg::SHA256, 128),
            Curve::P384 => (Alg::SHA384, 256),
        },
    };
    let symmetric = SymDefObject::Aes(BlockCipher { key_bits, mode: Alg::CFB });
    let id = match ek {
        EkPublicKey::Rsa(key) => rsa(key, symmetric),
        EkPublicKey::Ecc(key) => ecc(key, symmetric),
    };
    let attributes = ObjectAttributes::RESTRICTED.with(ObjectAttributes::DECRYPT);
    let id = id.map_err(|_| ChallengeError::UnknownProfile)?;
    Ok(Public { name_alg, attributes, auth_policy: Digest::EMPTY, id })
}

fn rsa(key: &RsaKey, symmetric: SymDefObject) -> Result<Id<'_>, TooLarge> {
    Ok(Id::Rsa(RsaPublic {
        symmetric,
        scheme: AsymScheme::Null,
        key_bits: u16::try_from(key.bits()).map_err(|_| TooLarge)?,
        exponent: key.exponent(),
        unique: PublicKeyRsa::new(key.modulus())?,
    }))
}

fn ecc(key: &EccKey, symmetric: SymDefObject) -> Result<Id<'_>, TooLarge> {
    let curve = match key.curve() {
        Curve::P256 => TpmCurve::NIST_P256,
        Curve::P384 => TpmCurve::NIST_P384,
    };
    let unique = EccPoint { x: EccParameter::new(key.x())?, y: EccParameter::new(key.y())? };
    let (scheme, kdf) = (AsymScheme::Null, KdfScheme::Null);
    Ok(Id::Ecc(EccPublic { symmetric, scheme, curve, kdf, unique }))
}

/// Why there is no challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChallengeError {
    /// An endorsement key of a size that no profile describes.
    UnknownProfile,
    /// The operating system gave no randomness.
    NoRandomness,
    /// The credential cannot be made.
    Credential(CredentialError),
}

impl fmt::Display for ChallengeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownProfile => f.write_str("no EK profile describes a key of this size"),
            Self::NoRandomness => NoRandomness.fmt(f),
            Self::Credential(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ChallengeError {}
