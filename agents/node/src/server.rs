//! The node's HTTPS API, which the API server uses: health, pods, logs, exec, attach and port-forward.
//!
//! A client that shows a certificate of the cluster's CA whose common name is among the configured ones may do everything;
//! of all others the API is asked ([`crate::guard`]), since exec is root on the node. HTTP/1.1 only: WebSockets upgrade its
//! connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use futures::StreamExt;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use trust::Identity;

use crate::agent::Agent;
use crate::guard::{Guard, asker};
use crate::pod::plan::Observation;
use crate::portforward::Patience;
use crate::runtime::{ExecRequest, Observed};
use crate::spec::Pod;
use crate::{Error, ServerIdentity, clock, logs, metrics, portforward, stats, streaming};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECTIONS_MAX: usize = 1024;
/// So many of them are of others than the configured clients, whom nobody shall keep out.
const STRANGERS_MAX: usize = 256;
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

pub(crate) struct Server {
    listener: TcpListener,
    identity: watch::Receiver<ServerIdentity>,
    acceptor: TlsAcceptor,
    client_names: Arc<[String]>,
    port: u16,
}

impl Server {
    pub(crate) async fn bind(
        address: SocketAddr,
        identity: &watch::Receiver<ServerIdentity>,
    ) -> Result<Server, Error> {
        let mut identity = identity.clone();
        let first = identity.borrow_and_update().clone();
        let acceptor = acceptor(&first).map_err(Error::Identity)?;
        let listen = |source| Error::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let port = listener.local_addr().map_err(listen)?.port();
        Ok(Server {
            listener,
            identity,
            acceptor,
            client_names: first.client_names.into(),
            port,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Serves until dropped; every connection ends with it. Without a guard only configured clients are let in.
    pub(crate) async fn serve(mut self, router: Router, guard: Option<Arc<Guard>>) {
        let mut connections = JoinSet::new();
        let strangers = Arc::new(Semaphore::new(STRANGERS_MAX));
        loop {
            while connections.len() >= CONNECTIONS_MAX {
                connections.join_next().await;
            }
            while connections.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            self.take_identity();
            let (acceptor, router) = (self.acceptor.clone(), router.clone());
            let (names, guard) = (self.client_names.clone(), guard.clone());
            let strangers = strangers.clone();
            connections.spawn(async move {
                let door = (&*names, guard, &*strangers);
                if let Err(error) = connection(stream, acceptor, door, router).await {
                    tracing::debug!(error, "a connection ended with an error");
                }
            });
        }
    }
}

impl Server {
    /// Takes a new identity if there is one, for the connection that has just come and for those after it.
    fn take_identity(&mut self) {
        if !self.identity.has_changed().unwrap_or(false) {
            return;
        }
        let identity = self.identity.borrow_and_update();
        match acceptor(&identity) {
            Ok(acceptor) => {
                self.acceptor = acceptor;
                self.client_names = identity.client_names.clone().into();
            }
            Err(error) => {
                tracing::error!(
                    error,
                    "the new server identity is unusable, the old one stays"
                );
            }
        }
    }
}

pub(crate) fn acceptor(identity: &ServerIdentity) -> Result<TlsAcceptor, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = trust::authorities(identity.client_ca_pem.as_bytes())?;
    let Identity { chain, key } = Identity::of_pem(
        identity.certificate_pem.as_bytes(),
        identity.key_pem.as_bytes(),
    )?;
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
        Arc::new(clients),
        provider.clone(),
    )
    .allow_unauthenticated()
    .build()
    .map_err(|error| error.to_string())?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    (names, guard, strangers): (&[String], Option<Arc<Guard>>, &Semaphore),
    router: Router,
) -> Result<(), String> {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = handshake
        .map_err(|_| "TLS handshake timed out")?
        .map_err(|error| error.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates();
    let shown = certificates.and_then(|chain| subject(chain.first()?));
    let is_known = shown.as_ref().is_some_and(|(name, _)| names.contains(name));
    let _place = match is_known {
        true => None,
        false => Some(strangers.try_acquire().map_err(|_| "too many strangers")?),
    };
    let router = match (shown, guard) {
        _ if is_known => router,
        (shown, Some(guard)) => {
            let shown = shown.map(|(name, organizations)| asker(&name, &organizations));
            guard.before(router, shown)
        }
        (shown, None) => forbidden(&shown.unwrap_or_default().0),
    };
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let service = TowerToHyperService::new(router);
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    connection.await.map_err(|error| error.to_string())
}

/// The name and the groups that a certificate is for. Nobody's, where they cannot be read.
fn subject(certificate: &CertificateDer<'_>) -> Option<(String, Vec<String>)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let organizations = subject.iter_organization();
    let organizations = organizations.map(|one| one.as_str().map(str::to_owned));
    let organizations = organizations.collect::<Result<_, _>>().ok()?;
    (!name.is_empty()).then_some((name, organizations))
}

fn forbidden(name: &str) -> Router {
    let text = format!("Forbidden (user={name}, resource=nodes, subresource=proxy)");
    Router::new().fallback(move || {
        let text = text.clone();
        async move { (StatusCode::FORBIDDEN, text) }
    })
}

/// What answers the requests of a node's API. What takes a pod by its name also takes it with its uid.
pub(crate) struct Answers<S> {
    pub(crate) pods: MethodRouter<S>,
    pub(crate) stats_summary: MethodRouter<S>,
    pub(crate) metrics: MethodRouter<S>,
    pub(crate) metrics_resource: MethodRouter<S>,
    pub(crate) metrics_cadvisor: MethodRouter<S>,
    pub(crate) container_logs: MethodRouter<S>,
    pub(crate) exec: [MethodRouter<S>; 2],
    pub(crate) attach: [MethodRouter<S>; 2],
    pub(crate) port_forward: [MethodRouter<S>; 2],
}

/// The paths of a node's API.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>(answers: Answers<S>) -> Router<S> {
    let ([exec, exec_by_uid], [attach, attach_by_uid]) = (answers.exec, answers.attach);
    let [forward, forward_by_uid] = answers.port_forward;
    let (logs, usage) = (answers.container_logs, answers.metrics_resource);
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/pods", answers.pods)
        .route("/stats/summary", answers.stats_summary)
        .route("/metrics", answers.metrics)
        .route("/metrics/resource", usage)
        .route("/metrics/cadvisor", answers.metrics_cadvisor)
        .route("/containerLogs/{namespace}/{pod}/{container}", logs)
        .route("/exec/{namespace}/{pod}/{container}", exec)
        .route("/exec/{namespace}/{pod}/{uid}/{container}", exec_by_uid)
        .route("/attach/{namespace}/{pod}/{container}", attach)
        .route("/attach/{namespace}/{pod}/{uid}/{container}", attach_by_uid)
        .route("/portForward/{namespace}/{pod}", forward)
        .route("/portForward/{namespace}/{pod}/{uid}", forward_by_uid)
}

pub(crate) fn router(agent: Arc<Agent>) -> Router {
    let answers = Answers {
        pods: get(pods),
        stats_summary: get(stats_summary),
        metrics: get(own_metrics),
        metrics_resource: get(metrics_resource),
        metrics_cadvisor: get(metrics_cadvisor),
        container_logs: get(container_logs),
        exec: [any(exec), any(exec_by_uid)],
        attach: [any(attach), any(attach_by_uid)],
        port_forward: [any(port_forward), any(port_forward_by_uid)],
    };
    routes(answers).with_state(agent)
}

async fn pods(State(agent): State<Arc<Agent>>) -> Response {
    let items: Vec<Value> = agent
        .pod_objects()
        .iter()
        .map(|object| (**object).clone())
        .collect();
    axum::Json(json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
        .into_response()
}

async fn stats_summary(
    State(agent): State<Arc<Agent>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let snapshot = stats::snapshot(&agent).await;
    let snapshot = snapshot.map_err(|error| internal(error.to_string()))?;
    let starts = stats::pod_starts(&agent.pod_objects());
    let only = parse_query(query.as_deref());
    let only = only
        .iter()
        .any(|(name, value)| name == "only_cpu_and_memory" && is_true(value));
    Ok(axum::Json(stats::summary(&snapshot, &starts, only)).into_response())
}

async fn own_metrics(State(agent): State<Arc<Agent>>) -> Response {
    let snapshot = stats::snapshot(&agent).await;
    let mut text = stats::own(&agent.config.node_name, snapshot.as_ref().ok());
    text.push_str(&agent.stats.volumes.exposed(clock::now()));
    text.push_str(&metrics::of_process());
    exposed(text)
}

async fn metrics_resource(State(agent): State<Arc<Agent>>) -> Response {
    let snapshot = stats::snapshot(&agent).await;
    exposed(stats::exposition(snapshot.as_ref().ok()))
}

async fn metrics_cadvisor(State(agent): State<Arc<Agent>>) -> Response {
    let snapshot = stats::snapshot(&agent).await;
    let pods = agent.pod_objects();
    let cpu_count = Some(agent.capacity.cpu_count);
    exposed(stats::cadvisor(snapshot.as_ref().ok(), &pods, cpu_count))
}

/// Text for Prometheus.
pub(crate) fn exposed(text: String) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

/// A request that cannot be served; the body is plain text, which the API server puts into a Status.
pub(crate) struct Refusal(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (
            self.0,
            [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
            self.1,
        )
            .into_response()
    }
}

/// A pod of this node, with what the runtime has of it.
struct Found {
    object: Arc<Value>,
    pod: Pod,
    observed: Observation,
}

pub(crate) fn missing(text: String) -> Refusal {
    Refusal(StatusCode::NOT_FOUND, text)
}

pub(crate) fn internal(text: String) -> Refusal {
    Refusal(StatusCode::INTERNAL_SERVER_ERROR, text)
}

pub(crate) fn bad(text: impl Into<String>) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, text.into())
}

async fn find(
    agent: &Agent,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    container: &str,
) -> Result<Found, Refusal> {
    let found = find_pod(agent, namespace, name, uid).await?;
    match found.pod.container(container) {
        Some(_) => Ok(found),
        None => Err(missing(format!(
            "container {container:?} not found in pod {name:?}"
        ))),
    }
}

/// With a UID only that pod will do, not another one of the same name.
async fn find_pod(
    agent: &Agent,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Found, Refusal> {
    let unknown = || missing(format!("pod {name:?} not found in namespace {namespace:?}"));
    let object = agent.find_pod(namespace, name).ok_or_else(unknown)?;
    let pod = Pod::decode(&object).map_err(internal)?;
    if uid.is_some_and(|uid| uid != pod.metadata.uid) {
        return Err(unknown());
    }
    let all = agent
        .runtime
        .list(Some(&pod.metadata.uid))
        .await
        .map_err(|error| internal(error.to_string()))?;
    Ok(Found {
        object,
        pod,
        observed: Observation::new(all),
    })
}

pub(crate) fn container_status<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ]
    .iter()
    .filter_map(|field| object.get("status")?.get(field)?.as_array())
    .flatten()
    .find(|status| status.get("name").and_then(Value::as_str) == Some(name))
}

async fn container_logs(
    State(agent): State<Arc<Agent>>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let found = find(&agent, &namespace, &name, None, &container).await?;
    let options =
        logs::Options::parse(&parse_query(query.as_deref()), clock::now()).map_err(bad)?;
    let status = container_status(&found.object, &container);
    let chosen = logs::choose(
        &found.observed,
        status,
        &found.pod.metadata.name,
        &container,
        options.previous,
    );
    let id = chosen.map_err(bad)?.id.clone();
    let lines = logs::read(&*agent.runtime, &id, options);
    let body = Body::from_stream(lines.map(|bytes| bytes.map_err(std::io::Error::other)));
    Ok(([(header::CONTENT_TYPE, "text/plain")], body).into_response())
}

type ContainerPath = Path<(String, String, String)>;
type ContainerPathWithUid = Path<(String, String, String, String)>;

async fn exec(
    state: State<Arc<Agent>>,
    path: ContainerPath,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    stream(state, path, None, query, upgrade, Verb::Exec).await
}

async fn exec_by_uid(
    state: State<Arc<Agent>>,
    Path((namespace, pod, uid, container)): ContainerPathWithUid,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    stream(
        state,
        Path((namespace, pod, container)),
        Some(uid),
        query,
        upgrade,
        Verb::Exec,
    )
    .await
}

async fn attach(
    state: State<Arc<Agent>>,
    path: ContainerPath,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    stream(state, path, None, query, upgrade, Verb::Attach).await
}

async fn attach_by_uid(
    state: State<Arc<Agent>>,
    Path((namespace, pod, uid, container)): ContainerPathWithUid,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    stream(
        state,
        Path((namespace, pod, container)),
        Some(uid),
        query,
        upgrade,
        Verb::Attach,
    )
    .await
}

pub(crate) const NO_WEBSOCKET: &str = "unable to upgrade: a WebSocket is needed";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Exec,
    Attach,
}

async fn stream(
    State(agent): State<Arc<Agent>>,
    Path((namespace, name, container)): ContainerPath,
    uid: Option<String>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    verb: Verb,
) -> Result<Response, Refusal> {
    let request = exec_request(&parse_query(query.as_deref()));
    if !(request.stdin || request.stdout || request.stderr) {
        return Err(bad("you must specify at least 1 of stdin, stdout, stderr"));
    }
    if verb == Verb::Exec && request.command.is_empty() {
        return Err(bad("you must specify at least 1 command"));
    }
    let found = find(&agent, &namespace, &name, uid.as_deref(), &container).await?;
    let running = found
        .observed
        .latest(&container)
        .filter(|observed| Observed::is_running(observed));
    let id = running.map(|observed| observed.id.clone());
    let id = id.ok_or_else(|| missing(format!("container not found (\"{container}\")")))?;
    let upgrade = upgrade.map_err(|_| bad(NO_WEBSOCKET))?;
    let request = ExecRequest {
        tty: match verb {
            Verb::Exec => request.tty,
            Verb::Attach => found
                .pod
                .container(&container)
                .is_some_and(|(_, container)| container.tty),
        },
        ..request
    };
    let upgrade = upgrade.protocols(streaming::PROTOCOLS);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let session = match verb {
            Verb::Exec => agent.runtime.exec(&id, &request).await,
            Verb::Attach => agent.runtime.attach(&id, &request).await,
        };
        let session = session.map_err(|error| match verb {
            Verb::Exec => format!("error executing command in container: {error}"),
            Verb::Attach => format!("error attaching to container: {error}"),
        });
        until_stopped(&agent, streaming::carry(socket, session)).await;
    }))
}

/// An upgraded connection is not the server's any more: it has to end with the agent by itself.
async fn until_stopped(agent: &Agent, carried: impl Future<Output = ()>) {
    tokio::select! {
        () = carried => {}
        () = agent.stop.cancelled() => {}
    }
}

async fn port_forward(
    state: State<Arc<Agent>>,
    path: Path<(String, String)>,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    forward(state, path, None, query, upgrade).await
}

async fn port_forward_by_uid(
    state: State<Arc<Agent>>,
    Path((namespace, pod, uid)): Path<(String, String, String)>,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    forward(state, Path((namespace, pod)), Some(uid), query, upgrade).await
}

async fn forward(
    State(agent): State<Arc<Agent>>,
    Path((namespace, name)): Path<(String, String)>,
    uid: Option<String>,
    RawQuery(query): RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let ports = portforward::ports(&parse_query(query.as_deref())).map_err(bad)?;
    let found = find_pod(&agent, &namespace, &name, uid.as_deref()).await?;
    let sandbox = found.observed.sandbox().map(|sandbox| sandbox.id.clone());
    let sandbox =
        sandbox.ok_or_else(|| internal(format!("failed to find sandbox for pod {name:?}")))?;
    let upgrade = upgrade.map_err(|_| bad(NO_WEBSOCKET))?;
    let upgrade = upgrade.protocols(portforward::PROTOCOLS);
    let who = format!("{name}_{namespace}, uid {}", found.pod.metadata.uid);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let dial = |port| {
            let (runtime, sandbox, who) = (&agent.runtime, &sandbox, &who);
            async move {
                let dialled = runtime.dial(sandbox, port).await;
                dialled
                    .map_err(|error| format!("error forwarding port {port} to pod {who}: {error}"))
            }
        };
        let carried = portforward::carry(socket, ports, Patience::DEFAULT, dial);
        until_stopped(&agent, carried).await;
    }))
}

/// The API server's names (`input`, `output`, `error`) and the public ones (`stdin`, ..) mean the same.
pub(crate) fn exec_request(query: &[(String, String)]) -> ExecRequest {
    let mut request = ExecRequest::default();
    for (name, value) in query {
        let on = is_true(value);
        match name.as_str() {
            "command" => request.command.push(value.clone()),
            "input" | "stdin" => request.stdin |= on,
            "output" | "stdout" => request.stdout |= on,
            "error" | "stderr" => request.stderr |= on,
            "tty" => request.tty |= on,
            _ => {}
        }
    }
    request
}

pub(crate) fn is_true(value: &str) -> bool {
    matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T")
}

/// Decodes a query string, repeated names kept in order.
pub(crate) fn parse_query(query: Option<&str>) -> Vec<(String, String)> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.push((high * 16 + low) as u8);
                        rest = ahead;
                    }
                    _ => bytes.push(byte),
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_in_order() {
        let query = parse_query(Some(
            "command=sh&command=-c&command=echo+a%26b%zz&output=1&tty=true&stdin=0",
        ));
        let request = exec_request(&query);
        assert_eq!(request.command, ["sh", "-c", "echo a&b%zz"]);
        assert!(request.stdout && request.tty && !request.stdin && !request.stderr);
    }
}
