//! Nodes and runtime classes.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, NONE, UNKNOWN, age, name, or, text, wide};
use crate::look::{Look, spec, status};

pub(crate) const NODE: &[Column] = &[
    NAME,
    text("Status", "Whether the node is ready and takes new pods."),
    text("Roles", "Roles from the labels of the node."),
    AGE,
    text("Version", "Version of the node's agent."),
    wide("Internal-IP", "Address inside the cluster."),
    wide("External-IP", "Address outside the cluster."),
    wide("OS-Image", "Operating system."),
    wide("Kernel-Version", "Version of the kernel."),
    wide("Container-Runtime", "What runs the containers."),
];
pub(crate) const RUNTIME_CLASS: &[Column] =
    &[NAME, text("Handler", "Configuration of the runtime."), AGE];

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

pub(crate) fn node(object: &Object, now: i64) -> Vec<Value> {
    let info = status(object).at("nodeInfo");
    let mut words = match object.condition_status("Ready") {
        Some("True") => vec!["Ready"],
        Some(_) => vec!["NotReady"],
        None => vec!["Unknown"],
    };
    if spec(object).flag("unschedulable") {
        words.push("SchedulingDisabled");
    }
    vec![
        name(object),
        words.join(",").into(),
        roles(object).into(),
        age(object, now),
        info.text("kubeletVersion").into(),
        address(object, "InternalIP"),
        address(object, "ExternalIP"),
        or(info.text("osImage"), UNKNOWN),
        or(info.text("kernelVersion"), UNKNOWN),
        or(info.text("containerRuntimeVersion"), UNKNOWN),
    ]
}

fn roles(object: &Object) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in object.labels() {
        match key.strip_prefix(ROLE_PREFIX) {
            Some(role) if !role.is_empty() => roles.push(role),
            None if key == "kubernetes.io/role" && !value.is_empty() => roles.push(value),
            _ => {}
        }
    }
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() {
        NONE.to_owned()
    } else {
        roles.join(",")
    }
}

fn address(object: &Object, kind: &str) -> Value {
    let found = status(object)
        .list("addresses")
        .iter()
        .find(|address| address.text("type") == kind);
    or(found.map_or("", |address| address.text("address")), NONE)
}

pub(crate) fn runtime_class(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        object.at("handler").as_str().unwrap_or("").into(),
        age(object, now),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nodes_show_roles_and_scheduling() {
        let object = Object::new(json!({"metadata": {"name": "n", "labels":
            {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "worker"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}))
        .unwrap();
        let row = node(&object, 0);
        assert_eq!(
            row[1..3],
            [
                json!("Ready,SchedulingDisabled"),
                json!("control-plane,worker")
            ]
        );
        assert_eq!(
            row[5..8],
            [json!("10.0.0.1"), json!("<none>"), json!("<unknown>")]
        );
        assert_eq!(
            node(&Object::empty("v1", "Node"), 0)[1..3],
            [json!("Unknown"), json!("<none>")]
        );
    }
}
