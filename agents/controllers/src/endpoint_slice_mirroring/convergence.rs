//! Whatever happens to services, hand-made Endpoints and slices, and wherever leaders are cut off, the slices say what the
//! Endpoints say, there are none where nothing is to be mirrored, and then nothing is written.

use super::{LEADER, MANAGED_BY, MANAGER, SERVICE_NAME, SKIP, reconcile};
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NAMES: [&str; 2] = ["x", "y"];
/// Of both families.
const ADDRESSES: [&str; 5] = ["10.1.0.1", "10.1.0.2", "10.1.0.3", "fd00::1", "fd00::2"];

fn cluster() -> Simulation {
    let mut cluster = Simulation::new("");
    for name in NAMES {
        put_service(&mut cluster, name);
    }
    // Somebody else's: it stays as it is.
    cluster.put(json!({"kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [],
        "metadata": {"name": "foreign", "namespace": "a", "uid": "f", "labels": {SERVICE_NAME: "x", MANAGED_BY: "me"}}}));
    cluster
}

fn put_service(cluster: &mut Simulation, name: &str) {
    cluster.put(json!({
        "kind": "Service", "metadata": {"name": name, "namespace": "a", "uid": name},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "a", "port": 80}]},
    }));
}

/// Up to three subsets; an address may be in several of them, here ready and there not.
fn subsets(dice: &mut Dice) -> Vec<Value> {
    let mut subsets = Vec::new();
    for _ in 0..dice.roll(4) {
        let ports = match dice.roll(4) {
            0 => json!([]),
            1 => json!([{"name": "b", "port": 81}]),
            2 => json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]),
            _ => json!([{"name": "a", "port": 80}]),
        };
        let (mut ready, mut waiting) = (Vec::new(), Vec::new());
        for ip in ADDRESSES {
            match dice.roll(4) {
                0 => waiting.push(json!({"ip": ip})),
                1 | 2 => ready.push(json!({"ip": ip})),
                _ => {}
            }
        }
        subsets.push(json!({"addresses": ready, "notReadyAddresses": waiting, "ports": ports}));
    }
    subsets
}

fn key(name: &str) -> Key {
    Key::new("a", name)
}

fn write_endpoints(cluster: &mut Simulation, dice: &mut Dice, name: &str, turn: u64) {
    let subsets = subsets(dice);
    if cluster.get("Endpoints", name).is_some() {
        cluster.patch("Endpoints", name, &json!({"subsets": subsets}));
    } else {
        cluster.put(json!({
            "kind": "Endpoints", "metadata": {"name": name, "namespace": "a", "uid": format!("{name}-{turn}")}, "subsets": subsets,
        }));
    }
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64) {
    let name = if dice.roll(2) == 0 { "x" } else { "y" };
    let is_set = dice.roll(2) == 0;
    let has_service = cluster.get("Service", name).is_some();
    let has_endpoints = cluster.get("Endpoints", name).is_some();
    let mut slices = cluster.names("EndpointSlice");
    slices.retain(|name| name != "foreign");
    let slice = dice.pick(slices);
    match (dice.roll(18), slice) {
        (0..=3, _) => write_endpoints(cluster, dice, name, turn),
        (4, _) => cluster.remove("Endpoints", name),
        (5, _) if has_service => cluster.remove("Service", name),
        (6 | 7, _) if !has_service => put_service(cluster, name),
        (8, _) if has_service => {
            let selector = is_set.then(|| json!({"app": name}));
            cluster.patch("Service", name, &json!({"spec": {"selector": selector}}));
        }
        (9, _) if has_endpoints => {
            let skip = is_set.then_some("true");
            let labels =
                json!({"metadata": {"labels": {SKIP: skip, "team": format!("t{}", dice.roll(2))}}});
            cluster.patch("Endpoints", name, &labels);
        }
        (10, _) if has_endpoints => {
            let lock = is_set.then_some("{}");
            let annotations = json!({"metadata": {"annotations": {LEADER: lock}}});
            cluster.patch("Endpoints", name, &annotations);
        }
        (11, Some(slice)) => cluster.remove("EndpointSlice", &slice),
        (12, Some(slice)) => {
            cluster.patch("EndpointSlice", &slice, &json!({"endpoints": []}));
        }
        (13, _) => cluster.cut_off(&key(name), reconcile, dice.roll(3)),
        _ => {
            cluster.step(&key(name), reconcile);
        }
    }
}

fn settle(cluster: &mut Simulation, told: &str) {
    rest(cluster, 5, told, |cluster| {
        let busy = NAMES.map(|name| cluster.step(&key(name), reconcile));
        busy.contains(&true)
    });
}

/// For an address, and the name and number of a port, whether it is ready there. Who has no ports is at one without a name.
type Places = BTreeMap<(String, String, u64), bool>;

fn items(list: &Value) -> Vec<Value> {
    list.as_array().cloned().unwrap_or_default()
}

fn ports(list: &Value) -> Vec<(String, u64)> {
    let ports = items(list).into_iter();
    let mut ports: Vec<(String, u64)> = ports
        .map(|port| {
            let name = port["name"].as_str().unwrap().to_owned();
            (name, port["port"].as_u64().unwrap())
        })
        .collect();
    if ports.is_empty() {
        ports.push((String::new(), 0));
    }
    ports
}

fn is_mirrored(cluster: &Simulation, name: &str) -> bool {
    let (service, endpoints) = (cluster.get("Service", name), cluster.get("Endpoints", name));
    let (Some(service), Some(endpoints)) = (service, endpoints) else {
        return false;
    };
    let metadata = &endpoints["metadata"];
    service["spec"]["selector"].is_null()
        && metadata["labels"][SKIP].is_null()
        && metadata["annotations"][LEADER].is_null()
}

/// What the Endpoints say: whoever is not ready in one place is not ready at that port.
fn wanted(cluster: &Simulation, name: &str) -> Places {
    let mut wanted = Places::new();
    if !is_mirrored(cluster, name) {
        return wanted;
    }
    let endpoints = cluster.get("Endpoints", name).unwrap();
    for subset in items(&endpoints["subsets"]) {
        for (field, is_ready) in [("addresses", true), ("notReadyAddresses", false)] {
            for address in items(&subset[field]) {
                let ip = address["ip"].as_str().unwrap();
                for (port, number) in ports(&subset["ports"]) {
                    let place = (ip.to_owned(), port, number);
                    *wanted.entry(place).or_insert(true) &= is_ready;
                }
            }
        }
    }
    wanted
}

/// What the slices say; nothing is said twice.
fn found(cluster: &Simulation, name: &str, told: &str) -> Places {
    let mut found = Places::new();
    for slice in cluster.all("EndpointSlice") {
        let labels = &slice["metadata"]["labels"];
        if labels[SERVICE_NAME] != name || labels[MANAGED_BY] != MANAGER {
            continue;
        }
        let endpoints = cluster.get("Endpoints", name).unwrap();
        let team = &endpoints["metadata"]["labels"]["team"];
        assert_eq!(&labels["team"], team, "{told}");
        let owner = &slice["metadata"]["ownerReferences"][0]["uid"];
        assert_eq!(owner, &endpoints["metadata"]["uid"], "{told}");
        for endpoint in items(&slice["endpoints"]) {
            let ip = endpoint["addresses"][0].as_str().unwrap();
            let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
            assert_eq!(slice["addressType"], family, "{told}");
            let is_ready = endpoint["conditions"]["ready"] == true;
            for (port, number) in ports(&slice["ports"]) {
                let before = found.insert((ip.to_owned(), port, number), is_ready);
                assert_eq!(before, None, "{told}: {ip} twice");
            }
        }
    }
    found
}

#[test]
fn slices_say_what_the_endpoints_say_whoever_leads() {
    for seed in 0..200 {
        let (mut cluster, mut dice) = (cluster(), Dice(seed));
        for turn in 0..80 {
            disturb(&mut cluster, &mut dice, turn);
        }
        settle(&mut cluster, &format!("seed {seed}"));
        for name in NAMES {
            let told = format!("seed {seed}: {name}");
            assert_eq!(
                found(&cluster, name, &told),
                wanted(&cluster, name),
                "{told}"
            );
        }
        let foreign = cluster.get("EndpointSlice", "foreign").unwrap();
        assert_eq!(foreign["endpoints"], json!([]), "seed {seed}");
    }
}
