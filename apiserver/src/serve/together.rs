//! Answers of one connection that are ready at the same time leave in one write.
//!
//! HTTP/2 writes each answer by itself, and a task that is woken goes next: where a client has many requests under way, each
//! answer would be a record of TLS, a packet, and a read at the other end. Here what is small stays in memory until the
//! connection was asked once more, after the tasks that are ready have had their turn. Nothing is waited for: where no other
//! task is ready, that turn is at once. On a connection with few requests under way, all goes on as it comes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;

/// What is larger is worth a write of its own.
const SMALL_BYTES: usize = 16 << 10;
/// So much is not added to.
const ENOUGH_BYTES: usize = 64 << 10;

/// The stream as the connection sees it. What it has flushed may still be here: see [`Sending`].
pub(super) struct Together<S>(Arc<Mutex<Outlet<S>>>);

/// Sends what was gathered, after the connection was asked.
pub(super) struct Sending<S> {
    outlet: Arc<Mutex<Outlet<S>>>,
    /// Whether others have had a turn since something was gathered.
    waited: bool,
    /// What was gathered is written and may be in the stream still.
    unflushed: bool,
}

struct Outlet<S> {
    stream: S,
    /// Of the connection, where its answers may be gathered.
    activity: Option<Arc<Activity>>,
    gathered: Vec<u8>,
    /// So many bytes of these are written.
    written: usize,
}

/// A stream whose writes are gathered while there is much `activity`; never where there is none to look at. Whoever asks the
/// connection has to ask [`Sending`] after it.
pub(super) fn together<S>(stream: S, activity: Option<Arc<Activity>>) -> (Together<S>, Sending<S>) {
    let outlet = Arc::new(Mutex::new(Outlet {
        stream,
        activity,
        gathered: Vec::new(),
        written: 0,
    }));
    let sending = Sending {
        outlet: outlet.clone(),
        waited: false,
        unflushed: false,
    };
    (Together(outlet), sending)
}

fn lock<S>(outlet: &Mutex<Outlet<S>>) -> MutexGuard<'_, Outlet<S>> {
    outlet.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncWrite + Unpin> Outlet<S> {
    fn is_busy(&self) -> bool {
        self.activity.as_deref().is_some_and(Activity::is_busy)
    }

    /// Hands on what was gathered.
    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while self.written < self.gathered.len() {
            let rest = &self.gathered[self.written..];
            let written = ready!(Pin::new(&mut self.stream).poll_write(context, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.written = 0;
        self.gathered.clear();
        Poll::Ready(Ok(()))
    }

    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if bytes > SMALL_BYTES || self.gathered.is_empty() && !self.is_busy() {
            ready!(self.poll_drain(context))?;
            return Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        }
        if self.gathered.len() + bytes > ENOUGH_BYTES {
            ready!(self.poll_drain(context))?;
        }
        for piece in pieces {
            self.gathered.extend_from_slice(piece);
        }
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncWrite + Unpin> Sending<S> {
    /// Ready where nothing is left to send; pending where it is to be asked again, with the connection, when `context` is
    /// woken.
    ///
    /// # Errors
    /// Of the stream: the connection is at its end.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outlet = lock(&self.outlet);
        if !outlet.gathered.is_empty() {
            if !self.waited && outlet.is_busy() {
                self.waited = true;
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            ready!(outlet.poll_drain(context))?;
            self.unflushed = true;
        }
        self.waited = false;
        if outlet.gathered.capacity() > 0 && !outlet.is_busy() {
            // There are thousands of connections that rest.
            outlet.gathered = Vec::new();
        }
        if self.unflushed {
            ready!(Pin::new(&mut outlet.stream).poll_flush(context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The connection is over. What it has said before goes as far as it can without waiting.
    pub(super) fn end(&mut self, context: &mut Context<'_>) {
        let mut outlet = lock(&self.outlet);
        if !outlet.gathered.is_empty() && outlet.poll_drain(context).is_ready() {
            // Whether it arrives is not for anybody to know.
            let _ = Pin::new(&mut outlet.stream).poll_flush(context);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Together<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Together<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outlet = lock(&self.0);
        if outlet.gathered.is_empty() {
            return Pin::new(&mut outlet.stream).poll_flush(context);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut outlet = lock(&self.0);
        ready!(outlet.poll_drain(context))?;
        Pin::new(&mut outlet.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::super::activity::{BUSY, Open};
    use super::super::impatient::Impatient;
    use super::*;

    /// A connection with so many requests under way.
    fn with(requests: usize) -> (Arc<Activity>, Vec<Open>) {
        let activity = Arc::new(Activity::new(Arc::default()));
        let open = (0..requests).map(|_| activity.begin()).collect();
        (activity, open)
    }

    /// What has arrived.
    fn seen(far: &mut DuplexStream) -> Vec<u8> {
        let mut seen = Vec::new();
        let mut piece = [0; 1024];
        while let Some(Ok(read @ 1..)) = far.read(&mut piece).now_or_never() {
            seen.extend_from_slice(&piece[..read]);
        }
        seen
    }

    async fn say(near: &mut Together<DuplexStream>, bytes: &[u8]) {
        near.write_all(bytes).await.unwrap();
        near.flush().await.unwrap();
    }

    /// Whether nothing is left to send.
    fn asked(sending: &mut Sending<DuplexStream>) -> bool {
        let once = poll_fn(|context| sending.poll(context)).now_or_never();
        once.is_some_and(|sent| {
            sent.unwrap();
            true
        })
    }

    #[tokio::test]
    async fn answers_of_a_busy_connection_leave_when_it_was_asked_again() {
        let (activity, open) = with(BUSY);
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (mut near, mut sending) = together(near, Some(activity));
        say(&mut near, b"ab").await;
        assert!(!asked(&mut sending));
        say(&mut near, b"cd").await;
        assert!(seen(&mut far).is_empty());
        assert!(asked(&mut sending));
        assert_eq!(seen(&mut far), b"abcd");
        // What is large takes along what was there.
        let large = vec![b'x'; SMALL_BYTES + 1];
        say(&mut near, b"ef").await;
        say(&mut near, &large).await;
        assert_eq!(seen(&mut far), [&b"ef"[..], &large].concat());
        // The last one is not waited for.
        say(&mut near, b"gh").await;
        drop(open);
        assert!(asked(&mut sending));
        assert_eq!(seen(&mut far), b"gh");
        assert_eq!(lock(&sending.outlet).gathered.capacity(), 0);
    }

    #[tokio::test]
    async fn others_leave_as_they_come() {
        let (activity, _open) = with(BUSY - 1);
        for activity in [Some(activity), None] {
            let (near, mut far) = tokio::io::duplex(1 << 10);
            let (mut near, mut sending) = together(near, activity);
            say(&mut near, b"ab").await;
            assert_eq!(seen(&mut far), b"ab");
            assert!(asked(&mut sending));
        }
    }

    #[tokio::test]
    async fn what_was_gathered_comes_before_the_end() {
        let (activity, _open) = with(BUSY);
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (mut near, mut sending) = together(near, Some(activity.clone()));
        say(&mut near, b"ab").await;
        near.shutdown().await.unwrap();
        assert_eq!(seen(&mut far), b"ab");
        assert!(asked(&mut sending));
        // Also where the connection does not care for its end.
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let (mut near, mut sending) = together(near, Some(activity));
        say(&mut near, b"cd").await;
        poll_fn(|context| {
            sending.end(context);
            Poll::Ready(())
        })
        .await;
        assert_eq!(seen(&mut far), b"cd");
    }

    #[tokio::test]
    async fn a_stream_that_has_ended_is_an_error() {
        let (activity, _open) = with(BUSY);
        let (near, far) = tokio::io::duplex(1 << 10);
        let (mut near, mut sending) = together(near, Some(activity));
        say(&mut near, b"ab").await;
        drop(far);
        assert!(!asked(&mut sending));
        let sent = poll_fn(|context| sending.poll(context)).await;
        assert!(sent.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn one_who_takes_nothing_of_it_is_left() {
        let (activity, _open) = with(BUSY);
        let (near, _far) = tokio::io::duplex(8);
        let near = Impatient::new(near, Duration::from_secs(60), Arc::default());
        let (mut near, mut sending) = together(near, Some(activity));
        near.write_all(b"123456789").await.unwrap();
        near.flush().await.unwrap();
        let sent = poll_fn(|context| sending.poll(context)).await;
        assert_eq!(sent.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    proptest::proptest! {
        /// All bytes arrive, in their order, and no more of them are kept than there may be.
        #[test]
        fn gathered_or_not_it_is_the_same(
            lengths in proptest::collection::vec(
                proptest::prop_oneof![0..300_usize, 0..3 * SMALL_BYTES],
                0..12,
            ),
            steps in proptest::collection::vec(0..6_usize, 1..40),
            room in 1..100_000_usize,
        ) {
            let total = lengths.iter().sum::<usize>();
            let all = (0..total).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
            let (activity, _) = with(0);
            let (near, mut far) = tokio::io::duplex(room);
            let (mut near, mut sending) = together(near, Some(activity.clone()));
            let (mut open, mut arrived, mut at) = (Vec::new(), Vec::new(), 0);
            let mut steps = steps.into_iter().cycle();
            for length in lengths {
                let end = at + length;
                while at < end {
                    match steps.next() {
                        Some(0) => open = (0..BUSY).map(|_| activity.begin()).collect(),
                        Some(1) => open.clear(),
                        Some(2) => {
                            asked(&mut sending);
                        }
                        _ => {}
                    }
                    match near.write(&all[at..end]).now_or_never() {
                        Some(written) => at += written.unwrap(),
                        None => arrived.extend(seen(&mut far)),
                    }
                    assert!(lock(&sending.outlet).gathered.len() <= ENOUGH_BYTES);
                }
            }
            while !asked(&mut sending) {
                arrived.extend(seen(&mut far));
            }
            arrived.extend(seen(&mut far));
            proptest::prop_assert!(arrived == all);
        }
    }
}
