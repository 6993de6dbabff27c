//! Commands in simulated containers, and what these say to whoever attaches: canned text, over the protocols of a real node.

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use futures::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

use super::{Found, Kubelet, lines, until_it_ends};
use crate::runtime::hollow::{Otherwise, pretend, pretend_or};
use crate::runtime::{ExecRequest, Observed, Output, Result as RuntimeResult, Session};
use crate::server::{NO_WEBSOCKET, Refusal, bad, exec_request, missing, parse_query};
use crate::streaming;

type Upgrade = Result<WebSocketUpgrade, WebSocketUpgradeRejection>;

/// The container that a session is asked for, which has to run; with a UID only of that pod.
fn running(
    kubelet: &Kubelet,
    (namespace, name, container): (&str, &str, &str),
    uid: Option<&str>,
) -> Result<(Found, Observed), Refusal> {
    let found = kubelet.find(namespace, name, container)?;
    if uid.is_some_and(|uid| found.pod.metadata.uid != uid) {
        let text = format!("pod {name:?} not found in namespace {namespace:?}");
        return Err(missing(text));
    }
    let latest = found.observed.latest(container);
    match latest.filter(|latest| latest.is_running()).cloned() {
        Some(running) => Ok((found, running)),
        None => Err(missing(format!("container not found (\"{container}\")"))),
    }
}

/// What is asked of a session.
fn asked_for(query: Option<&str>) -> Result<ExecRequest, Refusal> {
    let request = exec_request(&parse_query(query));
    match request.stdin || request.stdout || request.stderr {
        true => Ok(request),
        false => Err(bad("you must specify at least 1 of stdin, stdout, stderr")),
    }
}

/// Carries a session until it has ended or the process stops.
fn begin(upgrade: Upgrade, session: Session, stop: CancellationToken) -> Result<Response, Refusal> {
    let upgrade = upgrade.map_err(|_| bad(NO_WEBSOCKET))?;
    let upgrade = upgrade.protocols(streaming::PROTOCOLS);
    Ok(upgrade.on_upgrade(move |socket| async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = streaming::carry(socket, Ok(session)) => {}
        }
    }))
}

type ContainerPath = Path<(String, String, String)>;
type ContainerPathWithUid = Path<(String, String, String, String)>;

pub(super) async fn exec(
    State(kubelet): State<Kubelet>,
    Path((namespace, name, container)): ContainerPath,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let request = asked_for(query.as_deref())?;
    if request.command.is_empty() {
        return Err(bad("you must specify at least 1 command"));
    }
    let (found, _) = running(&kubelet, (&namespace, &name, &container), None)?;
    let otherwise = found.stage.exec.as_ref().map(|exec| Otherwise {
        code: exec.exit_code,
        message: &exec.message,
        is_always: !found.stage.program,
    });
    begin(upgrade, pretend_or(&request, otherwise), kubelet.stop)
}

pub(super) async fn exec_by_uid(
    state: State<Kubelet>,
    Path((namespace, name, uid, container)): ContainerPathWithUid,
    query: RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    running(&state.0, (&namespace, &name, &container), Some(&uid))?;
    exec(state, Path((namespace, name, container)), query, upgrade).await
}

pub(super) async fn attach(
    State(kubelet): State<Kubelet>,
    Path((namespace, name, container)): ContainerPath,
    RawQuery(query): RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    let request = asked_for(query.as_deref())?;
    let stop = kubelet.stop.clone();
    let (found, running) = running(&kubelet, (&namespace, &name, &container), None)?;
    let said = lines(&found, &running, kubelet.clock.now());
    let said: Vec<RuntimeResult<Output>> = match request.stdout {
        true => said.into_iter().map(|line| Ok(line.output)).collect(),
        false => Vec::new(),
    };
    let end = until_it_ends(kubelet, namespace, name, running);
    let end = end.map(|chunk| chunk.map(|chunk| chunk.output));
    // No command runs: what is left of it is a session that takes whatever is put in.
    let nothing = pretend(&ExecRequest::default());
    let session = Session {
        output: Box::pin(stream::iter(said).chain(end)),
        ..nothing
    };
    begin(upgrade, session, stop)
}

pub(super) async fn attach_by_uid(
    state: State<Kubelet>,
    Path((namespace, name, uid, container)): ContainerPathWithUid,
    query: RawQuery,
    upgrade: Upgrade,
) -> Result<Response, Refusal> {
    running(&state.0, (&namespace, &name, &container), Some(&uid))?;
    attach(state, Path((namespace, name, container)), query, upgrade).await
}
