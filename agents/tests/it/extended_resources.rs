//! Devices that stand for extended resources, and those that drive pods out.

use crate::cluster::Cluster;
use agent_runtime::kinds::{Pod, ResourceClaim};
use agent_runtime::resource_ref::{DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES};
use agent_runtime::{DeleteParams, PatchType};
use serde_json::{Value, json};

/// A cluster with a node that has this device, of a class that stands for `example.com/gpu`.
async fn cluster_with_gpu(device: &str) -> Cluster {
    let cluster = Cluster::with_nodes(&["n"]).await;
    let class = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"},
        "spec": {"extendedResourceName": "example.com/gpu"}});
    let pool = json!({"name": "n", "generation": 1, "resourceSliceCount": 1});
    let slice = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "gpus"},
        "spec": {"driver": "gpu.example.com", "nodeName": "n", "pool": pool, "devices": [{"name": device}]}});
    for (resource, body) in [(&DEVICE_CLASSES, class), (&RESOURCE_SLICES, slice)] {
        cluster.client.create(resource, "", &body).await.unwrap();
    }
    cluster
}

/// A pod that asks for a device by the name of the resource.
async fn create_pod(cluster: &Cluster, name: &str) -> Value {
    let containers =
        json!([{"name": "c", "image": "i", "resources": {"limits": {"example.com/gpu": "1"}}}]);
    let body = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 0}});
    cluster.create_pod(&body).await
}

fn claim_of(pod: &Pod) -> String {
    let status = pod.status.extended_resource_claim_status.as_ref();
    let status = status.expect("a claim was made for it");
    status.resource_claim_name.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_gets_a_device_for_an_extended_resource_and_gives_it_back() {
    let cluster = cluster_with_gpu("one").await;
    let client = &cluster.client;
    let claims = cluster.hub.cache::<ResourceClaim>();
    let made = create_pod(&cluster, "first").await;
    let first = cluster.pod("the pod to run", "first", Pod::is_ready).await;
    assert_eq!(first.spec.node_name, "n");
    let name = claim_of(&first);
    assert!(name.starts_with("first-extended-resources-"), "{name}");
    let pod = client.get(&PODS, "default", "first").await.unwrap();
    let mapping = json!({"containerName": "c", "resourceName": "example.com/gpu", "requestName": "container-0-request-0"});
    let status = &pod["status"]["extendedResourceClaimStatus"];
    assert_eq!(status["requestMappings"], json!([mapping]));

    let claim = client.get(&RESOURCE_CLAIMS, "default", &name).await;
    let claim = claim.unwrap();
    let annotation = "resource.kubernetes.io/extended-resource-claim";
    assert_eq!(claim["metadata"]["annotations"][annotation], "true");
    let owner = &claim["metadata"]["ownerReferences"][0];
    assert_eq!(owner["uid"], made["metadata"]["uid"]);
    let device = &claim["status"]["allocation"]["devices"]["results"][0];
    assert_eq!(
        (&device["device"], &device["request"]),
        (&json!("one"), &json!("container-0-request-0"))
    );
    let user = &claim["status"]["reservedFor"][0];
    assert_eq!(user["uid"], made["metadata"]["uid"]);

    create_pod(&cluster, "second").await;
    let is_told = |pod: &Pod| {
        let told = pod.condition("PodScheduled");
        told.is_some_and(|told| told.message.contains("1 cannot allocate all claims"))
    };
    let second = cluster.pod("the refusal", "second", is_told).await;
    assert!(second.status.extended_resource_claim_status.is_none());

    let now = DeleteParams::default();
    client
        .delete(&PODS, "default", "first", &now)
        .await
        .unwrap();
    let gone = cluster.until("the claim to go", &claims, |claims| {
        claims.get("default", &name).is_none().then_some(())
    });
    gone.await;
    let second = cluster
        .pod("the next pod to run", "second", Pod::is_ready)
        .await;
    assert_ne!(claim_of(&second), name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_goes_when_its_device_is_tainted() {
    let cluster = cluster_with_gpu("one").await;
    create_pod(&cluster, "p").await;
    let pod = cluster.pod("the pod to run", "p", Pod::is_ready).await;
    let taint = json!({"key": "example.com/broken", "effect": "NoExecute"});
    let patch = json!({"spec": {"devices": [{"name": "one", "taints": [taint]}]}});
    let patched = cluster
        .client
        .patch(&RESOURCE_SLICES, "", "gpus", PatchType::Merge, &patch)
        .await;
    patched.unwrap();
    let gone = cluster.until("the pod to go", &cluster.pods, |pods| {
        let now = pods.get("default", "p");
        let same = now.is_some_and(|now| now.metadata.uid == pod.metadata.uid);
        (!same).then_some(())
    });
    gone.await;
    // The device is not given to the next one.
    create_pod(&cluster, "q").await;
    let is_told = |pod: &Pod| {
        let told = pod.condition("PodScheduled");
        told.is_some_and(|told| told.message.contains("1 cannot allocate all claims"))
    };
    cluster.pod("the refusal", "q", is_told).await;
}
