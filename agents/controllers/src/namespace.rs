//! Deletes what is in a namespace before the namespace goes: pods first, since they use what else is there, then
//! everything that discovery finds. What cannot be found out blocks the deletion and is said in conditions.

use crate::discovery::{Served, discover};
use crate::manager::{Body, Controller, TaskContext};
use crate::patches;
use crate::queue_names::queue_of;
use agent_runtime::client::{DeleteParams, ListParams, PatchType};
use agent_runtime::kinds::{Condition, Namespace, Text, condition};
use agent_runtime::resource_ref::{NAMESPACES, PODS};
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::worker::{self, Next};
use agent_runtime::{ApiError, Key, Propagation};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "namespace-controller",
    help: "empties namespaces that are being deleted",
    workers: 10,
    body: Body::Task(run),
};

const FINALIZER: &str = "kubernetes";
/// Content that goes by itself (pods with grace) is looked for again after this time, and ever more seldom later: a
/// finalizer that nobody takes off would else be asked about for ever at this pace.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
const AGAIN_MAX: Duration = Duration::from_secs(30);

fn run(context: TaskContext) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        let queue = queue_of(CONTROLLER.name);
        let keys = queue.clone();
        context.caches.namespaces.subscribe(move |change| {
            if change
                .new
                .as_ref()
                .is_some_and(|namespace| namespace.metadata.is_deleting())
            {
                keys.add(Key::new("", &change.latest().metadata.name));
            }
        });
        // The last pod of a namespace that is being emptied lets the rest go on at once.
        let (namespaces, keys) = (context.caches.namespaces.clone(), queue.clone());
        let pods = Arc::downgrade(&context.caches.pods);
        context.caches.pods.subscribe(move |change| {
            if change.new.is_none()
                && namespaces
                    .get("", &change.latest().metadata.namespace)
                    .is_some_and(|n| n.metadata.is_deleting())
                && pods
                    .upgrade()
                    .is_some_and(|pods| !pods.has_any_in(&change.latest().metadata.namespace))
            {
                keys.add(Key::new("", &change.latest().metadata.namespace));
            }
        });
        let stop = context.stop.clone();
        worker::run(queue, CONTROLLER.workers, stop, move |key| {
            let context = context.clone();
            async move {
                match sync(&context, &key.name).await {
                    Ok(None) => Next::Done,
                    Ok(Some(again)) => Next::After(again),
                    Err(error) if error.is_conflict() => Next::Backoff,
                    Err(error) => {
                        tracing::warn!(namespace = %key.name, error = %error.message, "deleting the content of a namespace");
                        Next::Backoff
                    }
                }
            }
        })
        .await;
    })
}

/// When to look again at a namespace that is not empty yet.
fn again(deleted: Option<&str>, now: Micros) -> Duration {
    let since = deleted.and_then(timestamp::parse).unwrap_or(now);
    let age = Duration::from_micros(u64::try_from(now - since).unwrap_or(0));
    (age / 4).clamp(AGAIN_FIRST, AGAIN_MAX)
}

/// One pass; when to come back to the namespace, `None` when it is done with.
async fn sync(context: &TaskContext, name: &str) -> Result<Option<Duration>, ApiError> {
    let client = &context.client;
    let namespace: Namespace = match client.get_as(&NAMESPACES, "", name).await {
        Ok(namespace) => namespace,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    if !namespace.metadata.is_deleting() {
        return Ok(None);
    }
    if namespace.spec.finalizers.iter().all(|f| f != FINALIZER) {
        // Somebody else's finalizer holds it, or nothing does.
        return Ok(None);
    }
    // A successor of the same name has to be left alone by whoever is late.
    let uid = &namespace.metadata.uid;
    if namespace.status.phase != "Terminating" {
        client
            .patch_status(
                &NAMESPACES,
                "",
                name,
                PatchType::Merge,
                &json!({"metadata": {"uid": uid}, "status": {"phase": "Terminating"}}),
            )
            .await?;
    }
    let content = empty(context, name).await?;
    let now = timestamp::now();
    let conditions = conditions(&namespace.status.conditions, &content, now);
    if conditions != namespace.status.conditions {
        client
            .patch_status(
                &NAMESPACES,
                "",
                name,
                PatchType::Merge,
                &json!({"metadata": {"uid": uid}, "status": {"conditions": conditions}}),
            )
            .await?;
    }
    if !content.is_clean() {
        let deleted = namespace.metadata.deletion_timestamp.as_deref();
        return Ok(Some(again(deleted.map(Text::as_str), now)));
    }
    finalize(context, name, uid).await?;
    Ok(None)
}

async fn finalize(context: &TaskContext, name: &str, uid: &str) -> Result<(), ApiError> {
    let client = &context.client;
    let Some(freed) = freed(client.get(&NAMESPACES, "", name).await?, uid) else {
        return Ok(());
    };
    client
        .update_sub(&NAMESPACES, "", name, "finalize", &freed)
        .await?;
    // The server removes a namespace whose last finalizer went; a server that does not is told to.
    match client
        .delete(&NAMESPACES, "", name, &DeleteParams::uid(uid))
        .await
    {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

/// The namespace without this controller's finalizer; none where it is not this incarnation, or is to stay.
fn freed(mut namespace: Value, uid: &str) -> Option<Value> {
    let metadata = &namespace["metadata"];
    if metadata["uid"] != uid || metadata["deletionTimestamp"].is_null() {
        return None;
    }
    let finalizers = namespace["spec"]["finalizers"].as_array();
    let rest = finalizers
        .into_iter()
        .flatten()
        .filter(|one| one.as_str() != Some(FINALIZER));
    let rest: Value = rest.cloned().collect();
    namespace["spec"]["finalizers"] = rest;
    Some(namespace)
}

/// What a pass found out.
#[derive(Debug, Default)]
struct Content {
    /// Groups that could not be asked for their resources.
    discovery_failures: Vec<String>,
    /// Deletions that were refused.
    delete_failures: Vec<String>,
    /// What is still there: number of objects by resource.
    remaining: BTreeMap<String, usize>,
    /// Finalizers on what is still there, and how often.
    finalizers: BTreeMap<String, usize>,
}

impl Content {
    fn is_clean(&self) -> bool {
        self.discovery_failures.is_empty() && self.is_emptied()
    }

    /// Whether nothing is left of what was looked at.
    fn is_emptied(&self) -> bool {
        self.delete_failures.is_empty() && self.remaining.is_empty()
    }
}

async fn empty(context: &TaskContext, namespace: &str) -> Result<Content, ApiError> {
    let found = discover(&context.client).await?;
    let mut content = Content {
        discovery_failures: found.failures,
        ..Content::default()
    };
    let mut deletable: Vec<Served> = found
        .served
        .into_iter()
        .filter(|s| s.resource.namespaced && s.can(&["list", "delete"]))
        .collect();
    deletable.sort_by_key(|served| served.resource != PODS);
    // Pods first: what they use stays until it is known that they are gone.
    let pods_are_known = deletable.first().is_some_and(|s| s.resource == PODS);
    if !pods_are_known && !content.discovery_failures.is_empty() {
        return Ok(content);
    }
    for served in deletable {
        if let Err(error) = empty_one(context, namespace, &served, &mut content).await {
            content.delete_failures.push(error.message);
        }
        if served.resource == PODS && !content.is_emptied() {
            break;
        }
    }
    Ok(content)
}

async fn empty_one(
    context: &TaskContext,
    namespace: &str,
    served: &Served,
    content: &mut Content,
) -> Result<(), ApiError> {
    let client = &context.client;
    let background = DeleteParams {
        propagation: Some(Propagation::Background),
        ..DeleteParams::default()
    };
    let listing = ListParams {
        metadata_only: true,
        ..ListParams::default()
    };
    if served.can(&["deletecollection"]) {
        match client
            .delete_collection(
                &served.resource,
                namespace,
                &ListParams::default(),
                &background,
            )
            .await
        {
            Err(error) if matches!(error.code, 404 | 405) => {}
            other => drop(other?),
        }
    } else {
        for item in items(&client.list(&served.resource, namespace, &listing).await?) {
            let name = item
                .pointer("/metadata/name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            match client
                .delete(&served.resource, namespace, name, &background)
                .await
            {
                Err(error) if error.is_not_found() => {}
                other => drop(other?),
            }
        }
    }
    let left = match client.list(&served.resource, namespace, &listing).await {
        Err(error) if matches!(error.code, 404 | 405) => return Ok(()),
        other => other?,
    };
    for item in items(&left) {
        *content
            .remaining
            .entry(served.resource.to_string())
            .or_default() += 1;
        for finalizer in item
            .pointer("/metadata/finalizers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            *content.finalizers.entry(finalizer.to_owned()).or_default() += 1;
        }
    }
    Ok(())
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The five conditions by which a namespace says why it is still there.
fn conditions(old: &[Condition], content: &Content, now: Micros) -> Vec<Condition> {
    let remaining: Vec<String> = content
        .remaining
        .iter()
        .map(|(resource, count)| format!("{resource} has {count} resource instances"))
        .collect();
    let finalizers: Vec<String> = content
        .finalizers
        .iter()
        .map(|(finalizer, count)| format!("{finalizer} in {count} resource instances"))
        .collect();
    let undiscovered = format!(
        "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: ",
        content.discovery_failures.len()
    );
    let undeleted = format!(
        "Failed to delete all resource types, {} remaining: ",
        content.delete_failures.len()
    );
    let verdicts = [
        (
            "NamespaceDeletionDiscoveryFailure",
            content.discovery_failures.join(", "),
            undiscovered.as_str(),
            "DiscoveryFailed",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            String::new(),
            "",
            "GroupVersionParsingFailed",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        (
            "NamespaceDeletionContentFailure",
            content.delete_failures.join(", "),
            undeleted.as_str(),
            "ContentDeletionFailed",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            remaining.join(", "),
            "Some resources are remaining: ",
            "SomeResourcesRemain",
            "ContentRemoved",
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            finalizers.join(", "),
            "Some content in the namespace has finalizers remaining: ",
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        ),
    ];
    let mut conditions: Vec<Condition> = old
        .iter()
        .filter(|c| verdicts.iter().all(|v| v.0 != c.kind))
        .cloned()
        .collect();
    for (kind, problem, prefix, bad, good, fine) in verdicts {
        let mut next = if problem.is_empty() {
            patches::condition(kind, "False", good, fine, now)
        } else {
            patches::condition(kind, "True", bad, &format!("{prefix}{problem}"), now)
        };
        if let Some(before) = condition(old, kind).filter(|before| before.status == next.status) {
            next.last_transition_time
                .clone_from(&before.last_transition_time);
        }
        conditions.push(next);
    }
    conditions
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_that_stays_is_looked_at_ever_more_seldom() {
        let after = |age: i64| {
            again(
                Some("2026-01-01T00:00:00Z"),
                timestamp::parse("2026-01-01T00:00:00Z").unwrap() + timestamp::seconds(age),
            )
            .as_secs()
        };
        assert_eq!(
            [after(-5), after(0), after(8), after(40), after(9000)],
            [2, 2, 2, 10, 30]
        );
        assert_eq!(again(None, 7), AGAIN_FIRST);
    }

    #[test]
    fn only_the_namespace_that_goes_loses_its_finalizer() {
        let namespace = |uid: &str, deleted: Value| json!({"metadata": {"name": "a", "uid": uid, "deletionTimestamp": deleted}, "spec": {"finalizers": ["x/y", FINALIZER]}});
        let going = || json!("2026-01-01T00:00:00Z");
        let rest = freed(namespace("u", going()), "u").unwrap();
        assert_eq!(rest["spec"]["finalizers"], json!(["x/y"]));
        assert_eq!(freed(namespace("v", going()), "u"), None, "a successor");
        assert_eq!(freed(namespace("u", Value::Null), "u"), None);
    }

    #[test]
    fn conditions_say_what_is_left() {
        let mut content = Content::default();
        let clean = conditions(&[], &content, 0);
        assert!(clean.iter().all(|c| c.status == "False") && clean.len() == 5);
        content.remaining.insert("pods".into(), 2);
        content.finalizers.insert("x/y".into(), 1);
        content.discovery_failures = vec!["a/v1: down".into(), "b/v1: down".into()];
        content.delete_failures = vec!["no".into()];
        let held = conditions(&clean, &content, timestamp::seconds(9));
        let messages: Vec<_> = held
            .iter()
            .filter(|c| c.is_true())
            .map(|c| c.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "Discovery failed for some groups, 2 failing: unable to retrieve the complete list of server APIs: a/v1: down, b/v1: down",
                "Failed to delete all resource types, 1 remaining: no",
                "Some resources are remaining: pods has 2 resource instances",
                "Some content in the namespace has finalizers remaining: x/y in 1 resource instances"
            ]
        );
        assert_eq!(held[1].last_transition_time, clean[1].last_transition_time);
        assert_ne!(held[3].last_transition_time, clean[3].last_transition_time);
    }
}
