//! From an HTTP request to a method and back: deadlines, limits and answers, once for all methods.
//!
//! A method is a plain async function from a request to an answer; which path leads to which stands in
//! [`super::methods`]. Three shapes are enough: one message both ways (one whose answer may be too large to be held is a
//! variant of it), one message in and many out, many both ways. How messages come in is `receive.rs`.
//! Streams out are pulled: nothing is computed before the client has room for it, so one that never reads costs what
//! it was sent last and no more.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kv::{Refusal, StoreError};
use prost::Message;
use tonic::Status;
use tonic::body::Body;

use super::admission::Client;
use super::auth::{Credentials, Guard, Needs};
use super::errors::Fault;
use super::front::Front;
use super::receive::Frames;
use super::sized::{SizedAnswer, streamed, whole};
use super::tally::Tally;
use crate::write::{ALLOWED, Allowed};

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
    tally: Option<&'static Tally>,
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
    A: Message + 'static,
    Fut: Future<Output = Result<A, Fault>> + Send + 'static,
{
    one_message(front, request, move |call, message| async move {
        let tally = call.tally;
        let answer = whole(&allowed(call, message, method, needs).await?)?;
        note_sent(tally);
        Ok(answer)
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
    one_message(front, request, move |call, message| async move {
        let tally = call.tally;
        let answer = allowed(call, message, method, needs).await?;
        let answer = answer.into_http().await?;
        note_sent(tally);
        Ok(answer)
    })
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
    A: Message + 'static,
    Fut: Future<Output = Result<Answers<A>, Fault>> + Send + 'static,
{
    one_message(front, request, move |call, message| async move {
        let tally = call.tally;
        let mut guard = call.admit(needs(&message)?).await?;
        let answers = method(call, message).await?;
        // As long as it lasts.
        let answers = answers.map(move |item| guard.still().and(item));
        Ok(streamed(noted(answers, tally)))
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
    A: Message + 'static,
    Fut: Future<Output = Result<Answers<A>, Fault>> + Send + 'static,
{
    let (call, _) = opened(front, &request);
    Box::pin(async move {
        let opened = async {
            let frames = call.frames(request)?;
            call.check_leader()?;
            let requests = Incoming {
                call: call.clone(),
                needs,
                frames,
                unasked: None,
            };
            let tally = call.tally;
            Ok(streamed(noted(method(call, requests).await?, tally)))
        };
        answered(opened.await)
    })
}

fn note_sent(tally: Option<&'static Tally>) {
    if let Some(tally) = tally {
        tally.message_sent();
    }
}

/// Counts the answers that are sent.
fn noted<A>(
    answers: impl Stream<Item = Result<A, Fault>>,
    tally: Option<&'static Tally>,
) -> impl Stream<Item = Result<A, Fault>> {
    answers.inspect(move |answer| {
        if answer.is_ok() {
            note_sent(tally);
        }
    })
}

/// Receives the message and answers it, all within the client's deadline.
fn one_message<Q, Fut>(
    front: Arc<Front>,
    request: http::Request<Body>,
    answer: impl FnOnce(Call, Q) -> Fut + Send + 'static,
) -> HttpFuture
where
    Q: Message + Default + 'static,
    Fut: Future<Output = Result<http::Response<Body>, Fault>> + Send + 'static,
{
    let (call, deadline) = opened(front, &request);
    Box::pin(async move {
        let work = async {
            let mut frames = call.frames(request)?;
            let received = frames.only().await?;
            call.check_leader()?;
            let message = Q::decode(received.message).map_err(unreadable)?;
            let answer = answer(call, message).await;
            // What was asked is in memory until now.
            drop(received.room);
            answer
        };
        answered(within(deadline, work).await)
    })
}

fn answered(answer: Result<http::Response<Body>, Fault>) -> http::Response<Body> {
    answer.unwrap_or_else(|fault| Status::from(fault).into_http())
}

fn unreadable(error: prost::DecodeError) -> Fault {
    StoreError::Unreadable(error.to_string()).into()
}

/// What a client sends on a stream.
pub(super) struct Incoming<Q> {
    call: Call,
    needs: fn(&Q) -> Needs,
    frames: Frames,
    /// Has come, and whether it is allowed is still to be asked.
    unasked: Option<Q>,
}

/// A message of a stream, and whether its sender may.
pub(super) struct Asked<Q> {
    pub(super) request: Q,
    pub(super) allowed: Result<Guard, Fault>,
}

impl<Q: Message + Default> Incoming<Q> {
    /// The next message; `None` when the client has said all. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Asked<Q>>, Fault> {
        if self.unasked.is_none()
            && let Some(received) = self.frames.next().await?
        {
            // Copied: a watch's key stays for long, and shall not keep all that came with it.
            self.unasked = Some(Q::decode(&received.message[..]).map_err(unreadable)?);
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
        let under = Allowed {
            auth_revision: first,
            ..Allowed::default()
        };
        let answer = ALLOWED.scope(under, method(call, request)).await?;
        return match front.backend.auth_revision() == first || !front.users()?.enabled() {
            true => Ok(answer),
            false => Err(Refusal::AuthOldRevision.into()),
        };
    }
    for _ in 0..ATTEMPTS {
        let mut guard = call.admit(needs(&request)?).await?;
        let done = method(call.clone(), request.clone());
        match ALLOWED.scope(guard.allowed(), done).await {
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
    let tally = request.extensions().get::<&'static Tally>().copied();
    (
        Call {
            tally,
            front,
            credentials: Credentials::of(request),
            client,
            needs_leader,
        },
        deadline,
    )
}

/// Whose request it is: who was found to call, or who the connection is of.
pub(super) fn client_of(front: &Front, request: &http::Request<Body>) -> Arc<Client> {
    let client = request.extensions().get::<Arc<Client>>().cloned();
    client.unwrap_or_else(|| front.clients.nameless())
}

impl Call {
    fn frames(&self, request: http::Request<Body>) -> Result<Frames, Fault> {
        let front = &self.front;
        let within = front.options.received_within;
        Frames::new(
            request,
            self.client.clone(),
            front.message_bytes_max(),
            within,
        )
    }

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
