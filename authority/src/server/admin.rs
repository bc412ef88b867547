//! The door for operators: a unix socket in the data folder.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tracing::warn;

use crate::folder::{DataFolder, Lock, is_trusted};
use crate::socket;

/// Connections that wait to be served.
const MAX_READY: usize = 8;

/// How long to wait when the system has no more files or memory for connections.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket, listening; it goes with the value.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl AdminSocket {
    /// Listens. A socket that is there already was left by an authority that was killed: the lock
    /// says so.
    pub fn bind(folder: &DataFolder, _lock: &Lock) -> io::Result<Self> {
        let path = folder.socket();
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_socket() => fs::remove_file(&path)?,
            Ok(_) => return Err(io::Error::other("there is something that is no socket")),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(cause),
        }
        let listener = socket::bind(&path)?;
        // Until here the folder's own mode keeps others out.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// Connections of those who may command the authority: its own user, and root.
    pub(super) fn connections(self) -> impl Stream<Item = io::Result<UnixStream>> {
        let Self { listener, path } = self;
        let remove = RemoveSocket(path);
        let (ready, connections) = mpsc::channel(MAX_READY);
        tokio::spawn(accept_all(listener, ready));
        ReceiverStream::new(connections).map(move |stream| {
            let _ = &remove;
            Ok(stream)
        })
    }
}

/// Accepts until nobody serves any more. Operators are served even when hosts have taken all the
/// descriptors: one is kept for them.
async fn accept_all(listener: UnixListener, ready: mpsc::Sender<UnixStream>) {
    let spare = || File::open("/dev/null").ok();
    let mut kept = spare();
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
            Err(cause) if is_out_of_files(&cause) && kept.take().is_some() => continue,
            Err(cause) => {
                warn!(%cause, "cannot accept an operator's connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
        kept = kept.or_else(spare);
    }
}

fn is_out_of_files(cause: &io::Error) -> bool {
    let code = cause.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::MFILE | Errno::NFILE))
}

fn is_operator(stream: &UnixStream) -> bool {
    match stream.peer_cred() {
        Ok(peer) if is_trusted(peer.uid()) => return true,
        Ok(peer) => warn!(uid = peer.uid(), "another user tried the admin socket"),
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
