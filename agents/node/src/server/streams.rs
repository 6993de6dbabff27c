//! Requests whose connection becomes a stream: exec, attach and port-forward.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;

use super::found::{find, find_pod};
use super::query::{exec_request, parse_query};
use super::refusal::{Refusal, bad, internal, missing};
use crate::agent::Agent;
use crate::portforward::Patience;
use crate::runtime::{ExecRequest, Observed};
use crate::{portforward, streaming};

type ContainerPath = Path<(String, String, String)>;
type ContainerPathWithUid = Path<(String, String, String, String)>;

pub(crate) const NO_WEBSOCKET: &str = "unable to upgrade: a WebSocket is needed";

pub(super) async fn exec(
    state: State<Arc<Agent>>,
    path: ContainerPath,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    stream(state, path, None, query, upgrade, Verb::Exec).await
}

pub(super) async fn exec_by_uid(
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

pub(super) async fn attach(
    state: State<Arc<Agent>>,
    path: ContainerPath,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    stream(state, path, None, query, upgrade, Verb::Attach).await
}

pub(super) async fn attach_by_uid(
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

pub(super) async fn port_forward(
    state: State<Arc<Agent>>,
    path: Path<(String, String)>,
    query: RawQuery,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    forward(state, path, None, query, upgrade).await
}

pub(super) async fn port_forward_by_uid(
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

/// An upgraded connection is not the server's any more: it has to end with the agent by itself.
async fn until_stopped(agent: &Agent, carried: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = agent.stop.cancelled() => {}
        () = carried => {}
    }
}
