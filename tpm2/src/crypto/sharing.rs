//! Secret sharing: how a caller and a TPM come to share a seed or a salt through a key of the TPM. Part 1 annexes B.10
//! and C.6.

#[cfg(feature = "rsa")]
mod oaep;

use core::fmt;

use elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use elliptic_curve::{AffinePoint, CurveArithmetic, FieldBytesSize, PublicKey, SecretKey};

#[cfg(feature = "getrandom")]
use super::random;
use super::{HashAlg, NoRandomness, kdfe};
use crate::types::{
    Alg, AsymScheme, Curve, EccParameter, EccPoint, EccPublic, EncryptedSecret, Id, Owned, Public,
    SecretBuf,
};
use crate::wire::Writer;

/// What the shared secret is for; it enters the mathematics, so that one cannot serve for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    /// The seed of a credential. Part 1 §24.
    Identity,
    /// The salt of a session. Part 1 §19.6.8.
    Secret,
    /// The seed of a duplicated object. Part 1 §23.
    Duplicate,
}

impl Label {
    const fn octets(self) -> &'static [u8] {
        match self {
            Self::Identity => b"IDENTITY",
            Self::Secret => b"SECRET",
            Self::Duplicate => b"DUPLICATE",
        }
    }
}

/// A secret, and the form in which only the TPM with the key can recover it.
#[derive(Debug)]
pub struct Shared {
    /// The seed or salt.
    pub secret: SecretBuf,
    encrypted: Owned<512>,
}

impl Shared {
    /// What to send to the TPM.
    ///
    /// # Panics
    /// Never: the ciphertext of an RSA key of 4096 bits fits.
    #[must_use]
    pub fn encrypted(&self) -> EncryptedSecret<'_> {
        EncryptedSecret::new(self.encrypted.octets()).expect("512 octets fit")
    }
}

/// Why no secret can be shared through a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SharingError {
    /// Not a key that secrets can be shared through: neither RSA nor a curve that this crate computes.
    KeyType,
    /// A name algorithm that this crate does not compute.
    NameAlg(Alg),
    /// An RSA key for another scheme than OAEP, or for OAEP with a hash that this crate does not compute.
    Scheme(AsymScheme),
    /// Not a valid key: no RSA modulus, or no point on the curve.
    Key,
    /// A key that secrets can be shared through, for which this crate was built without the feature of this name.
    Feature(&'static str),
    /// There is no randomness.
    NoRandomness,
}

impl fmt::Display for SharingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KeyType => f.write_str("secrets cannot be shared through a key of this type"),
            Self::NameAlg(alg) => write!(f, "the key's name algorithm {alg:?} is not supported"),
            Self::Scheme(scheme) => {
                write!(f, "the key's scheme {scheme:?} is not one by which secrets can be shared")
            }
            Self::Key => f.write_str("the key is not a valid public key"),
            Self::Feature(feature) => {
                write!(f, "keys of this type need the feature {feature} of the crate tpm2")
            }
            Self::NoRandomness => NoRandomness.fmt(f),
        }
    }
}

impl core::error::Error for SharingError {}

impl From<NoRandomness> for SharingError {
    fn from(_: NoRandomness) -> Self {
        Self::NoRandomness
    }
}

/// Makes a fresh secret for the TPM that holds `key`, as long as a digest of the key's name algorithm, or of the hash of
/// its own OAEP scheme.
///
/// # Errors
/// See [`SharingError`].
#[cfg(feature = "getrandom")]
pub fn share_secret(key: &Public<'_>, label: Label) -> Result<Shared, SharingError> {
    share_secret_with(key, label, &mut random)
}

/// Makes a fresh secret for the TPM that holds `key` from bytes that `random` fills in and an attacker cannot predict: for an RSA key the
/// secret, then the seed of OAEP; for an ECC key the ephemeral private key. It is as long as a digest of the key's name
/// algorithm, or of the hash of its own OAEP scheme.
///
/// # Errors
/// See [`SharingError`].
pub fn share_secret_with(
    key: &Public<'_>,
    label: Label,
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<Shared, SharingError> {
    match key.id {
        #[cfg(feature = "rsa")]
        Id::Rsa(rsa) => oaep::share(&rsa, name_hash(key)?, label, random),
        #[cfg(not(feature = "rsa"))]
        Id::Rsa(_) => Err(SharingError::Feature("rsa")),
        Id::Ecc(ecc) => match ecc.curve {
            Curve::NIST_P256 => by_ecc::<p256::NistP256>(key, &ecc, label, random),
            #[cfg(feature = "p384")]
            Curve::NIST_P384 => by_ecc::<p384::NistP384>(key, &ecc, label, random),
            #[cfg(not(feature = "p384"))]
            Curve::NIST_P384 => Err(SharingError::Feature("p384")),
            #[cfg(feature = "p521")]
            Curve::NIST_P521 => by_ecc::<p521::NistP521>(key, &ecc, label, random),
            #[cfg(not(feature = "p521"))]
            Curve::NIST_P521 => Err(SharingError::Feature("p521")),
            _ => Err(SharingError::KeyType),
        },
        _ => Err(SharingError::KeyType),
    }
}

/// The secret that follows from an ECDH with the key of a TPM that was computed elsewhere: `point` is the ephemeral public key, and
/// `z` the x-coordinate on which both sides agree, both at the size of the curve's field. Part 1 annex C.6.1.
///
/// The ephemeral private key has to be fresh and unpredictable, and must not be used again.
///
/// # Errors
/// See [`SharingError`]; [`SharingError::Key`] also if a coordinate has another size.
pub fn share_secret_by_ecdh(
    key: &Public<'_>,
    label: Label,
    point: &EccPoint<'_>,
    z: &[u8],
) -> Result<Shared, SharingError> {
    let hash = name_hash(key)?;
    let Id::Ecc(ecc) = key.id else { return Err(SharingError::KeyType) };
    let field = ecc.curve.field_len().ok_or(SharingError::KeyType)?;
    if [point.x.octets(), point.y.octets(), z].iter().any(|number| number.len() != field) {
        return Err(SharingError::Key);
    }
    let x = padded(ecc.unique.x, field).ok_or(SharingError::Key)?;
    let secret = kdfe(hash, z, label.octets(), point.x.octets(), x.octets(), hash.bits())
        .map_err(|_| SharingError::KeyType)?;
    let mut octets = [0; 512];
    let mut writer = Writer::new(&mut octets);
    writer.write(point).map_err(|_| SharingError::Key)?;
    let encrypted = Owned::new(writer.into_written()).ok_or(SharingError::Key)?;
    Ok(Shared { secret, encrypted })
}

fn name_hash(key: &Public<'_>) -> Result<HashAlg, SharingError> {
    HashAlg::try_from(key.name_alg).map_err(|_| SharingError::NameAlg(key.name_alg))
}

/// One-pass ECDH with an ephemeral key on the key's curve.
fn by_ecc<C>(
    key: &Public<'_>,
    ecc: &EccPublic<'_>,
    label: Label,
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<Shared, SharingError>
where
    C: CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    let field = ecc.curve.field_len().ok_or(SharingError::KeyType)?;
    let x = padded(ecc.unique.x, field).ok_or(SharingError::Key)?;
    let y = padded(ecc.unique.y, field).ok_or(SharingError::Key)?;
    let point = Owned::<133>::concat(&[&[4], x.octets(), y.octets()]).ok_or(SharingError::Key)?;
    let public = PublicKey::<C>::from_sec1_bytes(point.octets()).map_err(|_| SharingError::Key)?;

    let ephemeral = scalar::<C>(field, random)?;
    let z = elliptic_curve::ecdh::diffie_hellman::<C>(
        ephemeral.to_nonzero_scalar(),
        *public.as_affine(),
    );
    let ours = ephemeral.public_key().to_sec1_point(false);
    let (ours_x, ours_y) = (ours.x().ok_or(SharingError::Key)?, ours.y().ok_or(SharingError::Key)?);
    let fits = |x| EccParameter::new(x).map_err(|_| SharingError::Key);
    let ours = EccPoint { x: fits(ours_x)?, y: fits(ours_y)? };
    share_secret_by_ecdh(key, label, &ours, z.raw_secret_bytes())
}

/// Octets of a coordinate on P-521, whose scalars have 521 bits and not 528.
const P521_FIELD: usize = 66;

/// A scalar of the curve by rejection; the chance of a second draw is below 2⁻³², of a fourth none.
fn scalar<C: CurveArithmetic>(
    len: usize,
    random: &mut dyn FnMut(&mut [u8]) -> Result<(), NoRandomness>,
) -> Result<SecretKey<C>, SharingError> {
    for _ in 0..4 {
        let mut octets = zeroize::Zeroizing::new([0; P521_FIELD]);
        let octets = octets.get_mut(..len).ok_or(SharingError::KeyType)?;
        random(octets)?;
        if let ([first, ..], P521_FIELD) = (&mut *octets, len) {
            *first &= 0x01;
        }
        if let Ok(scalar) = SecretKey::from_slice(octets) {
            return Ok(scalar);
        }
    }
    Err(SharingError::NoRandomness)
}

/// A coordinate at the size of the field: TPMs may leave leading zeros out.
fn padded(coordinate: EccParameter<'_>, field: usize) -> Option<Owned<66>> {
    let missing = field.checked_sub(coordinate.octets().len())?;
    Owned::concat(&[Owned::<66>::zeroed(missing)?.octets(), coordinate.octets()])
}
