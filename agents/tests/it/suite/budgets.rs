//! Budgets of disruptions: what they count, what others write into their status, and evictions.

use super::{
    becomes, create, goes, patch, pod, ready_pods, ready_pods_without, runs, set, start, update,
};
use crate::cluster::Cluster;
use agent_runtime::resource_ref::{POD_DISRUPTION_BUDGETS, PODS, REPLICA_SETS};
use agent_runtime::{ApiError, DeleteParams, ListParams, PatchType, ResourceRef, timestamp};
use serde_json::{Value, json};

const BUDGETS: ResourceRef = POD_DISRUPTION_BUDGETS;

async fn budget(cluster: &Cluster, name: &str, min_available: u32) {
    let body = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": "b", "namespace": "default"},
        "spec": {"minAvailable": min_available, "selector": {"matchLabels": {"name": name}}}});
    create(cluster, &BUDGETS, &body).await;
}

async fn counted(cluster: &Cluster, healthy: u32, allowed: u32) -> Value {
    let counts = |budget: &Value| {
        let status = &budget["status"];
        status["observedGeneration"] == budget["metadata"]["generation"]
            && status["currentHealthy"] == healthy
            && status["disruptionsAllowed"] == allowed
    };
    becomes(cluster, &BUDGETS, "b", "the counts", counts).await
}

async fn evict(cluster: &Cluster, pod: &str) -> Result<Value, ApiError> {
    let body = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "default"}});
    let (client, sub) = (&cluster.client, "eviction");
    client.create_sub(&PODS, "default", pod, sub, &body).await
}

fn is_for_the_budget(error: &ApiError) -> bool {
    let cause = error
        .details
        .as_ref()
        .map(|details| &details["causes"][0]["reason"]);
    error.code == 429 && cause.is_some_and(|cause| cause == "DisruptionBudget")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_eviction_waits_until_the_budget_allows_it() {
    let cluster = start().await;
    budget(&cluster, "rs", 3).await;
    create(&cluster, &REPLICA_SETS, &set(&REPLICA_SETS, "rs", 3)).await;
    let pods = ready_pods(&cluster, "rs", 3).await;
    counted(&cluster, 3, 0).await;
    let first = &pods[0].metadata;
    let refused = evict(&cluster, &first.name).await.unwrap_err();
    assert!(is_for_the_budget(&refused), "{refused:?}");

    update(&cluster, &BUDGETS, ("b", None), |budget| {
        budget["spec"]["minAvailable"] = 2.into();
    })
    .await;
    counted(&cluster, 3, 1).await;
    evict(&cluster, &first.name).await.unwrap();

    // The bound becomes another one, and counts before anybody has counted by it.
    let other = json!({"spec": {"minAvailable": null, "maxUnavailable": 0}});
    let form = PatchType::Merge;
    let patched = cluster
        .client
        .patch(&BUDGETS, "default", "b", form, &other)
        .await;
    assert_eq!(patched.unwrap()["spec"].get("minAvailable"), None);
    let pods = ready_pods_without(&cluster, "rs", 3, &first.uid).await;
    let second = &pods[0].metadata;
    let refused = evict(&cluster, &second.name).await.unwrap_err();
    assert!(is_for_the_budget(&refused), "{refused:?}");

    let all = DeleteParams::default();
    let deleted = cluster.client.delete(&BUDGETS, "default", "b", &all).await;
    deleted.unwrap();
    goes(&cluster, &BUDGETS, "b").await;
    evict(&cluster, &second.name).await.unwrap();
    goes(&cluster, &PODS, &second.name).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_says_how_many_of_its_pods_may_go() {
    let cluster = start().await;
    budget(&cluster, "counted", 1).await;
    for name in ["a", "b", "c"] {
        let mut body = pod(name, json!({}));
        body["metadata"]["labels"]["name"] = "counted".into();
        cluster.create_pod(&body).await;
    }
    ready_pods(&cluster, "counted", 3).await;
    let told = counted(&cluster, 3, 2).await;
    assert_eq!(told["status"]["desiredHealthy"], 1);
    assert_eq!(told["status"]["expectedPods"], 3);
    let more = json!({"spec": {"minAvailable": 3}});
    patch(&cluster, &BUDGETS, "b", &more).await;
    counted(&cluster, 3, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disruptions_that_others_enter_are_kept_while_the_pod_is_there() {
    let cluster = start().await;
    budget(&cluster, "p", 1).await;
    cluster.create_pod(&pod("p", json!({}))).await;
    runs(&cluster, "p").await;
    counted(&cluster, 1, 0).await;
    let now = timestamp::time(timestamp::now());
    let wrote = update(&cluster, &BUDGETS, ("b", Some("status")), |budget| {
        budget["status"]["disruptedPods"] = json!({"p": now});
    })
    .await;
    assert_eq!(wrote["status"]["disruptedPods"]["p"], now.as_str());
    // The controller has seen it, and counts the pod no more.
    let seen = counted(&cluster, 0, 0).await;
    assert_eq!(seen["status"]["disruptedPods"]["p"], now.as_str());

    let nobody = json!({"status": {"disruptedPods": null}});
    let form = PatchType::Merge;
    let patched = cluster
        .client
        .patch_status(&BUDGETS, "default", "b", form, &nobody)
        .await;
    let left = patched.unwrap()["status"]["disruptedPods"].take();
    assert!(left.as_object().is_none_or(serde_json::Map::is_empty));
    counted(&cluster, 1, 0).await;
}

fn is_processed(budget: &Value) -> bool {
    budget["status"]["observedGeneration"] == budget["metadata"]["generation"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_looked_at_whenever_it_changes_and_goes_alone_or_with_others() {
    let cluster = start().await;
    let client = &cluster.client;
    let of = |name: &str| {
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": "default", "labels": {"set": "of-budgets"}},
            "spec": {"minAvailable": "1%", "selector": {"matchLabels": {"name": "nobody"}}}})
    };
    for name in ["alone", "one", "two"] {
        create(&cluster, &BUDGETS, &of(name)).await;
        becomes(&cluster, &BUDGETS, name, "the first look", is_processed).await;
    }
    let updated = update(&cluster, &BUDGETS, ("alone", None), |budget| {
        budget["spec"]["minAvailable"] = "2%".into();
    })
    .await;
    assert_eq!(updated["spec"]["minAvailable"], "2%");
    becomes(&cluster, &BUDGETS, "alone", "another look", is_processed).await;
    let (form, other) = (PatchType::Merge, json!({"spec": {"minAvailable": "3%"}}));
    let patched = client
        .patch(&BUDGETS, "default", "alone", form, &other)
        .await;
    assert_eq!(patched.unwrap()["spec"]["minAvailable"], "3%");
    becomes(&cluster, &BUDGETS, "alone", "a third look", is_processed).await;
    let all = DeleteParams::default();
    let deleted = client.delete(&BUDGETS, "default", "alone", &all).await;
    deleted.unwrap();
    goes(&cluster, &BUDGETS, "alone").await;

    let of_budgets = ListParams {
        label_selector: "set=of-budgets".into(),
        ..ListParams::default()
    };
    let listed = client.list(&BUDGETS, "", &of_budgets).await.unwrap();
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let deleted = client
        .delete_collection(&BUDGETS, "default", &of_budgets, &all)
        .await;
    deleted.unwrap();
    let listed = client.list(&BUDGETS, "", &of_budgets).await.unwrap();
    assert_eq!(listed["items"], json!([]));
}
