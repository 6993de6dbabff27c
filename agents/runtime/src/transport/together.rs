//! Requests that are made at the same time leave in one write.
//!
//! HTTP/2 flushes after each body, so that each of many requests would be a record of TLS, a packet, and a read at the server.
//! Here, where a client has many of them under way, what is small stays in memory until the connection's task has its next
//! turn, for which it is woken at once; what is said until then goes along.
//!
//! That turn begins with a read: HTTP/2 reads whenever it is asked to go on, before it writes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// So many requests without an answer are many.
const MANY: usize = 4;
/// What is larger is worth a write of its own.
const SMALL_BYTES: usize = 16 << 10;
/// So much is not added to.
const ENOUGH_BYTES: usize = 64 << 10;
/// So many flushes are put off, whatever the connection does.
const PUT_OFF: usize = 64;

/// Requests of a client that have no answer yet.
#[derive(Clone, Default)]
pub(crate) struct UnderWay(Arc<AtomicUsize>);

/// One of them.
pub(crate) struct OnItsWay(UnderWay);

impl UnderWay {
    pub(crate) fn one_more(&self) -> OnItsWay {
        self.0.fetch_add(1, Ordering::Relaxed);
        OnItsWay(self.clone())
    }

    fn are_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= MANY
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module head.
pub(crate) struct Together<S> {
    stream: S,
    /// Nothing is gathered where they are not counted.
    under_way: Option<UnderWay>,
    gathered: Vec<u8>,
    /// So many bytes of these are written.
    written: usize,
    /// How many flushes were put off since all was written.
    put_off: usize,
    /// Of a write, where nobody was told of it yet.
    failed: Option<io::Error>,
}

impl<S> Together<S> {
    pub(crate) fn new(stream: S, under_way: Option<UnderWay>) -> Self {
        Self {
            stream,
            under_way,
            gathered: Vec::new(),
            written: 0,
            put_off: 0,
            failed: None,
        }
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    fn are_many(&self) -> bool {
        self.under_way.as_ref().is_some_and(UnderWay::are_many)
    }
}

impl<S: AsyncWrite + Unpin> Together<S> {
    /// Hands on what was gathered.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.gathered.len() {
            let rest = &self.gathered[self.written..];
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
        }
        self.written = 0;
        self.put_off = 0;
        self.gathered.clear();
        Poll::Ready(Ok(()))
    }

    /// Nothing is written after what could not be: TLS may have taken a part of it.
    fn check(&mut self) -> io::Result<()> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        if self.gathered.capacity() > 0 && !self.are_many() {
            self.gathered = Vec::new();
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_gather(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let bytes = pieces.iter().map(|piece| piece.len()).sum::<usize>();
        if bytes > SMALL_BYTES || self.gathered.is_empty() && !self.are_many() {
            ready!(self.poll_drain(cx))?;
            return Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        }
        if self.gathered.len() + bytes > ENOUGH_BYTES {
            ready!(self.poll_drain(cx))?;
        }
        for piece in pieces {
            self.gathered.extend_from_slice(piece);
        }
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Together<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Where the server takes no more, what it has said is read all the same: also which requests it has not looked at.
        if !this.gathered.is_empty()
            && let Poll::Ready(Err(error)) = this.poll_send(cx)
        {
            this.gathered = Vec::new();
            this.written = 0;
            this.failed = Some(error);
        }
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending() {
            this.check()?;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Together<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_gather(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_gather(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        if this.gathered.is_empty() || this.put_off >= PUT_OFF {
            return this.poll_send(cx);
        }
        if this.put_off == 0 {
            cx.waker().wake_by_ref();
        }
        this.put_off += 1;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::sync::atomic::AtomicBool;
    use std::task::{Wake, Waker};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    fn with(requests: usize) -> (UnderWay, Vec<OnItsWay>) {
        let under_way = UnderWay::default();
        let on_their_way = (0..requests).map(|_| under_way.one_more()).collect();
        (under_way, on_their_way)
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

    /// The beginning of a turn.
    fn turn(near: &mut Together<DuplexStream>) {
        assert!(near.read(&mut [0; 8]).now_or_never().is_none());
    }

    #[tokio::test]
    async fn many_requests_leave_at_the_next_turn() {
        let (under_way, on_their_way) = with(MANY);
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut near = Together::new(near, Some(under_way));
        say(&mut near, b"ab").await;
        say(&mut near, b"cd").await;
        assert!(seen(&mut far).is_empty());
        turn(&mut near);
        assert_eq!(seen(&mut far), b"abcd");
        // What is large takes along what was there.
        let large = vec![b'x'; SMALL_BYTES + 1];
        say(&mut near, b"ef").await;
        say(&mut near, &large).await;
        assert_eq!(seen(&mut far), [&b"ef"[..], &large].concat());
        say(&mut near, b"gh").await;
        near.shutdown().await.unwrap();
        assert_eq!(seen(&mut far), b"gh");
        drop(on_their_way);
        near.flush().await.unwrap();
        assert_eq!(near.gathered.capacity(), 0);
    }

    #[tokio::test]
    async fn few_requests_leave_at_once() {
        let (under_way, _on_their_way) = with(MANY - 1);
        for under_way in [Some(under_way), None] {
            let (near, mut far) = tokio::io::duplex(1 << 10);
            let mut near = Together::new(near, under_way);
            say(&mut near, b"ab").await;
            assert_eq!(seen(&mut far), b"ab");
        }
    }

    #[tokio::test]
    async fn what_is_put_off_does_not_stay() {
        let (under_way, _on_their_way) = with(MANY);
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut near = Together::new(near, Some(under_way));
        for _ in 0..=PUT_OFF {
            assert!(seen(&mut far).is_empty());
            say(&mut near, b"a").await;
        }
        assert_eq!(seen(&mut far).len(), PUT_OFF + 1);
    }

    #[tokio::test]
    async fn what_a_server_has_said_before_it_went_is_read() {
        let (under_way, _on_their_way) = with(MANY);
        let (near, mut far) = tokio::io::duplex(1 << 10);
        let mut near = Together::new(near, Some(under_way));
        say(&mut near, b"ab").await;
        far.write_all(b"go away").await.unwrap();
        drop(far);
        let mut said = [0; 7];
        near.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"go away");
        assert!(near.write_all(b"cd").await.is_err());
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_turn_is_asked_for_whenever_something_is_put_off() {
        let (under_way, _on_their_way) = with(MANY);
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let mut near = Together::new(near, Some(under_way));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        let full = vec![b'x'; SMALL_BYTES];
        // Each fifth one finds no room, and sends what was there.
        for _ in 0..10 {
            woken.0.store(false, Ordering::Relaxed);
            assert!(Pin::new(&mut near).poll_write(&mut cx, &full).is_ready());
            let first = near.put_off == 0;
            assert!(Pin::new(&mut near).poll_flush(&mut cx).is_ready());
            assert_eq!(woken.0.load(Ordering::Relaxed), first);
            assert!(near.gathered.len() <= ENOUGH_BYTES);
        }
        turn(&mut near);
        assert_eq!(seen(&mut far).len(), 10 * SMALL_BYTES);
    }

    proptest::proptest! {
        /// All bytes arrive, in their order.
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
            let under_way = UnderWay::default();
            let (near, mut far) = tokio::io::duplex(room);
            let mut near = Together::new(near, Some(under_way.clone()));
            let (mut on_their_way, mut arrived, mut at) = (Vec::new(), Vec::new(), 0);
            let mut steps = steps.into_iter().cycle();
            for length in lengths {
                let end = at + length;
                while at < end {
                    match steps.next() {
                        Some(0) => on_their_way = (0..MANY).map(|_| under_way.one_more()).collect(),
                        Some(1) => on_their_way.clear(),
                        Some(2) => turn(&mut near),
                        _ => {}
                    }
                    match near.write(&all[at..end]).now_or_never() {
                        Some(written) => at += written.unwrap(),
                        None => arrived.extend(seen(&mut far)),
                    }
                }
            }
            while near.shutdown().now_or_never().is_none() {
                arrived.extend(seen(&mut far));
            }
            arrived.extend(seen(&mut far));
            proptest::prop_assert!(arrived == all);
        }
    }
}
