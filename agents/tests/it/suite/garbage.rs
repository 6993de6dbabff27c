//! What becomes of the pods of a controller that is deleted, as is asked.

use super::{becomes, create, goes, has_ready, ready_pods, set, start};
use crate::cluster::Cluster;
use agent_runtime::kinds::Pod;
use agent_runtime::resource_ref::{PODS, REPLICATION_CONTROLLERS};
use agent_runtime::{DeleteParams, PatchType, Propagation, ResourceRef};
use serde_json::{Value, json};
use std::sync::Arc;

const CONTROLLERS: ResourceRef = REPLICATION_CONTROLLERS;

/// A controller that has all its pods.
async fn controller(cluster: &Cluster, name: &str, replicas: u32) -> Value {
    create(cluster, &CONTROLLERS, &set(&CONTROLLERS, name, replicas)).await;
    let ready = |object: &Value| has_ready(object, replicas);
    becomes(cluster, &CONTROLLERS, name, "its pods", ready).await
}

async fn delete(cluster: &Cluster, name: &str, propagation: Propagation) {
    let params = DeleteParams {
        propagation: Some(propagation),
        ..DeleteParams::default()
    };
    let deleted = cluster
        .client
        .delete(&CONTROLLERS, "default", name, &params)
        .await;
    deleted.unwrap();
}

async fn patch_pod(cluster: &Cluster, name: &str, metadata: Value) {
    let (form, body) = (PatchType::Strategic, json!({ "metadata": metadata }));
    let patched = cluster
        .client
        .patch(&PODS, "default", name, form, &body)
        .await;
    patched.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_go_after_their_controller_or_stay_without_it() {
    let cluster = start().await;
    controller(&cluster, "gone", 3).await;
    delete(&cluster, "gone", Propagation::Background).await;
    goes(&cluster, &CONTROLLERS, "gone").await;
    cluster
        .until("the pods to go", &cluster.pods, |pods| {
            pods.in_namespace("default").is_empty().then_some(())
        })
        .await;

    controller(&cluster, "left", 3).await;
    delete(&cluster, "left", Propagation::Orphan).await;
    goes(&cluster, &CONTROLLERS, "left").await;
    let free = |pod: &Arc<Pod>| pod.metadata.owner_references.is_empty();
    cluster
        .until("the pods to be free", &cluster.pods, |pods| {
            pods.in_namespace("default").iter().all(free).then_some(())
        })
        .await;
    ready_pods(&cluster, "left", 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_goes_last_is_there_until_its_last_pod_has_gone() {
    let cluster = start().await;
    controller(&cluster, "last", 4).await;
    let pods = ready_pods(&cluster, "last", 4).await;
    let held = pods[0].metadata.name.clone();
    patch_pod(
        &cluster,
        &held,
        json!({"finalizers": ["test.example/hold"]}),
    )
    .await;
    delete(&cluster, "last", Propagation::Foreground).await;
    cluster
        .until("one pod to be left", &cluster.pods, |pods| {
            let pods = pods.in_namespace("default");
            (pods.len() == 1 && pods[0].metadata.is_deleting()).then_some(())
        })
        .await;
    let waits = cluster.client.get(&CONTROLLERS, "default", "last").await;
    let waits = waits.unwrap();
    assert!(waits["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(
        waits["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    patch_pod(&cluster, &held, json!({"finalizers": null})).await;
    goes(&cluster, &CONTROLLERS, "last").await;
    assert!(cluster.client.get(&PODS, "default", &held).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_with_another_owner_stay_with_it() {
    let cluster = start().await;
    controller(&cluster, "goes", 4).await;
    let stays = create(&cluster, &CONTROLLERS, &set(&CONTROLLERS, "stays", 0)).await;
    let pods = ready_pods(&cluster, "goes", 4).await;
    let shared: Vec<&str> = pods[..2].iter().map(|pod| &*pod.metadata.name).collect();
    for name in &shared {
        let owner = json!({"apiVersion": "v1", "kind": "ReplicationController", "name": "stays", "uid": stays["metadata"]["uid"]});
        patch_pod(&cluster, name, json!({"ownerReferences": [owner]})).await;
    }
    delete(&cluster, "goes", Propagation::Foreground).await;
    goes(&cluster, &CONTROLLERS, "goes").await;
    let left = cluster
        .until("the others to go", &cluster.pods, |pods| {
            let pods = pods.in_namespace("default");
            // What the cache shows may be behind what the API has.
            let alone = |pod: &Arc<Pod>| pod.metadata.owner_references.len() == 1;
            (pods.len() == 2 && pods.iter().all(alone)).then_some(pods)
        })
        .await;
    for pod in left {
        assert!(shared.contains(&&*pod.metadata.name));
        assert!(!pod.metadata.is_deleting());
        let owners = pod.metadata.owner_references.iter();
        let owners: Vec<&str> = owners.map(|owner| &*owner.name).collect();
        assert_eq!(owners, ["stays"]);
    }
}
