//! Nodes that come back, and pods that fail as fast as they are made.

use super::{Line, QUIET, Terms, play, play_on_nodes, template, uid, workload};
use crate::cluster::FAILING;
use agent_runtime::Cache;
use agent_runtime::kinds::{Node, Pod};
use agent_runtime::resource_ref::{
    JOBS, NODES, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

#[tokio::test(start_paused = true)]
async fn a_node_that_returns_after_its_pods_were_replaced_ends_the_old_ones() {
    play_on_nodes(3, async |scene| {
        let tolerations = json!([{"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
        let mut uids = Vec::new();
        for (resource, kind, name, replicas) in [(&REPLICA_SETS, "ReplicaSet", "a", 9), (&STATEFUL_SETS, "StatefulSet", "b", 3)] {
            let labels = json!({"app": name});
            let mut body = workload(kind, name, replicas, &labels, "i");
            body["spec"]["template"]["spec"]["tolerations"] = tolerations.clone();
            uids.push(uid(&scene.create(resource, body).await));
        }
        let wanted = [(uids[0].as_str(), 9), (uids[1].as_str(), 3)];
        let first = scene.lead("first", Terms::default());
        scene.settled(&wanted).await;
        let node = "hollow-00001";
        let behave = async |behaviour: &str| {
            let body = json!({"metadata": {"annotations": {"kontiki.io/hollow-behaviour": behaviour}}});
            scene.patch(&NODES, node, body).await;
        };
        let nodes = scene.cache::<Node>().await;
        let ready = async |ready: bool| {
            let is_so = |nodes: &Cache<Node>| (nodes.get("", node)?.is_ready() == ready).then_some(());
            scene.until("the node to be so", &nodes, is_so).await;
        };
        let there = |pods: &Cache<Pod>| pods.on_node(node).len();
        let before = there(&scene.cluster.pods);
        assert!(before > 0);
        behave("silent").await;
        ready(false).await;
        // In the middle of the replacement.
        first.switch_off();
        scene.lead("second", Terms::default());
        let elsewhere = |pods: &Cache<Pod>| {
            let pods = pods.owned_by(&uids[0]);
            let runs = |pod: &&Arc<Pod>| pod.spec.node_name != node && pod.is_ready();
            (pods.iter().filter(runs).count() == 9).then_some(())
        };
        scene.until("nine elsewhere", &scene.cluster.pods, elsewhere).await;
        scene.pass(QUIET).await;
        assert_eq!(there(&scene.cluster.pods), before, "what nobody has seen end stays");
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        for pod in scene.cluster.pods.owned_by(&uids[1]) {
            *names.entry(pod.metadata.name.clone()).or_default() += 1;
        }
        assert!(names.len() == 3 && names.values().all(|count| *count == 1), "{names:?}");
        behave("steady").await;
        ready(true).await;
        scene.settled(&wanted).await;
        let lines = scene.pass(QUIET).await;
        let of_pods: Vec<_> = lines.iter().filter(|line| line.is_write() && line.is_of("pods")).collect();
        assert!(of_pods.is_empty(), "{of_pods:#?}");
        // Each that was there has been replaced once.
        assert_eq!(scene.ever().len(), 12 + before);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_of_a_node_that_is_no_more_fail_and_are_replaced_once() {
    const REPLICAS: usize = 5;
    const GONE: &str = "gone";
    // In the middle of the adoption, of what is said of the pods, and of their removal.
    for off_after in [2, REPLICAS + 1, REPLICAS + 4] {
        play(async |scene| {
            let failed: Arc<Mutex<BTreeSet<String>>> = Arc::default();
            let failing = failed.clone();
            scene.cluster.pods.subscribe(move |change| {
                let is_told = |pod: &&Arc<Pod>| {
                    let told = pod.condition("DisruptionTarget");
                    told.is_some_and(|told| told.reason == "DeletionByPodGC") && pod.is_finished()
                };
                if let Some(pod) = change.new.as_ref().filter(is_told) {
                    failing.lock().unwrap().insert(pod.metadata.uid.clone());
                }
            });
            let labels = json!({"app": "a"});
            for number in 0..REPLICAS {
                let mut pod = template(&labels, "i");
                pod["apiVersion"] = "v1".into();
                pod["kind"] = "Pod".into();
                pod["metadata"]["name"] = format!("old-{number}").into();
                pod["metadata"]["namespace"] = "default".into();
                pod["spec"]["nodeName"] = GONE.into();
                scene.create(&PODS, pod).await;
            }
            let replicas = i64::try_from(REPLICAS).unwrap();
            let body = workload("ReplicaSet", "a", replicas, &labels, "i");
            let set = uid(&scene.create(&REPLICA_SETS, body).await);
            let first = scene.lead("first", Terms::off_after("pods", off_after));
            first.is_off().await;
            scene.lead("second", Terms::default());
            let none_is_there = |pods: &Cache<Pod>| pods.on_node(GONE).is_empty().then_some(());
            scene
                .until("the old ones to go", &scene.cluster.pods, none_is_there)
                .await;
            scene.settled(&[(&set, REPLICAS)]).await;
            scene.rests().await;
            assert_eq!(scene.cluster.pods.len(), REPLICAS);
            assert_eq!(scene.ever().len(), 2 * REPLICAS);
            assert_eq!(
                failed.lock().unwrap().len(),
                REPLICAS,
                "none goes without a word"
            );
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn pods_that_fail_as_fast_as_they_are_made_are_made_ever_more_slowly() {
    const REPLICAS: usize = 100;
    play(async |scene| {
        let replicas = i64::try_from(REPLICAS).unwrap();
        let labels = |app: &str| json!({"app": app});
        scene.create(&REPLICA_SETS, workload("ReplicaSet", "a", replicas, &labels("a"), FAILING)).await;
        scene.create(&STATEFUL_SETS, workload("StatefulSet", "b", 5, &labels("b"), FAILING)).await;
        let template = template(&labels("c"), FAILING);
        let body = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "c", "namespace": "default"},
            "spec": {"replicas": 5, "selector": labels("c"), "template": template}});
        scene.create(&REPLICATION_CONTROLLERS, body).await;
        let mut job = crate::jobs::job("d", json!({"parallelism": 10, "completions": 10, "backoffLimit": 1000}), "exit 1");
        job["spec"]["template"]["spec"]["containers"][0]["image"] = FAILING.into();
        scene.create(&JOBS, job).await;

        let first = scene.lead("first", Terms::off_after("pods", 2 * REPLICAS));
        first.is_off().await;
        scene.lead("second", Terms::default());
        let began = scene.ever().len();
        scene.pass(QUIET).await;
        let after_a_while = scene.ever().len();
        let lines = scene.pass(QUIET).await;
        let made = scene.ever().len() - after_a_while;
        let made_first = after_a_while - began;
        assert!(made_first > 0, "nobody gives up");
        assert!(made_first <= 12 * REPLICAS, "{made_first}");
        assert!(made <= 3 * REPLICAS, "{made}");
        let events = lines.iter().filter(|line: &&Line| line.is_event()).count();
        assert!(events <= 60, "{events}");
        let others = lines.iter().filter(|line| line.is_write() && !line.is_of("pods")).count();
        assert!(others <= 4 * made + 50, "{others} for {made} pods");
    })
    .await;
}
