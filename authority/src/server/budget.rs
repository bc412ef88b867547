//! What a peer may send before it is known: bytes and reads, counted below TLS.
//!
//! A record, a segment or a key update costs processor time whether or not it carries anything for
//! HTTP/2, so they are counted where nothing is left out. And what is parsed is kept: thousands of
//! tiny extensions of a ClientHello take many times their length in memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Until the ClientHello is whole. One with a post-quantum key share has less than 2 KiB.
pub(super) const MAX_CLIENT_HELLO: usize = 4 * 1024;

/// For the rest of the handshake: the certificate of a host has about 1 KiB.
pub(super) const MAX_HANDSHAKE: usize = 16 * 1024;

/// For all that a peer without a certificate says after the handshake: a join of the maximum size,
/// another of a typical one, and some to spare.
pub(super) const MAX_UNPROVEN: usize = 64 * 1024;

/// What a read costs beside its bytes, in bytes: who sends each byte in a segment of its own makes
/// the authority work for each.
const READ_COST: usize = 256;

/// A stream from which no more is read than its budget.
pub(super) struct Budgeted<S> {
    stream: S,
    /// Bytes; none if there is no limit.
    left: Option<usize>,
}

impl<S> Budgeted<S> {
    pub(super) fn new(stream: S, budget: usize) -> Self {
        Self { stream, left: Some(budget) }
    }

    /// Begins another budget; none is no limit.
    pub(super) fn set(&mut self, budget: Option<usize>) {
        self.left = budget;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Budgeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len().saturating_sub(before);
        if let Some(left) = &mut self.left {
            let rest = left.checked_sub(read.saturating_add(READ_COST));
            *left = rest.ok_or(io::Error::from(io::ErrorKind::QuotaExceeded))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Budgeted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn no_more_is_read_than_the_budget() {
        let (mut peer, stream) = duplex(64 * 1024);
        let mut stream = Budgeted::new(stream, 3 * READ_COST + 3);
        let mut byte = [0];
        for _ in 0..3 {
            peer.write_all(&[7]).await.unwrap();
            stream.read_exact(&mut byte).await.unwrap();
        }
        peer.write_all(&[7]).await.unwrap();
        let refused = stream.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);

        stream.set(Some(1000));
        peer.write_all(&[0; 1000]).await.unwrap();
        stream.read_exact(&mut [0; 1000]).await.unwrap_err();

        stream.set(None);
        for _ in 0..100 {
            peer.write_all(&[0; 1000]).await.unwrap();
            stream.read_exact(&mut [0; 1000]).await.unwrap();
        }
    }
}
