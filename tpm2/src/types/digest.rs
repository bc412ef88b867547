use core::fmt;

use super::{Alg, Digest};
use crate::wire::{Hex, List, Malformed, Marshal, Reader, TooLarge, Unmarshal, Why, Writer};

/// A digest with the hash that made it, which says how long it is. Part 2 §10.3.2.
#[doc(alias("TPMT_HA", "TPMU_HA"))]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashValue<'a> {
    hash: Alg,
    digest: &'a [u8],
}

/// Digests, as of PCR 0 to 7: at most eight. Part 2 §10.9.5.
#[doc(alias = "TPML_DIGEST")]
pub type Digests<'a> = List<'a, Digest<'a>, 8>;

/// Digests of one thing by several hashes: as many as there can be. Part 2 §10.9.6.
#[doc(alias = "TPML_DIGEST_VALUES")]
pub type HashValues<'a> = List<'a, HashValue<'a>, 16>;

impl<'a> HashValue<'a> {
    /// No hash and no digest.
    pub const NONE: Self = Self { hash: Alg::NULL, digest: &[] };

    /// A digest that `hash` made; `None` if it has not the length of one.
    #[must_use]
    pub fn new(hash: Alg, digest: &'a [u8]) -> Option<Self> {
        (Self::len(hash)? == digest.len()).then_some(Self { hash, digest })
    }

    /// The hash.
    #[must_use]
    pub const fn hash(self) -> Alg {
        self.hash
    }

    /// The digest.
    #[must_use]
    pub const fn digest(self) -> &'a [u8] {
        self.digest
    }

    fn len(hash: Alg) -> Option<usize> {
        if hash == Alg::NULL { Some(0) } else { hash.digest_len() }
    }
}

impl fmt::Debug for HashValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashValue({:?} {:?})", self.hash, Hex(self.digest))
    }
}

impl Marshal for HashValue<'_> {
    #[inline]
    fn marshal(&self, writer: &mut Writer<'_>) -> Result<(), TooLarge> {
        writer.write(&self.hash)?;
        writer.put(self.digest)
    }
}

impl<'a> Unmarshal<'a> for HashValue<'a> {
    #[inline]
    fn unmarshal(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let at = reader.position();
        let hash = Alg::unmarshal(reader)?;
        let len = Self::len(hash).ok_or(Malformed::new(Why::Selector, at))?;
        Ok(Self { hash, digest: reader.take(len)? })
    }
}
