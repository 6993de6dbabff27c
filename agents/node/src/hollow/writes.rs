//! What hollow nodes write, one request or two each, and what its answer means to whoever asked for it.

use std::time::Duration;

use agent_runtime::resource_ref::{LEASES, NODES, PODS};
use agent_runtime::{ApiError, Client, DeleteParams, PatchType};
use bytes::Bytes;
use serde_json::{Value, json};

use super::nodes::Shown;
use super::slim::Slim;
use crate::pod::devices::{self, Drivers};

const LEASE_NAMESPACE: &str = "kube-node-lease";

/// How a write ended.
pub(super) enum Answer {
    /// The API has taken the pod's status, and the pod has this version, which the watch will show.
    Taken(u64),
    Node(Box<Told>),
    /// The pod's claims on devices let it begin.
    Clear,
    /// They do not yet, and why.
    Unclear(String),
    /// There is nothing more to say.
    Done,
    /// There is no such object (any more).
    Missing,
    /// It would be refused again.
    Refused,
    /// It is to be tried again, not before this time.
    Failed(Option<Duration>),
}

/// The node as it is now, and the status that it was told of, if any.
pub(super) struct Told {
    pub(super) shown: Shown,
    pub(super) told: Option<(Value, bool)>,
}

fn failed(what: &str, name: &str, error: &ApiError) -> Answer {
    if error.is_not_found() {
        return Answer::Missing;
    }
    tracing::debug!(what, name, error = %error.message, "a write failed, it is tried again");
    Answer::Failed(error.retry_after)
}

pub(super) async fn status(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
    patch: Bytes,
) -> Answer {
    let kind = PatchType::Strategic;
    let status = Some("status");
    match client
        .patch_written(&PODS, (namespace, name), status, kind, patch)
        .await
    {
        Ok(stored) if stored.uid() == uid => Answer::Taken(stored.revision()),
        Ok(_) => Answer::Missing,
        Err(error) if error.is_invalid() => {
            tracing::error!(namespace, name, error = %error.message, "the API refuses a pod's status");
            Answer::Refused
        }
        // Another pod has its name.
        Err(error) if error.is_conflict() => Answer::Missing,
        Err(error) => failed("pod status", name, &error),
    }
}

/// Looks at the claims of a pod on devices. Hollow nodes need no drivers.
pub(super) async fn look_at_claims(client: &Client, pod: &Slim) -> Answer {
    let Ok(pod) = pod.pod() else {
        return Answer::Done;
    };
    match devices::look(client, &pod, Drivers::Pretended).await {
        Ok(()) => Answer::Clear,
        Err(text) => Answer::Unclear(text),
    }
}

/// Takes the object away; whether it is gone is for the watch to say.
pub(super) async fn delete(client: &Client, namespace: &str, name: &str, uid: &str) -> Answer {
    let params = DeleteParams {
        grace_seconds: Some(0),
        uid: Some(uid.to_owned()),
        ..DeleteParams::default()
    };
    match client.delete(&PODS, namespace, name, &params).await {
        Ok(_) => Answer::Done,
        Err(error) if error.is_conflict() => Answer::Missing,
        Err(error) => failed("pod deletion", name, &error),
    }
}

/// Makes the Node object together with its status, or brings the labels of the one that is there up to date.
pub(super) async fn register(client: &Client, node: Value, status: Value, ready: bool) -> Answer {
    let name = node["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut whole = node;
    whole["status"] = status;
    match client.create(&NODES, "", &whole).await {
        Ok(made) => {
            let taken = made.pointer("/status/conditions").is_some();
            Answer::Node(Box::new(Told {
                shown: Shown::of(&made),
                told: taken.then(|| (whole["status"].take(), ready)),
            }))
        }
        Err(error) if error.is_already_exists() => {
            let metadata = json!({"labels": whole["metadata"]["labels"], "annotations": whole["metadata"]["annotations"]});
            let patch = json!({"metadata": metadata});
            match client
                .patch(&NODES, "", &name, PatchType::Merge, &patch)
                .await
            {
                Ok(node) => Answer::Node(Box::new(Told {
                    shown: Shown::of(&node),
                    told: None,
                })),
                Err(error) => failed("node", &name, &error),
            }
        }
        Err(error) => {
            tracing::warn!(node = name, error = %error.message, "cannot register a node yet");
            failed("node", &name, &error)
        }
    }
}

/// Writes the status, and what of the metadata goes with it.
pub(super) async fn report(
    client: &Client,
    name: &str,
    (status, ready): (Value, bool),
    metadata: Option<Value>,
) -> Answer {
    // Trees are moved in and out: the macro would copy them.
    let mut patch = json!({});
    patch["status"] = status;
    if let Some(metadata) = metadata {
        patch["metadata"] = metadata;
    }
    let kind = PatchType::Strategic;
    match client.patch_status(&NODES, "", name, kind, &patch).await {
        Ok(node) => Answer::Node(Box::new(Told {
            shown: Shown::of(&node),
            told: Some((patch["status"].take(), ready)),
        })),
        Err(error) => failed("node status", name, &error),
    }
}

/// Renews the node's lease, or makes it. The node owns it, so that both go together.
pub(super) async fn renew(client: &Client, name: &str, uid: &str, spec: Value) -> Answer {
    let mut patch = json!({});
    patch["spec"] = spec;
    let kind = PatchType::Merge;
    match client
        .patch_blindly(&LEASES, LEASE_NAMESPACE, name, kind, &patch)
        .await
    {
        Ok(()) => return Answer::Done,
        Err(error) if error.is_not_found() => {}
        Err(error) => return failed("lease", name, &error),
    }
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [{
            "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid,
        }]},
    });
    lease["spec"] = patch["spec"].take();
    match client.create(&LEASES, LEASE_NAMESPACE, &lease).await {
        Ok(_) => Answer::Done,
        Err(error) => {
            tracing::debug!(name, error = %error.message, "cannot make a lease yet");
            Answer::Failed(error.retry_after)
        }
    }
}
