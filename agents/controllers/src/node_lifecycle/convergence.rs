//! Whatever agents, users, clocks and caches do, and wherever leaders are cut off: nobody who lives is called silent, pods
//! leave no faster than they may and never when all is dark, and in the end conditions, taints and pods agree with who lives,
//! and nothing is written any more.

use super::*;
use crate::simulation::Simulation;
use crate::testing::after;
use proptest::prelude::*;
use serde_json::Value;

/// The first five are in one zone, the others in another one.
const NAMES: [&str; 7] = ["n0", "n1", "n2", "n3", "n4", "n5", "n6"];
/// As [`Zones`] names them.
const ZONES: [&str; 2] = [":a", ":b"];

fn zone(name: &str) -> &'static str {
    ZONES[usize::from(name > "n4")]
}

struct Model {
    cluster: Simulation,
    memory: Memory,
    /// Nodes whose agents run.
    alive: BTreeSet<&'static str>,
    /// Nodes whose agents say that they are not ready, or short of memory.
    unwell: BTreeSet<&'static str>,
    pressed: BTreeSet<&'static str>,
    cordoned: BTreeSet<&'static str>,
    /// Nodes with a taint of somebody else.
    tainted: BTreeSet<&'static str>,
    /// When each agent last showed life, in seconds.
    beats: BTreeMap<String, u64>,
    /// What the controller sees, where no news come to it.
    view: Option<Arc<Caches>>,
    /// By how many seconds the controller's wall clock is wrong.
    skew: i64,
    /// When a node of each zone last began to lose its pods under this leader.
    began: BTreeMap<&'static str, u64>,
    /// Makes texts that were not there before.
    count: u64,
}

fn said<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let found = conditions.find(|condition| condition["type"] == kind);
    found.map_or("", |condition| condition["status"].as_str().unwrap())
}

/// Taints as `key:effect`, without the domain.
fn taints(node: &Value) -> BTreeSet<String> {
    let taints = node["spec"]["taints"].as_array().into_iter().flatten();
    let text = |taint: &Value| {
        let key = taint["key"].as_str().unwrap();
        let key = key.trim_start_matches("node.kubernetes.io/");
        format!("{key}:{}", taint["effect"].as_str().unwrap())
    };
    taints.map(text).collect()
}

fn is_evicting(node: &Value) -> bool {
    taints(node)
        .iter()
        .any(|taint| taint.ends_with(":NoExecute"))
}

/// Most of a small zone is not ready: it is left alone.
fn is_broken(ready: usize, unready: usize) -> bool {
    ready > 0 && unready > 2 && 100 * unready >= 55 * (ready + unready)
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            cluster: Simulation::new(""),
            memory: Memory::default(),
            alive: NAMES.into_iter().collect(),
            unwell: BTreeSet::new(),
            pressed: BTreeSet::new(),
            cordoned: BTreeSet::new(),
            tainted: BTreeSet::new(),
            beats: BTreeMap::new(),
            view: None,
            skew: 0,
            began: BTreeMap::new(),
            count: 0,
        };
        NAMES.into_iter().for_each(|name| model.join(name));
        model
    }

    fn news(&mut self) -> String {
        self.count += 1;
        format!("t{}", self.count)
    }

    fn node(&self, name: &str) -> Option<Value> {
        self.cluster.get("Node", name)
    }

    fn join(&mut self, name: &'static str) {
        let uid = self.news();
        let labels = json!({"topology.kubernetes.io/zone": zone(name).trim_start_matches(':')});
        self.cluster
            .put(json!({"kind": "Node", "metadata": {"name": name, "uid": uid, "labels": labels}}));
        self.cluster.put(json!({
            "kind": "Pod", "metadata": {"name": format!("p-{name}"), "namespace": "a", "uid": uid},
            "spec": {"nodeName": name}, "status": {"phase": "Pending"},
        }));
        self.renew(name);
    }

    fn leave(&mut self, name: &'static str) {
        self.cluster.remove("Node", name);
        self.cluster.remove("Lease", name);
        self.cluster.remove("Pod", &format!("p-{name}"));
        self.cordoned.remove(name);
        self.tainted.remove(name);
    }

    fn renew(&mut self, name: &'static str) {
        let renewed = self.news();
        self.cluster.put(json!({
            "kind": "Lease", "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "uid": name},
            "spec": {"renewTime": renewed},
        }));
        self.beats.insert(name.to_owned(), self.cluster.seconds);
    }

    /// An agent renews its lease, and says how it is where the cluster has it otherwise.
    fn beat(&mut self, name: &'static str) {
        let Some(node) = self.node(name) else { return };
        self.renew(name);
        let text = |holds: bool| if holds { "True" } else { "False" };
        let ready = text(!self.unwell.contains(name));
        let pressed = text(self.pressed.contains(name));
        let pod = format!("p-{name}");
        if said(&node, "Ready") != ready || said(&node, "MemoryPressure") != pressed {
            let heartbeat = self.news();
            let one = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastHeartbeatTime": heartbeat});
            let conditions = json!([
                one("Ready", ready),
                one("MemoryPressure", pressed),
                one("DiskPressure", "False"),
                one("PIDPressure", "False"),
            ]);
            let status = json!({"status": {"conditions": conditions}});
            self.cluster.patch("Node", name, &status);
        }
        if said(&self.cluster.get("Pod", &pod).unwrap(), "Ready") != "True" {
            let conditions = json!([{"type": "Ready", "status": "True"}]);
            let status = json!({"status": {"phase": "Running", "conditions": conditions}});
            self.cluster.patch("Pod", &pod, &status);
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.cluster.seconds += seconds;
        for name in self.alive.clone() {
            self.beat(name);
        }
    }

    /// The controller looks once, and is perhaps cut off after so many writes.
    fn look(&mut self, writes: Option<u64>) {
        let caches = self.view.clone();
        let caches = caches.unwrap_or_else(|| self.cluster.world().caches);
        let nodes = caches.nodes.list();
        let now = after(self.cluster.seconds);
        let now = Moment {
            wall: now.wall + timestamp::seconds(self.skew),
            ..now
        };
        let before = self.cluster.all("Node");
        let plans = round(&mut self.memory, &nodes, &caches, now);
        let names: Vec<String> = plans.iter().map(|(name, _)| name.clone()).collect();
        if !self.cluster.attempt(at_once(plans), writes) {
            self.memory.mark_again(&names);
        }
        for before in before {
            self.check(&before, &nodes);
        }
        let zones: BTreeSet<&str> = self.memory.zones.counts().map(|(zone, ..)| zone).collect();
        self.began.retain(|zone, _| zones.contains(zone));
    }

    /// What a look has done to a node is nothing that it must not do. `seen` is what it saw.
    fn check(&mut self, before: &Value, seen: &[Arc<Node>]) {
        let name = before["metadata"]["name"].as_str().unwrap();
        let node = self.node(name).unwrap();
        let is_silenced = said(before, "Ready") != "Unknown" && said(&node, "Ready") == "Unknown";
        if is_silenced && self.view.is_none() {
            let silence = self.cluster.seconds - self.beats[name];
            assert!(silence > 50, "{name} was heard {silence} s ago");
        }
        if is_evicting(before) || !is_evicting(&node) {
            return;
        }
        assert_ne!(said(&node, "Ready"), "True", "{name}");
        let in_zone = seen
            .iter()
            .filter(|one| zone(&one.metadata.name) == zone(name));
        let (ready, unready): (Vec<_>, Vec<_>) = in_zone.partition(|one| one.is_ready());
        assert!(!is_broken(ready.len(), unready.len()), "{name}");
        assert!(seen.iter().any(|one| one.is_ready()), "all is dark");
        let now = self.cluster.seconds;
        let last = self.began.insert(zone(name), now);
        assert!(last.is_none_or(|last| now - last >= 10), "{name}: too fast");
    }

    fn take_over(&mut self) {
        self.memory = Memory::default();
        self.view = None;
        self.began.clear();
    }

    fn act(&mut self, (what, who, how): (u8, usize, u64)) {
        let name = NAMES[who];
        let toggle = |set: &mut BTreeSet<&'static str>| {
            if !set.remove(name) {
                set.insert(name);
            }
        };
        match what {
            0 => toggle(&mut self.alive),
            1 => toggle(&mut self.unwell),
            2 => toggle(&mut self.pressed),
            3 if self.node(name).is_none() => self.join(name),
            3 if how < 5 => self.leave(name),
            4 if self.node(name).is_some() => {
                toggle(&mut self.cordoned);
                let is_cordoned = self.cordoned.contains(name);
                let spec = json!({"spec": {"unschedulable": is_cordoned}});
                self.cluster.patch("Node", name, &spec);
            }
            5 if self.node(name).is_some() => self.taint(name, how % 2 == 0),
            6 => self.view = Some(self.cluster.frozen()),
            7 => self.view = None,
            8 => {
                self.look(Some(how % 5));
                self.take_over();
            }
            9 => self.skew = i64::try_from(how).unwrap() * 600 - 6000,
            10 => {
                self.cluster.seconds += how;
                self.look(None);
            }
            _ => {
                self.pass(1 + how);
                self.look(None);
            }
        }
    }

    /// Somebody adds a taint, or takes away all that there are.
    fn taint(&mut self, name: &'static str, is_added: bool) {
        let taints = if is_added && self.tainted.insert(name) {
            let present = self.node(name).unwrap()["spec"]["taints"].clone();
            let mut all = present.as_array().cloned().unwrap_or_default();
            all.push(json!({"key": "mine", "effect": "NoSchedule"}));
            Value::Array(all)
        } else if is_added {
            return;
        } else {
            self.tainted.remove(name);
            Value::Null
        };
        let spec = json!({"spec": {"taints": taints}});
        self.cluster.patch("Node", name, &spec);
    }

    /// The taints that a node has to have in the end; those that evict are told beside them, where it is certain.
    fn wanted(&self, name: &str) -> (BTreeSet<String>, Option<bool>) {
        let is_ready = |name: &str| self.alive.contains(name) && !self.unwell.contains(name);
        let names = self.cluster.names("Node");
        let in_zone = names.iter().filter(|other| zone(other) == zone(name));
        let (ready, unready): (Vec<_>, Vec<_>) = in_zone.partition(|other| is_ready(other));
        let is_dark = !names.iter().any(|name| is_ready(name));
        let is_alive = self.alive.contains(name);
        let says = [
            (!is_alive, "unreachable"),
            (is_alive && self.unwell.contains(name), "not-ready"),
            (is_alive && self.pressed.contains(name), "memory-pressure"),
            (self.cordoned.contains(name), "unschedulable"),
            (self.tainted.contains(name), "mine"),
        ];
        let taints = says.into_iter().filter(|(holds, _)| *holds);
        let taints = taints.map(|(_, key)| format!("{key}:NoSchedule")).collect();
        let is_certain = !is_broken(ready.len(), unready.len());
        (taints, is_certain.then_some(!is_ready(name) && !is_dark))
    }

    fn check_all(&self) {
        for node in self.cluster.all("Node") {
            let name = node["metadata"]["name"].as_str().unwrap();
            let is_alive = self.alive.contains(name);
            let ready = match (is_alive, self.unwell.contains(name)) {
                (false, _) => "Unknown",
                (true, true) => "False",
                (true, false) => "True",
            };
            assert_eq!(said(&node, "Ready"), ready, "{name}");
            for kind in ["MemoryPressure", "DiskPressure", "PIDPressure"] {
                assert_eq!(said(&node, kind) == "Unknown", !is_alive, "{name}: {kind}");
            }
            let (wanted, evicts) = self.wanted(name);
            let (evicting, others): (BTreeSet<String>, BTreeSet<String>) = taints(&node)
                .into_iter()
                .partition(|taint| taint.ends_with(":NoExecute"));
            assert_eq!(others, wanted, "{name}");
            assert!(
                evicts.is_none_or(|evicts| evicts != evicting.is_empty()),
                "{name}: {evicting:?}"
            );
            let key = if is_alive { "not-ready" } else { "unreachable" };
            let own = format!("{key}:NoExecute");
            assert!(evicting.iter().all(|taint| *taint == own), "{name}");
            assert!(evicting.is_empty() || ready != "True", "{name}");
            let pod = self.cluster.get("Pod", &format!("p-{name}")).unwrap();
            assert_eq!(said(&pod, "Ready") == "True", is_alive, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]
    #[test]
    fn who_is_silent_is_known_and_nobody_else(acts in prop::collection::vec((0_u8..20, 0_usize..7, 0_u64..20), 0..80)) {
        let mut model = Model::new();
        for act in acts {
            model.act(act);
        }
        model.view = None;
        for _ in 0..60 {
            model.pass(5);
            model.look(None);
        }
        model.check_all();
        let state = |model: &Model| (model.cluster.all("Node"), model.cluster.all("Pod"), model.cluster.events.len());
        let before = state(&model);
        for _ in 0..4 {
            model.pass(5);
            model.look(None);
        }
        prop_assert_eq!(state(&model), before, "it does not come to rest");
    }
}
