//! Watches over nodes: one that no longer renews its Lease becomes `Unknown`, gets taints that keep pods away, and loses
//! its pods after a while, but never all nodes at once: when a whole zone falls silent the fault is more likely ours.

mod health;
mod taints;
mod zones;

use crate::manager::{Body, Controller, TaskContext};
use agent_runtime::events::reference;
use agent_runtime::execute::execute;
use agent_runtime::kinds::{Node, Pod};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::{NODES, PODS};
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{EventType, PatchType};
use futures::future::BoxFuture;
use health::{Health, Signals};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use zones::Zones;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-lifecycle-controller",
    help: "marks silent nodes, taints them, and marks their pods",
    workers: 1,
    body: Body::Task(run),
};

const PERIOD: Duration = Duration::from_secs(5);
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// What is remembered between rounds: when each node last showed life, by our own clock.
#[derive(Default)]
struct Memory {
    health: BTreeMap<String, Health>,
    /// Nodes whose pods have been marked not ready since they stopped being ready.
    pods_marked: BTreeSet<String>,
    zones: Zones,
}

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let changed = Arc::new(Notify::new());
        let wake = changed.clone();
        // A cordon or a condition shows in the taints at once, not after the period.
        context.caches.nodes.subscribe(move |change| {
            let relevant = match (&change.old, &change.new) {
                (Some(old), Some(new)) => old.spec != new.spec || states(old) != states(new),
                _ => true,
            };
            if relevant {
                wake.notify_one();
            }
        });
        let mut memory = Memory::default();
        loop {
            tokio::select! {
                () = context.stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
                () = changed.notified() => {}
            }
            let nodes = context.caches.nodes.list();
            let plans = round(&mut memory, &nodes, &context, timestamp::now());
            for plan in plans {
                let outcome = execute(&context.client, &context.recorder, plan).await;
                let seen =
                    tokio::time::timeout(PERIOD, context.hub.wait_seen(&outcome.written)).await;
                if let Some(error) = outcome.error {
                    tracing::debug!(error = %error.message, "a node could not be updated, trying again");
                } else if seen.is_err() {
                    tracing::debug!("the caches have not seen the last writes yet");
                }
            }
        }
    })
}

fn states(node: &Node) -> Vec<(&str, &str)> {
    node.status
        .conditions
        .iter()
        .map(|c| (c.kind.as_str(), c.status.as_str()))
        .collect()
}

/// One look at all nodes. A node's plan holds at most one write of the node, so that versions do not collide.
fn round(
    memory: &mut Memory,
    nodes: &[Arc<Node>],
    context: &TaskContext,
    now: Micros,
) -> Vec<Plan> {
    let names: BTreeSet<&str> = nodes
        .iter()
        .map(|node| node.metadata.name.as_str())
        .collect();
    memory
        .health
        .retain(|name, _| names.contains(name.as_str()));
    memory
        .pods_marked
        .retain(|name| names.contains(name.as_str()));
    memory.zones.assess(nodes);
    let mut plans = Vec::new();
    for node in nodes {
        let name = &node.metadata.name;
        let lease = context.caches.leases.get(LEASE_NAMESPACE, name);
        let signals = Signals::of(node, lease.as_deref());
        let health = memory
            .health
            .entry(name.clone())
            .or_insert_with(|| Health::first(now))
            .seen(signals, now);
        memory.health.insert(name.clone(), health.clone());
        let mut plan = Plan::none();
        match health::silence(node, &health, now) {
            Some(status) => {
                plan.push(status);
                if node.is_ready() {
                    plan.push(not_ready_event(node));
                }
            }
            None => {
                let may_evict = memory.zones.may_taint(node, now);
                if let Some(op) = taints::reconcile(node, may_evict, now) {
                    if op.starts_eviction {
                        memory.zones.spend(node);
                    }
                    plan.push(op.op);
                }
            }
        }
        if node.is_ready() {
            memory.pods_marked.remove(name);
        } else if node.condition("Ready").is_some() && memory.pods_marked.insert(name.clone()) {
            plan.ops
                .extend(mark_pods(&context.caches.pods.on_node(name), now));
        }
        if !plan.ops.is_empty() {
            plans.push(plan);
        }
    }
    plans
}

fn not_ready_event(node: &Node) -> Op {
    let message = format!("Node {} status is now: NodeNotReady", node.metadata.name);
    Op::Event(Box::new(Report {
        regarding: reference(&NODES, &node.metadata),
        kind: EventType::Normal,
        reason: "NodeNotReady",
        message,
    }))
}

/// The pods of a node that is not ready are not ready either: services stop sending to them.
fn mark_pods(pods: &[Arc<Pod>], now: Micros) -> Vec<Op> {
    let mut ops = Vec::new();
    for pod in pods.iter().filter(|pod| pod.is_ready()) {
        let condition =
            json!({"type": "Ready", "status": "False", "lastTransitionTime": timestamp::time(now)});
        let report = Report {
            regarding: reference(&PODS, &pod.metadata),
            kind: EventType::Warning,
            reason: "NodeNotReady",
            message: "Node is not ready".into(),
        };
        ops.push(Op::Event(Box::new(report)));
        ops.push(Op::Patch {
            resource: PODS,
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            subresource: Some("status"),
            form: PatchType::Strategic,
            body: json!({"metadata": {"uid": pod.metadata.uid}, "status": {"conditions": [condition]}}),
        });
    }
    ops
}
