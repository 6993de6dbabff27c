//! What the nodes say about zones, and which services are looked at again when that changes.

use super::is_auto;
use crate::endpoint_slice::{ZONE, is_selecting};
use crate::quantity;
use crate::world::Caches;
use agent_runtime::kinds::{Node, Service};
use agent_runtime::{Change, Key, Queue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Where there are no ordinary pods to be expected.
const LEFT_OUT: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];
/// Many nodes that change at once, such as those of a zone that fails, make services be looked at once.
const SETTLE: Duration = Duration::from_secs(1);

/// The part of all processors that each zone has. There are at least two.
pub(in crate::endpoint_slice) type Shares = BTreeMap<String, f64>;

/// What a node adds to its zone, as it says it: nothing where it is empty.
#[derive(PartialEq)]
struct Processors<'a> {
    zone: &'a str,
    cpu: &'a str,
}

/// `None` for a node that does not count: it is not ready, or for the control plane.
fn processors(node: &Node) -> Option<Processors<'_>> {
    let labels = &node.metadata.labels;
    if !node.is_ready() || LEFT_OUT.iter().any(|label| labels.contains_key(*label)) {
        return None;
    }
    Some(Processors {
        zone: labels.get(ZONE).map_or("", String::as_str),
        cpu: node
            .status
            .allocatable
            .get("cpu")
            .map_or("", String::as_str),
    })
}

fn counts_otherwise(change: &Change<Node>) -> bool {
    let [before, after] =
        [&change.old, &change.new].map(|node| node.as_deref().and_then(processors));
    before != after
}

/// The zones' shares of the processors of all nodes that count. `None` where one of these has no zone or no processors, and
/// where there are fewer than two zones.
pub(in crate::endpoint_slice) fn shares(nodes: &[Arc<Node>]) -> Option<Shares> {
    let mut zones: BTreeMap<&str, i128> = BTreeMap::new();
    for Processors { zone, cpu } in nodes.iter().filter_map(|node| processors(node)) {
        let milli = quantity::milli_of_text(cpu).filter(|milli| *milli > 0)?;
        if zone.is_empty() {
            return None;
        }
        *zones.entry(zone).or_default() += i128::from(milli);
    }
    if zones.len() < 2 {
        return None;
    }
    let all = zones.values().sum::<i128>() as f64;
    let zones = zones.into_iter();
    Some(
        zones
            .map(|(zone, milli)| (zone.to_owned(), milli as f64 / all))
            .collect(),
    )
}

/// The services whose hints depend on nodes.
#[derive(Default)]
struct Dependents(Mutex<BTreeSet<Key>>);

impl Dependents {
    fn note(&self, change: &Change<Service>) {
        let key = Key::of(&change.latest().metadata);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let depends = |service: &Arc<Service>| is_selecting(service) && is_auto(service);
        if change.new.as_ref().is_some_and(depends) {
            all.insert(key);
        } else {
            all.remove(&key);
        }
    }

    fn list(&self) -> Vec<Key> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().cloned().collect()
    }
}

/// Enqueues the services with the annotation when a node comes to count, or counts otherwise than before. It has to be wired
/// before whatever enqueues services themselves: a node that changes after one is looked at must find it here.
pub(in crate::endpoint_slice) fn wire(caches: &Caches, queue: &Arc<Queue<Key>>) {
    let dependents = Arc::new(Dependents::default());
    // First, so that the nodes that are there already wake nobody: services are looked at in any case when they are met.
    let (known, keys) = (dependents.clone(), queue.clone());
    caches.nodes.subscribe(move |change| {
        if counts_otherwise(change) {
            for key in known.list() {
                keys.add_after(key, SETTLE);
            }
        }
    });
    caches
        .services
        .subscribe(move |change| dependents.note(change));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{object, world};

    /// A node: its zone, its processors, whether it is ready, and more labels.
    fn node(zone: &str, cpu: &str, ready: &str, labels: &str) -> Arc<Node> {
        Arc::new(object(&format!(
            "{{metadata: {{name: n, labels: {{topology.kubernetes.io/zone: '{zone}'{labels}}}}}, \
             status: {{allocatable: {{cpu: '{cpu}'}}, conditions: [{{type: Ready, status: '{ready}'}}]}}}}"
        )))
    }

    const CONTROL_PLANE: &str = ", node-role.kubernetes.io/control-plane: ''";
    const MASTER: &str = ", node-role.kubernetes.io/master: ''";

    #[test]
    fn zones_share_the_processors_of_nodes_that_count() {
        let one = |zone: &str| node(zone, "1000m", "True", "");
        type Zones<'a> = &'a [(&'a str, f64)];
        let half: Zones<'_> = &[("a", 0.5), ("b", 0.5)];
        let unready = node("b", "1", "False", "");
        let cases: &[(&str, Vec<Arc<Node>>, Zones<'_>)] = &[
            ("none", vec![], &[]),
            ("one node", vec![one("a")], &[]),
            ("one zone", vec![one("a"), one("a")], &[]),
            ("two zones", vec![one("a"), one("b")], half),
            (
                "one of two is not ready",
                vec![one("a"), unready.clone()],
                &[],
            ),
            (
                "one of two is for the control plane",
                vec![one("a"), node("b", "1", "True", CONTROL_PLANE)],
                &[],
            ),
            (
                "one more is not ready",
                vec![one("a"), one("b"), unready],
                half,
            ),
            (
                "one more is for the control plane",
                vec![one("a"), one("b"), node("b", "1", "True", MASTER)],
                half,
            ),
            (
                "what does not count need not be known",
                vec![one("a"), one("b"), node("", "", "True", CONTROL_PLANE)],
                half,
            ),
            (
                "one without zone",
                vec![one("a"), one("b"), node("", "1", "True", "")],
                &[],
            ),
            (
                "one without processors",
                vec![one("a"), one("b"), node("b", "0", "True", "")],
                &[],
            ),
            (
                "processors that are no amount",
                vec![one("a"), one("b"), node("b", "many", "True", "")],
                &[],
            ),
            (
                "three zones of different sizes",
                vec![
                    one("a"),
                    one("a"),
                    one("a"),
                    node("a", "2", "True", ""),
                    node("b", "3", "True", ""),
                    node("b", "1.5", "True", ""),
                    node("c", "500m", "True", ""),
                ],
                &[("a", 0.5), ("b", 0.45), ("c", 0.05)],
            ),
        ];
        for (told, nodes, expected) in cases {
            let expected = expected.iter();
            let expected: Shares = expected
                .map(|(zone, share)| ((*zone).to_owned(), *share))
                .collect();
            let found = shares(nodes).unwrap_or_default();
            assert_eq!(found, expected, "{told}");
        }
    }

    #[test]
    fn a_node_that_counts_otherwise_is_told_from_one_that_is_heard_of() {
        let known = Some(node("a", "4", "True", ""));
        for (told, new, expected) in [
            ("it is heard of", Some(node("a", "4", "True", "")), false),
            (
                "other labels",
                Some(node("a", "4", "True", ", x: y")),
                false,
            ),
            ("zone", Some(node("b", "4", "True", "")), true),
            ("no zone", Some(node("", "4", "True", "")), true),
            ("processors", Some(node("a", "8", "True", "")), true),
            ("not ready", Some(node("a", "4", "Unknown", "")), true),
            (
                "control plane",
                Some(node("a", "4", "True", CONTROL_PLANE)),
                true,
            ),
            ("gone", None, true),
        ] {
            for (old, new) in [(&known, &new), (&new, &known)] {
                let (old, new) = (old.clone(), new.clone());
                assert_eq!(counts_otherwise(&Change { old, new }), expected, "{told}");
            }
        }
        let unready = Some(node("a", "4", "False", ""));
        let change = Change {
            old: None,
            new: unready,
        };
        assert!(!counts_otherwise(&change));
    }

    #[tokio::test]
    async fn only_services_that_ask_for_it_are_woken_by_nodes() {
        let service = |name: &str, more: &str, selector: &str| {
            format!(
                "---\nkind: Service\nmetadata: {{name: {name}, namespace: a, uid: {name}{more}}}\nspec: {{{selector}clusterIP: 10.0.0.1}}\n"
            )
        };
        let asks = ", annotations: {service.kubernetes.io/topology-mode: Auto}";
        let selects = "selector: {app: x}, ";
        let world = world(
            &[
                service("asks", asks, selects),
                service("asked", asks, selects),
                service("plain", "", selects),
                service("manual", asks, ""),
            ]
            .concat(),
        );
        let queue: Arc<Queue<Key>> = Arc::new(Queue::new());
        let woken = async || {
            let next = tokio::time::timeout(SETTLE * 20, queue.next()).await;
            let key = next
                .expect("a service is woken")
                .expect("the queue is open");
            queue.done(&key);
            key.to_string()
        };
        wire(&world.caches, &queue);
        let text = service("asked", "", selects);
        let plain = text.strip_prefix("---\n").unwrap();
        world.caches.services.apply(object(plain));
        world
            .caches
            .nodes
            .apply((*node("a", "4", "True", "")).clone());
        assert_eq!(woken().await, "a/asks");
        // One look is enough for many nodes.
        for name in ["n1", "n2", "n3"] {
            let mut node = (*node("b", "4", "True", "")).clone();
            node.metadata.name = name.into();
            world.caches.nodes.apply(node);
        }
        assert_eq!(woken().await, "a/asks");
        let more = tokio::time::timeout(SETTLE * 2, queue.next()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
