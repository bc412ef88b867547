//! The file of a service's socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use host::exit::{Exit, Failure};
use host::unix_socket;
use tokio::net::UnixListener;

use crate::config::Socket;
use crate::deliver::destination::group_id;
use crate::file_access::{self, FileAccess, SHORT_TIMEOUT};

/// A socket's file. It is removed with this value, unless another program has put its own there.
pub(super) struct BoundSocket {
    path: PathBuf,
    /// `None` once another file, or none, was found in its place.
    inode: Option<u64>,
}

impl BoundSocket {
    /// Binds a socket.
    ///
    /// # Errors
    /// The file system's; another program listens there.
    pub(super) async fn bind(socket: &Socket) -> Result<(Self, UnixListener), Failure> {
        let access = FileAccess::new(socket.path.display().to_string(), SHORT_TIMEOUT);
        let (path, socket) = (socket.path.clone(), socket.clone());
        let (bound, listener) = access.run(move || bind(&socket)).await?;
        let failed = |cause: io::Error| Failure::io(&cause, path.display());
        Ok((bound, UnixListener::from_std(listener).map_err(failed)?))
    }

    /// Whether the file is still there, and no other in its place. If not, nothing is removed in the end: the next socket there may
    /// have the same inode number.
    pub(super) fn is_there(&mut self) -> bool {
        let found = fs::symlink_metadata(&self.path).ok();
        self.inode = self.inode.filter(|inode| found.is_some_and(|found| found.ino() == *inode));
        self.inode.is_some()
    }
}

/// Binds a socket under another name, and then moves it to its place: no process can connect before its mode is right, and one that
/// a dead agent left is replaced.
fn bind(socket: &Socket) -> Result<(BoundSocket, StdListener), Failure> {
    let path = &socket.path;
    let failed = |cause: io::Error| Failure::io(&cause, path.display());
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let what = format!("{} exists and is not a socket", path.display());
            return Err(Failure::new(
                Exit::Config,
                what,
                "remove it, or write another path in `listen`",
            ));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let what = format!("another program listens on {}", path.display());
            return Err(Failure::new(
                Exit::Busy,
                what,
                "stop it, or write another path in `listen`",
            ));
        }
        _ => {}
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    remove(&temporary).map_err(failed)?;
    let listener = unix_socket::bind_outside(&temporary).map_err(failed)?;
    let placed = place(&temporary, socket);
    if placed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    placed?;
    let inode = Some(fs::symlink_metadata(path).map_err(failed)?.ino());
    Ok((BoundSocket { path: path.clone(), inode }, listener))
}

fn place(temporary: &Path, socket: &Socket) -> Result<(), Failure> {
    let failed = |cause: io::Error| Failure::io(&cause, socket.path.display());
    if let Some(group) = &socket.group {
        let gid = group_id(group)?;
        std::os::unix::fs::chown(temporary, None, Some(gid)).map_err(|cause| {
            let mut failure = failed(cause);
            failure.advice = "the agent's user must be root or a member of the group".into();
            failure
        })?;
    }
    fs::set_permissions(temporary, fs::Permissions::from_mode(socket.mode)).map_err(failed)?;
    fs::rename(temporary, &socket.path).map_err(failed)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(cause),
        _ => Ok(()),
    }
}

impl Drop for BoundSocket {
    fn drop(&mut self) {
        let Some(inode) = self.inode else { return };
        let path = std::mem::take(&mut self.path);
        file_access::at_the_end(move || {
            if fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == inode) {
                let _ = fs::remove_file(&path);
            }
        });
    }
}
