//! Deployments on hollow nodes: sets that were there before, rollouts that stand still, and the history.

use super::{becomes, create, has_ready, ready_pods, set, start, update};
use crate::cluster::Cluster;
use agent_runtime::kinds::{Deployment, ReplicaSet};
use agent_runtime::resource_ref::{DEPLOYMENTS, REPLICA_SETS};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

const REVISION: &str = "deployment.kubernetes.io/revision";

/// A Deployment of pods of this image with this label.
fn deployment(name: &str, replicas: u32, image: &str) -> Value {
    let mut body = set(&DEPLOYMENTS, name, replicas);
    body["spec"]["template"]["spec"]["containers"] = json!([{"name": "new", "image": image}]);
    body
}

/// The rollout is over, as `kubectl rollout status` judges.
fn is_complete(object: &Value, replicas: u32) -> bool {
    let status = &object["status"];
    has_ready(object, replicas)
        && status["updatedReplicas"] == replicas
        && status["availableReplicas"] == replicas
}

/// A set that is there before its Deployment, with one pod that is ready.
async fn set_before(cluster: &Cluster, name: &str, label: &str, annotations: Value) {
    let mut body = set(&REPLICA_SETS, label, 1);
    body["metadata"]["name"] = name.into();
    body["metadata"]["annotations"] = annotations;
    body["metadata"]["labels"] = json!({"name": label});
    body["spec"]["selector"]["matchLabels"]["pod"] = "old".into();
    body["spec"]["template"]["metadata"]["labels"]["pod"] = "old".into();
    create(cluster, &REPLICA_SETS, &body).await;
    ready_pods(cluster, label, 1).await;
}

/// The sets of a Deployment by image and size, once they are these.
async fn sets_are(cluster: &Cluster, what: &str, wanted: &[(&str, i32)]) {
    cluster
        .until(what, &cluster.sets, |sets| {
            let size = |set: &Arc<ReplicaSet>| {
                let image = crate::cluster::image_of(set);
                (image, set.spec.replicas.unwrap_or(1))
            };
            let mut sizes: Vec<_> = sets.in_namespace("default").iter().map(size).collect();
            sizes.sort();
            let sizes = sizes.iter().map(|(image, size)| (image.as_str(), *size));
            (sizes.collect::<Vec<_>>() == wanted).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_of_before_is_adopted_and_the_revisions_go_on() {
    let cluster = start().await;
    let before = json!({REVISION: "3546343826724305832"});
    set_before(&cluster, "before", "web", before).await;
    create(&cluster, &DEPLOYMENTS, &deployment("web", 1, "two")).await;
    let follows = |object: &Value| {
        is_complete(object, 1)
            && object["metadata"]["annotations"][REVISION] == "3546343826724305833"
    };
    let made = becomes(&cluster, &DEPLOYMENTS, "web", "the revision", follows).await;
    sets_are(
        &cluster,
        "the old set to be empty",
        &[("one", 0), ("two", 1)],
    )
    .await;
    let old = cluster.sets.get("default", "before").unwrap();
    let uid = made["metadata"]["uid"].as_str().unwrap();
    assert!(old.metadata.is_controlled_by(uid));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_that_is_recreated_never_has_pods_of_two_templates() {
    let cluster = start().await;
    let mut body = deployment("web", 2, "one");
    body["spec"]["strategy"] = json!({"type": "Recreate"});
    create(&cluster, &DEPLOYMENTS, &body).await;
    let complete = |object: &Value| is_complete(object, 2);
    becomes(&cluster, &DEPLOYMENTS, "web", "the rollout", complete).await;

    let mixed = Arc::new(Mutex::new(Vec::new()));
    let seen = mixed.clone();
    cluster.deployments.subscribe(move |change| {
        let status = change.latest().status.clone();
        if status.updated_replicas > 0 && status.replicas != status.updated_replicas {
            seen.lock().unwrap().push(status);
        }
    });
    let before = ready_pods(&cluster, "web", 2).await;
    let before: BTreeSet<String> = before.iter().map(|p| p.metadata.uid.clone()).collect();
    let beside = Arc::new(Mutex::new(Vec::new()));
    let (pods, seen, old) = (cluster.pods.clone(), beside.clone(), before.clone());
    cluster.pods.subscribe(move |change| {
        let pod = change.latest();
        let is_first = change.old.is_none() && !old.contains(&pod.metadata.uid);
        let others = pods.in_namespace("default");
        let is_old = |pod: &Arc<agent_runtime::kinds::Pod>| {
            old.contains(&pod.metadata.uid) && !pod.is_finished()
        };
        if is_first && others.iter().any(is_old) {
            seen.lock().unwrap().push(pod.metadata.name.clone());
        }
    });
    update(&cluster, &DEPLOYMENTS, ("web", None), |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = "two".into();
    })
    .await;
    becomes(
        &cluster,
        &DEPLOYMENTS,
        "web",
        "the other template",
        complete,
    )
    .await;
    sets_are(
        &cluster,
        "the old set to be empty",
        &[("one", 0), ("two", 2)],
    )
    .await;
    assert!(mixed.lock().unwrap().is_empty(), "{mixed:?}");
    assert!(beside.lock().unwrap().is_empty(), "{beside:?}");
    let after = ready_pods(&cluster, "web", 2).await;
    assert!(after.iter().all(|p| !before.contains(&p.metadata.uid)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_that_stands_still_grows_in_proportion() {
    let cluster = start().await;
    let mut body = deployment("web", 10, "one");
    body["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}});
    create(&cluster, &DEPLOYMENTS, &body).await;
    let complete = |object: &Value| is_complete(object, 10);
    becomes(&cluster, &DEPLOYMENTS, "web", "ten pods", complete).await;
    // Nobody has this image.
    update(&cluster, &DEPLOYMENTS, ("web", None), |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = "webserver:404".into();
    })
    .await;
    let stuck = [("one", 8), ("webserver:404", 5)];
    sets_are(&cluster, "the rollout to stand still", &stuck).await;
    let serving = |object: &Value| object["status"]["availableReplicas"] == 8;
    becomes(&cluster, &DEPLOYMENTS, "web", "eight to serve", serving).await;
    update(&cluster, &DEPLOYMENTS, ("web", None), |object| {
        object["spec"]["replicas"] = 30.into();
    })
    .await;
    let grown = [("one", 20), ("webserver:404", 13)];
    sets_are(&cluster, "both sets to grow", &grown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_set_goes_with_the_history_and_makes_no_pod() {
    let cluster = start().await;
    set_before(&cluster, "before", "web", json!({})).await;
    let made = Arc::new(Mutex::new(BTreeSet::new()));
    let seen = made.clone();
    let old = ready_pods(&cluster, "web", 1).await;
    let old = old[0].metadata.uid.clone();
    cluster.pods.subscribe(move |change| {
        let meta = &change.latest().metadata;
        if meta.uid != old {
            seen.lock().unwrap().insert(meta.uid.clone());
        }
    });
    let mut body = deployment("web", 1, "two");
    body["spec"]["revisionHistoryLimit"] = 0.into();
    create(&cluster, &DEPLOYMENTS, &body).await;
    sets_are(&cluster, "the old set to go", &[("two", 1)]).await;
    let complete = |d: &Deployment| d.status.available_replicas == 1 && d.status.replicas == 1;
    cluster.deployment("the rollout", complete).await;
    assert_eq!(made.lock().unwrap().len(), 1);
}
