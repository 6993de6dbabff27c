//! A stream whose other side has to read: a write that makes no progress for too long is an error, which ends the
//! connection with everything that it holds.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

pub(super) struct Impatient<S> {
    stream: S,
    limit: Duration,
    /// While this is not zero the other side may rest.
    resting: Arc<AtomicUsize>,
    /// Made at the first stall.
    timer: Option<Pin<Box<Sleep>>>,
    stalled: bool,
}

impl<S> Impatient<S> {
    pub(super) fn new(stream: S, limit: Duration, resting: Arc<AtomicUsize>) -> Impatient<S> {
        Impatient {
            stream,
            limit,
            resting,
            timer: None,
            stalled: false,
        }
    }

    /// What came of an attempt to write.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = false;
            return outcome;
        }
        let limit = self.limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if !self.stalled {
            self.stalled = true;
            timer.as_mut().reset(Instant::now() + limit);
        }
        while timer.as_mut().poll(context).is_ready() {
            if self.resting.load(Ordering::Relaxed) == 0 {
                let text = "the other side does not read";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
            timer.as_mut().reset(Instant::now() + limit);
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.judge(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.judge(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(context);
        this.judge(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(context);
        this.judge(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_left() {
        let (near, mut far) = tokio::io::duplex(8);
        let resting = Arc::new(AtomicUsize::new(0));
        let mut near = Impatient::new(near, LIMIT, resting.clone());
        let begun = Instant::now();
        near.write_all(b"12345678").await.unwrap();
        // One who reads slowly is served.
        let reader = async {
            let mut byte = [0];
            for _ in 0..4 {
                tokio::time::sleep(LIMIT / 2).await;
                far.read_exact(&mut byte).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(near.write_all(b"1234"), reader);
        written.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 120);
        let error = near.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begun.elapsed().as_secs(), 180);
        // One who may rest is waited for.
        resting.store(1, Ordering::Relaxed);
        let waited = tokio::time::timeout(10 * LIMIT, near.write_all(b"x")).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}
