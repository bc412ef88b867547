//! Key exchange, RFC 8446 section 4.2.8.2: X25519 (RFC 7748), P-256 and P-384 (SP 800-56A).

use std::marker::PhantomData;

use p256::NistP256;
use p256::elliptic_curve::ecdh::EphemeralSecret;
use p256::elliptic_curve::sec1::{FromSec1Point, ModulusSize, ToSec1Point};
use p256::elliptic_curve::{AffinePoint, CurveArithmetic, FieldBytesSize, Generate, PublicKey};
use p384::NistP384;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{Error, NamedGroup, PeerMisbehaved};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

pub(super) static X25519: Montgomery = Montgomery;
pub(super) static SECP256R1: Weierstrass<NistP256> =
    Weierstrass { group: NamedGroup::secp256r1, curve: PhantomData };
pub(super) static SECP384R1: Weierstrass<NistP384> =
    Weierstrass { group: NamedGroup::secp384r1, curve: PhantomData };

const INVALID_SHARE: Error = Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare);

#[derive(Debug)]
pub(super) struct Montgomery;

impl SupportedKxGroup for Montgomery {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut scalar = Zeroizing::new([0; 32]);
        getrandom::fill(scalar.as_mut_slice()).map_err(|_| GetRandomFailed)?;
        let secret = StaticSecret::from(*scalar);
        let share = x25519_dalek::PublicKey::from(&secret).to_bytes();
        Ok(Box::new(MontgomeryExchange { secret, share }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

/// The library's ephemeral secret cannot be drawn from a source that may fail; this one can,
/// and `complete` consumes it all the same.
struct MontgomeryExchange {
    secret: StaticSecret,
    share: [u8; 32],
}

impl ActiveKeyExchange for MontgomeryExchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer.try_into().map_err(|_| INVALID_SHARE)?;
        let shared = self.secret.diffie_hellman(&peer.into());
        // An all-zero result: the peer chose a point of small order. RFC 8446 section 7.4.2.
        if !shared.was_contributory() {
            return Err(INVALID_SHARE);
        }
        Ok(SharedSecret::from(shared.as_bytes().as_slice()))
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
pub(super) struct Weierstrass<C> {
    group: NamedGroup,
    curve: PhantomData<C>,
}

impl<C> SupportedKxGroup for Weierstrass<C>
where
    C: CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = EphemeralSecret::<C>::try_generate().map_err(|_| GetRandomFailed)?;
        let share = secret.public_key().to_sec1_point(false).as_bytes().into();
        Ok(Box::new(WeierstrassExchange { group: self.group, secret, share }))
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        self.group
    }
}

struct WeierstrassExchange<C: CurveArithmetic> {
    group: NamedGroup,
    secret: EphemeralSecret<C>,
    share: Box<[u8]>,
}

impl<C> ActiveKeyExchange for WeierstrassExchange<C>
where
    C: CurveArithmetic,
    AffinePoint<C>: FromSec1Point<C> + ToSec1Point<C>,
    FieldBytesSize<C>: ModulusSize,
{
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // UncompressedPointRepresentation is the only form that TLS 1.3 knows.
        if peer.first() != Some(&0x04) {
            return Err(INVALID_SHARE);
        }
        let peer = PublicKey::<C>::from_sec1_bytes(peer).map_err(|_| INVALID_SHARE)?;
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
        self.group
    }
}
