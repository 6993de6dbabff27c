//! Sending a request until there is an answer, and reading that.

use super::{ACCEPT, Body, Client};
use crate::error::ApiError;
use crate::metrics;
use crate::transport::Failure;
use bytes::{Bytes, BytesMut};
use http::header::InvalidHeaderValue;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Answers larger than this are refused, so that a broken server cannot exhaust the agent.
const ANSWER_BYTES_MAX: usize = 256 << 20;
const RETRIES_MAX: u32 = 10;
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Most bodies of requests have less.
const BODY_BYTES: usize = 2048;

/// RFC 7240.
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// How much of an answer is of interest.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// All, in this form.
    Whole(&'a str),
    /// Which object it is about, and its version: our servers say no more then, others do.
    Little,
}

impl Client {
    pub(super) async fn read(&self, path: &str, accept: &str) -> Result<Value, ApiError> {
        self.json(Method::GET, path, accept, "", Bytes::new()).await
    }

    pub(super) async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<T, ApiError> {
        self.json(method, path, ACCEPT, content_type, encode(body))
            .await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<T, ApiError> {
        let wanted = Wanted::Whole(accept);
        let bytes = self.bytes(method, path, wanted, content_type, body).await?;
        serde_json::from_slice(&bytes)
            .map_err(|e| ApiError::malformed(format!("answer of {path}: {e}")))
    }

    pub(super) async fn bytes(
        &self,
        method: Method,
        path: &str,
        wanted: Wanted<'_>,
        content_type: &str,
        body: Bytes,
    ) -> Result<Bytes, ApiError> {
        let deadline = Instant::now() + self.inner.timeout;
        let retry_read = method == Method::GET;
        let mut again = true;
        loop {
            let response = self
                .send(
                    method.clone(),
                    path,
                    wanted,
                    content_type,
                    body.clone(),
                    deadline,
                )
                .await?;
            match collect(response.into_body(), deadline).await {
                // A connection may die in the middle of an answer; a read is asked once more.
                Err(error) if retry_read && again && error.is_transport() => again = false,
                other => return other,
            }
        }
    }

    /// Sends with retries until there is an answer of success.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        wanted: Wanted<'_>,
        content_type: &str,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Response<Body>, ApiError> {
        let mut attempt: u32 = 0;
        let mut backoff = BACKOFF_FIRST;
        loop {
            attempt += 1;
            let request = self.request(&method, path, wanted, content_type, body.clone())?;
            let begun = Instant::now();
            let (error, wait) =
                match tokio::time::timeout_at(deadline, self.call(&method, request)).await {
                    Err(_) => {
                        let host = self.inner.transport.host();
                        metrics::requested(&method, host, None, begun.elapsed());
                        // Whoever does not answer may have stopped; the next call goes to another.
                        self.inner.transport.rotate();
                        return Err(ApiError::transport(format!(
                            "{method} {path}: no answer in time"
                        )));
                    }
                    Ok(Ok(response)) if response.status().is_success() => return Ok(response),
                    Ok(Ok(response)) => {
                        let error = refused(response, deadline).await;
                        let may = error
                            .retry_after
                            .filter(|_| error.code == 429 || error.code >= 500);
                        let Some(wait) = may else { return Err(error) };
                        if error.code == 503 {
                            self.inner.transport.rotate();
                        }
                        (error, wait)
                    }
                    Ok(Err(failure)) => {
                        let error =
                            ApiError::transport(format!("{method} {path}: {}", failure.message));
                        if failure.sent && method != Method::GET {
                            return Err(error);
                        }
                        // The other servers are tried at once; only a full round waits.
                        let round_done =
                            (attempt as usize).is_multiple_of(self.inner.transport.servers());
                        (error, if round_done { backoff } else { Duration::ZERO })
                    }
                };
            if attempt > RETRIES_MAX || Instant::now() + wait >= deadline {
                return Err(error);
            }
            tracing::debug!(%method, path, attempt, error = %error.message, "retrying");
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Sends one request, once, and counts it.
    async fn call(
        &self,
        method: &Method,
        request: Request<Body>,
    ) -> Result<Response<Body>, Failure> {
        let transport = &self.inner.transport;
        let (host, begun) = (transport.host(), Instant::now());
        let outcome = transport.call(request).await;
        let code = outcome.as_ref().ok();
        let code = code.map(|response| response.status().as_u16());
        metrics::requested(method, host, code, begun.elapsed());
        outcome
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        wanted: Wanted<'_>,
        content_type: &str,
        body: Bytes,
    ) -> Result<Request<Body>, ApiError> {
        let body: Body = Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync();
        let malformed = |error: &dyn std::fmt::Display| {
            ApiError::malformed(format!("request {path:?}: {error}"))
        };
        let mut request = Request::new(body);
        *request.method_mut() = method.clone();
        *request.uri_mut() = Uri::try_from(path).map_err(|e| malformed(&e))?;
        let headers = request.headers_mut();
        let accept = match wanted {
            Wanted::Whole(form) => value(form).map_err(|e| malformed(&e))?,
            Wanted::Little => {
                headers.insert(PREFER, HeaderValue::from_static("return=minimal"));
                HeaderValue::from_static(ACCEPT)
            }
        };
        headers.insert(header::ACCEPT, accept);
        headers.insert(header::USER_AGENT, self.inner.user_agent.clone());
        if !content_type.is_empty() {
            let content_type = value(content_type).map_err(|e| malformed(&e))?;
            headers.insert(header::CONTENT_TYPE, content_type);
        }
        Ok(request)
    }
}

/// The value of a header; no copy of the one that nearly all have.
fn value(text: &str) -> Result<HeaderValue, InvalidHeaderValue> {
    match text {
        ACCEPT => Ok(HeaderValue::from_static(ACCEPT)),
        other => HeaderValue::from_str(other),
    }
}

async fn refused(response: Response<Body>, deadline: Instant) -> ApiError {
    let code = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.parse().ok())
        .map(Duration::from_secs);
    let body = collect(response.into_body(), deadline)
        .await
        .unwrap_or_default();
    // A redirect or another answer without success is not part of the API.
    let code = if code == StatusCode::OK {
        500
    } else {
        code.as_u16()
    };
    ApiError::from_response(code, retry_after, &body)
}

async fn collect(body: Body, deadline: Instant) -> Result<Bytes, ApiError> {
    tokio::time::timeout_at(deadline, read_all(body, ANSWER_BYTES_MAX))
        .await
        .unwrap_or_else(|_| Err(ApiError::transport("reading the answer timed out")))
}

/// The whole body, which may be so large. One that comes in one piece is not copied.
pub(crate) async fn read_all(mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| ApiError::transport(format!("reading the answer: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + whole.len() + data.len() > bytes_max {
            return Err(ApiError::malformed("the answer is too large"));
        }
        if first.is_empty() && whole.is_empty() {
            first = data;
            continue;
        }
        whole.extend_from_slice(&std::mem::take(&mut first));
        whole.extend_from_slice(&data);
    }
    Ok(match whole.is_empty() {
        true => first,
        false => whole.freeze(),
    })
}

/// The text of a value, which is what [`Value`] prints, but not letter by letter.
pub(crate) fn encode(body: &Value) -> Bytes {
    // Room that grows as it is written is copied each time.
    let mut text = Vec::with_capacity(BODY_BYTES);
    match serde_json::to_writer(&mut text, body) {
        Ok(()) => Bytes::from(text),
        Err(_) => Bytes::from(body.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::BoxError;
    use futures::stream;
    use http_body::Frame;
    use http_body_util::StreamBody;

    #[tokio::test]
    async fn a_body_is_read_in_whatever_pieces_it_comes() {
        for pieces in [
            vec![],
            vec![""],
            vec!["abc"],
            vec!["", "abc"],
            vec!["abc", ""],
            vec!["ab", "c"],
            vec!["a", "", "b", "c"],
        ] {
            let whole: String = pieces.concat();
            let body = |pieces: &[&'static str]| {
                let frames: Vec<Result<Frame<Bytes>, BoxError>> = pieces
                    .iter()
                    .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
                    .collect();
                StreamBody::new(stream::iter(frames)).boxed_unsync()
            };
            let read = read_all(body(&pieces), whole.len()).await;
            assert_eq!(read.ok(), Some(Bytes::from(whole.clone())), "{pieces:?}");
            if let Some(less) = whole.len().checked_sub(1) {
                assert!(read_all(body(&pieces), less).await.is_err(), "{pieces:?}");
            }
        }
    }

    #[test]
    fn a_value_is_written_as_it_is_printed() {
        let value =
            serde_json::json!({"a": [1, 1.5, -0.0, null, true], "\u{1}\"ü/": {"b": "\\\n"}});
        assert_eq!(encode(&value), value.to_string());
    }
}
