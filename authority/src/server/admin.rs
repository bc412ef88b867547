//! The door for operators: a unix socket in the data folder.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;

use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tracing::warn;

use crate::folder::{DataFolder, Lock, is_trusted};
use crate::socket;

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
        UnixListenerStream::new(listener).filter(move |stream| {
            let _ = &remove;
            let Ok(stream) = stream else { return true };
            match stream.peer_cred() {
                Ok(peer) if is_trusted(peer.uid()) => true,
                Ok(peer) => {
                    warn!(uid = peer.uid(), "another user tried the admin socket");
                    false
                }
                Err(cause) => {
                    warn!(%cause, "a peer of the admin socket without credentials");
                    false
                }
            }
        })
    }
}

struct RemoveSocket(PathBuf);

impl Drop for RemoveSocket {
    fn drop(&mut self) {
        // The next start removes it if we cannot.
        let _ = fs::remove_file(&self.0);
    }
}
