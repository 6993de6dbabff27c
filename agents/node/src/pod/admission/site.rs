//! A node, as far as it decides which pods it takes. Pure.

use agent_runtime::kinds::{Labels, Node, Taint};
use serde::Deserialize;
use serde_json::Value;

use super::share::Amounts;
use crate::quantity;

pub(super) const MEMORY: &str = "MemoryPressure";
const PRESSURES: &[&str] = &[MEMORY, "DiskPressure", "PIDPressure"];

/// What the names of huge pages begin with.
const HUGE_PAGES: &str = "hugepages-";

/// Which operating system all of our nodes have.
pub(super) const OS: &str = "linux";

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Site {
    name: String,
    labels: Labels,
    /// Those that drive pods out.
    pub(super) taints: Vec<Taint>,
    /// What pods may take of it together, and how many there may be.
    pub(super) room: Amounts,
    pub(super) pods: i64,
    /// Of what it is short.
    pub(super) pressures: Vec<&'static str>,
    /// Its runtime can keep the groups of an image away from a container.
    pub(super) keeps_groups_out: bool,
}

impl Site {
    /// From the Node object.
    pub(crate) fn of(node: &Value) -> Site {
        let allocatable = &node["status"]["allocatable"];
        let mut room = Amounts::read(allocatable);
        // No huge pages are as good as none named, and take a block of memory in each of thousands of nodes.
        let named = std::mem::take(&mut room.others).into_iter();
        let some = named.filter(|(name, amount)| *amount != 0 || !name.starts_with(HUGE_PAGES));
        room.others = some.collect();
        let pods = quantity::units_of(&allocatable["pods"]).unwrap_or(0);
        let taints = Vec::<Taint>::deserialize(&node["spec"]["taints"]).unwrap_or_default();
        let driving = taints.into_iter().filter(|t| t.effect == "NoExecute");
        Site {
            name: node["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            labels: Labels::deserialize(&node["metadata"]["labels"]).unwrap_or_default(),
            taints: driving.collect(),
            room,
            pods: i64::try_from(pods).unwrap_or(i64::MAX),
            pressures: PRESSURES
                .iter()
                .copied()
                .filter(|kind| holds(node, kind))
                .collect(),
            keeps_groups_out: node["status"]["features"]["supplementalGroupsPolicy"] == true,
        }
    }

    /// The Node that selectors are asked about.
    pub(super) fn node(&self) -> Node {
        let mut node = Node::default();
        node.metadata.name.clone_from(&self.name);
        node.metadata.labels.clone_from(&self.labels);
        node
    }
}

/// Whether a condition is on record.
fn holds(node: &Value, kind: &str) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == kind && one["status"] == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_node_counts_what_decides_about_pods() {
        let site = Site::of(&json!({
            "metadata": {"name": "n", "labels": {"a": "b"}},
            "spec": {"taints": [{"key": "k", "effect": "NoSchedule"}, {"key": "l", "effect": "NoExecute"}]},
            "status": {"allocatable": {"cpu": "2", "pods": "110", "hugepages-2Mi": "0", "hugepages-1Gi": "1Gi", "x/y": "0"},
                       "capacity": {"cpu": "4"},
                       "conditions": [{"type": "Ready", "status": "True"}, {"type": MEMORY, "status": "True"},
                                      {"type": "DiskPressure", "status": "False"}]},
        }));
        assert_eq!((site.room.get("cpu"), site.pods), (2000, 110));
        let others: Vec<&String> = site.room.others.keys().collect();
        assert_eq!(others, ["hugepages-1Gi", "x/y"]);
        assert_eq!(site.room.get("hugepages-2Mi"), 0);
        assert_eq!(site.node().metadata.labels["a"], "b");
        assert_eq!(site.taints.len(), 1);
        assert_eq!(site.pressures, [MEMORY]);
        assert_eq!(Site::of(&Value::Null), Site::default());
    }
}
