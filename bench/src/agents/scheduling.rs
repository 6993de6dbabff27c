//! One workload of Kubernetes' benchmark, in one of the two ways.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::rates::Times;
use super::report::Row;
use super::stage::{SCHEDULER, Stage, Task, pods};
use super::workloads::{
    BEFORE, Beside, MEASURED, WANTED_NODE, Workload, impossible, node, preemptor, sizes,
};
use super::{AgentsArgs, Mode};
use crate::api::http::{Connection, Request};
use crate::store::load::Meter;

/// Between two pods that preempt or fit nowhere.
const BESIDE_EVERY: Duration = Duration::from_millis(200);
const CHURN_EVERY: Duration = Duration::from_secs(1);
/// Pods that show that the scheduler is there.
const CANARIES: &str = "kontiki-bench-canary";

pub(super) async fn run(
    args: &AgentsArgs,
    stage: &Stage,
    workload: &Workload,
    mode: Mode,
    members: u8,
) -> Result<Row> {
    let (nodes, before, measured) = sizes(workload, args.scale);
    let mut all: Vec<Value> = (0..nodes).map(|n| node(&node_name(n), n)).collect();
    if workload.number == 2 {
        all.push(node(WANTED_NODE, 0));
    }
    stage.nodes(all).await?;
    if workload.service {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "bench"},
            "spec": {"selector": (workload.new)()["metadata"]["labels"], "ports": [{"port": 80}]}});
        let path = format!("/api/v1/namespaces/{MEASURED}/services");
        stage.post(&path, &service).await?;
    }
    // They have their nodes from the beginning: to have them scheduled would only take longer.
    let on = |number: usize| node_name(number % nodes);
    let old = (workload.old)();
    stage.pods(BEFORE, &old, before, Some(&on), None).await?;

    let times = Arc::new(Times::of(measured));
    let _seeing = stage.see(times.clone()).await?;
    let new = (workload.new)();
    let meter = match mode {
        Mode::Created => {
            stage.release(SCHEDULER).await?;
            first_of_all(stage).await?;
            let meter = Meter::at(stage.pids())?;
            let _beside = beside(stage, workload.beside);
            let created = stage.pods(MEASURED, &new, measured, None, Some(&times));
            tokio::try_join!(created, all_bound(args, stage, &times, measured))?;
            meter
        }
        Mode::Prefilled => {
            stage.pods(MEASURED, &new, measured, None, None).await?;
            let meter = Meter::at(stage.pids())?;
            let _beside = beside(stage, workload.beside);
            stage.release(SCHEDULER).await?;
            all_bound(args, stage, &times, measured).await?;
            meter
        }
    };
    let cost = meter.stop()?;
    let rates = times.rates(mode == Mode::Created);
    let bound = times.bound();
    let mut note = format!("{} samples", rates.samples);
    if bound < measured {
        note = format!("only {bound} were bound in {} s; {note}", args.patience);
    }
    Ok(Row {
        mode: mode.name(),
        sizes: format!("{nodes}/{before}/{measured}"),
        median: rates.median,
        overall: rates.overall,
        p50_ms: rates.p50_ms,
        p99_ms: rates.p99_ms,
        cpu_micros: cost.servers.cpu_seconds * 1e6 / bound as f64,
        memory_mb: cost.peak_bytes as f64 / 1e6,
        threshold: workload.threshold,
        full: args.scale >= 1.0,
        note,
        ..Row::new(format!("{} {}", workload.number, workload.name), members)
    })
}

pub(super) fn node_name(number: usize) -> String {
    format!("node-{number:05}")
}

/// Waits until the scheduler knows everything: it binds a pod.
pub(super) async fn first_of_all(stage: &Stage) -> Result<()> {
    stage.namespace(CANARIES, json!({})).await?;
    let mut pod = impossible();
    pod["metadata"]["name"] = "canary".into();
    pod["spec"]["containers"][0]["resources"] = json!({});
    stage.post(&pods(CANARIES), &pod).await?;
    let path = format!("{}/canary", pods(CANARIES));
    let bound = || async { Ok(stage.get(&path).await?["spec"]["nodeName"].is_string()) };
    stage.until("the scheduler to begin", bound).await
}

/// Waits until all are bound, or time is up; what is bound until then is the figure. Nothing at all is an error.
async fn all_bound(args: &AgentsArgs, stage: &Stage, times: &Times, count: usize) -> Result<()> {
    let all = || async { Ok(times.bound() >= count) };
    let waited = stage
        .within(args.patience(), "the pods to be bound", all)
        .await;
    match waited {
        Err(error) if times.bound() == 0 => Err(error),
        _ => Ok(()),
    }
}

/// What goes on beside, until it is dropped.
fn beside(stage: &Stage, what: Beside) -> Option<Task> {
    let connection = stage.connection(1);
    match what {
        Beside::Nothing => None,
        Beside::Preemptors => Some(stream(connection, "preemptor", preemptor())),
        Beside::Impossible => Some(stream(connection, "impossible", impossible())),
        Beside::Churn => Some(Task::spawn(async move {
            let mut turn = tokio::time::interval(CHURN_EVERY);
            loop {
                turn.tick().await;
                if let Err(error) = churn(&connection).await {
                    eprintln!("churn: {error:#}");
                }
            }
        })),
    }
}

/// A pod after the other, at a steady pace.
fn stream(connection: Connection, name: &'static str, mut pod: Value) -> Task {
    Task::spawn(async move {
        let mut turn = tokio::time::interval(BESIDE_EVERY);
        for number in 0_u64.. {
            turn.tick().await;
            pod["metadata"]["name"] = format!("{name}-{number}").into();
            let request = Request::post(pods(BEFORE), pod.to_string());
            if let Err(error) = connection.ask(&request).await {
                eprintln!("{name}: {error}");
            }
        }
    })
}

/// Makes a node, a pod and a Service, and removes them.
async fn churn(connection: &Connection) -> Result<()> {
    let mut pod = impossible();
    pod["metadata"]["name"] = "churn".into();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "churn"},
        "spec": {"selector": {"app": "churn"}, "ports": [{"port": 80}]}});
    let services = format!("/api/v1/namespaces/{BEFORE}/services");
    let objects = [
        ("/api/v1/nodes".to_owned(), node("churn", 0)),
        (pods(BEFORE), pod),
        (services, service),
    ];
    for (path, object) in &objects {
        let request = Request::post(path.clone(), object.to_string());
        let answer = connection.call(&request).await?;
        if !matches!(answer.status, 200..300 | 409) {
            bail!("{path}: status {}", answer.status);
        }
    }
    for (path, _) in &objects {
        let path = format!("{path}/churn?gracePeriodSeconds=0");
        connection.call(&Request::delete(path)).await?;
    }
    Ok(())
}
