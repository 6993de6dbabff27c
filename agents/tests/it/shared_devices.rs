//! Devices that several claims share, and devices that their drivers make ready for a pod.

use crate::cluster::Cluster;
use agent_runtime::kinds::{Pod, ResourceClaim, condition};
use agent_runtime::resource_ref::{DEVICE_CLASSES, PODS, RESOURCE_CLAIMS, RESOURCE_SLICES};
use agent_runtime::{Cache, DeleteParams, PatchType};
use serde_json::{Value, json};
use std::sync::Arc;

const DRIVER: &str = "gpu.example.com";

/// A cluster of one node with a class of all devices and these in a pool.
async fn with_devices(devices: Value) -> (Cluster, Arc<Cache<ResourceClaim>>) {
    let cluster = Cluster::with_nodes(&["n"]).await;
    let class = json!({"apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": "gpu"}, "spec": {}});
    let made = cluster.client.create(&DEVICE_CLASSES, "", &class).await;
    made.unwrap();
    let made = cluster
        .client
        .create(&RESOURCE_SLICES, "", &slice(devices))
        .await;
    made.unwrap();
    let claims = cluster.hub.cache::<ResourceClaim>();
    (cluster, claims)
}

fn slice(devices: Value) -> Value {
    json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": {
        "driver": DRIVER, "allNodes": true, "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": devices}})
}

/// Creates a pod with a claim of the same name, on a device with so much memory if that is said.
async fn claiming(cluster: &Cluster, name: &str, memory: Option<&str>) {
    let mut exactly = json!({"deviceClassName": "gpu"});
    if let Some(memory) = memory {
        exactly["capacity"] = json!({"requests": {"memory": memory}});
    }
    let claim = json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}});
    let client = &cluster.client;
    client
        .create(&RESOURCE_CLAIMS, "default", &claim)
        .await
        .unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": 1, "resourceClaims": [{"name": "gpu", "resourceClaimName": name}],
            "containers": [{"name": "c", "image": "i", "resources": {"claims": [{"name": "gpu"}]}}]}});
    cluster.create_pod(&pod).await;
}

async fn runs(cluster: &Cluster, name: &str) {
    cluster.pod("the pod to run", name, Pod::is_ready).await;
}

/// What a claim has got, once `wanted` says that this is it.
async fn result(
    cluster: &Cluster,
    claims: &Cache<ResourceClaim>,
    name: &str,
    wanted: impl Fn(&Value) -> bool,
) -> (Value, Value) {
    let has = |claims: &Cache<ResourceClaim>| {
        let claim = claims.get("default", name)?;
        let allocation = claim.status.allocation.clone()?;
        let result = allocation["devices"]["results"][0].clone();
        wanted(&result).then_some((result, allocation))
    };
    cluster.until("the devices of a claim", claims, has).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_share_a_device_as_long_as_it_has_enough() {
    let policy = json!({"default": "1Gi", "validRange": {"min": "1Gi", "step": "2Gi"}});
    let (cluster, claims) = with_devices(json!([{"name": "one", "allowMultipleAllocations": true,
        "capacity": {"memory": {"value": "10Gi", "requestPolicy": policy}}}]))
    .await;
    claiming(&cluster, "a", Some("4Gi")).await;
    runs(&cluster, "a").await;
    claiming(&cluster, "b", Some("5Gi")).await;
    runs(&cluster, "b").await;
    let (first, _) = result(&cluster, &claims, "a", |_| true).await;
    let (second, _) = result(&cluster, &claims, "b", |_| true).await;
    assert_eq!(
        (&first["device"], &second["device"]),
        (&json!("one"), &json!("one"))
    );
    assert_eq!(first["consumedCapacity"], json!({"memory": "5Gi"}));
    assert_eq!(second["consumedCapacity"], json!({"memory": "5Gi"}));
    assert!(first["shareID"].is_string() && first["shareID"] != second["shareID"]);
    claiming(&cluster, "c", None).await;
    let refused = |pod: &Pod| {
        let scheduled = condition(&pod.status.conditions, "PodScheduled");
        scheduled.is_some_and(|scheduled| scheduled.reason == "Unschedulable")
    };
    cluster.pod("no room", "c", refused).await;
    let now = DeleteParams::default();
    let gone = cluster.client.delete(&PODS, "default", "a", &now).await;
    gone.unwrap();
    runs(&cluster, "c").await;
}

/// A device that is attached to the node of the pod that gets it.
fn fabric(name: &str) -> Value {
    json!({"name": name, "bindsToNode": true,
        "bindingConditions": ["attached"], "bindingFailureConditions": ["broken"]})
}

/// The driver says of a device of a claim that this is so.
async fn tell(cluster: &Cluster, claim: &str, device: &str, kind: &str) {
    let condition = json!({"type": kind, "status": "True", "reason": "Fabric", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let told = json!({"driver": DRIVER, "pool": "p", "device": device, "conditions": [condition]});
    let body = json!({"status": {"devices": [told]}});
    let (resource, form) = (&RESOURCE_CLAIMS, PatchType::Merge);
    let patched = cluster
        .client
        .patch_status(resource, "default", claim, form, &body)
        .await;
    patched.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_bound_when_its_device_is_ready_and_gets_another_when_it_cannot_be() {
    let (cluster, claims) = with_devices(json!([fabric("one"), fabric("two")])).await;
    let device = |name: &'static str| move |result: &Value| result["device"] == name;
    claiming(&cluster, "c", None).await;
    let (result_of_one, allocation) = result(&cluster, &claims, "c", device("one")).await;
    assert_eq!(result_of_one["bindingConditions"], json!(["attached"]));
    assert!(allocation["allocationTimestamp"].is_string());
    let here = json!({"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["n"]}]}]});
    assert_eq!(allocation["nodeSelector"], here);
    // The driver takes back what it cannot attach, and the claim gets the other one.
    let mut rest = slice(json!([fabric("two")]));
    rest["spec"]["pool"]["generation"] = json!(2);
    let found = cluster.client.get(&RESOURCE_SLICES, "", "s").await.unwrap();
    rest["metadata"]["resourceVersion"] = found["metadata"]["resourceVersion"].clone();
    let updated = cluster
        .client
        .update(&RESOURCE_SLICES, "", "s", &rest)
        .await;
    updated.unwrap();
    tell(&cluster, "c", "one", "broken").await;
    result(&cluster, &claims, "c", device("two")).await;
    // Others do not wait for it.
    let free = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "free", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.create_pod(&free).await;
    runs(&cluster, "free").await;
    let waiting = cluster.pods.get("default", "c").unwrap();
    assert_eq!(waiting.spec.node_name, "");
    tell(&cluster, "c", "two", "attached").await;
    runs(&cluster, "c").await;
}
