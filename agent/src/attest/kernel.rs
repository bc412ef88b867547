//! What the kernel says about the peer of a socket and about a process.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use host::bounded;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{PeerCredentials, PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, fstatfs, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::executable::{Content, Found};
use super::{Reader, Refused};

/// The longest list of control groups: a line with a path for each hierarchy.
const MAX_CGROUPS: u64 = 64 * 1024;

/// The longest proc_pid_status(5). Each of at most 65,536 supplementary groups takes up to 11 bytes.
const MAX_STATUS: u64 = 1024 * 1024;

/// What users are called that our user namespace does not have.
const UNMAPPED: u32 = 65534;

/// Process, effective user and group at connect(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The process ID.
    pub pid: i32,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What a process has at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// Its supplementary groups.
    pub supplementary_gids: Vec<u32>,
    /// Its control groups, cgroups(7).
    pub cgroups: Vec<u8>,
}

/// The questions of an attestation. Tests have kernels that know less.
pub trait Kernel {
    /// Who connected.
    ///
    /// # Errors
    /// The socket is not a connected unix socket, or the process is not visible.
    fn credentials(&self, socket: BorrowedFd<'_>) -> Result<Credentials, Refused>;

    /// The process that connected.
    ///
    /// # Errors
    /// It has ended, or the kernel has no pidfd.
    fn pidfd(&self, socket: BorrowedFd<'_>, pid: Pid) -> Result<OwnedFd, Refused>;

    /// Whether a process has ended, also if nobody has waited for it yet.
    fn has_ended(&self, pidfd: BorrowedFd<'_>) -> bool;

    /// The directory of the process that has this ID now.
    ///
    /// # Errors
    /// There is none.
    fn directory(&self, pid: Pid) -> Result<OwnedFd, Refused>;

    /// What the process of a directory has.
    ///
    /// # Errors
    /// It has ended.
    fn snapshot(&self, directory: BorrowedFd<'_>) -> Result<Snapshot, Refused>;

    /// What the process of a directory executes; nothing where executables are not attested.
    ///
    /// # Errors
    /// It has ended, or its executable cannot be read.
    fn executable(
        &self,
        directory: BorrowedFd<'_>,
        content: Content,
    ) -> impl Future<Output = Result<Option<Found>, Refused>> + Send;

    /// Whether paths of control groups begin at the root of all of them.
    fn sees_all_cgroups(&self) -> bool;
}

/// The kernel that runs.
#[derive(Clone, Debug)]
pub struct Linux {
    reader: Option<Reader>,
    /// Whether `/proc` counts processes as our PID namespace does.
    has_own_proc: bool,
    sees_all_users: bool,
    sees_all_cgroups: bool,
}

impl Linux {
    /// With what our own namespaces let us see. Executables are attested if there is a process that reads them.
    #[must_use]
    pub fn new(reader: Option<Reader>) -> Self {
        let own = std::fs::read_link("/proc/self").unwrap_or_default();
        let has_own_proc = own.as_os_str() == std::process::id().to_string().as_str();
        // The whole range is mapped to itself: user_namespaces(7).
        let users = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let sees_all_users = users.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        // The number of the first namespace of control groups is fixed: PROC_CGROUP_INIT_INO.
        let namespace = std::fs::read_link("/proc/self/ns/cgroup").unwrap_or_default();
        let sees_all_cgroups = namespace.as_os_str() == "cgroup:[4026531835]";
        Self { reader, has_own_proc, sees_all_users, sees_all_cgroups }
    }
}

impl Kernel for Linux {
    fn credentials(&self, socket: BorrowedFd<'_>) -> Result<Credentials, Refused> {
        let found = getsockopt(&socket, PeerCredentials).map_err(system)?;
        let credentials = Credentials { pid: found.pid(), uid: found.uid(), gid: found.gid() };
        let is_mapped = |id: u32| id != u32::MAX && (self.sees_all_users || id != UNMAPPED);
        let is_visible =
            credentials.pid > 0 && is_mapped(credentials.uid) && is_mapped(credentials.gid);
        is_visible.then_some(credentials).ok_or(Refused::Invisible)
    }

    fn pidfd(&self, socket: BorrowedFd<'_>, pid: Pid) -> Result<OwnedFd, Refused> {
        match getsockopt(&socket, PeerPidfd) {
            Ok(pidfd) => Ok(pidfd),
            // Before Linux 6.5.
            Err(nix::Error::ENOPROTOOPT) => pidfd_by_id(pid),
            // Before Linux 6.16, if somebody has already waited for the process.
            Err(nix::Error::EINVAL | nix::Error::ESRCH) => Err(Refused::Ended),
            Err(error) => Err(system(error)),
        }
    }

    fn has_ended(&self, pidfd: BorrowedFd<'_>) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(pidfd, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut polled, Some(&now)) != Ok(0)
    }

    fn directory(&self, pid: Pid) -> Result<OwnedFd, Refused> {
        if !self.has_own_proc {
            return Err(Refused::Invisible);
        }
        let path = format!("/proc/{}", pid.as_raw_pid());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty())?;
        check_is_of_procfs(directory.as_fd())?;
        Ok(directory)
    }

    fn snapshot(&self, directory: BorrowedFd<'_>) -> Result<Snapshot, Refused> {
        let read = |name, max| {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            match openat(directory, name, flags, Mode::empty()) {
                Ok(file) => Ok::<_, Refused>(bounded::read(File::from(file), max)?),
                // All users may read these files, unless /proc is mounted with hidepid=.
                Err(Errno::ACCESS | Errno::PERM) => Err(Refused::Invisible),
                Err(error) => Err(error.into()),
            }
        };
        let status = read("status", MAX_STATUS)?;
        let cgroups = read("cgroup", MAX_CGROUPS)?;
        Status::parse(&status).map(|Status { uid, gid, supplementary_gids }| Snapshot {
            uid,
            gid,
            supplementary_gids,
            cgroups,
        })
    }

    async fn executable(
        &self,
        directory: BorrowedFd<'_>,
        content: Content,
    ) -> Result<Option<Found>, Refused> {
        match &self.reader {
            Some(reader) => reader.read(directory, content).await.map(Some),
            None => Ok(None),
        }
    }

    fn sees_all_cgroups(&self) -> bool {
        self.sees_all_cgroups
    }
}

/// The process that has this ID now, which is the weaker promise.
///
/// # Errors
/// There is none, or the kernel has no pidfd.
pub fn pidfd_by_id(pid: Pid) -> Result<OwnedFd, Refused> {
    pidfd_open(pid, PidfdFlags::empty()).map_err(|error| match error {
        Errno::NOSYS => Refused::KernelTooOld,
        Errno::INVAL => Refused::Ended,
        error => error.into(),
    })
}

/// Nothing else is mounted where the kernel's information should be.
pub(super) fn check_is_of_procfs(directory: BorrowedFd<'_>) -> Result<(), Refused> {
    match fstatfs(directory)?.f_type == PROC_SUPER_MAGIC {
        true => Ok(()),
        false => Err(Refused::Malformed("/proc: it is not the kernel's")),
    }
}

fn system(error: nix::Error) -> Refused {
    Refused::System(error.into())
}

/// Whether the kernel holds the process at the other end of a socket, Linux 6.5.
///
/// # Errors
/// It cannot be found out.
pub fn has_peer_pidfd(socket: impl AsFd) -> io::Result<bool> {
    match getsockopt(&socket, PeerPidfd) {
        Ok(_) => Ok(true),
        Err(nix::Error::ENOPROTOOPT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The part of proc_pid_status(5) that matters. The kernel escapes line ends in the name of the program.
struct Status {
    uid: u32,
    gid: u32,
    supplementary_gids: Vec<u32>,
}

impl Status {
    fn parse(text: &[u8]) -> Result<Self, Refused> {
        const MALFORMED: Refused = Refused::Malformed("status of a process");
        // The name of the program is any bytes.
        let field = |name: &[u8]| {
            let mut lines = text.split(|byte| *byte == b'\n');
            let value = lines.find_map(|line| line.strip_prefix(name))?;
            let numbers = str::from_utf8(value).ok()?.split_ascii_whitespace();
            numbers.map(|number| number.parse::<u32>().ok()).collect::<Option<Vec<_>>>()
        };
        let effective = |name: &[u8]| match field(name)?.as_slice() {
            [_real, effective, _saved, _of_files] => Some(*effective),
            _ => None,
        };
        Ok(Self {
            uid: effective(b"Uid:").ok_or(MALFORMED)?,
            gid: effective(b"Gid:").ok_or(MALFORMED)?,
            supplementary_gids: field(b"Groups:").ok_or(MALFORMED)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effective_numbers_of_the_status_are_read() {
        let text = b"Name:\tUid:\\n\xff\nState:\tS (sleeping)\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n";
        let status = Status::parse(text).unwrap();
        assert_eq!((status.uid, status.gid, status.supplementary_gids), (2, 6, vec![9, 10]));
        let none = b"Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t \n";
        assert!(Status::parse(none).unwrap().supplementary_gids.is_empty());
    }

    #[test]
    fn incomplete_status_is_refused() {
        for text in [
            "",
            "Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n",
            "Uid:\t1\t2\t3\nGid:\t5\t6\t7\t8\nGroups:\t\n",
            "Uid:\t1\t2\t3\t4\t5\nGid:\t5\t6\t7\t8\nGroups:\t\n",
            "Uid:\t1\t-2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t\n",
            "Uid:\t1\t4294967296\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t\n",
            "Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\tx\n",
            "Name:\tUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t\n",
        ] {
            assert!(Status::parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_procfs_is_refused() {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = openat(CWD, "/", flags, Mode::empty()).unwrap();
        assert!(check_is_of_procfs(directory.as_fd()).is_err());
        let own = Linux::new(None).directory(rustix::process::getpid()).unwrap();
        assert!(check_is_of_procfs(own.as_fd()).is_ok());
    }
}
