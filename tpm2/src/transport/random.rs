use core::fmt;

use super::Transport;
use crate::crypto::NoRandomness;

/// A source of randomness beside a transport: what [`Tpm::with_random`](crate::Tpm::with_random) makes of both.
pub struct WithRandom<T, R> {
    inner: T,
    source: R,
}

impl<T, R: FnMut(&mut [u8]) -> Result<(), NoRandomness>> WithRandom<T, R> {
    /// A layer over `inner`, whose client draws its randomness from `source`.
    pub const fn new(inner: T, source: R) -> Self {
        Self { inner, source }
    }
}

impl<T, R> Transport for WithRandom<T, R>
where
    T: Transport,
    R: FnMut(&mut [u8]) -> Result<(), NoRandomness>,
{
    type Error = T::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
        self.inner.exchange(command, response)
    }

    fn is_managed(&self) -> bool {
        self.inner.is_managed()
    }

    fn random(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        (self.source)(octets)
    }
}

impl<T: fmt::Debug, R> fmt::Debug for WithRandom<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithRandom").field("inner", &self.inner).finish_non_exhaustive()
    }
}
