//! The pod that a request is about.

use std::sync::Arc;

use serde_json::Value;

use super::refusal::{Refusal, internal, missing};
use crate::agent::Agent;
use crate::pod::plan::Observation;
use crate::spec::Pod;

/// A pod of this node, with what the runtime has of it.
pub(super) struct Found {
    pub(super) object: Arc<Value>,
    pub(super) pod: Pod,
    pub(super) observed: Observation,
}

pub(super) async fn find(
    agent: &Agent,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
    container: &str,
) -> Result<Found, Refusal> {
    let found = find_pod(agent, namespace, name, uid).await?;
    match found.pod.container(container) {
        Some(_) => Ok(found),
        None => Err(missing(format!(
            "container {container:?} not found in pod {name:?}"
        ))),
    }
}

/// With a UID only that pod will do, not another one of the same name.
pub(super) async fn find_pod(
    agent: &Agent,
    namespace: &str,
    name: &str,
    uid: Option<&str>,
) -> Result<Found, Refusal> {
    let unknown = || missing(format!("pod {name:?} not found in namespace {namespace:?}"));
    let object = agent.find_pod(namespace, name).ok_or_else(unknown)?;
    let pod = Pod::decode(&object).map_err(internal)?;
    if uid.is_some_and(|uid| uid != pod.metadata.uid) {
        return Err(unknown());
    }
    let all = agent
        .runtime
        .list(Some(&pod.metadata.uid))
        .await
        .map_err(|error| internal(error.to_string()))?;
    Ok(Found {
        object,
        pod,
        observed: Observation::new(all),
    })
}

pub(crate) fn container_status<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ]
    .iter()
    .filter_map(|field| object.get("status")?.get(field)?.as_array())
    .flatten()
    .find(|status| status.get("name").and_then(Value::as_str) == Some(name))
}
