//! What the scheduler writes: bindings, one by one and many at once, the `PodScheduled` condition, nominations, evictions. The bodies are pure
//! functions; the sending around them bounds its time.

use crate::object::Pod;
use agent_runtime::kinds::ObjectReference;
use agent_runtime::resource_ref::PODS;
use agent_runtime::{ApiError, Client, DeleteParams, PatchType, timestamp};
use serde_json::{Value, json};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A write that takes longer has failed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Where our API server takes many bindings at once. No other has it.
const BATCH_PATH: &str = "/kontiki/v1/bindings";
/// It takes so many at once.
pub(crate) const BATCH_MAX: usize = 256;
/// Of a batch, so many are asked about or sent again at once.
const SINGLES_MAX: usize = 16;

/// A pod and the node that it goes to.
pub(crate) type Assignment = (Arc<Pod>, String);
/// What became of it.
pub(crate) type Bound = Result<(), ApiError>;

/// Some of a batch, by their places in it, that are of use only if so many of them are bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Together {
    pub(crate) items: Vec<usize>,
    pub(crate) at_least: usize,
}

/// Puts pods onto their nodes; what became of each, in their order. `None` where the server has no such door, and nothing
/// was done. A server that does not know of what belongs together binds what it can.
pub(crate) async fn bind_all(
    client: &Client,
    pods: &[Assignment],
    together: &[Together],
) -> Option<Vec<Bound>> {
    let sent = bounded(client.post_path(BATCH_PATH, &batch(pods, together))).await;
    let answered = match sent {
        Err(error) if has_no_batches(&error) => return None,
        Err(error) => vec![Err(error); pods.len()],
        Ok(answer) => results(&answer, pods.len()),
    };
    let alone = may_go_alone(&answered, together);
    Some(settle_all(client, pods, answered, &alone).await)
}

fn batch(pods: &[Assignment], together: &[Together]) -> Value {
    let items: Vec<Value> = pods.iter().map(|(pod, node)| binding(pod, node)).collect();
    let mut batch = json!({ "items": items });
    if !together.is_empty() {
        let sets = together.iter();
        let sets = sets.map(|set| json!({"items": set.items, "atLeast": set.at_least}));
        batch["together"] = sets.collect();
    }
    batch
}

/// Which of a batch may be sent once more by themselves: of those that belong together only where the others were bound.
fn may_go_alone(answers: &[Bound], together: &[Together]) -> Vec<bool> {
    let mut alone = vec![true; answers.len()];
    for set in together {
        let any = set.items.iter().any(|at| answers[*at].is_ok());
        for at in &set.items {
            alone[*at] = any;
        }
    }
    alone
}

/// Other servers refuse the path: first because nobody has a right to it, then because nobody serves it.
fn has_no_batches(error: &ApiError) -> bool {
    matches!(error.code, 403 | 404 | 405 | 501)
}

/// The answers for `count` pods. Where they are not that many, nobody knows what became of any.
fn results(answer: &Value, count: usize) -> Vec<Bound> {
    let items = answer.get("items").and_then(Value::as_array);
    match items.filter(|items| items.len() == count) {
        Some(items) => items.iter().map(result).collect(),
        None => {
            let error = ApiError::malformed("the answer is not about the bindings that were sent");
            vec![Err(error); count]
        }
    }
}

fn result(status: &Value) -> Bound {
    match status.get("status").and_then(Value::as_str) {
        Some("Success") => Ok(()),
        _ => Err(ApiError::from_status(status)),
    }
}

/// Finds out about those of unknown fate, and sends alone those that the server wants to get again.
async fn settle_all(
    client: &Client,
    pods: &[Assignment],
    mut answers: Vec<Bound>,
    alone: &[bool],
) -> Vec<Bound> {
    let permits = Arc::new(Semaphore::new(SINGLES_MAX));
    let mut open = JoinSet::new();
    for (index, answer) in answers.iter().enumerate() {
        let (Err(error), Some((pod, node))) = (answer, pods.get(index)) else {
            continue;
        };
        let again = is_postponed(error) && alone[index];
        if !again && !is_unsure(error) {
            continue;
        }
        let (client, permits) = (client.clone(), permits.clone());
        let (pod, node, error) = (pod.clone(), node.clone(), error.clone());
        open.spawn(host::here(async move {
            let _permit = permits.acquire().await;
            let settled = match again {
                true => bind(&client, &pod, &node).await,
                false => settle(&client, &pod, &node, error).await,
            };
            (index, settled)
        }));
    }
    while let Some(settled) = open.join_next().await {
        if let Ok((index, settled)) = settled
            && let Some(answer) = answers.get_mut(index)
        {
            *answer = settled;
        }
    }
    answers
}

/// The server has not done it, and wants to be asked again: what the client does by itself for a single request.
fn is_postponed(error: &ApiError) -> bool {
    error.retry_after.is_some() && (error.code == 429 || error.code >= 500)
}

/// Whether the binding may have been stored all the same.
fn is_unsure(error: &ApiError) -> bool {
    error.is_transport() || error.code >= 500 || error.is_conflict()
}

/// Puts the pod onto the node. When nobody knows whether the binding was stored, the pod itself tells: to take it for
/// failed would give the room away a second time.
pub(crate) async fn bind(client: &Client, pod: &Pod, node: &str) -> Bound {
    let body = binding(pod, node);
    let bound =
        bounded(client.create_sub(&PODS, &pod.namespace, &pod.name, "binding", &body)).await;
    match bound {
        Ok(_) => Ok(()),
        Err(error) if is_unsure(&error) => settle(client, pod, node, error).await,
        Err(error) => Err(error),
    }
}

async fn settle(client: &Client, pod: &Pod, node: &str, error: ApiError) -> Bound {
    match is_there(client, pod, node).await {
        true => Ok(()),
        false => Err(error),
    }
}

/// Asks the pod whether it is on the node.
pub(crate) async fn is_there(client: &Client, pod: &Pod, node: &str) -> bool {
    let found = bounded(client.get(&PODS, &pod.namespace, &pod.name)).await;
    found.is_ok_and(|found| is_bound(&found, pod, node))
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
        resource_version: pod.resource_version.to_string(),
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
    let known = pod.scheduled_condition.as_deref();
    let said = known.is_some_and(|(status, r, m)| status == "False" && r == reason && m == message);
    let renominated = nominated_node != &*pod.nominated_node;
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
        told.scheduled_condition = Some(Box::new((
            "False".into(),
            "Unschedulable".into(),
            "m".into(),
        )));
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
    fn what_belongs_together_is_told_and_none_of_it_goes_alone_unless_others_went() {
        let pods: Vec<Assignment> = (0..4).map(|_| (Arc::new(pod()), "n".to_owned())).collect();
        assert_eq!(batch(&pods, &[]).get("together"), None);
        let set = |items: &[usize], at_least| Together {
            items: items.to_vec(),
            at_least,
        };
        let sets = [set(&[0, 2], 2), set(&[1], 1)];
        assert_eq!(
            batch(&pods, &sets)["together"],
            json!([{"items": [0, 2], "atLeast": 2}, {"items": [1], "atLeast": 1}])
        );
        let later = || Err(ApiError::transport("later"));
        let answers = [later(), Ok(()), later(), later()];
        let alone = may_go_alone(&answers, &sets);
        assert_eq!(alone, [false, true, false, true]);
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
    fn only_a_server_without_the_door_is_taken_for_one() {
        let code = |code| ApiError {
            code,
            ..ApiError::default()
        };
        assert!([403, 404, 405, 501].map(code).iter().all(has_no_batches));
        // Of these nobody knows whether it has one, or what it did.
        assert!(
            ![0, 400, 409, 429, 500, 503, 504]
                .map(code)
                .iter()
                .any(has_no_batches)
        );
    }

    #[test]
    fn answers_belong_to_pods_by_their_order_or_to_none() {
        let answer = json!({"items": [
            {"kind": "Status", "status": "Success", "code": 201},
            {"kind": "Status", "status": "Failure", "code": 409, "reason": "Conflict", "message": "m"},
            {"kind": "Status", "status": "Failure", "code": 429, "details": {"retryAfterSeconds": 1}},
        ]});
        let told = results(&answer, 3);
        assert!(told[0].is_ok());
        let conflict = told[1].as_ref().unwrap_err();
        assert!(is_unsure(conflict) && !is_postponed(conflict));
        assert!(is_postponed(told[2].as_ref().unwrap_err()));
        for wrong in [answer, json!({}), json!({"items": 7}), json!([])] {
            let told = results(&wrong, 2);
            let unsure = |bound: &Bound| bound.as_ref().is_err_and(is_unsure);
            assert!(told.len() == 2 && told.iter().all(unsure), "{wrong}");
        }
    }

    #[test]
    fn a_binding_carries_the_uid_so_that_it_cannot_hit_a_successor() {
        let body = binding(&pod(), "n");
        assert_eq!(body.pointer("/metadata/uid"), Some(&json!("u")));
        assert_eq!(body.pointer("/target/name"), Some(&json!("n")));
    }
}
