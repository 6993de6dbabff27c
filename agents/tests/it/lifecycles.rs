//! A Deployment and a ReplicationController from their creation to their end, as a watch sees it.

use crate::cluster::{Cluster, PATIENCE};
use agent_runtime::kinds::{Pod, ReplicationController};
use agent_runtime::resource_ref::{DEPLOYMENTS, REPLICATION_CONTROLLERS};
use agent_runtime::watch::WatchStream;
use agent_runtime::{DeleteParams, ListParams, PatchType, ResourceRef, WatchParams};
use serde_json::{Value, json};
use std::sync::Arc;

const SELECTOR: &str = "test-static=true";

fn selected() -> ListParams {
    ListParams {
        label_selector: SELECTOR.into(),
        ..ListParams::default()
    }
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

/// Follows the objects of a kind with the label of the test, of which there are none yet.
async fn follow(cluster: &Cluster, resource: &ResourceRef) -> WatchStream {
    let list = cluster
        .client
        .list(resource, "", &selected())
        .await
        .unwrap();
    assert_eq!(list["items"], json!([]));
    let version = list["metadata"]["resourceVersion"].as_str();
    let params = WatchParams {
        label_selector: SELECTOR.into(),
        resource_version: version.map(str::to_owned),
        ..WatchParams::default()
    };
    let watch = cluster
        .client
        .watch_stream(resource, "default", &params)
        .await;
    watch.unwrap()
}

/// The object of the next event of this type with which `wanted` agrees.
async fn seen(watch: &mut WatchStream, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let event = watch.next().await.unwrap().expect("the watch goes on");
            if event.kind == kind && wanted(&event.object) {
                return event.object;
            }
        }
    };
    let event = tokio::time::timeout(PATIENCE, waiting).await;
    event.unwrap_or_else(|_| panic!("no {kind} as wanted"))
}

/// The status says so, of the newest spec.
fn ready(object: &Value, replicas: i32) -> bool {
    let status = &object["status"];
    status["observedGeneration"] == object["metadata"]["generation"]
        && status["replicas"] == replicas
        && status["readyReplicas"] == replicas
}

async fn patch(cluster: &Cluster, resource: &ResourceRef, sub: &str, body: Value) -> Value {
    let (client, form) = (&cluster.client, PatchType::Strategic);
    let patched = match sub {
        "" => client.patch(resource, "default", "web", form, &body).await,
        sub => {
            let patched = client.patch_sub(resource, "default", "web", sub, form, &body);
            patched.await
        }
    };
    patched.unwrap()
}

async fn delete_all(cluster: &Cluster, resource: &ResourceRef, watch: &mut WatchStream) {
    let (list, how) = (selected(), DeleteParams::default());
    let deleted = cluster
        .client
        .delete_collection(resource, "default", &list, &how)
        .await;
    deleted.unwrap();
    seen(watch, "DELETED", |_| true).await;
    let gone = cluster.client.get(resource, "default", "web").await;
    assert!(gone.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_lives() {
    let cluster = Cluster::start().await;
    let mut watch = follow(&cluster, &DEPLOYMENTS).await;
    let body = |replicas: i32, image: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "default", "labels": {"test-static": "true"}},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "template": template(image)}})
    };
    let client = &cluster.client;
    let made = client
        .create(&DEPLOYMENTS, "default", &body(2, "one"))
        .await;
    made.unwrap();
    seen(&mut watch, "ADDED", |_| true).await;
    seen(&mut watch, "MODIFIED", |d| ready(d, 2)).await;

    let change = json!({"metadata": {"labels": {"test": "patched"}}, "spec": {"replicas": 1, "template": template("two")}});
    let patched = patch(&cluster, &DEPLOYMENTS, "", change).await;
    assert_eq!(patched["metadata"]["labels"]["test"], "patched");
    cluster.rolled_out("one of the second template", 1).await;
    let scale = json!({"spec": {"replicas": 3}});
    let scaled = patch(&cluster, &DEPLOYMENTS, "scale", scale).await;
    assert_eq!(scaled["kind"], "Scale");
    cluster.rolled_out("three of them", 3).await;
    let all = client.list(&DEPLOYMENTS, "", &selected()).await.unwrap();
    assert_eq!(all["items"][0]["spec"]["replicas"], 3);

    // Put by somebody who has not read it: as a whole, whatever is there.
    let put = client
        .update(&DEPLOYMENTS, "default", "web", &body(2, "three"))
        .await;
    let put = put.unwrap();
    assert_eq!(put["metadata"]["uid"], patched["metadata"]["uid"]);
    assert_eq!(put["metadata"]["labels"].get("test"), None);
    cluster.rolled_out("two of the third template", 2).await;
    let status = client
        .get_sub(&DEPLOYMENTS, "default", "web", "status")
        .await;
    assert!(ready(&status.unwrap(), 2));

    // What somebody writes into the status is there, until the controller says how it is.
    let wrong = json!({"metadata": {"annotations": {"seen": "yes"}},
        "status": {"readyReplicas": 0, "availableReplicas": 0}});
    let wrote = patch(&cluster, &DEPLOYMENTS, "status", wrong).await;
    assert_eq!(wrote["metadata"]["annotations"]["seen"], "yes");
    assert!(wrote["status"].get("readyReplicas").is_none_or(|r| r == 0));
    let version = wrote["metadata"]["resourceVersion"].clone();
    seen(&mut watch, "MODIFIED", |d| {
        d["metadata"]["resourceVersion"] == version
    })
    .await;
    seen(&mut watch, "MODIFIED", |d| ready(d, 2)).await;
    delete_all(&cluster, &DEPLOYMENTS, &mut watch).await;
    let gone = cluster.until("the sets to go", &cluster.sets, |sets| {
        sets.is_empty().then_some(())
    });
    gone.await;
    let gone = cluster.until("the pods to go", &cluster.pods, |pods| {
        pods.is_empty().then_some(())
    });
    gone.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replication_controller_lives() {
    let cluster = Cluster::start().await;
    let kind = &REPLICATION_CONTROLLERS;
    let mut watch = follow(&cluster, kind).await;
    let body = json!({"apiVersion": "v1", "kind": "ReplicationController",
        "metadata": {"name": "web", "namespace": "default", "labels": {"test-static": "true"}},
        "spec": {"replicas": 1, "selector": {"app": "web"}, "template": template("one")}});
    let client = &cluster.client;
    client.create(kind, "default", &body).await.unwrap();
    seen(&mut watch, "ADDED", |_| true).await;
    seen(&mut watch, "MODIFIED", |rc| ready(rc, 1)).await;

    let label = json!({"metadata": {"labels": {"test": "patched"}}});
    let patched = patch(&cluster, kind, "", label).await;
    assert_eq!(patched["metadata"]["labels"]["test"], "patched");
    let labelled = |rc: &Value| rc["metadata"]["labels"]["test"] == "patched";
    seen(&mut watch, "MODIFIED", labelled).await;

    let wrong = json!({"status": {"readyReplicas": 0, "availableReplicas": 0}});
    let wrote = patch(&cluster, kind, "status", wrong).await;
    assert!(wrote["status"].get("readyReplicas").is_none_or(|r| r == 0));
    let version = wrote["metadata"]["resourceVersion"].clone();
    seen(&mut watch, "MODIFIED", |rc| {
        rc["metadata"]["resourceVersion"] == version
    })
    .await;
    seen(&mut watch, "MODIFIED", |rc| ready(rc, 1)).await;

    patch(&cluster, kind, "scale", json!({"spec": {"replicas": 2}})).await;
    seen(&mut watch, "MODIFIED", |rc| ready(rc, 2)).await;
    let rc = client
        .get_as::<ReplicationController>(kind, "default", "web")
        .await;
    let rc = rc.unwrap();
    assert_eq!((rc.spec.replicas, rc.status.replicas), (Some(2), 2));
    assert_eq!(rc.metadata.labels["test"], "patched");

    let put = loop {
        let mut object = client.get(kind, "default", "web").await.unwrap();
        object["status"]["readyReplicas"] = 1.into();
        object["status"]["availableReplicas"] = 1.into();
        match client.update_status(kind, "default", "web", &object).await {
            Err(error) if error.is_conflict() => {}
            other => break other.unwrap(),
        }
    };
    assert_eq!(put["status"]["readyReplicas"], 1);
    let all = client.list(kind, "", &selected()).await.unwrap();
    assert_eq!(all["items"][0]["metadata"]["name"], "web");
    delete_all(&cluster, kind, &mut watch).await;
    // This kind is older than the garbage collector: where a deletion says nothing of the pods, they stay.
    let free = cluster.until("the pods to be free", &cluster.pods, |pods| {
        let pods = pods.in_namespace("default");
        let free = |pod: &Arc<Pod>| pod.metadata.owner_references.is_empty();
        (pods.len() == 2 && pods.iter().all(free)).then_some(())
    });
    free.await;
}
