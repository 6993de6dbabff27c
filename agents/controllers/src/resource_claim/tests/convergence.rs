//! Whatever happens to pods and claims, and wherever leaders are cut off, in the end each pod that may run has its claims,
//! nobody else holds devices, and the controller rests.

use super::{POD, TEMPLATE, reconcile};
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};

const PODS: [&str; 3] = ["p0", "p1", "p2"];
const SHARED: &str = "shared";

fn pod(name: &str, uid: &str, node: bool) -> Value {
    let claims = json!([{"name": "one", "resourceClaimTemplateName": "t"},
        {"name": "two", "resourceClaimTemplateName": "t"}, {"name": "all", "resourceClaimName": SHARED}]);
    let mut pod = json!({"kind": "Pod", "metadata": {"name": name, "namespace": "a", "uid": uid},
        "spec": {"resourceClaims": claims}, "status": {"phase": "Pending"}});
    if node {
        pod["spec"]["nodeName"] = "n".into();
    }
    pod
}

fn keys(cluster: &Simulation) -> Vec<Key> {
    let claims = cluster.names("ResourceClaim").into_iter();
    let pods = PODS.iter().map(|name| format!("{POD}{name}"));
    claims
        .chain(pods)
        .map(|name| Key::new("a", &name))
        .collect()
}

/// What the scheduler does to a claim: the finalizer, then the devices, perhaps for a pod.
fn allocate(cluster: &mut Simulation, name: &str, consumer: Option<&Value>) {
    let protection = json!({"metadata": {"finalizers": [super::super::claim::FINALIZER]}});
    cluster.patch("ResourceClaim", name, &protection);
    let mut status = json!({"allocation": {"devices": {}}});
    if let Some(pod) = consumer {
        let meta = &pod["metadata"];
        status["reservedFor"] =
            json!([{"resource": "pods", "name": meta["name"], "uid": meta["uid"]}]);
    }
    cluster.patch("ResourceClaim", name, &json!({ "status": status }));
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64) {
    let name = PODS[usize::try_from(dice.roll(3)).unwrap()];
    let pod_there = cluster.get("Pod", name);
    let claims = cluster.names("ResourceClaim");
    let some = usize::try_from(dice.roll(claims.len().max(1) as u64)).unwrap();
    let claim = claims.get(some).cloned();
    match (dice.roll(12), pod_there, claim) {
        (0..=2, None, _) => cluster.put(pod(name, &format!("u{turn}"), dice.roll(2) == 0)),
        (0, Some(_), _) => cluster.remove("Pod", name),
        (1, Some(_), _) => cluster.patch("Pod", name, &json!({"status": {"phase": "Failed"}})),
        (2, Some(_), _) => {
            let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}});
            cluster.patch("Pod", name, &mark);
        }
        (3, pod, Some(claim)) => allocate(cluster, &claim, pod.as_ref()),
        (4, _, Some(claim)) if claim != SHARED => cluster.remove("ResourceClaim", &claim),
        (5, _, Some(claim)) if claim != SHARED => {
            let nobodys = json!({"metadata": {"ownerReferences": null}});
            cluster.patch("ResourceClaim", &claim, &nobodys);
        }
        (6, Some(_), _) => {
            let lost = json!({"status": {"resourceClaimStatuses": null}});
            cluster.patch("Pod", name, &lost);
        }
        (7 | 8, _, _) => {
            let keys = keys(cluster);
            let key = &keys[usize::try_from(dice.roll(keys.len() as u64)).unwrap()];
            cluster.cut_off(key, reconcile, dice.roll(3));
        }
        _ => {
            for key in keys(cluster) {
                cluster.step(&key, reconcile);
            }
        }
    }
}

fn settle(cluster: &mut Simulation, seed: u64) {
    rest(cluster, 100, &format!("seed {seed}"), |cluster| {
        let mut busy = false;
        for key in keys(cluster) {
            busy |= cluster.step(&key, reconcile);
        }
        busy
    });
}

fn is_over(pod: &Value) -> bool {
    let is_deleting = !pod["metadata"]["deletionTimestamp"].is_null();
    pod["status"]["phase"] == "Failed" || (is_deleting && pod["spec"]["nodeName"].is_null())
}

#[test]
fn pods_that_may_run_have_their_claims_and_nobody_else_has_devices() {
    for seed in 0..200 {
        let shared =
            "---\nkind: ResourceClaim\nmetadata: {name: shared, namespace: a, uid: shared}\n";
        let (mut cluster, mut dice) = (Simulation::new(&[TEMPLATE, shared].concat()), Dice(seed));
        for turn in 0..80 {
            disturb(&mut cluster, &mut dice, turn);
        }
        settle(&mut cluster, seed);
        let pods = cluster.all("Pod");
        for pod in &pods {
            let meta = &pod["metadata"];
            if is_over(pod) || !meta["deletionTimestamp"].is_null() {
                continue;
            }
            let recorded = pod["status"]["resourceClaimStatuses"].as_array();
            assert_eq!(recorded.map_or(0, Vec::len), 2, "seed {seed}: {pod}");
            for status in recorded.unwrap() {
                let claim = status["resourceClaimName"].as_str().unwrap();
                let claim = cluster.get("ResourceClaim", claim).unwrap();
                assert_eq!(claim["metadata"]["ownerReferences"][0]["uid"], meta["uid"]);
            }
        }
        for claim in cluster.all("ResourceClaim") {
            let none = Vec::new();
            let consumers = claim["status"]["reservedFor"].as_array().unwrap_or(&none);
            for consumer in consumers {
                let mut users = pods.iter().filter(|pod| !is_over(pod));
                assert!(
                    users.any(|pod| pod["metadata"]["uid"] == consumer["uid"]),
                    "seed {seed}: {claim}"
                );
            }
            let owner = &claim["metadata"]["ownerReferences"][0];
            let owner = pods
                .iter()
                .find(|pod| pod["metadata"]["name"] == owner["name"]);
            // What a pod has left to others goes with the last of them.
            let is_left = owner.is_some_and(is_over);
            assert!(!is_left || !consumers.is_empty(), "seed {seed}: {claim}");
        }
    }
}
