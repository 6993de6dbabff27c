//! Sets whose pods a quota keeps away.

use super::{becomes, create, ready_pods, set, start, update};
use agent_runtime::ResourceRef;
use agent_runtime::resource_ref::{REPLICA_SETS, REPLICATION_CONTROLLERS};
use serde_json::{Value, json};

const QUOTAS: ResourceRef = ResourceRef {
    group: std::borrow::Cow::Borrowed(""),
    version: std::borrow::Cow::Borrowed("v1"),
    plural: std::borrow::Cow::Borrowed("resourcequotas"),
    kind: std::borrow::Cow::Borrowed("ResourceQuota"),
    namespaced: true,
};

/// Why the set has not all its pods, if it says so.
fn failure(object: &Value) -> Option<&str> {
    let conditions = object["status"]["conditions"].as_array()?;
    let failure = conditions.iter().find(|c| c["type"] == "ReplicaFailure")?;
    failure["reason"].as_str()
}

fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_says_that_a_quota_keeps_its_pods_away_until_they_fit() {
    let cluster = start().await;
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "default"},
        "spec": {"hard": {"pods": "4"}}});
    create(&cluster, &QUOTAS, &quota).await;
    let counted = |quota: &Value| quota["status"]["hard"]["pods"] == "4";
    becomes(&cluster, &QUOTAS, "q", "the count", counted).await;
    // Two of each fit.
    for resource in [REPLICATION_CONTROLLERS, REPLICA_SETS] {
        let name = resource.plural.to_string();
        let wanted = if resource == REPLICATION_CONTROLLERS {
            5
        } else {
            3
        };
        create(&cluster, &resource, &set(&resource, &name, wanted)).await;
        let failing =
            |object: &Value| is_observed(object) && failure(object) == Some("FailedCreate");
        becomes(&cluster, &resource, &name, "the failure", failing).await;
        update(&cluster, &resource, (name.as_str(), None), |object| {
            object["spec"]["replicas"] = 2.into();
        })
        .await;
        let well = |object: &Value| is_observed(object) && failure(object).is_none();
        becomes(&cluster, &resource, &name, "no failure", well).await;
        ready_pods(&cluster, &name, 2).await;
    }
}
