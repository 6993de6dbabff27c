//! The admission check behind the node authorizer: what a node writes must be about itself.
//!
//! The authorizer sees only names; this sees the written object too, so that an agent whose host was taken over
//! can neither steer workloads to itself by labels and taints nor speak for other nodes and their pods.

mod node;
mod pod;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::user::User;
use node::check_node;
use pod::{check_eviction, check_pod, check_pod_status, check_token};
use schema::field::go_quote as quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
        }
    }
}

/// A write after defaulting and before storing.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    pub operation: Operation,
    pub group: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    /// From the path; empty on create.
    pub name: &'a str,
    pub namespace: &'a str,
    /// `Null` on delete.
    pub object: &'a Value,
    /// The stored object on update and delete; the parent (a pod, say) for a created subresource.
    pub old: Option<&'a Value>,
}

/// Checks a write. `find(resource, namespace, name)` looks up pods and nodes. The error is the text after
/// `is forbidden: `; users that are no nodes are never restricted.
pub fn check<'a>(
    user: &User,
    write: &Write<'_>,
    find: impl Fn(&str, &str, &str) -> Option<&'a Value>,
) -> Result<(), String> {
    let Some(node) = user.node_identity() else {
        return Ok(());
    };
    if node.is_empty() {
        return Err(format!(
            "could not determine node from user {}",
            quote(&user.name)
        ));
    }
    match (write.group, write.resource, write.subresource) {
        ("", "pods", "") => check_pod(node, write, find),
        ("", "pods", "status") => check_pod_status(node, write),
        ("", "pods", "eviction") => check_eviction(node, write, find),
        ("", "pods", other) => Err(format!(
            "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
            quote(other)
        )),
        ("", "nodes", _) => check_node(node, write),
        ("", "persistentvolumeclaims", "status") => check_claim_status(node, write),
        ("", "persistentvolumeclaims", _) => Err("may only update PVC status".to_owned()),
        ("", "serviceaccounts", "token") if write.operation == Operation::Create => {
            check_token(node, write, find)
        }
        ("coordination.k8s.io", "leases", _) => check_lease(node, write),
        ("storage.k8s.io", "csinodes", _) if own_name(write) != node => {
            Err("can only access CSINode with the same name as the requesting node".to_owned())
        }
        ("resource.k8s.io", "resourceslices", _) => check_slice(node, write),
        _ => Ok(()),
    }
}

/// A claim's status may change, in capacity, conditions and the state of a resize; nothing else.
fn check_claim_status(node: &str, write: &Write<'_>) -> Result<(), String> {
    let (Operation::Update, Some(old)) = (write.operation, write.old) else {
        return Err(format!(
            "unexpected operation {}",
            quote(write.operation.name())
        ));
    };
    let stripped = |claim: &Value| {
        let mut claim = claim.clone();
        if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
            for field in [
                "capacity",
                "conditions",
                "allocatedResources",
                "allocatedResourceStatuses",
            ] {
                status.remove(field);
            }
        }
        if claim
            .get("status")
            .and_then(Value::as_object)
            .is_some_and(serde_json::Map::is_empty)
        {
            claim.as_object_mut().map(|claim| claim.remove("status"));
        }
        if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        claim
    };
    if stripped(old) != stripped(write.object) {
        return Err(format!(
            "node {} is not allowed to update fields other than status.capacity and status.conditions",
            quote(node)
        ));
    }
    Ok(())
}

fn check_lease(node: &str, write: &Write<'_>) -> Result<(), String> {
    if write.namespace != "kube-node-lease" {
        return Err(
            r#"can only access leases in the "kube-node-lease" system namespace"#.to_owned(),
        );
    }
    if own_name(write) != node {
        return Err(
            "can only access node lease with the same name as the requesting node".to_owned(),
        );
    }
    Ok(())
}

fn check_slice(node: &str, write: &Write<'_>) -> Result<(), String> {
    let object = if write.operation == Operation::Create {
        write.object
    } else {
        write.old.unwrap_or(write.object)
    };
    if node_of(object) != node {
        return Err(
            "can only create/delete ResourceSlice with the same NodeName as the requesting node"
                .to_owned(),
        );
    }
    Ok(())
}

/// On create the name is in the object.
fn own_name<'a>(write: &Write<'a>) -> &'a str {
    if write.name.is_empty() {
        meta(write.object, "name")
    } else {
        write.name
    }
}

fn node_of(object: &Value) -> &str {
    object
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn labels(object: &Value) -> BTreeSet<(&str, &str)> {
    let labels = object
        .pointer("/metadata/labels")
        .and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}

fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .map(|metadata| text(metadata, field))
        .unwrap_or_default()
}

fn meta_list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    list(
        object
            .get("metadata")
            .and_then(|metadata| metadata.get(field)),
    )
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn flag(value: &Value, field: &str) -> bool {
    value
        .get(field)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}

fn list(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
