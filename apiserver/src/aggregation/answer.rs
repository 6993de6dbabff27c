//! The body of another server's answer, which has to be here by the request's deadline: a server that begins an answer and
//! stalls would keep its client waiting for ever.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep};

/// Fails at the deadline, also where there would be more: the client sees a broken answer, as from Kubernetes, and not a
/// short one.
struct InTime {
    body: Body,
    end: Pin<Box<Sleep>>,
}

/// The same body, which fails once it is not over by `deadline`.
pub(super) fn in_time(body: Body, deadline: Instant) -> Body {
    Body::new(InTime {
        body,
        end: Box::pin(tokio::time::sleep_until(deadline)),
    })
}

impl http_body::Body for InTime {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if this.end.as_mut().poll(context).is_ready() {
            let late = io::Error::new(
                io::ErrorKind::TimedOut,
                "the answer did not end within the time of its request",
            );
            return Poll::Ready(Some(Err(axum::Error::new(late))));
        }
        Pin::new(&mut this.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::{StreamExt, stream};
    use http_body_util::BodyExt;

    use super::*;

    fn begun() -> stream::Iter<std::vec::IntoIter<io::Result<Bytes>>> {
        stream::iter(vec![Ok(Bytes::from_static(b"begun"))])
    }

    #[tokio::test(start_paused = true)]
    async fn what_stalls_breaks_at_the_deadline() {
        let start = Instant::now();
        let deadline = start + Duration::from_secs(60);
        let stalled = Body::from_stream(begun().chain(stream::pending()));
        let mut stalled = in_time(stalled, deadline);
        let first = stalled.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "begun");
        assert!(stalled.frame().await.unwrap().is_err());
        assert_eq!(start.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_in_time_is_whole() {
        let deadline = Instant::now() + Duration::from_secs(60);
        let whole = in_time(Body::from_stream(begun()), deadline);
        assert_eq!(whole.collect().await.unwrap().to_bytes(), "begun");
        let known = in_time(Body::from("ten bytes."), deadline);
        assert_eq!(http_body::Body::size_hint(&known).exact(), Some(10));
    }
}
