//! Why a caller was not attested.

use std::{fmt, io};

use rustix::io::Errno;

use super::cgroup::Invalid;

/// Why a caller was not attested. Its connection is closed.
#[derive(Debug)]
pub enum Refused {
    /// The process that connected has ended.
    Ended,
    /// The process changed meanwhile: its user, group, control group or executable.
    Changed,
    /// The process, or its user, is not visible from the namespaces of the agent.
    Invisible,
    /// The kernel has no pidfd.
    KernelTooOld,
    /// What the kernel says about the process is not what it should be.
    Malformed(&'static str),
    /// Its control groups are no evidence.
    ControlGroups(Invalid),
    /// The process that reads executables has ended, or is too busy.
    ReaderUnavailable,
    /// The executable cannot be read for lack of CAP_SYS_PTRACE.
    NotPermitted,
    /// An operating system's error.
    System(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the process that connected has ended"),
            Self::Changed => f.write_str("the process changed while it was attested"),
            Self::Invisible => f.write_str(
                "the process is not visible from the agent's namespaces, or /proc hides it",
            ),
            Self::KernelTooOld => f.write_str("the kernel has no pidfd_open: Linux 5.3 is needed"),
            Self::Malformed(what) => write!(f, "malformed {what}"),
            Self::ControlGroups(error) => error.fmt(f),
            Self::ReaderUnavailable => {
                f.write_str("the process that reads executables has ended or is too busy")
            }
            Self::NotPermitted => f.write_str(
                "the executable cannot be read without CAP_SYS_PTRACE, which `agent install systemd` grants",
            ),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

impl From<Invalid> for Refused {
    fn from(error: Invalid) -> Self {
        Self::ControlGroups(error)
    }
}

/// What an error means below `/proc/PID`: ESRCH and ENOENT say that the process has ended.
impl From<Errno> for Refused {
    fn from(error: Errno) -> Self {
        match error {
            Errno::SRCH | Errno::NOENT => Self::Ended,
            Errno::ACCESS | Errno::PERM => Self::NotPermitted,
            error => Self::System(error.into()),
        }
    }
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self::System(error),
        }
    }
}
