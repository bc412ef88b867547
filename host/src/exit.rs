//! How a command ends: with a result, or with a line that says what failed and a line of advice.

use std::process::ExitCode;
use std::{fmt, io};

use rustix::io::Errno;

use crate::terminal::one_line;

/// Exit codes: those of sysexits.h where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The authority refused, or what was named does not exist or exists already.
    Refused = 1,
    /// EX_USAGE: the command line is invalid.
    Usage = 64,
    /// EX_DATAERR: a file or a response is invalid.
    Data = 65,
    /// EX_UNAVAILABLE: a program that is needed does not answer, an address is in use, or the clock is wrong.
    Unavailable = 69,
    /// EX_SOFTWARE: a bug of this program.
    Bug = 70,
    /// EX_IOERR: a file, a connection or the TPM failed.
    Io = 74,
    /// EX_TEMPFAIL: the TPM is busy, full or locked out, or another process uses a directory; the same command may succeed later.
    Busy = 75,
    /// EX_NOPERM: permission is missing.
    Permission = 77,
    /// EX_CONFIG: the configuration, or what is stored, is missing or invalid.
    Config = 78,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Refused,
        Self::Usage,
        Self::Data,
        Self::Unavailable,
        Self::Bug,
        Self::Io,
        Self::Busy,
        Self::Permission,
        Self::Config,
    ];

    /// What it means, for help texts; `refused` is what it means to be refused.
    const fn meaning(self, refused: &'static str) -> &'static str {
        match self {
            Self::Refused => refused,
            Self::Usage => "usage error",
            Self::Data => "invalid data",
            Self::Unavailable => {
                "unavailable: no answer, an address or data directory in use, or a wrong clock"
            }
            Self::Bug => "internal error: please report it",
            Self::Io => "input or output failed",
            Self::Busy => {
                "busy: the TPM is in use, full or locked out, or a directory is in use: try again later"
            }
            Self::Permission => "permission denied",
            Self::Config => "the configuration or stored data is missing or invalid",
        }
    }
}

/// The exit codes of a program as a section of its help; `refused` is what [`Exit::Refused`] means to it.
#[must_use]
pub fn help(codes: &[Exit], refused: &'static str) -> String {
    let mut text = "Exit codes:\n   0  success".to_owned();
    for code in codes {
        text.push_str(&format!("\n{:>4}  {}", *code as u8, code.meaning(refused)));
    }
    text
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The code that the process exits with.
    pub exit: Exit,
    /// What failed; shown as one line.
    pub message: String,
    /// What to do about it; shown as one line, and left out if it is empty.
    pub advice: String,
    /// The report of a library, in its own terms, or empty: for the log at debug level.
    pub cause: String,
}

impl Failure {
    /// A failure with advice.
    pub fn new(exit: Exit, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { exit, message: message.into(), advice: advice.into(), cause: String::new() }
    }

    /// The same, with the error of a library, and the errors behind it, as the cause.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let chain = std::iter::successors(Some(error), |error| error.source());
        self.cause = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        self
    }

    /// An error of the operating system.
    pub fn io(cause: &io::Error, what: impl fmt::Display) -> Self {
        let (exit, advice) = match cause.kind() {
            // Without an errno: the program refused the file, because of its owner or its type.
            io::ErrorKind::PermissionDenied if cause.raw_os_error().is_none() => {
                (Exit::Permission, "find out who created it; then remove it, or change its owner")
            }
            io::ErrorKind::PermissionDenied => {
                (Exit::Permission, "run as the user that owns it, or as root")
            }
            io::ErrorKind::NotFound => (Exit::Io, "check the path"),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                (Exit::Io, "free space on the disk")
            }
            io::ErrorKind::ReadOnlyFilesystem => (Exit::Io, "mount the file system for writing"),
            io::ErrorKind::IsADirectory => (
                Exit::Io,
                "check who owns this directory, and move it away: a file is expected here",
            ),
            io::ErrorKind::NotADirectory => (
                Exit::Io,
                "check who owns this file, and move it away: a directory is expected here",
            ),
            _ if cause.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => (
                Exit::Io,
                "check who owns this symbolic link, and move it away: a file is expected here",
            ),
            _ => (Exit::Io, "check the system's log for the cause"),
        };
        Self::new(exit, format!("{what}: {cause}"), advice)
    }

    /// A bug of this program.
    pub fn bug(what: impl fmt::Display) -> Self {
        Self::new(Exit::Bug, what.to_string(), "report this, with the command you ran")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_one_line_and_its_advice_another() {
        let failure = Failure::new(Exit::Data, "a\nb\u{1b}[2J", "c\u{202e}d");
        assert_eq!(failure.to_string(), "error: a b [2J\nc d");
        assert_eq!(Failure::new(Exit::Data, "a", "").to_string(), "error: a");
    }

    #[test]
    fn advice_names_what_is_there_in_place_of_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let [plain, link] = ["plain", "link"].map(|name| directory.path().join(name));
        std::fs::write(&plain, "").unwrap();
        std::os::unix::fs::symlink(&link, &link).unwrap();
        for (path, words) in [
            (directory.path().to_owned(), "check who owns this directory"),
            (plain.join("x"), "check who owns this file"),
            (link, "check who owns this symbolic link"),
        ] {
            let cause = std::fs::File::options().write(true).open(path).unwrap_err();
            let failure = Failure::io(&cause, "it");
            assert!(failure.advice.contains(words), "{failure}");
        }
    }

    #[test]
    fn help_lists_the_codes_in_a_column() {
        let help = help(&[Exit::Refused, Exit::Usage], "refused by the authority");
        let expected =
            "Exit codes:\n   0  success\n   1  refused by the authority\n  64  usage error";
        assert_eq!(help, expected);
    }
}
