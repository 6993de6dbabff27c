//! Whatever happens to claims, volumes and pods, and wherever leaders are cut off, what is in use does not go, what is not
//! in use can, what lives is protected, and then nothing is written.

use super::{CLAIM_FINALIZER, VOLUME_FINALIZER, reconcile_claim, reconcile_volume};
use crate::simulation::{Dice, Simulation, rest};
use crate::world::World;
use agent_runtime::Key;
use agent_runtime::plan::Plan;
use serde_json::{Value, json};

const CLAIM: &str = "PersistentVolumeClaim";
const VOLUME: &str = "PersistentVolume";
const KINDS: [&str; 2] = [CLAIM, VOLUME];
/// A finalizer of somebody else.
const FOREIGN: &str = "example.com/keep";

fn ours(kind: &str) -> &'static str {
    if kind == CLAIM {
        CLAIM_FINALIZER
    } else {
        VOLUME_FINALIZER
    }
}

/// Somebody makes one, with the finalizers that it has from admission or does not have.
fn make(cluster: &mut Simulation, kind: &str, name: &str, dice: &mut Dice, turn: u64) {
    if cluster.get(kind, name).is_some() {
        return;
    }
    let finalizers = match dice.roll(4) {
        0 => json!([]),
        1 => json!([FOREIGN]),
        2 => json!([FOREIGN, ours(kind)]),
        _ => json!([ours(kind)]),
    };
    let namespace = if kind == CLAIM { "a" } else { "" };
    cluster.put(json!({
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "uid": format!("{name}-{turn}"), "finalizers": finalizers},
        "status": {"phase": "Pending"},
    }));
}

/// Somebody deletes one.
fn delete(cluster: &mut Simulation, kind: &str, name: &str) {
    let object = cluster.get(kind, name).unwrap();
    if finalizers(&object).is_empty() {
        cluster.remove(kind, name);
    } else {
        let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}});
        cluster.patch(kind, name, &mark);
    }
}

fn finalizers(object: &Value) -> Vec<String> {
    let all = object["metadata"]["finalizers"].as_array();
    let all = all.into_iter().flatten();
    all.map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn is_going(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn is_in_use(cluster: &Simulation, kind: &str, object: &Value) -> bool {
    if kind == VOLUME {
        return object["status"]["phase"] == "Bound";
    }
    cluster.all("Pod").iter().any(|pod| {
        let claim = &pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"];
        !pod["spec"]["nodeName"].is_null() && *claim == object["metadata"]["name"]
    })
}

/// Somebody looks at one, perhaps one who is cut off after so many writes. Whether there was anything to do.
fn look(
    cluster: &mut Simulation,
    kind: &str,
    name: &str,
    cut_off: Option<u64>,
    told: &str,
) -> bool {
    let before = cluster.get(kind, name).unwrap();
    let namespace = if kind == CLAIM { "a" } else { "" };
    let key = Key::new(namespace, name);
    let reconcile: fn(&Key, &World) -> Plan = if kind == CLAIM {
        reconcile_claim
    } else {
        reconcile_volume
    };
    let busy = match cut_off {
        Some(writes) => {
            cluster.cut_off(&key, reconcile, writes);
            true
        }
        None => cluster.step(&key, reconcile),
    };
    let was_foreign = finalizers(&before).iter().any(|name| name == FOREIGN);
    match cluster.get(kind, name) {
        Some(after) => {
            let is_foreign = finalizers(&after).iter().any(|name| name == FOREIGN);
            assert_eq!(is_foreign, was_foreign, "{told}: {name}");
        }
        None => {
            assert!(is_going(&before) && !was_foreign, "{told}: {name}");
            assert!(!is_in_use(cluster, kind, &before), "{told}: {name}");
        }
    }
    busy
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64, told: &str) {
    let kind = if dice.roll(2) == 0 { CLAIM } else { VOLUME };
    let letter = if kind == CLAIM { "c" } else { "v" };
    let number = dice.roll(4);
    let there = dice.pick(cluster.names(kind));
    let pod = dice.pick(cluster.names("Pod"));
    match (dice.roll(14), there, pod) {
        (0..=2, ..) => make(cluster, kind, &format!("{letter}{number}"), dice, turn),
        (3 | 4, Some(name), _) => delete(cluster, kind, &name),
        (5, Some(name), _) => {
            let phase = if dice.roll(2) == 0 { "Bound" } else { "Released" };
            cluster.patch(kind, &name, &json!({"status": {"phase": phase}}));
        }
        (6, Some(name), _) => {
            let object = cluster.get(kind, &name).unwrap();
            if !is_going(&object) {
                // Somebody takes all finalizers away.
                cluster.patch(kind, &name, &json!({"metadata": {"finalizers": []}}));
            }
        }
        (7, ..) => cluster.put(json!({
            "kind": "Pod", "metadata": {"name": format!("p{turn}"), "namespace": "a", "uid": format!("p{turn}")},
            "spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": format!("c{number}")}}]},
            "status": {"phase": "Pending"},
        })),
        (8, _, Some(pod)) => {
            cluster.patch("Pod", &pod, &json!({"spec": {"nodeName": "n"}}));
        }
        (9, _, Some(pod)) => cluster.remove("Pod", &pod),
        (10, Some(name), _) => {
            look(cluster, kind, &name, Some(dice.roll(2)), told);
        }
        (_, Some(name), _) => {
            look(cluster, kind, &name, None, told);
        }
        _ => {}
    }
}

fn settle(cluster: &mut Simulation, told: &str) {
    rest(cluster, 5, told, |cluster| {
        let mut busy = false;
        for kind in KINDS {
            for name in cluster.names(kind) {
                busy |= look(cluster, kind, &name, None, told);
            }
        }
        busy
    });
}

fn has_arrived(cluster: &Simulation, kind: &str, told: &str) {
    for object in cluster.all(kind) {
        let finalizers = finalizers(&object);
        let protections = finalizers.iter().filter(|name| *name == ours(kind));
        let protections = protections.count();
        if is_going(&object) {
            let in_use = is_in_use(cluster, kind, &object);
            assert!(protections == 0 || in_use, "{told}: {object}");
            assert!(!finalizers.is_empty(), "{told}: {object}");
        } else {
            assert_eq!(protections, 1, "{told}: {object}");
        }
    }
}

#[test]
fn what_is_used_stays_and_what_is_not_can_go_whoever_leads() {
    for seed in 0..200 {
        let (mut cluster, mut dice) = (Simulation::new(""), Dice(seed));
        for turn in 0..80 {
            let told = format!("seed {seed}, turn {turn}");
            disturb(&mut cluster, &mut dice, turn, &told);
        }
        let told = format!("seed {seed}");
        settle(&mut cluster, &told);
        for kind in KINDS {
            has_arrived(&cluster, kind, &told);
        }
    }
}
