//! The answer on its way out: told of when it is complete, and as it goes where that takes long.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;

use super::policy::Stage;
use super::{Audit, event, told};

/// An answer that is longer is not told: it would have to be held.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Tells of an answer. One that goes on for long is told of when it begins, and when it ends.
pub(crate) async fn finish(audit: &Audit, is_long_running: bool, response: Response) -> Response {
    if audit.0.is_none() {
        return response;
    }
    let code = response.status();
    if is_long_running {
        audit.start(code.as_u16());
        if code.is_success() {
            return response.map(|body| {
                let audit = audit.clone();
                Body::new(Told { body, audit })
            });
        }
    }
    let response = match audit.tells_answer() && code != StatusCode::SWITCHING_PROTOCOLS {
        true => Box::pin(tell_answer(audit, response)).await,
        false => response,
    };
    audit.code(code.as_u16());
    audit.end(Stage::ResponseComplete);
    response
}

/// Keeps what is answered for the event, and passes it on.
async fn tell_answer(audit: &Audit, response: Response) -> Response {
    let (parts, mut body) = response.into_parts();
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let failed = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => {
                read.extend_from_slice(&data);
                None
            }
            Ok(Err(_)) => None,
            Err(error) => Some(Err(error)),
        };
        if failed.is_some() || read.len() > ANSWER_BYTES_MAX {
            audit.annotate("audit.k8s.io/truncated", "true");
            let first = std::iter::once(Ok(read.freeze())).chain(failed);
            let rest = body.into_data_stream();
            let body = Body::from_stream(futures::stream::iter(first).chain(rest));
            return Response::from_parts(parts, body);
        }
    }
    let read: Bytes = read.freeze();
    if let Some(object) = told(&parts.headers, &read) {
        audit.change(|facts| {
            if object["kind"] == "Status" {
                facts.status = Some(event::response_status(object.clone()));
            }
            facts.response = Some(match facts.verdict.omit_managed_fields {
                true => event::without_managed_fields(object),
                false => object,
            });
        });
    }
    Response::from_parts(parts, Body::from(read))
}

/// A body whose end is told of, also where nobody reads it to the end.
struct Told {
    body: Body,
    audit: Audit,
}

impl http_body::Body for Told {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.audit.end(Stage::ResponseComplete);
    }
}
