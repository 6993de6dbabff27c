//! Whatever agents and users do to nodes that wait for a cloud, and wherever leaders are behind or cut off: each is told who it
//! is and let go, with its addresses and nobody else's taints lost, and then nothing is written.

use super::*;
use crate::simulation::{Leader, Woken};
use agent_runtime::ControllerOptions;
use proptest::prelude::*;

const NAMES: [&str; 2] = ["n0", "n1"];

struct Model {
    woken: Woken,
}

fn taints(node: &Value) -> Vec<&str> {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    taints.map(|taint| taint["key"].as_str().unwrap()).collect()
}

impl Model {
    fn new() -> Self {
        let options = ControllerOptions {
            local_cloud: true,
            ..ControllerOptions::default()
        };
        Self {
            woken: Woken::new(&CONTROLLER, options),
        }
    }

    fn join(&mut self, name: &str, how: usize) {
        let uid = self.woken.uid();
        let provided = ["10.0.0.1", "10.0.0.1,fd00::1", "?"].get(how % 4);
        let notes = match provided {
            Some(provided) => json!({ PROVIDED_IP: provided }),
            None => json!({}),
        };
        let id = [Value::Null, json!("other://x")][how % 2].clone();
        self.woken.cluster.put(json!({
            "kind": "Node",
            "metadata": {"name": name, "uid": uid, "annotations": notes},
            "spec": {"providerID": id, "taints": [{"key": UNINITIALIZED, "effect": "NoSchedule"}]},
        }));
    }

    fn taint(&mut self, name: &str) {
        let mut all: Vec<Value> = self.woken.cluster.get("Node", name).unwrap()["spec"]["taints"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if all.iter().all(|taint| taint["key"] != "mine") {
            all.push(json!({"key": "mine", "effect": "NoSchedule"}));
        }
        self.woken
            .cluster
            .patch("Node", name, &json!({"spec": {"taints": all}}));
    }

    /// Somebody looks who is behind or cut off: other taints stay as they are.
    fn look(&mut self, name: &str, leader: Leader) {
        let before = self.woken.cluster.get("Node", name);
        self.woken.led_by(leader, &Key::new("", name));
        if let Some(before) = before {
            let after = self.woken.cluster.get("Node", name).unwrap();
            let kept = |key: &str| taints(&before).contains(&key) == taints(&after).contains(&key);
            assert!(kept("mine"), "{after}");
        }
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let name = NAMES[who];
        let is_there = self.woken.cluster.get("Node", name).is_some();
        match what {
            0 if is_there => self.woken.cluster.remove("Node", name),
            0 | 1 if !is_there => self.join(name, how),
            2 if is_there => self.taint(name),
            3 if is_there => {
                // The agent says itself where it is reached.
                let addresses = json!([{"type": "InternalIP", "address": "10.0.9.9"}]);
                let status = json!({"status": {"addresses": addresses}});
                self.woken.cluster.patch("Node", name, &status);
            }
            4 => self.woken.fall_behind(),
            5 => self.look(name, Leader::Behind),
            6 => self.look(name, Leader::CutOff(how as u64 % 2)),
            _ => self.woken.settle(),
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
        model.woken.come_to_rest();
        for node in &model.woken.cluster.all("Node") {
            prop_assert!(!taints(node).contains(&UNINITIALIZED), "{}", node);
            let (name, id) = (&node["metadata"]["name"], node["spec"]["providerID"].as_str());
            let own = format!("kontiki://{}", name.as_str().unwrap());
            prop_assert!(id == Some("other://x") || id == Some(&*own), "{}", node);
            let provided = node["metadata"]["annotations"][PROVIDED_IP].as_str();
            let is_known = provided.is_some_and(|text| text != "?");
            let addresses = &node["status"]["addresses"];
            prop_assert!(!is_known || addresses.as_array().is_some_and(|all| !all.is_empty()), "{}", node);
        }
        model.woken.stays(NAMES.map(|name| Key::new("", name)));
    }
}
