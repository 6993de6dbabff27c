//! Daemons on hollow nodes: those that are deleted, that somebody calls failed, and whose image nobody has.

use super::{create, goes, ready_pods, ready_pods_without, set, start, update};
use agent_runtime::DeleteParams;
use agent_runtime::kinds::Pod;
use agent_runtime::resource_ref::{DAEMON_SETS, PODS};
use serde_json::Value;

/// An image that hollow nodes do not find.
const NOBODYS: &str = "foo:non-existent";

fn has_image(pod: &Pod, image: &str) -> bool {
    pod.spec.containers[0].image == image
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_deleted_or_called_failed_is_made_anew() {
    let cluster = start().await;
    create(&cluster, &DAEMON_SETS, &set(&DAEMON_SETS, "d", 0)).await;
    for fails in [false, true] {
        let before = ready_pods(&cluster, "d", 2).await;
        let lost = &before[0].metadata;
        if fails {
            update(
                &cluster,
                &PODS,
                (lost.name.as_str(), Some("status")),
                |pod| {
                    pod["status"]["phase"] = "Failed".into();
                },
            )
            .await;
        } else {
            let params = DeleteParams::default();
            let deleted = cluster
                .client
                .delete(&PODS, "default", &lost.name, &params)
                .await;
            deleted.unwrap();
        }
        goes(&cluster, &PODS, &lost.name).await;
        let after = ready_pods_without(&cluster, "d", 2, &lost.uid).await;
        let other = &before[1].metadata.uid;
        assert!(after.iter().any(|pod| pod.metadata.uid == *other));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_gets_nowhere_is_taken_back_without_restarts() {
    let cluster = start().await;
    create(&cluster, &DAEMON_SETS, &set(&DAEMON_SETS, "d", 0)).await;
    ready_pods(&cluster, "d", 2).await;
    let to = |image: &'static str| {
        move |object: &mut Value| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        }
    };
    update(&cluster, &DAEMON_SETS, ("d", None), to(NOBODYS)).await;
    let kept = cluster
        .until("a daemon of the other image", &cluster.pods, |pods| {
            let pods = pods.in_namespace("default");
            let mut other = pods.iter().filter(|pod| has_image(pod, NOBODYS));
            other.next()?;
            let mut old = pods.iter().filter(|pod| has_image(pod, "one"));
            old.find(|pod| !pod.metadata.is_deleting()).cloned()
        })
        .await;
    update(&cluster, &DAEMON_SETS, ("d", None), to("one")).await;
    let after = ready_pods(&cluster, "d", 2).await;
    assert!(after.iter().all(|pod| has_image(pod, "one")));
    let uid = &kept.metadata.uid;
    let kept = after.iter().find(|pod| pod.metadata.uid == *uid);
    let statuses = &kept.expect("the daemon of before").status;
    assert_eq!(statuses.container_statuses[0].restart_count, 0);
}
