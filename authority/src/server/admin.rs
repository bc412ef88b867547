//! The operators' endpoint: a Unix socket in the data directory.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use host::unix_socket;
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tracing::warn;

use crate::data_directory::{DataDirectory, Lock, is_trusted};

/// Connections that wait to be served.
const MAX_READY: usize = 8;

/// How long to wait when the system has no more files or memory for connections.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The socket, listening; it goes with the value.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    spare: Spare,
}

impl AdminSocket {
    /// Listens. A socket that is there already was left by an authority that was killed: the lock
    /// says so.
    pub fn bind(directory: &DataDirectory, _lock: &Lock) -> io::Result<Self> {
        let path = directory.socket();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::other("the path exists and is not a socket")),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
        let listener = unix_socket::bind(&path)?;
        // Until here the directory's own mode keeps others out.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let spare = Spare::new();
        Ok(Self { listener, path, spare })
    }

    /// Connections of those who may command the authority: its own user, and root.
    pub(super) fn connections(self) -> impl Stream<Item = io::Result<UnixStream>> {
        let Self { listener, path, spare } = self;
        let remove = RemoveSocket(path);
        let (ready, connections) = mpsc::channel(MAX_READY);
        tokio::spawn(accept_all(listener, spare, ready));
        ReceiverStream::new(connections).map(move |stream| {
            let _ = &remove;
            Ok(stream)
        })
    }
}

/// A descriptor reserved for operators. It is opened before any host can connect: hosts that use up all
/// the others come too late for this one.
struct Spare(Option<File>);

impl Spare {
    fn new() -> Self {
        let mut spare = Self(None);
        spare.refill();
        spare
    }

    fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok();
        }
    }

    /// Closes the descriptor; whether there was one to close.
    fn release(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// Accepts until all servers have stopped. Operators are served even when hosts have used up all the
/// descriptors.
async fn accept_all(listener: UnixListener, mut spare: Spare, ready: mpsc::Sender<UnixStream>) {
    loop {
        let accepted = tokio::select! {
            () = ready.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if is_operator(&stream) => {
                // An error means that the server stops.
                let _ = ready.send(stream).await;
            }
            Ok(_) => {}
            Err(cause) if is_out_of_files(&cause) && spare.release() => continue,
            Err(cause) => {
                warn!(%cause, "cannot accept an operator's connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
        spare.refill();
    }
}

fn is_out_of_files(cause: &io::Error) -> bool {
    let code = cause.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}

fn is_operator(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if is_trusted(peer.uid()) => return true,
        Ok(peer) => warn!(uid = peer.uid(), "another user tried to connect to the admin socket"),
        Err(cause) => warn!(%cause, "a peer of the admin socket without credentials"),
    }
    false
}

struct RemoveSocket(PathBuf);

impl Drop for RemoveSocket {
    fn drop(&mut self) {
        // The next start removes it if we cannot.
        let _ = fs::remove_file(&self.0);
    }
}
