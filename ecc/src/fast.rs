//! What graviola computes. It aborts the process on a processor that lacks its instructions: ask [`is_supported`] first.

use ::p256::SecretKey;
use ::p256::ecdsa::Signature;
use ::p256::pkcs8::EncodePrivateKey;
use graviola::hashing::{Sha256, Sha384, Sha512};
use graviola::key_agreement::{p256, x25519};
use graviola::signing::ecdsa;
use signature::Error;
use zeroize::Zeroizing;

use crate::types::{Curve, Hash, P256_POINT, Shared, VerifyingKey};

pub(crate) fn is_supported() -> bool {
    graviola::util::is_cpu_supported()
}

/// A key that is wiped when it is dropped.
pub(crate) struct SigningKey(ecdsa::SigningKey<ecdsa::P256>);

impl SigningKey {
    pub(crate) fn new(secret: &SecretKey) -> Option<Self> {
        let der = secret.to_pkcs8_der().ok()?;
        ecdsa::SigningKey::from_pkcs8_der(der.as_bytes()).ok().map(Self)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Result<Signature, Error> {
        let mut signature = [0; 64];
        self.0.sign::<Sha256>(&[message], &mut signature).map_err(|_| Error::new())?;
        Signature::from_slice(&signature)
    }
}

/// None for what graviola does not read: a point that is not written uncompressed.
pub(crate) fn verify(
    key: &VerifyingKey<'_>,
    message: &[u8],
    signature: &[u8],
) -> Option<Result<(), Error>> {
    let uncompressed = key.point.first() == Some(&4);
    uncompressed.then(|| match key.curve {
        Curve::P256 => verify_on::<ecdsa::P256>(key, message, signature),
        Curve::P384 => verify_on::<ecdsa::P384>(key, message, signature),
    })
}

fn verify_on<C: ecdsa::Curve>(
    key: &VerifyingKey<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), Error> {
    let point = ecdsa::VerifyingKey::<C>::from_x962_uncompressed(key.point);
    let verified = point.and_then(|point| match key.hash {
        Hash::Sha256 => point.verify::<Sha256>(&[message], signature),
        Hash::Sha384 => point.verify::<Sha384>(&[message], signature),
        Hash::Sha512 => point.verify::<Sha512>(&[message], signature),
    });
    verified.map_err(|_| Error::new())
}

pub(crate) struct P256(p256::StaticPrivateKey);

impl P256 {
    pub(crate) fn from_scalar(scalar: &[u8; 32]) -> Option<Self> {
        p256::StaticPrivateKey::from_bytes(scalar).ok().map(Self)
    }

    pub(crate) fn point(&self) -> [u8; P256_POINT] {
        self.0.public_key_uncompressed()
    }

    pub(crate) fn agree(self, peer: &[u8; P256_POINT]) -> Option<Shared> {
        let peer = p256::PublicKey::from_x962_uncompressed(peer).ok()?;
        self.0.diffie_hellman(&peer).ok().map(|shared| Zeroizing::new(shared.0))
    }
}

pub(crate) struct X25519(x25519::StaticPrivateKey);

impl X25519 {
    pub(crate) fn from_scalar(scalar: &[u8; 32]) -> Option<Self> {
        Some(Self(x25519::StaticPrivateKey::from_array(scalar)))
    }

    pub(crate) fn point(&self) -> [u8; 32] {
        self.0.public_key().as_bytes()
    }

    pub(crate) fn agree(self, peer: &[u8; 32]) -> Option<Shared> {
        let peer = x25519::PublicKey::from_array(peer);
        self.0.diffie_hellman(&peer).ok().map(|shared| Zeroizing::new(shared.0))
    }
}
