//! SHA-2 (FIPS 180-4) and HMAC (RFC 2104) over it.

use std::marker::PhantomData;

use hmac::{EagerHash, Hmac, KeyInit, Mac};
use rustls::crypto::{hash, hmac as tls_hmac};
use sha2::{Sha256, Sha384};

pub(super) static SHA256: Sha2<Sha256> = Sha2::new(hash::HashAlgorithm::SHA256);
pub(super) static SHA384: Sha2<Sha384> = Sha2::new(hash::HashAlgorithm::SHA384);

pub(super) static HMAC_SHA256: HmacSha2<Sha256> = HmacSha2(PhantomData);
pub(super) static HMAC_SHA384: HmacSha2<Sha384> = HmacSha2(PhantomData);

/// What both adapters ask of a hash function.
pub(super) trait Sha: EagerHash<Core: Send + Sync> + Send + Sync + 'static {}

impl<D: EagerHash<Core: Send + Sync> + Send + Sync + 'static> Sha for D {}

pub(super) struct Sha2<D> {
    algorithm: hash::HashAlgorithm,
    digest: PhantomData<D>,
}

impl<D> Sha2<D> {
    const fn new(algorithm: hash::HashAlgorithm) -> Self {
        Self { algorithm, digest: PhantomData }
    }
}

impl<D: Sha> hash::Hash for Sha2<D> {
    fn start(&self) -> Box<dyn hash::Context> {
        Box::new(Running(D::new()))
    }

    fn hash(&self, data: &[u8]) -> hash::Output {
        hash::Output::new(&D::digest(data))
    }

    fn output_len(&self) -> usize {
        <D as sha2::Digest>::output_size()
    }

    fn algorithm(&self) -> hash::HashAlgorithm {
        self.algorithm
    }
}

/// A hash computation in progress.
struct Running<D>(D);

impl<D: Sha> hash::Context for Running<D> {
    fn fork_finish(&self) -> hash::Output {
        hash::Output::new(&self.0.clone().finalize())
    }

    fn fork(&self) -> Box<dyn hash::Context> {
        Box::new(Self(self.0.clone()))
    }

    fn finish(self: Box<Self>) -> hash::Output {
        hash::Output::new(&self.0.finalize())
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

pub(super) struct HmacSha2<D>(PhantomData<D>);

impl<D: Sha> tls_hmac::Hmac for HmacSha2<D> {
    #[expect(clippy::expect_used, reason = "a key of any length is a key: RFC 2104 section 2")]
    fn with_key(&self, key: &[u8]) -> Box<dyn tls_hmac::Key> {
        Box::new(Keyed(Hmac::<D>::new_from_slice(key).expect("HMAC takes keys of any length")))
    }

    fn hash_output_len(&self) -> usize {
        <D as sha2::Digest>::output_size()
    }
}

/// HMAC with both its pads already absorbed.
struct Keyed<D: Sha>(Hmac<D>);

impl<D: Sha> tls_hmac::Key for Keyed<D> {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> tls_hmac::Tag {
        let mut mac = self.0.clone();
        mac.update(first);
        for part in middle {
            mac.update(part);
        }
        mac.update(last);
        tls_hmac::Tag::new(&mac.finalize().into_bytes())
    }

    fn tag_len(&self) -> usize {
        <D as sha2::Digest>::output_size()
    }
}
