//! Verifies signatures on certificates: RFC 8017 §8.2 and FIPS 186-5 §6.

use std::fmt;

use rsa::{Pkcs1v15Sign, Pss, RsaPublicKey};
use sha1::Sha1;
use sha2::digest::FixedOutputReset;
use sha2::{Digest, Sha256, Sha384, Sha512};
use signature::hazmat::PrehashVerifier;

use crate::der::{self, Element, Reader, tag};
use crate::key::{Curve, EccKey, PublicKey, RsaKey};
use crate::oid;

/// The hash in a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Broken since 2017; old Infineon and ST chips have it.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    pub(crate) fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(message).to_vec(),
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }

    fn pkcs1(self) -> Pkcs1v15Sign {
        match self {
            Self::Sha1 => Pkcs1v15Sign::new::<Sha1>(),
            Self::Sha256 => Pkcs1v15Sign::new::<Sha256>(),
            Self::Sha384 => Pkcs1v15Sign::new::<Sha384>(),
            Self::Sha512 => Pkcs1v15Sign::new::<Sha512>(),
        }
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// How a certificate is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignatureAlgorithm {
    /// RSASSA-PKCS1-v1_5.
    RsaPkcs1(Hash),
    /// ECDSA; the curve is the issuer's.
    Ecdsa(Hash),
    /// Something else, by its object identifier.
    Other(String),
}

impl SignatureAlgorithm {
    /// Whether a key of this kind makes signatures of this algorithm.
    pub(crate) fn is_made_by(&self, key: &PublicKey) -> bool {
        matches!(
            (self, key),
            (Self::RsaPkcs1(_), PublicKey::Rsa(_)) | (Self::Ecdsa(_), PublicKey::Ecc(_))
        )
    }

    /// RFC 3279 §2.2, RFC 4055 §5, RFC 5758 §3. RSA has NULL parameters or none. ECDSA must have
    /// none, but Intel's On-Die CA root has NULL, which says nothing else.
    pub(crate) fn read(identifier: &Element<'_>) -> der::Result<Self> {
        let mut fields = identifier.reader();
        let algorithm = match fields.expect(tag::OID, "signatureAlgorithm")?.content {
            oid::SHA1_WITH_RSA => Self::RsaPkcs1(Hash::Sha1),
            oid::SHA256_WITH_RSA => Self::RsaPkcs1(Hash::Sha256),
            oid::SHA384_WITH_RSA => Self::RsaPkcs1(Hash::Sha384),
            oid::SHA512_WITH_RSA => Self::RsaPkcs1(Hash::Sha512),
            oid::ECDSA_WITH_SHA1 => Self::Ecdsa(Hash::Sha1),
            oid::ECDSA_WITH_SHA256 => Self::Ecdsa(Hash::Sha256),
            oid::ECDSA_WITH_SHA384 => Self::Ecdsa(Hash::Sha384),
            oid::ECDSA_WITH_SHA512 => Self::Ecdsa(Hash::Sha512),
            other => return Ok(Self::Other(oid::dotted(other))),
        };
        if let Some(null) = fields.optional(tag::NULL, "signatureAlgorithm parameters")? {
            null.reader().end("signatureAlgorithm parameters")?;
        }
        fields.end("signatureAlgorithm")?;
        Ok(algorithm)
    }

    /// The hash, of those that are known.
    #[must_use]
    pub fn hash(&self) -> Option<Hash> {
        match self {
            Self::RsaPkcs1(hash) | Self::Ecdsa(hash) => Some(*hash),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for SignatureAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RsaPkcs1(hash) => write!(f, "RSA with {hash}"),
            Self::Ecdsa(hash) => write!(f, "ECDSA with {hash}"),
            Self::Other(oid) => write!(f, "algorithm {oid}"),
        }
    }
}

/// The signature is not this key's over this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignatureWrong;

impl fmt::Display for SignatureWrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the signature is invalid")
    }
}

impl std::error::Error for SignatureWrong {}

/// Checks a signature by a key of the algorithm's own kind.
pub(crate) fn verify(
    key: &PublicKey,
    algorithm: &SignatureAlgorithm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureWrong> {
    match (key, algorithm) {
        (PublicKey::Rsa(key), SignatureAlgorithm::RsaPkcs1(hash)) => {
            verify_rsa(key, *hash, message, signature)
        }
        (PublicKey::Ecc(key), SignatureAlgorithm::Ecdsa(hash)) => {
            verify_ecdsa(key, *hash, message, signature)
        }
        _ => Err(SignatureWrong),
    }
}

pub(crate) fn verify_rsa(
    key: &RsaKey,
    hash: Hash,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureWrong> {
    let key = key.verifying_key().map_err(|_| SignatureWrong)?;
    key.verify(hash.pkcs1(), &hash.digest(message), signature).map_err(|_| SignatureWrong)
}

/// RSASSA-PSS with the mask's hash the same, and a salt of any length: TPMs differ in it. RFC 8017 §8.1.
pub(crate) fn verify_rsa_pss(
    key: &RsaKey,
    hash: Hash,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureWrong> {
    fn run<D: Digest + FixedOutputReset>(
        key: &RsaPublicKey,
        message: &[u8],
        signature: &[u8],
    ) -> rsa::Result<()> {
        let mut scheme = Pss::<D>::new();
        scheme.salt_len = None;
        key.verify(scheme, &D::digest(message), signature)
    }
    let key = key.verifying_key().map_err(|_| SignatureWrong)?;
    match hash {
        Hash::Sha1 => run::<Sha1>(&key, message, signature),
        Hash::Sha256 => run::<Sha256>(&key, message, signature),
        Hash::Sha384 => run::<Sha384>(&key, message, signature),
        Hash::Sha512 => run::<Sha512>(&key, message, signature),
    }
    .map_err(|_| SignatureWrong)
}

pub(crate) fn verify_ecdsa(
    key: &EccKey,
    hash: Hash,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureWrong> {
    let (r, s) = scalars(signature).ok_or(SignatureWrong)?;
    verify_scalars(key, hash, message, r, s)
}

/// Checks a signature of two numbers, big endian, from which leading zeros may be missing.
pub(crate) fn verify_scalars(
    key: &EccKey,
    hash: Hash,
    message: &[u8],
    r: &[u8],
    s: &[u8],
) -> Result<(), SignatureWrong> {
    match key.curve() {
        Curve::P256 => {
            verify_by_ecc(ecc::Curve::P256, key.sec1(), hash, message, &pair::<32>(r, s)?)
        }
        Curve::P384 => {
            verify_by_ecc(ecc::Curve::P384, key.sec1(), hash, message, &pair::<48>(r, s)?)
        }
        Curve::P521 => {
            let signature = p521::ecdsa::Signature::from_slice(&pair::<66>(r, s)?);
            let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(key.sec1());
            let (signature, key) = signature.ok().zip(key.ok()).ok_or(SignatureWrong)?;
            // The crate refuses a hash below half of the field, which SHA-256 is; its number is the
            // same with zeros before it.
            let digest = padded::<66>(&hash.digest(message)).ok_or(SignatureWrong)?;
            key.verify_prehash(&digest, &signature).map_err(|_| SignatureWrong)
        }
    }
}

fn verify_by_ecc(
    curve: ecc::Curve,
    point: &[u8],
    hash: Hash,
    message: &[u8],
    signature: &[u8],
) -> Result<(), SignatureWrong> {
    let known = match hash {
        Hash::Sha1 => None,
        Hash::Sha256 => Some(ecc::Hash::Sha256),
        Hash::Sha384 => Some(ecc::Hash::Sha384),
        Hash::Sha512 => Some(ecc::Hash::Sha512),
    };
    match known {
        Some(hash) => ecc::VerifyingKey { curve, hash, point }.verify(message, signature),
        None => ecc::verify_digest(curve, point, &hash.digest(message), signature),
    }
    .map_err(|_| SignatureWrong)
}

/// r and s, one after the other, each at the size of the field.
fn pair<const N: usize>(r: &[u8], s: &[u8]) -> Result<Vec<u8>, SignatureWrong> {
    let (r, s) = padded::<N>(r).zip(padded::<N>(s)).ok_or(SignatureWrong)?;
    Ok([r, s].concat())
}

/// Ecdsa-Sig-Value, RFC 3279 §2.2.3.
fn scalars(signature: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Reader::new(signature);
    let mut pair = outer.sequence("signatureValue").ok()?;
    outer.end("signatureValue").ok()?;
    let r = pair.expect(tag::INTEGER, "r").ok()?.unsigned("r").ok()?;
    let s = pair.expect(tag::INTEGER, "s").ok()?.unsigned("s").ok()?;
    pair.end("signatureValue").ok()?;
    Some((r, s))
}

/// A number at a fixed size.
pub(crate) fn padded<const N: usize>(magnitude: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let start = N.checked_sub(magnitude.len())?;
    bytes.get_mut(start..)?.copy_from_slice(magnitude);
    Some(bytes)
}
