//! A service with the annotation, its nodes and its slices, as the controller sees them.

use super::MODE;
use crate::endpoint_slice::reconcile;
use crate::simulation::{Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ENABLED: &str = "TopologyAwareHintsEnabled";
const DISABLED: &str = "TopologyAwareHintsDisabled";

fn key() -> Key {
    Key::new("a", "web")
}

/// Two nodes of the same size in zones `a` and `b`, and so many pods on them in turn.
fn cluster(pods: usize) -> Simulation {
    let mut cluster = Simulation::new("");
    cluster.put(json!({"kind": "Service",
        "metadata": {"name": "web", "namespace": "a", "uid": "s", "annotations": {MODE: "Auto"}},
        "spec": {"selector": {"app": "web"}, "clusterIP": "10.0.0.1", "ports": [{"port": 80}],
            "trafficDistribution": "PreferSameNode"}}));
    for (name, zone) in [("n0", "a"), ("n1", "b")] {
        cluster.put(json!({"kind": "Node",
            "metadata": {"name": name, "uid": name, "labels": {"topology.kubernetes.io/zone": zone}},
            "status": {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]}}));
    }
    for number in 0..pods {
        let name = format!("p{number}");
        cluster.put(json!({"kind": "Pod",
            "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": format!("n{}", number % 2)},
            "status": {"phase": "Running", "podIP": format!("10.1.0.{}", number + 1),
                "conditions": [{"type": "Ready", "status": "True"}]}}));
    }
    cluster
}

fn settle(cluster: &mut Simulation) {
    rest(cluster, 5, "the service", |cluster| {
        cluster.step(&key(), reconcile)
    });
}

/// The hints of each pod, after the controller has come to rest.
fn hints(cluster: &mut Simulation) -> BTreeMap<String, Value> {
    settle(cluster);
    let slices = cluster.all("EndpointSlice").into_iter();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().unwrap().clone());
    endpoints
        .map(|endpoint| {
            let pod = endpoint["targetRef"]["name"].as_str().unwrap().to_owned();
            (pod, endpoint["hints"].clone())
        })
        .collect()
}

fn for_zones(zones: [&str; 4]) -> BTreeMap<String, Value> {
    let zones = zones.into_iter().enumerate();
    zones
        .map(|(number, zone)| (format!("p{number}"), super::for_zone(zone)))
        .collect()
}

#[test]
fn hints_follow_the_nodes_and_the_annotation() {
    let mut cluster = cluster(4);
    assert_eq!(hints(&mut cluster), for_zones(["a", "b", "a", "b"]));
    assert_eq!(cluster.events, [ENABLED]);

    let cpu = |cpu: &str| json!({"status": {"allocatable": {"cpu": cpu}}});
    cluster.patch("Node", "n0", &cpu("12"));
    assert_eq!(hints(&mut cluster), for_zones(["a", "a", "a", "b"]));
    cluster.patch("Node", "n0", &cpu("4"));
    assert_eq!(hints(&mut cluster), for_zones(["a", "b", "a", "b"]));
    assert_eq!(cluster.events, [ENABLED], "they were there all the time");

    let zone = |zone: &str| json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
    cluster.patch("Node", "n1", &zone("a"));
    assert!(hints(&mut cluster).values().all(Value::is_null));
    assert_eq!(cluster.events, [ENABLED, DISABLED]);
    cluster.patch("Node", "n1", &zone("b"));
    assert_eq!(hints(&mut cluster), for_zones(["a", "b", "a", "b"]));
    assert_eq!(cluster.events, [ENABLED, DISABLED, ENABLED]);

    let no_mode = json!({"metadata": {"annotations": {MODE: null}}});
    cluster.patch("Service", "web", &no_mode);
    let near = json!({"forZones": [{"name": "b"}], "forNodes": [{"name": "n1"}]});
    assert_eq!(
        hints(&mut cluster)["p1"],
        near,
        "what it asks for otherwise"
    );
    assert_eq!(cluster.events, [ENABLED, DISABLED, ENABLED, DISABLED]);
}

#[test]
fn a_pod_that_changes_leaves_the_hints_of_other_slices_alone() {
    let mut cluster = cluster(150);
    settle(&mut cluster);
    let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    cluster.patch("Pod", "p7", &unready);
    let lines = reconcile(&key(), &cluster.world()).lines();
    assert!(
        lines.len() == 1 && lines[0].starts_with("patch endpointslices"),
        "{lines:#?}"
    );
}
