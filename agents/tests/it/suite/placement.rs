//! Where pods go on hollow nodes, whom they drive out, and what drives them out.

use super::{NODES_HERE, becomes, create, goes, patch, pod, runs, start};
use crate::cluster::Cluster;
use agent_runtime::kinds::{Event, Pod, condition};
use agent_runtime::resource_ref::{NODES, PODS, PRIORITY_CLASSES};
use agent_runtime::{DeleteParams, PatchType};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the nodes here have until a test says otherwise.
const PROCESSORS: u32 = 32;
/// A resource that no node has until a test says so.
const CHIPS: &str = "example.com/chips";

fn containers(amount: &Value) -> Value {
    json!([{"name": "c", "image": "pause", "resources": {"requests": amount, "limits": amount}}])
}

fn required(term: &Value) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}})
}

fn named(node: &str) -> Value {
    required(
        &json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}),
    )
}

/// Waits for an event of the scheduler whose name begins with the pod's, as the suite looks for it.
async fn told(cluster: &Cluster, pod: &str, reason: &str) -> Arc<Event> {
    let events = cluster.hub.cache::<Event>();
    cluster
        .until(reason, &events, |events| {
            let mut events = events.in_namespace("default").into_iter();
            events.find(|event| event.reason == reason && event.metadata.name.starts_with(pod))
        })
        .await
}

async fn waits(cluster: &Cluster, name: &str) -> Arc<Pod> {
    told(cluster, name, "FailedScheduling").await;
    let refused = |pod: &Pod| {
        let scheduled = condition(&pod.status.conditions, "PodScheduled");
        scheduled.is_some_and(|c| c.reason == "Unschedulable")
    };
    let pod = cluster.pod("the pod to be refused", name, refused).await;
    assert_eq!(pod.spec.node_name, "");
    pod
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_asks_for_more_than_any_node_has_left_waits() {
    let cluster = start().await;
    let milli = |share: u32| json!({"cpu": format!("{}m", PROCESSORS * 10 * share)});
    for node in NODES_HERE {
        patch(
            &cluster,
            &NODES,
            node,
            &json!({"metadata": {"labels": {"node": node}}}),
        )
        .await;
        let term =
            json!({"matchExpressions": [{"key": "node", "operator": "In", "values": [node]}]});
        let spec = json!({"affinity": required(&term), "containers": containers(&milli(70))});
        let name = format!("filler-{node}");
        cluster.create_pod(&pod(&name, spec)).await;
        assert_eq!(runs(&cluster, &name).await.spec.node_name, node);
        let told = told(&cluster, &name, "Scheduled").await;
        let wanted = format!("Successfully assigned default/{name} to {node}");
        assert_eq!(told.message, wanted);
    }
    let spec = json!({"containers": containers(&milli(50))});
    cluster.create_pod(&pod("additional", spec)).await;
    waits(&cluster, "additional").await;
    // And goes where there is room again.
    let filler = format!("filler-{}", NODES_HERE[1]);
    let at_once = DeleteParams {
        grace_seconds: Some(0),
        ..DeleteParams::default()
    };
    let deleted = cluster
        .client
        .delete(&PODS, "default", &filler, &at_once)
        .await;
    deleted.unwrap();
    assert_eq!(
        runs(&cluster, "additional").await.spec.node_name,
        NODES_HERE[1]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_selector_decides_and_a_pod_that_none_matches_waits() {
    let cluster = start().await;
    let spec = json!({"nodeSelector": {"label": "nonempty"}});
    cluster.create_pod(&pod("restricted", spec)).await;
    waits(&cluster, "restricted").await;
    let label = json!({"metadata": {"labels": {"example.com/random": "42"}}});
    patch(&cluster, &NODES, NODES_HERE[1], &label).await;
    let spec = json!({"nodeSelector": {"example.com/random": "42"}});
    cluster.create_pod(&pod("with-labels", spec)).await;
    let placed = runs(&cluster, "with-labels").await;
    assert_eq!(placed.spec.node_name, NODES_HERE[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_of_all_addresses_of_a_node_is_taken_at_each_of_them() {
    let cluster = start().await;
    let at = |address: &str| {
        json!({"nodeSelector": {"kubernetes.io/hostname": NODES_HERE[0]}, "containers": [{"name": "c", "image": "pause",
            "ports": [{"hostPort": 54322, "containerPort": 8080, "protocol": "TCP", "hostIP": address}]}]})
    };
    cluster.create_pod(&pod("all", at("0.0.0.0"))).await;
    assert_eq!(runs(&cluster, "all").await.spec.node_name, NODES_HERE[0]);
    cluster.create_pod(&pod("one", at("127.0.0.1"))).await;
    waits(&cluster, "one").await;
}

async fn class(cluster: &Cluster, name: &str, value: i64) {
    let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": name}, "value": value});
    create(cluster, &PRIORITY_CLASSES, &class).await;
}

/// Fills both nodes with two pods each that take 4 of 5 chips; the first of them matters less than the others. Their names.
async fn fill(cluster: &Cluster) -> Vec<String> {
    for (name, value) in [("low", 1), ("medium", 100), ("high", 1000)] {
        class(cluster, name, value).await;
    }
    // A read of the newest state: what comes after it knows the classes.
    becomes(cluster, &PRIORITY_CLASSES, "high", "the class", |_| true).await;
    let five = json!({CHIPS: "5"});
    let status = json!({"status": {"capacity": five, "allocatable": five}});
    let mut names = Vec::new();
    for node in NODES_HERE {
        let form = PatchType::Strategic;
        let patched = cluster
            .client
            .patch_status(&NODES, "", node, form, &status)
            .await;
        patched.unwrap();
        for number in 0..2 {
            let priority = if names.is_empty() { "low" } else { "medium" };
            let name = format!("{node}-{number}");
            let spec = json!({"priorityClassName": priority, "affinity": named(node),
                "containers": containers(&json!({CHIPS: "2"}))});
            cluster.create_pod(&pod(&name, spec)).await;
            names.push(name);
        }
    }
    for name in &names {
        runs(cluster, name).await;
    }
    names
}

/// The first of the pods is on its way out or gone, and the others are as before.
async fn only_the_first_left(cluster: &Cluster, names: &[String]) {
    for (index, name) in names.iter().enumerate() {
        let read = cluster.client.get(&PODS, "default", name).await;
        let leaves = match read {
            Ok(pod) => pod["metadata"]["deletionTimestamp"].is_string(),
            Err(error) => error.is_not_found(),
        };
        assert_eq!(leaves, index == 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_important_pod_makes_room() {
    let cluster = start().await;
    let names = fill(&cluster).await;
    let two = containers(&json!({CHIPS: "2"}));
    let spec = json!({"priorityClassName": "high", "containers": two});
    cluster.create_pod(&pod("preemptor", spec)).await;
    runs(&cluster, "preemptor").await;
    only_the_first_left(&cluster, &names).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_critical_pod_of_the_system_gets_its_room() {
    let cluster = start().await;
    let names = fill(&cluster).await;
    let two = containers(&json!({CHIPS: "2"}));
    let mut critical = pod(
        "critical",
        json!({"containers": two, "priorityClassName": "system-cluster-critical"}),
    );
    critical["metadata"]["namespace"] = "kube-system".into();
    cluster
        .until("the account", &cluster.accounts, |accounts| {
            accounts.get("kube-system", "default")
        })
        .await;
    let made = cluster.client.create(&PODS, "kube-system", &critical).await;
    assert_eq!(made.unwrap()["spec"]["priority"], 2_000_000_000);
    cluster
        .until("the critical pod to run", &cluster.pods, |pods| {
            pods.get("kube-system", "critical")
                .filter(|pod| pod.is_ready())
        })
        .await;
    only_the_first_left(&cluster, &names).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taint_evicts_each_pod_after_the_time_that_it_bears() {
    let cluster = start().await;
    let bears = |seconds: u32| json!({"nodeName": NODES_HERE[0], "tolerations": [{"key": "evict", "value": "yes", "effect": "NoExecute", "tolerationSeconds": seconds}]});
    cluster.create_pod(&pod("soon", bears(1))).await;
    let mut later = pod("later", bears(10));
    later["metadata"]["finalizers"] = json!(["test.example/hold"]);
    cluster.create_pod(&later).await;
    runs(&cluster, "soon").await;
    runs(&cluster, "later").await;
    let taint =
        json!({"spec": {"taints": [{"key": "evict", "value": "yes", "effect": "NoExecute"}]}});
    patch(&cluster, &NODES, NODES_HERE[0], &taint).await;
    goes(&cluster, &PODS, "soon").await;
    let other = cluster.client.get(&PODS, "default", "later").await;
    assert!(other.unwrap()["metadata"]["deletionTimestamp"].is_null());
    let leaves = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
    let leaving = becomes(&cluster, &PODS, "later", "the eviction", leaves).await;
    let conditions = leaving["status"]["conditions"].as_array().unwrap();
    let why = conditions.iter().find(|c| c["type"] == "DisruptionTarget");
    assert_eq!(why.unwrap()["reason"], "DeletionByTaintManager");
    let free = json!({"metadata": {"finalizers": null}});
    patch(&cluster, &PODS, "later", &free).await;
    goes(&cluster, &PODS, "later").await;
}
