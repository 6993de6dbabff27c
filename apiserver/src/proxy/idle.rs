//! A connection that ends when nothing moves on it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Bytes in either direction put the end off. Only while somebody reads or writes is the time looked at: who waits for
/// nothing holds nothing up.
pub(crate) struct Idle<S> {
    stream: S,
    max: Duration,
    end: Pin<Box<Sleep>>,
}

impl<S> Idle<S> {
    pub(crate) fn new(stream: S, max: Duration) -> Idle<S> {
        Idle {
            stream,
            max,
            end: Box::pin(tokio::time::sleep(max)),
        }
    }

    /// What an operation on the stream came to, or the end of patience with it.
    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            let end = Instant::now() + self.max;
            self.end.as_mut().reset(end);
            return outcome;
        }
        ready!(self.end.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "nothing moved on the connection for too long",
        )))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Idle<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.judge(context, outcome)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Idle<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, buffer);
        self.judge(context, outcome)
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
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_connection_and_bytes_do_not() {
        let (mut near, far) = tokio::io::duplex(16);
        let mut far = Idle::new(far, Duration::from_secs(60));
        let start = Instant::now();
        let writer = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(50)).await;
                near.write_all(b"x").await.unwrap();
            }
            near
        };
        let reader = async {
            let mut all = [0; 3];
            far.read_exact(&mut all).await.unwrap();
            far.read_u8().await.unwrap_err().kind()
        };
        let (_near, kind) = tokio::join!(writer, reader);
        assert_eq!(kind, io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed().as_secs(), 210);
    }
}
