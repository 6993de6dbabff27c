//! `/healthz`, `/livez`, `/readyz` with their checks, `/metrics` and `/metrics/slis`, what flow control shows, and the documents that let
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

/// One check: its name, whether only `/readyz` asks it, what is told where it fails, and the test.
struct Check {
    name: &'static str,
    ready_only: bool,
    why: &'static str,
    test: Test,
}

#[derive(Clone, Copy)]
enum Test {
    Now(fn(&ApiServer) -> bool),
    /// Whether what is done once after the start is done. A server that waits for the store is not ready, and lives: one that is
    /// ended for it would not be there when the others come.
    Hook,
    /// A linearizable read of the store, as in Kubernetes: a member that was cut off from the others, or removed, cannot
    /// serve.
    Store,
}

/// For the store to answer; Kubernetes' time.
const STORE_DEADLINE: Duration = Duration::from_secs(2);

impl Check {
    const fn new(name: &'static str, why: &'static str, test: Test) -> Check {
        Check {
            name,
            ready_only: false,
            why,
            test,
        }
    }

    /// What Kubernetes does once after its start and each by itself: here it is all there at the same time.
    const fn hook(name: &'static str) -> Check {
        Check::new(name, "not finished", Test::Hook)
    }

    const fn of_readiness(self) -> Check {
        Check {
            ready_only: true,
            ..self
        }
    }

    async fn passes(&self, server: &ApiServer, endpoint: &str) -> bool {
        match self.test {
            Test::Now(test) => test(server),
            Test::Hook => endpoint == "livez" || server.is_ready(),
            Test::Store => tokio::time::timeout(STORE_DEADLINE, server.store.read_index())
                .await
                .is_ok_and(|read| read.is_ok()),
        }
    }
}

/// The type of text for Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const NO_STORE: &str = "error getting data from etcd: context deadline exceeded";

/// Under Kubernetes' names and in its order: whoever takes one out with `exclude` finds it.
const CHECKS: &[Check] = &[
    Check::new("ping", "", Test::Now(|_| true)),
    Check::new("log", "logging blocked", Test::Now(|_| true)),
    Check::new("etcd", NO_STORE, Test::Store),
    Check::new("etcd-readiness", NO_STORE, Test::Store).of_readiness(),
    Check::new(
        "informer-sync",
        "informers not started yet",
        Test::Now(|server| server.world.is_loaded()),
    )
    .of_readiness(),
    Check::hook("poststarthook/start-apiserver-admission-initializer"),
    Check::hook("poststarthook/generic-apiserver-start-informers"),
    Check::hook("poststarthook/priority-and-fairness-config-consumer"),
    Check::hook("poststarthook/priority-and-fairness-filter"),
    Check::hook("poststarthook/storage-object-count-tracker-hook"),
    Check::hook("poststarthook/start-apiextensions-informers"),
    Check::hook("poststarthook/start-apiextensions-controllers"),
    Check::hook("poststarthook/crd-informer-synced"),
    Check::hook("poststarthook/start-system-namespaces-controller"),
    Check::hook("poststarthook/start-cluster-authentication-info-controller"),
    Check::hook("poststarthook/start-kube-apiserver-identity-lease-controller"),
    Check::hook("poststarthook/start-kube-apiserver-identity-lease-garbage-collector"),
    Check::hook("poststarthook/start-legacy-token-tracking-controller"),
    Check::hook("poststarthook/start-service-ip-repair-controllers"),
    Check::hook("poststarthook/rbac/bootstrap-roles"),
    Check::hook("poststarthook/scheduling/bootstrap-system-priority-classes"),
    Check::hook("poststarthook/priority-and-fairness-config-producer"),
    Check::hook("poststarthook/bootstrap-controller"),
    Check::hook("poststarthook/start-kubernetes-service-cidr-controller"),
    Check::hook("poststarthook/aggregator-reload-proxy-client-cert"),
    Check::hook("poststarthook/start-kube-aggregator-informers"),
    Check::hook("poststarthook/apiservice-status-local-available-controller"),
    Check::hook("poststarthook/apiservice-status-remote-available-controller"),
    Check::hook("poststarthook/apiservice-registration-controller"),
    Check::hook("poststarthook/apiservice-discovery-controller"),
    Check::hook("poststarthook/kube-apiserver-autoregistration"),
    Check::hook("autoregister-completion"),
    Check::hook("poststarthook/apiservice-openapi-controller"),
    Check::hook("poststarthook/apiservice-openapiv3-controller"),
    Check::new(
        "shutdown",
        "process is shutting down",
        Test::Now(|server| !server.stopping.is_cancelled()),
    )
    .of_readiness(),
];

const ENDPOINTS: &[&str] = &["healthz", "livez", "readyz"];

fn checks_of(endpoint: &str) -> impl Iterator<Item = &'static Check> + use<> {
    let is_readiness = endpoint == "readyz";
    CHECKS
        .iter()
        .filter(move |check| is_readiness || !check.ready_only)
}

/// The paths of single checks.
pub(crate) fn paths() -> impl Iterator<Item = String> {
    ENDPOINTS.iter().flat_map(|endpoint| {
        checks_of(endpoint).map(move |check| format!("/{endpoint}/{}", check.name))
    })
}

/// Answers the paths of this file; none for other paths.
pub(crate) async fn respond(context: &Context, path: &str) -> Option<Response> {
    match path {
        "/metrics" => {
            let text = context.server.metrics.render(&context.server);
            return Some(text_response(StatusCode::OK, text, EXPOSITION));
        }
        "/metrics/slis" => {
            let text = context.server.metrics.render_checks();
            return Some(text_response(StatusCode::OK, text, EXPOSITION));
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
    for endpoint in ENDPOINTS {
        let Some(rest) = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(*endpoint))
        else {
            continue;
        };
        let checks: Vec<&Check> = checks_of(endpoint).collect();
        if rest.is_empty() {
            return Some(all_checks(context, endpoint, &checks).await);
        }
        let check = checks
            .into_iter()
            .find(|check| rest.strip_prefix('/') == Some(check.name))?;
        let passes = check.passes(&context.server, endpoint).await;
        let figures = &context.server.metrics.checks;
        figures.made(check.name, endpoint, passes);
        return Some(if passes {
            text_response(StatusCode::OK, "ok".into(), "text/plain; charset=utf-8")
        } else {
            let text = format!("internal server error: {}\n", check.why);
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
    // Two checks ask the store, which takes seconds where nobody answers: once is enough.
    let mut store = None;
    for check in checks {
        if excluded.contains(&check.name) {
            lines.push_str(&format!("[+]{} excluded: ok\n", check.name));
            continue;
        }
        let passes = match (check.test, store) {
            (Test::Store, Some(known)) => known,
            _ => check.passes(&context.server, endpoint).await,
        };
        if matches!(check.test, Test::Store) {
            store = Some(passes);
        }
        let figures = &context.server.metrics.checks;
        figures.made(check.name, endpoint, passes);
        if passes {
            lines.push_str(&format!("[+]{} ok\n", check.name));
        } else {
            failed = true;
            lines.push_str(&format!("[-]{} failed: reason withheld\n", check.name));
        }
    }
    let mut unknown: Vec<String> = excluded
        .iter()
        .filter(|name| !checks.iter().any(|check| check.name == **name))
        .map(|name| format!("{name:?}"))
        .collect();
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {}\n",
            unknown.join(",")
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
