//! The cost of frames in addition to their bytes: an informational response of HTTP/2 in ten bytes can take a kilobyte of memory,
//! and a TLS KeyUpdate in 27 bytes takes new keys.

use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::budget::Budget;

/// The longest header of a frame, in bytes.
const MAX_HEADER: usize = 9;

/// A protocol that sends frames: a header of fixed length, and a payload whose length the header tells.
pub trait Framing {
    /// Bytes of a header, at most 9.
    const HEADER: usize;
    /// The cost of a frame in addition to its bytes, in bytes of the budget.
    const COST: usize;

    /// Bytes of the payload that follows a header; bytes beyond [`Self::HEADER`] are 0.
    fn payload(header: &[u8; MAX_HEADER]) -> usize;
}

/// Frames of HTTP/2. RFC 9113, 4.1. An authority sends about ten for a call.
#[derive(Debug)]
pub enum Http2Frames {}

impl Framing for Http2Frames {
    const HEADER: usize = 9;
    const COST: usize = 256;

    fn payload(&[a, b, c, ..]: &[u8; MAX_HEADER]) -> usize {
        usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
    }
}

/// Records of TLS. RFC 8446, 5.1. A host sends about twelve for a join.
#[derive(Debug)]
pub enum TlsRecords {}

impl Framing for TlsRecords {
    const HEADER: usize = 5;
    const COST: usize = 384;

    fn payload(&[_, _, _, a, b, ..]: &[u8; MAX_HEADER]) -> usize {
        usize::from(a) << 8 | usize::from(b)
    }
}

/// Where in a frame a stream is.
#[derive(Debug, Default)]
struct Position {
    header: [u8; MAX_HEADER],
    /// Bytes of the header so far.
    known: usize,
    /// Bytes of the payload that are still to come.
    payload: usize,
}

impl Position {
    /// The number of frame headers that end in these bytes.
    fn advance<F: Framing>(&mut self, mut bytes: &[u8]) -> usize {
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
            if self.known >= F::HEADER {
                self.payload = F::payload(&self.header);
                (self.known, frames) = (0, frames + 1);
            }
        }
        frames
    }
}

/// A stream of frames, each of which is charged to a budget.
#[derive(Debug)]
pub struct Charged<S, F> {
    stream: S,
    budget: Budget,
    position: Position,
    framing: PhantomData<fn() -> F>,
}

impl<S, F> Charged<S, F> {
    /// The stream, with a budget that others may hold too.
    pub fn new(stream: S, budget: Budget) -> Self {
        Self { stream, budget, position: Position::default(), framing: PhantomData }
    }

    /// The stream, for what is not framed.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }
}

impl<S: AsyncRead + Unpin, F: Framing> AsyncRead for Charged<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        let frames = self.position.advance::<F>(read);
        self.budget.charge(frames.saturating_mul(F::COST));
        Poll::Ready(self.budget.check())
    }
}

impl<S: AsyncWrite + Unpin, F: Framing> AsyncWrite for Charged<S, F> {
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
        fn counts<F: Framing>(frame: impl Fn(u8) -> Vec<u8>) {
            let stream = [frame(3), frame(0), frame(0), frame(200), frame(1)].concat();
            for cut in 0..=stream.len() {
                let (head, tail) = stream.split_at(cut);
                let mut position = Position::default();
                let frames = position.advance::<F>(head) + position.advance::<F>(tail);
                assert_eq!(frames, 5, "cut at {cut}");
            }
        }
        let payload = |len: u8| vec![9; len.into()];
        counts::<Http2Frames>(|len| [&[0, 0, len, 0, 0, 0, 0, 0, 1][..], &payload(len)].concat());
        counts::<TlsRecords>(|len| [&[23, 3, 3, 0, len][..], &payload(len)].concat());
    }

    #[tokio::test]
    async fn small_frames_spend_the_budget() {
        const FRAME: [u8; 9] = [0; 9];
        let (mut peer, stream) = duplex(64 * 1024);
        let budget = Budget::new(3 * Http2Frames::COST);
        let mut stream = Charged::<_, Http2Frames>::new(stream, budget);
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
