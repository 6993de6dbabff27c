use super::*;
use crate::object::Node;
use crate::plugins::testing;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

fn first(_: usize) -> usize {
    0
}

fn asking(name: &str, cpu: &str) -> Pod {
    testing::labelled_pod(
        name,
        json!({}),
        json!({"containers": [{"resources": {"requests": {"cpu": cpu}}}]}),
    )
}

fn unschedulable(pod: &Pod, snapshot: &Snapshot) -> Diagnosis {
    match schedule(pod, snapshot, &Profile::default(), 0, &mut first) {
        Decision::Unschedulable(diagnosis) => diagnosis,
        bound => panic!("{bound:?}"),
    }
}

#[test]
fn the_emptiest_node_wins() {
    let mut there = asking("there", "1");
    there.node_name = "a".into();
    let nodes = vec![
        testing::node("a", json!({}), json!({})),
        testing::node("b", json!({}), json!({})),
    ];
    let cluster = testing::snapshot(nodes, vec![there]);
    let decision = schedule(
        &asking("p", "1"),
        &cluster,
        &Profile::default(),
        0,
        &mut first,
    );
    assert_eq!(
        decision,
        Decision::Bind {
            node: "b".into(),
            feasible: 2,
            evaluated: 2,
        }
    );
}

#[test]
fn the_message_counts_and_sorts_the_reasons() {
    let tainted = json!({"taints": [{"key": "a", "effect": "NoSchedule"}]});
    let nodes = vec![
        testing::node("a", json!({}), tainted),
        testing::node("b", json!({}), json!({})),
        testing::node("c", json!({}), json!({})),
    ];
    let cluster = testing::snapshot(nodes, vec![]);
    let diagnosis = unschedulable(&asking("p", "5"), &cluster);
    assert_eq!(
        diagnosis.message(None),
        "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu."
    );
    assert_eq!(
        diagnosis.plugins,
        BTreeSet::from(["NodeResourcesFit", "TaintToleration"])
    );
}

#[test]
fn a_cluster_without_nodes_says_so() {
    let diagnosis = unschedulable(&asking("p", "1"), &Snapshot::default());
    assert_eq!(
        diagnosis.message(None),
        "no nodes available to schedule pods"
    );
    assert!(diagnosis.plugins.is_empty());
}

#[test]
fn a_pod_pinned_by_field_is_refused_by_the_rest() {
    let nodes = vec![
        testing::node("a", json!({}), json!({})),
        testing::node("b", json!({}), json!({})),
    ];
    let cluster = testing::snapshot(nodes, vec![]);
    let term =
        json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]});
    let pod = testing::pod(json!({
        "containers": [{"resources": {"requests": {"cpu": "5"}}}],
        "affinity": {"nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}},
    }));
    assert_eq!(
        unschedulable(&pod, &cluster).message(None),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
}

#[test]
fn room_kept_for_a_nominated_pod_is_not_given_away_below_its_priority() {
    let mut cluster = testing::snapshot(vec![testing::node("a", json!({}), json!({}))], vec![]);
    let mut nominated = asking("n", "3");
    nominated.priority = 10;
    cluster.nominate(Arc::new(nominated), "a");
    assert_eq!(
        unschedulable(&asking("p", "2"), &cluster).message(None),
        "0/1 nodes are available: 1 Insufficient cpu."
    );
    let mut higher = asking("h", "2");
    higher.priority = 11;
    assert!(matches!(
        schedule(&higher, &cluster, &Profile::default(), 0, &mut first),
        Decision::Bind { .. }
    ));
}

#[test]
fn a_profile_that_looks_at_a_part_of_the_nodes_goes_round() {
    let nodes = (0..300).map(|n| testing::node(&format!("n{n:03}"), json!({}), json!({})));
    let cluster = testing::snapshot(nodes.collect(), vec![]);
    let profile = Profile {
        percentage: Some(10),
        ..Profile::default()
    };
    let decide = |start: usize| schedule(&asking("p", "1"), &cluster, &profile, start, &mut first);
    let bound = |node: &str, evaluated| Decision::Bind {
        node: node.into(),
        feasible: 100,
        evaluated,
    };
    assert_eq!(decide(0), bound("n000", 100));
    assert_eq!(decide(250), bound("n250", 100));
    assert_eq!(decide(300), bound("n000", 100));
}

/// A random pod: its requests, and whether it wants a label, tolerates the taint, takes a host port.
fn any_pod() -> impl Strategy<Value = Value> {
    (0..6i64, 0..6i64, any::<bool>(), any::<bool>(), 0..3u16).prop_map(|(cpu, memory, picky, tolerant, port)| {
        json!({
            "nodeSelector": if picky { json!({"disk": "ssd"}) } else { json!({}) },
            "tolerations": if tolerant { json!([{"operator": "Exists"}]) } else { json!([]) },
            "containers": [{
                "ports": [{"hostPort": port}],
                "resources": {"requests": {"cpu": cpu.to_string(), "memory": format!("{memory}Gi")}},
            }],
        })
    })
}

fn any_node() -> impl Strategy<Value = Value> {
    (1..9i64, 1..9i64, 1..5i64, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(cpu, memory, pods, ssd, tainted, cordoned)| {
            json!({
                "metadata": {"labels": {"disk": if ssd { "ssd" } else { "hdd" }}},
                "spec": {
                    "unschedulable": cordoned,
                    "taints": if tainted { json!([{"key": "t", "effect": "NoSchedule"}]) } else { json!([]) },
                },
                "status": {"allocatable": {
                    "cpu": cpu.to_string(), "memory": format!("{memory}Gi"), "pods": pods.to_string()}},
            })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever is scheduled, in whatever order: no node is ever overcommitted, no port given twice, no rule
    /// broken, and a refused pod names a reason for every node.
    #[test]
    fn scheduled_pods_always_fit(
        nodes in prop::collection::vec(any_node(), 1..6),
        pods in prop::collection::vec(any_pod(), 1..30),
        seed in any::<usize>(),
    ) {
        let mut snapshot = Snapshot::default();
        for (index, mut node) in nodes.into_iter().enumerate() {
            node["metadata"]["name"] = json!(format!("n{index}"));
            snapshot.set_node(Arc::new(Node::compile(&node)));
        }
        for (index, spec) in pods.into_iter().enumerate() {
            let pod = Arc::new(testing::labelled_pod(&format!("p{index}"), json!({}), spec));
            match schedule(&pod, &snapshot, &Profile::default(), seed, &mut |n| seed.wrapping_add(index) % n) {
                Decision::Bind { node, .. } => {
                    let target = snapshot.node(&node).unwrap().node.clone().unwrap();
                    prop_assert!(pod.wants_node(&target.name, &target.labels));
                    prop_assert!(pod.tolerates_all(&target.taints));
                    prop_assert!(!target.unschedulable || !pod.tolerations.is_empty());
                    snapshot.assume(pod, &node);
                }
                Decision::Unschedulable(diagnosis) => {
                    prop_assert_eq!(diagnosis.rejected.len(), snapshot.node_count());
                    prop_assert!(diagnosis.rejected.values().all(|r| !r.reasons.is_empty()));
                }
            }
            for info in snapshot.nodes() {
                let node = info.node.as_ref().unwrap();
                prop_assert!(info.requested.milli_cpu <= node.allocatable.milli_cpu);
                prop_assert!(info.requested.memory <= node.allocatable.memory);
                prop_assert!(info.pods.len() as i64 <= node.pods_max);
                let mut ports: Vec<_> = info.pods.values().flat_map(|pod| &pod.host_ports).collect();
                let total = ports.len();
                ports.sort();
                ports.dedup();
                prop_assert_eq!(ports.len(), total);
            }
        }
    }
}
