//! How commands reach a TPM.
//!
//! [`Transport`] is one method. Of the feature `std` are `Tcti`, an address as the TSS writes it, and the layers `Retry`, `Record`,
//! `Replay` and `Log`; of one feature each the transports `Device` (`device`), `Swtpm` (`swtpm`), `Simulator` (`mssim`), `Process`
//! (`cmd`) and, on Windows, `Tbs` (`tbs`).
//!
//! A transport of one's own:
//!
//! ```no_run
//! use std::io;
//! use tpm2::Tpm;
//! use tpm2::commands::GetRandom;
//! use tpm2::transport::{Retry, Transport};
//!
//! /// A TPM on a bus of its own.
//! struct Bus;
//!
//! impl Transport for Bus {
//!     type Error = io::Error;
//!
//!     fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> io::Result<usize> {
//!         // Write `command` to the bus, and read as many octets as the header of the answer says.
//!         # let _ = (command, response);
//!         Err(io::ErrorKind::Unsupported.into())
//!     }
//! }
//!
//! let mut tpm = Tpm::new(Retry::new(Bus));
//! let random = tpm.run(&GetRandom { bytes_requested: 16 }, [])?.random_bytes;
//! # let _ = random;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(any(feature = "swtpm", feature = "mssim", feature = "cmd"))]
mod answer;
#[cfg(any(feature = "swtpm", feature = "mssim", feature = "cmd"))]
mod clock;
#[cfg(all(unix, feature = "device"))]
mod device;
#[cfg(feature = "std")]
mod layers;
mod log;
#[cfg(all(unix, feature = "cmd"))]
mod process;
mod random;
#[cfg(feature = "mssim")]
mod simulator;
#[cfg(any(feature = "swtpm", feature = "mssim"))]
mod stream;
#[cfg(feature = "swtpm")]
mod swtpm;
#[cfg(all(windows, feature = "tbs"))]
mod tbs;
#[cfg(feature = "std")]
mod tcti;

#[cfg(feature = "alloc")]
use alloc::boxed::Box;
use core::error::Error;

#[cfg(all(unix, feature = "device"))]
pub use device::Device;
#[cfg(feature = "std")]
pub use layers::{Exchange, Record, Recording, Replay, Retry};
pub use log::Log;
#[cfg(all(unix, feature = "cmd"))]
pub use process::Process;
pub use random::WithRandom;
#[cfg(feature = "mssim")]
pub use simulator::Simulator;
#[cfg(feature = "swtpm")]
pub use swtpm::Swtpm;
#[cfg(all(windows, feature = "tbs"))]
pub use tbs::Tbs;
#[cfg(feature = "std")]
pub use tcti::{ConnectError, OpenError, Tcti, TctiError};

use crate::crypto::NoRandomness;

/// Carries one command to a TPM and its answer back.
pub trait Transport {
    /// What goes wrong on the way: the operating system's error in all transports of this crate.
    type Error: Error + Send + Sync + 'static;

    /// Sends `command`, waits for the answer, puts it at the front of `response` and returns its length.
    ///
    /// How long to wait is the transport's decision: a TPM may take minutes to make an RSA key. A client never calls this
    /// again after an error, so a late answer can not be taken for that of another command.
    ///
    /// # Errors
    /// The TPM cannot be reached, it did not answer in time, or what came is not one answer, complete and no longer than
    /// `response`. It is then unknown whether the command executed.
    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, Self::Error>;

    /// Whether a resource manager stands before the TPM, which forgets what a client loaded when the client goes.
    fn is_managed(&self) -> bool {
        false
    }

    /// Fills `octets` with bytes that cannot be predicted: the nonces and salts of the client's sessions. By default they are the
    /// operating system's, if the feature `getrandom` is there. Where there is no operating system, a transport has a source of
    /// its own, or [`Tpm::with_random`](crate::Tpm::with_random) adds one.
    ///
    /// # Errors
    /// [`NoRandomness`], without which no session starts or goes on.
    fn random(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        #[cfg(feature = "getrandom")]
        return crate::crypto::random(octets);
        #[cfg(not(feature = "getrandom"))]
        {
            let _ = octets;
            Err(NoRandomness)
        }
    }
}

/// The transport's error in an [`Error`](crate::Error) that does not name one: the operating system's. Without the feature `std`
/// there is none, no transport has it, and every `Error` names its own.
#[cfg(feature = "std")]
pub type SystemError = std::io::Error;
/// The transport's error in an [`Error`](crate::Error) that does not name one: without the feature `std` no transport has it,
/// and every `Error` names its own.
#[cfg(not(feature = "std"))]
pub type SystemError = core::convert::Infallible;

/// What opening an address gives, whatever is there: commands that the TPM asks to retry are retried.
#[cfg(feature = "std")]
pub type AnyTransport = Retry<Box<dyn Transport<Error = SystemError> + Send>>;

#[cfg(feature = "alloc")]
impl<T: Transport + ?Sized> Transport for Box<T> {
    type Error = T::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
        (**self).exchange(command, response)
    }

    fn is_managed(&self) -> bool {
        (**self).is_managed()
    }

    fn random(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        (**self).random(octets)
    }
}

impl<T: Transport + ?Sized> Transport for &mut T {
    type Error = T::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
        (**self).exchange(command, response)
    }

    fn is_managed(&self) -> bool {
        (**self).is_managed()
    }

    fn random(&mut self, octets: &mut [u8]) -> Result<(), NoRandomness> {
        (**self).random(octets)
    }
}

#[cfg(test)]
#[cfg(feature = "default")]
mod tests;
