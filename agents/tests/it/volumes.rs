//! The lives of volumes and of claims.

use crate::cluster::Cluster;
use agent_runtime::kinds::{Kind, PersistentVolume, PersistentVolumeClaim};
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use agent_runtime::{Cache, DeleteParams, ListParams, PatchType, ResourceRef};
use serde_json::{Value, json};

/// Patched, deleted, made again, updated, and deleted as a collection, with the finalizer that protects what is in use.
async fn walk<T: Kind>(cluster: &Cluster, resource: &ResourceRef, cache: &Cache<T>, body: Value) {
    let namespace = if resource.namespaced { "default" } else { "" };
    let (client, kind) = (&cluster.client, &*resource.kind);
    let list = ListParams {
        label_selector: "e2e=volumes".into(),
        ..ListParams::default()
    };
    let listed = async || {
        let list = client.list(resource, "", &list).await.unwrap();
        list["items"].as_array().unwrap().len()
    };
    let gone = async || {
        let gone = cluster.until(kind, cache, |all| {
            all.get(namespace, "v").is_none().then_some(())
        });
        gone.await;
        let read = client.get(resource, namespace, "v").await;
        assert!(read.unwrap_err().is_not_found(), "{kind}");
        assert_eq!(listed().await, 0, "{kind}");
    };
    // So that it is not taken for gone before the cache has seen it at all.
    let seen = async |made: &Value| {
        let uid = made["metadata"]["uid"].as_str().unwrap();
        let seen = cluster.until(kind, cache, |all| {
            all.get(namespace, "v").filter(|o| o.meta().uid == uid)
        });
        seen.await;
    };
    let made = client.create(resource, namespace, &body).await.unwrap();
    seen(&made).await;
    let protected = made["metadata"]["finalizers"][0].as_str();
    assert!(
        protected.is_some_and(|f| f.ends_with("-protection")),
        "{made}"
    );
    assert_eq!(listed().await, 1, "{kind}");
    let label = json!({"metadata": {"labels": {"v": "patched"}}});
    let form = PatchType::Strategic;
    client
        .patch(resource, namespace, "v", form, &label)
        .await
        .unwrap();
    let read = client.get(resource, namespace, "v").await.unwrap();
    assert_eq!(read["metadata"]["labels"]["v"], "patched");
    let all = DeleteParams::default();
    client.delete(resource, namespace, "v", &all).await.unwrap();
    gone().await;

    let again = client.create(resource, namespace, &body).await.unwrap();
    seen(&again).await;
    assert_ne!(again["metadata"]["uid"], made["metadata"]["uid"]);
    loop {
        let mut object = client.get(resource, namespace, "v").await.unwrap();
        object["metadata"]["labels"]["v"] = "updated".into();
        match client.update(resource, namespace, "v", &object).await {
            Err(error) if error.is_conflict() => {}
            other => {
                assert_eq!(other.unwrap()["metadata"]["labels"]["v"], "updated");
                break;
            }
        }
    }
    let deleted = client
        .delete_collection(resource, namespace, &list, &all)
        .await;
    deleted.unwrap();
    gone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_and_claims_come_and_go() {
    let cluster = Cluster::start().await;
    let labels = json!({"e2e": "volumes"});
    let size = json!({"storage": "1Gi"});
    let body = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v", "labels": labels},
        "spec": {"capacity": size, "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain",
            "csi": {"driver": "d.example.com", "volumeHandle": "v"}, "storageClassName": "none"}});
    let cache = cluster.hub.cache::<PersistentVolume>();
    walk(&cluster, &PERSISTENT_VOLUMES, &cache, body).await;
    let body = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "v", "namespace": "default", "labels": labels},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": size}, "storageClassName": "none"}});
    let cache = cluster.hub.cache::<PersistentVolumeClaim>();
    walk(&cluster, &PERSISTENT_VOLUME_CLAIMS, &cache, body).await;
}
