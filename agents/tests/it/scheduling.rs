//! Where pods go, who has to leave for them, and what drives them out again.

use crate::cluster::Cluster;
use agent_runtime::kinds::{Node, Pod, condition};
use agent_runtime::resource_ref::{NODES, PODS, PRIORITY_CLASSES, REPLICA_SETS};
use agent_runtime::{ListParams, PatchType};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// A resource that no node has until a test says so.
const CHIPS: &str = "example.com/chips";

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut body = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {"name": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "nodeSelector": {"kubernetes.io/hostname": node},
            "containers": [{"name": "c", "image": "pause"}]}});
    for (key, value) in spec.as_object().unwrap() {
        body["spec"][key] = value.clone();
    }
    body
}

fn containers(chips: u32) -> Value {
    let amount = json!({CHIPS: chips.to_string()});
    json!([{"name": "c", "image": "pause", "resources": {"requests": amount, "limits": amount}}])
}

/// Gives a node chips, and classes of the priorities 1 to 4.
async fn chips_and_classes(cluster: &Cluster, node: &str, chips: u32) {
    let amount = json!({CHIPS: chips.to_string()});
    let status = json!({"status": {"capacity": amount, "allocatable": amount}});
    let form = PatchType::Strategic;
    let patched = cluster
        .client
        .patch_status(&NODES, "", node, form, &status)
        .await;
    patched.unwrap();
    for priority in 1..=4 {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": format!("p{priority}")}, "value": priority});
        let made = cluster.client.create(&PRIORITY_CLASSES, "", &class).await;
        made.unwrap();
    }
    // A read of the newest state: what comes after it knows the classes.
    let read = cluster.client.get(&PRIORITY_CLASSES, "", "p4").await;
    read.unwrap();
}

async fn running(cluster: &Cluster, name: &str) -> Arc<Pod> {
    let runs = |pod: &Pod| pod.is_ready();
    cluster.pod("the pod to run", name, runs).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_without_taints_take_pods() {
    let cluster = Cluster::with_nodes(&["one", "two"]).await;
    let list = ListParams {
        field_selector: "spec.unschedulable=false".into(),
        ..ListParams::default()
    };
    let nodes = cluster.client.list_as::<Node>(&NODES, "", &list).await;
    let nodes = nodes.unwrap();
    let free = |node: &&Node| node.is_ready() && node.spec.taints.is_empty();
    assert_eq!(nodes.iter().filter(free).count(), 2);
    for node in ["one", "two"] {
        cluster.create_pod(&pod(node, node, json!({}))).await;
        assert_eq!(running(&cluster, node).await.spec.node_name, node);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_sets_are_preempted_as_little_as_possible() {
    let cluster = Cluster::with_nodes(&["one", "two"]).await;
    chips_and_classes(&cluster, "one", 1000).await;
    // Every pod that ever was, by the name of its set.
    let seen = Arc::new(Mutex::new(BTreeMap::<String, BTreeSet<String>>::new()));
    let seeing = seen.clone();
    cluster.pods.subscribe(move |change| {
        let meta = &change.latest().metadata;
        let set = meta.labels.get("name").cloned().unwrap_or_default();
        let mut seen = seeing.lock().unwrap();
        seen.entry(set).or_default().insert(meta.uid.clone());
    });
    for (priority, chips) in [(1, 200), (2, 300), (3, 450)] {
        let name = format!("rs-{priority}");
        let spec =
            json!({"priorityClassName": format!("p{priority}"), "containers": containers(chips)});
        let template = pod(&name, "one", spec);
        let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "default"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"name": name}},
                "template": {"metadata": {"labels": {"name": name}}, "spec": template["spec"]}}});
        let made = cluster.client.create(&REPLICA_SETS, "default", &set).await;
        made.unwrap();
        cluster
            .until("the set to run", &cluster.sets, |sets| {
                let set = sets.get("default", &name);
                set.filter(|set| set.status.available_replicas == 1)
            })
            .await;
    }
    // 50 are free; 500 come from the two that matter least, and the third need not go.
    let spec = json!({"priorityClassName": "p4", "containers": containers(500)});
    cluster.create_pod(&pod("preemptor", "one", spec)).await;
    running(&cluster, "preemptor").await;
    // The sets replace what they lost, and those find no room and take none from anybody.
    let waiting = |pod: &Arc<Pod>| {
        let scheduled = condition(&pod.status.conditions, "PodScheduled");
        scheduled.is_some_and(|c| c.reason == "Unschedulable")
    };
    cluster
        .until("both to be replaced", &cluster.pods, |pods| {
            let all = pods.in_namespace("default");
            (all.len() == 4 && all.iter().filter(|pod| waiting(pod)).count() == 2).then_some(())
        })
        .await;
    let counts = |set: &str| seen.lock().unwrap()[set].len();
    let names = ["rs-1", "rs-2", "rs-3", "preemptor"];
    assert_eq!(names.map(counts), [2, 2, 1, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_preempted_is_told_why() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    chips_and_classes(&cluster, "one", 1).await;
    let affinity = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["one"]}]}]}}});
    let with = |name: &str, class: &str| {
        let spec =
            json!({"priorityClassName": class, "containers": containers(1), "affinity": affinity});
        pod(name, "one", spec)
    };
    let mut victim = with("victim", "p1");
    victim["metadata"]["finalizers"] = json!(["test.example/hold"]);
    cluster.create_pod(&victim).await;
    running(&cluster, "victim").await;
    cluster.create_pod(&with("preemptor", "p4")).await;
    let leaving = |pod: &Pod| pod.metadata.is_deleting();
    let victim = cluster.pod("the victim to leave", "victim", leaving).await;
    let told = condition(&victim.status.conditions, "DisruptionTarget");
    let told = told.expect("a condition of the disruption");
    assert!(told.is_true());
    assert_eq!(told.reason, "PreemptionByScheduler");
    assert_eq!(
        told.message,
        "default-scheduler: preempting to accommodate a higher priority pod"
    );
    let free = json!({"metadata": {"finalizers": null}});
    let form = PatchType::Merge;
    let patched = cluster
        .client
        .patch(&PODS, "default", "victim", form, &free)
        .await;
    patched.unwrap();
    running(&cluster, "preemptor").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taint_that_goes_in_time_evicts_nobody() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let tolerates = |key: &str, seconds: Option<u32>| {
        let mut toleration = json!({"key": key, "operator": "Exists", "effect": "NoExecute"});
        if let Some(seconds) = seconds {
            toleration["tolerationSeconds"] = seconds.into();
        }
        toleration
    };
    // That the first one goes says that the taints were seen; that the last one goes, that the time of `stays`, which
    // is shorter, would be over.
    let pods = [
        ("goes", vec![]),
        ("stays", vec![tolerates("a", Some(3)), tolerates("b", None)]),
        ("later", vec![tolerates("a", None), tolerates("b", Some(4))]),
    ];
    for (name, tolerations) in &pods {
        let body = pod(name, "one", json!({"tolerations": tolerations}));
        cluster.create_pod(&body).await;
    }
    for (name, _) in &pods {
        running(&cluster, name).await;
    }
    let taint = async |keys: &[&str]| {
        let of = |key: &&str| json!({"key": key, "value": "evict", "effect": "NoExecute"});
        let taints: Vec<Value> = keys.iter().map(of).collect();
        let body = json!({"spec": {"taints": taints}});
        let patched = cluster
            .client
            .patch(&NODES, "", "one", PatchType::Merge, &body)
            .await;
        patched.unwrap();
    };
    taint(&["a", "b"]).await;
    cluster.pod_gone("goes").await;
    taint(&["b"]).await;
    cluster.pod_gone("later").await;
    let stays = running(&cluster, "stays").await;
    assert!(!stays.metadata.is_deleting());
    assert!(condition(&stays.status.conditions, "DisruptionTarget").is_none());
}
