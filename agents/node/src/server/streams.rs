//! Requests whose connection becomes a stream: exec, attach and port-forward.

use std::sync::Arc;

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use serde::Deserialize;

use super::found::{find, find_pod};
use super::query::{exec_request, parse_query};
use super::refusal::{Refusal, bad, internal, missing};
use crate::agent::Agent;
use crate::portforward::Patience;
use crate::runtime::{ExecRequest, Observed};
use crate::{portforward, streaming};

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// A pod as a path names it, which may say its uid, too.
#[derive(Deserialize)]
pub(super) struct PodPath {
    namespace: String,
    pod: String,
    uid: Option<String>,
}

/// The same of a container.
#[derive(Deserialize)]
pub(super) struct ContainerPath {
    namespace: String,
    pod: String,
    uid: Option<String>,
    container: String,
}

pub(crate) const NO_WEBSOCKET: &str = "unable to upgrade: a WebSocket is needed";

pub(super) async fn exec(
    state: State<Arc<Agent>>,
    path: Path<ContainerPath>,
    query: RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    stream(state, path, query, upgrade, Verb::Exec).await
}

pub(super) async fn attach(
    state: State<Arc<Agent>>,
    path: Path<ContainerPath>,
    query: RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    stream(state, path, query, upgrade, Verb::Attach).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Exec,
    Attach,
}

async fn stream(
    State(agent): State<Arc<Agent>>,
    Path(path): Path<ContainerPath>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
    verb: Verb,
) -> Result<Response, Refusal> {
    let ContainerPath {
        namespace,
        pod,
        uid,
        container,
    } = path;
    let request = exec_request(&parse_query(query.as_deref()));
    if !(request.stdin || request.stdout || request.stderr) {
        return Err(bad("you must specify at least 1 of stdin, stdout, stderr"));
    }
    if verb == Verb::Exec && request.command.is_empty() {
        return Err(bad("you must specify at least 1 command"));
    }
    let found = find(&agent, &namespace, &pod, uid.as_deref(), &container).await?;
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
    State(agent): State<Arc<Agent>>,
    Path(path): Path<PodPath>,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let (namespace, name) = (path.namespace, path.pod);
    let ports = portforward::ports(&parse_query(query.as_deref())).map_err(bad)?;
    let found = find_pod(&agent, &namespace, &name, path.uid.as_deref()).await?;
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
