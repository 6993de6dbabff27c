//! Whatever happens to pods, their set, the bound and evictions, and wherever leaders are cut off, the status of a budget
//! says how many may be disrupted, no eviction counts for longer than its time, and then nothing is written.

use super::{DISRUPTION_TIMEOUT, reconcile};
use crate::simulation::{Dice, Simulation, rest};
use crate::testing::after;
use agent_runtime::timestamp::Micros;
use agent_runtime::{Key, timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The bounds that the budget may have.
fn bounds() -> [Value; 4] {
    [
        json!({"minAvailable": 2, "maxUnavailable": null}),
        json!({"minAvailable": "50%", "maxUnavailable": null}),
        json!({"minAvailable": null, "maxUnavailable": 1}),
        json!({"minAvailable": null, "maxUnavailable": "30%"}),
    ]
}

/// How many healthy pods that makes of so many that are expected.
fn desired(bound: usize, expected: u64) -> u64 {
    match bound {
        0 => 2,
        1 => expected.div_ceil(2),
        2 => expected.saturating_sub(1),
        _ => expected - (30 * expected).div_ceil(100),
    }
}

fn cluster() -> Simulation {
    let mut cluster = Simulation::new(
        "kind: PodDisruptionBudget\nmetadata: {name: b, namespace: a, uid: b, generation: 1}\n\
         spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n",
    );
    put_set(&mut cluster, 4);
    (0..4).for_each(|number| add(&mut cluster, number, true));
    cluster
}

fn key() -> Key {
    Key::new("a", "b")
}

fn budget(cluster: &Simulation) -> Value {
    cluster.get("PodDisruptionBudget", "b").unwrap()
}

fn put_set(cluster: &mut Simulation, replicas: u64) {
    cluster.put(json!({
        "kind": "ReplicaSet", "metadata": {"name": "web", "namespace": "a", "uid": "rs"}, "spec": {"replicas": replicas},
    }));
}

fn add(cluster: &mut Simulation, number: u64, is_owned: bool) {
    let owners = if is_owned {
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "rs", "controller": true}])
    } else {
        json!([])
    };
    cluster.put(json!({
        "kind": "Pod",
        "metadata": {
            "name": format!("p{number}"), "namespace": "a", "uid": format!("u{number}"),
            "labels": {"app": "web"}, "ownerReferences": owners,
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }));
}

/// Changes the bound, as users do.
fn want(cluster: &mut Simulation, bound: &Value) {
    let generation = budget(cluster)["metadata"]["generation"].as_u64().unwrap();
    let patch = json!({"metadata": {"generation": generation + 1}, "spec": bound});
    cluster.patch("PodDisruptionBudget", "b", &patch);
}

/// What the API server writes when it grants an eviction. The pod goes later, or does not.
fn grant(cluster: &mut Simulation, pod: &str) {
    let allowed = budget(cluster)["status"]["disruptionsAllowed"].as_u64();
    let Some(allowed) = allowed.filter(|allowed| *allowed > 0) else {
        return;
    };
    let now = timestamp::time(after(cluster.seconds).wall);
    let status = json!({"disruptionsAllowed": allowed - 1, "disruptedPods": {pod: now}});
    cluster.patch("PodDisruptionBudget", "b", &json!({"status": status}));
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64) {
    let pod = dice.pick(cluster.names("Pod"));
    match (dice.roll(13), pod) {
        (0 | 1, _) => add(cluster, 10 + turn, dice.roll(5) > 0),
        (2, Some(pod)) => cluster.remove("Pod", &pod),
        (3, Some(pod)) => {
            let mark = json!({"metadata": {"deletionTimestamp": "2026-01-01T10:00:00Z"}});
            cluster.patch("Pod", &pod, &mark);
        }
        (4, Some(pod)) => {
            let said = if dice.roll(3) == 0 { "False" } else { "True" };
            let status = json!({"status": {"conditions": [{"type": "Ready", "status": said}]}});
            cluster.patch("Pod", &pod, &status);
        }
        (5, Some(pod)) => {
            let app = if dice.roll(3) == 0 { "other" } else { "web" };
            let labels = json!({"metadata": {"labels": {"app": app}}});
            cluster.patch("Pod", &pod, &labels);
        }
        (6, _) => {
            let bounds = bounds();
            let bound = match dice.roll(4) {
                0 => &bounds[0],
                1 => &bounds[1],
                2 => &bounds[2],
                _ => &bounds[3],
            };
            want(cluster, bound);
        }
        (7, _) => put_set(cluster, dice.roll(6)),
        (8, _) if dice.roll(3) == 0 => cluster.remove("ReplicaSet", "web"),
        (9 | 10, Some(pod)) => grant(cluster, &pod),
        _ => cluster.cut_off(&key(), reconcile, dice.roll(2)),
    }
    cluster.seconds += dice.roll(30);
}

fn settle(cluster: &mut Simulation, told: &str) {
    rest(cluster, 20, told, |cluster| {
        let busy = cluster.step(&key(), reconcile);
        if busy {
            cluster.seconds += 60;
        }
        busy
    });
}

/// The pods that the budget protects.
fn protected(cluster: &Simulation) -> Vec<Value> {
    let mut pods = cluster.all("Pod");
    pods.retain(|pod| pod["metadata"]["labels"]["app"] == "web");
    pods
}

fn is_going(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

/// The evictions that count, and until when.
fn counted(cluster: &Simulation) -> BTreeMap<String, Micros> {
    let budget = budget(cluster);
    let granted = budget["status"]["disruptedPods"].as_object().cloned();
    let granted = granted.unwrap_or_default().into_iter();
    granted
        .map(|(name, at)| {
            let at = timestamp::parse(at.as_str().unwrap()).unwrap();
            (name, at + DISRUPTION_TIMEOUT)
        })
        .collect()
}

/// Those evictions that have to count now: of pods that are still there, do not go, and may still go soon.
fn still_counting(cluster: &Simulation, mut before: BTreeMap<String, Micros>) -> Vec<String> {
    let now = after(cluster.seconds).wall;
    let pods = protected(cluster);
    before.retain(|name, until| {
        let stays = pods
            .iter()
            .any(|pod| pod["metadata"]["name"] == name.as_str() && !is_going(pod));
        stays && *until > now
    });
    before.into_keys().collect()
}

/// How many pods there should be; none where nobody can say.
fn expected(cluster: &Simulation, bound: usize) -> Option<u64> {
    let pods = protected(cluster);
    if bound == 0 {
        return Some(pods.len() as u64);
    }
    let is_stray = |pod: &Value| pod["metadata"]["ownerReferences"] == json!([]);
    if pods.iter().all(is_stray) {
        return Some(0);
    }
    cluster.get("ReplicaSet", "web")?["spec"]["replicas"].as_u64()
}

/// Which of the bounds a budget has.
fn bound_of(budget: &Value) -> usize {
    let is_same = |bound: &Value| {
        let mut fields = ["minAvailable", "maxUnavailable"].iter();
        fields.all(|field| bound[*field] == budget["spec"][*field])
    };
    bounds().iter().position(is_same).unwrap()
}

/// The status is about the cluster as it is; whether the pods could be counted.
fn tells_the_truth(cluster: &Simulation, told: &str) -> bool {
    let budget = budget(cluster);
    let (status, bound) = (&budget["status"], bound_of(&budget));
    let generation = &budget["metadata"]["generation"];
    assert_eq!(&status["observedGeneration"], generation, "{told}");
    assert_eq!(status["conditions"].as_array().unwrap().len(), 1, "{told}");
    let condition = &status["conditions"][0];
    let Some(expected) = expected(cluster, bound) else {
        assert_eq!(status["disruptionsAllowed"], 0, "{told}");
        assert_eq!(condition["reason"], "SyncFailed", "{told}");
        return false;
    };
    let counted = counted(cluster);
    let pods = protected(cluster);
    let is_healthy = |pod: &&Value| {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let is_ready = pod["status"]["conditions"][0]["status"] == "True";
        is_ready && !is_going(pod) && !counted.contains_key(name)
    };
    let healthy = pods.iter().filter(is_healthy).count() as u64;
    let desired = desired(bound, expected);
    let allowed = if expected == 0 {
        0
    } else {
        healthy.saturating_sub(desired)
    };
    assert_eq!(status["expectedPods"], expected, "{told}");
    assert_eq!(status["desiredHealthy"], desired, "{told}");
    assert_eq!(status["currentHealthy"], healthy, "{told}");
    assert_eq!(status["disruptionsAllowed"], allowed, "{told}");
    let verdict = if allowed > 0 { "True" } else { "False" };
    assert_eq!(condition["status"], verdict, "{told}");
    true
}

#[test]
fn a_budget_says_what_may_be_disrupted_whatever_happens_and_whoever_leads() {
    for seed in 0..200 {
        let (mut cluster, mut dice) = (cluster(), Dice(seed));
        for turn in 0..60 {
            disturb(&mut cluster, &mut dice, turn);
            if dice.roll(2) == 0 {
                continue;
            }
            let told = format!("seed {seed}, turn {turn}");
            let before = counted(&cluster);
            cluster.step(&key(), reconcile);
            if tells_the_truth(&cluster, &told) {
                let left: Vec<String> = counted(&cluster).into_keys().collect();
                assert_eq!(left, still_counting(&cluster, before), "{told}");
            }
        }
        settle(&mut cluster, &format!("seed {seed}"));
        if tells_the_truth(&cluster, &format!("seed {seed}")) {
            assert_eq!(counted(&cluster), BTreeMap::new(), "seed {seed}");
        }
    }
}
