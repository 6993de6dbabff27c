//! What controllers do with many objects: a rollout, a node that falls silent, a namespace that ends; and what a server holds.
//!
//! Nodes stay nodes by their Leases, which are renewed here; pods become ready because a stand-in for the nodes says so at once.
//! So the figures are of the control plane, and containers take no time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::AgentsArgs;
use super::report::Row;
use super::scheduling::{first_of_all, node_name};
use super::stage::{CONTROLLERS, SCHEDULER, Stage, Task, pods};
use super::workloads::{BEFORE, MEASURED, node};
use crate::api::http::{Connection, MERGE_PATCH, Request, STRATEGIC_PATCH, each_line};
use crate::store::load::Meter;

const ROLLED_PODS: usize = 1_000;
const LOST_PODS: usize = 100;
const ENDED_OBJECTS: usize = 10_000;
const HELD_PODS: usize = 10_000;
const PODS_A_NODE: usize = 110;
/// As node agents do.
const RENEWED_EVERY: Duration = Duration::from_secs(10);
/// Until what a load needed has been given back.
const SETTLE: Duration = Duration::from_secs(15);
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/kontiki-bench-measured/deployments";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// A Deployment of so many pods, and then another image for all of them.
pub(super) async fn rollout(args: &AgentsArgs, stage: &Stage, members: u8) -> Result<Row> {
    let count = args.scaled(ROLLED_PODS);
    // A quarter more than there is room for at rest: a rolling update surges.
    let nodes = (count * 2).div_ceil(PODS_A_NODE).max(2);
    let silent = Arc::new(AtomicUsize::new(usize::MAX));
    let _alive = populate(stage, nodes, &silent).await?;
    let meter = Meter::at(stage.pids())?;
    let began = Instant::now();
    stage
        .post(DEPLOYMENTS, &deployment(count, json!([])))
        .await?;
    complete(args, stage, count).await?;
    let created = began.elapsed().as_secs_f64();
    let before = stage.requests().await?;
    let began = Instant::now();
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "pause:2"}]}}}});
    stage.patch(&format!("{DEPLOYMENTS}/web"), &image).await?;
    complete(args, stage, count).await?;
    let updated = began.elapsed().as_secs_f64();
    let cost = meter.stop()?;
    Ok(Row {
        sizes: format!("{nodes}/0/{count}"),
        overall: count as f64 / updated,
        cpu_micros: cost.servers.cpu_seconds * 1e6 / (2 * count) as f64,
        memory_mb: cost.peak_bytes as f64 / 1e6,
        note: format!(
            "all ready after {created:.1} s, updated after {updated:.1} s; {}",
            calls(&before, &stage.requests().await?)
        ),
        ..Row::new("rollout", members)
    })
}

/// A node with a hundred pods falls silent.
pub(super) async fn failure(args: &AgentsArgs, stage: &Stage, members: u8) -> Result<Row> {
    let count = args.scaled(LOST_PODS).min(PODS_A_NODE);
    let silent = Arc::new(AtomicUsize::new(usize::MAX));
    let _alive = populate(stage, 4, &silent).await?;
    let open = |open: bool| async move {
        for number in 1..4 {
            let change =
                json!({"spec": {"unschedulable": if open { Value::Null } else { true.into() }}});
            let path = format!("/api/v1/nodes/{}", node_name(number));
            stage.patch(&path, &change).await?;
        }
        anyhow::Ok(())
    };
    open(false).await?;
    // By default pods stay for five minutes more.
    let tolerations = ["not-ready", "unreachable"].map(|taint| {
        json!({"key": format!("node.kubernetes.io/{taint}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0})
    });
    stage
        .post(DEPLOYMENTS, &deployment(count, json!(tolerations)))
        .await?;
    complete(args, stage, count).await?;
    open(true).await?;
    let began = Instant::now();
    silent.store(0, Ordering::Relaxed);
    let path = format!("/api/v1/nodes/{}", node_name(0));
    let noticed = || async {
        let node = stage.get(&path).await?;
        let taints = node["spec"]["taints"].as_array();
        Ok(taints.is_some_and(|taints| taints.iter().any(|taint| taint["effect"] == "NoExecute")))
    };
    let patience = args.patience();
    stage
        .within(patience, "the node to be missed", noticed)
        .await?;
    let missed = began.elapsed();
    // What the grace period costs is not a matter of the pods.
    let (before, meter) = (stage.requests().await?, Meter::at(stage.pids())?);
    let elsewhere = || async {
        let uri = format!("{}?labelSelector=app%3Dweb", pods(MEASURED));
        let listed = stage.get(&uri).await?;
        let items = listed["items"].as_array().context("a list without items")?;
        let lives = |pod: &&Value| {
            let on = pod["spec"]["nodeName"].as_str();
            on.is_some_and(|on| on != node_name(0))
                && pod["metadata"]["deletionTimestamp"].is_null()
        };
        Ok(items.iter().filter(lives).count() >= count)
    };
    stage
        .within(patience, "the pods to be elsewhere", elsewhere)
        .await?;
    let moved = (began.elapsed() - missed).as_secs_f64();
    let cost = meter.stop()?;
    Ok(Row {
        sizes: format!("4/0/{count}"),
        overall: count as f64 / moved,
        cpu_micros: cost.servers.cpu_seconds * 1e6 / count as f64,
        memory_mb: cost.peak_bytes as f64 / 1e6,
        note: format!(
            "missed after {:.1} s, pods elsewhere {moved:.2} s later; {}",
            missed.as_secs_f64(),
            calls(&before, &stage.requests().await?)
        ),
        ..Row::new("node failure", members)
    })
}

/// A namespace with many objects is deleted.
pub(super) async fn namespace(args: &AgentsArgs, stage: &Stage, members: u8) -> Result<Row> {
    const ENDED: &str = "kontiki-bench-ended";
    let count = args.scaled(ENDED_OBJECTS);
    stage.namespace(ENDED, json!({})).await?;
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}, "data": {"key": "value"}});
    let path = format!("/api/v1/namespaces/{ENDED}/configmaps");
    stage.objects(&path, &map, count).await?;
    controllers(stage).await?;
    let before = stage.requests().await?;
    let (meter, began) = (Meter::at(stage.pids())?, Instant::now());
    let path = format!("/api/v1/namespaces/{ENDED}");
    stage
        .connection(0)
        .ask(&Request::delete(path.clone()))
        .await?;
    let gone = || async { Ok(stage.find(&path).await?.is_none()) };
    let asked = began.elapsed();
    stage
        .within(args.patience(), "the namespace to end", gone)
        .await?;
    let took = (began.elapsed() - asked).as_secs_f64();
    let cost = meter.stop()?;
    Ok(Row {
        sizes: format!("0/{count}/0"),
        overall: count as f64 / took,
        cpu_micros: cost.servers.cpu_seconds * 1e6 / count as f64,
        memory_mb: cost.peak_bytes as f64 / 1e6,
        note: format!(
            "gone after {took:.2} s; {}",
            calls(&before, &stage.requests().await?)
        ),
        ..Row::new("namespace", members)
    })
}

/// Many pods that have a node.
pub(super) async fn memory(args: &AgentsArgs, stage: &Stage, members: u8) -> Result<Row> {
    let count = args.scaled(HELD_PODS);
    let nodes = count.div_ceil(PODS_A_NODE);
    tokio::time::sleep(SETTLE).await;
    let empty = stage.resident_bytes()?;
    stage
        .nodes((0..nodes).map(|n| node(&node_name(n), n)).collect())
        .await?;
    let on = |number: usize| node_name(number % nodes);
    let pod = super::workloads::ALL[0].old;
    stage.pods(BEFORE, &pod(), count, Some(&on), None).await?;
    stage.release(SCHEDULER).await?;
    first_of_all(stage).await?;
    tokio::time::sleep(SETTLE).await;
    let full = stage.resident_bytes()?;
    Ok(Row {
        sizes: format!("{nodes}/{count}/0"),
        memory_mb: full / 1e6,
        note: format!(
            "{:.0} MB empty; {:.1} kB a pod, with the scheduler's",
            empty / 1e6,
            (full - empty) / 1e3 / count as f64
        ),
        ..Row::new("memory", members)
    })
}

/// The requests between two counts, and the verbs with the most of them.
fn calls(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> String {
    let mut made: Vec<(f64, &str)> = after
        .iter()
        .map(|(verb, count)| (count - before.get(verb).unwrap_or(&0.0), verb.as_str()))
        .filter(|(count, _)| *count > 0.0)
        .collect();
    made.sort_by(|a, b| b.0.total_cmp(&a.0));
    let sum: f64 = made.iter().map(|(count, _)| count).sum();
    let told: Vec<String> = made
        .iter()
        .take(4)
        .map(|(count, verb)| format!("{verb} {count}"))
        .collect();
    format!("{sum} requests: {}", told.join(", "))
}

fn deployment(count: usize, tolerations: Value) -> Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": count, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 1, "tolerations": tolerations,
                "containers": [{"name": "c", "image": "pause:1", "resources": {"requests": {"cpu": "10m"}}}]}}}})
}

/// Waits for what `kubectl rollout status` waits for.
async fn complete(args: &AgentsArgs, stage: &Stage, count: usize) -> Result<()> {
    let path = format!("{DEPLOYMENTS}/web");
    let complete = || async {
        let found = stage.get(&path).await?;
        let (meta, status) = (&found["metadata"], &found["status"]);
        let all = ["replicas", "updatedReplicas", "availableReplicas"];
        Ok(status["observedGeneration"] == meta["generation"]
            && all.iter().all(|field| status[field] == count))
    };
    stage.within(args.patience(), "the rollout", complete).await
}

/// Lets the controllers begin, and waits until they do: they make the account of a new namespace.
pub(super) async fn controllers(stage: &Stage) -> Result<()> {
    const NEW: &str = "kontiki-bench-new";
    stage.release(CONTROLLERS).await?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NEW}});
    stage.post("/api/v1/namespaces", &namespace).await?;
    let account = format!("/api/v1/namespaces/{NEW}/serviceaccounts/default");
    let made = || async { Ok(stage.find(&account).await?.is_some()) };
    stage.until("the controllers to begin", made).await
}

/// Nodes that live and run what they get, but the one whose number is `silent`; scheduler and controllers begin.
async fn populate(stage: &Stage, nodes: usize, silent: &Arc<AtomicUsize>) -> Result<[Task; 2]> {
    stage
        .nodes((0..nodes).map(|n| node(&node_name(n), n)).collect())
        .await?;
    for number in 0..nodes {
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": node_name(number)},
            "spec": {"holderIdentity": node_name(number), "leaseDurationSeconds": 40}});
        stage.post(LEASES, &lease).await?;
    }
    let renewing = Task::spawn(renew(stage.connection(2), nodes, silent.clone()));
    let running = stand_in(stage, silent.clone()).await?;
    controllers(stage).await?;
    stage.release(SCHEDULER).await?;
    first_of_all(stage).await?;
    Ok([renewing, running])
}

async fn renew(connection: Connection, nodes: usize, silent: Arc<AtomicUsize>) {
    let mut turn = tokio::time::interval(RENEWED_EVERY);
    loop {
        turn.tick().await;
        for number in (0..nodes).filter(|number| *number != silent.load(Ordering::Relaxed)) {
            let now = agent_runtime::timestamp::micro_time(agent_runtime::timestamp::now());
            let change = json!({"spec": {"renewTime": now}}).to_string();
            let path = format!("{LEASES}/{}", node_name(number));
            if let Err(error) = connection
                .ask(&Request::patch(path, MERGE_PATCH, change))
                .await
            {
                eprintln!("renewing a lease: {error}");
            }
        }
    }
}

/// Does for pods what nodes would, as soon as it sees them.
async fn stand_in(stage: &Stage, silent: Arc<AtomicUsize>) -> Result<Task> {
    let (reader, writer) = (stage.connection(0), stage.connection(1));
    let path = format!("{}?watch=true", pods(MEASURED));
    let body = reader.stream(&Request::get(path)).await?;
    Ok(Task::spawn(async move {
        let _reader = reader;
        each_line(body, |line| {
            let Ok(event) = serde_json::from_slice::<Value>(line) else {
                return;
            };
            let gone = silent.load(Ordering::Relaxed);
            if event["type"] != "DELETED"
                && event["object"]["spec"]["nodeName"] != node_name(gone).as_str()
                && let Some(request) = answer(&event["object"])
            {
                let writer = writer.clone();
                // As many at once as pods change at once: each is one small request.
                tokio::spawn(async move { writer.call(&request).await });
            }
        })
        .await;
    }))
}

/// What a node would say of this pod next, if anything.
fn answer(pod: &Value) -> Option<Request> {
    let meta = &pod["metadata"];
    pod["spec"]["nodeName"].as_str()?;
    let path = format!(
        "{}/{}",
        pods(meta["namespace"].as_str()?),
        meta["name"].as_str()?
    );
    if meta["deletionTimestamp"].is_string() {
        return Some(Request::delete(format!("{path}?gracePeriodSeconds=0")));
    }
    if pod["status"]["phase"] == "Running" {
        return None;
    }
    let now = agent_runtime::timestamp::time(agent_runtime::timestamp::now());
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let conditions = ["Initialized", "ContainersReady", "Ready"].map(condition);
    let status = json!({"phase": "Running", "podIP": "10.1.1.1", "podIPs": [{"ip": "10.1.1.1"}],
        "conditions": conditions});
    let body = json!({"metadata": {"uid": meta["uid"]}, "status": status}).to_string();
    Some(Request::patch(
        format!("{path}/status"),
        STRATEGIC_PATCH,
        body,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_what_is_next_and_no_more() {
        let mut pod = json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"}, "spec": {}, "status": {"phase": "Pending"}});
        assert!(answer(&pod).is_none(), "it has no node yet");
        pod["spec"]["nodeName"] = "a".into();
        let said = answer(&pod).unwrap();
        assert_eq!(
            (said.method.as_str(), &*said.path),
            ("PATCH", "/api/v1/namespaces/n/pods/p/status")
        );
        pod["status"]["phase"] = "Running".into();
        assert!(answer(&pod).is_none());
        pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert_eq!(answer(&pod).unwrap().method, "DELETE");
    }

    #[test]
    fn calls_are_those_in_between() {
        let count = |get: f64, post: f64| {
            BTreeMap::from([("GET".to_owned(), get), ("POST".to_owned(), post)])
        };
        assert_eq!(
            calls(&count(5.0, 1.0), &count(5.0, 4.0)),
            "3 requests: POST 3"
        );
        assert_eq!(
            calls(&BTreeMap::new(), &count(2.0, 7.0)),
            "9 requests: POST 7, GET 2"
        );
    }
}
