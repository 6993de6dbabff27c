//! What is counted of calls, under the names that servers of gRPC in Go use, so that etcd's dashboards and alerts work.
//! Each method that is served has its series from the beginning, and nothing else that is asked has one: no client makes
//! series.

use std::pin::Pin;
use std::sync::{LazyLock, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::Response;
use hyper::body::{Frame, SizeHint};
use prometheus::{Histogram, IntCounter};
use tonic::body::Body;
use tonic::{Code, Status};

use super::methods::{METHODS, Method};
use crate::metrics::METRICS;

/// There are as many codes.
const CODES: usize = 17;

/// Of one method.
pub(super) struct Tally {
    /// `grpc_type`, `grpc_service`, `grpc_method`.
    labels: [&'static str; 3],
    started: IntCounter,
    received: IntCounter,
    sent: IntCounter,
    seconds: Histogram,
    handled: [OnceLock<IntCounter>; CODES],
}

static TALLIES: LazyLock<Vec<Tally>> = LazyLock::new(|| METHODS.iter().map(Tally::new).collect());

impl Tally {
    fn new(method: &Method) -> Tally {
        let (service, name) = method.path[1..].split_once('/').unwrap_or_default();
        let labels = [kind(method.shape), service, name];
        let tally = Tally {
            started: METRICS.calls_started.with_label_values(&labels),
            received: METRICS.messages_received.with_label_values(&labels),
            sent: METRICS.messages_sent.with_label_values(&labels),
            seconds: METRICS.call_seconds.with_label_values(&labels),
            handled: Default::default(),
            labels,
        };
        // Of the other codes there is a series when there is a call: but what is begun less what has ended has to be a
        // number before anything has.
        tally.handled(Code::Ok);
        tally
    }

    /// Makes all series.
    pub(super) fn register() {
        LazyLock::force(&TALLIES);
    }

    /// Of the method at this place in the list.
    pub(super) fn of(place: usize) -> &'static Tally {
        &TALLIES[place]
    }

    fn handled(&self, code: Code) -> &IntCounter {
        let [kind, service, name] = self.labels;
        self.handled[code as usize].get_or_init(|| {
            METRICS
                .calls_handled
                .with_label_values(&[kind, service, name, name_of(code)])
        })
    }

    pub(super) fn message_received(&self, bytes: usize) {
        self.received.inc();
        METRICS.client_received_bytes.inc_by(bytes as u64);
    }

    pub(super) fn message_sent(&self) {
        self.sent.inc();
    }
}

/// By the shape of a method in `methods.rs`.
fn kind(shape: &str) -> &'static str {
    match shape {
        "server_stream" => "server_stream",
        "both_streams" => "bidi_stream",
        _ => "unary",
    }
}

/// As gRPC in Go names codes.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// A call under way. It ends once: with a status, or given up by its client.
pub(super) struct Counted {
    pub(super) tally: &'static Tally,
    began: Instant,
    ended: bool,
}

impl Counted {
    pub(super) fn begin(tally: &'static Tally) -> Counted {
        tally.started.inc();
        Counted {
            tally,
            began: Instant::now(),
            ended: false,
        }
    }

    pub(super) fn end(&mut self, code: Code) {
        if !std::mem::replace(&mut self.ended, true) {
            self.tally.handled(code).inc();
            self.tally
                .seconds
                .observe(self.began.elapsed().as_secs_f64());
        }
    }

    /// The answer, which is followed to its end. `kept` is given back then.
    pub(super) fn follow<T: Send + Unpin + 'static>(
        mut self,
        answer: Response<Body>,
        kept: T,
    ) -> Response<Body> {
        // A refusal is nothing but headers.
        if let Some(status) = Status::from_header_map(answer.headers()) {
            self.end(status.code());
        }
        let call = self;
        answer.map(|body| {
            Body::new(Followed {
                body,
                call,
                _kept: kept,
            })
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// An answer on its way.
struct Followed<T> {
    body: Body,
    call: Counted,
    _kept: T,
}

impl<T: Unpin> hyper::body::Body for Followed<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    METRICS.client_sent_bytes.inc_by(data.len() as u64);
                }
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.call.end(status.code());
                }
            }
            Some(Err(status)) => self.call.end(status.code()),
            None => {}
        }
        Poll::Ready(frame)
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
    use super::*;

    #[test]
    fn codes_have_the_names_that_alerts_ask_for() {
        let asked = "Unknown|FailedPrecondition|ResourceExhausted|Internal|Unavailable|DataLoss|DeadlineExceeded";
        let names: Vec<&str> = (0..CODES as i32)
            .map(|n| name_of(Code::from_i32(n)))
            .collect();
        for name in asked.split('|').chain(["OK", "Canceled"]) {
            assert!(names.contains(&name), "{name}");
        }
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), CODES);
    }

    #[test]
    fn every_method_that_is_served_has_its_series_and_no_more() {
        let labels: Vec<[&str; 3]> = TALLIES.iter().map(|tally| tally.labels).collect();
        assert_eq!(labels.len(), METHODS.len());
        for (labels, method) in labels.iter().zip(METHODS) {
            assert_eq!(format!("/{}/{}", labels[1], labels[2]), method.path);
        }
        for known in [
            ["unary", "etcdserverpb.KV", "Range"],
            ["bidi_stream", "etcdserverpb.Watch", "Watch"],
            ["bidi_stream", "etcdserverpb.Lease", "LeaseKeepAlive"],
            ["server_stream", "etcdserverpb.Maintenance", "Snapshot"],
        ] {
            assert!(labels.contains(&known), "{known:?}");
        }
    }
}
