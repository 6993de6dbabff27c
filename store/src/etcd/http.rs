//! What the port serves besides gRPC: probes, the version, metrics, and the JSON gateway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use kv::{AlarmKind, RangeRequest, StoreError};
use prometheus::Encoder;
use tonic::body::Body;

use super::errors::Fault;
use super::front::{ETCD_CLUSTER_VERSION, ETCD_VERSION, Front};
use super::gateway;
use super::rpc::HttpFuture;
use crate::metrics::METRICS;

/// For a probe's read.
const PROBE: Duration = Duration::from_secs(5);

pub(super) const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// What is served besides calls.
#[derive(Debug, PartialEq)]
enum Page {
    Health,
    Version,
    Metrics,
    /// Of these, by the name of the probe, all but the excluded ones, or this one.
    Probe(&'static str, &'static [Check], Option<Check>),
}

fn page_at(path: &str) -> Option<Page> {
    match path {
        "/health" => return Some(Page::Health),
        "/version" => return Some(Page::Version),
        "/metrics" => return Some(Page::Metrics),
        _ => {}
    }
    let (probe, rest) = match path.strip_prefix('/')?.split_once('/') {
        Some((probe, rest)) => (probe, Some(rest)),
        None => (&path[1..], None),
    };
    let (probe, all) = match probe {
        "livez" => ("livez", LIVE),
        "readyz" => ("readyz", READY),
        _ => return None,
    };
    match rest {
        None => Some(Page::Probe(probe, all, None)),
        Some(name) => {
            let one = all.iter().find(|check| check.name() == name)?;
            Some(Page::Probe(probe, all, Some(*one)))
        }
    }
}

pub(super) fn respond(front: Arc<Front>, request: Request<Body>) -> HttpFuture {
    Box::pin(async move {
        let path = request.uri().path().to_string();
        if let Some(rpc) = gateway::rpc_at(&path) {
            return match *request.method() {
                Method::POST => gateway::respond(front, rpc, request).await,
                _ => not_allowed("POST"),
            };
        }
        // Whatever the method is: there is nothing that another one would find.
        let Some(page) = page_at(&path) else {
            return reply(StatusCode::NOT_FOUND, TEXT, "404 page not found\n");
        };
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            return not_allowed("GET");
        }
        let query = Query::of(&request);
        match page {
            Page::Health => health(&front, &query).await,
            Page::Version => version(),
            Page::Metrics => metrics(),
            Page::Probe(probe, all, one) => answer(&front, probe, all, one, &query).await,
        }
    })
}

pub(super) fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(body.into())));
    *response.status_mut() = status;
    let content_type = http::HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

fn not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n");
    let allowed = http::HeaderValue::from_static(allowed);
    response.headers_mut().insert(header::ALLOW, allowed);
    response
}

/// `name=value` pairs of a query, as far as probes need them.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(request: &Request<Body>) -> Query {
        let text = request.uri().query().unwrap_or_default();
        let pair = |pair: &str| match pair.split_once('=') {
            Some((name, value)) => (name.to_string(), value.to_string()),
            None => (pair.to_string(), String::new()),
        };
        Query(text.split('&').map(pair).collect())
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(n, v)| n == name && v == value)
    }

    fn is_there(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }
}

/// The alarm that speaks against this member. That of another one does not, as it does in etcd: here the others go on.
fn alarm(alarms: &[kv::Alarm], me: u64, query: &Query) -> Option<&'static str> {
    let mine = alarms.iter().filter(|alarm| alarm.member == me);
    let names = mine.map(|alarm| match AlarmKind::try_from(alarm.kind) {
        Ok(AlarmKind::NoSpace) => "NOSPACE",
        Ok(AlarmKind::Corrupt) => "CORRUPT",
        _ => "UNKNOWN",
    });
    names.into_iter().find(|name| !query.has("exclude", name))
}

async fn health(front: &Front, query: &Query) -> Response<Body> {
    let serializable = query.has("serializable", "true");
    let alarm = alarm(&front.backend.alarms(), front.member_id, query);
    let reason = if let Some(alarm) = alarm {
        Some(format!("ALARM {alarm}"))
    } else if !serializable && front.backend.leader().is_none() {
        Some("RAFT NO LEADER".to_string())
    } else {
        read(front, serializable)
            .await
            .err()
            .map(|error| format!("RANGE ERROR:{error}"))
    };
    let status = match reason {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    match reason {
        None => METRICS.health_success.inc(),
        Some(_) => METRICS.health_failures.inc(),
    }
    let body = serde_json::json!({
        "health": reason.is_none().to_string(),
        "reason": reason.unwrap_or_default(),
    });
    reply(status, JSON, body.to_string())
}

async fn read(front: &Front, serializable: bool) -> Result<(), String> {
    let request = RangeRequest {
        key: Bytes::from_static(b"health"),
        limit: 1,
        serializable,
        ..RangeRequest::default()
    };
    match tokio::time::timeout(PROBE, front.backend.range(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Fault::from(error).to_string()),
        Err(_) => Err(Fault::from(StoreError::TimedOut).to_string()),
    }
}

fn version() -> Response<Body> {
    let body = serde_json::json!({
        "etcdserver": ETCD_VERSION,
        "etcdcluster": ETCD_CLUSTER_VERSION,
        "storage": ETCD_CLUSTER_VERSION,
    });
    reply(StatusCode::OK, JSON, body.to_string())
}

/// What of the process's registry is the store's: others who count in this process show theirs at the API's port.
const SHOWN: &[&str] = &["etcd_", "grpc_", "kontiki_store_", "process_"];

fn metrics() -> Response<Body> {
    let encoder = prometheus::TextEncoder::new();
    let mut families = prometheus::gather();
    families.retain(|family| SHOWN.iter().any(|head| family.name().starts_with(head)));
    let mut text = Vec::new();
    match encoder.encode(&families, &mut text) {
        Ok(()) => reply(StatusCode::OK, "text/plain; version=0.0.4", text),
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
    }
}

/// One question of a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

const LIVE: &[Check] = &[Check::SerializableRead];
const READY: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

impl Check {
    fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    /// In etcd's words where it is not well.
    async fn passes(self, front: &Front) -> Result<(), String> {
        match self {
            Check::SerializableRead => read(front, true).await,
            Check::LinearizableRead => read(front, false).await,
            Check::NonLearner if front.backend.is_learner() => {
                Err("not supported for learner".into())
            }
            Check::NonLearner => Ok(()),
            Check::DataCorruption => {
                let is_found = front.backend.alarms().into_iter().any(|alarm| {
                    alarm.member == front.member_id && alarm.kind == AlarmKind::Corrupt as i32
                });
                match is_found {
                    true => Err("alarm activated: CORRUPT".into()),
                    false => Ok(()),
                }
            }
        }
    }
}

/// `/livez` and `/readyz`: without the checks that are excluded, or one check of them.
async fn answer(
    front: &Front,
    probe: &str,
    all: &[Check],
    one: Option<Check>,
    query: &Query,
) -> Response<Body> {
    let wanted = |check: &&Check| match one {
        Some(one) => one == **check,
        None => !query.has("exclude", check.name()),
    };
    let (mut lines, mut failed) = (String::new(), false);
    for check in all.iter().filter(wanted) {
        let name = check.name();
        let (line, status) = match check.passes(front).await {
            Ok(()) => (format!("[+]{name} ok\n"), "success"),
            Err(why) => (format!("[-]{name} failed: {why}\n"), "error"),
        };
        failed |= status == "error";
        lines.push_str(&line);
        let last = METRICS.healthcheck.with_label_values(&[probe, name]);
        last.set(i64::from(status == "success"));
        let count = METRICS
            .healthchecks
            .with_label_values(&[probe, name, status]);
        count.inc();
    }
    let mut response = match (failed, query.is_there("verbose")) {
        (true, _) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{lines}\n")),
        (false, true) => reply(StatusCode::OK, TEXT, format!("{lines}ok\n")),
        (false, false) => reply(StatusCode::OK, TEXT, "ok\n"),
    };
    response.headers_mut().insert(
        header::X_CONTENT_TYPE_OPTIONS,
        http::HeaderValue::from_static("nosniff"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_there_is_is_found() {
        assert_eq!(page_at("/health"), Some(Page::Health));
        assert_eq!(page_at("/livez"), Some(Page::Probe("livez", LIVE, None)));
        let one = Page::Probe("readyz", READY, Some(Check::DataCorruption));
        assert_eq!(page_at("/readyz/data_corruption"), Some(one));
        for nothing in [
            "",
            "/",
            "/livez/",
            "/livez/data_corruption",
            "/readyz/x/y",
            "/health/x",
            "/metricsx",
        ] {
            assert_eq!(page_at(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn an_alarm_of_this_member_counts_unless_it_is_excluded() {
        let query = |text: &str| Query(vec![("exclude".into(), text.into())]);
        let alarm_of = |member, kind| kv::Alarm {
            member,
            kind: kind as i32,
        };
        let alarms = [
            alarm_of(7, AlarmKind::NoSpace),
            alarm_of(7, AlarmKind::Corrupt),
        ];
        assert_eq!(alarm(&alarms, 7, &query("")), Some("NOSPACE"));
        assert_eq!(alarm(&alarms, 7, &query("NOSPACE")), Some("CORRUPT"));
        assert_eq!(alarm(&alarms[..1], 7, &query("NOSPACE")), None);
        assert_eq!(alarm(&alarms, 8, &query("")), None);
    }
}
