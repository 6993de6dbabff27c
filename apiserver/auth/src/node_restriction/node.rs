//! What a node writes of nodes: itself, and not where workloads are steered to.

use std::collections::BTreeSet;

use schema::field::go_quote as quote;
use serde_json::Value;

use super::{Operation, Write, labels, list, meta_list, own_name};

pub(super) fn check_node(node: &str, write: &Write<'_>) -> Result<(), String> {
    let quoted = quote(node);
    let name = own_name(write);
    if name != node {
        return Err(format!(
            "node {quoted} is not allowed to modify node {}",
            quote(name)
        ));
    }
    let empty = Value::Null;
    let old = write.old.unwrap_or(&empty);
    let config_source = |object: &Value| {
        object
            .pointer("/spec/configSource")
            .filter(|source| !source.is_null())
            .cloned()
    };
    let new_labels = forbidden_labels(write.object, old);
    match write.operation {
        Operation::Delete => Ok(()),
        Operation::Create if config_source(write.object).is_some() => Err(format!(
            "node {quoted} is not allowed to create pods with a non-nil configSource"
        )),
        Operation::Create if !new_labels.is_empty() => Err(format!(
            "node {quoted} is not allowed to set the following labels: {}",
            new_labels.join(", ")
        )),
        Operation::Create => Ok(()),
        Operation::Update
            if config_source(write.object)
                .is_some_and(|source| Some(source) != config_source(old)) =>
        {
            Err(format!(
                "node {quoted} is not allowed to update configSource to a new non-nil configSource"
            ))
        }
        Operation::Update
            if list(old.pointer("/spec/taints")) != list(write.object.pointer("/spec/taints")) =>
        {
            Err(format!("node {quoted} is not allowed to modify taints"))
        }
        Operation::Update
            if meta_list(old, "ownerReferences") != meta_list(write.object, "ownerReferences") =>
        {
            Err(format!(
                "node {quoted} is not allowed to modify ownerReferences"
            ))
        }
        Operation::Update if !new_labels.is_empty() => Err(format!(
            "is not allowed to modify labels: {}",
            new_labels.join(", ")
        )),
        Operation::Update => Ok(()),
    }
}

/// The labels that differ and that a node may not set about itself, in order.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let (new, old) = (labels(new), labels(old));
    let changed: BTreeSet<&str> = new
        .symmetric_difference(&old)
        .map(|(key, _)| *key)
        .collect();
    changed
        .into_iter()
        .filter(|key| is_forbidden_label(key))
        .map(str::to_owned)
        .collect()
}

fn is_forbidden_label(key: &str) -> bool {
    let Some((namespace, _)) = key.split_once('/') else {
        return false;
    };
    let within = |domain: &str| {
        namespace == domain
            || namespace
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    (within("kubernetes.io") || within("k8s.io")) && !is_kubelet_label(key, within)
}

/// The labels under the domains of Kubernetes that nodes set about themselves.
fn is_kubelet_label(key: &str, within: impl Fn(&str) -> bool) -> bool {
    const OWN: &[&str] = &[
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "node.kubernetes.io/windows-build",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
    ];
    OWN.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}
