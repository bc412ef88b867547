//! A kernel with faults: what an attestation would be that lacks one of its checks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

use agent::attest::executable::{Content, Found};
use agent::attest::kernel::{Credentials, Kernel, Linux, Snapshot, pidfd_by_id};
use agent::attest::{Reader, Refused};
use rustix::process::Pid;

/// What it gets wrong; nothing by default.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    /// It is older than Linux 6.5. This is no fault, but what other kernels are.
    pub(crate) no_peer_pidfd: bool,
    /// It never says that a process has ended.
    pub(crate) never_ended: bool,
    /// It says who a process is now, and not at connect(2).
    pub(crate) credentials_of_now: bool,
    /// It reads what is below `/proc/PID` by number each time.
    pub(crate) by_number: bool,
    /// It says the same the second time.
    pub(crate) repeats: bool,
}

type Interlude = Box<dyn FnOnce() + Send>;

pub(crate) struct Faulty {
    linux: Linux,
    faults: Faults,
    seen: Mutex<Seen>,
}

/// What was read, and what is to happen before it is read again.
#[derive(Default)]
struct Seen {
    pid: Option<Pid>,
    snapshot: Option<Snapshot>,
    executable: Option<Found>,
    interlude: Option<Interlude>,
}

impl Faulty {
    pub(crate) fn new(faults: Faults) -> Self {
        Self { linux: Linux::new(None), faults, seen: Mutex::default() }
    }

    pub(crate) fn reading_executables(mut self, reader: Reader) -> Self {
        self.linux = Linux::new(Some(reader));
        self
    }

    /// Does this between the two readings.
    pub(crate) fn between(self, interlude: impl FnOnce() + Send + 'static) -> Self {
        self.seen.lock().unwrap().interlude = Some(Box::new(interlude));
        self
    }
}

impl Kernel for Faulty {
    fn credentials(&self, socket: BorrowedFd<'_>) -> Result<Credentials, Refused> {
        let Credentials { pid, uid, gid } = self.linux.credentials(socket)?;
        if !self.faults.credentials_of_now {
            return Ok(Credentials { pid, uid, gid });
        }
        let directory = self.linux.directory(Pid::from_raw(pid).unwrap())?;
        let Snapshot { uid, gid, .. } = self.linux.snapshot(directory.as_fd())?;
        Ok(Credentials { pid, uid, gid })
    }

    fn pidfd(&self, socket: BorrowedFd<'_>, pid: Pid) -> Result<OwnedFd, Refused> {
        if self.faults.no_peer_pidfd { pidfd_by_id(pid) } else { self.linux.pidfd(socket, pid) }
    }

    fn has_ended(&self, pidfd: BorrowedFd<'_>) -> bool {
        !self.faults.never_ended && self.linux.has_ended(pidfd)
    }

    fn directory(&self, pid: Pid) -> Result<OwnedFd, Refused> {
        self.seen.lock().unwrap().pid = Some(pid);
        self.linux.directory(pid)
    }

    fn snapshot(&self, directory: BorrowedFd<'_>) -> Result<Snapshot, Refused> {
        let mut seen = self.seen.lock().unwrap();
        let first = seen.snapshot.take();
        if first.is_some()
            && let Some(interlude) = seen.interlude.take()
        {
            interlude();
        }
        if let Some(first) = first.filter(|_| self.faults.repeats) {
            return Ok(first);
        }
        let by_number = match (self.faults.by_number, seen.pid) {
            (true, Some(pid)) => Some(self.linux.directory(pid)?),
            _ => None,
        };
        let directory = by_number.as_ref().map_or(directory, AsFd::as_fd);
        let snapshot = self.linux.snapshot(directory)?;
        seen.snapshot = Some(snapshot.clone());
        Ok(snapshot)
    }

    async fn executable(
        &self,
        directory: BorrowedFd<'_>,
        content: Content,
    ) -> Result<Option<Found>, Refused> {
        let first = self.seen.lock().unwrap().executable.take();
        if let Some(first) = first.filter(|_| self.faults.repeats) {
            return Ok(Some(first));
        }
        let found = self.linux.executable(directory, content).await?;
        self.seen.lock().unwrap().executable.clone_from(&found);
        Ok(found)
    }

    fn sees_all_cgroups(&self) -> bool {
        self.linux.sees_all_cgroups()
    }
}
