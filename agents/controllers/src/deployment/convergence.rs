//! Whatever happens to a Deployment, its sets and their pods, and wherever leaders are cut off, it arrives at its template,
//! keeps its bounds on the way, and rests. The sets are served by their own controller.

use super::reconcile;
use crate::replica_set;
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};

/// A strategy, and for four replicas: how many are ready at least, and the most that the sets may want together.
const STRATEGIES: [(&str, Option<(usize, u64)>); 4] = [
    (
        "{type: RollingUpdate, rollingUpdate: {maxSurge: '25%', maxUnavailable: '25%'}}",
        Some((3, 5)),
    ),
    (
        "{type: RollingUpdate, rollingUpdate: {maxSurge: 2, maxUnavailable: 0}}",
        Some((4, 6)),
    ),
    (
        "{type: RollingUpdate, rollingUpdate: {maxSurge: 0, maxUnavailable: 1}}",
        Some((3, 4)),
    ),
    ("{type: Recreate}", None),
];

fn cluster(strategy: &str) -> Simulation {
    Simulation::new(&format!(
        "kind: Deployment\nmetadata: {{name: web, namespace: a, uid: d, generation: 1}}\n\
         spec: {{replicas: 4, selector: {{matchLabels: {{app: web}}}}, revisionHistoryLimit: 2, progressDeadlineSeconds: 600, \
         strategy: {strategy}, template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: i0}}]}}}}}}\n"
    ))
}

fn key(name: &str) -> Key {
    Key::new("a", name)
}

fn deployment(cluster: &Simulation) -> Value {
    cluster.get("Deployment", "web").unwrap()
}

/// Changes the spec, as users do.
fn want(cluster: &mut Simulation, spec: &Value) {
    let generation = deployment(cluster)["metadata"]["generation"]
        .as_i64()
        .unwrap();
    let patch = json!({"metadata": {"generation": generation + 1}, "spec": spec});
    cluster.patch("Deployment", "web", &patch);
}

fn want_image(cluster: &mut Simulation, number: u64) {
    let containers = json!([{"name": "c", "image": format!("i{number}")}]);
    want(
        cluster,
        &json!({"template": {"spec": {"containers": containers}}}),
    );
}

/// Somebody of those who work here takes a turn, or is cut off in it.
fn work(cluster: &mut Simulation, dice: &mut Dice) {
    let set = dice.pick(cluster.names("ReplicaSet"));
    let pod = dice.pick(cluster.names("Pod"));
    match (dice.roll(7), set, pod) {
        (0, ..) => cluster.cut_off(&key("web"), reconcile, dice.roll(4)),
        (1, Some(set), _) => cluster.cut_off(&key(&set), replica_set::reconcile, dice.roll(4)),
        (2 | 3, Some(set), _) => {
            cluster.step(&key(&set), replica_set::reconcile);
        }
        (4, _, Some(pod)) => {
            cluster.run(&pod);
        }
        _ => {
            cluster.step(&key("web"), reconcile);
        }
    }
}

fn disturb(cluster: &mut Simulation, dice: &mut Dice) {
    let set = dice.pick(cluster.names("ReplicaSet"));
    let pod = dice.pick(cluster.names("Pod"));
    match (dice.roll(20), set, pod) {
        (0, ..) => want_image(cluster, dice.roll(3)),
        (1, ..) => want(cluster, &json!({"replicas": dice.roll(6)})),
        (2, ..) => want(cluster, &json!({"paused": dice.roll(2) == 0})),
        (3, _, Some(pod)) => cluster.remove("Pod", &pod),
        (4, Some(set), _) => cluster.remove("ReplicaSet", &set),
        (5, Some(set), _) => {
            let nobodys = json!({"metadata": {"ownerReferences": null}});
            cluster.patch("ReplicaSet", &set, &nobodys);
        }
        (6, Some(set), _) => {
            let replicas = json!({"spec": {"replicas": dice.roll(5)}});
            cluster.patch("ReplicaSet", &set, &replicas);
        }
        _ => work(cluster, dice),
    }
    collect(cluster);
    cluster.seconds += dice.roll(30);
}

/// The pods of a set that is gone go with it.
fn collect(cluster: &mut Simulation) {
    let sets = cluster.all("ReplicaSet");
    for pod in cluster.all("Pod") {
        let owner = &pod["metadata"]["ownerReferences"][0]["uid"];
        if sets.iter().all(|set| &set["metadata"]["uid"] != owner) {
            cluster.remove("Pod", pod["metadata"]["name"].as_str().unwrap());
        }
    }
}

fn settle(cluster: &mut Simulation, told: &str) {
    rest(cluster, 200, told, |cluster| {
        let mut busy = cluster.step(&key("web"), reconcile);
        for set in cluster.names("ReplicaSet") {
            busy |= cluster.step(&key(&set), replica_set::reconcile);
        }
        for pod in cluster.names("Pod") {
            busy |= cluster.run(&pod);
        }
        collect(cluster);
        cluster.seconds += 10;
        busy
    });
}

fn image(template: &Value) -> &str {
    template["spec"]["containers"][0]["image"].as_str().unwrap()
}

fn is_going(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

fn revision(object: &Value) -> u64 {
    let text = &object["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
    text.as_str().unwrap().parse().unwrap()
}

/// One set has the template and all the replicas, of the others no more are left than the history may have.
fn has_arrived(cluster: &Simulation, told: &str) {
    let web = deployment(cluster);
    let (replicas, wanted) = (&web["spec"]["replicas"], image(&web["spec"]["template"]));
    let (new, old): (Vec<_>, Vec<_>) = cluster
        .all("ReplicaSet")
        .into_iter()
        .partition(|set| image(&set["spec"]["template"]) == wanted);
    assert_eq!(new.len(), 1, "{told}");
    assert_eq!(&new[0]["spec"]["replicas"], replicas, "{told}");
    assert_eq!(revision(&new[0]), revision(&web), "{told}");
    assert!(old.len() <= 2, "{told}");
    for set in &old {
        assert_eq!(set["spec"]["replicas"], 0, "{told}");
        assert!(revision(set) < revision(&web), "{told}");
    }
    let pods = cluster.all("Pod");
    assert_eq!(Some(pods.len() as u64), replicas.as_u64(), "{told}");
    assert!(pods.iter().all(|pod| image(pod) == wanted), "{told}");
    let conditions = web["status"]["conditions"].as_array().unwrap();
    for (kind, reason) in [
        ("Available", "MinimumReplicasAvailable"),
        ("Progressing", "NewReplicaSetAvailable"),
    ] {
        let mut found = conditions.iter().filter(|c| c["type"] == kind);
        assert_eq!(found.next().unwrap()["reason"], reason, "{told}");
    }
}

#[test]
fn a_deployment_arrives_whatever_happens_and_whoever_leads() {
    for seed in 0..200 {
        let (strategy, _) = STRATEGIES[seed % STRATEGIES.len()];
        let (mut cluster, mut dice) = (cluster(strategy), Dice(seed as u64));
        for _ in 0..100 {
            disturb(&mut cluster, &mut dice);
        }
        want(&mut cluster, &json!({"paused": false}));
        let told = format!("seed {seed}, {strategy}");
        settle(&mut cluster, &told);
        has_arrived(&cluster, &told);
    }
}

/// How far the pods and the sets are from each other in the middle of a rollout.
fn keeps_bounds(cluster: &Simulation, bounds: Option<(usize, u64)>, told: &str) {
    let pods = cluster.all("Pod");
    let Some((ready_min, wanted_max)) = bounds else {
        let mut images: Vec<&str> = pods.iter().map(image).collect();
        images.sort_unstable();
        images.dedup();
        assert!(images.len() <= 1, "{told}: {images:?}");
        return;
    };
    let is_ready = |pod: &&Value| pod["status"]["phase"] == "Running" && !is_going(pod);
    let ready = pods.iter().filter(is_ready).count();
    assert!(ready >= ready_min, "{told}: {ready} are ready");
    let sets = cluster.all("ReplicaSet").into_iter();
    let wanted: u64 = sets
        .map(|set| set["spec"]["replicas"].as_u64().unwrap())
        .sum();
    assert!(wanted <= wanted_max, "{told}: {wanted} are wanted");
}

#[test]
fn a_rollout_keeps_its_bounds_whoever_leads() {
    for seed in 0..100 {
        let (strategy, bounds) = STRATEGIES[seed % STRATEGIES.len()];
        let told = format!("seed {seed}, {strategy}");
        let (mut cluster, mut dice) = (cluster(strategy), Dice(seed as u64));
        settle(&mut cluster, &told);
        for _ in 0..150 {
            if dice.roll(25) == 0 {
                want_image(&mut cluster, dice.roll(4));
            } else {
                work(&mut cluster, &mut dice);
            }
            keeps_bounds(&cluster, bounds, &told);
        }
        settle(&mut cluster, &told);
        has_arrived(&cluster, &told);
    }
}
