//! A limit on what a peer may send, counted below TLS, so that it includes handshakes, tickets, empty records, key updates and
//! HTTP/2 frames that request an answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The cost of a read in addition to its bytes, in bytes: a peer may send each byte in its own segment.
const READ_COST: usize = 256;

/// No bound.
const UNLIMITED: usize = usize::MAX;

/// How much the other end may still send. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<AtomicUsize>);

impl Budget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// Begins another budget; `None` is no bound.
    pub fn set(&self, bytes: Option<usize>) {
        self.0.store(bytes.unwrap_or(UNLIMITED), Ordering::Relaxed);
    }

    /// Whether something is left.
    ///
    /// # Errors
    /// [`io::ErrorKind::QuotaExceeded`] if nothing is.
    pub fn check(&self) -> io::Result<()> {
        if self.left() > 0 {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::QuotaExceeded, "the peer sent too much"))
    }

    /// Bytes that are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes so many bytes off the budget, for what costs more than its length. The next read fails if none are left.
    pub fn charge(&self, bytes: usize) {
        let left = self.left();
        if left != UNLIMITED {
            self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

/// A stream whose reads fail once its budget is spent.
#[derive(Debug)]
pub struct Budgeted<S> {
    stream: S,
    budget: Budget,
    min_read: usize,
}

impl<S> Budgeted<S> {
    /// The stream, with a budget that others may hold too.
    pub const fn new(stream: S, budget: Budget) -> Self {
        Self { stream, budget, min_read: 0 }
    }

    /// The same, where each read costs so many bytes at least: a wake-up costs more than a few bytes.
    #[must_use]
    pub fn with_min_read(self, min_read: usize) -> Self {
        Self { min_read, ..self }
    }

    /// The stream, for what a budget does not cover.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Its budget.
    pub const fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Budgeted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.budget.check()?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let bytes = buf.filled().len().saturating_sub(before);
        let (cost, min_read) = (bytes.saturating_add(READ_COST), self.min_read);
        self.budget.charge(cost.max(min_read));
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
    async fn bytes_and_reads_beyond_the_budget_are_refused() {
        let (mut peer, stream) = duplex(64 * 1024);
        let budget = Budget::new(3 * READ_COST + 3);
        let mut stream = Budgeted::new(stream, budget.clone());
        let mut byte = [0];
        for _ in 0..3 {
            peer.write_all(&[7]).await.unwrap();
            stream.read_exact(&mut byte).await.unwrap();
        }
        peer.write_all(&[7]).await.unwrap();
        let refused = stream.read_exact(&mut byte).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::QuotaExceeded);

        budget.set(Some(1000));
        peer.write_all(&[0; 1000]).await.unwrap();
        stream.read_exact(&mut [0; 1000]).await.unwrap();
        stream.read_exact(&mut byte).await.unwrap_err();

        budget.set(Some(1000));
        budget.charge(1000);
        peer.write_all(&[7]).await.unwrap();
        stream.read_exact(&mut byte).await.unwrap_err();

        let mut stream = stream.with_min_read(1000);
        budget.set(Some(1500));
        for _ in 0..2 {
            peer.write_all(&[7]).await.unwrap();
            stream.read_exact(&mut byte).await.unwrap();
        }
        peer.write_all(&[7]).await.unwrap();
        stream.read_exact(&mut byte).await.unwrap_err();

        budget.set(None);
        budget.charge(1000);
        for _ in 0..100 {
            peer.write_all(&[0; 1000]).await.unwrap();
            stream.read_exact(&mut [0; 1000]).await.unwrap();
        }
    }

    #[tokio::test]
    async fn stream_without_end_fails_and_each_budget_is_a_share_of_its_own() {
        const SHARE: usize = 512 * 1024;
        let budget = Budget::new(SHARE);
        let mut endless = Budgeted::new(tokio::io::repeat(0), budget.clone());
        for _ in 0..2 {
            let mut taken = Vec::new();
            endless.read_to_end(&mut taken).await.unwrap_err();
            assert!((1..SHARE + 64 * 1024).contains(&taken.len()), "{}", taken.len());
            budget.set(Some(SHARE));
        }
    }
}
