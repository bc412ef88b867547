//! The listener for hosts: TCP and TLS, with limits on connections and times.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tls::Application;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::handshake::{self, PeerStream, in_time};
use super::open_files;
use super::slots::{Limits, Slot, SlotRef, Slots};
use super::tls_settings::TlsSettings;
use crate::metrics::Metrics;
use crate::service::allowance::Allowance;
use crate::service::{Peer, Source, Workers};
use crate::wire::web::WebApi;

/// How long a peer may take for the rest of the handshake, in which a host's TPM signs. The TPM may be busy for half
/// a minute with a key of another program. When slots are needed, the slowest hosts are closed first.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a peer may take to send its first byte after the handshake.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection that is not served may take to be closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a client of HTTP/2 begins, RFC 9113 section 3.4.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes for the rest of the handshake: the certificate of a host has about 1 KiB.
const MAX_HANDSHAKE: usize = 16 * 1024;

/// How long to wait when the system has no more files or memory for connections.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Connections that the kernel accepts ahead of the authority; it may cap them.
const BACKLOG: u32 = 4096;

/// Connections that wait to be served.
const MAX_READY: usize = 64;

/// How often connections over their deadline are closed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A connection, as the router for its calls needs it.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) slot: SlotRef,
}

/// A listening socket with its TLS settings.
pub struct PublicListener {
    listener: TcpListener,
    tls: Arc<TlsSettings>,
}

/// Connections whose handshake is done, by what is known of their peers.
pub(super) struct Connections {
    pub(super) unproven: ReceiverStream<Result<Conn, Infallible>>,
    pub(super) known: ReceiverStream<Result<Conn, Infallible>>,
}

impl PublicListener {
    /// Listens on a socket from [`super::bind`] with these TLS settings.
    pub fn listen(socket: TcpSocket, tls: Arc<TlsSettings>) -> io::Result<Self> {
        Ok(Self { listener: socket.listen(BACKLOG)?, tls })
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Connections whose handshake is done. When both streams go, the socket closes.
    pub(super) fn connections(self, web: Arc<WebApi>, metrics: Arc<Metrics>) -> Connections {
        let (unproven, unproven_conns) = mpsc::channel(MAX_READY);
        let (known, known_conns) = mpsc::channel(MAX_READY);
        let limits = Limits::for_open_files(open_files());
        let door = Door {
            workers: self.tls.workers(),
            tls: self.tls,
            slots: Slots::new(limits, Arc::clone(&metrics)),
            web,
            metrics,
            unproven,
            known,
        };
        tokio::spawn(door.accept_all(self.listener));
        Connections {
            unproven: ReceiverStream::new(unproven_conns),
            known: ReceiverStream::new(known_conns),
        }
    }
}

/// What all connections share on their way in.
#[derive(Clone)]
struct Door {
    tls: Arc<TlsSettings>,
    workers: Workers,
    slots: Arc<Slots>,
    web: Arc<WebApi>,
    metrics: Arc<Metrics>,
    unproven: mpsc::Sender<Result<Conn, Infallible>>,
    known: mpsc::Sender<Result<Conn, Infallible>>,
}

impl Door {
    async fn accept_all(self, listener: TcpListener) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            let accepted = tokio::select! {
                () = self.unproven.closed() => return,
                now = sweep.tick() => {
                    self.slots.sweep(now);
                    continue;
                }
                accepted = self.slots.accept(&listener) => accepted,
            };
            match accepted {
                Ok((stream, remote, socket)) => self.enter(stream, remote, socket),
                Err(cause) => {
                    warn!(%cause, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }

    /// Starts the handshake in a task of its own, if there is a slot for it.
    fn enter(&self, stream: TcpStream, remote: SocketAddr, socket: OwnedSemaphorePermit) {
        let Some((slot, evicted)) = self.slots.enter(remote.ip(), Instant::now()) else {
            return;
        };
        let door = self.clone();
        tokio::spawn(async move {
            let (mut evicted, socket) = (evicted, socket);
            let opened = tokio::select! {
                _ = &mut evicted => return,
                opened = door.handshake(stream, slot, remote) => opened,
            };
            match opened {
                Ok(Opened { stream, slot, connection, protocol }) => {
                    let evicted = Some(evicted);
                    let conn = Conn { stream, connection, evicted, _slot: slot, _socket: socket };
                    door.serve(conn, protocol).await;
                }
                Err(Unserved::Handshake(cause)) => {
                    door.metrics.connections.handshake_failed();
                    debug!(%remote, %cause, "the handshake failed");
                }
                Err(Unserved::NoRequest(cause)) => {
                    door.metrics.connections.no_request();
                    debug!(%remote, %cause, "no request after the handshake");
                }
                Err(Unserved::Tunnel) => {
                    debug!(%remote, "no reverse tunnel is served; an agent that wants one needs auth_server")
                }
                // The limit that closed it has counted it.
                Err(Unserved::NoPlace) => {
                    debug!(%remote, "the connection was closed to make room for another");
                }
            }
        });
    }

    async fn serve(&self, conn: Conn, protocol: Protocol) {
        let ready = match (protocol, &conn.connection.peer.certificate) {
            (Protocol::Http1, _) => return self.web.serve(conn).await,
            (Protocol::Http2, Some(_)) => &self.known,
            (Protocol::Http2, None) => &self.unproven,
        };
        // An error means that the server stops: the connection goes with it.
        let _ = ready.send(Ok(conn)).await;
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        slot: Slot,
        remote: SocketAddr,
    ) -> Result<Opened, Unserved> {
        let (hello, budget) = handshake::client_hello(stream).await?;
        budget.set(Some(MAX_HANDSHAKE));
        slot.set_computing();
        let (config, source) = (self.tls.current(), Source::of(remote.ip()));
        let answered = handshake::answer(&self.workers, hello, config, source).await?;
        let now = Instant::now();
        let deadline = now + HANDSHAKE_TIMEOUT;
        slot.set_waiting(now, deadline);
        let mut stream = answered.finish(deadline).await?;
        let application = Application::of(stream.get_ref().1);
        if application == Some(Application::ReverseTunnel) {
            // A peer that does not wait for the end misses nothing.
            let _ = in_time(Instant::now() + CLOSE_TIMEOUT, stream.shutdown()).await;
            return Err(Unserved::Tunnel);
        }
        let is_unproven = stream.get_ref().1.peer_certificates().is_none();
        budget.set(is_unproven.then(|| Allowance::bytes_after(stream.get_ref().1)));
        let now = Instant::now();
        let deadline = now + FIRST_REQUEST_TIMEOUT;
        slot.set_waiting(now, deadline);
        // This consumes nothing.
        let first = in_time(deadline, stream.fill_buf()).await.map_err(Unserved::NoRequest)?;
        let protocol = Protocol::new(application, first);
        let (_, session) = stream.get_ref();
        let exporter = tls::join_exporter(session).map_err(io::Error::other)?;
        let chain = session.peer_certificates().unwrap_or_default();
        let certificate = chain.first().map(|leaf| Arc::new(leaf.clone().into_owned()));
        let above_leaf = chain.len().saturating_sub(1);
        if !slot.handshake_done(certificate.is_some(), Instant::now()) {
            return Err(Unserved::NoPlace);
        }
        let reference = slot.reference();
        let join_slots = Arc::new(reference.clone());
        let peer = Peer {
            remote,
            certificate,
            above_leaf,
            exporter,
            renewed: Arc::default(),
            allowance: Allowance::new(budget),
            join_slots,
        };
        let connection = Connection { peer, slot: reference };
        Ok(Opened { stream, slot, connection, protocol })
    }
}

/// A connection whose peer has begun a request.
struct Opened {
    stream: TlsStream<PeerStream>,
    slot: Slot,
    connection: Connection,
    protocol: Protocol,
}

/// The version of HTTP on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    /// What was agreed on; without an agreement, what the first bytes are.
    fn new(agreed: Option<Application>, first: &[u8]) -> Self {
        match agreed {
            Some(Application::Http1 | Application::ReverseTunnel) => Self::Http1,
            Some(Application::Http2 | Application::ProxyGrpc) => Self::Http2,
            None if first.iter().zip(HTTP2_PREFACE).all(|(a, b)| a == b) => Self::Http2,
            None => Self::Http1,
        }
    }
}

/// Why a connection is not served.
enum Unserved {
    /// The handshake failed.
    Handshake(io::Error),
    /// The peer sent nothing after the handshake, or nothing that TLS accepts.
    NoRequest(io::Error),
    /// The peer wants to open a reverse tunnel, or knows now that it could.
    Tunnel,
    /// All slots for hosts with a certificate are taken.
    NoPlace,
}

impl From<io::Error> for Unserved {
    fn from(cause: io::Error) -> Self {
        Self::Handshake(cause)
    }
}

/// A connection as tonic wants it.
pub(super) struct Conn {
    stream: TlsStream<PeerStream>,
    connection: Connection,
    /// Completes when the connection must be closed; none once it has.
    evicted: Option<oneshot::Receiver<()>>,
    _slot: Slot,
    _socket: OwnedSemaphorePermit,
}

impl Conn {
    /// An error once the connection must be closed.
    fn poll_evicted(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let evicted = match &mut self.evicted {
            Some(evicted) => Pin::new(evicted).poll(cx).is_ready(),
            None => true,
        };
        if !evicted {
            return Ok(());
        }
        self.evicted = None;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
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
        self.poll_evicted(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_evicted(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_evicted(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
