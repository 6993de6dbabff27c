//! Whatever nodes and their agents do and whoever meddles with the table, and wherever leaders are cut off: who is only looked
//! at when something wakes him comes to a table in which no range has two nodes, with conditions that agree with it, and
//! then nothing is written.

use super::*;
use crate::simulation::{Leader, Woken};
use agent_runtime::ControllerOptions;
use proptest::prelude::*;

const NAMES: [&str; 4] = ["n0", "n1", "n2", "n3"];
/// What somebody else says of a node's network.
const FOREIGN: &str = "SomebodyElse";

struct Model {
    woken: Woken,
}

fn options() -> ControllerOptions {
    let range = "10.1.0.0/16".parse::<Cidr>().unwrap();
    ControllerOptions {
        local_cloud: true,
        node_ranges: Some(NodeRanges::new(&[range], (24, 64), vec![]).unwrap()),
        ..ControllerOptions::default()
    }
}

fn said(node: &Value) -> Option<(&str, &str)> {
    let conditions = node["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let mut found = conditions.filter(|condition| condition["type"] == CONDITION);
    let condition = found.next()?;
    assert!(found.next().is_none(), "said twice");
    let text = |field: &str| condition[field].as_str().unwrap();
    Some((text("status"), text("reason")))
}

/// The range of a node that may have it, with where it leads.
fn route(node: &Value) -> Option<(Cidr, String)> {
    let range = node["spec"]["podCIDRs"][0].as_str()?;
    let address = node["status"]["addresses"][0]["address"].as_str()?;
    let is_ours = range.starts_with("10.1.");
    let parsed = range.parse().unwrap();
    is_ours.then(|| (parsed, format!("{range}={address}")))
}

fn report(node: &Value) -> Option<&str> {
    node["metadata"]["annotations"][REPORT].as_str()
}

impl Model {
    fn new() -> Self {
        Self {
            woken: Woken::new(&CONTROLLER, options()),
        }
    }

    fn put_node(&mut self, name: &str, how: usize) {
        let uid = self.woken.uid();
        let ranges = ["10.1.1.0/24", "10.1.2.0/24", "10.1.0.0/22", "10.9.0.0/24"];
        let conditions = match how % 3 {
            0 => json!([{"type": CONDITION, "status": "False", "reason": FOREIGN}]),
            _ => json!([{"type": "Ready", "status": "True"}]),
        };
        let created = timestamp::time(self.woken.cluster.world().now);
        self.woken.cluster.put(json!({
            "kind": "Node",
            "metadata": {"name": name, "uid": uid, "creationTimestamp": created},
            "spec": {"podCIDRs": [ranges[how % 4]]}, "status": {"conditions": conditions},
        }));
    }

    /// The agent says something, or stops taking part.
    fn say(&mut self, name: &str, how: usize) {
        let said = [
            json!("pending"),
            json!("programmed"),
            json!("failed: x"),
            Value::Null,
        ];
        let notes = json!({REPORT: said[how % 4]});
        let patch = json!({"metadata": {"annotations": notes}});
        self.woken.cluster.patch("Node", name, &patch);
    }

    fn address(&mut self, name: &str, how: usize) {
        let addresses = match how % 3 {
            0 => Value::Null,
            how => json!([{"type": "InternalIP", "address": format!("10.0.0.{how}")}]),
        };
        let patch = json!({"status": {"addresses": addresses}});
        self.woken.cluster.patch("Node", name, &patch);
    }

    fn meddle(&mut self, how: usize) {
        match how % 4 {
            0 => self.woken.cluster.remove("Role", ROLE),
            1 => self.woken.cluster.remove("RoleBinding", ROLE),
            2 => self.woken.cluster.remove("ConfigMap", TABLE),
            _ if self.woken.cluster.get("ConfigMap", TABLE).is_some() => {
                let data = json!({"data": {"n0": "10.1.1.0/24=10.0.0.9", "nobody": "x"}});
                self.woken.cluster.patch("ConfigMap", TABLE, &data);
            }
            _ => {}
        }
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let name = NAMES[who];
        let is_there = self.woken.cluster.get("Node", name).is_some();
        let key = if how % 2 == 0 {
            table_key()
        } else {
            Key::new("", name)
        };
        match what {
            0 if is_there => self.woken.cluster.remove("Node", name),
            0 | 1 if !is_there => self.put_node(name, how),
            1 | 2 if is_there => self.say(name, how),
            3 if is_there => self.address(name, how),
            4 => self.meddle(how),
            5 => self.woken.fall_behind(),
            6 => self.woken.led_by(Leader::Behind, &key),
            7 => self.woken.led_by(Leader::CutOff(how as u64 % 3), &key),
            8 => self.woken.cluster.seconds += 1,
            _ => self.woken.settle(),
        }
    }

    /// Those that take part, the oldest first, each with its part of the table, if it gets one.
    fn wanted(&self) -> BTreeMap<String, String> {
        let mut nodes = self.woken.cluster.all("Node");
        nodes.retain(|node| report(node).is_some());
        nodes.sort_by_key(|node| {
            let text = |field: &str| node["metadata"][field].as_str().unwrap().to_owned();
            (text("creationTimestamp"), text("name"))
        });
        let (mut wanted, mut given): (BTreeMap<_, _>, Vec<Cidr>) = Default::default();
        for node in nodes {
            let Some((range, text)) = route(&node) else {
                continue;
            };
            if given.iter().all(|other| !other.overlaps(&range)) {
                given.push(range);
                wanted.insert(node["metadata"]["name"].as_str().unwrap().to_owned(), text);
            }
        }
        wanted
    }

    fn check(&self) {
        let wanted = self.wanted();
        let table = self.woken.cluster.get("ConfigMap", TABLE);
        let data = table.as_ref().and_then(|table| table["data"].as_object());
        let held = data.into_iter().flatten();
        let held: BTreeMap<String, String> = held
            .map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(held, wanted);
        for kind in ["Role", "RoleBinding"] {
            assert!(table.is_none() || self.woken.cluster.get(kind, ROLE).is_some());
        }
        for node in self.woken.cluster.all("Node") {
            let name = node["metadata"]["name"].as_str().unwrap();
            let Some(report) = report(&node) else {
                let reason = said(&node).map(|(_, reason)| reason);
                assert!(reason.is_none_or(|reason| reason == FOREIGN), "{node}");
                continue;
            };
            let (status, _) = said(&node).expect("something is said of who takes part");
            if report == "failed: x" || route(&node).is_none() {
                assert_eq!(status, "True", "{node}");
            } else if report == "programmed" && wanted.contains_key(name) {
                assert_eq!(status, "False", "{node}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]
    #[test]
    fn the_table_is_what_nodes_say_and_conditions_agree(
        acts in prop::collection::vec((0_u8..12, 0_usize..4, 0_usize..24), 0..80),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        model.woken.come_to_rest();
        model.check();
        let keys = NAMES.iter().map(|name| Key::new("", name));
        model.woken.stays(keys.chain([table_key()]));
    }
}
