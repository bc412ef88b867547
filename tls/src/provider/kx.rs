//! Key exchange, RFC 8446 section 4.2.8.2: X25519 (RFC 7748), P-256 and P-384 (SP 800-56A).

use ecc::{P256_POINT, P256Ephemeral, X25519Ephemeral};
use p384::PublicKey;
use p384::ecdh::EphemeralSecret;
use p384::elliptic_curve::Generate;
use p384::elliptic_curve::sec1::ToSec1Point;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use zeroize::Zeroizing;

const INVALID_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

/// 32 bytes of the operating system's randomness.
fn random() -> Result<Zeroizing<[u8; 32]>, GetRandomFailed> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|_| GetRandomFailed)?;
    Ok(bytes)
}

#[derive(Debug)]
pub(super) struct X25519;

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = X25519Ephemeral::from_scalar(&*random()?);
        let share = secret.point();
        Ok(Box::new(X25519Exchange { secret, share }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct X25519Exchange {
    secret: X25519Ephemeral,
    share: [u8; 32],
}

impl ActiveKeyExchange for X25519Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: &[u8; 32] = peer.try_into().map_err(|_| INVALID_SHARE)?;
        let shared = self.secret.agree(peer).ok_or(INVALID_SHARE)?;
        Ok(SharedSecret::from(shared.as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[derive(Debug)]
pub(super) struct P256;

impl SupportedKxGroup for P256 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        // All but one scalar in 2^32 is below the order of the curve.
        for _ in 0..8 {
            if let Some(secret) = P256Ephemeral::from_scalar(&*random()?) {
                let share = secret.point();
                return Ok(Box::new(P256Exchange { secret, share }));
            }
        }
        Err(GetRandomFailed.into())
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

struct P256Exchange {
    secret: P256Ephemeral,
    share: [u8; P256_POINT],
}

impl ActiveKeyExchange for P256Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let shared = self.secret.agree(peer).ok_or(INVALID_SHARE)?;
        Ok(SharedSecret::from(shared.as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

#[derive(Debug)]
pub(super) struct P384;

impl SupportedKxGroup for P384 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = EphemeralSecret::try_generate().map_err(|_| GetRandomFailed)?;
        let share = secret.public_key().to_sec1_point(false).as_bytes().into();
        Ok(Box::new(P384Exchange { secret, share }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp384r1
    }
}

struct P384Exchange {
    secret: EphemeralSecret,
    share: Box<[u8]>,
}

impl ActiveKeyExchange for P384Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // UncompressedPointRepresentation is the only form that TLS 1.3 knows.
        if peer.first() != Some(&0x04) {
            return Err(INVALID_SHARE);
        }
        let peer = PublicKey::from_sec1_bytes(peer).map_err(|_| INVALID_SHARE)?;
        let shared = self.secret.diffie_hellman(&peer);
        Ok(SharedSecret::from(shared.raw_secret_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp384r1
    }
}
