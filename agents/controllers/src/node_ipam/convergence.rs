//! Whatever nodes come with, go and are renewed, wherever writes are lost and leaders change, and however late news are: no
//! range is given to two, nobody who can have one waits for ever, and then nothing is written.

use super::*;
use crate::simulation::Simulation;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::VecDeque;

/// One more than there are ranges.
const NAMES: [&str; 5] = ["n0", "n1", "n2", "n3", "n4"];

struct Model {
    cluster: Simulation,
    memory: Memory,
    /// Who has to be looked at. The queue itself would do it as well, but for those that fail and come back by time.
    open: VecDeque<&'static str>,
    count: usize,
}

fn ranges() -> NodeRanges {
    let range = "10.0.0.0/22".parse().unwrap();
    NodeRanges::new(&[range], (24, 64), vec![]).unwrap()
}

fn share(node: &Value) -> Option<&str> {
    node["spec"]["podCIDRs"][0].as_str()
}

impl Model {
    fn new() -> Self {
        Self {
            cluster: Simulation::new(""),
            memory: Memory::new(&ranges(), &[]),
            open: VecDeque::new(),
            count: 0,
        }
    }

    fn join(&mut self, name: &'static str, brings: Option<&str>) {
        self.count += 1;
        let uid = format!("u{}", self.count);
        let brought = brings.map(|range| json!([range]));
        self.cluster.put(json!({
            "kind": "Node", "metadata": {"name": name, "uid": uid}, "spec": {"podCIDRs": brought},
        }));
        self.open.push_back(name);
    }

    /// One who has to be looked at is, and the write is perhaps lost.
    fn look(&mut self, is_lost: bool) {
        let Some(name) = self.open.pop_front() else {
            return;
        };
        let node = self.cluster.world().caches.nodes.get("", name);
        let Step { plan, wake, .. } = self.memory.step(name, node.as_deref());
        let woken = NAMES.into_iter().filter(|name| wake.contains(*name));
        self.open.extend(woken);
        let before = self.cluster.all("Node");
        if !self.cluster.attempt(plan, is_lost.then_some(0)) {
            self.open.push_back(name);
        }
        if self.cluster.all("Node") != before {
            self.check_given(name);
            self.open.push_back(name);
        }
    }

    /// What was given just now nobody else has.
    fn check_given(&self, name: &str) {
        let nodes = self.cluster.all("Node");
        let given = self.cluster.get("Node", name).unwrap();
        let holders = nodes.iter().filter(|node| share(node) == share(&given));
        assert_eq!(holders.count(), 1, "{given}");
    }

    fn take_over(&mut self) {
        let nodes = self.cluster.world().caches.nodes.list();
        self.memory = Memory::new(&ranges(), &nodes);
        self.open = NAMES.into_iter().collect();
    }

    fn act(&mut self, (what, who, how): (u8, usize, usize)) {
        let name = NAMES[who];
        match (what, self.cluster.get("Node", name)) {
            (0 | 1, None) => self.join(name, None),
            (2, None) => {
                // Somebody else gives ranges, too: free ones, and of other places.
                let wish = ["10.0.1.0/24", "192.168.0.0/24"][how % 2];
                let nodes = self.cluster.all("Node");
                let is_free = nodes.iter().all(|node| share(node) != Some(wish));
                let is_elsewhere = how % 2 == 1;
                let may_have = is_elsewhere || (is_free && self.open.is_empty());
                self.join(name, may_have.then_some(wish));
            }
            (0, Some(_)) => {
                self.cluster.remove("Node", name);
                self.open.push_back(name);
            }
            (3, _) => self.take_over(),
            (4, _) => self.look(true),
            _ => self.look(false),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn who_can_have_a_range_has_one(
        acts in prop::collection::vec((0_u8..9, 0_usize..5, 0_usize..4), 0..80),
    ) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        for _ in 0..400 {
            model.look(false);
        }
        prop_assert!(model.open.is_empty(), "it does not come to rest");
        let nodes = model.cluster.all("Node");
        let taken: BTreeSet<&str> = nodes.iter().filter_map(share).collect();
        let free = (0..4).filter(|number| !taken.contains(&*format!("10.0.{number}.0/24"))).count();
        let waiting = nodes.iter().filter(|node| share(node).is_none()).count();
        prop_assert!(waiting == 0 || free == 0, "{waiting} wait, {free} are free");
        model.open = NAMES.into_iter().collect();
        for _ in NAMES {
            model.look(false);
        }
        prop_assert_eq!(model.cluster.all("Node"), nodes, "it does not come to rest");
    }
}
