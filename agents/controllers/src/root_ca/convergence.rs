//! Whatever happens to a namespace and its ConfigMap, and wherever leaders are cut off, a namespace that lives has the CA and
//! nothing else in it, one that goes gets none, and then nothing is written.

use super::{NAME, reconcile};
use crate::simulation::{Dice, Simulation};
use agent_runtime::Key;
use serde_json::{Value, json};

const CONFIG_MAP: &str = "ConfigMap";

fn key() -> Key {
    Key::new("", "a")
}

fn put_namespace(cluster: &mut Simulation) {
    cluster.put(json!({"kind": "Namespace", "metadata": {"name": "a", "uid": "a"}, "status": {"phase": "Active"}}));
}

fn lives(cluster: &Simulation) -> bool {
    cluster.get("Namespace", "a").is_some_and(|namespace| {
        namespace["metadata"]["deletionTimestamp"].is_null()
            && namespace["status"]["phase"] == "Active"
    })
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice) {
    let has_map = cluster.get(CONFIG_MAP, NAME).is_some();
    let has_namespace = cluster.get("Namespace", "a").is_some();
    match dice.roll(12) {
        0 => cluster.remove(CONFIG_MAP, NAME),
        1 if has_map => {
            let foreign = json!({"data": {"other": "x"}});
            cluster.patch(CONFIG_MAP, NAME, &foreign);
        }
        2 if has_map => {
            let old = json!({"data": {"ca.crt": "former"}});
            cluster.patch(CONFIG_MAP, NAME, &old);
        }
        3 if has_map => cluster.patch(CONFIG_MAP, NAME, &json!({"data": null})),
        4 if has_namespace => {
            let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}});
            cluster.patch("Namespace", "a", &mark);
        }
        5 if has_namespace => {
            let going = json!({"status": {"phase": "Terminating"}});
            cluster.patch("Namespace", "a", &going);
        }
        6 if has_namespace => {
            cluster.remove(CONFIG_MAP, NAME);
            cluster.remove("Namespace", "a");
        }
        7 | 8 => put_namespace(cluster),
        9 => cluster.cut_off(&key(), reconcile, dice.roll(2)),
        _ => look(cluster),
    }
}

/// Somebody looks: nothing is written for who goes, and after one look it is as it should be.
fn look(cluster: &mut Simulation) {
    let before = cluster.get(CONFIG_MAP, NAME);
    let lives = lives(cluster);
    cluster.step(&key(), reconcile);
    let after = cluster.get(CONFIG_MAP, NAME);
    if lives {
        let data: Value = json!({"ca.crt": "CA"});
        assert_eq!(after.unwrap()["data"], data);
    } else {
        assert_eq!(after, before);
    }
}

#[test]
fn a_namespace_that_lives_has_the_ca_whoever_leads() {
    for seed in 0..100 {
        let (mut cluster, mut dice) = (Simulation::new(""), Dice(seed));
        for _ in 0..80 {
            disturb(&mut cluster, &mut dice);
        }
        look(&mut cluster);
        let busy = cluster.step(&key(), reconcile);
        assert!(!busy, "seed {seed}: it does not come to rest");
    }
}
