use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use zeroize::Zeroize;

use crate::types::{Alg, DigestBuf, Owned};

/// The hashes that this crate computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HashAlg {
    /// SHA-1, for what is old and cannot be helped.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlg {
    /// Octets of a digest.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Bits of a digest.
    #[must_use]
    pub const fn bits(self) -> u16 {
        match self {
            Self::Sha1 => 160,
            Self::Sha256 => 256,
            Self::Sha384 => 384,
            Self::Sha512 => 512,
        }
    }

    /// The algorithm's number on the wire.
    #[must_use]
    pub const fn alg(self) -> Alg {
        match self {
            Self::Sha1 => Alg::SHA1,
            Self::Sha256 => Alg::SHA256,
            Self::Sha384 => Alg::SHA384,
            Self::Sha512 => Alg::SHA512,
        }
    }

    /// As many zeros as a digest has octets.
    pub(crate) fn zeros(self) -> DigestBuf {
        DigestBuf::zeroed(self.digest_len()).expect("no digest is longer than 64 octets")
    }

    /// The digest of the parts in a row.
    #[must_use]
    pub fn digest(self, parts: &[&[u8]]) -> DigestBuf {
        self.digest_all(parts.iter().copied())
    }

    /// As [`Self::digest`], however many parts there are.
    pub(crate) fn digest_all<'p>(self, parts: impl Iterator<Item = &'p [u8]>) -> DigestBuf {
        fn run<'p, D: sha2::Digest>(parts: impl Iterator<Item = &'p [u8]>) -> DigestBuf {
            let hash = parts.fold(D::new(), D::chain_update);
            DigestBuf::new(&hash.finalize()).expect("no digest is longer than 64 octets")
        }
        match self {
            Self::Sha1 => run::<sha1::Sha1>(parts),
            Self::Sha256 => run::<sha2::Sha256>(parts),
            Self::Sha384 => run::<sha2::Sha384>(parts),
            Self::Sha512 => run::<sha2::Sha512>(parts),
        }
    }

    /// HMAC of the parts in a row, under the key made of its own parts in a row.
    #[must_use]
    pub fn hmac(self, key: &[&[u8]], parts: &[&[u8]]) -> DigestBuf {
        // A key that is longer than a block of the hash stands for its digest; that of no hash is longer than this.
        let mut digest;
        let mut joined = match Owned::<KEY_MAX>::concat(key) {
            Some(joined) => joined,
            None => {
                digest = self.digest(key);
                let joined = Owned::concat(&[digest.octets()]).expect("a digest is shorter");
                digest.octets_mut().zeroize();
                joined
            }
        };
        let mac = self.hmac_under(joined.octets(), parts);
        joined.octets_mut().zeroize();
        mac
    }

    fn hmac_under(self, key: &[u8], parts: &[&[u8]]) -> DigestBuf {
        match self {
            Self::Sha1 => hmac::<Hmac<sha1::Sha1>>(key, parts),
            Self::Sha256 => hmac::<Hmac<sha2::Sha256>>(key, parts),
            Self::Sha384 => hmac::<Hmac<sha2::Sha384>>(key, parts),
            Self::Sha512 => hmac::<Hmac<sha2::Sha512>>(key, parts),
        }
    }
}

/// A block of SHA-512, and a session key with an authorization value. Part 1 §19.6.8.
const KEY_MAX: usize = 128;

fn hmac<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> DigestBuf {
    let mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes any key");
    let mac = parts.iter().fold(mac, |mac, part| mac.chain_update(part));
    DigestBuf::new(&mac.finalize().into_bytes()).expect("no digest is longer than 64 octets")
}

impl TryFrom<Alg> for HashAlg {
    type Error = UnknownHash;

    fn try_from(alg: Alg) -> Result<Self, UnknownHash> {
        match alg {
            Alg::SHA1 => Ok(Self::Sha1),
            Alg::SHA256 => Ok(Self::Sha256),
            Alg::SHA384 => Ok(Self::Sha384),
            Alg::SHA512 => Ok(Self::Sha512),
            _ => Err(UnknownHash(alg)),
        }
    }
}

/// An algorithm that is not a hash, or a hash that this crate does not compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownHash(
    /// The algorithm.
    pub Alg,
);

impl fmt::Display for UnknownHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a supported hash algorithm", self.0)
    }
}

impl core::error::Error for UnknownHash {}
