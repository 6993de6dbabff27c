//! How a request gets its place: it waits for seats and bytes, and holds them.

use std::sync::Arc;
use std::time::Duration;

use auth::User;
use axum::body::Body;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::time::Instant;

use super::answer_bytes::Bytes;
use super::estimate::{self, Kind};
use super::present::{Entered, Present};
use super::queues::Started;
use super::{Flow, Matched};
use crate::request::RequestInfo;

/// A request waits for its turn for so long: a quarter of what it may take, as in Kubernetes.
const WAIT_MAX: Duration = Duration::from_secs(15);

const SCHEMA_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-flowschema-uid");
const LEVEL_UID: HeaderName = HeaderName::from_static("x-kubernetes-pf-prioritylevel-uid");

/// How urgent a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// It waits like others.
    Ordinary,
    /// It runs at once, and is counted.
    Now,
}

impl Matched {
    /// Waits for a place for a request of this kind; the answer to the client where there is none.
    pub(crate) async fn enter(
        &self,
        (user, info): (&User, &Arc<RequestInfo>),
        kind: Kind,
        urgency: Urgency,
        deadline: Instant,
    ) -> Result<Held, Response> {
        let flow = &self.flow;
        let want = estimate::want(self.number, kind, flow.nominal.max(1));
        let after = estimate::after(kind, flow.nominal.max(1));
        let kept = after.map_or(0, |(seats, _)| seats);
        flow.metrics.seats.observe(f64::from(want.seats.max(kept)));
        if let Kind::Write { watches } = kind {
            flow.metrics.watches.observe(f64::from(watches));
        }
        let shown = Present::new(flow, (user, info), want.seats, after);
        let shown = flow.level.show(shown);
        let entered = match urgency {
            Urgency::Now => Ok(flow.level.force(want)),
            Urgency::Ordinary => {
                let deadline = deadline.min(Instant::now() + WAIT_MAX);
                flow.level
                    .enter(want, &flow.metrics, deadline, &shown)
                    .await
            }
        };
        let started = entered.map_err(|refusal| {
            flow.metrics.refused(refusal).inc();
            too_many_requests(flow.level.retry_after())
        })?;
        shown.runs(flow.level.queue_of(&started));
        flow.metrics.dispatched.inc();
        flow.metrics.executing.inc();
        flow.metrics.executing_seats.add(i64::from(want.seats));
        let seat = Seat {
            flow: flow.clone(),
            started,
            begun: Instant::now(),
            after,
            is_watch: info.verb == "watch",
            _shown: shown,
        };
        let bytes = Bytes::of(flow.level.clone(), self.number, want.bytes);
        Ok(Held { seat, bytes })
    }

    /// Tells the client where its request belonged.
    pub(crate) fn mark(&self, response: &mut Response) {
        for (name, uid) in [SCHEMA_UID, LEVEL_UID].into_iter().zip(&self.flow.uids) {
            if let Some(uid) = uid {
                response.headers_mut().insert(name, uid.clone());
            }
        }
    }
}

/// What a request holds.
pub(crate) struct Held {
    pub(crate) seat: Seat,
    pub(crate) bytes: Bytes,
}

/// Given back when it is dropped.
pub(crate) struct Seat {
    flow: Arc<Flow>,
    started: Started,
    begun: Instant,
    after: Option<(u32, u64)>,
    is_watch: bool,
    _shown: Entered,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let (level, metrics) = (&self.flow.level, &self.flow.metrics);
        level.finish(&self.started, self.after);
        metrics.executing.dec();
        let seats = i64::from(self.started.want.seats);
        metrics.executing_seats.sub(seats);
        let took = self.begun.elapsed().as_secs_f64();
        match self.is_watch {
            true => metrics.executed_watch.observe(took),
            false => metrics.executed.observe(took),
        }
    }
}

/// Kubernetes' answer, which is no Status.
fn too_many_requests(seconds: u32) -> Response {
    let mut response = Response::new(Body::from("Too many requests, please try again later.\n"));
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, text);
    let nosniff = HeaderValue::from_static("nosniff");
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, nosniff);
    response
}
