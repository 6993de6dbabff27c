//! Whatever happens to pods, claims and the template, a StatefulSet gets where it should be, and rests there.

use super::reconcile;
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};

fn key() -> Key {
    Key::new("a", "web")
}

fn cluster(replicas: u64, spec: &str) -> Simulation {
    Simulation::new(&format!(
        "kind: StatefulSet\nmetadata: {{name: web, namespace: a, uid: sts, generation: 1}}\n\
         spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: web}}}}, revisionHistoryLimit: 2, {spec}, \
         volumeClaimTemplates: [{{metadata: {{name: data}}}}], \
         template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: c, image: i0}}]}}}}}}\n"
    ))
}

fn template(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

fn serving(cluster: &Simulation) -> usize {
    let pods = cluster.all("Pod").into_iter();
    pods.filter(|pod| {
        pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
    })
    .count()
}

/// Until nothing is left to do; `watch` looks at each state in between.
fn settle(cluster: &mut Simulation, mut watch: impl FnMut(&Simulation)) {
    rest(cluster, 400, "its pods", |cluster| {
        let mut busy = cluster.step(&key(), reconcile);
        watch(cluster);
        for pod in cluster.names("Pod") {
            busy |= cluster.run(&pod);
            watch(cluster);
        }
        cluster.seconds += 60;
        busy
    });
}

fn complete(cluster: &Simulation, replicas: usize, image: &str) {
    let names: Vec<String> = (0..replicas)
        .map(|ordinal| format!("web-{ordinal}"))
        .collect();
    let mut pods = cluster.names("Pod");
    pods.sort();
    assert_eq!(pods, names);
    let status = &cluster.get("StatefulSet", "web").unwrap()["status"];
    for pod in cluster.all("Pod") {
        assert_eq!(pod["spec"]["containers"][0]["image"], image);
        assert_eq!(
            pod["metadata"]["labels"]["controller-revision-hash"],
            status["updateRevision"]
        );
    }
    assert_eq!(status["currentRevision"], status["updateRevision"]);
    for field in [
        "replicas",
        "readyReplicas",
        "updatedReplicas",
        "availableReplicas",
    ] {
        let number = status[field].as_u64().unwrap_or(0);
        assert_eq!(
            usize::try_from(number).unwrap(),
            replicas,
            "{field} {status}"
        );
    }
}

#[test]
fn after_any_disturbance_there_are_all_pods_of_the_last_template() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let management = ["OrderedReady", "Parallel"][usize::from(seed % 2 == 0)];
        let bound = ["", ", maxUnavailable: 2"][usize::from(seed % 4 < 2)];
        let spec = format!(
            "podManagementPolicy: {management}, updateStrategy: {{type: RollingUpdate, rollingUpdate: {{partition: 0{bound}}}}}"
        );
        let mut cluster = cluster(4, &spec);
        let (mut image, mut replicas) = ("i0".to_owned(), 4);
        for _ in 0..60 {
            let name = format!("web-{}", dice.roll(6));
            match dice.roll(10) {
                0 => {
                    image = format!("i{}", dice.roll(4));
                    cluster.patch("StatefulSet", "web", &template(&image));
                }
                1 => {
                    replicas = usize::try_from(dice.roll(6)).unwrap();
                    cluster.patch(
                        "StatefulSet",
                        "web",
                        &json!({"spec": {"replicas": replicas}}),
                    );
                }
                2 => cluster.remove("Pod", &name),
                3 if cluster.get("Pod", &name).is_some() => {
                    cluster.patch("Pod", &name, &json!({"status": {"phase": "Failed"}}));
                }
                4 => cluster.remove("PersistentVolumeClaim", &format!("data-{name}")),
                5 | 6 => {
                    cluster.run(&name);
                }
                7 => cluster.cut_off(&key(), reconcile, dice.roll(4)),
                _ => {
                    cluster.step(&key(), reconcile);
                }
            }
        }
        settle(&mut cluster, |_| {});
        complete(&cluster, replicas, &image);
        assert!(
            !cluster.step(&key(), reconcile),
            "seed {seed}: it does not rest"
        );
        assert!(
            cluster.names("ControllerRevision").len() <= 3,
            "seed {seed}"
        );
    }
}

#[test]
fn in_order_no_pod_is_before_its_time() {
    let mut cluster = cluster(
        5,
        "podManagementPolicy: OrderedReady, updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0}}",
    );
    let waiting = |cluster: &Simulation| cluster.all("Pod").len() - serving(cluster);
    settle(&mut cluster, |cluster| assert!(waiting(cluster) <= 1));
    complete(&cluster, 5, "i0");
    cluster.patch("StatefulSet", "web", &template("i1"));
    settle(&mut cluster, |cluster| assert!(serving(cluster) >= 4));
    complete(&cluster, 5, "i1");
    cluster.patch("StatefulSet", "web", &json!({"spec": {"replicas": 1}}));
    let mut before = 5;
    settle(&mut cluster, |cluster| {
        let now = cluster.names("Pod").len();
        assert!(now + 1 >= before, "two went at once");
        before = now;
    });
    complete(&cluster, 1, "i1");
    assert_eq!(
        cluster.names("PersistentVolumeClaim").len(),
        5,
        "claims stay"
    );
    let told = |reason: &str| {
        cluster
            .events
            .iter()
            .filter(|event| *event == reason)
            .count()
    };
    assert_eq!(
        (told("SuccessfulCreate"), told("SuccessfulDelete")),
        (5 + 5 + 5, 5 + 4)
    );
}
