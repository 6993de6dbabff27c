//! Request bodies: read whole before the request takes one of the places for work, so that a slow client holds only
//! the bytes that it has sent, and these count against one budget for all clients.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::status::{ApiError, ApiResult};

/// Largest request body, as in Kubernetes.
pub(crate) const BYTES_MAX: usize = 3 * 1024 * 1024;
/// What all bodies that are being read or worked on may hold together.
const BUDGET_BYTES: usize = 256 * 1024 * 1024;
/// So much of the body of a refused request is still taken, and for so long: a client that is still sending does not
/// read yet, and closing on it would destroy the answer before it is seen.
const DRAIN_BYTES_MAX: usize = 512 * 1024 * 1024;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);

/// How many bytes of bodies the server holds.
pub(crate) struct Budget(Semaphore);

impl Default for Budget {
    fn default() -> Budget {
        Budget(Semaphore::new(BUDGET_BYTES))
    }
}

/// A body, and its share of the budget until it is dropped.
pub(crate) struct Held<'a> {
    pub(crate) bytes: Bytes,
    _share: Option<SemaphorePermit<'a>>,
}

impl Budget {
    /// Reads a body up to the limit; 413 above it, whatever Content-Length said, and 429 where the budget is spent.
    pub(crate) async fn read(&self, body: &mut Body, headers: &HeaderMap) -> ApiResult<Held<'_>> {
        if headers
            .get(header::CONTENT_ENCODING)
            .is_some_and(|coding| coding != "identity")
        {
            return Err(ApiError::unsupported_media_text(
                "the Content-Encoding of the request is not supported",
            ));
        }
        let mut share: Option<SemaphorePermit<'_>> = None;
        let bytes = collect(body, declared(headers), |count| {
            let more = u32::try_from(count)
                .ok()
                .and_then(|count| self.0.try_acquire_many(count).ok())
                .ok_or_else(|| {
                    ApiError::too_many_requests("too many requests, please try again later", 1)
                })?;
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
            Ok(())
        })
        .await?;
        Ok(Held {
            bytes,
            _share: share,
        })
    }
}

/// Reads a body that a node agent sent, up to the same limit.
pub(crate) async fn read_answer(mut body: Body) -> ApiResult<Bytes> {
    collect(&mut body, None, |_| Ok(())).await
}

fn declared(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok())
}

async fn collect(
    body: &mut Body,
    declared: Option<u64>,
    mut take: impl FnMut(usize) -> ApiResult<()>,
) -> ApiResult<Bytes> {
    if declared.is_some_and(|length| length > BYTES_MAX as u64) {
        return Err(ApiError::too_large(BYTES_MAX));
    }
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            ApiError::bad_request(format!("unable to read the request body: {error}"))
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read.len() + data.len() > BYTES_MAX {
            return Err(ApiError::too_large(BYTES_MAX));
        }
        take(data.len())?;
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// Takes the rest of a refused request's body from the client, within bounds, and drops it.
pub(crate) async fn drain(body: &mut Body, headers: &HeaderMap) {
    // Who asked first has sent nothing, and will not after this answer.
    if body.is_end_stream() || headers.contains_key(header::EXPECT) {
        return;
    }
    let rest = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > DRAIN_BYTES_MAX {
                break;
            }
        }
    };
    // Whether it ended or took too long, the answer is next.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, rest).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body_of(size: usize) -> Body {
        Body::from(vec![b'x'; size])
    }

    #[tokio::test]
    async fn the_budget_is_shared_and_given_back() {
        let budget = Budget(Semaphore::new(10));
        let headers = HeaderMap::new();
        let first = budget.read(&mut body_of(6), &headers).await.unwrap();
        let refused = budget.read(&mut body_of(5), &headers).await.err().unwrap();
        assert_eq!((refused.code, refused.retry_after), (429, Some(1)));
        let second = budget.read(&mut body_of(4), &headers).await.unwrap();
        assert_eq!((first.bytes.len(), second.bytes.len()), (6, 4));
        drop((first, second));
        assert!(budget.read(&mut body_of(10), &headers).await.is_ok());
    }

    #[tokio::test]
    async fn the_rest_of_a_refused_body_is_taken() {
        let budget = Budget::default();
        let chunk = Bytes::from(vec![b'x'; BYTES_MAX / 4]);
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = sent.clone();
        let chunks = futures::stream::iter(0..20).map(move |_| {
            counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok::<_, std::io::Error>(chunk.clone())
        });
        use futures::StreamExt;
        let mut body = Body::from_stream(chunks);
        let headers = HeaderMap::new();
        let refused = budget.read(&mut body, &headers).await.err().unwrap();
        assert_eq!(refused.code, 413);
        let seen = sent.load(std::sync::atomic::Ordering::Relaxed);
        assert!(seen < 20, "{seen} chunks were read before the refusal");
        drain(&mut body, &headers).await;
        assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), 20);
    }
}
