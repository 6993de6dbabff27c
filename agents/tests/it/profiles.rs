//! Plugins of the scheduler that only a configuration enables.

use crate::cluster::Cluster;
use agent_runtime::kinds::{Pod, condition};
use agent_runtime::pressure::{self, Pressure};
use agent_runtime::resource_ref::{NAMESPACES, NODES, PODS, PRIORITY_CLASSES, SERVICE_ACCOUNTS};
use agent_runtime::{Client, PatchType, timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A resource that no node has until a test says so.
const CHIPS: &str = "example.com/chips";

fn config(plugins: &str) -> String {
    format!(
        "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nprofiles:\n- {plugins}\n"
    )
}

fn pod(name: &str, chips: u32) -> Value {
    let amount = json!({CHIPS: chips.to_string()});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "c", "image": "pause", "resources": {"requests": amount, "limits": amount}}]}})
}

fn member(name: &str, chips: u32, group: &str, min_count: u32) -> Value {
    let mut pod = pod(name, chips);
    pod["metadata"]["annotations"] =
        json!({"scheduling.kontiki.io/pod-group-min-count": min_count.to_string()});
    pod["spec"]["schedulingGroup"] = json!({"podGroupName": group});
    pod
}

async fn give_chips(cluster: &Cluster, node: &str, chips: u32) {
    let amount = json!({CHIPS: chips.to_string()});
    let status = json!({"status": {"capacity": amount, "allocatable": amount}});
    let form = PatchType::Strategic;
    let client = &cluster.client;
    client
        .patch_status(&NODES, "", node, form, &status)
        .await
        .unwrap();
}

pub(crate) async fn told(cluster: &Cluster, name: &str, words: &str) {
    let told = |pod: &Pod| {
        let scheduled = condition(&pod.status.conditions, "PodScheduled");
        scheduled.is_some_and(|c| c.status == "False" && c.message.contains(words))
    };
    cluster.pod(words, name, told).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pods_of_a_group_run_together_or_not_at_all() {
    let config = config("plugins: {multiPoint: {enabled: [{name: GangScheduling}]}}");
    let cluster = Cluster::with_nodes_and_profiles(&["one"], &config).await;
    give_chips(&cluster, "one", 3).await;
    // Two of three that are needed.
    for name in ["a", "b"] {
        cluster.create_pod(&member(name, 1, "small", 3)).await;
    }
    for name in ["a", "b"] {
        told(&cluster, name, "waiting for minCount pods from a gang").await;
    }
    // All that are needed, and room for one of them.
    for name in ["x", "y"] {
        cluster.create_pod(&member(name, 2, "large", 2)).await;
    }
    for name in ["x", "y"] {
        let words = "1 of 2 waiting pods of pod group \"large\" fit, and 2 are needed: \
            0/1 nodes are available: 1 Insufficient example.com/chips.";
        told(&cluster, name, words).await;
    }
    let placed = |pod: &Pod| !pod.spec.node_name.is_empty();
    assert!(
        !cluster
            .pods
            .in_namespace("default")
            .iter()
            .any(|pod| placed(pod))
    );
    // The third brings the others with it, for whom there was room all the time.
    cluster.create_pod(&member("c", 1, "small", 3)).await;
    for name in ["a", "b", "c"] {
        cluster.pod("the group to run", name, Pod::is_ready).await;
    }
    assert!(
        !cluster
            .pods
            .in_namespace("default")
            .iter()
            .any(|pod| { placed(pod) && ["x", "y"].contains(&pod.metadata.name.as_str()) })
    );
    give_chips(&cluster, "one", 7).await;
    for name in ["x", "y"] {
        cluster.pod("the group to run", name, Pod::is_ready).await;
    }
    // One more than needed is a pod like others.
    cluster.create_pod(&member("d", 1, "small", 3)).await;
    let words = "0/1 nodes are available: 1 Insufficient example.com/chips.";
    told(&cluster, "d", words).await;
}

/// What the agent of a node that has something to measure says of it.
fn pressed(figures: [u8; 3]) -> Value {
    json!({pressure::ANNOTATION: Pressure::of(figures).tell(timestamp::now())})
}

/// A node on which nothing runs pods, and the right to make some.
pub(crate) async fn bare_node(client: &Client, name: &str, annotations: Value) {
    let amount = json!({"cpu": "100", "memory": "100Gi", "pods": "100", CHIPS: "4"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": annotations},
        "status": {"capacity": amount, "allocatable": amount}});
    client.create(&NODES, "", &node).await.unwrap();
    // A new node is closed until somebody says that it is ready.
    let open = json!({"spec": {"taints": null}});
    let opened = client
        .patch(&NODES, "", name, PatchType::Merge, &open)
        .await;
    opened.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_keep_away_from_nodes_where_work_waits() {
    let (cluster, mut context) = Cluster::bare().await;
    context.scheduler_config = config(
        "plugins: {multiPoint: {enabled: [{name: PressureAware, weight: 100}]}}\n  \
         pluginConfig: [{name: PressureAware, args: {resources: [{name: cpu}], maxPressure: {cpu: 80, io: 90}}}]",
    )
    .into();
    let client = &cluster.client;
    for (name, figures) in [
        ("calm", [5, 0, 95]),
        ("busy", [60, 0, 95]),
        ("full", [81, 0, 95]),
    ] {
        bare_node(client, name, pressed(figures)).await;
    }
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let made = client.create(&SERVICE_ACCOUNTS, "default", &account).await;
    made.unwrap();
    let mut of_disks = pod("of-disks", 0);
    of_disks["metadata"]["annotations"] =
        json!({"scheduling.kontiki.io/pressure-sensitivity": "io=2"});
    for pod in [pod("a", 0), pod("b", 0), pod("c", 0), of_disks] {
        client.create(&PODS, "default", &pod).await.unwrap();
    }
    tokio::spawn(scheduler::run(context));
    let on = |node: &'static str| move |pod: &Pod| pod.spec.node_name == node;
    for name in ["a", "b", "c"] {
        cluster.pod("the calmest node", name, on("calm")).await;
    }
    let words = "0/3 nodes are available: 3 node(s) had too much io pressure.";
    told(&cluster, "of-disks", words).await;
    let calmer = json!({"metadata": {"annotations": pressed([79, 0, 90])}});
    let form = PatchType::Merge;
    let patched = client.patch(&NODES, "", "full", form, &calmer).await;
    patched.unwrap();
    cluster
        .pod("the node that calmed down", "of-disks", on("full"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_makes_room_for_all_of_it_or_for_none() {
    let config = config("plugins: {multiPoint: {enabled: [{name: GangScheduling}]}}");
    let cluster = Cluster::with_nodes_and_profiles(&["one"], &config).await;
    give_chips(&cluster, "one", 4).await;
    for (name, value) in [("low", -10), ("high", 10)] {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
            "metadata": {"name": name}, "value": value});
        let made = cluster.client.create(&PRIORITY_CLASSES, "", &class).await;
        made.unwrap();
    }
    // A read of the newest state: what comes after it knows the classes.
    let read = cluster.client.get(&PRIORITY_CLASSES, "", "high").await;
    read.unwrap();
    let of_class = |mut pod: Value, class: &str| {
        pod["spec"]["priorityClassName"] = json!(class);
        pod
    };
    for name in ["low-0", "low-1"] {
        let pod = of_class(pod(name, 1), "low");
        cluster.create_pod(&pod).await;
        cluster.pod("a pod to run", name, Pod::is_ready).await;
    }
    cluster.create_pod(&pod("usual", 1)).await;
    cluster.pod("a pod to run", "usual", Pod::is_ready).await;
    let there = |name: &str| {
        let pods = cluster.pods.in_namespace("default");
        let is = |pod: &&std::sync::Arc<Pod>| pod.metadata.name == name;
        pods.iter()
            .find(is)
            .is_some_and(|pod| pod.metadata.deletion_timestamp.is_none())
    };
    // Even without all others there is no room for this one: nobody goes.
    for name in ["huge-0", "huge-1"] {
        let pod = of_class(member(name, 3, "huge", 2), "high");
        cluster.create_pod(&pod).await;
    }
    for name in ["huge-0", "huge-1"] {
        told(
            &cluster,
            name,
            "0 of 2 waiting pods of pod group \"huge\" fit, and 2 are needed",
        )
        .await;
    }
    assert!(["low-0", "low-1", "usual"].into_iter().all(there));
    // For this one the two that matter least have to.
    for name in ["x", "y", "z"] {
        let pod = of_class(member(name, 1, "fits", 3), "high");
        cluster.create_pod(&pod).await;
    }
    for name in ["x", "y", "z"] {
        cluster.pod("the group to run", name, Pod::is_ready).await;
    }
    assert!(there("usual") && !there("low-0") && !there("low-1"));
}

/// A cluster in which both namespaces have more pods than fit, before the scheduler starts.
async fn shared(weights: &str) -> BTreeMap<String, usize> {
    let sorted = "{queueSort: {disabled: [{name: PrioritySort}], enabled: [{name: FairShare}]}}";
    let (cluster, mut context) = Cluster::bare().await;
    context.scheduler_config = config(&format!(
        "plugins: {sorted}\n  pluginConfig: [{{name: FairShare, args: {{weights: [{weights}]}}}}]"
    ))
    .into();
    let client = &cluster.client;
    bare_node(client, "one", json!({})).await;
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    for namespace in ["first", "second"] {
        let made =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        client.create(&NAMESPACES, "", &made).await.unwrap();
        let made = client.create(&SERVICE_ACCOUNTS, namespace, &account).await;
        made.unwrap();
        for number in 0..5 {
            let pod = pod(&format!("p{number}"), 1);
            client.create(&PODS, namespace, &pod).await.unwrap();
        }
    }
    tokio::spawn(scheduler::run(context));
    cluster
        .until("the room to be shared", &cluster.pods, |pods| {
            let mut counts = BTreeMap::new();
            let placed = pods.list();
            for pod in placed.iter().filter(|pod| !pod.spec.node_name.is_empty()) {
                *counts.entry(pod.metadata.namespace.clone()).or_default() += 1;
            }
            (counts.values().sum::<usize>() == 4).then_some(counts)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_share_what_there_is_by_their_weights() {
    let counts =
        |first, second| BTreeMap::from([("first".into(), first), ("second".into(), second)]);
    // By age all would be of the first.
    assert_eq!(shared("").await, counts(2, 2));
    let weighted = shared("{namespace: second, weight: 3}").await;
    assert_eq!(weighted, counts(1, 3));
}
