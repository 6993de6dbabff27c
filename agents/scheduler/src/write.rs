//! What the scheduler writes: bindings, the `PodScheduled` condition, nominations, evictions. The bodies are pure
//! functions; the sending around them bounds its time.

use crate::object::Pod;
use agent_runtime::kinds::ObjectReference;
use agent_runtime::resource_ref::PODS;
use agent_runtime::{ApiError, Client, DeleteParams, PatchType, timestamp};
use serde_json::{Value, json};
use std::future::Future;
use std::time::Duration;

/// A write that takes longer has failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Puts the pod onto the node. When nobody knows whether the binding was stored, the pod itself tells: to take it for
/// failed would give the room away a second time.
pub(crate) async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), ApiError> {
    let body = binding(pod, node);
    let bound =
        bounded(client.create_sub(&PODS, &pod.namespace, &pod.name, "binding", &body)).await;
    let Err(error) = bound else { return Ok(()) };
    if !(error.is_transport() || error.code >= 500 || error.is_conflict()) {
        return Err(error);
    }
    match bounded(client.get(&PODS, &pod.namespace, &pod.name)).await {
        Ok(found) if is_bound(&found, pod, node) => Ok(()),
        _ => Err(error),
    }
}

fn is_bound(found: &Value, pod: &Pod, node: &str) -> bool {
    let text = |pointer| found.pointer(pointer).and_then(Value::as_str);
    text("/metadata/uid") == Some(&pod.uid) && text("/spec/nodeName") == Some(node)
}

/// Writes the status that says why the pod waits.
pub(crate) async fn report(client: &Client, pod: &Pod, status: &Value) -> Result<(), ApiError> {
    bounded(client.patch_status(
        &PODS,
        &pod.namespace,
        &pod.name,
        PatchType::Strategic,
        status,
    ))
    .await
    .map(drop)
}

/// Marks the victim and deletes it, gracefully. A victim that is gone already is no error.
pub(crate) async fn evict(client: &Client, preemptor: &Pod, victim: &Pod) -> Result<(), ApiError> {
    let status = disruption(preemptor, victim, &timestamp::time(timestamp::now()));
    let marked = bounded(client.patch_status(
        &PODS,
        &victim.namespace,
        &victim.name,
        PatchType::Strategic,
        &status,
    ))
    .await;
    let gone = |error: &ApiError| error.is_not_found() || error.is_conflict();
    match marked {
        Err(error) if gone(&error) => return Ok(()),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let params = DeleteParams::uid(victim.uid.clone());
    match bounded(client.delete(&PODS, &victim.namespace, &victim.name, &params)).await {
        Err(error) if !gone(&error) => Err(error),
        _ => Ok(()),
    }
}

pub(crate) async fn bounded<T>(
    write: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(WRITE_TIMEOUT, write).await {
        Ok(result) => result,
        Err(_) => Err(ApiError::transport("the API server did not answer in time")),
    }
}

/// A reference to the pod, for events.
pub(crate) fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        resource_version: pod.resource_version.clone(),
        field_path: String::new(),
    }
}

fn binding(pod: &Pod, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "target": {"kind": "Node", "name": node},
    })
}

/// The status patch that says why the pod waits and which node it hopes for (empty for none); `None` when the pod says
/// so already.
pub(crate) fn refusal(
    pod: &Pod,
    reason: &str,
    message: &str,
    nominated_node: &str,
    now: &str,
) -> Option<Value> {
    let known = pod.scheduled_condition.as_ref();
    let said = known.is_some_and(|(status, r, m)| status == "False" && r == reason && m == message);
    let renominated = nominated_node != pod.nominated_node;
    if said && !renominated {
        return None;
    }
    let mut condition = json!({
        "type": "PodScheduled", "status": "False", "reason": reason, "message": message, "lastProbeTime": null,
    });
    if pod.generation > 0 {
        condition["observedGeneration"] = json!(pod.generation);
    }
    if known.is_none_or(|(status, ..)| status != "False") {
        condition["lastTransitionTime"] = json!(now);
    }
    let mut status = json!({"conditions": [condition]});
    if renominated {
        // Null takes the field away.
        status["nominatedNodeName"] = Some(nominated_node).filter(|node| !node.is_empty()).into();
    }
    Some(json!({"metadata": {"uid": pod.uid}, "status": status}))
}

fn disruption(preemptor: &Pod, victim: &Pod, now: &str) -> Value {
    let message = format!(
        "{}: preempting to accommodate a higher priority pod",
        preemptor.scheduler_name
    );
    json!({"metadata": {"uid": victim.uid}, "status": {"conditions": [{
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler", "message": message,
        "lastProbeTime": null, "lastTransitionTime": now,
    }]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        Pod::compile(
            &json!({"metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1}}),
        )
    }

    #[test]
    fn a_refusal_is_written_once_and_keeps_its_transition_time() {
        let first = refusal(&pod(), "Unschedulable", "m", "", "T").unwrap();
        let expected = json!({"metadata": {"uid": "u"}, "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "m", "lastProbeTime": null,
            "observedGeneration": 1, "lastTransitionTime": "T"}]}});
        assert_eq!(first, expected);
        let mut told = pod();
        told.scheduled_condition = Some(("False".into(), "Unschedulable".into(), "m".into()));
        assert_eq!(refusal(&told, "Unschedulable", "m", "", "T"), None);
        let other = refusal(&told, "Unschedulable", "other", "", "T").unwrap();
        assert_eq!(
            other.pointer("/status/conditions/0/lastTransitionTime"),
            None
        );
        let nominated = refusal(&told, "Unschedulable", "m", "n", "T").unwrap();
        assert_eq!(
            nominated.pointer("/status/nominatedNodeName"),
            Some(&json!("n"))
        );
    }

    #[test]
    fn only_this_incarnation_on_this_node_counts_as_bound() {
        let found =
            |uid: &str, node: &str| json!({"metadata": {"uid": uid}, "spec": {"nodeName": node}});
        assert!(is_bound(&found("u", "n"), &pod(), "n"));
        assert!(!is_bound(&found("u", "m"), &pod(), "n"));
        assert!(!is_bound(&found("v", "n"), &pod(), "n"));
        assert!(!is_bound(&json!({}), &pod(), "n"));
    }

    #[test]
    fn a_binding_carries_the_uid_so_that_it_cannot_hit_a_successor() {
        let body = binding(&pod(), "n");
        assert_eq!(body.pointer("/metadata/uid"), Some(&json!("u")));
        assert_eq!(body.pointer("/target/name"), Some(&json!("n")));
    }
}
