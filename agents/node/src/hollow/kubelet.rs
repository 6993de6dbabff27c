//! The node agent's HTTPS API for all hollow nodes at one port. A pod is found by its name, since names are unique in a
//! cluster; what is asked of a node says of which (`?node=`), or has come through an API server's proxy of that node, which says so
//! in a header.

mod of_node;
mod sessions;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

use of_node::{healthz, metrics_probes, pods, pods_that_run};
use sessions::{attach, attach_by_uid, exec, exec_by_uid};

use super::engine::{Clock, lock};
use super::nodes::Names;
use super::stages::{Stage, Stages};
use super::words;
use super::world::World;
use crate::pod::plan::Observation;
use crate::runtime::hollow::NOTICE;
use crate::runtime::{LogChunk, Observed, Output, Result as RuntimeResult};
use crate::server::{
    Answers, Refusal, bad, container_status, exposed, internal, is_true, missing, parse_query,
    routes,
};
use crate::spec::Pod;
use crate::stats::{cadvisor, exposition, own, pod_starts, summary};
use crate::{configz, logs, metrics};

/// A followed log looks whether its container still runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Kubelet {
    world: Arc<Mutex<World>>,
    clock: Clock,
    names: Names,
    stages: Arc<Stages>,
    /// How many times longer everything takes on a slow node.
    slow_factor: u32,
    size: Size,
    /// What all of them answer about their settings.
    settings: Arc<Value>,
    /// Sessions are not the server's any more: they end with this.
    stop: CancellationToken,
}

/// What every node has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) cpu_count: u32,
    pub(super) memory_bytes: u64,
}

pub(super) fn router(
    world: Arc<Mutex<World>>,
    clock: Clock,
    names: Names,
    (stages, slow_factor): (Stages, u32),
    size: Size,
    about: Value,
    stop: CancellationToken,
) -> Router {
    let kubelet = Kubelet {
        world,
        clock,
        names,
        stages: Arc::new(stages),
        slow_factor,
        size,
        settings: Arc::new(about),
        stop,
    };
    let simulated = || async { internal(NOTICE.to_owned()) };
    let answers = Answers {
        healthz: get(healthz),
        pods: get(pods),
        running_pods: get(pods_that_run),
        stats_summary: get(stats_summary),
        metrics: get(own_metrics),
        metrics_resource: get(metrics_resource),
        metrics_cadvisor: get(metrics_cadvisor),
        metrics_probes: get(metrics_probes),
        container_logs: get(container_logs),
        exec: [any(exec), any(exec_by_uid)],
        attach: [any(attach), any(attach_by_uid)],
        port_forward: [any(simulated), any(simulated)],
    };
    routes(answers)
        .route(configz::PATH, get(settings))
        .route("/progress", get(progress))
        .layer(middleware::map_request(with_node))
        .with_state(kubelet)
}

/// Of which node a request is that has come through an API server's proxy.
const FORWARDED_URI: &str = "x-forwarded-uri";

async fn with_node(mut request: Request) -> Request {
    let forwarded = request.headers().get(FORWARDED_URI);
    let forwarded = forwarded.and_then(|path| path.to_str().ok());
    if let Some(uri) = forwarded.and_then(|path| naming(request.uri(), path)) {
        *request.uri_mut() = uri;
    }
    request
}

/// The same with the node in its query for which a proxy was asked by this path; none where there is nothing to add.
fn naming(uri: &Uri, forwarded: &str) -> Option<Uri> {
    let query = uri.query().unwrap_or_default();
    if parse_query(Some(query))
        .iter()
        .any(|(name, _)| name == "node")
    {
        return None;
    }
    let id = forwarded
        .strip_prefix("/api/v1/nodes/")?
        .split('/')
        .next()?;
    // NAME, NAME:PORT or SCHEME:NAME:PORT.
    let parts: Vec<&str> = id.split(':').collect();
    let name = match parts.as_slice() {
        [_, name, _] | [name] | [name, _] => name,
        _ => return None,
    };
    let between = if query.is_empty() { "" } else { "&" };
    format!("{}?{query}{between}node={name}", uri.path())
        .parse()
        .ok()
}

/// A pod of one of the nodes, as it is now.
struct Found {
    object: Value,
    pod: Pod,
    observed: Observation,
    node: String,
    stage: Stage,
}

impl Kubelet {
    fn find(&self, namespace: &str, name: &str, container: &str) -> Result<Found, Refusal> {
        let unknown = || missing(format!("pod {name:?} not found in namespace {namespace:?}"));
        let now = self.clock.now();
        let world = lock(&self.world);
        let entry = world.find(namespace, name).ok_or_else(unknown)?;
        let pod = entry.life.pod.pod().map_err(internal)?;
        if pod.container(container).is_none() {
            let text = format!("container {container:?} not found in pod {name:?}");
            return Err(missing(text));
        }
        let node = self.names.of(entry.node);
        powered(&world, entry.node, &node)?;
        Ok(Found {
            observed: entry.life.observation(&pod, &node, now),
            object: entry.life.pod.object(),
            pod,
            node,
            stage: self.stages.get(entry.stage).clone(),
        })
    }

    /// The node that is asked.
    fn asked(&self, query: &[(String, String)]) -> Result<u32, Refusal> {
        let name = query.iter().find(|(name, _)| name == "node");
        let Some((_, name)) = name else {
            let text = "this port answers for many hollow nodes: say which with ?node=NAME";
            return Err(bad(text));
        };
        let number = self.names.number(name);
        let unknown = || missing(format!("node {name:?} is not one of the hollow nodes here"));
        let number = number.ok_or_else(unknown)?;
        powered(&lock(&self.world), number, name)?;
        Ok(number)
    }
}

/// Refuses for a node that is as without power.
fn powered(world: &World, number: u32, name: &str) -> Result<(), Refusal> {
    let place = usize::try_from(number).ok();
    let place = place.and_then(|number| world.places.get(number));
    if !place.is_some_and(|place| place.node.is_silent()) {
        return Ok(());
    }
    let text = format!("node {name:?} is silent, and answers nothing");
    Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, text))
}

async fn progress(State(kubelet): State<Kubelet>) -> Response {
    axum::Json(lock(&kubelet.world).progress()).into_response()
}

async fn settings(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    kubelet.asked(&parse_query(query.as_deref()))?;
    Ok(axum::Json(&*kubelet.settings).into_response())
}

async fn stats_summary(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = parse_query(query.as_deref());
    let (snapshot, objects) = kubelet.snapshot(kubelet.asked(&query)?);
    let mut only = query
        .iter()
        .filter(|(name, _)| name == "only_cpu_and_memory");
    let only = only.any(|(_, value)| is_true(value));
    Ok(axum::Json(summary(&snapshot, &pod_starts(&objects), only)).into_response())
}

async fn metrics_resource(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let (snapshot, _) = kubelet.snapshot(kubelet.asked(&parse_query(query.as_deref()))?);
    Ok(exposed(exposition(Some(&snapshot))))
}

async fn metrics_cadvisor(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let number = kubelet.asked(&parse_query(query.as_deref()))?;
    let (snapshot, pods) = kubelet.snapshot(number);
    let cpu_count = Some(i64::from(kubelet.size.cpu_count));
    Ok(exposed(cadvisor(Some(&snapshot), &pods, cpu_count)))
}

/// Of the process where no node is asked for: its own figures are not of one node.
async fn own_metrics(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = parse_query(query.as_deref());
    if query.is_empty() {
        return Ok(exposed(metrics::of_process()));
    }
    let (snapshot, _) = kubelet.snapshot(kubelet.asked(&query)?);
    Ok(exposed(own(&snapshot.node_name, Some(&snapshot))))
}

async fn container_logs(
    State(kubelet): State<Kubelet>,
    Path((namespace, name, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let now = kubelet.clock.now();
    let options = logs::Options::parse(&parse_query(query.as_deref()), now).map_err(bad)?;
    let found = kubelet.find(&namespace, &name, &container)?;
    let status = container_status(&found.object, &container);
    let chosen = logs::choose(&found.observed, status, &name, &container, options.previous);
    let chosen = chosen.map_err(bad)?.clone();
    let mut lines = lines(&found, &chosen, now);
    if let Some(tail) = options.tail_lines {
        let tail = usize::try_from(tail).unwrap_or(usize::MAX);
        lines.drain(..lines.len().saturating_sub(tail));
    }
    let mut lines: BoxStream<'static, RuntimeResult<LogChunk>> =
        Box::pin(stream::iter(lines.into_iter().map(Ok)));
    if options.follow && chosen.is_running() {
        lines = Box::pin(lines.chain(until_it_ends(kubelet, namespace, name, chosen)));
    }
    let body = logs::cut(lines, options).map(|bytes| bytes.map_err(std::io::Error::other));
    let kind = [(header::CONTENT_TYPE, "text/plain")];
    Ok((kind, Body::from_stream(body)).into_response())
}

/// What a container has said.
fn lines(found: &Found, container: &Observed, now: OffsetDateTime) -> Vec<LogChunk> {
    let said = words::said(&found.pod, &found.node, container, now);
    let chunk = |(at, line): (OffsetDateTime, String)| LogChunk {
        output: Output::Stdout(Bytes::from(format!("{line}\n"))),
        timestamp: at.format(&Rfc3339).unwrap_or_default(),
    };
    said.into_iter().map(chunk).collect()
}

/// Says nothing, until the container does not run any more.
fn until_it_ends(
    kubelet: Kubelet,
    namespace: String,
    name: String,
    container: Observed,
) -> impl futures::Stream<Item = RuntimeResult<LogChunk>> + Send + 'static {
    stream::once(async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let found = kubelet.find(&namespace, &name, &container.identity.container);
            let runs = found.is_ok_and(|found| {
                let latest = found.observed.latest(&container.identity.container);
                latest.is_some_and(|latest| latest.id == container.id && latest.is_running())
            });
            if !runs {
                return;
            }
        }
    })
    .filter_map(|()| futures::future::ready(None))
}

#[cfg(test)]
mod tests;
