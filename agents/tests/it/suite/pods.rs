//! Single pods on hollow nodes, and who writes of them.

use super::{becomes, goes, pod, runs, start, update};
use crate::cluster::PATIENCE;
use agent_runtime::kinds::Pod;
use agent_runtime::resource_ref::PODS;
use agent_runtime::{DeleteParams, ListParams, PatchType, WatchParams};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_submitted_read_while_it_leaves_and_removed() {
    let cluster = start().await;
    let client = &cluster.client;
    let mine = ListParams {
        label_selector: "name=p".into(),
        ..ListParams::default()
    };
    let before = client.list(&PODS, "default", &mine).await.unwrap();
    assert_eq!(before["items"], json!([]));
    let from = WatchParams {
        label_selector: "name=p".into(),
        resource_version: before["metadata"]["resourceVersion"]
            .as_str()
            .map(str::to_owned),
        ..WatchParams::default()
    };
    let mut watch = client.watch_stream(&PODS, "default", &from).await.unwrap();
    let mut body = pod("p", json!({}));
    body["metadata"]["generation"] = 100.into();
    cluster.create_pod(&body).await;
    assert_eq!(runs(&cluster, "p").await.metadata.generation, 1);

    let grace = DeleteParams {
        grace_seconds: Some(60),
        ..DeleteParams::default()
    };
    let leaving = client.delete(&PODS, "default", "p", &grace).await.unwrap();
    assert_eq!(leaving["kind"], "Pod");
    assert_eq!(leaving["metadata"]["generation"], 2);
    // It ends by itself before its time is over.
    goes(&cluster, &PODS, "p").await;

    let seen = async {
        let mut events: Vec<(String, Value)> = Vec::new();
        while events.last().is_none_or(|(kind, _)| kind != "DELETED") {
            let event = watch.next().await.unwrap().expect("the watch goes on");
            if event.kind != "BOOKMARK" {
                events.push((event.kind, event.object));
            }
        }
        events
    };
    let events = tokio::time::timeout(PATIENCE, seen).await.unwrap();
    assert_eq!(events[0].0, "ADDED");
    // And it was there while it left, for whoever looks.
    let leaves = |(kind, pod): &(String, Value)| {
        let metadata = &pod["metadata"];
        kind == "MODIFIED"
            && metadata["deletionTimestamp"].is_string()
            && metadata["generation"] == 2
    };
    assert!(events.iter().any(leaves), "{events:?}");
    let last = &events[events.len() - 1].1;
    assert!(last["metadata"]["deletionTimestamp"].is_string(), "{last}");
    assert_eq!(last["spec"]["terminationGracePeriodSeconds"], 30);
    let after = client.list(&PODS, "default", &mine).await.unwrap();
    assert_eq!(after["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_a_running_pod_gets_ends_it() {
    let cluster = start().await;
    cluster.create_pod(&pod("p", json!({}))).await;
    runs(&cluster, "p").await;
    update(&cluster, &PODS, ("p", None), |pod| {
        pod["spec"]["activeDeadlineSeconds"] = 2.into();
    })
    .await;
    let over = |pod: &Value| {
        pod["status"]["phase"] == "Failed" && pod["status"]["reason"] == "DeadlineExceeded"
    };
    becomes(&cluster, &PODS, "p", "the deadline", over).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_status_of_a_running_pod_is_patched() {
    let cluster = start().await;
    cluster.create_pod(&pod("p", json!({}))).await;
    runs(&cluster, "p").await;
    let body = json!({"metadata": {"annotations": {"patched": "true"}},
        "status": {"message": "Patched by a test", "reason": "E2E"}});
    let patched = cluster
        .client
        .patch_status(&PODS, "default", "p", PatchType::Merge, &body)
        .await;
    let patched = patched.unwrap();
    assert_eq!(patched["status"]["message"], "Patched by a test");
    assert_eq!(patched["status"]["reason"], "E2E");
    assert_eq!(patched["status"]["phase"], "Running");
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_of_a_spec_is_a_generation_that_the_node_follows() {
    let cluster = start().await;
    let spec = json!({"initContainers": [{"name": "first", "image": "one"}]});
    cluster.create_pod(&pod("p", spec)).await;
    runs(&cluster, "p").await;
    let toleration =
        json!([{"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}]);
    type Change<'a> = (&'a str, &'a dyn Fn(&mut Value), i64);
    let changes: &[Change<'_>] = &[
        ("nothing", &|_| {}, 1),
        // Those that the server has added come back.
        (
            "tolerations",
            &|pod| pod["spec"]["tolerations"] = toleration.clone(),
            2,
        ),
        (
            "a deadline",
            &|pod| pod["spec"]["activeDeadlineSeconds"] = 5000.into(),
            3,
        ),
        (
            "an image",
            &|pod| pod["spec"]["containers"][0]["image"] = "two".into(),
            4,
        ),
        (
            "an image of before",
            &|pod| pod["spec"]["initContainers"][0]["image"] = "two".into(),
            5,
        ),
        (
            "metadata",
            &|pod| pod["metadata"]["annotations"] = json!({"a": "b"}),
            5,
        ),
        (
            "the generation",
            &|pod| pod["metadata"]["generation"] = 1.into(),
            5,
        ),
    ];
    for (what, change, generation) in changes {
        update(&cluster, &PODS, ("p", None), change).await;
        let read = cluster.client.get(&PODS, "default", "p").await.unwrap();
        assert_eq!(read["metadata"]["generation"], *generation, "{what}");
        let followed = |pod: &Value| pod["status"]["observedGeneration"] == *generation;
        becomes(&cluster, &PODS, "p", what, followed).await;
    }
    let same = |pod: &Pod| {
        let statuses = &pod.status.container_statuses;
        pod.is_ready() && statuses.iter().all(|status| status.restart_count == 1)
    };
    cluster.pod("the other image", "p", same).await;
    let read = cluster.client.get(&PODS, "default", "p").await.unwrap();
    let tolerations = read["spec"]["tolerations"].as_array().unwrap();
    assert_eq!(tolerations.len(), 3, "{read}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_whose_status_somebody_ends_stays_ended_and_goes() {
    let cluster = start().await;
    cluster.create_pod(&pod("p", json!({}))).await;
    runs(&cluster, "p").await;
    let failed = update(&cluster, &PODS, ("p", Some("status")), |pod| {
        pod["status"]["phase"] = "Failed".into();
    })
    .await;
    assert_eq!(failed["status"]["phase"], "Failed");
    // The node looks at it once more.
    let label = update(&cluster, &PODS, ("p", None), |pod| {
        pod["metadata"]["labels"]["looked"] = "at".into();
    })
    .await;
    assert_eq!(label["status"]["phase"], "Failed");
    let grace = DeleteParams {
        grace_seconds: Some(1),
        ..DeleteParams::default()
    };
    let deleted = cluster.client.delete(&PODS, "default", "p", &grace).await;
    deleted.unwrap();
    goes(&cluster, &PODS, "p").await;
}
