//! Whatever happens to pods, services and Endpoints, and wherever leaders are cut off, each service has each of its pods once
//! at each port, Endpoints without a service go, and then nothing is written.

use super::{LEADER, MANAGED_BY, MANAGER, reconcile};
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SERVICES: [&str; 2] = ["x", "y"];
/// Of a leader election: it has no service, and stays.
const LOCK: &str = "lock";

fn cluster() -> Simulation {
    let mut cluster = Simulation::new("");
    for name in SERVICES {
        put_service(&mut cluster, name);
    }
    (0..4).for_each(|number| add(&mut cluster, number, "x", number));
    cluster.put(json!({
        "kind": "Endpoints", "metadata": {"name": LOCK, "namespace": "a", "uid": LOCK, "annotations": {LEADER: "{}"}},
    }));
    cluster
}

fn put_service(cluster: &mut Simulation, name: &str) {
    cluster.put(json!({
        "kind": "Service",
        "metadata": {"name": name, "namespace": "a", "uid": name, "creationTimestamp": "2026-01-01T10:00:00Z"},
        "spec": {
            "selector": {"app": name}, "clusterIP": "10.0.0.1",
            "ports": [{"name": "plain", "port": 80}, {"name": "named", "port": 81, "targetPort": "web"}],
        },
    }));
}

/// A pod; every third has no port of the name that the service knows, and for the others it is one of two.
fn add(cluster: &mut Simulation, number: u64, app: &str, sort: u64) {
    let ports = match sort % 3 {
        0 => json!([]),
        1 => json!([{"name": "web", "containerPort": 8080}]),
        _ => json!([{"name": "web", "containerPort": 9090}]),
    };
    cluster.put(json!({
        "kind": "Pod",
        "metadata": {"name": format!("p{number}"), "namespace": "a", "uid": format!("u{number}"), "labels": {"app": app}},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "ports": ports}]},
        "status": {
            "phase": "Running", "podIP": format!("10.1.0.{}", number + 1),
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }));
}

fn key(name: &str) -> Key {
    Key::new("a", name)
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64) {
    let name = if dice.roll(2) == 0 { "x" } else { "y" };
    let pod = dice.pick(cluster.names("Pod"));
    let has_service = cluster.get("Service", name).is_some();
    let has_endpoints = cluster.get("Endpoints", name).is_some();
    match (dice.roll(16), pod) {
        (0 | 1, _) => add(cluster, 10 + turn, name, dice.roll(3)),
        (2, Some(pod)) => cluster.remove("Pod", &pod),
        (3, Some(pod)) => {
            let said = if dice.roll(2) == 0 { "True" } else { "False" };
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": said}]}});
            cluster.patch("Pod", &pod, &status);
        }
        (4, Some(pod)) => {
            let labels = json!({"metadata": {"labels": {"app": name}}});
            cluster.patch("Pod", &pod, &labels);
        }
        (5, Some(pod)) => cluster.patch("Pod", &pod, &json!({"status": {"phase": "Failed"}})),
        (6, Some(pod)) => {
            let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}});
            cluster.patch("Pod", &pod, &mark);
        }
        (7, _) => cluster.remove("Endpoints", name),
        (8, _) if has_endpoints => {
            cluster.patch("Endpoints", name, &json!({"subsets": null}));
        }
        (9, _) if has_service => cluster.remove("Service", name),
        (10, _) if !has_service => put_service(cluster, name),
        (11, _) if has_service => {
            let labels = json!({"metadata": {"labels": {"team": format!("t{}", dice.roll(3))}}});
            cluster.patch("Service", name, &labels);
        }
        (12, _) => cluster.cut_off(&key(name), reconcile, dice.roll(2)),
        _ => {
            cluster.step(&key(name), reconcile);
        }
    }
}

fn settle(cluster: &mut Simulation, told: &str) {
    rest(cluster, 5, told, |cluster| {
        let busy = ["x", "y", LOCK].map(|name| cluster.step(&key(name), reconcile));
        busy.contains(&true)
    });
}

/// For the uid of a pod and the name of a port, to which number that leads, and whether the pod is ready.
type Places = BTreeMap<(String, String), (u64, bool)>;

fn wanted(cluster: &Simulation, service: &str) -> Places {
    let mut wanted = Places::new();
    for pod in cluster.all("Pod") {
        let is_going = !pod["metadata"]["deletionTimestamp"].is_null();
        let has_ended = pod["status"]["phase"] == "Failed";
        if pod["metadata"]["labels"]["app"] != service || is_going || has_ended {
            continue;
        }
        let uid = pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let ready = pod["status"]["conditions"][0]["status"] == "True";
        wanted.insert((uid.clone(), "plain".to_owned()), (80, ready));
        let named = &pod["spec"]["containers"][0]["ports"][0]["containerPort"];
        if let Some(number) = named.as_u64() {
            wanted.insert((uid, "named".to_owned()), (number, ready));
        }
    }
    wanted
}

/// What Endpoints say; nothing is said twice.
fn found(endpoints: &Value, told: &str) -> Places {
    let mut found = Places::new();
    let items = |list: &Value| list.as_array().cloned().unwrap_or_default();
    for subset in items(&endpoints["subsets"]) {
        for (field, ready) in [("addresses", true), ("notReadyAddresses", false)] {
            for address in items(&subset[field]) {
                let uid = address["targetRef"]["uid"].as_str().unwrap();
                for port in items(&subset["ports"]) {
                    let place = (uid.to_owned(), port["name"].as_str().unwrap().to_owned());
                    let number = port["port"].as_u64().unwrap();
                    let before = found.insert(place, (number, ready));
                    assert_eq!(before, None, "{told}: {uid} twice");
                }
            }
        }
    }
    found
}

fn has_arrived(cluster: &Simulation, name: &str, told: &str) {
    let endpoints = cluster.get("Endpoints", name);
    let Some(service) = cluster.get("Service", name) else {
        assert_eq!(endpoints, None, "{told}");
        return;
    };
    let endpoints = endpoints.unwrap();
    assert_eq!(found(&endpoints, told), wanted(cluster, name), "{told}");
    let labels = &endpoints["metadata"]["labels"];
    assert_eq!(labels[MANAGED_BY], MANAGER, "{told}");
    let team = &service["metadata"]["labels"]["team"];
    assert_eq!(&labels["team"], team, "{told}");
}

#[test]
fn each_pod_is_once_at_each_port_of_its_service_whoever_leads() {
    for seed in 0..200 {
        let (mut cluster, mut dice) = (cluster(), Dice(seed));
        for turn in 0..80 {
            disturb(&mut cluster, &mut dice, turn);
        }
        settle(&mut cluster, &format!("seed {seed}"));
        for name in SERVICES {
            has_arrived(&cluster, name, &format!("seed {seed}: {name}"));
        }
        assert!(cluster.get("Endpoints", LOCK).is_some(), "seed {seed}");
    }
}
