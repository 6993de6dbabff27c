//! The claim that stands for extended resources of a pod: made right before the pod is bound, named in its status, and deleted where
//! the pod is not bound after all.
//!
//! It goes on only when the watch has shown the claim: then whoever looks at the claims sees what it has, and nothing has to be
//! remembered of a claim that may be gone again.

use crate::bind_claims::{ATTEMPTS, FINALIZER, bind_claim};
use crate::devices::claim::DeviceClaim;
use crate::devices::extended::{SpecialClaim, UNMADE};
use crate::devices::{ClaimPlan, ClaimStep};
use crate::feed::Feed;
use crate::object::{Pod, text};
use crate::resources::items;
use crate::write::{bounded, report};
use agent_runtime::resource_ref::{PODS, RESOURCE_CLAIMS};
use agent_runtime::{ApiError, Client, DeleteParams};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// A watch that takes longer to show the claim is not worth waiting for: the pod is decided about again.
const SEEN_MAX: Duration = Duration::from_secs(30);

/// Makes the claim that the plan has, if it has one. Gives back how it is then; the error is in the words of the event, and nothing
/// is left of the claim.
pub(crate) async fn bind_special(
    client: &Client,
    feed: &Feed,
    writers: &Semaphore,
    pod: &Pod,
    plan: &ClaimPlan,
) -> Result<Option<Arc<DeviceClaim>>, String> {
    let Some(special) = &plan.special else {
        return Ok(None);
    };
    let mut steps = plan.steps.iter();
    let step = steps.find(|step| step.claim.name == UNMADE && step.gets.is_some());
    let Some(step) = step else {
        return Err("extended resource claim not found for the node".into());
    };
    let made = {
        let Ok(_turn) = writers.acquire().await else {
            return Err("the scheduler stops".into());
        };
        make(client, special).await?
    };
    match finish(client, feed, writers, pod, special, step, &made).await {
        Ok(claim) => Ok(Some(claim)),
        Err(words) => {
            give_back(client, pod, &made).await;
            Err(words)
        }
    }
}

async fn make(client: &Client, special: &SpecialClaim) -> Result<Arc<DeviceClaim>, String> {
    let namespace = &special.claim.namespace;
    let made = bounded(client.create(&RESOURCE_CLAIMS, namespace, &special.body)).await;
    let made = made.map_err(|error| {
        let name = special.claim.full_name();
        format!(
            "create claim for extended resources {name}: {}",
            error.message
        )
    })?;
    Ok(Arc::new(DeviceClaim::compile(&made)))
}

/// Gives the claim its devices, and tells the pod of it.
async fn finish(
    client: &Client,
    feed: &Feed,
    writers: &Semaphore,
    pod: &Pod,
    special: &SpecialClaim,
    step: &ClaimStep,
    made: &Arc<DeviceClaim>,
) -> Result<Arc<DeviceClaim>, String> {
    let step = ClaimStep {
        claim: made.clone(),
        ..step.clone()
    };
    let bound = {
        let Ok(_turn) = writers.acquire().await else {
            return Err("the scheduler stops".into());
        };
        bind_claim(client, pod, &step).await?
    };
    let claim = Arc::new(DeviceClaim::compile(&bound));
    let revision = claim.resource_version.parse().unwrap_or(0);
    let seen = feed.device_claims.wait_revision(revision);
    if tokio::time::timeout(SEEN_MAX, seen).await.is_err() {
        let name = claim.full_name();
        return Err(format!("claim {name} was made, but not seen in time"));
    }
    let told = report(client, pod, &status(pod, special, &claim.name)).await;
    told.map_err(|error| {
        let Pod {
            namespace, name, ..
        } = pod;
        let why = error.message;
        format!("update pod {namespace}/{name} ExtendedResourceClaimStatus: {why}")
    })?;
    Ok(claim)
}

/// Which claim the pod has, and which of its requests is for which container.
fn status(pod: &Pod, special: &SpecialClaim, claim: &str) -> Value {
    json!({
        "metadata": {"uid": pod.uid},
        "status": {"extendedResourceClaimStatus": {
            "requestMappings": special.mappings, "resourceClaimName": claim}},
    })
}

/// The pod is not bound: its status names no claim any more, and the claim goes and gives back what it has. One that cannot be deleted
/// now is found when the pod is decided about again.
pub(crate) async fn give_back(client: &Client, pod: &Pod, claim: &DeviceClaim) {
    let (namespace, name) = (&claim.namespace, &claim.name);
    // The answer to a binding may have been lost: a pod that has a node keeps what it has.
    let found = bounded(client.get(&PODS, &pod.namespace, &pod.name)).await;
    if found.is_ok_and(|found| has_node(&found, &pod.uid)) {
        return;
    }
    let none =
        json!({"metadata": {"uid": pod.uid}, "status": {"extendedResourceClaimStatus": null}});
    if let Err(error) = report(client, pod, &none).await
        && !error.is_not_found()
    {
        tracing::warn!(namespace, name, %error, "a pod could not be told that it has no claim any more");
    }
    for _ in 0..ATTEMPTS {
        match delete_once(client, claim).await {
            Err(error) if error.is_conflict() => {}
            Err(error) if !error.is_not_found() => {
                tracing::warn!(namespace, name, %error, "a claim for extended resources could not be deleted");
                return;
            }
            _ => return,
        }
    }
}

/// Whether this is the pod of this uid, on a node.
fn has_node(found: &Value, uid: &str) -> bool {
    text(found, "/metadata/uid") == uid && !text(found, "/spec/nodeName").is_empty()
}

async fn delete_once(client: &Client, claim: &DeviceClaim) -> Result<(), ApiError> {
    let (namespace, name) = (&claim.namespace, &claim.name);
    let found = bounded(client.get(&RESOURCE_CLAIMS, namespace, name)).await?;
    if text(&found, "/metadata/uid") != claim.uid {
        return Ok(());
    }
    if let Some(body) = unprotected(&found) {
        bounded(client.update(&RESOURCE_CLAIMS, namespace, name, &body)).await?;
    }
    let this = DeleteParams::uid(claim.uid.as_str());
    bounded(client.delete(&RESOURCE_CLAIMS, namespace, name, &this))
        .await
        .map(drop)
}

/// The claim without what would keep it from being deleted; `None` where nothing does.
fn unprotected(found: &Value) -> Option<Value> {
    let metadata = found.get("metadata")?;
    let all = items(metadata, "finalizers").count();
    let others = items(metadata, "finalizers").filter(|finalizer| *finalizer != FINALIZER);
    let others: Vec<Value> = others.cloned().collect();
    if others.len() == all {
        return None;
    }
    let mut body = found.clone();
    body["metadata"]["finalizers"] = others.into();
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_protection_is_taken_off() {
        let found = |finalizers: Value| json!({"metadata": {"name": "c", "resourceVersion": "7", "finalizers": finalizers}});
        assert_eq!(unprotected(&found(Value::Null)), None);
        assert_eq!(unprotected(&found(json!(["x/y"]))), None);
        assert_eq!(
            unprotected(&found(json!([FINALIZER, "x/y"]))),
            Some(found(json!(["x/y"])))
        );
    }

    #[test]
    fn a_pod_that_was_bound_all_the_same_is_known_by_its_node() {
        let found =
            |uid: &str, node: &str| json!({"metadata": {"uid": uid}, "spec": {"nodeName": node}});
        assert!(has_node(&found("u", "n"), "u"));
        assert!(!has_node(&found("u", ""), "u"));
        assert!(!has_node(&found("v", "n"), "u"), "its successor");
        assert!(!has_node(&json!({"metadata": {"uid": "u"}}), "u"));
    }

    #[test]
    fn the_pod_is_told_of_its_claim() {
        let mapping = json!({"containerName": "c", "resourceName": "a/b", "requestName": "container-0-request-0"});
        let special = SpecialClaim {
            claim: Arc::default(),
            body: Value::Null,
            mappings: vec![mapping.clone()],
        };
        let pod = Pod {
            uid: "u".into(),
            ..Pod::default()
        };
        assert_eq!(
            status(&pod, &special, "p-extended-resources-x"),
            json!({"metadata": {"uid": "u"}, "status": {"extendedResourceClaimStatus": {
                "requestMappings": [mapping], "resourceClaimName": "p-extended-resources-x"}}})
        );
    }
}
