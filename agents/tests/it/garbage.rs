//! What becomes of dependents when their owner is deleted.

use crate::cluster::Cluster;
use agent_runtime::kinds::Pod;
use agent_runtime::resource_ref::{CONFIG_MAPS, DEPLOYMENTS, PODS, REPLICA_SETS};
use agent_runtime::{DeleteParams, PatchType, Propagation};
use serde_json::json;

async fn delete_deployment(cluster: &Cluster, propagation: Propagation) {
    let params = DeleteParams {
        propagation: Some(propagation),
        ..DeleteParams::default()
    };
    cluster
        .client
        .delete(&DEPLOYMENTS, "default", "web", &params)
        .await
        .unwrap();
}

async fn everything_gone(cluster: &Cluster) {
    cluster
        .until("the deployment to go", &cluster.deployments, |d| {
            d.is_empty().then_some(())
        })
        .await;
    cluster
        .until("the sets to go", &cluster.sets, |s| {
            s.is_empty().then_some(())
        })
        .await;
    cluster
        .until("the pods to go", &cluster.pods, |p| {
            p.is_empty().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn background_deletion_cascades() {
    let cluster = Cluster::start().await;
    cluster.create_deployment(2, "one").await;
    cluster.rolled_out("the rollout", 2).await;
    delete_deployment(&cluster, Propagation::Background).await;
    everything_gone(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreground_deletion_takes_the_owner_last() {
    let cluster = Cluster::start().await;
    cluster.create_deployment(2, "one").await;
    cluster.rolled_out("the rollout", 2).await;
    // A pod that may not go holds its owners.
    let held = cluster.pods.in_namespace("default")[0]
        .metadata
        .name
        .clone();
    let pin = |finalizers: serde_json::Value| json!({"metadata": {"finalizers": finalizers}});
    cluster
        .client
        .patch(
            &PODS,
            "default",
            &held,
            PatchType::Merge,
            &pin(json!(["test.example/hold"])),
        )
        .await
        .unwrap();
    delete_deployment(&cluster, Propagation::Foreground).await;
    cluster
        .until("one pod left", &cluster.pods, |p| {
            (p.len() == 1 && p.list()[0].metadata.is_deleting()).then_some(())
        })
        .await;
    let deployment = cluster
        .deployments
        .get("default", "web")
        .expect("the owner waits");
    assert!(
        deployment.metadata.is_deleting()
            && deployment
                .metadata
                .finalizers
                .contains(&"foregroundDeletion".to_owned())
    );
    cluster
        .client
        .patch(&PODS, "default", &held, PatchType::Merge, &pin(json!(null)))
        .await
        .unwrap();
    everything_gone(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_stay() {
    let cluster = Cluster::start().await;
    cluster.create_deployment(1, "one").await;
    cluster.rolled_out("the rollout", 1).await;
    delete_deployment(&cluster, Propagation::Orphan).await;
    cluster
        .until("the deployment to go", &cluster.deployments, |d| {
            d.is_empty().then_some(())
        })
        .await;
    let set = cluster
        .until("the set to be free", &cluster.sets, |s| {
            s.list()
                .into_iter()
                .find(|s| s.metadata.owner_references.is_empty())
        })
        .await;
    assert_eq!(cluster.pods.len(), 1);
    // A new Deployment with the same selector adopts it.
    cluster.create_deployment(1, "one").await;
    let adopted = cluster
        .until("the adoption", &cluster.sets, |s| {
            s.by_key(&agent_runtime::Key::of(&set.metadata))
                .filter(|s| s.metadata.controller().is_some())
        })
        .await;
    assert_eq!(adopted.metadata.uid, set.metadata.uid);
    cluster.rolled_out("the rollout with the old pod", 1).await;
    // And without its set the pod goes.
    cluster
        .client
        .delete(
            &REPLICA_SETS,
            "default",
            &set.metadata.name,
            &DeleteParams::default(),
        )
        .await
        .unwrap();
    cluster
        .until("a new set", &cluster.sets, |s| {
            s.list()
                .into_iter()
                .find(|s| s.metadata.uid != set.metadata.uid)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dependent_of_nobody_goes_and_one_of_somebody_stays() {
    let cluster = Cluster::start().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": "default"}});
    let owner = cluster
        .client
        .create(&CONFIG_MAPS, "default", &owner)
        .await
        .unwrap();
    let dependent = |name: &str, uids: &[&str]| {
        let owners: Vec<_> = uids
            .iter()
            .map(
                |uid| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}),
            )
            .collect();
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", "ownerReferences": owners}})
    };
    let living = owner["metadata"]["uid"].as_str().unwrap();
    cluster
        .client
        .create(&CONFIG_MAPS, "default", &dependent("kept", &[living]))
        .await
        .unwrap();
    cluster
        .client
        .create(
            &CONFIG_MAPS,
            "default",
            &dependent("lost", &["00000000-0000-0000-0000-000000000000"]),
        )
        .await
        .unwrap();
    let names = |maps: &agent_runtime::Cache<agent_runtime::kinds::ConfigMap>| {
        maps.in_namespace("default")
            .iter()
            .map(|m| m.metadata.name.clone())
            .collect::<Vec<_>>()
    };
    cluster
        .until("the lost one to go", &cluster.config_maps, |maps| {
            (names(maps) == ["kept", "kube-root-ca.crt", "owner"]).then_some(())
        })
        .await;
    cluster
        .client
        .delete(&CONFIG_MAPS, "default", "owner", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until("the other one to follow", &cluster.config_maps, |maps| {
            (names(maps) == ["kube-root-ca.crt"]).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_circle_of_owners_goes_as_a_whole() {
    let cluster = Cluster::start().await;
    let mut uids = vec![];
    for name in ["a", "b", "c"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        uids.push(cluster.create_pod(&pod).await["metadata"]["uid"].clone());
    }
    for (pod, owner) in [(0, 2), (1, 0), (2, 1)] {
        let names = ["a", "b", "c"];
        let reference = json!([{"apiVersion": "v1", "kind": "Pod", "name": names[owner], "uid": uids[owner],
            "controller": true, "blockOwnerDeletion": true}]);
        let body = json!({"metadata": {"ownerReferences": reference}});
        let form = PatchType::Strategic;
        let patched = cluster
            .client
            .patch(&PODS, "default", names[pod], form, &body)
            .await;
        patched.unwrap();
    }
    for name in ["a", "b", "c"] {
        let owned = |pod: &Pod| pod.metadata.controller().is_some();
        cluster.pod("the pod to have an owner", name, owned).await;
    }
    // Each waits for the one that depends on it, all around.
    let params = DeleteParams {
        propagation: Some(Propagation::Foreground),
        ..DeleteParams::uid(uids[0].as_str().unwrap())
    };
    let deleted = cluster.client.delete(&PODS, "default", "a", &params).await;
    deleted.unwrap();
    for name in ["a", "b", "c"] {
        cluster.pod_gone(name).await;
    }
}
