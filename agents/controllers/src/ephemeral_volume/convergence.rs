//! Whatever happens to pods and claims, and wherever leaders are cut off, each pod that lives has the claims of its ephemeral
//! volumes as their templates say, one that goes gets none, and then nothing is written.

use super::reconcile;
use crate::simulation::{Dice, Simulation};
use agent_runtime::Key;
use serde_json::{Value, json};

const CLAIM: &str = "PersistentVolumeClaim";
const VOLUMES: [&str; 2] = ["v", "w"];

fn put_pod(cluster: &mut Simulation, name: &str, turn: u64) {
    let template = json!({
        "metadata": {"labels": {"l": "x"}, "annotations": {"k": "y"}}, "spec": {"accessModes": ["ReadWriteOnce"]},
    });
    let volume = |name: &str| json!({"name": name, "ephemeral": {"volumeClaimTemplate": template}});
    let volumes = VOLUMES.map(volume);
    cluster.put(json!({
        "kind": "Pod", "metadata": {"name": name, "namespace": "a", "uid": format!("{name}-{turn}")},
        "spec": {"volumes": volumes}, "status": {"phase": "Running"},
    }));
}

/// The claims of a pod that is gone go with it.
fn collect(cluster: &mut Simulation) {
    let pods = cluster.all("Pod");
    for claim in cluster.all(CLAIM) {
        let owner = &claim["metadata"]["ownerReferences"][0]["uid"];
        if pods.iter().all(|pod| &pod["metadata"]["uid"] != owner) {
            cluster.remove(CLAIM, claim["metadata"]["name"].as_str().unwrap());
        }
    }
}

fn key(name: &str) -> Key {
    Key::new("a", name)
}

fn is_going(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// Somebody looks at a pod: after one look it has all claims, and if it goes it gets none.
fn look(cluster: &mut Simulation, name: &str, told: &str) {
    let pod = cluster.get("Pod", name).unwrap();
    let before = cluster.names(CLAIM);
    cluster.step(&key(name), reconcile);
    if is_going(&pod) {
        assert_eq!(cluster.names(CLAIM), before, "{told}");
        return;
    }
    for volume in VOLUMES {
        let claim = cluster.get(CLAIM, &format!("{name}-{volume}")).unwrap();
        let owner = &claim["metadata"]["ownerReferences"][0]["uid"];
        assert_eq!(owner, &pod["metadata"]["uid"], "{told}");
        assert_eq!(claim["metadata"]["labels"], json!({"l": "x"}), "{told}");
        let modes = json!(["ReadWriteOnce"]);
        assert_eq!(claim["spec"]["accessModes"], modes, "{told}");
    }
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64, told: &str) {
    let pod = dice.pick(cluster.names("Pod"));
    let claim = dice.pick(cluster.names(CLAIM));
    match (dice.roll(9), pod, claim) {
        (0 | 1, ..) => {
            let name = if dice.roll(2) == 0 { "p" } else { "q" };
            if cluster.get("Pod", name).is_none() {
                put_pod(cluster, name, turn);
            }
        }
        (2, Some(pod), _) => {
            let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}});
            cluster.patch("Pod", &pod, &mark);
        }
        (3, Some(pod), _) => cluster.remove("Pod", &pod),
        (4, _, Some(claim)) => cluster.remove(CLAIM, &claim),
        (5 | 6, Some(pod), _) => cluster.cut_off(&key(&pod), reconcile, dice.roll(3)),
        (_, Some(pod), _) => look(cluster, &pod, told),
        _ => {}
    }
    collect(cluster);
}

#[test]
fn each_pod_has_its_claims_whoever_leads() {
    for seed in 0..100 {
        let (mut cluster, mut dice) = (Simulation::new(""), Dice(seed));
        for turn in 0..80 {
            let told = format!("seed {seed}, turn {turn}");
            disturb(&mut cluster, &mut dice, turn, &told);
        }
        for name in cluster.names("Pod") {
            look(&mut cluster, &name, &format!("seed {seed}"));
            let busy = cluster.step(&key(&name), reconcile);
            assert!(!busy, "seed {seed}: it does not come to rest");
        }
    }
}
