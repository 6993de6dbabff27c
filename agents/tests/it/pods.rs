//! Pods on nodes whose containers are simulated, from their creation to their end.

use crate::cluster::{Cluster, PATIENCE};
use crate::machines::NODE_IP;
use agent_runtime::kinds::{Pod, condition};
use agent_runtime::resource_ref::{NAMESPACES, PODS};
use agent_runtime::{DeleteParams, ListParams, PatchType, ResourceRef, WatchParams};
use serde_json::{Value, json};
use std::sync::Arc;

const RUNTIME_CLASSES: ResourceRef = ResourceRef {
    group: std::borrow::Cow::Borrowed("node.k8s.io"),
    version: std::borrow::Cow::Borrowed("v1"),
    plural: std::borrow::Cow::Borrowed("runtimeclasses"),
    kind: std::borrow::Cow::Borrowed("RuntimeClass"),
    namespaced: false,
};

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default", "labels": {"type": "testing"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c", "image": "one"}]}})
}

fn testing() -> ListParams {
    ListParams {
        label_selector: "type=testing".into(),
        ..ListParams::default()
    }
}

async fn running(cluster: &Cluster, name: &str) -> Arc<Pod> {
    let runs = |pod: &Pod| pod.status.phase == "Running" && pod.is_ready();
    cluster.pod("the pod to run", name, runs).await
}

async fn patch(cluster: &Cluster, name: &str, body: Value) -> Value {
    let patched = cluster
        .client
        .patch(&PODS, "default", name, PatchType::Strategic, &body)
        .await;
    patched.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_lives_and_a_watch_sees_it() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let before = cluster.client.list(&PODS, "", &testing()).await.unwrap();
    let from = WatchParams {
        label_selector: "type=testing".into(),
        resource_version: before["metadata"]["resourceVersion"]
            .as_str()
            .map(str::to_owned),
        ..WatchParams::default()
    };
    let watch = cluster.client.watch_stream(&PODS, "default", &from).await;
    let mut watch = watch.unwrap();
    cluster.create_pod(&pod("p")).await;
    let made = running(&cluster, "p").await;
    let shown = cluster.client.get(&PODS, "default", "p").await.unwrap();
    assert_eq!(shown["status"]["hostIP"], NODE_IP);
    assert_eq!(shown["status"]["hostIPs"][0]["ip"], NODE_IP);
    assert!(made.status.pod_ip.starts_with("10."));

    let change = json!({"metadata": {"labels": {"test-pod": "patched"}}, "spec": {"containers": [{"name": "c", "image": "two"}]}});
    patch(&cluster, "p", change).await;
    let follows = |pod: &Pod| {
        let status = &pod.status.container_statuses;
        pod.is_ready() && status.iter().any(|c| c.restart_count == 1)
    };
    let patched = cluster.pod("the other image", "p", follows).await;
    let shown = cluster.client.get(&PODS, "default", "p").await.unwrap();
    assert_eq!(shown["status"]["containerStatuses"][0]["image"], "two");
    assert_eq!(patched.metadata.labels["test-pod"], "patched");
    assert_eq!(patched.metadata.uid, made.metadata.uid);

    // Its status is replaced through a door of its own, by whoever has seen the last one.
    let replaced = loop {
        let read = cluster
            .client
            .get_sub(&PODS, "default", "p", "status")
            .await;
        let mut object = read.unwrap();
        for condition in object["status"]["conditions"].as_array_mut().unwrap() {
            if condition["type"] == "Ready" || condition["type"] == "ContainersReady" {
                assert_eq!(condition["status"], "True");
                condition["status"] = "False".into();
            }
        }
        let wrote = cluster
            .client
            .update_status(&PODS, "default", "p", &object)
            .await;
        match wrote {
            Err(error) if error.is_conflict() => {}
            other => break other.unwrap(),
        }
    };
    let unready = replaced["status"]["conditions"].as_array().unwrap();
    let unready = unready.iter().filter(|c| c["status"] == "False").count();
    assert_eq!(unready, 2, "{replaced}");

    let (grace, list) = (grace(1), testing());
    let deleted = cluster
        .client
        .delete_collection(&PODS, "default", &list, &grace)
        .await;
    deleted.unwrap();
    let seen = async {
        let mut kinds = vec![];
        while kinds.last().is_none_or(|kind| kind != "DELETED") {
            let event = watch.next().await.unwrap().expect("the watch goes on");
            if event.kind != "BOOKMARK" {
                assert_eq!(event.object["metadata"]["name"], "p");
                kinds.push(event.kind);
            }
        }
        kinds
    };
    let kinds = tokio::time::timeout(PATIENCE, seen).await.unwrap();
    assert_eq!(kinds[0], "ADDED");
    assert!(kinds[1..kinds.len() - 1].iter().all(|k| k == "MODIFIED"));
    let gone = cluster.client.get(&PODS, "default", "p").await;
    assert!(gone.unwrap_err().is_not_found());
}

fn grace(seconds: i64) -> DeleteParams {
    DeleteParams {
        grace_seconds: Some(seconds),
        ..DeleteParams::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_pod_is_relabelled_where_it_stands() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let with_time = |time: &str| ListParams {
        label_selector: format!("time={time}"),
        ..ListParams::default()
    };
    let mut first = pod("p");
    first["metadata"]["labels"]["time"] = "before".into();
    cluster.create_pod(&first).await;
    let before = running(&cluster, "p").await;
    let list = cluster
        .client
        .list(&PODS, "default", &with_time("before"))
        .await;
    assert_eq!(list.unwrap()["items"].as_array().unwrap().len(), 1);
    loop {
        let mut object = cluster.client.get(&PODS, "default", "p").await.unwrap();
        object["metadata"]["labels"]["time"] = "after".into();
        match cluster.client.update(&PODS, "default", "p", &object).await {
            Err(error) if error.is_conflict() => {}
            other => break drop(other.unwrap()),
        }
    }
    for (time, count) in [("before", 0), ("after", 1)] {
        let list = cluster
            .client
            .list(&PODS, "default", &with_time(time))
            .await;
        let list = list.unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{time}");
    }
    let changed = |pod: &Pod| pod.metadata.labels["time"] == "after";
    let after = cluster.pod("the label", "p", changed).await;
    let containers = |pod: &Pod| {
        let list = pod.status.container_statuses.iter();
        list.map(|c| (c.restart_count, c.state.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(after.metadata.uid, before.metadata.uid);
    assert_eq!(containers(&after), containers(&before), "nothing restarts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn running_pods_go_as_a_collection() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let mut kept = pod("kept");
    kept["metadata"]["labels"]["type"] = "other".into();
    cluster.create_pod(&kept).await;
    for name in ["a", "b", "c"] {
        cluster.create_pod(&pod(name)).await;
    }
    for name in ["a", "b", "c", "kept"] {
        running(&cluster, name).await;
    }
    let (list, grace) = (testing(), grace(1));
    let deleted = cluster
        .client
        .delete_collection(&PODS, "default", &list, &grace)
        .await;
    deleted.unwrap();
    for name in ["a", "b", "c"] {
        cluster.pod_gone(name).await;
    }
    let left = running(&cluster, "kept").await;
    assert!(!left.metadata.is_deleting());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_generation_is_the_servers_and_grows_with_a_graceful_end() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let mut body = pod("p");
    body["metadata"]["generation"] = 100.into();
    let made = cluster.create_pod(&body).await;
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(running(&cluster, "p").await.metadata.generation, 1);
    let grace = grace(60);
    let leaving = cluster.client.delete(&PODS, "default", "p", &grace).await;
    let leaving = leaving.unwrap();
    assert_eq!(leaving["metadata"]["deletionGracePeriodSeconds"], 60);
    assert_eq!(leaving["metadata"]["generation"], 2);
    cluster.pod_gone("p").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_catches_up_with_five_hundred_generations() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let mut body = pod("p");
    body["spec"]["activeDeadlineSeconds"] = 5000.into();
    cluster.create_pod(&body).await;
    running(&cluster, "p").await;
    for passed in 1..500 {
        let shorter = json!({"spec": {"activeDeadlineSeconds": 5000 - passed}});
        let patched = patch(&cluster, "p", shorter).await;
        assert_eq!(patched["metadata"]["generation"], passed + 1);
    }
    let caught_up = |pod: &Pod| pod.status.observed_generation == 500;
    let pod = cluster.pod("the node to catch up", "p", caught_up).await;
    assert_eq!(pod.metadata.generation, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_command_always_fails_can_be_deleted() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let mut body = pod("p");
    body["spec"]["containers"][0]["command"] = json!(["/bin/false"]);
    cluster.create_pod(&body).await;
    let failed = |pod: &Pod| {
        let statuses = &pod.status.container_statuses;
        let terminated = statuses.iter().find_map(|c| {
            let last = c.last_state.terminated.as_ref();
            c.state.terminated.as_ref().or(last)
        });
        terminated.is_some_and(|end| end.exit_code == 1)
    };
    cluster.pod("the command to fail", "p", failed).await;
    let deleted = cluster
        .client
        .delete(&PODS, "default", "p", &grace(1))
        .await;
    deleted.unwrap();
    cluster.pod_gone("p").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_class_without_overhead_adds_none() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "plain"}, "handler": "plain"});
    let made = cluster.client.create(&RUNTIME_CLASSES, "", &class).await;
    made.unwrap();
    let mut body = pod("p");
    body["spec"]["runtimeClassName"] = "plain".into();
    let made = cluster.create_pod(&body).await;
    assert_eq!(made["spec"]["runtimeClassName"], "plain");
    assert_eq!(made["spec"].get("overhead"), None, "{made}");
    let scheduled = |pod: &Pod| {
        let condition = condition(&pod.status.conditions, "PodScheduled");
        condition.is_some_and(|c| c.is_true())
    };
    let pod = cluster.pod("the pod to be scheduled", "p", scheduled).await;
    assert_eq!(pod.spec.node_name, "one");
    let shown = cluster.client.get(&PODS, "default", "p").await.unwrap();
    assert_eq!(shown["spec"].get("overhead"), None, "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_takes_its_running_pods_with_it() {
    let cluster = Cluster::with_nodes(&["one"]).await;
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "passing"}});
    let make = async || {
        let made = cluster.client.create(&NAMESPACES, "", &namespace).await;
        made.unwrap();
        let account = cluster.until("the account", &cluster.accounts, |accounts| {
            accounts.get("passing", "default")
        });
        account.await;
    };
    make().await;
    let mut body = pod("p");
    body["metadata"]["namespace"] = "passing".into();
    cluster
        .client
        .create(&PODS, "passing", &body)
        .await
        .unwrap();
    let runs = cluster.until("the pod to run", &cluster.pods, |pods| {
        pods.get("passing", "p").filter(|pod| pod.is_ready())
    });
    runs.await;
    let deleted = cluster
        .client
        .delete(&NAMESPACES, "", "passing", &DeleteParams::default())
        .await;
    deleted.unwrap();
    let gone = cluster.until("the namespace to go", &cluster.namespaces, |namespaces| {
        namespaces.get("", "passing").is_none().then_some(())
    });
    gone.await;
    let left = async || {
        let all = ListParams::default();
        let left = cluster.client.list(&PODS, "passing", &all).await;
        left.unwrap()["items"].clone()
    };
    assert_eq!(left().await, json!([]));
    make().await;
    assert_eq!(left().await, json!([]));
}
