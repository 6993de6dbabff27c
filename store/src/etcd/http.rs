//! What the port serves besides gRPC: probes, the version, metrics, and the JSON gateway.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use kv::RangeRequest;
use prometheus::Encoder;
use tonic::body::Body;

use super::front::{ETCD_CLUSTER_VERSION, ETCD_VERSION, Front};
use super::gateway;
use super::rpc::HttpFuture;

/// For a probe's read.
const PROBE: Duration = Duration::from_secs(5);

pub(super) const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

pub(super) fn respond(front: Arc<Front>, request: Request<Body>) -> HttpFuture {
    Box::pin(async move {
        let path = request.uri().path().to_string();
        if let Some(rpc) = gateway::rpc_at(&path) {
            return match *request.method() {
                Method::POST => gateway::respond(front, rpc, request).await,
                _ => not_allowed("POST"),
            };
        }
        if *request.method() != Method::GET && *request.method() != Method::HEAD {
            return not_allowed("GET");
        }
        let query = Query::of(&request);
        let bare = path.strip_prefix('/').unwrap_or_default();
        let (first, rest) = match bare.split_once('/') {
            Some((first, rest)) => (first, Some(rest)),
            None => (bare, None),
        };
        match (first, rest) {
            ("health", None) => health(&front, &query).await,
            ("version", None) => version(),
            ("metrics", None) => metrics(),
            ("livez", one) => probe(&front, "livez", LIVE, one, &query).await,
            ("readyz", one) => probe(&front, "readyz", READY, one, &query).await,
            _ => not_found(),
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

fn not_found() -> Response<Body> {
    reply(StatusCode::NOT_FOUND, TEXT, "404 page not found\n")
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

async fn health(front: &Front, query: &Query) -> Response<Body> {
    let serializable = query.has("serializable", "true");
    let reason = if !serializable && front.backend.leader().is_none() {
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
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("request timed out".into()),
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

fn metrics() -> Response<Body> {
    let encoder = prometheus::TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&prometheus::gather(), &mut text) {
        Ok(()) => reply(StatusCode::OK, "text/plain; version=0.0.4", text),
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
    }
}

const LIVE: &[&str] = &["serializable_read"];
const READY: &[&str] = &[
    "data_corruption",
    "serializable_read",
    "linearizable_read",
    "non_learner",
];

/// `/livez` and `/readyz`, whole or one check of them.
async fn probe(
    front: &Front,
    probe: &str,
    all: &[&str],
    one: Option<&str>,
    query: &Query,
) -> Response<Body> {
    let wanted = |check: &&&str| one.is_none_or(|one| one == **check);
    let checks: Vec<&str> = all.iter().filter(wanted).copied().collect();
    if checks.is_empty() {
        return not_found();
    }
    let (mut lines, mut failed) = (String::new(), false);
    for check in checks {
        let line = if query.has("exclude", check) {
            format!("[+]{check} excluded: ok\n")
        } else {
            match passes(front, check).await {
                Ok(()) => format!("[+]{check} ok\n"),
                Err(why) => {
                    failed = true;
                    format!("[-]{check} failed: {why}\n")
                }
            }
        };
        lines.push_str(&line);
    }
    if failed {
        let text = format!("{lines}{probe} check failed\n");
        return reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, text);
    }
    match query.is_there("verbose") {
        true => reply(StatusCode::OK, TEXT, format!("{lines}ok\n")),
        false => reply(StatusCode::OK, TEXT, "ok\n"),
    }
}

async fn passes(front: &Front, check: &str) -> Result<(), String> {
    match check {
        "serializable_read" => read(front, true).await,
        "linearizable_read" => read(front, false).await,
        "non_learner" if front.backend.status().is_learner => Err("this is a learner".into()),
        // A member whose data is damaged does not serve at all: it stops.
        _ => Ok(()),
    }
}
