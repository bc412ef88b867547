//! The attestation: what the kernel says, in the order that closes the races.

use std::os::fd::{AsFd, OwnedFd};

use super::cgroup::Membership;
use super::executable::Content;
use super::kernel::{Kernel, Linux};
use super::{Caller, Peer, Reader, Refused, Unix};

/// Attests callers.
#[derive(Clone, Debug)]
pub struct Attestor<K = Linux> {
    kernel: K,
}

impl Attestor {
    /// By the kernel that runs. Executables are attested if there is a process that reads them.
    #[must_use]
    pub fn new(reader: Option<Reader>) -> Self {
        Self::by(Linux::new(reader))
    }
}

impl<K: Kernel + Sync> Attestor<K> {
    /// By a kernel.
    pub const fn by(kernel: K) -> Self {
        Self { kernel }
    }

    /// Whether systemd units, containers and pods are attested: not from inside a container.
    pub fn reads_cgroups(&self) -> bool {
        self.kernel.sees_all_cgroups()
    }

    /// Who connected to a socket that was just accepted.
    ///
    /// # Errors
    /// The process cannot be attested; the connection is to be closed.
    pub async fn attest(&self, socket: impl AsFd) -> Result<(Caller, Peer), Refused> {
        let peer = self.peer(socket)?;
        let caller = self.attest_peer(&peer).await?;
        Ok((caller, peer))
    }

    /// The process that connected to a socket that was just accepted, to be attested later. It does not block.
    ///
    /// # Errors
    /// It is not visible, or has already ended.
    pub fn peer(&self, socket: impl AsFd) -> Result<Peer, Refused> {
        Peer::of(socket, &self.kernel)
    }

    /// What the process is now.
    ///
    /// # Errors
    /// As [`Self::attest`].
    pub async fn attest_peer(&self, peer: &Peer) -> Result<Caller, Refused> {
        let directory = self.directory(peer)?;
        let process = directory.as_fd();
        let before = self.kernel.snapshot(process)?;
        let found = self.kernel.executable(process, Content::Hash).await?;
        let after = self.kernel.snapshot(process)?;
        let found_after = self.kernel.executable(process, Content::Ignore).await?;
        let is_same_file = match (&found, &found_after) {
            (Some(before), Some(after)) => before.is_same_file(after),
            (None, None) => true,
            _ => false,
        };
        let connected = peer.credentials();
        let is_same_user = (after.uid, after.gid) == (connected.uid, connected.gid);
        if !(before == after && is_same_file && is_same_user) {
            return Err(Refused::Changed);
        }
        self.check_has_not_ended(peer)?;
        let groups = match self.kernel.sees_all_cgroups() {
            true => Membership::parse(&after.cgroups)?,
            false => Membership::default(),
        };
        Ok(Caller {
            unix: Unix {
                pid: connected.pid,
                uid: after.uid,
                gid: after.gid,
                supplementary_gids: after.supplementary_gids,
                executable: found.map(|found| found.executable),
            },
            systemd: groups.systemd,
            container: groups.container,
            pod_uid: groups.pod_uid,
        })
    }

    /// The directory of the peer, and not of a process that got its ID.
    fn directory(&self, peer: &Peer) -> Result<OwnedFd, Refused> {
        let directory = self.kernel.directory(peer.pid());
        self.check_has_not_ended(peer)?;
        directory.map_err(|refused| match refused {
            // It has not ended, so it is hidden.
            Refused::Ended => Refused::Invisible,
            refused => refused,
        })
    }

    fn check_has_not_ended(&self, peer: &Peer) -> Result<(), Refused> {
        if self.kernel.has_ended(peer.pidfd()) { Err(Refused::Ended) } else { Ok(()) }
    }
}
