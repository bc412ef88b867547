//! The door for hosts: TCP and TLS, bounded in number and in time.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::metrics::{Counted, Metrics};

/// Connections at a time, those in their handshake included. More wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;

/// Handshakes at a time: they cost most, and who makes them is not known yet.
const MAX_HANDSHAKES: usize = 256;

/// How long a handshake may take, up to the first word that follows it: a connection that only
/// listens would hold a place of those that there are.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long to wait when the system has no more files or memory for connections.
const PAUSE: Duration = Duration::from_millis(100);

/// What the handlers know of the connection that a call came on.
#[derive(Clone)]
pub struct Connection {
    /// The other end.
    pub remote: SocketAddr,
    /// The certificate chain that the other end proved, verified.
    pub peer: Option<Arc<Vec<CertificateDer<'static>>>>,
    /// What only the two ends of this connection know.
    pub exporter: [u8; 32],
    /// The generation of the last renewal that was granted on this connection; 0 before any.
    pub renewed: Arc<AtomicU64>,
}

/// A socket that listens, and how it speaks TLS.
pub struct PublicListener {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl PublicListener {
    /// Takes the address. Who connects waits until the authority serves.
    pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
        TcpListener::bind(address).await
    }

    /// Speaks TLS like this to who connects.
    pub fn new(listener: TcpListener, config: Arc<ServerConfig>) -> Self {
        Self { listener, acceptor: TlsAcceptor::from(config) }
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Connections whose handshake is done. When the stream goes, the socket closes.
    pub(super) fn connections(
        self,
        metrics: Arc<Metrics>,
    ) -> impl Stream<Item = Result<Conn, Infallible>> {
        let (ready, connections) = mpsc::channel(MAX_STREAM);
        tokio::spawn(self.accept_all(ready, metrics));
        ReceiverStream::new(connections)
    }

    async fn accept_all(
        self,
        ready: mpsc::Sender<Result<Conn, Infallible>>,
        metrics: Arc<Metrics>,
    ) {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            let permits = async {
                let connection = Arc::clone(&connections).acquire_owned().await;
                let handshake = Arc::clone(&handshakes).acquire_owned().await;
                connection.ok().zip(handshake.ok())
            };
            let accepted = async { (permits.await, self.listener.accept().await) };
            let (permits, accepted) = tokio::select! {
                () = ready.closed() => return,
                accepted = accepted => accepted,
            };
            let Some((connection, handshake)) = permits else { return };
            match accepted {
                Ok((stream, remote)) => {
                    let counted = metrics.connection();
                    let opening = Opening { stream, remote, counted, permit: connection };
                    let (acceptor, ready) = (self.acceptor.clone(), ready.clone());
                    tokio::spawn(async move {
                        if let Some(conn) = opening.handshake(acceptor).await {
                            drop(handshake);
                            // The server stops: the connection goes with it.
                            let _ = ready.send(Ok(conn)).await;
                        }
                    });
                }
                Err(cause) => {
                    warn!(%cause, "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Connections that wait to be served.
const MAX_STREAM: usize = 64;

struct Opening {
    stream: TcpStream,
    remote: SocketAddr,
    counted: Counted,
    permit: OwnedSemaphorePermit,
}

impl Opening {
    async fn handshake(self, acceptor: TlsAcceptor) -> Option<Conn> {
        let Self { stream, remote, counted, permit } = self;
        // Without it answers wait for acknowledgements; it is no reason to refuse a connection.
        let _ = stream.set_nodelay(true);
        let opened = async {
            let mut stream = acceptor.accept(stream).await?;
            // Nothing is taken away by this.
            stream.fill_buf().await?;
            io::Result::Ok(stream)
        };
        let stream = match tokio::time::timeout(HANDSHAKE, opened).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(cause)) => {
                debug!(%remote, %cause, "no TLS");
                return None;
            }
            Err(_) => {
                debug!(%remote, "TLS handshake takes too long");
                return None;
            }
        };
        let (_, session) = stream.get_ref();
        let exporter = match tls::join_exporter(session) {
            Ok(exporter) => exporter,
            Err(cause) => {
                warn!(%remote, %cause, "no exporter");
                return None;
            }
        };
        let peer = session.peer_certificates().map(|chain| {
            Arc::new(chain.iter().map(|certificate| certificate.clone().into_owned()).collect())
        });
        let connection = Connection { remote, peer, exporter, renewed: Arc::default() };
        Some(Conn { stream, connection, _counted: counted, _permit: permit })
    }
}

/// A connection as tonic wants it.
pub(super) struct Conn {
    stream: TlsStream<TcpStream>,
    connection: Connection,
    _counted: Counted,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Conn {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
