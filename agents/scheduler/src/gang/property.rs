//! The laws of groups, over random clusters, pods, failures and changes of the leader.

use super::{Key, Verdict, place};
use crate::config::Config;
use crate::object::{Node, Pod};
use crate::world::World;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

const CONFIG: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
    - plugins: {multiPoint: {enabled: [{name: GangScheduling}]}}\n";
const GROUPS: usize = 4;
/// Longer than any backoff.
const LONG: u64 = 20_000;

#[derive(Debug, Clone)]
enum Step {
    /// A pod of this group, the last being none, that asks for so many cores.
    Create(usize, u8),
    /// A node with so many cores.
    AddNode(u8),
    /// The pod at this index goes.
    Delete(usize),
    /// So many decisions. Bindings from the index on are refused when it is given, by a server that knows what belongs together
    /// or by another one.
    Decide(u8, Option<(u8, bool)>),
    /// The scheduler starts anew from what the API says.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..=GROUPS, 1..4_u8).prop_map(|(group, cpu)| Step::Create(group, cpu)),
        2 => (1..9_u8).prop_map(Step::AddNode),
        1 => (0..50_usize).prop_map(Step::Delete),
        5 => (1..5_u8, prop::option::weighted(0.2, (0..4_u8, any::<bool>()))).prop_map(|(n, f)| Step::Decide(n, f)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the API says: pods by their number, and nodes.
struct Cluster {
    pods: BTreeMap<usize, Pod>,
    nodes: Vec<Node>,
    world: World,
    made: usize,
    now: u64,
    /// Groups of which a pod was deleted, or was not bound although it had a node.
    disturbed: Vec<Key>,
}

fn min_count(group: usize) -> usize {
    group + 2
}

impl Cluster {
    fn new() -> Cluster {
        Cluster {
            pods: BTreeMap::new(),
            nodes: Vec::new(),
            world: World::new(Arc::new(Config::parse(CONFIG).unwrap())),
            made: 0,
            now: 0,
            disturbed: Vec::new(),
        }
    }

    fn tell(&mut self, number: usize) {
        let name = ("d".to_owned(), format!("p{number}"));
        let pod = self.pods.get(&number).cloned().map(Arc::new);
        self.world.set_pod(name, pod, self.now);
    }

    fn create(&mut self, group: usize, cpu: u8) {
        let name = format!("p{}", self.made);
        let mut body = json!({"metadata": {"name": name, "namespace": "d", "uid": name},
            "spec": {"containers": [{"resources": {"requests": {"cpu": cpu}}}]}});
        if group < GROUPS {
            body["metadata"]["labels"] =
                json!({"scheduling.kontiki.io/pod-group": group.to_string()});
            body["metadata"]["annotations"] =
                json!({"scheduling.kontiki.io/pod-group-min-count": min_count(group).to_string()});
        }
        self.pods.insert(self.made, Pod::compile(&body));
        self.tell(self.made);
        self.made += 1;
    }

    fn add_node(&mut self, cpu: u32) {
        let name = format!("n{}", self.nodes.len());
        let node = Node::compile(&json!({"metadata": {"name": name},
            "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "100"}}}));
        self.world
            .set_node(&name, Some(Arc::new(node.clone())), self.now);
        self.nodes.push(node);
    }

    fn delete(&mut self, at: usize) {
        let Some(number) = self.pods.keys().nth(at).copied() else {
            return;
        };
        let gone = self.pods.remove(&number);
        self.disturbed.extend(gone.as_ref().and_then(super::key));
        self.tell(number);
    }

    fn restart(&mut self) {
        self.world = World::new(Arc::new(Config::parse(CONFIG).unwrap()));
        for node in self.nodes.clone() {
            self.world
                .set_node(&node.name.clone(), Some(Arc::new(node)), self.now);
        }
        for number in self.pods.keys().copied().collect::<Vec<_>>() {
            self.tell(number);
        }
    }

    /// One decision, and its bindings, of which those from `fails` on are refused. Returns whether there was one.
    fn decide(&mut self, fails: Option<(u8, bool)>) -> bool {
        let Some(first) = self.world.pop(self.now) else {
            return false;
        };
        let Some(key) = self.world.queue.gang_of(&first.pod) else {
            // Pods without a group take room, or do not; here they only have to come.
            return true;
        };
        let mut waiting = self.world.queue.take_gang(&key);
        waiting.push(first);
        match place(&mut self.world, &key, waiting, &mut 0, &mut |_| 0) {
            Verdict::Placed { bound, refused } => {
                assert!(self.world.is_gang_placed(&key), "{key:?}");
                for (queued, diagnosis) in refused {
                    self.world.queue.park(queued, diagnosis.plugins, self.now);
                }
                let uids = bound.iter().map(|placed| &*placed.queued.pod.uid);
                let needed = self.world.needed_of(&key, uids);
                let all = bound.len();
                let (stored, knows) = match fails {
                    Some((fails, knows)) => (all.min(fails.into()), knows),
                    None => (all, true),
                };
                let stored = if knows && stored < needed { 0 } else { stored };
                for (at, placed) in bound.into_iter().enumerate() {
                    let uid = placed.queued.pod.uid.clone();
                    if at >= stored {
                        if !knows {
                            self.disturbed.push(key.clone());
                        }
                        self.world.binding_failed(placed.queued, self.now);
                        continue;
                    }
                    self.world.snapshot.finish_binding(&uid, self.now);
                    let number: usize = uid[1..].parse().unwrap();
                    if let Some(pod) = self.pods.get_mut(&number) {
                        pod.node_name = placed.node;
                    }
                    self.tell(number);
                }
            }
            Verdict::Refused {
                waiting,
                plugins,
                message,
                ..
            } => {
                assert!(message.contains(" are needed: "), "{message}");
                for queued in waiting {
                    assert!(!self.world.snapshot.holds(&queued.pod.uid));
                    self.world.queue.park(queued, plugins.clone(), self.now);
                }
            }
            Verdict::Incomplete(waiting) => {
                for queued in waiting {
                    self.world.queue.put_back(queued, self.now);
                }
            }
        }
        true
    }

    /// By group: how many pods there are, and how many have a node.
    fn counts(&self) -> BTreeMap<Key, (usize, usize)> {
        let mut counts: BTreeMap<Key, (usize, usize)> = BTreeMap::new();
        for pod in self.pods.values() {
            if let Some(key) = super::key(pod) {
                let (all, bound) = counts.entry(key).or_default();
                *all += 1;
                *bound += usize::from(!pod.node_name.is_empty());
            }
        }
        counts
    }

    fn nothing_is_left_halfway(&self) {
        for node in self.world.snapshot.nodes() {
            let of_api = self
                .pods
                .values()
                .filter(|pod| pod.node_name == node.name());
            let asked: i64 = of_api.map(|pod| pod.requests.milli_cpu).sum();
            assert_eq!(node.requested.milli_cpu, asked, "{}", node.name());
        }
        for (key, (_, bound)) in self.counts() {
            let needed = min_count(key.1.parse().unwrap());
            assert!(
                bound == 0 || bound >= needed || self.disturbed.contains(&key),
                "{bound} of {key:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_group_runs_whole_or_not_at_all_and_never_stays_half(steps in steps()) {
        let mut cluster = Cluster::new();
        for step in steps {
            cluster.now += 1_000;
            match step {
                Step::Create(group, cpu) => cluster.create(group, cpu),
                Step::AddNode(cpu) => cluster.add_node(cpu.into()),
                Step::Delete(at) => cluster.delete(at),
                Step::Decide(times, fails) => {
                    for _ in 0..times {
                        cluster.decide(fails);
                    }
                }
                Step::Restart => cluster.restart(),
            }
            cluster.nothing_is_left_halfway();
        }
        // With room enough, and nothing failing any more, every group that is complete runs as a whole.
        cluster.add_node(1_000);
        for _ in 0..4 {
            cluster.now += LONG;
            let mut decisions = 0;
            while cluster.decide(None) {
                decisions += 1;
                prop_assert!(decisions < 1_000, "it does not come to rest");
            }
        }
        cluster.nothing_is_left_halfway();
        for (key, (all, bound)) in cluster.counts() {
            if all >= min_count(key.1.parse().unwrap()) {
                prop_assert_eq!(bound, all, "{:?}", key);
            }
        }
    }
}
