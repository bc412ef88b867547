//! TLS handshakes with anyone: bounded in bytes and time, and computed by the workers, source by source.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use host::budget::{Budget, Budgeted};
use host::frames::{Charged, TlsRecords};
use rustls::ServerConfig;
use rustls::server::Acceptor;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, LazyConfigAcceptor, StartHandshake};

use crate::service::{Source, Workers};

/// How long a peer may take for its ClientHello. Waiting for it costs the authority only a slot.
const CLIENT_HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that a peer may send until its ClientHello is whole. One with a post-quantum key share has less
/// than 2 KiB; one of thousands of tiny extensions takes many times its length in memory.
const MAX_CLIENT_HELLO: usize = 6 * 1024;

/// What a read costs at least, in bytes: as much as a segment of the network. A peer that sends each
/// byte by itself costs the authority 40 µs for each.
const MIN_READ: usize = 1536;

/// A connection below TLS: what the peer sends is counted.
pub(super) type PeerStream = Charged<Budgeted<TcpStream>, TlsRecords>;

/// A ClientHello, and the connection that it came on.
pub(super) type Hello = StartHandshake<PeerStream>;

/// Waits for the ClientHello. The budget is for what the peer sends afterwards.
pub(super) async fn client_hello(stream: TcpStream) -> io::Result<(Hello, Budget)> {
    // Without TCP_NODELAY responses wait for acknowledgements; a failure is no reason to refuse the connection.
    let _ = stream.set_nodelay(true);
    let budget = Budget::new(MAX_CLIENT_HELLO);
    let stream = Budgeted::new(stream, budget.clone()).with_min_read(MIN_READ);
    let stream = Charged::new(stream, budget.clone());
    let hello = LazyConfigAcceptor::new(Acceptor::default(), stream);
    Ok((in_time(Instant::now() + CLIENT_HELLO_TIMEOUT, hello).await?, budget))
}

/// Computes the answer to a ClientHello. Sources take turns, so that no host waits for all the
/// handshakes of another source; a peer that has gone gets no answer.
pub(super) async fn answer(
    workers: &Workers,
    hello: Hello,
    config: Arc<ServerConfig>,
    source: Source,
) -> io::Result<Answered> {
    let compute = move || {
        let mut hello = hello;
        let mut context = Context::from_waker(Waker::noop());
        if is_closed(hello.io.get_mut().get_mut(), &mut context) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let mut opened = Box::pin(hello.into_stream(config));
        Ok(match opened.as_mut().poll(&mut context) {
            Poll::Ready(stream) => Answered::Done(Box::new(stream)),
            Poll::Pending => Answered::Sent(opened),
        })
    };
    workers.run(source, compute).await.map_err(|_| io::ErrorKind::ResourceBusy)?
}

/// A handshake after the response to its ClientHello.
pub(super) enum Answered {
    /// The handshake has ended, successfully or not.
    Done(Box<io::Result<TlsStream<PeerStream>>>),
    /// The response is sent; the peer must continue.
    Sent(Pin<Box<Accept<PeerStream>>>),
}

impl Answered {
    /// Waits for the end of the handshake.
    pub(super) async fn finish(self, deadline: Instant) -> io::Result<TlsStream<PeerStream>> {
        match self {
            Self::Done(stream) => *stream,
            Self::Sent(opened) => in_time(deadline, opened).await,
        }
    }
}

/// What a step results in, or an error at the deadline.
pub(super) async fn in_time<T>(
    deadline: Instant,
    step: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    timeout_at(deadline, step).await.map_err(io::Error::from).flatten()
}

/// Whether the peer has closed the connection and everything was read.
fn is_closed(stream: &TcpStream, context: &mut Context<'_>) -> bool {
    match stream.poll_peek(context, &mut ReadBuf::new(&mut [0])) {
        Poll::Ready(peeked) => peeked.map_or(true, |bytes| bytes == 0),
        Poll::Pending => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn peer_that_has_gone_is_noticed_once_everything_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let closed =
            |stream: &TcpStream| is_closed(stream, &mut Context::from_waker(Waker::noop()));
        assert!(!closed(&stream));
        peer.try_write(b"x").unwrap();
        drop(peer);
        stream.readable().await.unwrap();
        assert!(!closed(&stream), "a byte is left");
        stream.read_u8().await.unwrap();
        stream.readable().await.unwrap();
        assert!(closed(&stream));
    }
}
