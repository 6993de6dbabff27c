//! Whatever agents and users do to nodes that wait for a cloud, and wherever leaders are behind or cut off: each is told who it
//! is and let go, with its addresses and nobody else's taints lost, and then nothing is written.

use super::*;
use crate::simulation::Simulation;
use agent_runtime::ControllerOptions;
use proptest::prelude::*;

const NAMES: [&str; 2] = ["n0", "n1"];

struct Model {
    cluster: Simulation,
    queue: Arc<Queue<Key>>,
    /// Caches of somebody to whom no news come.
    old: Arc<Caches>,
    count: usize,
}

fn taints(node: &Value) -> Vec<&str> {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.map(|taint| taint["key"].as_str().unwrap()).collect()
}

impl Model {
    fn new() -> Self {
        let mut cluster = Simulation::new("");
        cluster.options = Arc::new(ControllerOptions {
            local_cloud: true,
            ..ControllerOptions::default()
        });
        let queue = Arc::new(Queue::new());
        wire(&cluster.world().caches, &queue);
        Self {
            old: cluster.frozen(),
            cluster,
            queue,
            count: 0,
        }
    }

    fn join(&mut self, name: &str, how: usize) {
        self.count += 1;
        let provided = ["10.0.0.1", "10.0.0.1,fd00::1", "?"].get(how % 4);
        let notes = match provided {
            Some(provided) => json!({ PROVIDED_IP: provided }),
            None => json!({}),
        };
        let id = [Value::Null, json!("other://x")][how % 2].clone();
        self.cluster.put(json!({
            "kind": "Node",
            "metadata": {"name": name, "uid": format!("u{}", self.count), "annotations": notes},
            "spec": {"providerID": id, "taints": [{"key": UNINITIALIZED, "effect": "NoSchedule"}]},
        }));
    }

    fn taint(&mut self, name: &str) {
        let mut all: Vec<Value> = self.cluster.get("Node", name).unwrap()["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if all.iter().all(|taint| taint["key"] != "mine") {
            all.push(json!({"key": "mine", "effect": "NoSchedule"}));
        }
        self.cluster
            .patch("Node", name, &json!({"spec": {"taints": all}}));
    }

    fn look(&mut self, name: &str, view: Arc<Caches>, writes: Option<u64>) {
        let before = self.cluster.get("Node", name);
        let plan = reconcile(&Key::new("", name), &self.cluster.world_by(view));
        self.cluster.attempt(plan, writes);
        if let Some(before) = before {
            let after = self.cluster.get("Node", name).unwrap();
            let kept = |key: &str| taints(&before).contains(&key) == taints(&after).contains(&key);
            assert!(kept("mine"), "{after}");
        }
        self.queue = Arc::new(Queue::new());
        wire(&self.cluster.world().caches, &self.queue);
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let name = NAMES[who];
        let is_there = self.cluster.get("Node", name).is_some();
        match what {
            0 if is_there => self.cluster.remove("Node", name),
            0 | 1 if !is_there => self.join(name, how),
            2 if is_there => self.taint(name),
            3 if is_there => {
                // The agent says itself where it is reached.
                let addresses = json!([{"type": "InternalIP", "address": "10.0.9.9"}]);
                let status = json!({"status": {"addresses": addresses}});
                self.cluster.patch("Node", name, &status);
            }
            4 => self.old = self.cluster.frozen(),
            5 => self.look(name, self.old.clone(), None),
            6 => self.look(name, self.cluster.frozen(), Some(how as u64 % 2)),
            _ => self.cluster.settle(&self.queue, reconcile),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]
    #[test]
    fn who_waits_for_a_cloud_is_told_who_he_is_and_let_go(
        acts in prop::collection::vec((0_u8..9, 0_usize..2, 0_usize..8), 0..60),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        model.cluster.settle(&model.queue, reconcile);
        let before = model.cluster.all("Node");
        for node in &before {
            prop_assert!(!taints(node).contains(&UNINITIALIZED), "{}", node);
            let (name, id) = (&node["metadata"]["name"], node["spec"]["providerID"].as_str());
            let own = format!("kontiki://{}", name.as_str().unwrap());
            prop_assert!(id == Some("other://x") || id == Some(&*own), "{}", node);
            let provided = node["metadata"]["annotations"][PROVIDED_IP].as_str();
            let is_known = provided.is_some_and(|text| text != "?");
            let addresses = &node["status"]["addresses"];
            prop_assert!(!is_known || addresses.as_array().is_some_and(|all| !all.is_empty()), "{}", node);
        }
        for name in NAMES {
            model.cluster.step(&Key::new("", name), reconcile);
        }
        prop_assert_eq!(model.cluster.all("Node"), before, "it does not come to rest");
    }
}
