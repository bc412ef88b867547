//! How a command ends: with a result, or with a line that says what failed and a line that says what to do.

use std::process::ExitCode;
use std::{fmt, io};

use tpm2::Fault;
use tpm2::transport::OpenError;
use tpm2::types::ResponseCode;

/// Exit codes, those of sysexits.h where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The authority said no.
    Refused = 1,
    /// The command line makes no sense.
    Usage = 64,
    /// A file or an answer makes no sense.
    Data = 65,
    /// The authority is not available.
    Unavailable = 69,
    /// A fault of this program.
    Bug = 70,
    /// A file, a connection or the TPM failed.
    Io = 74,
    /// The TPM is busy, full or locked out: the same command may do later.
    Busy = 75,
    /// Permission is missing.
    Permission = 77,
    /// The configuration makes no sense.
    Config = 78,
}

/// The codes, for the help texts.
pub(crate) const CODES: &str = "\
Exit codes:
   0  well
   1  refused by the authority
  64  usage
  65  bad data
  69  the authority is not available
  70  a fault of this program
  74  input or output failed, the TPM's included
  75  the TPM is busy or locked out
  77  permission missing
  78  bad configuration";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// With which code the process ends.
    pub exit: Exit,
    /// What failed, in a line.
    pub message: String,
    /// What to do about it, in a line; empty if nothing is known.
    pub advice: String,
}

impl Failure {
    /// A failure with advice.
    pub fn new(exit: Exit, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { exit, message: message.into(), advice: advice.into() }
    }

    /// What the operating system refused.
    pub fn io(cause: &io::Error, what: impl fmt::Display) -> Self {
        let (exit, advice) = match cause.kind() {
            io::ErrorKind::PermissionDenied => {
                (Exit::Permission, "run as the user that owns it, or as root")
            }
            io::ErrorKind::NotFound => (Exit::Io, "see that the path is right"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Exit::Io, "make room on the disk")
            }
            io::ErrorKind::ReadOnlyFilesystem => (Exit::Io, "mount the file system for writing"),
            _ => (Exit::Io, "see the system's log for what is wrong with it"),
        };
        Self::new(exit, format!("{what}: {cause}"), advice)
    }

    /// A failure of this program itself.
    pub fn bug(what: impl fmt::Display) -> Self {
        Self::new(Exit::Bug, what.to_string(), "please report this, with the command that you ran")
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let exit = match error.cause().kind() {
            io::ErrorKind::PermissionDenied => Exit::Permission,
            io::ErrorKind::ResourceBusy => Exit::Busy,
            _ => Exit::Io,
        };
        Self::new(exit, error.to_string(), error.advice())
    }
}

impl From<tpm2::Error> for Failure {
    fn from(error: tpm2::Error) -> Self {
        let exit = match (error.refusal(), error.fault()) {
            (Some(ResponseCode::LOCKOUT | ResponseCode::NV_RATE), _) => Exit::Busy,
            (Some(code), _) if code.is_retry() || code.is_full() => Exit::Busy,
            (_, Fault::Forged | Fault::Malformed(_)) => Exit::Data,
            (_, Fault::TooLarge | Fault::Unnamed | Fault::Unprotectable) => Exit::Bug,
            _ => Exit::Io,
        };
        let is_busy = error.refusal().is_some_and(ResponseCode::is_retry);
        let advice = error.advice().unwrap_or(match error.fault() {
            _ if is_busy => "wait until it has done what it is doing, for another program perhaps",
            Fault::Transport(_) => {
                "see that it is a TPM, and that it is there; `dmesg | grep -i tpm` may say more"
            }
            _ => "the TPM's setup or firmware stands in the way; another --ek may do",
        });
        Self::new(exit, error.to_string(), advice)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", one_line(&self.message))?;
        if self.advice.is_empty() {
            return Ok(());
        }
        write!(f, "\n{}", one_line(&self.advice))
    }
}

impl std::error::Error for Failure {}

/// Whatever came from elsewhere, it stays one line and does nothing to the terminal.
pub(crate) fn one_line(text: &str) -> String {
    verifier::text::replace(text, ' ')
}
