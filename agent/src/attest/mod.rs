//! Who connected to a unix socket: the kernel's word about the process, in the terms that rules are written in.
//!
//! [`cgroup`] reads what the control groups of a process say, [`rule`] decides whether a caller matches.

pub mod cgroup;
pub mod rule;

use self::cgroup::{Container, Systemd};

/// A process that connected, as it was attested. What is absent was not attested, and satisfies no rule.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Its path, unless that is unknown.
    pub path: Option<Path>,
    /// The SHA-256 of its content, unless it is too long or cannot be read.
    pub sha256: Option<[u8; 32]>,
}

/// The path of an executable.
#[derive(Clone, Debug, PartialEq, Eq)]
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
