//! A byte stream in packets: their length in four bytes, most significant first, and the payload. An empty packet is a ping,
//! which needs no answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use host::budget::Budget;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{FRAME_COST, Outgoing, poll_part};

/// Bytes of a packet that we send; a record of TLS fits.
const MAX_SENT: usize = 17 * 1024;

/// The stream. Each packet is charged to the budget.
#[derive(Debug)]
pub(in crate::ceremony) struct PingStream<S> {
    stream: S,
    budget: Budget,
    /// The bytes of a length so far.
    header: Vec<u8>,
    /// How much is left of a packet's payload.
    left: u32,
    outgoing: Outgoing,
}

impl<S> PingStream<S> {
    pub(super) const fn new(stream: S, budget: Budget) -> Self {
        let outgoing = Outgoing(Vec::new());
        Self { stream, budget, header: Vec::new(), left: 0, outgoing }
    }

    pub(super) const fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.left == 0 {
            let mut byte = [0];
            let mut part = ReadBuf::new(&mut byte);
            ready!(Pin::new(&mut this.stream).poll_read(context, &mut part))?;
            match part.filled() {
                // Between packets this is the end.
                [] if this.header.is_empty() => return Poll::Ready(Ok(())),
                [] => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                filled => this.header.extend(filled),
            }
            if let [a, b, c, d] = this.header.as_slice() {
                this.left = u32::from_be_bytes([*a, *b, *c, *d]);
                this.header.clear();
                this.budget.charge(FRAME_COST);
                this.budget.check()?;
            }
        }
        let max = usize::try_from(this.left).unwrap_or(usize::MAX);
        let read = ready!(poll_part(&mut this.stream, context, buffer, max))?;
        if read == 0 && buffer.remaining() > 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        this.left = this.left.saturating_sub(u32::try_from(read).unwrap_or(u32::MAX));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.outgoing.poll_send(&mut this.stream, context))?;
        let payload = bytes.get(..MAX_SENT).unwrap_or(bytes);
        if let Ok(length @ 1..) = u32::try_from(payload.len()) {
            this.outgoing.0.extend(length.to_be_bytes());
            this.outgoing.0.extend(payload);
        }
        // The packet is ours now; what cannot be sent yet is sent by the next write or flush.
        let _ = this.outgoing.poll_send(&mut this.stream, context)?;
        Poll::Ready(Ok(payload.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.outgoing.poll_flush(&mut this.stream, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.outgoing.poll_flush(&mut this.stream, context))?;
        Pin::new(&mut this.stream).poll_shutdown(context)
    }
}
