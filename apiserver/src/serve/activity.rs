//! What one connection does: how many requests it has open, since when it has none, and which of its answers nobody
//! takes. Whoever drives the connection asks; nothing here runs by itself.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

/// Answers that are known to be smaller leave at once, for all that this file is about.
const WATCHED_BYTES_MIN: u64 = 256 * 1024;
/// A connection with so many requests that have no answer yet is busy: their answers may come at the same time.
pub(super) const BUSY: usize = 4;
/// Given to the connection at once: it keeps what it was given for as long as its client does not read.
const PIECE_BYTES: usize = 64 * 1024;

/// Said of an answer whose client may rest for as long as it wants: logs that somebody pages through, and tunnels.
#[derive(Clone, Copy)]
pub(crate) struct MayRest;

/// Requests of one connection.
pub(super) struct Activity {
    state: Mutex<State>,
    /// How many answers there are whose client may rest.
    resting: Arc<AtomicUsize>,
    /// How many requests have no answer yet.
    unanswered: AtomicUsize,
}

struct State {
    open: usize,
    /// When it last had a request, or since when it is there.
    since: Instant,
    begun: bool,
    answers: Vec<Weak<Mutex<Answer>>>,
}

/// Bounds of what [`Activity`] judges.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// To the first request, from the handshake on.
    pub(super) first: Duration,
    /// Without a request.
    pub(super) idle: Duration,
    /// An answer of which nothing is taken.
    pub(super) stall: Duration,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on; to be judged again then.
    Until(Instant),
    /// Nobody needs it.
    Idle,
}

impl Activity {
    pub(super) fn new(resting: Arc<AtomicUsize>) -> Activity {
        Activity {
            state: Mutex::new(State {
                open: 0,
                since: Instant::now(),
                begun: false,
                answers: Vec::new(),
            }),
            resting,
            unanswered: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request comes; it is open until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Open {
        let mut state = self.lock();
        state.open += 1;
        state.begun = true;
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        Open {
            activity: self.clone(),
            is_answered: false,
        }
    }

    /// See [`BUSY`].
    pub(super) fn is_busy(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= BUSY
    }

    /// The answer of a request, as its connection is to have it.
    pub(super) fn answer(self: &Arc<Self>, mut open: Open, mut response: Response) -> Response {
        open.answered();
        if response.extensions_mut().remove::<MayRest>().is_some()
            || response.status() == StatusCode::SWITCHING_PROTOCOLS
        {
            self.resting.fetch_add(1, Ordering::Relaxed);
            // A connection that has become another one never comes back.
            let resting = match response.status() {
                StatusCode::SWITCHING_PROTOCOLS => None,
                _ => Some(Resting(self.resting.clone())),
            };
            return response.map(|body| {
                Body::new(Kept {
                    body,
                    _open: open,
                    _resting: resting,
                })
            });
        }
        let is_small = |size: u64| size < WATCHED_BYTES_MIN;
        if response.body().size_hint().exact().is_some_and(is_small) {
            return response;
        }
        let answer = |body| Answer {
            body: Some(body),
            rest: Bytes::new(),
            given: None,
            _open: open,
        };
        response.map(|body| {
            let answer = Arc::new(Mutex::new(answer(body)));
            let mut state = self.lock();
            state.answers.retain(|one| one.strong_count() > 0);
            state.answers.push(Arc::downgrade(&answer));
            Body::new(Taken(answer))
        })
    }

    /// Lets go what nobody takes, and says whether the connection is needed.
    pub(super) fn judge(&self, now: Instant, bounds: &Bounds) -> Verdict {
        let mut state = self.lock();
        state.answers.retain(|one| one.strong_count() > 0);
        if state.open == 0 {
            let patience = if state.begun {
                bounds.idle
            } else {
                bounds.first
            };
            let end = state.since + patience;
            return match now >= end {
                true => Verdict::Idle,
                false => Verdict::Until(end),
            };
        }
        let answers = state.answers.clone();
        // The end of an answer locks the state.
        drop(state);
        let mut gone = Vec::new();
        for answer in answers.iter().filter_map(Weak::upgrade) {
            gone.push(lock(&answer).let_go(now, bounds.stall));
        }
        let again = if answers.is_empty() {
            bounds.idle
        } else {
            bounds.stall / 2
        };
        Verdict::Until(now + again)
    }
}

/// A request that is not over.
pub(super) struct Open {
    activity: Arc<Activity>,
    is_answered: bool,
}

impl Open {
    fn answered(&mut self) {
        if !std::mem::replace(&mut self.is_answered, true) {
            self.activity.unanswered.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.answered();
        let mut state = self.activity.lock();
        state.open -= 1;
        state.since = Instant::now();
    }
}

struct Resting(Arc<AtomicUsize>);

impl Drop for Resting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body as it is, and what ends with it.
struct Kept {
    body: Body,
    _open: Open,
    _resting: Option<Resting>,
}

impl http_body::Body for Kept {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer on its way.
struct Answer {
    /// None: it was let go.
    body: Option<Body>,
    /// Of the last frame.
    rest: Bytes,
    /// When the connection last got a piece, where it has not asked for the next.
    given: Option<Instant>,
    _open: Open,
}

impl Answer {
    /// Gives up what it holds where its client has taken nothing for so long; the caller drops it.
    fn let_go(&mut self, now: Instant, stall: Duration) -> Option<Body> {
        let since = self.given?;
        if now.saturating_duration_since(since) < stall {
            return None;
        }
        self.rest = Bytes::new();
        self.body.take()
    }

    fn piece(&mut self) -> Option<Bytes> {
        if self.rest.is_empty() {
            return None;
        }
        self.given = Some(Instant::now());
        Some(self.rest.split_to(self.rest.len().min(PIECE_BYTES)))
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.given = None;
        if self.body.is_none() {
            let error = std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                "the client did not read its answer",
            );
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        loop {
            if let Some(piece) = self.piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(body) = &mut self.body else {
                return Poll::Ready(None);
            };
            let frame = match std::task::ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                other => return Poll::Ready(other),
            };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
    }
}

struct Taken(Arc<Mutex<Answer>>);

fn lock(answer: &Mutex<Answer>) -> MutexGuard<'_, Answer> {
    answer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl http_body::Body for Taken {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        lock(&self.0).poll(context)
    }

    fn is_end_stream(&self) -> bool {
        let answer = lock(&self.0);
        let body = answer.body.as_ref();
        answer.rest.is_empty() && body.is_some_and(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let answer = lock(&self.0);
        match (&answer.body, answer.rest.len() as u64) {
            (Some(body), 0) => body.size_hint(),
            (Some(body), rest) => match body.size_hint().exact() {
                Some(exact) => SizeHint::with_exact(exact + rest),
                None => SizeHint::default(),
            },
            (None, _) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const BOUNDS: Bounds = Bounds {
        first: Duration::from_secs(30),
        idle: Duration::from_secs(90),
        stall: Duration::from_secs(60),
    };

    fn activity() -> Arc<Activity> {
        Arc::new(Activity::new(Arc::default()))
    }

    fn at(activity: &Activity, seconds: u64) -> Verdict {
        let since = activity.lock().since;
        activity.judge(since + Duration::from_secs(seconds), &BOUNDS)
    }

    #[tokio::test]
    async fn a_connection_without_requests_is_not_kept() {
        let activity = activity();
        assert!(matches!(at(&activity, 29), Verdict::Until(_)));
        assert_eq!(at(&activity, 30), Verdict::Idle);
        let open = activity.begin();
        assert!(matches!(at(&activity, 1_000), Verdict::Until(_)));
        drop(open);
        assert!(matches!(at(&activity, 89), Verdict::Until(_)));
        assert_eq!(at(&activity, 90), Verdict::Idle);
    }

    #[test]
    fn a_connection_is_busy_while_many_requests_have_no_answer() {
        let activity = activity();
        let mut open = (0..BUSY).map(|_| activity.begin()).collect::<Vec<_>>();
        assert!(activity.is_busy());
        // An answer that goes on counts no more.
        let last = open.pop().unwrap();
        let endless = Body::from_stream(futures::stream::pending::<std::io::Result<Bytes>>());
        let _watch = activity.answer(last, Response::new(endless));
        assert!(!activity.is_busy());
        open.push(activity.begin());
        assert!(activity.is_busy());
        // Nor does a request that is given up.
        open.pop();
        assert!(!activity.is_busy());
        assert_eq!(activity.lock().open, BUSY);
        drop(open);
        assert_eq!(activity.unanswered.load(Ordering::Relaxed), 0);
    }

    /// An answer of so many bytes, in one frame.
    fn large(activity: &Arc<Activity>, bytes: usize) -> Response {
        let open = activity.begin();
        activity.answer(open, Response::new(Body::from(vec![b'x'; bytes])))
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_is_let_go() {
        let activity = activity();
        let mut response = large(&activity, 1 << 20);
        let size = response.body().size_hint().exact();
        assert_eq!(size, Some(1 << 20));
        // Nothing was asked for: that is the connection's business, not the client's.
        assert!(matches!(at(&activity, 1_000), Verdict::Until(_)));
        let piece = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!(piece.into_data().unwrap().len(), PIECE_BYTES);
        let rest = Some((1 << 20) - PIECE_BYTES as u64);
        assert_eq!(response.body().size_hint().exact(), rest);
        let now = Instant::now();
        activity.judge(now + Duration::from_secs(30), &BOUNDS);
        let piece = response.body_mut().frame().await.unwrap();
        assert!(piece.is_ok(), "it was taken in time");
        activity.judge(now + Duration::from_secs(120), &BOUNDS);
        let error = response.body_mut().frame().await.unwrap().unwrap_err();
        assert!(error.to_string().contains("did not read"), "{error}");
        drop(response);
        assert_eq!(activity.lock().open, 0);
    }

    #[tokio::test]
    async fn one_that_waits_for_its_server_is_kept() {
        let activity = activity();
        let (_sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let frames = futures::stream::once(async move {
            receiver.await.ok();
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        });
        let open = activity.begin();
        let mut response = activity.answer(open, Response::new(Body::from_stream(frames)));
        let waiting = std::future::poll_fn(|context| {
            Poll::Ready(
                Pin::new(response.body_mut())
                    .poll_frame(context)
                    .is_pending(),
            )
        });
        assert!(waiting.await);
        assert!(matches!(at(&activity, 10_000), Verdict::Until(_)));
        let answers = activity.lock().answers.clone();
        let answer = answers[0].upgrade().unwrap();
        assert!(lock(&answer).body.is_some());
    }

    #[tokio::test]
    async fn all_bytes_arrive() {
        let activity = activity();
        let whole = large(&activity, 300_001).into_body().collect().await;
        assert_eq!(whole.unwrap().to_bytes().len(), 300_001);
        let open = activity.begin();
        let mut resting = Response::new(Body::from("x"));
        resting.extensions_mut().insert(MayRest);
        let resting = activity.answer(open, resting);
        assert_eq!(activity.resting.load(Ordering::Relaxed), 1);
        assert_eq!(resting.into_body().collect().await.unwrap().to_bytes(), "x");
        assert_eq!(activity.resting.load(Ordering::Relaxed), 0);
    }
}
