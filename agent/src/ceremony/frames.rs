//! What HTTP/2 frames cost: a frame of ten bytes can take a hundred times as much memory, as each informational response does that
//! comes before the call is looked at.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use host::budget::Budget;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a frame costs besides its length, in bytes of the budget. An authority sends about ten for a call.
const FRAME_COST: usize = 256;

/// Where in a frame a stream is. RFC 9113, 4.1.
#[derive(Debug, Default)]
struct Position {
    header: [u8; 9],
    /// Bytes of the header so far.
    known: usize,
    /// Bytes of the payload that are still to come.
    payload: usize,
}

impl Position {
    /// The number of frame headers that end in these bytes.
    fn advance(&mut self, mut bytes: &[u8]) -> usize {
        let mut frames = 0_usize;
        while let [first, rest @ ..] = bytes {
            if self.payload > 0 {
                let skipped = self.payload.min(bytes.len());
                self.payload -= skipped;
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.header.get_mut(self.known) {
                *place = *first;
            }
            self.known += 1;
            bytes = rest;
            if self.known == self.header.len() {
                let [a, b, c, ..] = self.header;
                self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                (self.known, frames) = (0, frames + 1);
            }
        }
        frames
    }
}

/// A stream of HTTP/2 frames, each of which is charged to a budget.
#[derive(Debug)]
pub(super) struct Charged<S> {
    stream: S,
    budget: Budget,
    position: Position,
}

impl<S> Charged<S> {
    pub(super) fn new(stream: S, budget: Budget) -> Self {
        Self { stream, budget, position: Position::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Charged<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let frames = self.position.advance(read);
        self.budget.charge(frames.saturating_mul(FRAME_COST));
        Poll::Ready(self.budget.check())
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Charged<S> {
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[test]
    fn frames_are_counted_wherever_the_stream_is_cut() {
        let frame = |len: u8| [&[0, 0, len, 0, 0, 0, 0, 0, 1][..], &vec![9; len.into()]].concat();
        let stream = [frame(3), frame(0), frame(0), frame(200), frame(1)].concat();
        for cut in 0..=stream.len() {
            let (head, tail) = stream.split_at(cut);
            let mut position = Position::default();
            assert_eq!(position.advance(head) + position.advance(tail), 5, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn small_frames_spend_the_budget() {
        const FRAME: [u8; 9] = [0; 9];
        let (mut peer, stream) = duplex(64 * 1024);
        let mut stream = Charged::new(stream, Budget::new(3 * FRAME_COST));
        let mut frame = FRAME;
        for _ in 0..2 {
            peer.write_all(&FRAME).await.unwrap();
            stream.read_exact(&mut frame).await.unwrap();
        }
        peer.write_all(&FRAME).await.unwrap();
        let refused = stream.read_exact(&mut frame).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);
    }
}
