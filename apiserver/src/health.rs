//! `/healthz`, `/livez`, `/readyz` with their checks, `/metrics`, what flow control shows, and the documents that let
//! others verify our tokens.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use host::watch;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use crate::ApiServer;
use crate::context::Context;

/// Set once the bootstrap objects are there.
pub(crate) struct Started(watch::Sender<bool>);

impl Default for Started {
    fn default() -> Started {
        Started(watch::Sender::new(false))
    }
}

impl Started {
    pub(crate) fn set(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn is_done(&self) -> bool {
        *self.0.borrow()
    }

    pub(crate) async fn wait(&self) {
        // The sender lives as long as self: the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|done| *done).await;
    }
}

/// One check: its name, whether `/livez` asks it too, and the test.
struct Check {
    name: &'static str,
    live: bool,
    test: Test,
}

enum Test {
    Now(fn(&ApiServer) -> bool),
    /// A linearizable read of the store, as in Kubernetes: a member that was cut off from the others, or removed, cannot
    /// serve.
    Store,
}

/// For the store to answer; Kubernetes' time.
const STORE_DEADLINE: Duration = Duration::from_secs(2);

impl Check {
    async fn passes(&self, server: &ApiServer) -> bool {
        match self.test {
            Test::Now(test) => test(server),
            Test::Store => tokio::time::timeout(STORE_DEADLINE, server.store.read_index())
                .await
                .is_ok_and(|read| read.is_ok()),
        }
    }
}

const CHECKS: &[Check] = &[
    Check {
        name: "ping",
        live: true,
        test: Test::Now(|_| true),
    },
    Check {
        name: "log",
        live: true,
        test: Test::Now(|_| true),
    },
    Check {
        name: "etcd",
        live: true,
        test: Test::Store,
    },
    Check {
        name: "informer-sync",
        live: false,
        test: Test::Now(|server| server.world.is_loaded()),
    },
    Check {
        name: "poststarthook/rbac/bootstrap-roles",
        live: false,
        test: Test::Now(ApiServer::is_ready),
    },
    Check {
        name: "poststarthook/priority-and-fairness-config-producer",
        live: false,
        test: Test::Now(ApiServer::is_ready),
    },
    Check {
        name: "poststarthook/scheduling/bootstrap-system-priority-classes",
        live: false,
        test: Test::Now(ApiServer::is_ready),
    },
    Check {
        name: "shutdown",
        live: false,
        test: Test::Now(|server| !server.stopping.is_cancelled()),
    },
];

/// Answers the paths of this file; none for other paths.
pub(crate) async fn respond(context: &Context, path: &str) -> Option<Response> {
    match path {
        "/metrics" => {
            let text = context.server.metrics.render(&context.server);
            return Some(text_response(
                StatusCode::OK,
                text,
                "text/plain; version=0.0.4; charset=utf-8",
            ));
        }
        "/.well-known/openid-configuration" => {
            let config = &context.server.config;
            let address =
                std::net::SocketAddr::new(config.advertise_address, config.advertise_port);
            let keys = context.server.account_tokens.now();
            let document = keys
                .verifier
                .openid_configuration(&format!("https://{address}/openid/v1/jwks"));
            return Some(document_response(&document, "application/json"));
        }
        "/openid/v1/jwks" => {
            return Some(document_response(
                &context.server.account_tokens.now().verifier.jwks(),
                "application/jwk-set+json",
            ));
        }
        _ => {}
    }
    if let Some(text) = crate::flow::respond(&context.server.flow, path, &context.query) {
        return Some(text_response(
            StatusCode::OK,
            text,
            "text/plain; charset=utf-8",
        ));
    }
    for endpoint in ["healthz", "livez", "readyz"] {
        let Some(rest) = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(endpoint))
        else {
            continue;
        };
        let checks: Vec<&Check> = CHECKS
            .iter()
            .filter(|check| endpoint != "livez" || check.live)
            .collect();
        if rest.is_empty() {
            return Some(all_checks(context, endpoint, &checks).await);
        }
        let check = checks
            .into_iter()
            .find(|check| rest.strip_prefix('/') == Some(check.name))?;
        return Some(if check.passes(&context.server).await {
            text_response(StatusCode::OK, "ok".into(), "text/plain; charset=utf-8")
        } else {
            let text = format!("internal server error: {} failed\n", check.name);
            text_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                text,
                "text/plain; charset=utf-8",
            )
        });
    }
    None
}

async fn all_checks(context: &Context, endpoint: &str, checks: &[&Check]) -> Response {
    let excluded: Vec<&str> = context.query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for check in checks {
        if excluded.contains(&check.name) {
            lines.push_str(&format!("[+]{} excluded: ok\n", check.name));
        } else if check.passes(&context.server).await {
            lines.push_str(&format!("[+]{} ok\n", check.name));
        } else {
            failed = true;
            lines.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
        }
    }
    for name in excluded
        .iter()
        .filter(|name| !checks.iter().any(|check| check.name == **name))
    {
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {name:?}\n"
        ));
    }
    let verbose = context.query.get("verbose").is_some();
    match (failed, verbose) {
        (true, _) => {
            lines.push_str(&format!("{endpoint} check failed\n"));
            text_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                lines,
                "text/plain; charset=utf-8",
            )
        }
        (false, true) => {
            lines.push_str(&format!("{endpoint} check passed\n"));
            text_response(StatusCode::OK, lines, "text/plain; charset=utf-8")
        }
        (false, false) => text_response(StatusCode::OK, "ok".into(), "text/plain; charset=utf-8"),
    }
}

fn text_response(code: StatusCode, text: String, content_type: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(
        "x-content-type-options",
        HeaderValue::from_static("nosniff"),
    );
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}

fn document_response(document: &Value, content_type: &'static str) -> Response {
    let mut response = text_response(StatusCode::OK, document.to_string(), content_type);
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    response
}
