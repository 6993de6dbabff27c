//! Whatever happens to pods that several ReplicaSets select, and wherever leaders are cut off, each set gets its pods and rests.

use super::reconcile;
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};

/// Two sets that select the same, and one that selects others.
const SETS: [(&str, &str); 3] = [("a", "x"), ("b", "x"), ("c", "y")];

fn cluster() -> Simulation {
    let sets = SETS.map(|(name, app)| {
        format!(
            "---\nkind: ReplicaSet\nmetadata: {{name: {name}, namespace: a, uid: {name}, generation: 1}}\n\
             spec: {{replicas: 2, selector: {{matchLabels: {{app: {app}}}}}, \
             template: {{metadata: {{labels: {{app: {app}}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}\n"
        )
    });
    Simulation::new(&sets.concat())
}

fn key(name: &str) -> Key {
    Key::new("a", name)
}

fn owner(pod: &Value) -> &str {
    let owner = &pod["metadata"]["ownerReferences"][0]["uid"];
    owner.as_str().unwrap_or_default()
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice, turn: u64) {
    let (set, app) = SETS[usize::try_from(dice.roll(3)).unwrap()];
    let pods = cluster.names("Pod");
    let some = dice.roll(u64::try_from(pods.len().max(1)).unwrap());
    let pod = pods.get(usize::try_from(some).unwrap()).cloned();
    match (dice.roll(12), pod) {
        (0, Some(pod)) => {
            let labels = json!({"metadata": {"labels": {"app": app}}});
            cluster.patch("Pod", &pod, &labels);
        }
        (1, Some(pod)) => cluster.remove("Pod", &pod),
        (2, Some(pod)) => cluster.patch("Pod", &pod, &json!({"status": {"phase": "Failed"}})),
        (3, Some(pod)) => {
            let nobodys = json!({"metadata": {"ownerReferences": null}});
            cluster.patch("Pod", &pod, &nobodys);
        }
        (4, _) => cluster.put(json!({
            "kind": "Pod", "metadata": {"name": format!("p{turn}"), "namespace": "a", "uid": format!("p{turn}"), "labels": {"app": app}},
            "spec": {}, "status": {"phase": "Pending"},
        })),
        (5, _) => {
            let replicas = json!({"spec": {"replicas": dice.roll(5)}});
            cluster.patch("ReplicaSet", set, &replicas);
        }
        (6, Some(pod)) => {
            cluster.run(&pod);
        }
        (7 | 8, _) => cluster.cut_off(&key(set), reconcile, dice.roll(4)),
        _ => {
            cluster.step(&key(set), reconcile);
        }
    }
}

fn settle(cluster: &mut Simulation, told: &str) {
    rest(cluster, 100, told, |cluster| {
        let mut busy = false;
        for (set, _) in SETS {
            busy |= cluster.step(&key(set), reconcile);
        }
        for pod in cluster.names("Pod") {
            busy |= cluster.run(&pod);
        }
        cluster.seconds += 60;
        busy
    });
}

#[test]
fn sets_that_select_the_same_pods_keep_to_their_own_whoever_leads() {
    for seed in 0..100 {
        let (mut cluster, mut dice) = (cluster(), Dice(seed));
        for turn in 0..80 {
            disturb(&mut cluster, &mut dice, turn);
        }
        settle(&mut cluster, &format!("seed {seed}"));
        let is_active = |pod: &Value| {
            pod["status"]["phase"] != "Failed" && pod["metadata"]["deletionTimestamp"].is_null()
        };
        let pods: Vec<Value> = cluster.all("Pod").into_iter().filter(is_active).collect();
        for (set, app) in SETS {
            let wanted = &cluster.get("ReplicaSet", set).unwrap()["spec"]["replicas"];
            let mine: Vec<&Value> = pods.iter().filter(|pod| owner(pod) == set).collect();
            let wanted = usize::try_from(wanted.as_u64().unwrap()).unwrap();
            assert_eq!(mine.len(), wanted, "seed {seed}: {set}");
            assert!(
                mine.iter()
                    .all(|pod| pod["metadata"]["labels"]["app"] == app)
            );
        }
        for pod in &pods {
            let owners = pod["metadata"]["ownerReferences"].as_array();
            assert_eq!(owners.map_or(0, Vec::len), 1, "seed {seed}: {pod}");
        }
    }
}
