//! Whatever happens to a namespace and its account, and wherever leaders are cut off, a namespace that lives has the account,
//! one that goes gets none, and then nothing is written.

use super::{NAME, reconcile};
use crate::simulation::{Dice, Simulation};
use agent_runtime::Key;
use serde_json::json;

const ACCOUNT: &str = "ServiceAccount";

fn key() -> Key {
    Key::new("", "a")
}

fn put_namespace(cluster: &mut Simulation, phase: &str) {
    cluster.put(json!({"kind": "Namespace", "metadata": {"name": "a", "uid": "a"}, "status": {"phase": phase}}));
}

/// Somebody looks: nothing is written for who goes, and what is there stays as it is.
fn look(cluster: &mut Simulation) {
    let before = cluster.get(ACCOUNT, NAME);
    let namespace = cluster.get("Namespace", "a");
    let lives = namespace.is_some_and(|namespace| namespace["status"]["phase"] == "Active");
    cluster.step(&key(), reconcile);
    let after = cluster.get(ACCOUNT, NAME);
    if lives && before.is_none() {
        assert_eq!(after.unwrap()["metadata"]["namespace"], "a");
    } else {
        assert_eq!(after, before);
    }
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice) {
    match dice.roll(8) {
        0 | 1 => cluster.remove(ACCOUNT, NAME),
        2 => {
            cluster.remove(ACCOUNT, NAME);
            cluster.remove("Namespace", "a");
        }
        3 => put_namespace(cluster, "Terminating"),
        4 | 5 => put_namespace(cluster, "Active"),
        6 => cluster.cut_off(&key(), reconcile, dice.roll(2)),
        _ => look(cluster),
    }
}

#[test]
fn a_namespace_that_lives_has_its_account_whoever_leads() {
    for seed in 0..100 {
        let (mut cluster, mut dice) = (Simulation::new(""), Dice(seed));
        for _ in 0..60 {
            disturb(&mut cluster, &mut dice);
        }
        look(&mut cluster);
        let busy = cluster.step(&key(), reconcile);
        assert!(!busy, "seed {seed}: it does not come to rest");
    }
}
