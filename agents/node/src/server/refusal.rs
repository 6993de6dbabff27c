//! Requests that cannot be served.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// A request that cannot be served; the body is plain text, which the API server puts into a Status.
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (
            self.0,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            self.1,
        )
            .into_response()
    }
}

pub(crate) fn missing(text: String) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, text)
}

pub(crate) fn internal(text: String) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, text)
}

pub(crate) fn bad(text: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, text.into())
}
