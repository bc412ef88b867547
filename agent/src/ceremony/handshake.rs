//! The TLS handshake, on its own thread. To prove an identity the TPM signs during the handshake, while rustls waits: half a
//! minute, if another program creates a key. Other tasks continue meanwhile. The time limit applies only to waiting for the peer.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream as BlockingStream};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use host::budget::{Budget, Budgeted};
use host::clock;
use nix::sys::signal::SigSet;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::ceremony::route::{Hop, Server, Through};
use crate::ceremony::upgrade::{self, Upgraded};

/// The cost of a session ticket in addition to its length, in bytes of the budget: rustls derives a key for it. The authority
/// sends none.
const TICKET_COST: usize = 8 * 1024;

/// A connection with TLS.
pub(crate) type Stream = TlsStream<Transport>;

/// Performs the handshake as a client; through a load balancer all handshakes. `limit` is the total time to wait for the peer.
///
/// # Errors
/// Those of the network, of rustls and of [`upgrade`](upgrade::upgrade); [`io::ErrorKind::TimedOut`] if the peer took too long.
pub(crate) async fn connect(
    tcp: TcpStream,
    budget: Budget,
    hop: &Hop,
    limit: Duration,
) -> io::Result<Stream> {
    let (tcp, hop) = (tcp.into_std()?, hop.clone());
    let (reply, replied) = oneshot::channel();
    thread::Builder::new().name("tls".into()).spawn(move || {
        // Signals are for the thread that waits for them.
        let _ = SigSet::all().thread_block();
        let before = clock::monotonic();
        let shaken = shake_hands(tcp, budget, &hop, limit);
        let took = clock::monotonic().saturating_sub(before);
        // The caller may have gone.
        let _ = reply.send(shaken.map_err(|error| explain(error, took, limit)));
    })?;
    let mut stream = replied.await.map_err(io::Error::other)??;
    stream.get_mut().0.socket().register()?;
    Ok(stream)
}

fn shake_hands(
    tcp: BlockingStream,
    budget: Budget,
    hop: &Hop,
    limit: Duration,
) -> io::Result<Stream> {
    let mut wait = Wait { tcp: tcp.try_clone()?, writes: Arc::default(), left: limit };
    let io = Socket::Plain { tcp, writes: Arc::clone(&wait.writes) };
    let mut handshake = pin!(establish(Budgeted::new(io, budget.clone()), budget, hop));
    loop {
        match handshake.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(stream) => return stream,
            Poll::Pending => wait.until_ready()?,
        }
    }
}

/// TLS with the server, in an upgraded connection if a load balancer is before it.
async fn establish(io: Budgeted<Socket>, budget: Budget, hop: &Hop) -> io::Result<Stream> {
    let Some(Through { front, host, kind }) = &hop.through else {
        return client(Transport::Tcp(io), &hop.server, &budget).await;
    };
    let outer = client(io, front, &budget).await?;
    let upgraded = upgrade::upgrade(outer, host, *kind, budget.clone()).await?;
    let inner = client(Transport::Upgraded(Box::new(upgraded)), &hop.server, &budget);
    inner.await.map_err(|error| io::Error::new(error.kind(), Behind(error)))
}

/// The handshake with the server behind a load balancer failed.
#[derive(Debug)]
pub(super) struct Behind(pub(super) io::Error);

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Behind {}

async fn client<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    server: &Server,
    budget: &Budget,
) -> io::Result<TlsStream<S>> {
    let tickets = budget.clone();
    let config = tls::count_tickets(&server.config, move || tickets.charge(TICKET_COST));
    TlsConnector::from(config).connect(server.name.clone(), io).await
}

/// What TLS with the server runs on.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(Budgeted<Socket>),
    /// A byte stream in HTTP, in TLS with a load balancer.
    Upgraded(Box<Upgraded<TlsStream<Budgeted<Socket>>>>),
}

impl Transport {
    /// The socket at the bottom.
    fn socket(&mut self) -> &mut Socket {
        match self {
            Self::Tcp(io) => io.get_mut(),
            Self::Upgraded(upgraded) => upgraded.get_mut().get_mut().0.get_mut(),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(context, buffer),
            Self::Upgraded(io) => Pin::new(io).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(context, bytes),
            Self::Upgraded(io) => Pin::new(io).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_flush(context),
            Self::Upgraded(io) => Pin::new(io).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(context),
            Self::Upgraded(io) => Pin::new(io).poll_shutdown(context),
        }
    }
}

/// Waits for the peer during the handshake.
struct Wait {
    tcp: BlockingStream,
    /// Whether data is waiting to be written.
    writes: Arc<AtomicBool>,
    /// The remaining time to wait for the peer.
    left: Duration,
}

impl Wait {
    fn until_ready(&mut self) -> io::Result<()> {
        let writes = self.writes.swap(false, Ordering::Relaxed);
        let flags = if writes { PollFlags::OUT } else { PollFlags::IN };
        let left = Timespec::try_from(self.left).map_err(io::Error::other)?;
        let before = clock::monotonic();
        let ready = poll(&mut [PollFd::new(&self.tcp, flags)], Some(&left));
        self.left = self.left.saturating_sub(clock::monotonic().saturating_sub(before));
        match ready {
            Ok(0) => Err(io::ErrorKind::TimedOut.into()),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Reports that the peer may have closed the connection because this host's TPM was slow.
fn explain(error: io::Error, took: Duration, limit: Duration) -> io::Error {
    let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
    if is_tls || took <= limit || error.kind() == io::ErrorKind::TimedOut {
        return error;
    }
    let what = format!("{error}, after this host's TPM took {} seconds to sign", took.as_secs());
    io::Error::new(error.kind(), what)
}

/// A connection, without TLS. It never blocks.
#[derive(Debug)]
pub(crate) enum Socket {
    /// During the handshake: [`Wait`] waits for it.
    Plain { tcp: BlockingStream, writes: Arc<AtomicBool> },
    /// After that: the runtime does.
    Registered(TcpStream),
}

impl Socket {
    fn register(&mut self) -> io::Result<()> {
        if let Self::Plain { tcp, .. } = self {
            *self = Self::Registered(TcpStream::from_std(tcp.try_clone()?)?);
        }
        Ok(())
    }
}

fn ready<T>(result: io::Result<T>) -> Poll<io::Result<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
        result => Poll::Ready(result),
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Registered(tcp) => Pin::new(tcp).poll_read(context, buffer),
            Self::Plain { tcp, .. } => {
                let read = tcp.read(buffer.initialize_unfilled());
                ready(read.map(|length| buffer.advance(length)))
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Registered(tcp) => Pin::new(tcp).poll_write(context, bytes),
            Self::Plain { tcp, writes } => {
                let written = ready(tcp.write(bytes));
                writes.store(written.is_pending(), Ordering::Relaxed);
                written
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Registered(tcp) => Pin::new(tcp).poll_flush(context),
            Self::Plain { .. } => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Registered(tcp) => Pin::new(tcp).poll_shutdown(context),
            Self::Plain { tcp, .. } => Poll::Ready(tcp.shutdown(Shutdown::Write)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::ceremony::connection::MAX_HANDSHAKE;
    use crate::ceremony::route::Route;

    /// Connects with a minimal timeout to a peer that accepts and sends what `says` sends.
    async fn shake_with(
        limit: Duration,
        says: impl FnOnce(BlockingStream) + Send + 'static,
    ) -> io::Error {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let other = thread::spawn(move || says(listener.accept().unwrap().0));
        let tcp = TcpStream::connect(address).await.unwrap();
        let pin = format!("sha256:{}", "00".repeat(32)).parse().unwrap();
        let pins = tls::ServerTrust::Pins(vec![pin]);
        let route = Route::to_authority(&pins, None).unwrap();
        let error =
            connect(tcp, Budget::new(MAX_HANDSHAKE), &route.direct(), limit).await.unwrap_err();
        other.join().unwrap();
        error
    }

    #[tokio::test]
    async fn silent_peer_is_waited_for_no_longer_than_the_limit() {
        let error = shake_with(Duration::from_millis(50), |mut tcp| {
            // Until the client has gone.
            let _ = tcp.read_to_end(&mut Vec::new());
        });
        assert_eq!(error.await.kind(), io::ErrorKind::TimedOut);
    }

    /// Single bytes do not extend the time limit.
    #[tokio::test]
    async fn slow_peer_is_waited_for_no_longer_than_the_limit() {
        let error = shake_with(Duration::from_millis(200), |mut tcp| {
            // The header of a record that never ends.
            let header = [22, 3, 3, 0x3f, 0xff].into_iter().chain(std::iter::repeat(0));
            for byte in header {
                if tcp.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(10));
            }
        });
        assert_eq!(error.await.kind(), io::ErrorKind::TimedOut);
    }

    /// A message of the maximum length in records of one byte each.
    #[tokio::test]
    async fn handshake_longer_than_an_authoritys_is_refused() {
        let error = shake_with(Duration::from_secs(60), |mut tcp| {
            let message = [2, 0, 0xff, 0xff].into_iter().chain(std::iter::repeat_n(0, 0xffff));
            let records: Vec<u8> = message.flat_map(|byte| [22, 3, 3, 0, 1, byte]).collect();
            let _ = tcp.write_all(&records);
        });
        assert_eq!(error.await.kind(), io::ErrorKind::QuotaExceeded);
    }

    #[test]
    fn peer_timeout_during_a_tpm_signature_is_distinguished_from_a_closed_connection() {
        let hung_up = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let explained = |took| {
            let limit = Duration::from_secs(10);
            explain(hung_up(), Duration::from_secs(took), limit).to_string()
        };
        assert_eq!(explained(9), hung_up().to_string());
        assert!(explained(41).ends_with("after this host's TPM took 41 seconds to sign"));
    }

    #[tokio::test]
    async fn peer_that_speaks_no_tls_is_an_error_of_tls() {
        let error = shake_with(Duration::from_secs(60), |mut tcp| {
            let _ = tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            let _ = tcp.read_to_end(&mut Vec::new());
        });
        let error = error.await;
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        assert!(inner.is_some(), "{error:?}");
    }
}
