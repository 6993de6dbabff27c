//! Whatever happens to pods, services and slices, and wherever leaders are cut off, each service has each of its pods in one
//! slice as it is, if its node exists, and then nothing is written. Whatever happens to nodes, zones have their part of a service
//! that asks for it.

use super::packing::PER_SLICE_MAX;
use super::{MANAGED_BY, MANAGER, SERVICE_NAME, ZONE, reconcile};
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const SERVICES: [&str; 2] = ["x", "y"];
/// The nodes, and the zones they have at first.
const NODES: [(&str, &str); 3] = [("n0", "a"), ("n1", "b"), ("n2", "c")];
const MODE: &str = "service.kubernetes.io/topology-mode";
/// From so many endpoints on, two or three zones can have their part whatever their sizes are.
const ENOUGH: usize = 20;
/// Enough that a service needs more than one slice.
const PODS: u64 = 130;

fn cluster() -> Simulation {
    let services = SERVICES.map(|name| {
        format!(
            "---\nkind: Service\nmetadata: {{name: {name}, namespace: a, uid: {name}}}\n\
             spec: {{selector: {{app: {name}}}, clusterIP: 10.0.0.1, ports: [{{name: http, port: 80}}]}}\n"
        )
    });
    let mut cluster = Simulation::new(&services.concat());
    for (name, zone) in NODES {
        cluster.put(node(name, zone));
    }
    (0..PODS).for_each(|number| add(&mut cluster, number, "x"));
    // Somebody else's: it stays as it is.
    cluster.put(json!({"kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [],
        "metadata": {"name": "foreign", "namespace": "a", "uid": "f", "labels": {SERVICE_NAME: "x", MANAGED_BY: "me"}}}));
    cluster
}

fn node(name: &str, zone: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "labels": {ZONE: zone}},
        "status": {"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn add(cluster: &mut Simulation, number: u64, app: &str) {
    let ip = format!("10.1.{}.{}", number / 200, number % 200 + 1);
    cluster.put(json!({
        "kind": "Pod", "metadata": {"name": format!("p{number}"), "namespace": "a", "uid": format!("u{number}"), "labels": {"app": app}},
        "spec": {"nodeName": format!("n{}", number % 3)},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    }));
}

fn key(name: &str) -> Key {
    Key::new("a", name)
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64) {
    let service = if dice.roll(2) == 0 { "x" } else { "y" };
    let pod = dice.pick(cluster.names("Pod"));
    let mut slices = cluster.names("EndpointSlice");
    slices.retain(|name| name != "foreign");
    let slice = dice.pick(slices);
    match (dice.roll(20), pod, slice) {
        (0, ..) => add(cluster, PODS + turn, service),
        (1, Some(pod), _) => cluster.remove("Pod", &pod),
        (2, Some(pod), _) => {
            let said = if dice.roll(2) == 0 { "True" } else { "False" };
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": said}]}});
            cluster.patch("Pod", &pod, &status);
        }
        (3, Some(pod), _) => {
            let labels = json!({"metadata": {"labels": {"app": service}}});
            cluster.patch("Pod", &pod, &labels);
        }
        (4, Some(pod), _) => {
            cluster.patch("Pod", &pod, &json!({"status": {"phase": "Failed"}}));
        }
        (5, _, Some(slice)) => cluster.remove("EndpointSlice", &slice),
        (6, _, Some(slice)) => {
            cluster.patch("EndpointSlice", &slice, &json!({"endpoints": []}));
        }
        (7, ..) => {
            let port = json!([{"name": "http", "port": 80 + dice.roll(2)}]);
            let close = if dice.roll(2) == 0 {
                json!("PreferSameNode")
            } else {
                Value::Null
            };
            let spec = json!({"spec": {"ports": port, "trafficDistribution": close}});
            cluster.patch("Service", service, &spec);
        }
        (10 | 11, ..) => {
            if let Some(node) = dice.pick(cluster.names("Node")) {
                cluster.patch("Node", &node, &other_node(dice));
            }
        }
        (12, ..) => {
            let mode = if dice.roll(3) == 0 {
                Value::Null
            } else {
                json!("Auto")
            };
            let annotations = json!({"metadata": {"annotations": {MODE: mode}}});
            cluster.patch("Service", service, &annotations);
        }
        (13, ..) => {
            let all = json!({"spec": {"publishNotReadyAddresses": dice.roll(3) == 0}});
            cluster.patch("Service", service, &all);
        }
        (14 | 15, ..) => {
            let (name, zone) = NODES[usize::try_from(dice.roll(3)).unwrap()];
            if cluster.get("Node", name).is_some() {
                cluster.remove("Node", name);
            } else {
                cluster.put(node(name, zone));
            }
        }
        (8 | 9, ..) => cluster.cut_off(&key(service), reconcile, dice.roll(3)),
        _ => {
            cluster.step(&key(service), reconcile);
        }
    }
}

/// How a node may change.
fn other_node(dice: &mut Dice) -> Value {
    match dice.roll(8) {
        0 => json!({"metadata": {"labels": {ZONE: null}}}),
        1 => {
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}})
        }
        2 => {
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": null}}})
        }
        3 | 4 => {
            let said = if dice.roll(3) == 0 { "False" } else { "True" };
            json!({"status": {"conditions": [{"type": "Ready", "status": said}]}})
        }
        5 => json!({"status": {"allocatable": {"cpu": (1 + dice.roll(8)).to_string()}}}),
        _ => {
            let zone = ["a", "b", "c"][usize::try_from(dice.roll(3)).unwrap()];
            json!({"metadata": {"labels": {ZONE: zone}}})
        }
    }
}

fn settle(cluster: &mut Simulation, told: &str) {
    rest(cluster, 20, told, |cluster| {
        let busy = SERVICES.map(|service| cluster.step(&key(service), reconcile));
        busy.contains(&true)
    });
}

/// The uids of the pods of a service that have not ended and are on nodes that exist, and whether they are ready; where the
/// service wants those that are not ready too, all are, and on whatever nodes.
fn wanted(cluster: &Simulation, service: &str, all: bool) -> BTreeMap<String, bool> {
    let nodes = cluster.names("Node");
    let exists = |pod: &Value| nodes.iter().any(|node| pod["spec"]["nodeName"] == **node);
    let pods = cluster.all("Pod").into_iter();
    pods.filter(|pod| all || exists(pod))
        .filter(|pod| pod["metadata"]["labels"]["app"] == service)
        .filter(|pod| pod["status"]["phase"] != "Failed")
        .map(|pod| {
            let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
            let ready = pod["status"]["conditions"][0]["status"] == "True";
            (uid, all || ready)
        })
        .collect()
}

/// The zones of the nodes that count; none where one of these has no zone.
fn zones(cluster: &Simulation) -> BTreeSet<String> {
    let counts = |node: &Value| {
        let labels = &node["metadata"]["labels"];
        labels["node-role.kubernetes.io/control-plane"].is_null()
            && node["status"]["conditions"][0]["status"] == "True"
    };
    let nodes = cluster.all("Node").into_iter().filter(counts);
    let zones = nodes.map(|node| {
        let zone = node["metadata"]["labels"][ZONE].as_str();
        zone.map(str::to_owned)
    });
    zones.collect::<Option<_>>().unwrap_or_default()
}

/// All ready endpoints are for a zone, or none, as the zones allow.
fn is_shared_out(endpoints: &[Value], zones: &BTreeSet<String>, told: &str) {
    let ready = |endpoint: &&Value| endpoint["conditions"]["ready"] == true;
    let ready: Vec<&Value> = endpoints.iter().filter(ready).collect();
    let hinted: Vec<&Value> = endpoints
        .iter()
        .filter(|e| e["hints"].is_object())
        .collect();
    let can_be = zones.len() >= 2
        && ready.len() >= zones.len()
        && ready.iter().all(|endpoint| endpoint["zone"].is_string());
    let must_be = can_be && ready.len() >= ENOUGH;
    assert!(
        hinted == ready && can_be || hinted.is_empty() && !must_be,
        "{told}: {} of {} in {zones:?}",
        hinted.len(),
        ready.len()
    );
    for endpoint in hinted {
        let zone = &endpoint["hints"]["forZones"][0]["name"];
        let has_share = zones.contains(zone.as_str().unwrap());
        assert!(has_share || *zone == endpoint["zone"], "{told}: {endpoint}");
    }
}

fn has_arrived(cluster: &Simulation, service: &str, told: &str) {
    let object = cluster.get("Service", service).unwrap();
    let close = !object["spec"]["trafficDistribution"].is_null();
    let published = object["spec"]["publishNotReadyAddresses"] == true;
    let auto = object["metadata"]["annotations"][MODE] == "Auto";
    let mut found = BTreeMap::new();
    let mut all = Vec::new();
    for slice in cluster.all("EndpointSlice") {
        let labels = &slice["metadata"]["labels"];
        if labels[SERVICE_NAME] != service || labels[MANAGED_BY] != MANAGER {
            continue;
        }
        let endpoints = slice["endpoints"].as_array().unwrap();
        assert!(endpoints.len() <= PER_SLICE_MAX, "{told}");
        for endpoint in endpoints {
            let uid = endpoint["targetRef"]["uid"].as_str().unwrap().to_owned();
            let ready = endpoint["conditions"]["ready"] == true;
            if !auto {
                // Whoever is to be reached by its node has a hint though the node is gone.
                assert_eq!(endpoint["hints"].is_object(), close && ready, "{told}");
            }
            assert_eq!(found.insert(uid, ready), None, "{told}: twice");
            all.push(endpoint.clone());
        }
    }
    assert_eq!(found, wanted(cluster, service, published), "{told}");
    if auto {
        is_shared_out(&all, &zones(cluster), told);
    }
}

#[test]
fn each_pod_is_in_one_slice_of_its_service_whoever_leads() {
    let mut events = BTreeSet::new();
    for seed in 0..30 {
        let (mut cluster, mut dice) = (cluster(), Dice(seed));
        for turn in 0..60 {
            disturb(&mut cluster, &mut dice, turn);
        }
        settle(&mut cluster, &format!("seed {seed}"));
        for service in SERVICES {
            has_arrived(&cluster, service, &format!("seed {seed}: {service}"));
        }
        let foreign = cluster.get("EndpointSlice", "foreign").unwrap();
        assert_eq!(foreign["endpoints"], json!([]));
        events.extend(cluster.events);
    }
    let told = ["TopologyAwareHintsDisabled", "TopologyAwareHintsEnabled"];
    assert!(told.iter().all(|reason| events.contains(*reason)));
}
