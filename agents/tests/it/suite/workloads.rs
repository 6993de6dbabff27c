//! Sets of pods: their scale, what others write into their status, patches of them, and their end as a collection.

use super::{becomes, create, has_ready, patch, pod, ready_pods, runs, set, start, update};
use crate::cluster::Cluster;
use agent_runtime::kinds::Pod;
use agent_runtime::resource_ref::{
    DAEMON_SETS, DEPLOYMENTS, JOBS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS, STATEFUL_SETS,
};
use agent_runtime::{DeleteParams, ListParams, PatchType, ResourceRef};
use serde_json::{Value, json};

/// What the suite writes.
fn entered() -> Value {
    json!({"type": "StatusUpdate", "status": "True", "reason": "E2E", "message": "Set from a test",
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == kind)
}

/// A condition that somebody puts into the status stays while the controller goes on (`change` makes it, and `changed` tells
/// that it has), and one that replaces all of them is there, too.
async fn conditions_of_others_stay(
    cluster: &Cluster,
    resource: &ResourceRef,
    name: &str,
    (change, changed): (Value, impl Fn(&Value) -> bool),
) {
    let wrote = update(cluster, resource, (name, Some("status")), |object| {
        let conditions = &mut object["status"]["conditions"];
        if !conditions.is_array() {
            *conditions = json!([]);
        }
        conditions.as_array_mut().unwrap().push(entered());
    })
    .await;
    assert!(has_condition(&wrote, "StatusUpdate"), "{wrote}");
    patch(cluster, resource, name, &change).await;
    let went_on = |object: &Value| changed(object) && has_condition(object, "StatusUpdate");
    becomes(cluster, resource, name, "the change", went_on).await;

    let only = json!({"status": {"conditions": [{"type": "StatusPatched", "status": "True"}]}});
    let form = PatchType::Merge;
    let patched = cluster
        .client
        .patch_status(resource, "default", name, form, &only)
        .await;
    let patched = patched.unwrap();
    assert!(has_condition(&patched, "StatusPatched"), "{patched}");
    assert!(!has_condition(&patched, "StatusUpdate"), "{patched}");
    let read = cluster.client.get_sub(resource, "default", name, "status");
    let read = read.await.unwrap();
    assert!(has_condition(&read, "StatusPatched"), "{read}");
    assert_eq!(read["metadata"]["uid"], wrote["metadata"]["uid"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_that_others_write_stay_while_controllers_go_on() {
    let cluster = start().await;
    for resource in [DEPLOYMENTS, REPLICA_SETS, STATEFUL_SETS] {
        let name = resource.plural.to_string();
        create(&cluster, &resource, &set(&resource, &name, 1)).await;
        let one = |object: &Value| has_ready(object, 1);
        becomes(&cluster, &resource, &name, "one replica", one).await;
        let two = |object: &Value| has_ready(object, 2);
        let more = (json!({"spec": {"replicas": 2}}), two);
        conditions_of_others_stay(&cluster, &resource, &name, more).await;
    }

    create(&cluster, &DAEMON_SETS, &set(&DAEMON_SETS, "daemons", 0)).await;
    let on_nodes = |count: u32| {
        move |object: &Value| {
            let status = &object["status"];
            status["observedGeneration"] == object["metadata"]["generation"]
                && status["desiredNumberScheduled"] == count
                && status["numberReady"].as_u64().unwrap_or(0) == u64::from(count)
        }
    };
    let what = "a daemon on each node";
    becomes(&cluster, &DAEMON_SETS, "daemons", what, on_nodes(2)).await;
    let one = json!({"kubernetes.io/hostname": super::NODES_HERE[0]});
    let fewer = json!({"spec": {"template": {"spec": {"nodeSelector": one}}}});
    let fewer = (fewer, on_nodes(1));
    conditions_of_others_stay(&cluster, &DAEMON_SETS, "daemons", fewer).await;

    let mut endless = template_of_job();
    endless["containers"][0]["command"] = json!(["sleep", "1000000"]);
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job", "namespace": "default"},
        "spec": {"parallelism": 1, "completions": 4, "template": {"spec": endless}}});
    create(&cluster, &JOBS, &job).await;
    let ready = |count: u32| move |job: &Value| job["status"]["ready"] == count;
    becomes(&cluster, &JOBS, "job", "a pod", ready(1)).await;
    let more = (json!({"spec": {"parallelism": 2}}), ready(2));
    conditions_of_others_stay(&cluster, &JOBS, "job", more).await;
}

fn template_of_job() -> Value {
    json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "one"}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_are_scaled_by_whoever_has_not_read_them_lately() {
    let cluster = start().await;
    let client = &cluster.client;
    for resource in [
        DEPLOYMENTS,
        REPLICA_SETS,
        STATEFUL_SETS,
        REPLICATION_CONTROLLERS,
    ] {
        let name = resource.plural.to_string();
        create(&cluster, &resource, &set(&resource, &name, 1)).await;
        let one = |object: &Value| has_ready(object, 1);
        becomes(&cluster, &resource, &name, "one replica", one).await;
        let scale = client.get_sub(&resource, "default", &name, "scale").await;
        let mut scale = scale.unwrap();
        assert_eq!(scale["spec"]["replicas"], 1);
        assert_eq!(scale["status"]["replicas"], 1);

        // As a whole, without a version.
        let metadata = scale["metadata"].as_object_mut().unwrap();
        metadata.remove("resourceVersion");
        scale["spec"]["replicas"] = 2.into();
        let wrote = client
            .update_sub(&resource, "default", &name, "scale", &scale)
            .await;
        assert_eq!(wrote.unwrap()["spec"]["replicas"], 2);
        let object = client.get(&resource, "default", &name).await.unwrap();
        assert_eq!(object["spec"]["replicas"], 2);

        // As a program has it that fills in nothing else.
        let empty = json!({"metadata": {"creationTimestamp": null}, "spec": {"replicas": 4}, "status": {"replicas": 0}});
        let form = PatchType::Strategic;
        let wrote = client
            .patch_sub(&resource, "default", &name, "scale", form, &empty)
            .await;
        assert_eq!(wrote.unwrap()["spec"]["replicas"], 4);
        let object = client.get(&resource, "default", &name).await.unwrap();
        assert_eq!(object["spec"]["replicas"], 4);
        let four = |object: &Value| has_ready(object, 4);
        becomes(&cluster, &resource, &name, "four replicas", four).await;
    }
}

/// A patch of labels, size and template, as the suite makes it: its container is not one that is there, and it writes a field
/// with a capital letter.
fn mixed(replicas: u32) -> Value {
    json!({"metadata": {"labels": {"test": "patched"}}, "spec": {"replicas": replicas, "template": {"spec": {
        "TerminationGracePeriodSeconds": 1, "containers": [{"name": "other", "image": "pause"}]}}}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sets_are_patched_listed_and_deleted_as_a_collection() {
    let cluster = start().await;
    let client = &cluster.client;
    let patched = ListParams {
        label_selector: "test=patched".into(),
        ..ListParams::default()
    };
    let grace = DeleteParams {
        grace_seconds: Some(1),
        ..DeleteParams::default()
    };
    for resource in [REPLICA_SETS, STATEFUL_SETS] {
        let name = resource.plural.to_string();
        create(&cluster, &resource, &set(&resource, &name, 1)).await;
        let one = |object: &Value| has_ready(object, 1);
        becomes(&cluster, &resource, &name, "one replica", one).await;
        let object = patch(&cluster, &resource, &name, &mixed(3)).await;
        let containers = &object["spec"]["template"]["spec"]["containers"];
        assert_eq!(containers[0]["image"], "pause", "what is new comes first");
        assert_eq!(containers[1]["name"], "c");
        let three = |object: &Value| {
            has_ready(object, 3)
                && object["status"]["availableReplicas"] == 3
                && object["metadata"]["labels"]["test"] == "patched"
        };
        becomes(&cluster, &resource, &name, "three replicas", three).await;
    }
    let daemons = set(&DAEMON_SETS, "daemonsets", 0);
    create(&cluster, &DAEMON_SETS, &daemons).await;
    let label = json!({"metadata": {"labels": {"test": "patched"}}});
    patch(&cluster, &DAEMON_SETS, "daemonsets", &label).await;
    ready_pods(&cluster, "daemonsets", 2).await;

    for resource in [REPLICA_SETS, STATEFUL_SETS, DAEMON_SETS] {
        let all = client.list(&resource, "", &patched).await.unwrap();
        assert_eq!(all["items"].as_array().unwrap().len(), 1, "{resource}");
        let deleted = client
            .delete_collection(&resource, "default", &patched, &grace)
            .await;
        deleted.unwrap();
        let left = client.list(&resource, "", &patched).await.unwrap();
        assert_eq!(left["items"], json!([]), "{resource}");
        ready_pods(&cluster, &resource.plural, 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_is_adopted_by_a_new_set_and_released_when_it_matches_no_more() {
    let cluster = start().await;
    for resource in [REPLICA_SETS, REPLICATION_CONTROLLERS] {
        let name = resource.plural.to_string();
        cluster.create_pod(&pod(&name, json!({}))).await;
        let orphan = runs(&cluster, &name).await;
        let made = create(&cluster, &resource, &set(&resource, &name, 1)).await;
        let uid = made["metadata"]["uid"].as_str().unwrap();
        let adopted = |pod: &Pod| pod.metadata.is_controlled_by(uid);
        let adopted = cluster.pod("the adoption", &name, adopted).await;
        assert_eq!(adopted.metadata.uid, orphan.metadata.uid);

        update(&cluster, &PODS, (name.as_str(), None), |pod| {
            pod["metadata"]["labels"] = json!({"name": "other"});
        })
        .await;
        let free = |pod: &Pod| pod.metadata.owner_references.is_empty();
        cluster.pod("the release", &name, free).await;
        let others = ready_pods(&cluster, &name, 1).await;
        assert_ne!(others[0].metadata.uid, orphan.metadata.uid);
    }
}
