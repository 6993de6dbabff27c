//! Tells the agents of nodes how long they may keep Secrets and ConfigMaps before they read them again: the longer, the
//! more nodes there are. An annotation of each node says it.

use crate::manager::{Body, Controller, TaskContext};
use agent_runtime::execute::execute;
use agent_runtime::kinds::Node;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::NODES;
use futures::future::BoxFuture;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "ttl-controller",
    help: "tells nodes how long they may keep what they have read",
    workers: 1,
    body: Body::Task(run),
};

const ANNOTATION: &str = "node.alpha.kubernetes.io/ttl";
/// After a failure.
const RETRY: Duration = Duration::from_secs(5);

/// The least and the most nodes of a step, and its time in seconds. Steps overlap, so that a cluster whose size wavers about a
/// border is not written anew all the time.
const STEPS: [(usize, usize, u32); 5] = [
    (0, 100, 0),
    (90, 500, 15),
    (450, 1000, 30),
    (900, 2000, 60),
    (1800, usize::MAX, 300),
];

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let changed = Arc::new(Notify::new());
        let wake = changed.clone();
        context.caches.nodes.subscribe(move |change| {
            let told = |node: &Arc<Node>| node.metadata.annotations.get(ANNOTATION).cloned();
            if change.old.as_ref().map(told) != change.new.as_ref().map(told) {
                wake.notify_one();
            }
        });
        let mut step = 0;
        loop {
            let nodes = context.caches.nodes.list();
            step = settle(step, nodes.len());
            let plan = plan(&nodes, STEPS[step].2);
            let outcome = execute(&context.client, &context.recorder, plan).await;
            // Without this the same would be written again before its first write is seen.
            let seen = context.hub.wait_seen(&outcome.written);
            let is_seen = tokio::time::timeout(RETRY, seen).await.is_ok();
            if let Some(error) = &outcome.error {
                tracing::debug!(error = %error.message, "some nodes are told later");
            }
            let again = outcome.error.is_some() || !is_seen;
            tokio::select! {
                biased;
                () = context.stop.cancelled() => return,
                () = tokio::time::sleep(RETRY), if again => {}
                () = changed.notified(), if !again => {}
            }
        }
    })
}

/// The step of a cluster of this size that was in another one before.
fn settle(mut step: usize, nodes: usize) -> usize {
    while nodes > STEPS[step].1 {
        step += 1;
    }
    while nodes < STEPS[step].0 {
        step -= 1;
    }
    step
}

fn plan(nodes: &[Arc<Node>], seconds: u32) -> Plan {
    let is_told = |node: &&Arc<Node>| {
        let told = node.metadata.annotations.get(ANNOTATION);
        told.and_then(|text| text.parse().ok()) == Some(seconds)
    };
    let untold = nodes.iter().filter(|node| !is_told(node));
    let tell = |node: &Arc<Node>| {
        let annotations = json!({ANNOTATION: seconds.to_string()});
        let body = json!({"metadata": {"uid": node.metadata.uid, "annotations": annotations}});
        Op::merge(&NODES, &node.metadata, body)
    };
    let ops: Vec<Op> = untold.map(tell).collect();
    match ops.is_empty() {
        true => Plan::none(),
        false => Plan::of(vec![Op::Parallel(ops)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::Simulation;
    use crate::testing::object;
    use proptest::prelude::*;

    #[test]
    fn the_time_grows_with_the_cluster_and_a_border_is_not_crossed_twice_at_once() {
        let mut step = 0;
        let mut time = |nodes: usize| {
            step = settle(step, nodes);
            STEPS[step].2
        };
        let sizes = [
            1, 100, 101, 95, 90, 89, 101, 500, 501, 449, 1001, 901, 2001, 1800, 1799, 0,
        ];
        let times = sizes.map(&mut time);
        assert_eq!(
            times,
            [0, 0, 15, 15, 15, 0, 15, 15, 30, 15, 60, 60, 300, 300, 60, 0]
        );
        assert_eq!(
            STEPS[settle(0, 5000)].2,
            300,
            "whoever takes over begins at the bottom"
        );
    }

    #[test]
    fn only_nodes_that_were_told_otherwise_are_written() {
        let node = |name: &str, told: &str| {
            Arc::new(object(&format!(
                "metadata: {{name: {name}, annotations: {{{told}}}}}\n"
            )))
        };
        let nodes = [
            node("a", "node.alpha.kubernetes.io/ttl: '15'"),
            node("b", "node.alpha.kubernetes.io/ttl: '0'"),
            node("c", "node.alpha.kubernetes.io/ttl: long"),
            node("d", ""),
        ];
        let line = |name: &str| {
            format!(
                r#"patch nodes {name} {{"metadata":{{"annotations":{{"node.alpha.kubernetes.io/ttl":"15"}}}}}}"#
            )
        };
        assert_eq!(plan(&nodes, 15).lines(), ["b", "c", "d"].map(line));
        assert!(plan(&nodes[..1], 15).lines().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// However a cluster grows and shrinks: the step is one of its size, and is left only for a size that is none of its.
        #[test]
        fn a_step_holds_for_as_long_as_it_may(sizes in prop::collection::vec(0_usize..2500, 1..40)) {
            let mut step = 0;
            for size in sizes {
                let before = step;
                step = settle(before, size);
                let is_of = |step: usize| (STEPS[step].0..=STEPS[step].1).contains(&size);
                prop_assert!(is_of(step), "{size}: {step}");
                prop_assert!(step == before || !is_of(before), "{size}: {before}, {step}");
                prop_assert_eq!(settle(step, size), step);
            }
        }

        /// Whoever meddles with what nodes are told, and wherever leaders are cut off: all are told the same, and then nothing
        /// is written.
        #[test]
        fn all_nodes_are_told(acts in prop::collection::vec((0_u8..6, 0_usize..8, 0_u64..4), 0..40)) {
            let mut cluster = Simulation::new("");
            let look = |cluster: &mut Simulation, seconds: u32, writes: Option<u64>| {
                let plan = plan(&cluster.world().caches.nodes.list(), seconds);
                let is_busy = !plan.ops.is_empty();
                cluster.attempt(plan, writes);
                is_busy
            };
            for (what, who, how) in acts {
                let name = format!("n{who}");
                match (what, cluster.get("Node", &name)) {
                    (0 | 1, None) => cluster.put(json!({"kind": "Node", "metadata": {"name": name, "uid": name}})),
                    (0, Some(_)) => cluster.remove("Node", &name),
                    (2, Some(_)) => {
                        let told = ["0", "15", "long", ""].get(usize::try_from(how).unwrap());
                        let notes = json!({ANNOTATION: told, "mine": "x"});
                        cluster.patch("Node", &name, &json!({"metadata": {"annotations": notes}}));
                    }
                    (3, _) => _ = look(&mut cluster, 0, Some(how)),
                    _ => _ = look(&mut cluster, 15, Some(how)),
                }
            }
            look(&mut cluster, 15, None);
            for node in cluster.all("Node") {
                let notes = &node["metadata"]["annotations"];
                prop_assert_eq!(&notes[ANNOTATION], "15");
            }
            prop_assert!(!look(&mut cluster, 15, None), "it does not come to rest");
        }
    }
}
