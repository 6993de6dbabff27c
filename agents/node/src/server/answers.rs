//! The paths of a node's API, and what answers those that are no streams.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get};
use futures::StreamExt;
use serde_json::{Value, json};

use super::found::{container_status, find};
use super::query::{is_true, parse_query};
use super::refusal::{Refusal, bad, internal};
use super::running::running_pods;
use super::streams::{attach, exec, port_forward};
use crate::agent::Agent;
use crate::{clock, logs, metrics, stats};

/// What answers the requests of a node's API. What takes a pod by its name also takes it with its uid.
pub(crate) struct Answers<S> {
    pub(crate) healthz: MethodRouter<S>,
    pub(crate) pods: MethodRouter<S>,
    pub(crate) running_pods: MethodRouter<S>,
    pub(crate) stats_summary: MethodRouter<S>,
    pub(crate) metrics: MethodRouter<S>,
    pub(crate) metrics_resource: MethodRouter<S>,
    pub(crate) metrics_cadvisor: MethodRouter<S>,
    pub(crate) metrics_probes: MethodRouter<S>,
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
        .route("/healthz", answers.healthz)
        .route("/pods", answers.pods)
        .route("/runningpods/", answers.running_pods.clone())
        .route("/runningpods", answers.running_pods)
        .route("/stats/summary", answers.stats_summary)
        .route("/metrics", answers.metrics)
        .route("/metrics/resource", usage)
        .route("/metrics/cadvisor", answers.metrics_cadvisor)
        .route("/metrics/probes", answers.metrics_probes)
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
        healthz: get(|| async { "ok" }),
        pods: get(pods),
        running_pods: get(pods_that_run),
        stats_summary: get(stats_summary),
        metrics: get(own_metrics),
        metrics_resource: get(metrics_resource),
        metrics_cadvisor: get(metrics_cadvisor),
        metrics_probes: get(metrics_probes),
        container_logs: get(container_logs),
        exec: [any(exec), any(exec)],
        attach: [any(attach), any(attach)],
        port_forward: [any(port_forward), any(port_forward)],
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

async fn pods_that_run(State(agent): State<Arc<Agent>>) -> Result<Response, Refusal> {
    let all = agent.runtime.list(None).await;
    let all = all.map_err(|error| internal(error.to_string()))?;
    Ok(axum::Json(running_pods(&all)).into_response())
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

async fn metrics_probes(State(agent): State<Arc<Agent>>) -> Response {
    exposed(agent.stats.probes.exposed(clock::now()))
}

/// Text for Prometheus.
pub(crate) fn exposed(text: String) -> Response {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], text).into_response()
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
