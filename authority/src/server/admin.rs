//! The operators' endpoint: a Unix socket in the data directory.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use host::unix_socket;
use rustix::io::Errno;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::{Connected, UdsConnectInfo};
use tracing::warn;

use super::KEEPALIVE_INTERVAL;
use crate::data_directory::{DataDirectory, Lock, is_trusted};

/// Connections that wait to be served.
const MAX_READY: usize = 8;

/// A client answers the pings that follow each [`KEEPALIVE_INTERVAL`]; before it has begun to speak HTTP/2, it gets no pings.
const MAX_SILENCE: Duration = KEEPALIVE_INTERVAL.saturating_mul(2);

/// How long to wait when the system has no more files or memory for connections.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The socket, listening; it goes with the value.
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    spare: Spare,
}

impl AdminSocket {
    /// Listens. An existing socket was left by a killed authority, since this process holds the lock.
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

    /// Connections of the authority's own user and of root.
    pub(super) fn connections(self) -> impl Stream<Item = io::Result<Attended>> {
        let Self { listener, path, spare } = self;
        let remove = RemoveSocket(path);
        let (ready, connections) = mpsc::channel(MAX_READY);
        tokio::spawn(accept_all(listener, spare, ready));
        ReceiverStream::new(connections).map(move |stream| {
            let _ = &remove;
            Ok(Attended::new(stream, MAX_SILENCE))
        })
    }
}

/// A descriptor reserved for operators. It is opened before any host can connect, so that hosts cannot use it up.
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

/// A connection that is closed when its peer has sent nothing for some time.
pub(super) struct Attended {
    stream: UnixStream,
    limit: Duration,
    silence: Pin<Box<Sleep>>,
}

impl Attended {
    fn new(stream: UnixStream, limit: Duration) -> Self {
        Self { stream, limit, silence: Box::pin(sleep(limit)) }
    }
}

impl AsyncRead for Attended {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            let end = Instant::now() + self.limit;
            self.silence.as_mut().reset(end);
            return read;
        }
        ready!(self.silence.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Attended {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Attended {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

struct RemoveSocket(PathBuf);

impl Drop for RemoveSocket {
    fn drop(&mut self) {
        // The next start removes it if we cannot.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn silent_connection_is_closed() {
        let (mut operator, served) = UnixStream::pair().unwrap();
        let mut served = Attended::new(served, Duration::from_millis(20));
        operator.write_all(b"PRI").await.unwrap();
        served.read_exact(&mut [0; 3]).await.unwrap();
        let ended = timeout(MAX_SILENCE, served.read(&mut [0])).await.unwrap();
        assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
