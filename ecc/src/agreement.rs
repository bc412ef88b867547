//! A secret that two sides share: ECDH on P-256, and X25519.

use p256::elliptic_curve::ecdh::diffie_hellman;
use p256::elliptic_curve::sec1::ToSec1Point;
use p256::{PublicKey, SecretKey};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use crate::choice::{Implementation, implementation};
use crate::fast;
use crate::types::{P256_POINT, Shared};

/// A private key on P-256 for one agreement.
pub struct P256Ephemeral(P256);

enum P256 {
    Portable(SecretKey),
    Fast(fast::P256),
}

impl P256Ephemeral {
    /// The key of this scalar; none if it is zero or not below the order of the curve.
    #[must_use]
    pub fn from_scalar(scalar: &[u8; 32]) -> Option<Self> {
        match implementation() {
            Implementation::Graviola => fast::P256::from_scalar(scalar).map(P256::Fast),
            Implementation::RustCrypto => Self::portable(scalar),
        }
        .map(Self)
    }

    fn portable(scalar: &[u8; 32]) -> Option<P256> {
        SecretKey::from_slice(scalar).ok().map(P256::Portable)
    }

    /// The point to give to the other side, uncompressed.
    #[must_use]
    pub fn point(&self) -> [u8; P256_POINT] {
        match &self.0 {
            P256::Portable(secret) => {
                let mut bytes = [0; P256_POINT];
                bytes.copy_from_slice(secret.public_key().to_sec1_point(false).as_bytes());
                bytes
            }
            P256::Fast(secret) => secret.point(),
        }
    }

    /// What is shared with the other side; none if its bytes are no point on the curve, uncompressed.
    #[must_use]
    pub fn agree(self, peer: &[u8]) -> Option<Shared> {
        let peer: &[u8; P256_POINT] = peer.try_into().ok().filter(|_| peer.first() == Some(&4))?;
        match self.0 {
            P256::Portable(secret) => {
                let peer = PublicKey::from_sec1_bytes(peer).ok()?;
                let shared = diffie_hellman(secret.to_nonzero_scalar(), *peer.as_affine());
                Some(Zeroizing::new((*shared.raw_secret_bytes()).into()))
            }
            P256::Fast(secret) => secret.agree(peer),
        }
    }

    #[cfg(test)]
    pub(crate) fn portable_from_scalar(scalar: &[u8; 32]) -> Option<Self> {
        Self::portable(scalar).map(Self)
    }
}

/// A private key on Curve25519 for one agreement.
pub struct X25519Ephemeral(X25519);

enum X25519 {
    Portable(StaticSecret),
    Fast(fast::X25519),
}

impl X25519Ephemeral {
    /// The key of these random bytes.
    #[must_use]
    pub fn from_scalar(scalar: &[u8; 32]) -> Self {
        match implementation() {
            Implementation::Graviola => fast::X25519::from_scalar(scalar).map(X25519::Fast),
            Implementation::RustCrypto => None,
        }
        .map_or_else(|| Self(X25519::Portable(StaticSecret::from(*scalar))), Self)
    }

    /// What to give to the other side.
    #[must_use]
    pub fn point(&self) -> [u8; 32] {
        match &self.0 {
            X25519::Portable(secret) => x25519_dalek::PublicKey::from(secret).to_bytes(),
            X25519::Fast(secret) => secret.point(),
        }
    }

    /// What is shared with the other side; none if it would be zero, because the other side has chosen a point of small order:
    /// RFC 7748 section 6.1.
    #[must_use]
    pub fn agree(self, peer: &[u8; 32]) -> Option<Shared> {
        match self.0 {
            X25519::Portable(secret) => {
                let shared = secret.diffie_hellman(&(*peer).into());
                shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
            }
            X25519::Fast(secret) => secret.agree(peer),
        }
    }

    #[cfg(test)]
    pub(crate) fn portable_from_scalar(scalar: &[u8; 32]) -> Self {
        Self(X25519::Portable(StaticSecret::from(*scalar)))
    }
}
