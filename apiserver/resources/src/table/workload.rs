//! The kinds that keep pods running.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{
    AGE, CONTAINERS, IMAGES, NAME, NONE, SELECTOR, age, containers, count, integer, labels, name,
    selector, text,
};
use crate::look::{Look, spec, status};

const DESIRED: Column = integer("Desired", "Replicas that are wanted.");
const CURRENT: Column = integer("Current", "Replicas that exist.");
const READY: Column = integer("Ready", "Replicas that are ready.");

pub(crate) const REPLICATION_CONTROLLER: &[Column] = &[
    NAME, DESIRED, CURRENT, READY, AGE, CONTAINERS, IMAGES, SELECTOR,
];
pub(crate) const REPLICA_SET: &[Column] = REPLICATION_CONTROLLER;
pub(crate) const DEPLOYMENT: &[Column] = &[
    NAME,
    text("Ready", "Ready replicas, of those that are wanted."),
    text("Up-to-date", "Replicas made from the newest template."),
    text("Available", "Replicas that were ready for long enough."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(crate) const SCALE: &[Column] = &[
    NAME,
    DESIRED,
    integer("Available", "Replicas that there are."),
    AGE,
];
pub(crate) const STATEFUL_SET: &[Column] = &[
    NAME,
    text("Ready", "Ready replicas, of those that are wanted."),
    AGE,
    CONTAINERS,
    IMAGES,
];
pub(crate) const DAEMON_SET: &[Column] = &[
    NAME,
    integer("Desired", "Nodes that should run a pod of the set."),
    integer("Current", "Nodes that run one and should."),
    integer("Ready", "Nodes whose pod is ready."),
    integer("Up-to-date", "Nodes whose pod has the newest template."),
    integer("Available", "Nodes whose pod was ready for long enough."),
    text("Node Selector", "Labels of the nodes that the set is for."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(crate) const POD_TEMPLATE: &[Column] = &[
    NAME,
    text("Containers", "Names of the containers in the template."),
    text("Images", "Images of the containers in the template."),
    text("Pod Labels", "Labels of pods made from the template."),
];
pub(crate) const CONTROLLER_REVISION: &[Column] = &[
    NAME,
    text("Controller", "Controller whose history this is part of."),
    text("Revision", "Number of the revision."),
    AGE,
];

fn template(object: &Object) -> &Value {
    spec(object).at("template").at("spec")
}

fn replicas(object: &Object, selector: String, now: i64) -> Vec<Value> {
    let (names, images) = containers(template(object));
    vec![
        name(object),
        count(spec(object), "replicas"),
        count(status(object), "replicas"),
        count(status(object), "readyReplicas"),
        age(object, now),
        names,
        images,
        selector.into(),
    ]
}

pub(crate) fn scale(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        count(spec(object), "replicas"),
        count(status(object), "replicas"),
        age(object, now),
    ]
}

pub(crate) fn replication_controller(object: &Object, now: i64) -> Vec<Value> {
    replicas(object, labels(spec(object).at("selector")), now)
}

pub(crate) fn replica_set(object: &Object, now: i64) -> Vec<Value> {
    replicas(object, selector(spec(object).at("selector")), now)
}

fn ready(object: &Object) -> Value {
    let (ready, wanted) = (
        status(object).int("readyReplicas"),
        spec(object).int("replicas"),
    );
    format!("{}/{}", ready.unwrap_or(0), wanted.unwrap_or(0)).into()
}

pub(crate) fn deployment(object: &Object, now: i64) -> Vec<Value> {
    let (names, images) = containers(template(object));
    vec![
        name(object),
        ready(object),
        count(status(object), "updatedReplicas"),
        count(status(object), "availableReplicas"),
        age(object, now),
        names,
        images,
        selector(spec(object).at("selector")).into(),
    ]
}

pub(crate) fn stateful_set(object: &Object, now: i64) -> Vec<Value> {
    let (names, images) = containers(template(object));
    vec![name(object), ready(object), age(object, now), names, images]
}

pub(crate) fn daemon_set(object: &Object, now: i64) -> Vec<Value> {
    let (names, images) = containers(template(object));
    let status = status(object);
    vec![
        name(object),
        count(status, "desiredNumberScheduled"),
        count(status, "currentNumberScheduled"),
        count(status, "numberReady"),
        count(status, "updatedNumberScheduled"),
        count(status, "numberAvailable"),
        labels(template(object).at("nodeSelector")).into(),
        age(object, now),
        names,
        images,
        selector(spec(object).at("selector")).into(),
    ]
}

pub(crate) fn pod_template(object: &Object, _now: i64) -> Vec<Value> {
    let template = object.at("template");
    let (names, images) = containers(template.at("spec"));
    vec![
        name(object),
        names,
        images,
        labels(template.at("metadata").at("labels")).into(),
    ]
}

pub(crate) fn controller_revision(object: &Object, now: i64) -> Vec<Value> {
    let controller = match object.controller() {
        Some(owner) => {
            let group = owner
                .api_version
                .rsplit_once('/')
                .map_or(String::new(), |(group, _)| format!(".{group}"));
            format!("{}{group}/{}", owner.kind.to_lowercase(), owner.name)
        }
        None => NONE.to_owned(),
    };
    vec![
        name(object),
        controller.into(),
        count_of(object.at("revision")),
        age(object, now),
    ]
}

fn count_of(value: &Value) -> Value {
    value.as_i64().unwrap_or(0).into()
}
