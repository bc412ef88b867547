//! Who connected to a unix socket: the kernel's word about the process, in the terms that rules are written in.
//!
//! A process ID is not a process: as soon as the process has ended, another may get it. What [`Attestor`] does about that, in
//! this order:
//!
//! 1. SO_PEERCRED says who connected: ID, effective user and group at connect(2). SO_PEERPIDFD (Linux 6.5) refers to that very
//!    process. A [`Peer`] is both.
//! 2. The directory `/proc/PID` is opened once. If the pidfd says afterwards that the peer has not ended, its ID was never free,
//!    so the directory is the peer's; everything below it is opened by this descriptor, and never belongs to another.
//! 3. User, groups, control groups and, where asked for, the executable are read twice, and have to be equal; user and group
//!    have to be those of connect(2) too.
//! 4. The pidfd has to say once more that the peer has not ended. Whoever serves a stream watches [`Peer::ended`] after that.
//!
//! The peer is who connected, and not who writes: if it hands the socket to a child and ends, no process is attested.
//!
//! What this cannot show:
//!
//! - A kernel without SO_PEERPIDFD opens the pidfd by ID. A process that got the ID between connect(2) and accept(2) is taken for
//!   the peer if it has the same user and group. Make a [`Peer`] directly after accept(2).
//! - A program that connects and then executes another one is the other one. A rule about the executable is about what runs at
//!   the moment of the attestation.
//! - Users who can trace a process (ptrace(2)), preload a library or write to the executable can make it do anything: a rule about
//!   the executable separates programs, and does not separate a program from its own user.
//!
//! # The process that reads executables
//!
//! `/proc/PID/exe` of other users needs CAP_SYS_PTRACE, with which a program can take over any process. So the agent does not
//! keep it. Where a path or hash is asked for, [`Reader::start`] runs the agent's own program once more, with a hidden
//! command, before the agent has a second thread, and then the agent gives up the capability ([`privilege`]).
//! That process keeps nothing else: it answers requests on one socket, each with the descriptor of a directory `/proc/PID`, with
//! the path, the inode and the hash of the executable. Executing a program again, instead of only forking, leaves it none
//! of the agent's memory or descriptors, and needs no unsafe code. It is also outside of any sandbox that the agent
//! enters later, inside which the kernel would hide other processes' executables.
//!
//! [`cgroup`] reads what the control groups of a process say, [`rule`] decides whether a caller matches.

pub mod attestor;
pub mod cgroup;
pub mod executable;
pub mod kernel;
pub mod peer;
pub mod privilege;
pub mod reader;
mod refused;
pub mod rule;

pub use attestor::Attestor;
pub use peer::Peer;
pub use reader::Reader;
pub use refused::Refused;

use self::cgroup::{Container, Systemd};

/// A process that connected, as it was attested. What is absent was not attested, and satisfies no rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller {
    /// The process and what it runs.
    pub unix: Unix,
    /// Where systemd has put it.
    pub systemd: Systemd,
    /// The container that it is in.
    pub container: Option<Container>,
    /// The UID of the Kubernetes pod that it is in.
    pub pod_uid: Option<String>,
}

/// A process, by what it had at connect(2) and still has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unix {
    /// Its ID. Another process may have it as soon as this one has ended.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub supplementary_gids: Vec<u32>,
    /// What it runs; only where this is asked for.
    pub executable: Option<Executable>,
}

/// The file that a process executes. An interpreter is one: what it runs is not in here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Executable {
    /// Its path, unless that is unknown.
    pub path: Option<Path>,
    /// The SHA-256 of its content, unless it is too long or cannot be read.
    pub sha256: Option<[u8; 32]>,
}

/// The path of an executable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// As this host's operator would write it: the process sees the host's files.
    OfHost(String),
    /// In a mount namespace of its own, where whoever made that namespace can have put any file.
    OfNamespace(String),
}

impl Executable {
    /// The path, if it says which file it is.
    #[must_use]
    pub fn host_path(&self) -> Option<&str> {
        match &self.path {
            Some(Path::OfHost(path)) => Some(path),
            Some(Path::OfNamespace(_)) | None => None,
        }
    }

    /// The path as the process sees it. It says nothing without the hash.
    fn any_path(&self) -> Option<&str> {
        let (Path::OfHost(path) | Path::OfNamespace(path)) = self.path.as_ref()?;
        Some(path)
    }
}
