//! How a command ends: with a result, or with a line that says what failed and a line that says
//! what to do.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// Exit codes, those of sysexits.h where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The authority said no.
    Refused = 1,
    /// The command line makes no sense.
    Usage = 64,
    /// A file or an answer makes no sense.
    Data = 65,
    /// Somebody who is needed does not answer.
    Unavailable = 69,
    /// A fault of this program.
    Bug = 70,
    /// A file or a connection failed.
    Io = 74,
    /// Permission is missing.
    Permission = 77,
    /// The configuration makes no sense.
    Config = 78,
}

/// The codes, for the help texts.
pub const CODES: &str = "\
Exit codes:
   0  well
   1  refused by the authority
  64  usage
  65  bad data
  69  the authority is not available
  70  a fault of this program
  74  input or output failed
  77  permission missing
  78  bad configuration";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// With which code the process ends.
    pub exit: Exit,
    /// What failed, in a line.
    pub message: String,
    /// What to do about it, in a line.
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
            // Not the system's refusal, but ours: of a file that somebody else has made.
            io::ErrorKind::PermissionDenied if cause.raw_os_error().is_none() => (
                Exit::Permission,
                "see who made it and what is in it; then remove it, or give it to the authority's user",
            ),
            io::ErrorKind::PermissionDenied => {
                (Exit::Permission, "run as the user that the authority runs as, or as root")
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
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}\n{}", one_line(&self.message), one_line(&self.advice))
    }
}

impl std::error::Error for Failure {}

/// Whatever came from elsewhere, it stays one line and does nothing to the terminal.
fn one_line(text: &str) -> String {
    verifier::text::replace(text, ' ')
}
