//! A volume and a claim that find each other, and go one after the other.

use super::{becomes, create, goes, patch, start, update};
use crate::cluster::Cluster;
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use agent_runtime::{DeleteParams, ListParams, ResourceRef};
use serde_json::{Value, json};

const VOLUMES: ResourceRef = PERSISTENT_VOLUMES;
const CLAIMS: ResourceRef = PERSISTENT_VOLUME_CLAIMS;

/// Makes both, of a driver and a class that there are not, and waits until they are bound.
async fn pair(cluster: &Cluster, name: &str) {
    let size = json!({"storage": "2Gi"});
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name, "labels": {"pool": "here"}},
        "spec": {"capacity": size, "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "here",
            "csi": {"driver": "inline-driver", "volumeHandle": "e2e-conformance"}}});
    create(cluster, &VOLUMES, &volume).await;
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"},
        "spec": {"storageClassName": "here", "accessModes": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"],
            "resources": {"requests": size}}});
    create(cluster, &CLAIMS, &claim).await;
    let bound = |object: &Value| object["status"]["phase"] == "Bound";
    becomes(cluster, &CLAIMS, name, "the claim to be bound", bound).await;
    becomes(cluster, &VOLUMES, name, "the volume to be bound", bound).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_volume_and_its_claim_go_one_by_one_and_as_collections() {
    let cluster = start().await;
    let client = &cluster.client;
    let all = DeleteParams::default();
    pair(&cluster, "first").await;
    for resource in [VOLUMES, CLAIMS] {
        let label = json!({"metadata": {"labels": {"first": "patched"}}});
        let patched = patch(&cluster, &resource, "first", &label).await;
        assert_eq!(patched["metadata"]["labels"]["first"], "patched");
    }
    let deleted = client.delete(&CLAIMS, "default", "first", &all).await;
    deleted.unwrap();
    goes(&cluster, &CLAIMS, "first").await;
    let deleted = client.delete(&VOLUMES, "", "first", &all).await;
    deleted.unwrap();
    goes(&cluster, &VOLUMES, "first").await;

    pair(&cluster, "second").await;
    let updated = ListParams {
        label_selector: "second=updated".into(),
        ..ListParams::default()
    };
    for (resource, namespace) in [(CLAIMS, "default"), (VOLUMES, "")] {
        update(&cluster, &resource, ("second", None), |object| {
            object["metadata"]["labels"] = json!({"second": "updated"});
        })
        .await;
        let listed = client.list(&resource, "", &updated).await.unwrap();
        assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{resource}");
        let deleted = client
            .delete_collection(&resource, namespace, &updated, &all)
            .await;
        deleted.unwrap();
        goes(&cluster, &resource, "second").await;
    }
}
