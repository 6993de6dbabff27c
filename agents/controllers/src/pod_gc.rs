//! Removes pods that nobody else will: ended ones beyond a threshold, those of nodes that are gone or that somebody has
//! declared out of service, and those that were deleted before they had a node.

use crate::manager::{Body, Controller, TaskContext};
use crate::patches;
use agent_runtime::Key;
use agent_runtime::client::DeleteParams;
use agent_runtime::execute::execute;
use agent_runtime::kinds::{Node, Pod};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{NODES, PODS};
use agent_runtime::timestamp::{Micros, Moment};
use futures::future::BoxFuture;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "pod-garbage-collector-controller",
    help: "removes ended and orphaned pods",
    workers: 1,
    body: Body::Task(run),
};

const PERIOD: Duration = Duration::from_secs(20);
/// A node must be missing for so long before its pods are touched.
const QUARANTINE: Duration = Duration::from_secs(40);
const TERMINATED_MAX: usize = 12_500;
/// Put on a node by whoever has made sure that it is off.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let mut missing = BTreeMap::new();
        loop {
            tokio::select! {
                biased;
                () = context.stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            round(&context, &mut missing, Moment::now()).await;
        }
    })
}

async fn round(context: &TaskContext, missing: &mut BTreeMap<String, Instant>, now: Moment) {
    let mut pods = context.caches.pods.list_unsorted();
    let nodes = context.caches.nodes.list();
    let mut gone = BTreeSet::new();
    let named = context.caches.pods.nodes();
    let named = named.iter().map(String::as_str);
    for node in long_missing(named, &names(&nodes), missing, now.steady) {
        // The cache may lag: the node itself is asked for before its pods are removed.
        let found = context.client.get_metadata(&NODES, "", &node).await;
        if found.is_err_and(|error| error.is_not_found()) {
            gone.insert(node);
        }
    }
    // Nearly all of a hundred thousand run where they should, and are looked at once.
    pods.retain(|pod| is_at_its_end(pod) || gone.contains(pod.spec.node_name.as_str()));
    pods.sort_by_cached_key(|pod| Key::of(&pod.metadata));
    let plan = decide(&pods, &nodes, &gone, TERMINATED_MAX, now.wall);
    let outcome = execute(&context.client, &context.recorder, plan).await;
    if let Some(error) = outcome.error {
        tracing::debug!(error = %error.message, "a pod could not be removed, trying again");
    }
}

fn names(nodes: &[Arc<Node>]) -> BTreeSet<String> {
    let names = nodes.iter().map(|node| node.metadata.name.clone());
    names.collect()
}

fn is_at_its_end(pod: &Pod) -> bool {
    pod.is_finished() || pod.metadata.is_deleting()
}

/// What a round removes: `gone` are the nodes that are certainly not there, `threshold` ended pods may stay. Of pods that are not
/// at their end it looks only at those of nodes that are gone.
fn decide(
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    gone: &BTreeSet<String>,
    threshold: usize,
    now: Micros,
) -> Plan {
    let ending = pods.iter().filter(|pod| is_at_its_end(pod));
    let ending: Vec<Arc<Pod>> = ending.cloned().collect();
    let mut ops = surplus(&ending, threshold);
    ops.extend(never_scheduled(&ending));
    ops.extend(out_of_service(&ending, nodes, now));
    if gone.is_empty() {
        return Plan::of(vec![Op::Parallel(ops)]);
    }
    let orphans = pods
        .iter()
        .filter(|pod| gone.contains(pod.spec.node_name.as_str()));
    ops.extend(orphans.map(|pod| orphaned(pod, now)));
    Plan::of(vec![Op::Parallel(ops)])
}

/// The oldest ended pods above the threshold, evicted ones before all others.
fn surplus(pods: &[Arc<Pod>], threshold: usize) -> Vec<Op> {
    let mut ended: Vec<_> = pods.iter().filter(|pod| pod.is_finished()).collect();
    let count = ended.len().saturating_sub(threshold);
    if count == 0 {
        return Vec::new();
    }
    let evicted = |pod: &Pod| pod.status.reason == "Evicted";
    ended.sort_by_cached_key(|pod| {
        (
            !evicted(pod),
            pod.metadata.created(),
            pod.metadata.name.clone(),
        )
    });
    ended
        .into_iter()
        .take(count)
        .map(|pod| force_delete(pod))
        .collect()
}

fn never_scheduled(pods: &[Arc<Pod>]) -> Vec<Op> {
    pods.iter()
        .filter(|pod| pod.metadata.is_deleting() && pod.spec.node_name.is_empty())
        .map(|pod| failed_and_gone(pod, None))
        .collect()
}

/// Pods that are being deleted on nodes that will not confirm it.
fn out_of_service(pods: &[Arc<Pod>], nodes: &[Arc<Node>], now: Micros) -> Vec<Op> {
    let off: BTreeSet<&str> = nodes
        .iter()
        .filter(|node| !node.is_ready() && node.spec.taints.iter().any(|t| t.key == OUT_OF_SERVICE))
        .map(|node| node.metadata.name.as_str())
        .collect();
    let message = "PodGC: node has been marked out of service";
    pods.iter()
        .filter(|pod| pod.metadata.is_deleting() && off.contains(pod.spec.node_name.as_str()))
        .map(|pod| failed_and_gone(pod, Some((message, now))))
        .collect()
}

/// Nodes that are named, by pods, and that have been missing for the whole quarantine. `missing` remembers since when.
fn long_missing<'a>(
    named: impl Iterator<Item = &'a str>,
    nodes: &BTreeSet<String>,
    missing: &mut BTreeMap<String, Instant>,
    now: Instant,
) -> Vec<String> {
    let absent: BTreeSet<&str> = named
        .filter(|name| !name.is_empty() && !nodes.contains(*name))
        .collect();
    missing.retain(|name, _| absent.contains(name.as_str()));
    absent
        .into_iter()
        .filter(|name| now - *missing.entry((*name).to_owned()).or_insert(now) >= QUARANTINE)
        .map(str::to_owned)
        .collect()
}

fn orphaned(pod: &Arc<Pod>, now: Micros) -> Op {
    failed_and_gone(pod, Some(("PodGC: node no longer exists", now)))
}

/// A pod that did not end fails (so that Jobs see it) and then goes: not before that is on record. The message tells of a
/// disruption.
fn failed_and_gone(pod: &Pod, disruption: Option<(&str, Micros)>) -> Op {
    let mut ops = Vec::new();
    if !pod.is_finished() {
        let mut status = json!({"phase": "Failed"});
        if let Some((message, now)) = disruption {
            status["conditions"] = json!([patches::condition(
                "DisruptionTarget",
                "True",
                "DeletionByPodGC",
                message,
                now
            )]);
        }
        ops.push(Op::Patch {
            resource: PODS,
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            subresource: Some("status"),
            form: agent_runtime::PatchType::Strategic,
            // The uid, or a successor of the same name would fail in its place.
            body: json!({"metadata": {"uid": pod.metadata.uid}, "status": status}),
        });
    }
    ops.push(force_delete(pod));
    Op::Sequence(ops)
}

fn force_delete(pod: &Pod) -> Op {
    let params = DeleteParams {
        grace_seconds: Some(0),
        ..DeleteParams::uid(&pod.metadata.uid)
    };
    Op::Delete {
        resource: PODS,
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        params,
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, object};

    fn pod(text: &str) -> Arc<Pod> {
        Arc::new(object(text))
    }

    #[test]
    fn the_oldest_ended_pods_go_first() {
        let pods = [
            pod(
                "{metadata: {name: new, creationTimestamp: '2026-01-03T00:00:00Z'}, status: {phase: Failed}}",
            ),
            pod(
                "{metadata: {name: old, creationTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Succeeded}}",
            ),
            pod(
                "{metadata: {name: live, creationTimestamp: '2026-01-01T00:00:00Z'}, status: {phase: Running}}",
            ),
        ];
        assert_eq!(Plan::of(surplus(&pods, 1)).lines(), ["delete pods old"]);
        assert!(surplus(&pods, 2).is_empty());
        let evicted = pod(
            "{metadata: {name: evicted, creationTimestamp: '2026-01-04T00:00:00Z'}, status: {phase: Failed, reason: Evicted}}",
        );
        let pods = [&pods[..], &[evicted]].concat();
        assert_eq!(Plan::of(surplus(&pods, 2)).lines(), ["delete pods evicted"]);
    }

    #[test]
    fn a_node_must_be_missing_for_a_while() {
        let pods = [
            pod("{metadata: {name: p}, spec: {nodeName: gone}}"),
            pod("{metadata: {name: q}, spec: {nodeName: here}}"),
            pod("{metadata: {name: r, deletionTimestamp: '2026-01-01T00:00:00Z'}}"),
        ];
        let nodes = BTreeSet::from(["here".to_owned()]);
        let mut missing = BTreeMap::new();
        let mut look = |seconds: u64| {
            let named = pods.iter().map(|pod| pod.spec.node_name.as_str());
            long_missing(named, &nodes, &mut missing, after(seconds).steady)
        };
        assert!(look(0).is_empty());
        assert!(look(39).is_empty());
        assert_eq!(look(40), ["gone"]);
        let lines = Plan::of(never_scheduled(&pods)).lines();
        let failed = "patch pods/status r {\"status\":{\"phase\":\"Failed\"}}";
        assert_eq!(lines, [failed, "delete pods r"]);
        let lines = Plan::of(vec![orphaned(&pods[0], 0)]).lines();
        assert!(
            lines[0].contains("\"phase\":\"Failed\"") && lines[1] == "delete pods p",
            "{lines:#?}"
        );
    }

    #[test]
    fn a_successor_of_the_same_name_is_left_alone() {
        let op = orphaned(
            &pod("{metadata: {name: p, uid: u}, spec: {nodeName: n}}"),
            0,
        );
        // One after the other: what could not be marked as failed is not deleted.
        let Op::Sequence(ops) = &op else {
            panic!("{op:?}")
        };
        let [Op::Patch { body, .. }, Op::Delete { params, .. }] = ops.as_slice() else {
            panic!("{ops:?}")
        };
        assert_eq!(body["metadata"]["uid"], "u");
        assert_eq!(params.uid.as_deref(), Some("u"));
    }

    #[test]
    fn pods_that_leave_a_node_out_of_service_are_gone() {
        let leaving = |name: &str, node: &str| {
            pod(&format!(
                "{{metadata: {{name: {name}, deletionTimestamp: '2026-01-01T00:00:00Z'}}, spec: {{nodeName: {node}}}, status: {{phase: Failed}}}}"
            ))
        };
        let pods = [
            leaving("p", "off"),
            leaving("q", "back"),
            leaving("r", "silent"),
            pod("{metadata: {name: s}, spec: {nodeName: off}}"),
        ];
        let node = |name: &str, taint: &str, ready: &str| {
            Arc::new(object(&format!(
                "{{metadata: {{name: {name}}}, spec: {{taints: [{{key: {taint}, effect: NoExecute}}]}}, status: {{conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
            )))
        };
        let nodes = [
            node("off", OUT_OF_SERVICE, "Unknown"),
            node("back", OUT_OF_SERVICE, "True"),
            node("silent", "other", "Unknown"),
        ];
        let lines = Plan::of(out_of_service(&pods, &nodes, 0)).lines();
        assert_eq!(lines, ["delete pods p"]);
    }
}
