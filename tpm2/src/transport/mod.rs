//! How commands reach a TPM.
//!
//! [`Transport`] is one method. [`Device`] and [`Swtpm`] speak to TPMs, at an address that TPM people know how to type
//! ([`Tcti`]); [`Retry`], [`Record`] and [`Replay`] are layers.
//!
//! Behind features are `Simulator` (`mssim`), `Process` (`cmd`) and, on Windows, `Tbs` (`tbs`).
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

mod clock;
#[cfg(unix)]
mod device;
mod layers;
#[cfg(all(unix, feature = "cmd"))]
mod process;
#[cfg(feature = "mssim")]
mod simulator;
mod stream;
mod swtpm;
#[cfg(all(windows, feature = "tbs"))]
mod tbs;
mod tcti;

use core::error::Error;
use std::boxed::Box;
use std::io;

#[cfg(unix)]
pub use device::Device;
pub use layers::{Exchange, Log, Record, Recording, Replay, Retry};
#[cfg(all(unix, feature = "cmd"))]
pub use process::Process;
#[cfg(feature = "mssim")]
pub use simulator::Simulator;
pub use swtpm::Swtpm;
#[cfg(all(windows, feature = "tbs"))]
pub use tbs::Tbs;
pub use tcti::{ConnectError, OpenError, Tcti, TctiError};

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
}

/// The transport's error in an [`Error`](crate::Error) that does not name one: the operating system's. Where there is none, no
/// transport has this error, and each names its own.
pub type SystemError = io::Error;

/// What opening an address gives, whatever is there: commands that the TPM asks to retry are retried.
pub type AnyTransport = Retry<Box<dyn Transport<Error = SystemError> + Send>>;

impl<T: Transport + ?Sized> Transport for Box<T> {
    type Error = T::Error;

    fn exchange(&mut self, command: &[u8], response: &mut [u8]) -> Result<usize, T::Error> {
        (**self).exchange(command, response)
    }

    fn is_managed(&self) -> bool {
        (**self).is_managed()
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
}

#[cfg(test)]
mod tests;
