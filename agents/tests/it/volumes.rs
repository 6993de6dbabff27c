//! The lives of volumes and of claims.

use crate::cluster::Cluster;
use agent_runtime::host_path::RECLAIM;
use agent_runtime::kinds::{Kind, Node, PersistentVolume, PersistentVolumeClaim, StorageClass};
use agent_runtime::local_path::{REMOVE, ROOT};
use agent_runtime::resource_ref::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use agent_runtime::{Cache, DeleteParams, ListParams, PatchType, ResourceRef};
use serde_json::{Value, json};
use std::sync::Arc;

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

async fn create(cluster: &Cluster, resource: &ResourceRef, body: Value) {
    let namespace = if resource.namespaced { "default" } else { "" };
    let made = cluster.client.create(resource, namespace, &body).await;
    made.unwrap();
}

fn claim(name: &str, spec: Value) -> Value {
    let mut all =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    for (field, value) in spec.as_object().unwrap() {
        all[field] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name, "namespace": "default"}, "spec": all})
}

fn static_volume(name: &str, size: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
        "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": format!("/srv/{name}")}}})
}

/// Waits until a claim of `default` is as `wanted`.
async fn claim_is(
    cluster: &Cluster,
    what: &str,
    name: &str,
    wanted: impl Fn(&PersistentVolumeClaim) -> bool,
) -> Arc<PersistentVolumeClaim> {
    let claims = cluster.hub.cache::<PersistentVolumeClaim>();
    let found = cluster.until(what, &claims, |all| {
        all.get("default", name).filter(|claim| wanted(claim))
    });
    found.await
}

/// Waits until a volume is in a phase.
async fn volume_is(cluster: &Cluster, name: &str, phase: &str) -> Arc<PersistentVolume> {
    let volumes = cluster.hub.cache::<PersistentVolume>();
    let found = cluster.until(phase, &volumes, |all| {
        all.get("", name)
            .filter(|volume| volume.status.phase == phase)
    });
    found.await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_finds_its_volume_and_leaves_it_released() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let spec = json!({"storageClassName": "manual"});
    create(
        &cluster,
        &PERSISTENT_VOLUME_CLAIMS,
        claim("c", spec.clone()),
    )
    .await;
    for (name, size) in [("large", "5Gi"), ("fit", "2Gi"), ("small", "1Mi")] {
        create(&cluster, &PERSISTENT_VOLUMES, static_volume(name, size)).await;
    }
    let bound = claim_is(&cluster, "a bound claim", "c", |c| {
        c.status.phase == "Bound"
    })
    .await;
    // Whichever came first: the claim did not wait for a better one.
    let name = bound.spec.volume_name.as_str();
    assert_ne!(name, "small");
    assert_eq!(
        bound.metadata.annotations["pv.kubernetes.io/bind-completed"],
        "yes"
    );
    assert!(!bound.status.capacity.is_empty());
    let volume = volume_is(&cluster, name, "Bound").await;
    assert_eq!(
        volume.spec.claim_ref.as_ref().unwrap().uid,
        bound.metadata.uid
    );

    let all = DeleteParams::default();
    client
        .delete(&PERSISTENT_VOLUME_CLAIMS, "default", "c", &all)
        .await
        .unwrap();
    volume_is(&cluster, name, "Released").await;
    // It is not bound again by itself; the other one fits the next claim.
    create(&cluster, &PERSISTENT_VOLUME_CLAIMS, claim("d", spec)).await;
    let other = claim_is(&cluster, "the next bound claim", "d", |c| {
        c.status.phase == "Bound"
    })
    .await;
    assert_ne!(other.spec.volume_name, name);
    // Who takes the claim away gives the volume back.
    let free = json!({"spec": {"claimRef": null}});
    client
        .patch(&PERSISTENT_VOLUMES, "", name, PatchType::Merge, &free)
        .await
        .unwrap();
    volume_is(&cluster, name, "Available").await;
    client
        .delete(&PERSISTENT_VOLUMES, "", &other.spec.volume_name, &all)
        .await
        .unwrap();
    let held = client
        .get(&PERSISTENT_VOLUMES, "", &other.spec.volume_name)
        .await;
    assert!(held.is_ok(), "a bound volume stays until its claim is gone");
}

/// The test is the scheduler, which chooses a node, and the agent of that node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_is_made_for_a_claim_grows_and_goes() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n",
        "labels": {"kubernetes.io/hostname": "n"}, "annotations": {ROOT: "/data/local-path"}}});
    create(&cluster, &NODES, node).await;
    let classes = cluster.hub.cache::<StorageClass>();
    let class = cluster.until("the class", &classes, |all| all.get("", "local-path"));
    class.await;
    // A claim that says nothing of its class gets the default one, before or after it is stored.
    create(&cluster, &PERSISTENT_VOLUME_CLAIMS, claim("c", json!({}))).await;
    let of_class =
        |c: &PersistentVolumeClaim| c.spec.storage_class_name.as_deref() == Some("local-path");
    claim_is(&cluster, "a class", "c", of_class).await;
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}});
    let form = PatchType::Merge;
    let patch = async |body: &Value| {
        client
            .patch(&PERSISTENT_VOLUME_CLAIMS, "default", "c", form, body)
            .await
            .unwrap();
    };
    patch(&chosen).await;
    let bound = claim_is(&cluster, "a bound claim", "c", |c| {
        c.status.phase == "Bound"
    })
    .await;
    let name = format!("pvc-{}", bound.metadata.uid);
    assert_eq!(bound.spec.volume_name, name);
    let volume = volume_is(&cluster, &name, "Bound").await;
    let path = &volume.spec.host_path.as_ref().unwrap().path;
    assert_eq!(*path, format!("/data/local-path/{name}"));

    patch(&json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}})).await;
    let grown = |c: &PersistentVolumeClaim| {
        c.status
            .capacity
            .get("storage")
            .is_some_and(|size| size == "3Gi")
    };
    claim_is(&cluster, "a larger claim", "c", grown).await;

    let all = DeleteParams::default();
    client
        .delete(&PERSISTENT_VOLUME_CLAIMS, "default", "c", &all)
        .await
        .unwrap();
    let nodes = cluster.hub.cache::<Node>();
    let asked = cluster.until("the node to be asked", &nodes, |nodes| {
        let node = nodes.get("", "n")?;
        node.metadata
            .annotations
            .get(REMOVE)
            .filter(|names| **names == name)
            .cloned()
    });
    asked.await;
    assert!(
        client.get(&PERSISTENT_VOLUMES, "", &name).await.is_ok(),
        "not before the directory"
    );
    let removed = json!({"metadata": {"annotations": {REMOVE: null}}});
    client.patch(&NODES, "", "n", form, &removed).await.unwrap();
    let volumes = cluster.hub.cache::<PersistentVolume>();
    let gone = cluster.until("the volume to go", &volumes, |all| {
        all.get("", &name).is_none().then_some(())
    });
    gone.await;
}

/// The agent is a real one, and its directories are this machine's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_of_a_node_removes_and_empties_the_directories_of_volumes_made_by_hand() {
    let cluster = Cluster::start().await;
    let _agent = crate::machines::without_containers(&cluster.client, "n");
    let nodes = cluster.hub.cache::<Node>();
    let registered = cluster.until("the node", &nodes, |nodes| nodes.get("", "n"));
    registered.await;
    let volumes = cluster.hub.cache::<PersistentVolume>();
    cluster.hub.wait_synced().await;
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let client = &cluster.client;
    for policy in ["Delete", "Recycle", "Retain"] {
        let name = policy.to_lowercase();
        let dir = place.path().join(&name);
        std::fs::create_dir_all(dir.join("deep")).unwrap();
        std::fs::write(dir.join("deep/file"), "1").unwrap();
        let mut volume = static_volume(&name, "1Gi");
        volume["spec"]["persistentVolumeReclaimPolicy"] = policy.into();
        volume["spec"]["hostPath"]["path"] = dir.to_str().unwrap().into();
        create(&cluster, &PERSISTENT_VOLUMES, volume).await;
        let spec = json!({"storageClassName": "manual", "volumeName": name});
        create(&cluster, &PERSISTENT_VOLUME_CLAIMS, claim(&name, spec)).await;
        let is_bound = |c: &PersistentVolumeClaim| c.status.phase == "Bound";
        claim_is(&cluster, "a bound claim", &name, is_bound).await;
        volume_is(&cluster, &name, "Bound").await;
        let all = DeleteParams::default();
        client
            .delete(&PERSISTENT_VOLUME_CLAIMS, "default", &name, &all)
            .await
            .unwrap();
    }
    let gone = cluster.until("the deleted one to go", &volumes, |all| {
        all.get("", "delete").is_none().then_some(())
    });
    gone.await;
    assert!(!place.path().join("delete").exists());
    let free = volume_is(&cluster, "recycle", "Available").await;
    assert!(free.spec.claim_ref.is_none());
    let left = std::fs::read_dir(place.path().join("recycle")).unwrap();
    assert_eq!(left.count(), 0);
    volume_is(&cluster, "retain", "Released").await;
    assert!(place.path().join("retain/deep/file").exists());
    cluster
        .until("nothing to be left to do", &nodes, |nodes| {
            let node = nodes.get("", "n")?;
            let asked = node.metadata.annotations.get(RECLAIM);
            asked.is_none().then_some(())
        })
        .await;
}
