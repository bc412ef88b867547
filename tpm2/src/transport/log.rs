use core::fmt;

use super::Transport;
use crate::crypto::NoRandomness;

/// Shows every exchange to a function, such as one that logs it.
///
/// ```no_run
/// use tpm2::commands::frame;
/// use tpm2::transport::{Log, Tcti};
///
/// let inner = "device:/dev/tpmrm0".parse::<Tcti>()?.open()?;
/// let mut tpm = tpm2::Tpm::new(Log::new(inner, |command, answer| match answer {
///     // Names and values, and no secrets.
///     Ok(answer) => eprintln!("{}", frame::show(command, answer)),
///     Err(error) => eprintln!("{:?}: {error}", frame::code(command)),
/// }));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Log<T, F> {
    inner: T,
    log: F,
}

impl<T: Transport, F: FnMut(&[u8], Result<&[u8], &T::Error>)> Log<T, F> {
    /// A layer over `inner` that calls `log` with each command and its answer, passwords included.
    pub const fn new(inner: T, log: F) -> Self {
        Self { inner, log }
    }
}

impl<T: Transport, F: FnMut(&[u8], Result<&[u8], &T::Error>)> Transport for Log<T, F> {
    type Error = T::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
        let exchanged = self.inner.exchange(command, response);
        let len = exchanged.as_ref().map(|len| *len);
        (self.log)(command, len.map(|len| response.get(..len).unwrap_or_default()));
        exchanged
    }

    fn is_managed(&self) -> bool {
        self.inner.is_managed()
    }

    fn random(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        self.inner.random(octets)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for Log<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("inner", &self.inner).finish_non_exhaustive()
    }
}
