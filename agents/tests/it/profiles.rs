//! Plugins of the scheduler that only a configuration enables.

use crate::cluster::Cluster;
use agent_runtime::PatchType;
use agent_runtime::kinds::{Pod, condition};
use agent_runtime::resource_ref::{NAMESPACES, NODES, PODS, SERVICE_ACCOUNTS};
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

async fn told(cluster: &Cluster, name: &str, words: &str) {
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

/// A cluster in which both namespaces have more pods than fit, before the scheduler starts.
async fn shared(weights: &str) -> BTreeMap<String, usize> {
    let sorted = "{queueSort: {disabled: [{name: PrioritySort}], enabled: [{name: FairShare}]}}";
    let (cluster, mut context) = Cluster::bare().await;
    context.scheduler_config = config(&format!(
        "plugins: {sorted}\n  pluginConfig: [{{name: FairShare, args: {{weights: [{weights}]}}}}]"
    ))
    .into();
    let client = &cluster.client;
    let amount = json!({"cpu": "100", "memory": "100Gi", "pods": "100", CHIPS: "4"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "one"},
        "status": {"capacity": amount, "allocatable": amount}});
    client.create(&NODES, "", &node).await.unwrap();
    // A new node is closed until somebody says that it is ready.
    let open = json!({"spec": {"taints": null}});
    let opened = client
        .patch(&NODES, "", "one", PatchType::Merge, &open)
        .await;
    opened.unwrap();
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
