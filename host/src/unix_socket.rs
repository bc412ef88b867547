//! Unix sockets whose path may be of any length.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tokio::net::{UnixListener, UnixStream};

/// Bytes of a path in a socket's address, unix(7): 108, the last of which is zero.
const MAX_PATH: usize = 107;

/// A path that fits into a socket's address, as long as the value lives.
struct ShortPath {
    path: PathBuf,
    _directory: Option<File>,
}

impl ShortPath {
    /// A longer path is reached by the descriptor of its directory.
    fn new(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() <= MAX_PATH {
            return Ok(Self { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut options = OpenOptions::new();
        let directory = options.read(true).custom_flags(flags.bits().cast_signed()).open(parent)?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Self { path, _directory: Some(directory) })
    }
}

/// Listens at this path, which must not exist yet.
///
/// # Errors
/// The operating system's.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    UnixListener::from_std(bind_outside(path)?)
}

/// The same outside of the runtime: on a thread that may wait for a disk. The socket does not block.
///
/// # Errors
/// The operating system's.
pub fn bind_outside(path: &Path) -> io::Result<StdUnixListener> {
    let listener = StdUnixListener::bind(&ShortPath::new(path)?.path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects to the process that listens at this path.
///
/// # Errors
/// The operating system's.
pub async fn connect(path: &Path) -> io::Result<UnixStream> {
    let short = ShortPath::new(path)?;
    UnixStream::connect(&short.path).await
}

/// The same outside of the runtime: on a thread that may wait for a disk. The socket does not block.
///
/// # Errors
/// The operating system's.
pub fn connect_outside(path: &Path) -> io::Result<StdUnixStream> {
    let stream = StdUnixStream::connect(&ShortPath::new(path)?.path)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn socket_with_a_path_of_any_length_is_reached() {
        let dir = tempfile::tempdir().unwrap();
        let mut directory = PathBuf::new();
        for length in [50, 107, 108, 109, 200, 1000] {
            directory = dir.path().to_owned();
            while directory.as_os_str().len() + 3 < length {
                let left = length - directory.as_os_str().len() - 3;
                directory.push("d".repeat(left.min(200)));
            }
            std::fs::create_dir_all(&directory).unwrap();
            let path = directory.join("s");
            let listener = bind(&path).unwrap();
            let (served, connected) = tokio::join!(listener.accept(), connect(&path));
            served.unwrap();
            connected.unwrap();
            assert!(path.exists());
            std::fs::remove_file(path).unwrap();
        }
        let gone = connect(&directory.join("s")).await.unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
