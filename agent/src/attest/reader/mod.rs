//! The process that reads executables: how the agent starts and asks it.
//!
//! A request is one packet with two descriptors: the directory `/proc/PID`, and a socket that the answer is written to. So
//! answers need no order and no numbers, a slow file holds up nobody else, and an end of that socket without an
//! answer says that there will be none. Both sides refuse what is not exactly what it should be.

mod message;
mod serve;

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    sendmsg, socketpair,
};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use self::message::{MAX_REPLY, Reply, Request};
pub use self::serve::serve;
use super::executable::{Content, Found};
use super::{Refused, privilege};

/// The command of the agent that is this process.
pub const COMMAND: &str = "read-executables";

/// Requests at a time; further ones wait.
const MAX_RUNNING: usize = 16;

/// How long an answer may take: the longest file that is hashed, on a slow disk.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The agent's end. Clones are the same. The process ends when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Reader {
    socket: Arc<OwnedFd>,
    running: Arc<Semaphore>,
}

impl Reader {
    /// Starts the process from the program that runs, and gives up the capability. For a process that has one thread.
    ///
    /// # Errors
    /// The operating system's.
    pub fn begin() -> io::Result<Self> {
        // Also if the file was replaced or removed meanwhile.
        let reader = Self::start(Path::new("/proc/self/exe"))?;
        privilege::give_up()?;
        Ok(reader)
    }

    /// Starts the process from the agent's own program. It inherits the capability; give that up afterwards.
    ///
    /// # Errors
    /// The operating system's.
    pub fn start(program: &Path) -> io::Result<Self> {
        let (reader, socket) = Self::pair()?;
        Command::new(program)
            .arg0("agent")
            .arg(COMMAND)
            .env_clear()
            .current_dir("/")
            .stdin(socket)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(reader)
    }

    /// The agent's end, and that of the process.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        let running = Arc::new(Semaphore::new(MAX_RUNNING));
        Ok((Self { socket: Arc::new(ours), running }, theirs))
    }

    /// The executable of the process whose directory below `/proc` this is.
    pub(super) async fn read(
        &self,
        process: BorrowedFd<'_>,
        content: Content,
    ) -> Result<Found, Refused> {
        let read = self.read_for_as_long_as_it_takes(process, content);
        tokio::time::timeout(TIMEOUT, read).await.unwrap_or(Err(Refused::ReaderUnavailable))
    }

    async fn read_for_as_long_as_it_takes(
        &self,
        process: BorrowedFd<'_>,
        content: Content,
    ) -> Result<Found, Refused> {
        let turn = self.running.acquire().await;
        let _turn = turn.map_err(|_| Refused::ReaderUnavailable)?;
        let (ours, theirs) = StdUnixStream::pair().map_err(Refused::System)?;
        ours.set_nonblocking(true).map_err(Refused::System)?;
        self.send(Request { content }, [process, theirs.as_fd()])?;
        drop(theirs);
        Reply::decode(&answer(ours).await.map_err(|_| Refused::ReaderUnavailable)?)
    }

    fn send(&self, request: Request, descriptors: [BorrowedFd<'_>; 2]) -> Result<(), Refused> {
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(Refused::ReaderUnavailable);
        }
        let bytes = request.encode();
        let sent =
            sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
        match sent {
            Ok(length) if length == bytes.len() => Ok(()),
            _ => Err(Refused::ReaderUnavailable),
        }
    }
}

/// What is written until the end, which is not longer than any answer can be and one byte.
async fn answer(socket: StdUnixStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let socket = UnixStream::from_std(socket)?;
    socket.take(MAX_REPLY as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
