//! The ControllerRevisions of a DaemonSet, when others patch, add and delete them.

use super::{becomes, create, patch, ready_pods, set, start, update};
use crate::cluster::Cluster;
use agent_runtime::kinds::ControllerRevision;
use agent_runtime::resource_ref::{CONTROLLER_REVISIONS, DAEMON_SETS};
use agent_runtime::{DeleteParams, ListParams};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const HASH: &str = "controller-revision-hash";

/// The revisions of the DaemonSet, once there are so many.
async fn revisions(cluster: &Cluster, count: usize) -> Vec<Arc<ControllerRevision>> {
    let all = cluster.hub.cache::<ControllerRevision>();
    cluster
        .until("the revisions", &all, |all| {
            let mut found = all.in_namespace("default");
            found.sort_by_key(|revision| revision.revision);
            (found.len() == count).then_some(found)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revisions_are_patched_added_deleted_and_counted_on() {
    let cluster = start().await;
    let client = &cluster.client;
    let made = create(&cluster, &DAEMON_SETS, &set(&DAEMON_SETS, "d", 0)).await;
    ready_pods(&cluster, "d", 2).await;
    let first = revisions(&cluster, 1).await.remove(0);
    assert_eq!(first.revision, 1);
    assert_eq!(
        first.metadata.controller().unwrap().uid,
        made["metadata"]["uid"]
    );
    assert_eq!(first.metadata.labels["name"], "d");

    let is_told = |set: &Value| {
        let status = &set["status"];
        status["observedGeneration"] == set["metadata"]["generation"]
            && status["updatedNumberScheduled"] == 2
            && status["numberAvailable"] == 2
    };
    becomes(&cluster, &DAEMON_SETS, "d", "the counts", is_told).await;
    // The controller looks at the set once more because of what it has told of it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let name = first.metadata.name.as_str();
    let label = json!({"metadata": {"labels": {name: "patched"}}});
    let patched = patch(&cluster, &CONTROLLER_REVISIONS, name, &label).await;
    assert_eq!(patched["metadata"]["labels"][name], "patched");
    // One with the same data under the name of another template, as soon as that: nobody looks at the set because of a label.
    let mut labels = json!({"name": "d"});
    labels[HASH] = "other".into();
    let second = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 2, "data": patched["data"],
        "metadata": {"name": "d-other", "namespace": "default", "labels": labels,
            "ownerReferences": patched["metadata"]["ownerReferences"]}});
    create(&cluster, &CONTROLLER_REVISIONS, &second).await;
    revisions(&cluster, 2).await;
    let all = DeleteParams::default();
    let deleted = client
        .delete(&CONTROLLER_REVISIONS, "default", name, &all)
        .await;
    deleted.unwrap();
    let left = revisions(&cluster, 1).await.remove(0);
    assert_eq!((&*left.metadata.name, left.revision), ("d-other", 2));
    update(
        &cluster,
        &CONTROLLER_REVISIONS,
        ("d-other", None),
        |revision| {
            revision["metadata"]["labels"]["d-other"] = "updated".into();
        },
    )
    .await;

    let other = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 2}}}});
    patch(&cluster, &DAEMON_SETS, "d", &other).await;
    revisions(&cluster, 2).await;
    let updated = ListParams {
        label_selector: "d-other=updated".into(),
        ..ListParams::default()
    };
    let deleted = client
        .delete_collection(&CONTROLLER_REVISIONS, "default", &updated, &all)
        .await;
    deleted.unwrap();
    let last = revisions(&cluster, 1).await.remove(0);
    assert_eq!(last.revision, 3);
    // And the daemons become those of the last one.
    let hash = last.metadata.labels[HASH].clone();
    cluster
        .until("the daemons to follow", &cluster.pods, |pods| {
            let pods = pods.in_namespace("default");
            let follows = |pod: &Arc<agent_runtime::kinds::Pod>| {
                pod.is_ready() && pod.metadata.labels.get(HASH) == Some(&hash)
            };
            (pods.len() == 2 && pods.iter().all(follows)).then_some(())
        })
        .await;
    let set = client.get(&DAEMON_SETS, "default", "d").await.unwrap();
    let now = &set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"];
    assert_eq!(*now, 2);
}
