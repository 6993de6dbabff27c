//! Whatever becomes of pods and nodes, however late the caches are and wherever leaders are cut off: no pod goes that
//! nobody would miss it for, none goes before it has ended, and in the end all have gone that should, and nothing is
//! written.

use super::{OUT_OF_SERVICE, PERIOD, QUARANTINE, decide, long_missing, names};
use crate::simulation::{Dice, Simulation};
use crate::testing::after;
use agent_runtime::kinds::{Node, Pod};
use agent_runtime::timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::time::Instant;

const NODES: [&str; 3] = ["m", "n", "o"];
/// So many ended pods may stay.
const THRESHOLD: usize = 2;
const FOREIGN: &str = "example.com/keep";

struct Run {
    cluster: Simulation,
    dice: Dice,
    /// What the caches have.
    pods: Vec<Arc<Pod>>,
    nodes: Vec<Arc<Node>>,
    /// What who leads remembers, and since when it leads.
    missing: BTreeMap<String, Instant>,
    began: u64,
    /// When somebody last looked at caches that had the node.
    seen: BTreeMap<String, u64>,
    made: u64,
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    let found = object.pointer(path).and_then(Value::as_str);
    found.unwrap_or_default()
}

fn has_ended(pod: &Value) -> bool {
    matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
}

fn is_going(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

fn is_held(pod: &Value) -> bool {
    pod["metadata"]["finalizers"] == json!([FOREIGN])
}

/// Whether somebody has made sure that a node is off.
fn is_off(node: &Node) -> bool {
    !node.is_ready() && node.spec.taints.iter().any(|one| one.key == OUT_OF_SERVICE)
}

impl Run {
    fn new() -> Self {
        let mut run = Self {
            cluster: Simulation::new(""),
            dice: Dice(0),
            pods: Vec::new(),
            nodes: Vec::new(),
            missing: BTreeMap::new(),
            began: 0,
            seen: BTreeMap::new(),
            made: 0,
        };
        NODES.iter().for_each(|name| run.put_node(name));
        run.catch_up();
        run
    }

    fn put_node(&mut self, name: &str) {
        let taints = match self.dice.roll(3) {
            0 => json!([{"key": OUT_OF_SERVICE, "effect": "NoExecute"}]),
            _ => json!([]),
        };
        let ready = ["True", "Unknown"][usize::from(self.dice.roll(2) == 0)];
        self.cluster.put(json!({
            "kind": "Node", "metadata": {"name": name, "uid": name}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }));
    }

    /// A pod of one of a few names, so that some have successors.
    fn put_pod(&mut self) {
        let name = format!("p{}", self.dice.roll(12));
        if self.cluster.get("Pod", &name).is_some() {
            return;
        }
        self.made += 1;
        let mut pod = json!({
            "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "a", "uid": format!("u{}", self.made),
                "creationTimestamp": timestamp::time(after(self.cluster.seconds).wall),
            },
            "spec": {}, "status": {"phase": "Pending"},
        });
        if let Some(node) = NODES.get(usize::try_from(self.dice.roll(4)).unwrap()) {
            pod["spec"]["nodeName"] = (*node).into();
            pod["status"]["phase"] = "Running".into();
        }
        if self.dice.roll(4) == 0 {
            pod["metadata"]["finalizers"] = json!([FOREIGN]);
        }
        self.cluster.put(pod);
    }

    /// Somebody deletes a pod; whoever runs it does not answer.
    fn delete(&mut self, name: &str) {
        let pod = self.cluster.get("Pod", name).unwrap();
        if !is_held(&pod) && has_ended(&pod) {
            self.cluster.remove("Pod", name);
        } else {
            let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}});
            self.cluster.patch("Pod", name, &mark);
        }
    }

    fn end(&mut self, name: &str) {
        let status = match self.dice.roll(3) {
            0 => json!({"phase": "Succeeded"}),
            1 => json!({"phase": "Failed"}),
            _ => json!({"phase": "Failed", "reason": "Evicted"}),
        };
        if !has_ended(&self.cluster.get("Pod", name).unwrap()) {
            self.cluster.patch("Pod", name, &json!({"status": status}));
        }
    }

    fn catch_up(&mut self) {
        let caches = self.cluster.world().caches;
        (self.pods, self.nodes) = (caches.pods.list(), caches.nodes.list());
    }

    fn take_over(&mut self) {
        self.missing.clear();
        self.began = self.cluster.seconds;
    }

    fn disturb(&mut self, seed: u64) {
        self.dice = Dice(seed);
        let pod = self.dice.pick(self.cluster.names("Pod"));
        let node = NODES[usize::try_from(self.dice.roll(3)).unwrap()];
        match (self.dice.roll(17), pod) {
            (0..=3, _) => self.put_pod(),
            (4, Some(pod)) => self.cluster.remove("Pod", &pod),
            (5 | 6, Some(pod)) => self.delete(&pod),
            (7 | 8, Some(pod)) => self.end(&pod),
            (9, Some(pod)) => {
                let free = json!({"metadata": {"finalizers": []}});
                self.cluster.patch("Pod", &pod, &free);
            }
            (10, _) => self.cluster.remove("Node", node),
            (11, _) => self.put_node(node),
            (12, _) => {
                let writes = self.dice.roll(3);
                self.round(Some(writes));
                self.take_over();
            }
            (13, _) => self.round(None),
            _ => {
                self.catch_up();
                self.round(None);
            }
        }
        self.cluster.seconds += self.dice.roll(25);
    }

    /// A round upon what the caches have, perhaps of one who is cut off.
    fn round(&mut self, writes: Option<u64>) {
        let now = after(self.cluster.seconds);
        let known = names(&self.nodes);
        for name in &known {
            self.seen.insert(name.clone(), self.cluster.seconds);
        }
        let named = self.pods.iter().map(|pod| pod.spec.node_name.as_str());
        let suspects = long_missing(named, &known, &mut self.missing, now.steady);
        let gone: BTreeSet<String> = suspects
            .into_iter()
            .filter(|name| self.cluster.get("Node", name).is_none())
            .collect();
        let plan = decide(&self.pods, &self.nodes, &gone, THRESHOLD, now.wall);
        let before = self.cluster.all("Pod");
        self.cluster.removed.clear();
        self.cluster.attempt(plan, writes);
        for pod in &self.cluster.removed {
            assert!(has_ended(pod), "it goes before it is told: {pod}");
            assert!(self.has_to_go(pod), "it could stay: {pod}");
        }
        let stay = self.cluster.all("Pod");
        for pod in self.cluster.removed.iter().chain(&stay) {
            self.is_told(pod, &before);
        }
    }

    /// The reasons for which who sees what the caches have may remove a pod.
    fn has_to_go(&self, pod: &Value) -> bool {
        let uid = text(pod, "/metadata/uid");
        let Some(pod) = self.pods.iter().find(|one| one.metadata.uid == uid) else {
            return false;
        };
        let (node, going) = (pod.spec.node_name.as_str(), pod.metadata.is_deleting());
        let since = self.seen.get(node).copied().unwrap_or(0).max(self.began);
        let is_orphan = !node.is_empty()
            && self.cluster.get("Node", node).is_none()
            && since + QUARANTINE.as_secs() <= self.cluster.seconds;
        let mut off = self.nodes.iter().filter(|node| is_off(node));
        let is_lost = going && (node.is_empty() || off.any(|off| off.metadata.name == *node));
        is_orphan || is_lost || (pod.is_finished() && self.preferred_to(pod) >= THRESHOLD)
    }

    /// How many ended pods stay rather than this one.
    fn preferred_to(&self, pod: &Pod) -> usize {
        let rank = |pod: &Pod| {
            let is_evicted = pod.status.reason == "Evicted";
            (
                !is_evicted,
                pod.metadata.created(),
                pod.metadata.name.clone(),
            )
        };
        let ended = self.pods.iter().filter(|one| one.is_finished());
        ended.filter(|one| rank(one) > rank(pod)).count()
    }

    /// A pod that a round has failed tells of a disruption if it had a node.
    fn is_told(&self, pod: &Value, before: &[Value]) {
        let same = |one: &&Value| one["metadata"]["uid"] == pod["metadata"]["uid"];
        let was = before.iter().find(same).unwrap();
        if has_ended(was) || !has_ended(pod) {
            return;
        }
        assert_eq!(pod["status"]["phase"], "Failed");
        let told = text(pod, "/status/conditions/0/type") == "DisruptionTarget";
        assert_eq!(told, !pod["spec"]["nodeName"].is_null(), "{pod}");
    }

    /// Whether a pod should not be there any more.
    fn is_unwanted(&self, pod: &Value) -> bool {
        let node = text(pod, "/spec/nodeName");
        if node.is_empty() {
            return is_going(pod);
        }
        let found = self.nodes.iter().find(|one| one.metadata.name == node);
        found.is_none_or(|node| is_going(pod) && is_off(node))
    }

    fn settle(&mut self) {
        for _ in 0..4 {
            self.catch_up();
            self.round(None);
            self.cluster.seconds += PERIOD.as_secs();
        }
        let pods = self.cluster.all("Pod");
        self.catch_up();
        for pod in pods.iter().filter(|pod| self.is_unwanted(pod)) {
            let stuck = is_held(pod) && is_going(pod) && has_ended(pod);
            assert!(stuck, "it should have gone: {pod}");
        }
        let free = |pod: &&Value| has_ended(pod) && !is_held(pod);
        assert!(pods.iter().filter(free).count() <= THRESHOLD, "{pods:#?}");
        self.round(None);
        assert_eq!(self.cluster.all("Pod"), pods, "it does not come to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn pods_go_for_a_reason_and_all_that_should_do(turns in prop::collection::vec(any::<u64>(), 1..80)) {
        let mut run = Run::new();
        for seed in turns {
            run.disturb(seed);
        }
        run.settle();
    }
}
