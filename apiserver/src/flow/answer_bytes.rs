//! The bytes of answers, from when their size is known until they are sent.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;

use super::estimate::BYTES_MIN;
use super::level::Level;

/// Bytes of an answer that are given back at once.
const FREED_AT_ONCE: u64 = 256 * 1024;

/// Bytes of an answer that are not sent yet. Given back as they are, and all when it is dropped.
pub(crate) struct Bytes {
    level: Arc<Level>,
    flow: u64,
    left: u64,
}

/// Said of an answer whose body does not know how large it is.
#[derive(Clone, Copy)]
pub(crate) struct AnswerBytes(pub(crate) u64);

/// How large an answer is, where that is known.
pub(crate) fn bytes_of(response: &Response) -> Option<u64> {
    use http_body::Body as _;
    let told = response.extensions().get::<AnswerBytes>();
    let exact = response.body().size_hint().exact();
    exact.or(told.map(|told| told.0))
}

impl Bytes {
    /// So many bytes of a level that a flow has been given.
    pub(super) fn of(level: Arc<Level>, flow: u64, left: u64) -> Bytes {
        Bytes { level, flow, left }
    }

    /// The answer is known to be so large; small ones do not count.
    pub(crate) fn settle(&mut self, bytes: u64) {
        let bytes = if bytes < BYTES_MIN { 0 } else { bytes };
        match bytes.checked_sub(self.left) {
            Some(0) => {}
            Some(more) => {
                self.left = bytes;
                self.level.charge(self.flow, more);
            }
            None => self.free(self.left - bytes),
        }
    }

    fn free(&mut self, bytes: u64) {
        let bytes = bytes.min(self.left);
        if bytes > 0 {
            self.left -= bytes;
            self.level.free(self.flow, bytes);
        }
    }

    /// The answer with these bytes, as its client takes them.
    pub(crate) fn counted(mut self, response: Response) -> Response {
        if let Some(bytes) = bytes_of(&response) {
            self.settle(bytes);
        }
        if self.left == 0 {
            return response;
        }
        response.map(|body| {
            Body::new(Counted {
                body,
                bytes: self,
                sent: 0,
            })
        })
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.free(self.left);
    }
}

struct Counted {
    body: Body,
    bytes: Bytes,
    sent: u64,
}

impl http_body::Body for Counted {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        // What was taken before is on its way by the time that more is asked for.
        if this.sent >= FREED_AT_ONCE {
            this.bytes.free(std::mem::take(&mut this.sent));
        }
        let frame = std::task::ready!(std::pin::Pin::new(&mut this.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => this.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(_)) | None => this.bytes.free(u64::MAX),
        }
        std::task::Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}
