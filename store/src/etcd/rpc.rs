//! From an HTTP request to a method and back: gRPC's framing, deadlines and limits, once for all methods.
//!
//! A method is a plain async function from a request to an answer; which path leads to which stands in
//! [`super::methods`]. Three shapes are enough: one message both ways (one whose answer may be too large to be held has
//! a shape of its own), one message in and many out, many both ways.
//! Streams out are pulled: nothing is computed before the client has room for it, so one that never reads costs what
//! it was sent last and no more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kv::{Refusal, StoreError};
use prost::Message;
use tonic::body::Body;
use tonic::codec::Codec;
use tonic::server::Grpc;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::admission::Client;
use super::auth::{Credentials, Guard, Needs};
use super::errors::{Fault, in_etcds_words};
use super::front::Front;
use super::sized::SizedAnswer;
use crate::write::ALLOWED_AT;

/// What etcd allows a request beyond `--max-request-bytes`, for the envelope.
pub(super) const ENVELOPE_BYTES: usize = 512 << 10;

pub(super) type HttpFuture = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;
pub(super) type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Fault>> + Send>>;

/// What a method is told besides the request.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) front: Arc<Front>,
    pub(super) credentials: Credentials,
    pub(super) client: Arc<Client>,
    /// The client wants no answer from a member without a leader.
    pub(super) needs_leader: bool,
}

/// One message in, one out.
pub(super) fn unary<Q, A, Fut>(
    front: Arc<Front>,
    request: http::Request<Body>,
    method: fn(Call, Q) -> Fut,
    needs: fn(&Q) -> Needs,
) -> HttpFuture
where
    Q: Message + Default + Clone + 'static,
    A: Message + Default + 'static,
    Fut: Future<Output = Result<A, Fault>> + Send + 'static,
{
    let (call, deadline) = opened(front, &request);
    let limit = call.front.message_bytes_max();
    let mut call = Some(call);
    let handler = tower::service_fn(move |request: Request<Q>| {
        let call = call.take();
        async move {
            let call = call.ok_or_else(|| Status::internal("a call is made once"))?;
            call.check_leader()?;
            let answer =
                within(deadline, allowed(call, request.into_inner(), method, needs)).await?;
            Ok::<_, Status>(Response::new(answer))
        }
    });
    Box::pin(async move {
        let codec: ProstCodec<A, Q> = ProstCodec::default();
        let answered = Grpc::new(codec)
            .apply_max_message_size_config(Some(limit), Some(usize::MAX))
            .unary(handler, request)
            .await;
        reworded(answered)
    })
}

/// One message in, one out, of any size.
pub(super) fn sized<Q, Fut>(
    front: Arc<Front>,
    request: http::Request<Body>,
    method: fn(Call, Q) -> Fut,
    needs: fn(&Q) -> Needs,
) -> HttpFuture
where
    Q: Message + Default + Clone + 'static,
    Fut: Future<Output = Result<SizedAnswer, Fault>> + Send + 'static,
{
    let (call, deadline) = opened(front, &request);
    Box::pin(async move {
        let answered = async {
            let request = one_message(request, call.front.message_bytes_max()).await?;
            call.check_leader()?;
            let answer = within(deadline, allowed(call, request, method, needs)).await?;
            Ok(answer.into_http().await?)
        };
        answered
            .await
            .unwrap_or_else(|status: Status| in_etcds_words(status).into_http())
    })
}

async fn one_message<Q: Message + Default + 'static>(
    request: http::Request<Body>,
    bytes_max: usize,
) -> Result<Q, Status> {
    let encoding = request.headers().get("grpc-encoding");
    if let Some(encoding) = encoding.filter(|encoding| *encoding != "identity") {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        let text = format!("Content is compressed with `{encoding}` which isn't supported");
        return Err(Status::unimplemented(text));
    }
    let decoder = ProstCodec::<(), Q>::default().decoder();
    let mut messages = Streaming::new_request(decoder, request.into_body(), None, Some(bytes_max));
    let message = messages.message().await?;
    message.ok_or_else(|| Status::internal("Missing request message."))
}

/// One message in, a stream out.
pub(super) fn server_stream<Q, A, Fut>(
    front: Arc<Front>,
    request: http::Request<Body>,
    method: fn(Call, Q) -> Fut,
    needs: fn(&Q) -> Needs,
) -> HttpFuture
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    Fut: Future<Output = Result<Answers<A>, Fault>> + Send + 'static,
{
    let (call, deadline) = opened(front, &request);
    let limit = call.front.message_bytes_max();
    let mut call = Some(call);
    let handler = tower::service_fn(move |request: Request<Q>| {
        let call = call.take();
        async move {
            let call = call.ok_or_else(|| Status::internal("a call is made once"))?;
            call.check_leader()?;
            let request = request.into_inner();
            let opened = async {
                let guard = call.admit(needs(&request)?).await?;
                Ok((guard, method(call, request).await?))
            };
            let (mut guard, answers) = within(deadline, opened).await?;
            // As long as it lasts.
            let answers = answers.map(move |item| guard.still().and(item).map_err(Status::from));
            Ok::<_, Status>(Response::new(answers))
        }
    });
    Box::pin(async move {
        let codec: ProstCodec<A, Q> = ProstCodec::default();
        let answered = Grpc::new(codec)
            .apply_max_message_size_config(Some(limit), Some(usize::MAX))
            .server_streaming(handler, request)
            .await;
        reworded(answered)
    })
}

/// Streams both ways.
pub(super) fn both_streams<Q, A, Fut>(
    front: Arc<Front>,
    request: http::Request<Body>,
    method: fn(Call, Incoming<Q>) -> Fut,
    needs: fn(&Q) -> Needs,
) -> HttpFuture
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
    Fut: Future<Output = Result<Answers<A>, Fault>> + Send + 'static,
{
    let (call, _) = opened(front, &request);
    let limit = call.front.message_bytes_max();
    let mut call = Some(call);
    let handler = tower::service_fn(move |request: Request<Streaming<Q>>| {
        let call = call.take();
        async move {
            let call = call.ok_or_else(|| Status::internal("a call is made once"))?;
            call.check_leader()?;
            let requests = Incoming {
                call: call.clone(),
                needs,
                stream: request.into_inner(),
                unasked: None,
            };
            let answers = method(call, requests).await?;
            Ok::<_, Status>(Response::new(
                answers.map(|item| item.map_err(Status::from)),
            ))
        }
    });
    Box::pin(async move {
        let codec: ProstCodec<A, Q> = ProstCodec::default();
        Grpc::new(codec)
            .apply_max_message_size_config(Some(limit), Some(usize::MAX))
            .streaming(handler, request)
            .await
    })
}

/// What a client sends on a stream.
pub(super) struct Incoming<Q> {
    call: Call,
    needs: fn(&Q) -> Needs,
    stream: Streaming<Q>,
    /// Has come, and whether it is allowed is still to be asked.
    unasked: Option<Q>,
}

/// A message of a stream, and whether its sender may.
pub(super) struct Asked<Q> {
    pub(super) request: Q,
    pub(super) allowed: Result<Guard, Fault>,
}

impl<Q> Incoming<Q> {
    /// The next message; `None` when the client has said all. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Asked<Q>>, Fault> {
        if self.unasked.is_none() {
            let message = self.stream.message().await;
            self.unasked = message.map_err(|status| match in_etcds_words(status) {
                status if status.message() == Fault::TooLarge.to_string() => Fault::TooLarge,
                status => Fault::Internal(status.message().to_string()),
            })?;
        }
        let Some(request) = &self.unasked else {
            return Ok(None);
        };
        let allowed = match (self.needs)(request) {
            Ok(needs) => self.call.admit(needs).await,
            Err(fault) => Err(fault),
        };
        let request = self.unasked.take();
        Ok(request.map(|request| Asked { request, allowed }))
    }
}

/// So often is asked anew where users and roles change under a call.
const ATTEMPTS: usize = 10;

/// Runs a method if its sender may. What it writes is written under the users and roles at which that was found, or
/// refused; what it has read is not shown if the sender may not see it any more.
async fn allowed<Q, A, Fut>(
    call: Call,
    request: Q,
    method: fn(Call, Q) -> Fut,
    needs: fn(&Q) -> Needs,
) -> Result<A, Fault>
where
    Q: Clone,
    Fut: Future<Output = Result<A, Fault>>,
{
    let front = call.front.clone();
    if front.backend.auth_revision() == kv::AUTH_REVISION_FIRST && !call.credentials.has_token() {
        // There are no users and never were, as on most members always. Should that be news of yesterday, what is
        // written is refused, and what was read must not be shown.
        let first = kv::AUTH_REVISION_FIRST;
        let answer = ALLOWED_AT.scope(first, method(call, request)).await?;
        return match front.backend.auth_revision() == first || !front.users()?.enabled() {
            true => Ok(answer),
            false => Err(Refusal::AuthOldRevision.into()),
        };
    }
    for _ in 0..ATTEMPTS {
        let mut guard = call.admit(needs(&request)?).await?;
        let done = method(call.clone(), request.clone());
        match ALLOWED_AT.scope(guard.revision(), done).await {
            Err(Fault::Store(StoreError::Refused(Refusal::AuthOldRevision))) => {
                front.backend.read_index().await?;
            }
            Ok(answer) if guard.is_to_read() => return guard.still().map(|()| answer),
            done => return done,
        }
    }
    Err(Refusal::AuthOldRevision.into())
}

fn opened(front: Arc<Front>, request: &http::Request<Body>) -> (Call, Option<Duration>) {
    let header = |name: &str| request.headers().get(name)?.to_str().ok();
    let deadline = header("grpc-timeout").and_then(timeout_of);
    let needs_leader = header("hasleader") == Some("true");
    let client = client_of(&front, request);
    (
        Call {
            front,
            credentials: Credentials::of(request),
            client,
            needs_leader,
        },
        deadline,
    )
}

/// Whose connection a request came on.
pub(super) fn client_of(front: &Front, request: &http::Request<Body>) -> Arc<Client> {
    let client = request.extensions().get::<Arc<Client>>().cloned();
    client.unwrap_or_else(|| front.clients.nameless())
}

impl Call {
    fn check_leader(&self) -> Result<(), Fault> {
        if self.needs_leader && self.front.backend.leader().is_none() {
            return Err(StoreError::NoLeader.into());
        }
        Ok(())
    }
}

async fn within<T>(
    deadline: Option<Duration>,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    match deadline {
        None => work.await,
        Some(deadline) => tokio::time::timeout(deadline, work)
            .await
            .unwrap_or(Err(Fault::DeadlineExceeded)),
    }
}

/// `grpc-timeout`: at most eight digits and a unit.
fn timeout_of(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n * 3600),
        "M" => Duration::from_secs(n * 60),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

fn reworded(response: http::Response<Body>) -> http::Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != tonic::Code::Ok => {
            let words = in_etcds_words(status.clone());
            if words.message() == status.message() {
                response
            } else {
                words.into_http()
            }
        }
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_of_grpc() {
        assert_eq!(timeout_of("5S"), Some(Duration::from_secs(5)));
        assert_eq!(timeout_of("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout_of("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(
            timeout_of("99999999n"),
            Some(Duration::from_nanos(99_999_999))
        );
        for bad in ["", "S", "5", "5x", "-5S", "999999999S", "5\u{e9}"] {
            assert_eq!(timeout_of(bad), None, "{bad}");
        }
    }
}
