//! Deployments from their creation to their last rollback.

use crate::cluster::{BROKEN, Cluster, image_of};
use agent_runtime::resource_ref::{DEPLOYMENTS, ENDPOINTS, PODS, REPLICA_SETS, SERVICES};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_rolled_out_scaled_updated_and_rolled_back() {
    let cluster = Cluster::start().await;
    // Its pods have no node here, and would have no endpoints otherwise.
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}], "publishNotReadyAddresses": true}});
    cluster
        .client
        .create(&SERVICES, "default", &service)
        .await
        .unwrap();
    cluster.create_deployment(3, "one").await;
    let deployment = cluster.rolled_out("the first rollout", 3).await;
    assert_eq!(
        deployment.metadata.annotations["deployment.kubernetes.io/revision"],
        "1"
    );
    assert!(
        deployment
            .status
            .conditions
            .iter()
            .any(|c| c.kind == "Available" && c.is_true())
    );
    cluster.sets_are(&[("one", 3, "1")]).await;

    let ready = |slices: &agent_runtime::Cache<agent_runtime::kinds::EndpointSlice>,
                 count: usize| {
        let slices = slices.in_namespace("default");
        let all: Vec<_> = slices
            .iter()
            .filter(|s| {
                s.metadata
                    .labels
                    .get("kubernetes.io/service-name")
                    .is_some_and(|n| n == "web")
            })
            .flat_map(|s| &s.endpoints)
            .collect();
        (all.len() == count && all.iter().all(|e| e.conditions.serving == Some(true))).then_some(())
    };
    cluster
        .until("three endpoints", &cluster.slices, |slices| {
            ready(slices, 3)
        })
        .await;

    cluster
        .patch_deployment(json!({"spec": {"replicas": 5}}))
        .await;
    cluster.rolled_out("five replicas", 5).await;
    cluster
        .until("five endpoints", &cluster.slices, |slices| ready(slices, 5))
        .await;
    let endpoints = cluster
        .client
        .get(&ENDPOINTS, "default", "web")
        .await
        .unwrap();
    assert!(
        endpoints["subsets"][0]["addresses"]
            .as_array()
            .is_some_and(|a| !a.is_empty()),
        "{endpoints}"
    );

    cluster.set_image("two").await;
    cluster.rolled_out("the second template", 5).await;
    cluster.sets_are(&[("one", 0, "1"), ("two", 5, "2")]).await;

    // What `kubectl rollout undo` does: the template of the old set, by a patch.
    cluster.set_image("one").await;
    cluster
        .deployment("revision 3", |d| {
            d.metadata
                .annotations
                .get("deployment.kubernetes.io/revision")
                .is_some_and(|r| r == "3")
        })
        .await;
    cluster.rolled_out("the first template again", 5).await;
    cluster.sets_are(&[("one", 5, "3"), ("two", 0, "2")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_template_does_not_take_the_old_pods_down() {
    let cluster = Cluster::start().await;
    cluster.create_deployment(4, "good").await;
    cluster.rolled_out("the first rollout", 4).await;
    cluster.set_image(BROKEN).await;
    // 25 % of four: one may be missing, one may be too many.
    cluster
        .sets_are(&[(BROKEN, 2, "2"), ("good", 3, "1")])
        .await;
    cluster
        .deployment("three available", |d| {
            d.status.available_replicas == 3
                && d.status.updated_replicas == 2
                && d.status.observed_generation == d.metadata.generation
        })
        .await;
    cluster.set_image("good").await;
    cluster.rolled_out("the good template again", 4).await;
    assert!(
        cluster
            .sets
            .in_namespace("default")
            .iter()
            .all(|set| image_of(set) == "good" || set.spec.replicas == Some(0))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_is_not_done_gives_way_to_the_next() {
    let cluster = Cluster::start().await;
    let labels = json!({"app": "web", "pod": "older"});
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "older", "namespace": "default", "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "older"}]}}}});
    let made = cluster.client.create(&REPLICA_SETS, "default", &set).await;
    made.unwrap();
    let ready = cluster.until("the set to be ready", &cluster.sets, |sets| {
        let set = sets.get("default", "older");
        set.filter(|set| set.status.ready_replicas == 1)
    });
    ready.await;
    // One pod, and none may be missing: the pod of the adopted set stays as long as the new one is broken.
    cluster.create_deployment(1, BROKEN).await;
    cluster
        .sets_are(&[(BROKEN, 1, "1"), ("older", 1, "")])
        .await;
    cluster
        .deployment("the old pod to serve", |d| {
            d.status.available_replicas == 1 && d.status.updated_replicas == 1
        })
        .await;
    let adopted = cluster.sets.get("default", "older").unwrap();
    assert!(adopted.metadata.controller().is_some());
    cluster.set_image("good").await;
    cluster.rolled_out("the second template", 1).await;
    cluster
        .sets_are(&[(BROKEN, 0, "1"), ("good", 1, "2"), ("older", 0, "")])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_pods_are_replaced_and_strangers_adopted() {
    let cluster = Cluster::start().await;
    cluster.create_deployment(2, "one").await;
    cluster.rolled_out("the first rollout", 2).await;
    let victim = cluster.pods.in_namespace("default")[0].clone();
    cluster
        .client
        .delete(
            &PODS,
            "default",
            &victim.metadata.name,
            &agent_runtime::DeleteParams::default(),
        )
        .await
        .unwrap();
    cluster
        .until("the pod to go", &cluster.pods, |pods| {
            pods.get("default", &victim.metadata.name)
                .is_none()
                .then_some(())
        })
        .await;
    cluster.rolled_out("two again", 2).await;

    // A pod that loses its labels is released, and another one takes its place.
    let released = cluster.pods.in_namespace("default")[0].clone();
    cluster
        .client
        .patch(
            &PODS,
            "default",
            &released.metadata.name,
            agent_runtime::PatchType::Merge,
            &json!({"metadata": {"labels": {"app": "other"}}}),
        )
        .await
        .unwrap();
    cluster
        .until("the release", &cluster.pods, |pods| {
            pods.get("default", &released.metadata.name)
                .filter(|p| p.metadata.owner_references.is_empty())
        })
        .await;
    let mine =
        |pod: &agent_runtime::kinds::Pod| pod.metadata.controller().is_some() && pod.is_ready();
    cluster
        .until("a replacement", &cluster.pods, |pods| {
            (pods
                .in_namespace("default")
                .iter()
                .filter(|p| mine(p))
                .count()
                == 2)
                .then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_and_resume() {
    let cluster = Cluster::start().await;
    cluster.create_deployment(1, "one").await;
    cluster.rolled_out("the first rollout", 1).await;
    cluster.patch_deployment(json!({"spec": {"paused": true, "template": {"spec": {"containers": [{"name": "c", "image": "two"}]}}}})).await;
    cluster
        .deployment("the pause to be seen", |d| {
            d.status.observed_generation == d.metadata.generation
                && d.status
                    .conditions
                    .iter()
                    .any(|c| c.reason == "DeploymentPaused")
        })
        .await;
    assert_eq!(cluster.sets_by_image().len(), 1);
    cluster
        .patch_deployment(json!({"spec": {"paused": false}}))
        .await;
    cluster.rolled_out("the second template", 1).await;
    cluster.sets_are(&[("one", 0, "1"), ("two", 1, "2")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_tell_what_was_done() {
    let cluster = Cluster::start().await;
    cluster.create_deployment(1, "one").await;
    cluster.rolled_out("the first rollout", 1).await;
    let events = agent_runtime::Hub::new(
        cluster.client.clone(),
        &tokio_util::sync::CancellationToken::new(),
    );
    let cache = events.cache::<agent_runtime::kinds::Event>();
    for reason in ["ScalingReplicaSet", "SuccessfulCreate"] {
        let event = cluster
            .until(reason, &cache, |cache| {
                cache.list().into_iter().find(|e| e.reason == reason)
            })
            .await;
        assert_eq!(event.kind, "Normal");
    }
    let deployment = cluster
        .client
        .get(&DEPLOYMENTS, "default", "web")
        .await
        .unwrap();
    assert_eq!(deployment["status"]["replicas"], 1);
    assert_eq!(
        deployment["status"].get("unavailableReplicas"),
        None::<&Value>
    );
}
