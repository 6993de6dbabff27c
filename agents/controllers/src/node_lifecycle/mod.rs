//! Watches over nodes: one that no longer renews its Lease becomes `Unknown`, gets taints that keep pods away, and loses
//! its pods after a while, but never all nodes at once: when a whole zone falls silent the fault is more likely ours.

mod health;
mod taints;
mod zones;

use crate::manager::{Body, Controller, TaskContext};
use crate::patches;
use crate::world::Caches;
use agent_runtime::EventType;
use agent_runtime::events::reference;
use agent_runtime::execute::execute;
use agent_runtime::kinds::{Lease, Node, Pod};
use agent_runtime::metrics::ShownZones;
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::{NODES, PODS};
use agent_runtime::timestamp::{self, Micros, Moment};
use futures::future::BoxFuture;
use health::{Health, Signals};
use host::HashMap;
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
/// After a change, so that thousands of nodes that begin or fall silent together are not looked at anew for each of them.
const TOGETHER: Duration = Duration::from_millis(50);
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// What is remembered between rounds: when each node last showed life, by the clock that nobody sets.
#[derive(Default)]
struct Memory {
    health: BTreeMap<String, Health>,
    /// Nodes whose pods have been marked not ready since they fell silent, however they were before.
    pods_marked: BTreeSet<String>,
    zones: Zones,
}

impl Memory {
    /// Some pods of these nodes may not have been marked; those that were are left out the next time.
    fn mark_again(&mut self, nodes: &[String]) {
        for node in nodes {
            self.pods_marked.remove(node);
        }
    }
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
        let shown = ShownZones::default();
        loop {
            tokio::select! {
                biased;
                () = context.stop.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
                () = changed.notified() => tokio::time::sleep(TOGETHER).await,
            }
            let nodes = context.caches.nodes.list();
            let plans = round(&mut memory, &nodes, &context.caches, Moment::now());
            shown.show(memory.zones.counts());
            for zone in memory.zones.take_evicting() {
                shown.evicts(&zone);
            }
            if plans.is_empty() {
                continue;
            }
            let names: Vec<String> = plans.iter().map(|(node, _)| node.clone()).collect();
            let outcome = execute(&context.client, &context.recorder, at_once(plans)).await;
            if outcome.error.is_some() {
                memory.mark_again(&names);
            }
            let seen = tokio::time::timeout(PERIOD, context.hub.wait_seen(&outcome.written)).await;
            if let Some(error) = outcome.error {
                tracing::debug!(error = %error.message, "a node could not be updated, trying again");
            } else if seen.is_err() {
                tracing::debug!("the caches have not seen the last writes yet");
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
    caches: &Caches,
    now: Moment,
) -> Vec<(String, Plan)> {
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
    // All at once: each look-up on its own compares a dozen long names.
    let leases = caches.leases.in_namespace(LEASE_NAMESPACE);
    let leases: HashMap<&str, &Lease> = leases
        .iter()
        .map(|lease| (lease.metadata.name.as_str(), &**lease))
        .collect();
    let mut plans = Vec::new();
    for node in nodes {
        let name = &node.metadata.name;
        let signals = Signals::of(node, leases.get(name.as_str()).copied());
        let mut plan = Plan::none();
        let known = memory.health.get(name).cloned().unwrap_or_else(|| {
            plan.push(node_event(
                node,
                "RegisteredNode",
                "event: Registered Node {} in Controller",
            ));
            Health::first(now.steady)
        });
        let health = known.seen(signals, now.steady);
        memory.health.insert(name.clone(), health.clone());
        match health::silence(node, &health, now) {
            Some(status) => {
                plan.push(status);
                if node.is_ready() {
                    plan.push(node_event(
                        node,
                        "NodeNotReady",
                        "status is now: NodeNotReady",
                    ));
                }
            }
            None => {
                let may_evict = memory.zones.may_taint(node, now.steady);
                if let Some(op) = taints::reconcile(node, may_evict, now.wall) {
                    if op.starts_eviction {
                        memory.zones.spend(node);
                    }
                    plan.push(op.op);
                }
            }
        }
        if !is_unknown(node) {
            memory.pods_marked.remove(name);
        } else if memory.pods_marked.insert(name.clone()) {
            plan.ops
                .extend(mark_pods(&caches.pods.on_node(name), now.wall));
        }
        if !plan.ops.is_empty() {
            plans.push((name.clone(), plan));
        }
    }
    plans
}

/// The plans of all nodes side by side: what is wrong with one does not hold up the others.
fn at_once(plans: Vec<(String, Plan)>) -> Plan {
    let each = plans.into_iter().map(|(_, plan)| Op::Sequence(plan.ops));
    Plan::of(vec![Op::Parallel(each.collect())])
}

/// Silent, that is: a node that says itself that it is not ready also says how its pods are.
fn is_unknown(node: &Node) -> bool {
    node.condition("Ready")
        .is_some_and(|ready| ready.status == "Unknown")
}

/// `{}` in the text stands for the node's name.
fn node_event(node: &Node, reason: &'static str, text: &str) -> Op {
    let name = &node.metadata.name;
    Op::Event(Box::new(Report {
        regarding: reference(&NODES, &node.metadata),
        kind: EventType::Normal,
        reason,
        message: format!("Node {name} {}", text.replace("{}", name)),
    }))
}

/// The pods of a silent node are not ready either: services stop sending to them.
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
        ops.push(patches::one_condition(&PODS, &pod.metadata, &condition));
    }
    ops
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, world};

    fn node(ready: &str) -> String {
        format!(
            "kind: Node\nmetadata: {{name: n}}\nstatus: {{conditions: [{{type: Ready, status: '{ready}'}}, {{type: MemoryPressure, status: '{ready}'}}, {{type: DiskPressure, status: '{ready}'}}, {{type: PIDPressure, status: '{ready}'}}]}}\n"
        )
    }

    const POD: &str = "---\nkind: Pod\nmetadata: {name: p, namespace: a, uid: u}\nspec: {nodeName: n}\nstatus: {conditions: [{type: Ready, status: 'True'}]}\n";

    /// The lines of a round over a world of these objects.
    fn look(memory: &mut Memory, text: &str, seconds: u64) -> Vec<String> {
        look_at(memory, text, after(seconds))
    }

    fn look_at(memory: &mut Memory, text: &str, now: Moment) -> Vec<String> {
        let world = world(text);
        let plans = round(memory, &world.caches.nodes.list(), &world.caches, now);
        plans.iter().flat_map(|(_, plan)| plan.lines()).collect()
    }

    fn marks(lines: &[String]) -> usize {
        let mark = |line: &&String| line.starts_with("patch pods/status a/p");
        lines.iter().filter(mark).count()
    }

    #[test]
    fn a_node_is_greeted_once_and_an_idle_one_costs_nothing() {
        let mut memory = Memory::default();
        let healthy = [&node("True"), POD].map(str::to_owned).concat();
        let healthy = healthy.replace("Pressure, status: 'True'", "Pressure, status: 'False'");
        assert_eq!(
            look(&mut memory, &healthy, 0),
            ["event Normal n RegisteredNode: Node n event: Registered Node n in Controller"]
        );
        assert!(look(&mut memory, &healthy, 5).is_empty());
        let lines = look(&mut memory, &healthy, 51);
        assert!(
            lines[0].starts_with("patch nodes/status n")
                && lines[1].contains("status is now: NodeNotReady"),
            "{lines:#?}"
        );
    }

    #[test]
    fn nodes_that_change_together_are_served_side_by_side() {
        let text = [&node("Unknown"), POD].map(str::to_owned).concat();
        let other = node("Unknown").replace("name: n", "name: m");
        let world = world(&format!("{text}---\n{other}"));
        let nodes = world.caches.nodes.list();
        let plans = round(&mut Memory::default(), &nodes, &world.caches, after(0));
        let before: Vec<Vec<Op>> = plans.iter().map(|(_, plan)| plan.ops.clone()).collect();
        assert_eq!(before.len(), 2);
        let each = before.into_iter().map(Op::Sequence).collect();
        assert_eq!(at_once(plans), Plan::of(vec![Op::Parallel(each)]));
    }

    #[test]
    fn a_clock_that_is_set_silences_nobody_and_hides_no_silence() {
        for jump in [750, -750] {
            let mut memory = Memory::default();
            let healthy = [&node("True"), POD].map(str::to_owned).concat();
            let healthy = healthy.replace("Pressure, status: 'True'", "Pressure, status: 'False'");
            look(&mut memory, &healthy, 0);
            let set = |seconds| Moment {
                wall: after(seconds).wall + timestamp::seconds(jump),
                ..after(seconds)
            };
            assert!(look_at(&mut memory, &healthy, set(5)).is_empty());
            assert_eq!(look_at(&mut memory, &healthy, set(51)).len(), 2);
        }
    }

    #[test]
    fn pods_of_a_silent_node_are_marked_once_and_again_if_that_failed() {
        let mut memory = Memory::default();
        let silent = [&node("Unknown"), POD].map(str::to_owned).concat();
        assert_eq!(marks(&look(&mut memory, &silent, 0)), 1);
        assert_eq!(marks(&look(&mut memory, &silent, 5)), 0);
        memory.mark_again(&["n".to_owned()]);
        assert_eq!(marks(&look(&mut memory, &silent, 10)), 1);
        let says_so_itself = [&node("False"), POD].map(str::to_owned).concat();
        // Its agent was back, and has said again that its pods are ready, although it is not itself.
        assert_eq!(marks(&look(&mut memory, &says_so_itself, 15)), 0);
        assert_eq!(marks(&look(&mut memory, &silent, 20)), 1);
        assert_eq!(marks(&look(&mut Memory::default(), &says_so_itself, 0)), 0);
    }
}
