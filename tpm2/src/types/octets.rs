//! Octets that outlive the answer that they came in.

use core::fmt;
use core::ops::{Deref, DerefMut};

#[cfg(not(feature = "alloc"))]
use crate::wire::Writer;
use crate::wire::{Hex, Marshal, TooLarge};

/// Octets in wire form that are kept: with the feature `alloc` on the heap, without it in place, `N` at most. `N` has room for what
/// TPMs of today make.
#[derive(Clone, PartialEq, Eq)]
pub struct Octets<const N: usize>(Inner<N>);

#[cfg(feature = "alloc")]
type Inner<const N: usize> = alloc::vec::Vec<u8>;
#[cfg(not(feature = "alloc"))]
type Inner<const N: usize> = super::Owned<N>;

impl<const N: usize> Octets<N> {
    /// A copy.
    ///
    /// # Errors
    /// Without the feature `alloc`: there are more than `N`.
    pub fn new(octets: &[u8]) -> Result<Self, TooLarge> {
        #[cfg(feature = "alloc")]
        return Ok(Self(octets.to_vec()));
        #[cfg(not(feature = "alloc"))]
        Inner::new(octets).map(Self).ok_or(TooLarge)
    }

    /// The wire form of a value.
    ///
    /// # Errors
    /// It is longer than a whole command can be or, without the feature `alloc`, than `N`; or a size or count does not fit its
    /// field.
    pub fn of(value: &impl Marshal) -> Result<Self, TooLarge> {
        #[cfg(feature = "alloc")]
        return value.to_vec().map(Self);
        #[cfg(not(feature = "alloc"))]
        {
            let mut octets = Inner::zeroed(N).ok_or(TooLarge)?;
            let mut writer = Writer::new(octets.octets_mut());
            writer.write(value)?;
            let len = writer.len();
            Ok(Self(octets.truncated(len)))
        }
    }
}

impl<const N: usize> Deref for Octets<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref()
    }
}

impl<const N: usize> DerefMut for Octets<N> {
    fn deref_mut(&mut self) -> &mut [u8] {
        #[cfg(feature = "alloc")]
        return &mut self.0;
        #[cfg(not(feature = "alloc"))]
        self.0.octets_mut()
    }
}

impl<const N: usize> AsRef<[u8]> for Octets<N> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(feature = "alloc")]
impl<const N: usize> From<alloc::vec::Vec<u8>> for Octets<N> {
    fn from(octets: alloc::vec::Vec<u8>) -> Self {
        Self(octets)
    }
}

impl<const N: usize> fmt::Debug for Octets<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Hex(self).fmt(f)
    }
}
