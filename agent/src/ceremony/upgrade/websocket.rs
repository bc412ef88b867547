//! The client's end of a WebSocket that carries a byte stream in binary messages. RFC 6455, without extensions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64ct::{Base64, Encoding};
use host::budget::Budget;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{FRAME_COST, Outgoing, poll_part};

/// Bytes of a frame that we send; a record of TLS fits.
const MAX_SENT: usize = 17 * 1024;

/// Bytes of a control frame's payload. RFC 6455, 5.5.
const MAX_CONTROL: usize = 125;

/// Opcodes, RFC 6455, 5.2.
const CONTINUATION: u8 = 0x0;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// A value for Sec-WebSocket-Key: 16 random bytes, so that a cache cannot have the response.
pub(super) fn key() -> io::Result<String> {
    Ok(Base64::encode_string(&random::<16>()?))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

/// A byte stream in binary messages. Each frame is charged to the budget.
#[derive(Debug)]
pub struct WebSocket<S> {
    stream: S,
    budget: Budget,
    reading: Reading,
    /// Whether the message that has begun goes on in another frame.
    is_fragmented: bool,
    outgoing: Outgoing,
    /// The answer to the last ping; an earlier one needs none. RFC 6455, 5.5.3.
    pong: Option<Vec<u8>>,
}

/// Where in a frame the reader is.
#[derive(Debug)]
enum Reading {
    /// The bytes of a header so far: two, and up to eight of the length.
    Header(Vec<u8>),
    /// How much is left of the payload of a data frame.
    Data(u64),
    /// A control frame: its opcode, its payload so far and how long that is.
    Control(u8, Vec<u8>, usize),
    /// The other end has sent a close frame.
    Closed,
}

impl<S> WebSocket<S> {
    /// A WebSocket on a connection after the handshake.
    pub const fn new(stream: S, budget: Budget) -> Self {
        Self {
            stream,
            budget,
            reading: Reading::Header(Vec::new()),
            is_fragmented: false,
            outgoing: Outgoing(Vec::new()),
            pong: None,
        }
    }

    /// The connection below.
    pub(super) const fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// What follows a header, once that is complete.
    fn header(&mut self, header: &[u8]) -> io::Result<Option<Reading>> {
        let [first, second, extended @ ..] = header else { return Ok(None) };
        let (opcode, short) = (first & 0x0f, second & !MASKED);
        if first & RESERVED != 0 {
            return Err(violation("a reserved bit is set"));
        }
        // RFC 6455, 5.1.
        if second & MASKED != 0 {
            return Err(violation("the server masked a frame"));
        }
        let expected = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if extended.len() < expected {
            return Ok(None);
        }
        let length = match expected {
            0 => u64::from(short),
            _ => extended.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        self.budget.charge(FRAME_COST);
        self.budget.check()?;
        self.frame(opcode, first & FIN != 0, length).map(Some)
    }

    fn frame(&mut self, opcode: u8, is_final: bool, length: u64) -> io::Result<Reading> {
        match (opcode, self.is_fragmented) {
            (BINARY, false) | (CONTINUATION, true) => {
                if length > u64::MAX >> 1 {
                    return Err(violation("the length of a frame has more than 63 bits"));
                }
                self.is_fragmented = !is_final;
                Ok(Reading::Data(length))
            }
            (BINARY, true) | (CONTINUATION, false) => Err(violation("the frames are out of order")),
            (CLOSE | PING | PONG, _) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if !is_final || length > MAX_CONTROL {
                    return Err(violation("a control frame is fragmented or too long"));
                }
                Ok(Reading::Control(opcode, Vec::new(), length))
            }
            _ => Err(violation("a frame is neither binary nor a control frame")),
        }
    }

    /// Takes a whole control frame.
    fn control(&mut self, opcode: u8, payload: Vec<u8>) -> Reading {
        match opcode {
            CLOSE => return Reading::Closed,
            PING => self.pong = Some(payload),
            _ => {}
        }
        Reading::Header(Vec::new())
    }

    /// Makes a frame of this payload, and masks it. RFC 6455, 5.3.
    fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        let mask = random::<4>()?;
        let frame = &mut self.outgoing.0;
        frame.push(FIN | opcode);
        match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
            (Ok(length @ ..=125), _) => frame.push(MASKED | length),
            (_, Ok(length)) => {
                frame.push(MASKED | 126);
                frame.extend(length.to_be_bytes());
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Sends what is waiting, the answer to a ping last.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.outgoing.poll_send(&mut self.stream, context))?;
        if let Some(payload) = self.pong.take() {
            self.send(PONG, &payload)?;
            return self.outgoing.poll_flush(&mut self.stream, context);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads at most `max` bytes of the connection.
    fn poll_some(&mut self, context: &mut Context<'_>, max: usize) -> Poll<io::Result<Vec<u8>>> {
        let mut bytes = [0; MAX_CONTROL];
        let mut buffer = ReadBuf::new(bytes.get_mut(..max.min(MAX_CONTROL)).unwrap_or_default());
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer))?;
        match buffer.filled() {
            [] => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            filled => Poll::Ready(Ok(filled.to_vec())),
        }
    }

    /// Reads data of a frame into `buffer`.
    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        left: u64,
    ) -> Poll<io::Result<()>> {
        let max = usize::try_from(left).unwrap_or(usize::MAX);
        let read = ready!(poll_part(&mut self.stream, context, buffer, max))?;
        if read == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let left = left.saturating_sub(read as u64);
        self.reading = if left > 0 { Reading::Data(left) } else { Reading::Header(Vec::new()) };
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        loop {
            if socket.pong.is_some() {
                // What cannot be sent now is sent before the next frame of ours.
                let _ = socket.poll_send(context)?;
            }
            match &mut socket.reading {
                Reading::Closed => return Poll::Ready(Ok(())),
                Reading::Data(0) => socket.reading = Reading::Header(Vec::new()),
                Reading::Data(_) if buffer.remaining() == 0 => return Poll::Ready(Ok(())),
                &mut Reading::Data(left) => return socket.poll_data(context, buffer, left),
                Reading::Header(_) => {
                    let byte = ready!(socket.poll_some(context, 1))?;
                    let Reading::Header(header) = &mut socket.reading else { continue };
                    header.extend(byte);
                    let header = header.clone();
                    if let Some(next) = socket.header(&header)? {
                        socket.reading = next;
                    }
                }
                Reading::Control(opcode, payload, length) if payload.len() >= *length => {
                    let (opcode, payload) = (*opcode, std::mem::take(payload));
                    socket.reading = socket.control(opcode, payload);
                }
                Reading::Control(_, payload, length) => {
                    let missing = length.saturating_sub(payload.len());
                    let more = ready!(socket.poll_some(context, missing))?;
                    let Reading::Control(_, payload, _) = &mut socket.reading else { continue };
                    payload.extend(more);
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &mut *self;
        ready!(socket.poll_send(context))?;
        let payload = bytes.get(..MAX_SENT).unwrap_or(bytes);
        if !payload.is_empty() {
            socket.send(BINARY, payload)?;
        }
        // The frame is ours now; what cannot be sent yet is sent by the next write or flush.
        let _ = socket.outgoing.poll_send(&mut socket.stream, context)?;
        Poll::Ready(Ok(payload.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        ready!(socket.poll_send(context))?;
        socket.outgoing.poll_flush(&mut socket.stream, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = &mut *self;
        ready!(socket.outgoing.poll_flush(&mut socket.stream, context))?;
        Pin::new(&mut socket.stream).poll_shutdown(context)
    }
}

fn violation(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("WebSocket: {what}"))
}
