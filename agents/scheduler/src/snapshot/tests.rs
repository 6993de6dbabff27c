use super::*;
use serde_json::{Value, json};

fn pod(uid: &str, node: &str) -> Arc<Pod> {
    Arc::new(Pod::compile(&json!({
        "metadata": {"name": uid, "namespace": "default", "uid": uid},
        "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": "1"}},
            "ports": [{"hostPort": 80}]}]},
    })))
}

fn node(name: &str) -> Arc<Node> {
    Arc::new(Node::compile(&json!({
        "metadata": {"name": name},
        "status": {"allocatable": {"cpu": "4", "pods": "10"}, "images": [{"names": ["a:1"], "sizeBytes": 5}]},
    })))
}

fn requested(snapshot: &Snapshot, name: &str) -> i64 {
    snapshot.node(name).unwrap().requested.milli_cpu
}

#[test]
fn an_assumed_pod_occupies_until_forgotten_and_is_confirmed_by_the_watch() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n1"));
    snapshot.assume(pod("a", ""), "n1");
    assert_eq!(requested(&snapshot, "n1"), 1000);
    assert!(
        !snapshot
            .node("n1")
            .unwrap()
            .ports_free(&pod("b", "").host_ports)
    );
    snapshot.forget("a");
    assert_eq!(requested(&snapshot, "n1"), 0);
    snapshot.assume(pod("a", ""), "n1");
    snapshot.set_pod(pod("a", "n1"));
    snapshot.forget("a");
    assert_eq!(
        requested(&snapshot, "n1"),
        1000,
        "a confirmed pod is not forgotten"
    );
}

#[test]
fn a_pod_that_only_tells_how_it_fares_does_not_change_its_node() {
    let told = |version: &str, labels: Value| {
        let mut object = json!({
            "metadata": {"name": "a", "namespace": "default", "uid": "a", "resourceVersion": version, "labels": labels},
            "spec": {"nodeName": "n1", "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                [{"topologyKey": "zone", "labelSelector": {}}]}}},
        });
        let start = format!("1970-01-01T00:00:00.00000{version}Z");
        object["status"] = json!({"startTime": start, "conditions": [{"type": "PodScheduled", "status": version}]});
        Arc::new(Pod::compile(&object))
    };
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n1"));
    let mut first = Pod::clone(&told("1", json!({})));
    first.node_name.clear();
    snapshot.assume(Arc::new(first), "n1");
    let before = snapshot.journal().end();
    snapshot.set_pod(told("2", json!({})));
    assert_eq!(snapshot.journal().end(), before);
    assert_eq!(snapshot.assumed_node("a"), None, "it is confirmed");
    assert_eq!(snapshot.pod("a").unwrap().started, 2);
    let (_, known) = snapshot.pods_with_affinity().next().unwrap();
    assert_eq!(known.started, 2);
    assert_eq!(
        snapshot.node("n1").unwrap().pods_with_affinity()[0].started,
        2
    );
    snapshot.set_pod(told("3", json!({"app": "web"})));
    assert!(snapshot.journal().end() > before);
    assert_eq!(snapshot.pod("a").unwrap().started, 3);
}

#[test]
fn sums_beyond_all_numbers_are_right_again_when_their_pods_are_gone() {
    let asking = |uid: &str, memory: &str| {
        Arc::new(Pod::compile(&json!({
            "metadata": {"name": uid, "namespace": "default", "uid": uid},
            "spec": {"nodeName": "n1", "containers": [{"resources": {"requests": {"cpu": "1", "memory": memory, "x/y": "9E"}}}]},
        })))
    };
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n1"));
    for pod in [asking("a", "1Gi"), asking("b", "8E"), asking("c", "8E")] {
        snapshot.set_pod(pod);
    }
    snapshot.remove_pod("b");
    snapshot.remove_pod("c");
    let info = snapshot.node("n1").unwrap();
    assert_eq!(info.requested, asking("a", "1Gi").requests);
    assert_eq!(info.scored, asking("a", "1Gi").scored);
}

#[test]
fn an_assumption_expires_only_after_binding_has_finished() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n1"));
    snapshot.assume(pod("a", ""), "n1");
    assert!(snapshot.expire(u64::MAX).is_empty());
    snapshot.finish_binding("a", 10);
    assert_eq!(snapshot.next_expiry(), Some(10 + ASSUMED_TTL_MS));
    assert!(snapshot.expire(ASSUMED_TTL_MS).is_empty());
    assert_eq!(snapshot.expire(10 + ASSUMED_TTL_MS).len(), 1);
    assert_eq!(requested(&snapshot, "n1"), 0);
}

#[test]
fn each_assumption_expires_in_its_time_whatever_became_of_earlier_ones() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n1"));
    for (uid, finished) in [("b", 20), ("a", 10), ("c", 30), ("d", 40)] {
        snapshot.assume(pod(uid, ""), "n1");
        snapshot.finish_binding(uid, finished);
    }
    snapshot.set_pod(pod("a", "n1"));
    let mut expired = |since: Millis| -> Vec<String> {
        let pods = snapshot.expire(since + ASSUMED_TTL_MS);
        pods.iter().map(|pod| pod.uid.clone()).collect()
    };
    assert!(expired(19).is_empty());
    assert_eq!(expired(20), ["b"]);
    assert!(expired(29).is_empty());
    assert_eq!(expired(40), ["c", "d"]);
    assert!(expired(Millis::MAX - ASSUMED_TTL_MS).is_empty());
    assert_eq!(requested(&snapshot, "n1"), 1000);
}

#[test]
fn a_pod_that_moves_or_a_node_that_goes_leaves_nothing_behind() {
    let mut snapshot = Snapshot::default();
    snapshot.set_node(node("n1"));
    snapshot.set_node(node("n2"));
    assert_eq!(snapshot.image_node_count("a:1"), 2);
    snapshot.set_pod(pod("a", "n1"));
    snapshot.set_pod(pod("a", "n2"));
    assert_eq!(
        (requested(&snapshot, "n1"), requested(&snapshot, "n2")),
        (0, 1000)
    );
    snapshot.remove_node("n2");
    assert_eq!(
        (snapshot.node_count(), snapshot.image_node_count("a:1")),
        (1, 1)
    );
    snapshot.set_node(node("n2"));
    assert_eq!(
        requested(&snapshot, "n2"),
        1000,
        "pods outlive their node's absence"
    );
    snapshot.remove_pod("a");
    snapshot.remove_node("n2");
    assert_eq!(snapshot.slot_of_node.len(), 1);
    snapshot.set_node(node("n3"));
    assert_eq!(snapshot.slots.len(), 2, "the slot is used again");
}
