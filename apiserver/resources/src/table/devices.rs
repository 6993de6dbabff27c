//! resource.k8s.io.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, UNSET, age, name, terminating, text};
use crate::look::{Look, spec, status};

pub(crate) const CLAIM: &[Column] = &[NAME, text("State", "Where the claim stands."), AGE];
pub(crate) const SLICE: &[Column] = &[
    NAME,
    text("Node", "Node that has the devices."),
    text("Driver", "Driver of the devices."),
    text("Pool", "Pool to which the devices belong."),
    AGE,
];

pub(crate) fn claim(object: &Object, now: i64) -> Vec<Value> {
    let status = status(object);
    let mut states = Vec::new();
    if terminating(object) {
        states.push("deleted");
    }
    if status.has("allocation") {
        states.push("allocated");
    } else if !terminating(object) {
        states.push("pending");
    }
    if !status.list("reservedFor").is_empty() {
        states.push("reserved");
    }
    vec![name(object), states.join(",").into(), age(object, now)]
}

pub(crate) fn slice(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let node = match spec.text("nodeName") {
        "" if spec.flag("allNodes") => "<all>",
        "" => UNSET,
        node => node,
    };
    vec![
        name(object),
        node.into(),
        spec.text("driver").into(),
        spec.at("pool").text("name").into(),
        age(object, now),
    ]
}
