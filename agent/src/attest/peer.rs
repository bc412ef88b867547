//! A process that connected, held so that no other is taken for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::process::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Refused;
use super::kernel::{Credentials, Kernel};

/// The process at the other end of a socket. Clones are the same.
#[derive(Clone, Debug)]
pub struct Peer {
    credentials: Credentials,
    pid: Pid,
    pidfd: Arc<AsyncFd<OwnedFd>>,
}

impl Peer {
    /// Of a socket that was just accepted; in a tokio runtime.
    ///
    /// # Errors
    /// It is not visible, or has already ended.
    pub fn of(socket: impl AsFd, kernel: &impl Kernel) -> Result<Self, Refused> {
        let socket = socket.as_fd();
        let credentials = kernel.credentials(socket)?;
        let pid = Pid::from_raw(credentials.pid).ok_or(Refused::Invisible)?;
        let pidfd = kernel.pidfd(socket, pid)?;
        let pidfd = watched(pidfd).map_err(Refused::System)?;
        Ok(Self { credentials, pid, pidfd: Arc::new(pidfd) })
    }

    /// Who it was at connect(2).
    #[must_use]
    pub const fn credentials(&self) -> Credentials {
        self.credentials
    }

    /// Waits for the end of the process. Cancel safe.
    ///
    /// # Errors
    /// The operating system's; treat it as the end.
    pub async fn ended(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(drop)
    }

    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }
}

#[expect(deprecated, reason = "the function that replaces it is unsafe; this descriptor is owned")]
fn watched(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}
