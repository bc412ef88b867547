//! The connection upgrade of a Teleport Proxy behind a load balancer that terminates TLS: `GET /webapi/connectionupgrade` turns
//! the HTTP connection into a byte stream to the Proxy, in which another TLS connection begins.
//!
//! What comes over it before that second handshake is from the load balancer, or from whoever has a certificate of its name: the
//! head of the response is bounded, redirects are not followed, and frames are charged to the budget of the connection.

mod ping;
pub mod websocket;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64ct::{Base64, Encoding};
use host::budget::Budget;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tpm2::crypto::HashAlg;

use self::ping::PingStream;
use self::websocket::WebSocket;

const PATH: &str = "/webapi/connectionupgrade";

/// Bytes of the head of a response.
const MAX_HEAD: usize = 8 * 1024;

/// Header fields of a response.
const MAX_FIELDS: usize = 64;

/// The WebSocket subprotocol and the name of the raw byte stream.
const ALPN: &str = "alpn";

/// What RFC 6455, 1.3, appends to the key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The cost of a frame in addition to its bytes, in bytes of the budget: a ping of two bytes asks for an answer.
const FRAME_COST: usize = 256;

/// How bytes travel on the upgraded connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// In binary messages of a WebSocket. RFC 6455.
    WebSocket,
    /// In packets with their length, where an empty packet is a ping: Teleport before version 18.
    AlpnPing,
    /// As they are: Teleport before version 18.
    Alpn,
}

impl Kind {
    /// All kinds, those of newer servers first.
    pub(super) const ALL: [Self; 3] = [Self::WebSocket, Self::AlpnPing, Self::Alpn];

    const fn token(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::AlpnPing => "alpn-ping",
            Self::Alpn => ALPN,
        }
    }
}

/// Requests the upgrade from `host`, on a connection that nothing was sent on.
///
/// # Errors
/// Those of the connection; [`Refused`], inside of [`io::ErrorKind::ConnectionRefused`], if the server answers with another
/// status; [`io::ErrorKind::InvalidData`] if it answers with something else.
pub(super) async fn upgrade<S>(
    mut io: S,
    host: &str,
    kind: Kind,
    budget: Budget,
) -> io::Result<Upgraded<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = websocket::key()?;
    io.write_all(request(host, kind, &key).as_bytes()).await?;
    io.flush().await?;
    let head = read_head(&mut io).await?;
    check(&head, kind, &key)?;
    Ok(match kind {
        Kind::WebSocket => Upgraded::WebSocket(WebSocket::new(io, budget)),
        Kind::AlpnPing => Upgraded::AlpnPing(PingStream::new(io, budget)),
        Kind::Alpn => Upgraded::Alpn(io),
    })
}

fn request(host: &str, kind: Kind, key: &str) -> String {
    let token = kind.token();
    let more = match kind {
        Kind::WebSocket => format!(
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Protocol: {ALPN}\r\n"
        ),
        // Some load balancers change `Upgrade`.
        Kind::AlpnPing | Kind::Alpn => format!("X-Teleport-Upgrade: {token}\r\n"),
    };
    format!(
        "GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n{more}\r\n"
    )
}

/// Reads up to the empty line and nothing beyond it, which is no longer HTTP.
async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(malformed(format!("it is longer than {MAX_HEAD} bytes")));
        }
        head.push(io.read_u8().await?);
    }
    Ok(head)
}

/// Checks a response to the request of `kind` with this key.
///
/// # Errors
/// As [`upgrade`].
fn check(head: &[u8], kind: Kind, key: &str) -> io::Result<()> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    match response.parse(head) {
        Ok(httparse::Status::Complete(length)) if length == head.len() => {}
        // An empty line may also end with a line feed alone: then more follows here.
        Ok(_) => return Err(malformed("it does not end with its first empty line".into())),
        Err(error) => return Err(malformed(error.to_string())),
    }
    let status = response.code.unwrap_or_default();
    if status != 101 {
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, Refused { status }));
    }
    let field = |name: &str| {
        let mut fields = response.headers.iter().filter(|f| f.name.eq_ignore_ascii_case(name));
        let value = fields.next().map(|field| field.value);
        // A second one could contradict the first.
        value.filter(|_| fields.next().is_none())
    };
    let is = |name: &str, expected: &str| {
        field(name).is_some_and(|value| value.eq_ignore_ascii_case(expected.as_bytes()))
    };
    if !is("upgrade", kind.token()) {
        return Err(malformed(format!("it does not upgrade to {}", kind.token())));
    }
    if kind == Kind::WebSocket {
        if field("sec-websocket-accept") != Some(accept(key).as_bytes()) {
            return Err(malformed("its Sec-WebSocket-Accept is of another request".into()));
        }
        if !is("sec-websocket-protocol", ALPN) {
            return Err(malformed(format!("its subprotocol is not {ALPN}")));
        }
        if field("sec-websocket-extensions").is_some() {
            return Err(malformed("it has an extension that was not offered".into()));
        }
    }
    Ok(())
}

/// The value that shows that the server has read the key. RFC 6455, 4.2.2.
pub(super) fn accept(key: &str) -> String {
    let digest = HashAlg::Sha1.digest(&[key.as_bytes(), GUID.as_bytes()]);
    Base64::encode_string(digest.as_ref())
}

fn malformed(why: String) -> io::Error {
    let what = format!("the response to the connection upgrade is malformed: {why}");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// For the fuzz targets: whether a response is accepted, for a key that is not secret.
#[doc(hidden)]
#[must_use]
pub fn is_accepted(head: &[u8], key: &str) -> bool {
    Kind::ALL.into_iter().any(|kind| check(head, kind, key).is_ok())
}

/// The server does not upgrade the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// The status of its response. RFC 9110, 15.
    pub(super) status: u16,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the server refused the connection upgrade with status {}", self.status)
    }
}

impl std::error::Error for Refused {}

/// An upgraded connection.
#[derive(Debug)]
pub(super) enum Upgraded<S> {
    WebSocket(WebSocket<S>),
    AlpnPing(PingStream<S>),
    Alpn(S),
}

impl<S> Upgraded<S> {
    /// The connection below.
    pub(super) fn get_mut(&mut self) -> &mut S {
        match self {
            Self::WebSocket(stream) => stream.get_mut(),
            Self::AlpnPing(stream) => stream.get_mut(),
            Self::Alpn(stream) => stream,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Upgraded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::AlpnPing(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Alpn(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Upgraded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::WebSocket(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::AlpnPing(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Alpn(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(stream) => Pin::new(stream).poll_flush(context),
            Self::AlpnPing(stream) => Pin::new(stream).poll_flush(context),
            Self::Alpn(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::WebSocket(stream) => Pin::new(stream).poll_shutdown(context),
            Self::AlpnPing(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Alpn(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

/// Reads at most `max` bytes into `buffer`, and returns how many.
fn poll_part<S: AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
    max: usize,
) -> Poll<io::Result<usize>> {
    let max = max.min(buffer.remaining());
    let mut part = ReadBuf::new(buffer.initialize_unfilled_to(max));
    ready!(Pin::new(stream).poll_read(context, &mut part))?;
    let read = part.filled().len();
    buffer.advance(read);
    Poll::Ready(Ok(read))
}

/// Frames that were made and not sent yet.
#[derive(Debug, Default)]
struct Outgoing(Vec<u8>);

impl Outgoing {
    /// Sends what is there.
    fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.0.is_empty() {
            let sent = ready!(Pin::new(&mut *stream).poll_write(context, &self.0))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.0.drain(..sent.min(self.0.len()));
        }
        Poll::Ready(Ok(()))
    }

    /// The same, and flushes the stream.
    fn poll_flush<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_send(stream, context))?;
        Pin::new(stream).poll_flush(context)
    }
}

#[cfg(test)]
mod tests;
