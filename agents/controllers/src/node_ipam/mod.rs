//! Gives each node its part of the addresses of pods (`spec.podCIDR`), and takes it back when the node goes.
//!
//! What nodes say they have counts before anything is given out, so that whoever takes over goes on where the last one was.
//! One worker does it all: two would have to agree.

mod pool;

use crate::manager::{Body, Controller, TaskContext};
use crate::queue_names::queue_of;
use agent_runtime::events::reference;
use agent_runtime::execute::execute;
use agent_runtime::kinds::Node;
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::NODES;
use agent_runtime::worker::{self, Next};
use agent_runtime::{Cidr, EventType, Key, NodeRanges, PatchType};
use futures::future::BoxFuture;
use pool::{Exhausted, Pool};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) const CONTROLLER: Controller = Controller {
    name: "node-ipam-controller",
    help: "gives nodes their part of the addresses of pods",
    workers: 1,
    body: Body::Task(run),
};

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let Some(ranges) = &context.options.node_ranges else {
            return context.stop.cancelled().await;
        };
        let memory = Memory::new(ranges, &context.caches.nodes.list());
        let memory = Arc::new(Mutex::new(memory));
        let queue = queue_of(CONTROLLER.name);
        let keys = queue.clone();
        context.caches.nodes.subscribe(move |change| {
            let shares = |node: &Arc<Node>| node.spec.pod_cidrs.clone();
            let is_new = change.old.is_none() || change.new.is_none();
            if is_new || change.old.as_ref().map(shares) != change.new.as_ref().map(shares) {
                keys.add(Key::of(&change.latest().metadata));
            }
        });
        let (stop, keys) = (context.stop.clone(), queue.clone());
        worker::run(queue, CONTROLLER.workers, stop, move |key| {
            let (context, memory, keys) = (context.clone(), memory.clone(), keys.clone());
            async move {
                let node = context.caches.nodes.by_key(&key);
                let Step { plan, next, wake } = memory
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .step(&key.name, node.as_deref());
                for name in wake {
                    keys.add(Key::new("", &name));
                }
                let outcome = execute(&context.client, &context.recorder, plan).await;
                match outcome.error {
                    None => next,
                    Some(error) => {
                        tracing::warn!(node = %key.name, error = %error.message, "a node gets its addresses later");
                        Next::Backoff
                    }
                }
            }
        })
        .await;
    })
}

/// Who has what, and who waits.
struct Memory {
    pool: Pool,
    waiting: BTreeSet<String>,
}

/// What comes of a look at a node.
struct Step {
    plan: Plan,
    next: Next,
    /// Nodes that may get something now.
    wake: BTreeSet<String>,
}

impl Memory {
    fn new(ranges: &NodeRanges, nodes: &[Arc<Node>]) -> Self {
        let mut pool = Pool::new(ranges);
        for node in nodes {
            if let Some(shares) = shares(node) {
                pool.occupy(&node.metadata.name, shares);
            }
        }
        Self {
            pool,
            waiting: BTreeSet::new(),
        }
    }

    fn step(&mut self, name: &str, node: Option<&Node>) -> Step {
        let mut step = Step {
            plan: Plan::none(),
            next: Next::Done,
            wake: BTreeSet::new(),
        };
        let Some(node) = node else {
            self.waiting.remove(name);
            if self.pool.release(name) {
                step.wake = std::mem::take(&mut self.waiting);
            }
            return step;
        };
        if let Some(shares) = shares(node) {
            self.waiting.remove(name);
            if self.pool.occupy(name, shares) {
                // Another node of that name, with addresses of somebody else.
                step.wake = std::mem::take(&mut self.waiting);
            }
            return step;
        }
        match self.pool.allocate(name) {
            Ok(shares) => {
                self.waiting.remove(name);
                step.plan.push(give(node, &shares));
            }
            Err(Exhausted) => {
                self.waiting.insert(name.to_owned());
                step.plan.push(unavailable(node));
                // It is also woken when a node goes; a larger range comes with a restart.
                step.next = Next::Backoff;
            }
        }
        step
    }
}

/// What a node says that it has; none where it has nothing. What cannot be read is no range, and so nobody's.
fn shares(node: &Node) -> Option<Vec<Cidr>> {
    let mut texts = node.spec.pod_cidrs.clone();
    if texts.is_empty() && !node.spec.pod_cidr.is_empty() {
        texts.push(node.spec.pod_cidr.clone());
    }
    if texts.is_empty() {
        return None;
    }
    Some(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

fn give(node: &Node, shares: &[Cidr]) -> Op {
    let texts: Vec<String> = shares.iter().map(ToString::to_string).collect();
    let spec = json!({"podCIDR": texts.first(), "podCIDRs": texts});
    // Once it is there the API lets nobody change it, so that a late write does no harm.
    Op::Patch {
        resource: NODES,
        namespace: String::new(),
        name: node.metadata.name.clone(),
        subresource: None,
        form: PatchType::Strategic,
        body: json!({"metadata": {"uid": node.metadata.uid}, "spec": spec}),
    }
}

fn unavailable(node: &Node) -> Op {
    let name = &node.metadata.name;
    Op::Event(Box::new(Report {
        regarding: reference(&NODES, &node.metadata),
        kind: EventType::Normal,
        reason: "CIDRNotAvailable",
        message: format!("Node {name} status is now: CIDRNotAvailable"),
    }))
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::object;

    fn node(name: &str, shares: &str) -> Arc<Node> {
        Arc::new(object(&format!(
            "metadata: {{name: {name}}}\nspec: {{podCIDRs: [{shares}]}}\n"
        )))
    }

    fn memory(nodes: &[Arc<Node>]) -> Memory {
        let range = "10.0.0.0/23".parse().unwrap();
        Memory::new(&NodeRanges::new(&[range], (24, 64), vec![]).unwrap(), nodes)
    }

    #[test]
    fn nodes_get_what_is_free_and_are_told_when_nothing_is() {
        let mut memory = memory(&[node("old", "10.0.0.0/24")]);
        let a = node("a", "");
        let step = memory.step("a", Some(&a));
        let given =
            r#"patch nodes a {"spec":{"podCIDR":"10.0.1.0/24","podCIDRs":["10.0.1.0/24"]}}"#;
        assert_eq!(step.plan.lines(), [given]);
        // The write may have been lost: the same is given again, not another one.
        assert_eq!(memory.step("a", Some(&a)).plan.lines(), [given]);
        let step = memory.step("b", Some(&node("b", "")));
        assert_eq!(
            step.plan.lines(),
            ["event Normal b CIDRNotAvailable: Node b status is now: CIDRNotAvailable"]
        );
        assert_eq!(step.next, Next::Backoff);
    }

    #[test]
    fn a_node_that_goes_makes_room_for_one_that_waits() {
        let mut memory = memory(&[node("old", "10.0.0.0/24"), node("older", "10.0.1.0/24")]);
        let b = node("b", "");
        memory.step("b", Some(&b));
        assert!(memory.step("unknown", None).wake.is_empty());
        assert_eq!(
            memory.step("older", None).wake,
            BTreeSet::from(["b".to_owned()])
        );
        let lines = memory.step("b", Some(&b)).plan.lines();
        assert!(lines[0].contains("10.0.1.0/24"), "{lines:?}");
        // One that went and came again with other addresses makes room, too.
        memory.step("c", Some(&node("c", "")));
        let again = node("old", "192.168.0.0/24");
        assert_eq!(
            memory.step("old", Some(&again)).wake,
            BTreeSet::from(["c".to_owned()])
        );
        assert!(
            memory
                .step("b", Some(&node("b", "10.0.1.0/24")))
                .plan
                .lines()
                .is_empty()
        );
    }

    #[test]
    fn what_somebody_else_gave_counts_and_nonsense_is_left_alone() {
        let mut memory = memory(&[node("x", "nonsense")]);
        assert!(
            memory
                .step("x", Some(&node("x", "nonsense")))
                .plan
                .lines()
                .is_empty()
        );
        memory.step("y", Some(&node("y", "10.0.0.0/24")));
        let lines = memory.step("z", Some(&node("z", ""))).plan.lines();
        assert!(lines[0].contains("10.0.1.0/24"), "{lines:?}");
    }
}
