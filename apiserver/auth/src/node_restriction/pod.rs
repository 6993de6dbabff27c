//! What a node writes of pods, and on their behalf: of those that run on it.

use schema::field::go_quote as quote;
use serde_json::Value;

use super::{Operation, Write, flag, labels, list, meta, node_of, own_name, text};

pub(super) fn check_pod<'a>(
    node: &str,
    write: &Write<'_>,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    match write.operation {
        Operation::Create => check_mirror_pod(node, write.object, find),
        Operation::Delete if write.old.is_some_and(|old| node_of(old) != node) => Err(format!(
            "node {} can only delete pods with spec.nodeName set to itself",
            quote(node)
        )),
        Operation::Delete => Ok(()),
        other => Err(format!(
            "unexpected operation {}, node {} can only create and delete mirror pods",
            quote(other.name()),
            quote(node)
        )),
    }
}

fn check_mirror_pod<'a>(
    node: &str,
    pod: &Value,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    let quoted = quote(node);
    if pod
        .pointer("/metadata/annotations")
        .and_then(|annotations| annotations.get("kubernetes.io/config.mirror"))
        .is_none()
    {
        return Err(format!(
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node {quoted} can only create mirror pods"
        ));
    }
    if node_of(pod) != node {
        return Err(format!(
            "node {quoted} can only create pods with spec.nodeName set to itself"
        ));
    }
    check_owner(node, pod, find)?;
    match reference_of(pod) {
        Some(what) => Err(format!(
            "node {quoted} can not create pods that reference {what}"
        )),
        None => Ok(()),
    }
}

/// A pod that a node creates belongs to the node, and goes with it.
fn check_owner<'a>(
    node: &str,
    pod: &Value,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    let quoted = quote(node);
    let owner = match list(pod.pointer("/metadata/ownerReferences")) {
        [owner] => owner,
        [] => {
            return Err(format!(
                "node {quoted} can only create pods with an owner reference set to itself"
            ));
        }
        _ => {
            return Err(format!(
                "node {quoted} can only create pods with a single owner reference set to itself"
            ));
        }
    };
    if text(owner, "apiVersion") != "v1"
        || text(owner, "kind") != "Node"
        || text(owner, "name") != node
    {
        return Err(format!(
            "node {quoted} can only create pods with an owner reference set to itself"
        ));
    }
    if !flag(owner, "controller") {
        return Err(format!(
            "node {quoted} can only create pods with a controller owner reference set to itself"
        ));
    }
    if flag(owner, "blockOwnerDeletion") {
        return Err(format!(
            "node {quoted} must not set blockOwnerDeletion on an owner reference"
        ));
    }
    let stored = find("nodes", "", node)
        .map(|stored| meta(stored, "uid"))
        .ok_or_else(|| format!("nodes {quoted} not found"))?;
    if stored != text(owner, "uid") {
        return Err(format!(
            "node {node} UID mismatch: expected {} got {stored}",
            text(owner, "uid")
        ));
    }
    Ok(())
}

/// A pod that a node creates must not open any other object to it.
fn reference_of(pod: &Value) -> Option<&'static str> {
    let spec = pod.get("spec")?;
    if !text(spec, "serviceAccountName").is_empty() {
        return Some("a service account");
    }
    if !list(spec.get("imagePullSecrets")).is_empty() {
        return Some("secrets");
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|field| list(spec.get(field)));
    for env in containers.flat_map(|container| {
        list(container.get("env"))
            .iter()
            .filter_map(|env| env.get("valueFrom"))
            .chain(list(container.get("envFrom")))
    }) {
        for (field, what) in [
            ("secretKeyRef", "secrets"),
            ("secretRef", "secrets"),
            ("configMapKeyRef", "configmaps"),
            ("configMapRef", "configmaps"),
        ] {
            if env.get(field).is_some_and(|reference| !reference.is_null()) {
                return Some(what);
            }
        }
    }
    let volumes = list(spec.get("volumes"));
    let sources = volumes
        .iter()
        .filter_map(|volume| volume.get("projected"))
        .flat_map(|projected| list(projected.get("sources")));
    for volume in volumes.iter().chain(sources) {
        let known = [
            ("secret", "secrets"),
            ("configMap", "configmaps"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            ("ephemeral", "persistentvolumeclaims"),
            ("clusterTrustBundle", "clustertrustbundles"),
            ("serviceAccountToken", "a service account"),
            ("podCertificate", "a service account"),
        ];
        let mentions = |field: &str| volume.get(field).is_some_and(|source| !source.is_null());
        if let Some((_, what)) = known.into_iter().find(|(field, _)| mentions(field)) {
            return Some(what);
        }
        let by_driver = volume.as_object().into_iter().flatten().any(|(_, source)| {
            ["secretRef", "nodePublishSecretRef", "secretName"]
                .iter()
                .any(|field| source.get(*field).is_some_and(|it| !it.is_null()))
        });
        if by_driver {
            return Some("secrets");
        }
    }
    (!list(spec.get("resourceClaims")).is_empty()).then_some("resourceclaims")
}

pub(super) fn check_pod_status(node: &str, write: &Write<'_>) -> Result<(), String> {
    let (Operation::Update, Some(old)) = (write.operation, write.old) else {
        return Err(format!(
            "unexpected operation {}",
            quote(write.operation.name())
        ));
    };
    if node_of(old) != node {
        return Err(format!(
            "node {} can only update pod status for pods with spec.nodeName set to itself",
            quote(node)
        ));
    }
    if labels(old) != labels(write.object) {
        return Err(format!(
            "node {} cannot update labels through pod status",
            quote(node)
        ));
    }
    if old.pointer("/status/resourceClaimStatuses")
        != write.object.pointer("/status/resourceClaimStatuses")
    {
        return Err(format!(
            "node {} cannot update resource claim statues",
            quote(node)
        ));
    }
    let extended = "/status/extendedResourceClaimStatus";
    if old.pointer(extended) != write.object.pointer(extended) {
        return Err(format!(
            "node {} cannot update extended resource claim status",
            quote(node)
        ));
    }
    Ok(())
}

pub(super) fn check_eviction<'a>(
    node: &str,
    write: &Write<'_>,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    if write.operation != Operation::Create {
        return Err(format!("unexpected operation {}", write.operation.name()));
    }
    let name = own_name(write);
    if name.is_empty() {
        return Err("could not determine pod from request data".to_owned());
    }
    // A pod that is not there is the business of the handler, which answers 404.
    match find("pods", write.namespace, name) {
        Some(pod) if node_of(pod) != node => Err(format!(
            "node {node} can only evict pods with spec.nodeName set to itself"
        )),
        _ => Ok(()),
    }
}

/// A node asks for tokens only on behalf of a pod that runs on it.
pub(super) fn check_token<'a>(
    node: &str,
    write: &Write<'_>,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    let empty = Value::Null;
    let bound = write
        .object
        .pointer("/spec/boundObjectRef")
        .unwrap_or(&empty);
    if text(bound, "apiVersion") != "v1"
        || text(bound, "kind") != "Pod"
        || text(bound, "name").is_empty()
    {
        return Err("node requested token not bound to a pod".to_owned());
    }
    let uid = text(bound, "uid");
    if uid.is_empty() {
        return Err("node requested token with a pod binding without a uid".to_owned());
    }
    let Some(pod) = find("pods", write.namespace, text(bound, "name")) else {
        return Err(format!("pods {} not found", quote(text(bound, "name"))));
    };
    if meta(pod, "uid") != uid {
        return Err(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        ));
    }
    if node_of(pod) != node {
        return Err("node requested token bound to a pod scheduled on a different node".to_owned());
    }
    if text(pod.get("spec").unwrap_or(&empty), "serviceAccountName") != write.name {
        return Err(
            "node requested token for a service account that the pod does not use".to_owned(),
        );
    }
    Ok(())
}
