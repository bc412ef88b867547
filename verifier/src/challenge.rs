//! A challenge that only the TPM with both the endorsement key and the join key can answer: TPM 2.0 Part 1, Credential
//! Protection.

use std::fmt;

use tpm2::crypto::{
    CredentialError, HashAlg, Label, NoRandomness, Shared, SharingError, kdfa, make_credential_by,
    random, share_secret_by_ecdh, share_secret_with,
};
use tpm2::types::{
    Alg, AsymScheme, BlockCipher, Curve as TpmCurve, Digest, EccParameter, EccPoint, EccPublic, Id,
    KdfScheme, NameBuf, ObjectAttributes, Public, PublicKeyRsa, RsaPublic, SecretBuf, SymDefObject,
};
use tpm2::wire::TooLarge;
use zeroize::Zeroizing;

use crate::key::{Curve, EccKey, EkPublicKey, RsaKey};

/// Length of the secret, in bytes: the key length of HMAC-SHA256.
const SECRET: usize = 32;

/// Length of what all randomness of a challenge is derived from, in bytes.
pub(crate) const ORIGIN: usize = 32;

/// A credential for one join key in one TPM, and the secret in it.
#[derive(Debug)]
pub struct Challenge {
    blob: Vec<u8>,
    encrypted_seed: Vec<u8>,
    secret: SecretBuf,
    origin: SecretBuf,
}

impl Challenge {
    /// Makes a credential with a fresh secret for the object of this Name in the TPM of that key.
    pub(crate) fn new(
        ek: &EkPublicKey,
        name_alg: Alg,
        object: &NameBuf,
    ) -> Result<Self, ChallengeError> {
        let mut origin = SecretBuf::zeroed(ORIGIN).ok_or(ChallengeError::UnknownProfile)?;
        random(origin.expose_mut()).map_err(|_| ChallengeError::NoRandomness)?;
        Self::of_origin(ek, name_alg, object, origin)
    }

    /// Makes the credential whose randomness is derived from `origin`.
    pub(crate) fn of_origin(
        ek: &EkPublicKey,
        name_alg: Alg,
        object: &NameBuf,
        origin: SecretBuf,
    ) -> Result<Self, ChallengeError> {
        let mut stream = Derived { origin: origin.clone(), blocks: 0 };
        Self::with(ek, name_alg, object, origin, &mut |bytes| stream.fill(bytes))
    }

    pub(crate) fn with(
        ek: &EkPublicKey,
        name_alg: Alg,
        object: &NameBuf,
        origin: SecretBuf,
        random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
    ) -> Result<Self, ChallengeError> {
        let public = endorsement_key(ek, name_alg)?;
        let mut secret = SecretBuf::zeroed(SECRET).ok_or(ChallengeError::UnknownProfile)?;
        random(secret.expose_mut()).map_err(|_| ChallengeError::NoRandomness)?;
        let shared = match ek {
            EkPublicKey::Ecc(key) if key.curve() == Curve::P256 => {
                share_on_p256(key, &public, random)
            }
            _ => share_secret_with(&public, Label::Identity, random),
        };
        let shared = shared.map_err(|cause| ChallengeError::Credential(cause.into()))?;
        let credential = make_credential_by(&public, object, secret.expose(), &shared)
            .map_err(ChallengeError::Credential)?;
        Ok(Self {
            blob: credential.blob().octets().to_vec(),
            encrypted_seed: credential.secret().octets().to_vec(),
            secret,
            origin,
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

    /// What the secret and all other randomness of the credential were derived from, 32 bytes. Whoever has it can make the
    /// credential again ([`crate::Appraisal::challenge_again`]), so it must stay secret until the challenge can no longer be
    /// answered.
    #[must_use]
    pub fn origin(&self) -> &SecretBuf {
        &self.origin
    }
}

/// Bytes derived from an origin: block n, of 32 bytes, is KDFa with SHA-256, the origin as the key, the label `CHALLENGE` and n,
/// four bytes big-endian, as contextU; each use begins with a new block.
pub(crate) struct Derived {
    pub(crate) origin: SecretBuf,
    pub(crate) blocks: u32,
}

impl Derived {
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), NoRandomness> {
        for chunk in bytes.chunks_mut(ORIGIN) {
            let number = self.blocks.to_be_bytes();
            let key = [self.origin.expose()];
            let block = kdfa(HashAlg::Sha256, &key, b"CHALLENGE", &number, &[], 256);
            let block = block.map_err(|_| NoRandomness)?;
            chunk.iter_mut().zip(block.expose()).for_each(|(byte, derived)| *byte = *derived);
            self.blocks = self.blocks.checked_add(1).ok_or(NoRandomness)?;
        }
        Ok(())
    }
}

/// [`share_secret_with`] for a key on P-256, which most chips have, by who computes that curve fastest here.
fn share_on_p256(
    key: &EccKey,
    public: &Public<'_>,
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<Shared, SharingError> {
    let mut scalar = Zeroizing::new([0; 32]);
    // All but one scalar in 2^32 is below the order of the curve.
    for _ in 0..4 {
        random(&mut *scalar)?;
        if let Some(ephemeral) = ecc::P256Ephemeral::from_scalar(&scalar) {
            let point = ephemeral.point();
            let z = ephemeral.agree(key.sec1()).ok_or(SharingError::Key)?;
            let (x, y) = point[1..].split_at(32);
            let coordinate = |octets| EccParameter::new(octets).map_err(|_| SharingError::Key);
            let point = EccPoint { x: coordinate(x)?, y: coordinate(y)? };
            return share_secret_by_ecdh(public, Label::Identity, &point, &*z);
        }
    }
    Err(SharingError::NoRandomness)
}

/// The name algorithm of an endorsement key: what the host says, if the TCG EK Credential Profile
/// has a template of that key with it. Editions of the profile differ in RSA 4096. 0 says nothing.
/// With a wrong value no TPM can open the credential.
pub(crate) fn name_alg(ek: &EkPublicKey, said: u32) -> Option<Alg> {
    let possible: &[Alg] = match ek {
        EkPublicKey::Rsa(key) if key.bits() == 2048 => &[Alg::SHA256],
        EkPublicKey::Rsa(key) if key.bits() == 4096 => &[Alg::SHA384, Alg::SHA512],
        EkPublicKey::Rsa(_) => &[Alg::SHA384],
        EkPublicKey::Ecc(key) => match key.curve() {
            Curve::P256 => &[Alg::SHA256],
            Curve::P384 => &[Alg::SHA384],
            Curve::P521 => &[Alg::SHA512],
        },
    };
    possible.iter().copied().find(|alg| said == 0 || u32::from(alg.0) == said)
}

/// The public area of an endorsement key as far as it enters the mathematics: TCG EK Credential
/// Profile, templates L-1, L-2 and H-1 to H-7.
fn endorsement_key(ek: &EkPublicKey, name_alg: Alg) -> Result<Public<'_>, ChallengeError> {
    let key_bits = if name_alg == Alg::SHA256 { 128 } else { 256 };
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
        Curve::P521 => TpmCurve::NIST_P521,
    };
    let unique = EccPoint { x: EccParameter::new(key.x())?, y: EccParameter::new(key.y())? };
    let (scheme, kdf) = (AsymScheme::Null, KdfScheme::Null);
    Ok(Id::Ecc(EccPublic { symmetric, scheme, curve, kdf, unique }))
}

/// Why no challenge was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChallengeError {
    /// An endorsement key of a size that no profile describes.
    UnknownProfile,
    /// The operating system provides no randomness.
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
