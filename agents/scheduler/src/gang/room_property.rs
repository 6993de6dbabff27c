//! The laws of room for groups, over random clusters, and whom they prefer.

use super::{Key, Relief, Verdict, place};
use crate::config::Config;
use crate::object::{Node, Pod};
use crate::preempt::Budget;
use crate::world::World;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const CONFIG: &str = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n\
    - plugins: {multiPoint: {enabled: [{name: GangScheduling}]}}\n";

fn key(group: &str) -> Key {
    ("d".into(), group.into())
}

/// A pod of a group, if it is of one, on a node, if it is on one.
fn pod(name: &str, cpu: u8, priority: i32, group: Option<(&str, usize)>, on: &str) -> Value {
    let mut metadata =
        json!({"name": name, "namespace": "d", "uid": name, "labels": {"name": name}});
    if let Some((group, min_count)) = group {
        metadata["labels"]["scheduling.kontiki.io/pod-group"] = json!(group);
        metadata["annotations"] =
            json!({"scheduling.kontiki.io/pod-group-min-count": min_count.to_string()});
    }
    json!({"metadata": metadata, "spec": {"nodeName": on, "priority": priority,
        "containers": [{"resources": {"requests": {"cpu": cpu}}}]}})
}

struct Cluster {
    world: World,
    pods: BTreeMap<String, Pod>,
    nodes: BTreeMap<String, i64>,
}

impl Cluster {
    fn new(nodes: &[u8]) -> Cluster {
        let mut world = World::new(Arc::new(Config::parse(CONFIG).unwrap()));
        let mut all = BTreeMap::new();
        for (at, cpu) in nodes.iter().enumerate() {
            let name = format!("n{at}");
            let node = Node::compile(&json!({"metadata": {"name": name},
                "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "100"}}}));
            world.set_node(&name, Some(Arc::new(node)), 0);
            all.insert(name, i64::from(*cpu) * 1_000);
        }
        Cluster {
            world,
            pods: BTreeMap::new(),
            nodes: all,
        }
    }

    fn add(&mut self, pod: &Value) {
        let pod = Pod::compile(pod);
        let name = (pod.namespace.clone(), pod.name.clone());
        self.pods.insert(pod.uid.clone(), pod.clone());
        self.world.set_pod(name, Some(Arc::new(pod)), 0);
    }

    /// No pod of this name may go.
    fn protect(&mut self, name: &str) {
        let budget = Budget::compile(&json!({"metadata": {"namespace": "d"},
            "spec": {"selector": {"matchLabels": {"name": name}}}, "status": {"disruptionsAllowed": 0}}));
        let name = ("d".to_owned(), format!("of-{name}"));
        self.world.set_budget(name, Some(Arc::new(budget)));
    }

    /// What becomes of the group; nothing if it fits as it is, or is not complete.
    fn relief(&mut self, group: &str) -> Option<Relief> {
        let waiting = self.world.queue.take_gang(&key(group));
        match place(&mut self.world, &key(group), waiting, &mut 0, &mut |_| 0) {
            Verdict::Refused {
                relief, waiting, ..
            } => {
                for queued in waiting {
                    self.world.queue.put_back(queued, 0);
                }
                Some(relief)
            }
            Verdict::Placed { .. } | Verdict::Incomplete(_) => None,
        }
    }

    /// For how many pods of the group preemption looks at the nodes when nothing can be bound.
    fn searches(&mut self, group: &str) -> usize {
        let waiting = self.world.queue.take_gang(&key(group));
        let mut searches = 0;
        let pick = &mut |_| {
            searches += 1;
            0
        };
        let verdict = place(&mut self.world, &key(group), waiting, &mut 0, pick);
        assert!(matches!(
            verdict,
            Verdict::Refused {
                relief: Relief::Useless(Some(_)),
                ..
            }
        ));
        searches
    }

    /// Names of those who go, or none.
    fn victims(&mut self, group: &str) -> Vec<String> {
        match self.relief(group) {
            Some(Relief::Evict { victims, .. }) => {
                let names: BTreeSet<String> = victims.iter().map(|(v, _)| v.name.clone()).collect();
                names.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// Whether there is room on every node without the victims and with these.
    fn has_room(&self, victims: &BTreeSet<String>, nodes: &[(Arc<Pod>, String)]) -> bool {
        self.nodes.iter().all(|(name, cpu)| {
            let there = self
                .pods
                .values()
                .filter(|pod| pod.node_name == *name && !victims.contains(&pod.uid));
            let coming = nodes.iter().filter(|(_, node)| node == name);
            let there = there.chain(coming.map(|(pod, _)| &**pod));
            there.map(|pod| pod.requests.milli_cpu).sum::<i64>() <= *cpu
        })
    }

    fn of_group(&self, group: &Key) -> Vec<&Pod> {
        let of = |pod: &&Pod| super::key(pod).as_ref() == Some(group) && !pod.node_name.is_empty();
        self.pods.values().filter(of).collect()
    }
}

#[test]
fn nobody_goes_unless_the_whole_group_fits_then() {
    let mut cluster = Cluster::new(&[4, 4]);
    cluster.add(&pod("low", 4, 0, None, "n0"));
    cluster.add(&pod("high", 4, 20, None, "n1"));
    for name in ["a", "b"] {
        cluster.add(&pod(name, 3, 10, Some(("g", 2)), ""));
    }
    assert!(matches!(
        cluster.relief("g"),
        Some(Relief::Useless(Some(_)))
    ));
    cluster.add(&pod("high", 4, 9, None, "n1"));
    assert_eq!(cluster.victims("g"), ["high", "low"]);
}

#[test]
fn for_pods_that_are_alike_room_is_looked_for_once() {
    let mut cluster = Cluster::new(&[4]);
    cluster.add(&pod("high", 4, 20, None, "n0"));
    for at in 0..20 {
        let mut alike = pod(&format!("a{at}"), 1, 10, Some(("g", 5)), "");
        alike["metadata"]["labels"]["name"] = "a".into();
        cluster.add(&alike);
    }
    assert_eq!(cluster.searches("g"), 1);
}

#[test]
fn nobody_looks_for_room_for_the_rest_of_a_group_that_cannot_become_whole() {
    let mut cluster = Cluster::new(&[4]);
    cluster.add(&pod("high", 4, 20, None, "n0"));
    for at in 0..10 {
        let name = format!("a{at}");
        cluster.add(&pod(&name, 1, at, Some(("g", 8)), ""));
    }
    // The third that is refused leaves seven for eight.
    assert_eq!(cluster.searches("g"), 3);
}

#[test]
fn of_a_group_that_has_more_than_it_needs_the_surplus_goes_and_else_all_of_it() {
    let mut cluster = Cluster::new(&[2, 2, 2]);
    for (at, name) in ["x", "y", "z"].iter().enumerate() {
        cluster.add(&pod(name, 2, 0, Some(("other", 2)), &format!("n{at}")));
    }
    for name in ["a", "b"] {
        cluster.add(&pod(name, 1, 10, Some(("g", 2)), ""));
    }
    assert_eq!(cluster.victims("g").len(), 1);
    for name in ["x", "y", "z"] {
        let node = cluster.pods[name].node_name.clone();
        cluster.add(&pod(name, 2, 0, Some(("other", 3)), &node));
    }
    assert_eq!(cluster.victims("g"), ["x", "y", "z"]);
}

#[test]
fn one_pod_of_its_own_goes_rather_than_a_group() {
    let mut cluster = Cluster::new(&[2, 2, 2]);
    cluster.add(&pod("x", 2, 0, Some(("other", 2)), "n0"));
    cluster.add(&pod("y", 2, 0, Some(("other", 2)), "n1"));
    cluster.add(&pod("alone", 2, 0, None, "n2"));
    for name in ["a", "b"] {
        cluster.add(&pod(name, 1, 10, Some(("g", 2)), ""));
    }
    assert_eq!(cluster.victims("g"), ["alone"]);
}

#[test]
fn a_budget_turns_the_choice_and_counts_for_all_of_the_group() {
    let mut cluster = Cluster::new(&[1, 1, 1]);
    for (at, priority) in [1, 2, 3].into_iter().enumerate() {
        cluster.add(&pod(
            &format!("v{at}"),
            1,
            priority,
            None,
            &format!("n{at}"),
        ));
    }
    for name in ["a", "b"] {
        cluster.add(&pod(name, 1, 10, Some(("g", 2)), ""));
    }
    assert_eq!(cluster.victims("g"), ["v0", "v1"]);
    cluster.protect("v1");
    assert_eq!(cluster.victims("g"), ["v0", "v2"]);
    // A budget does not save anybody in the end.
    cluster.protect("v2");
    assert_eq!(cluster.victims("g"), ["v0", "v1"]);
}

#[test]
fn a_group_is_as_important_as_its_most_important_pod() {
    let mut cluster = Cluster::new(&[2, 2]);
    cluster.add(&pod("x", 2, 0, Some(("other", 2)), "n0"));
    cluster.add(&pod("y", 2, 10, Some(("other", 2)), "n1"));
    cluster.add(&pod("a", 1, 10, Some(("g", 2)), ""));
    cluster.add(&pod("b", 1, 10, Some(("g", 2)), ""));
    assert!(matches!(cluster.relief("g"), Some(Relief::Useless(_))));
}

#[test]
fn while_the_victims_leave_nobody_else_has_to_and_the_room_is_kept() {
    let mut cluster = Cluster::new(&[2, 2, 2]);
    for at in 0..3 {
        cluster.add(&pod(&format!("v{at}"), 2, 0, None, &format!("n{at}")));
    }
    for name in ["a", "b"] {
        cluster.add(&pod(name, 2, 10, Some(("g", 2)), ""));
    }
    let waiting = cluster.world.queue.take_gang(&key("g"));
    let verdict = place(&mut cluster.world, &key("g"), waiting, &mut 0, &mut |_| 0);
    let Verdict::Refused {
        waiting,
        relief: Relief::Evict { nodes, victims },
        ..
    } = verdict
    else {
        panic!("{verdict:?}")
    };
    assert_eq!((nodes.len(), victims.len()), (2, 2));
    for (pod, node) in nodes {
        cluster.world.snapshot.nominate(pod, &node);
    }
    for queued in waiting {
        cluster.world.queue.put_back(queued, 0);
    }
    // Also before the API shows that they leave, as long as somebody is about to say so.
    let first = victims[0].0.uid.clone();
    cluster.world.snapshot.begin_eviction(&first);
    assert!(matches!(cluster.relief("g"), Some(Relief::Waiting)));
    cluster.world.snapshot.end_eviction(&first);
    let mut leaving = pod(&victims[0].0.name, 2, 0, None, &victims[0].0.node_name);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    cluster.add(&leaving);
    assert!(matches!(cluster.relief("g"), Some(Relief::Waiting)));
    let kept = |cluster: &Cluster, name| cluster.world.snapshot.nominated_node(name).is_some();
    assert!(kept(&cluster, "a") && kept(&cluster, "b"));
    // Nor longer than there is somebody to keep it for.
    cluster.world.set_pod(("d".into(), "b".into()), None, 0);
    assert!(!kept(&cluster, "a"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_laws_of_room(
        nodes in prop::collection::vec(1..7_u8, 1..6),
        there in prop::collection::vec((1..4_u8, -3..4_i32, prop::option::of(0..3_usize), 0..6_usize), 0..16),
        group in prop::collection::vec((1..4_u8, 0..4_i32), 2..5),
        spare in 0..2_usize,
        protected in prop::collection::btree_set(0..16_usize, 0..4),
    ) {
        let mut cluster = Cluster::new(&nodes);
        for (at, (cpu, priority, of, on)) in there.into_iter().enumerate() {
            let of: Option<usize> = of;
            let name = format!("p{at}");
            let others = of.map(|of| format!("o{of}"));
            let others = others.as_deref().map(|name| (name, 2));
            let node = format!("n{}", on % nodes.len());
            let object = pod(&name, cpu, priority, others, &node);
            // Nodes are never too full before.
            if cluster.has_room(&BTreeSet::new(), &[(Arc::new(Pod::compile(&object)), node)]) {
                cluster.add(&object);
            }
        }
        for at in protected {
            cluster.protect(&format!("p{at}"));
        }
        let min_count = (group.len() - spare).max(2);
        for (at, (cpu, priority)) in group.iter().enumerate() {
            cluster.add(&pod(&format!("g{at}"), *cpu, *priority, Some(("g", min_count)), ""));
        }
        let before: Vec<_> = cluster.world.snapshot.nodes().map(|info| info.requested.clone()).collect();
        let Some(relief) = cluster.relief("g") else {
            return Ok(());
        };
        let after: Vec<_> = cluster.world.snapshot.nodes().map(|info| info.requested.clone()).collect();
        prop_assert_eq!(before, after, "looking changes nothing");
        let Relief::Evict { nodes, victims } = relief else {
            return Ok(());
        };
        prop_assert!(!victims.is_empty() && nodes.len() >= min_count);
        let gone: BTreeSet<String> = victims.iter().map(|(victim, _)| victim.uid.clone()).collect();
        prop_assert_eq!(gone.len(), victims.len());
        prop_assert!(cluster.has_room(&gone, &nodes), "{:?} {:?}", nodes, gone);
        let mut broken = BTreeMap::new();
        for (victim, pod) in &victims {
            prop_assert!(victim.priority < pod.priority);
            let Some(other) = super::key(victim) else { continue };
            prop_assert_ne!(&other, &key("g"));
            let all = cluster.of_group(&other);
            let highest = all.iter().map(|pod| pod.priority).max();
            prop_assert!(highest < Some(pod.priority), "a group is as important as its most important pod");
            let left: Vec<_> = all.iter().filter(|pod| !gone.contains(&pod.uid)).collect();
            if left.len() < 2 {
                prop_assert!(left.is_empty(), "nothing is left of a group that is of no use any more");
                broken.insert(other, all.len());
            }
        }
        // Nobody goes for nothing.
        for (victim, _) in &victims {
            let mut without = gone.clone();
            match super::key(victim).filter(|key| broken.contains_key(key)) {
                Some(key) => without.retain(|uid| cluster.of_group(&key).iter().all(|pod| pod.uid != *uid)),
                None => without.retain(|uid| *uid != victim.uid),
            }
            prop_assert!(!cluster.has_room(&without, &nodes), "{} could have stayed", victim.uid);
        }
    }
}
