//! The process that reads executables itself. It believes nothing that it is asked, and does nothing but read.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};

use super::MAX_RUNNING;
use super::message::{Reply, Request};
use crate::attest::Refused;
use crate::attest::executable::Executables;
use crate::attest::kernel::check_is_of_procfs;

/// What a thread needs that hashes a file.
const STACK: usize = 256 * 1024;

/// A request with its descriptors.
struct Asked {
    request: Request,
    process: OwnedFd,
    reply: OwnedFd,
}

/// What a packet is.
enum Received {
    Asked(Asked),
    /// Not a request. It gets no answer.
    Malformed,
    /// The agent has ended.
    End,
}

/// Answers the requests on a socket until its other end is closed.
///
/// # Errors
/// The operating system's.
pub fn serve(socket: impl AsFd) -> io::Result<()> {
    let executables = Arc::new(Executables::new());
    // As many clones as there are running threads.
    let running = Arc::new(());
    loop {
        let asked = match receive(socket.as_fd())? {
            Received::Asked(asked) => asked,
            Received::Malformed => continue,
            Received::End => return Ok(()),
        };
        if Arc::strong_count(&running) > MAX_RUNNING {
            continue;
        }
        let (executables, running) = (Arc::clone(&executables), Arc::clone(&running));
        let answer = move || {
            asked.answer(&executables);
            drop(running);
        };
        // Without a thread there is no answer, which the agent sees at once.
        let _ = thread::Builder::new().stack_size(STACK).spawn(answer);
    }
}

impl Asked {
    fn answer(self, executables: &Executables) {
        let read = || -> Result<_, Refused> {
            check_is_of_procfs(self.process.as_fd())?;
            executables.read(self.process.as_fd(), self.request.content).map_err(
                |error| match error {
                    Errno::STALE => Refused::Changed,
                    error => error.into(),
                },
            )
        };
        let reply = Reply::encode(&read());
        // Shorter than what a socket holds; the agent may have stopped waiting.
        let _ = send(&self.reply, &reply, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
    }
}

fn receive(socket: BorrowedFd<'_>) -> Result<Received, Errno> {
    let mut bytes = [0; Request::LENGTH + 1];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            descriptors.extend(passed);
        }
    }
    if received.bytes == 0 && descriptors.is_empty() {
        return Ok(Received::End);
    }
    let is_whole = !received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    let request = bytes.get(..received.bytes).and_then(Request::decode);
    match (request, <[OwnedFd; 2]>::try_from(descriptors)) {
        (Some(request), Ok([process, reply])) if is_whole => {
            Ok(Received::Asked(Asked { request, process, reply }))
        }
        _ => Ok(Received::Malformed),
    }
}
