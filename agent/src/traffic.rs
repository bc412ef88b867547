//! A bound on what the other end of a connection may send: below TLS, so that it holds for handshakes, tickets, empty
//! records and HTTP/2 frames that ask for an answer, whoever sends them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that the handshake and one call may take. The longest message has 256 KiB.
const MAX_CALL: usize = 512 * 1024;

/// How many bytes the other end may send still.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<AtomicUsize>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(MAX_CALL)))
    }
}

impl Budget {
    /// Allows one more call.
    pub(crate) fn renew(&self) {
        self.0.store(MAX_CALL, Ordering::Relaxed);
    }

    fn spend(&self, bytes: usize) {
        let left = |left: usize| Some(left.saturating_sub(bytes));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }

    fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

/// A stream that fails once its budget is spent.
#[derive(Debug)]
pub(crate) struct Bounded<S> {
    pub(crate) io: S,
    pub(crate) budget: Budget,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.budget.is_spent() {
            let why = format!("more than {MAX_CALL} bytes for one call");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::FileTooLarge, why)));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        self.budget.spend(buffer.filled().len().saturating_sub(before));
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn stream_without_end_fails_and_each_call_has_its_share() {
        let budget = Budget::default();
        let mut endless = Bounded { io: tokio::io::repeat(0), budget: budget.clone() };
        for _ in 0..2 {
            let mut taken = Vec::new();
            let failure = endless.read_to_end(&mut taken).await.unwrap_err();
            assert!(failure.to_string().contains("more than 524288 bytes"), "{failure}");
            assert!((MAX_CALL..MAX_CALL + 64 * 1024).contains(&taken.len()), "{}", taken.len());
            budget.renew();
        }
    }
}
