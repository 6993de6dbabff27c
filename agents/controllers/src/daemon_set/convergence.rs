//! Whatever happens to nodes, pods and templates, a DaemonSet gets where it should be, and rests there.

use super::reconcile;
use crate::simulation::{Dice, Simulation, rest};
use agent_runtime::Key;
use serde_json::{Value, json};

fn key() -> Key {
    Key::new("a", "d")
}

fn cluster(nodes: u64, strategy: &str) -> Simulation {
    let mut text = format!(
        "kind: DaemonSet\nmetadata: {{name: d, namespace: a, uid: ds, generation: 1}}\n\
         spec: {{selector: {{matchLabels: {{app: d}}}}, revisionHistoryLimit: 2, updateStrategy: {strategy}, \
         template: {{metadata: {{labels: {{app: d}}}}, spec: {{containers: [{{name: c, image: i0}}]}}}}}}\n"
    );
    for node in 0..nodes {
        text.push_str(&format!(
            "---\nkind: Node\nmetadata: {{name: n{node}, uid: n{node}}}\n"
        ));
    }
    Simulation::new(&text)
}

fn template(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

/// Until nothing is left to do; `watch` looks at each state in between.
fn settle(cluster: &mut Simulation, watch: impl Fn(&Simulation)) {
    rest(cluster, 200, "its pods", |cluster| {
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

fn ready(cluster: &Simulation) -> usize {
    let all = cluster.all("Pod").into_iter();
    all.filter(|pod| {
        pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null()
    })
    .count()
}

fn one_each(cluster: &Simulation, image: &str) {
    let mut nodes: Vec<String> = cluster
        .all("Pod")
        .iter()
        .map(|pod| {
            assert_eq!(pod["spec"]["containers"][0]["image"], image);
            pod["spec"]["nodeName"].as_str().unwrap().to_owned()
        })
        .collect();
    nodes.sort();
    let mut free: Vec<String> = cluster
        .all("Node")
        .iter()
        .filter(|node| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty))
        .map(|node| node["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    free.sort();
    assert_eq!(nodes, free);
    let status = &cluster.get("DaemonSet", "d").unwrap()["status"];
    for field in [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
    ] {
        assert_eq!(status[field], free.len(), "{field} {status}");
    }
    assert!(status["numberUnavailable"].is_null() && status["numberMisscheduled"] == 0);
}

#[test]
fn after_any_disturbance_there_is_one_pod_of_the_last_template_on_each_node() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let strategy = match dice.roll(3) {
            0 => "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 2, maxSurge: 0}}",
            1 => "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 30%}}",
            _ => "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 40%, maxSurge: 0}}",
        };
        let mut cluster = cluster(7, strategy);
        let mut image = "i0".to_owned();
        for turn in 0..40_u64 {
            let pods = cluster.names("Pod");
            let pick = |dice: &mut Dice| {
                let some = u64::try_from(pods.len().max(1)).unwrap();
                pods.get(usize::try_from(dice.roll(some)).unwrap()).cloned()
            };
            let node = format!("n{}", dice.roll(9));
            match (dice.roll(10), pick(&mut dice)) {
                (0, _) => {
                    image = format!("i{}", dice.roll(4));
                    let mut body = template(&image);
                    body["metadata"]["generation"] = (turn + 2).into();
                    cluster.patch("DaemonSet", "d", &body);
                }
                (1, Some(pod)) => cluster.remove("Pod", &pod),
                (2, Some(pod)) => {
                    cluster.patch("Pod", &pod, &json!({"status": {"phase": "Failed"}}));
                }
                (3, _) => {
                    cluster.remove("Node", &node);
                    // What was there goes with it, as the collector of pods sees to.
                    for pod in cluster.all("Pod") {
                        if pod["spec"]["nodeName"] == *node {
                            cluster.remove("Pod", pod["metadata"]["name"].as_str().unwrap());
                        }
                    }
                }
                (4, _) => {
                    cluster.put(json!({"kind": "Node", "metadata": {"name": node, "uid": node}}))
                }
                (5, _) if cluster.get("Node", &node).is_some() => {
                    let effect =
                        ["NoSchedule", "NoExecute"][usize::try_from(dice.roll(2)).unwrap()];
                    let taints = json!({"spec": {"taints": [{"key": "t", "effect": effect}]}});
                    cluster.patch("Node", &node, &taints);
                }
                (6, Some(pod)) => {
                    cluster.run(&pod);
                }
                (7, _) => cluster.cut_off(&key(), reconcile, dice.roll(4)),
                _ => {
                    cluster.step(&key(), reconcile);
                }
            }
        }
        // Pods that merely may stay where none has to be would be left over.
        for node in cluster.all("Node") {
            let name = node["metadata"]["name"].as_str().unwrap().to_owned();
            cluster.patch("Node", &name, &json!({"spec": {"taints": []}}));
        }
        settle(&mut cluster, |_| {});
        one_each(&cluster, &image);
        let version = cluster.world().caches.pods.list().len();
        assert!(
            !cluster.step(&key(), reconcile),
            "seed {seed}: it does not rest"
        );
        assert_eq!(version, cluster.names("Pod").len());
        assert!(
            cluster.names("ControllerRevision").len() <= 3,
            "seed {seed}"
        );
    }
}

#[test]
fn a_rollout_keeps_to_its_bounds_all_the_way() {
    for (strategy, fewest, most) in [
        (
            "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 1, maxSurge: 0}}",
            9,
            10,
        ),
        (
            "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 25%, maxSurge: 0}}",
            7,
            10,
        ),
        (
            "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 3}}",
            10,
            13,
        ),
        (
            "{type: RollingUpdate, rollingUpdate: {maxUnavailable: 0, maxSurge: 11%}}",
            10,
            12,
        ),
    ] {
        let mut cluster = cluster(10, strategy);
        settle(&mut cluster, |_| {});
        one_each(&cluster, "i0");
        cluster.patch("DaemonSet", "d", &template("i1"));
        settle(&mut cluster, |cluster| {
            assert!(ready(cluster) >= fewest, "{strategy}");
            let going = |pod: &Value| !pod["metadata"]["deletionTimestamp"].is_null();
            let live = cluster.all("Pod").iter().filter(|pod| !going(pod)).count();
            assert!(live <= most, "{strategy}");
        });
        one_each(&cluster, "i1");
    }
}

#[test]
fn a_pod_that_always_fails_is_made_anew_less_and_less_often() {
    for bound in ["maxUnavailable: 1", "maxUnavailable: 0, maxSurge: 1"] {
        let strategy = format!("{{type: RollingUpdate, rollingUpdate: {{{bound}}}}}");
        let mut cluster = cluster(10, &strategy);
        let mut made = 0;
        // An hour, looked at each second.
        for _ in 0..3600 {
            cluster.step(&key(), reconcile);
            for pod in cluster.all("Pod") {
                if pod["status"]["phase"] == "Pending" {
                    made += 1;
                    let name = pod["metadata"]["name"].as_str().unwrap();
                    cluster.patch("Pod", name, &json!({"status": {"phase": "Failed"}}));
                }
            }
            cluster.seconds += 1;
        }
        // After 1, 2, 4 .. 900 seconds: twelve or so for each node.
        assert!((10 * 10..15 * 10).contains(&made), "{bound}: {made}");
        assert!(cluster.names("Pod").len() <= 20, "{bound}");
    }
}
