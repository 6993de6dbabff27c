//! Events in their two shapes.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::immutable;
use crate::look::Look;

const CLUSTER_KINDS: &[&str] = &[
    "Node",
    "Namespace",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
];

/// Events live in the namespace of what they are about; those about cluster-scoped objects in `default`.
fn place(object: &Object, target: &str, errors: &mut ErrorList) {
    let involved = object.at(target).text("namespace");
    let allowed = if involved.is_empty() {
        object.namespace() == "default"
            || object.namespace() == "kube-system"
            || !CLUSTER_KINDS.contains(&object.at(target).text("kind"))
    } else {
        involved == object.namespace()
    };
    if !allowed {
        errors.push(FieldError::invalid(
            &Path::new(target).child("namespace"),
            involved,
            "does not match event.namespace",
        ));
    }
}

/// core/v1 Event.
pub(crate) fn core_event(object: &Object, errors: &mut ErrorList) {
    place(object, "involvedObject", errors);
    if object.at("eventTime").is_string() {
        modern(
            object,
            "involvedObject",
            "reportingComponent",
            "message",
            errors,
        );
    }
}

/// events.k8s.io/v1 Event.
pub(crate) fn event(object: &Object, errors: &mut ErrorList) {
    if !object.at("eventTime").is_string() {
        // Events that came in through core/v1 have no event time and may be updated as they are.
        if object.at("deprecatedFirstTimestamp").is_null() && object.resource_version().is_empty() {
            errors.push(FieldError::required(&Path::new("eventTime"), ""));
        }
        place(object, "regarding", errors);
        return;
    }
    place(object, "regarding", errors);
    modern(object, "regarding", "reportingController", "note", errors);
}

fn modern(object: &Object, _target: &str, controller: &str, note: &str, errors: &mut ErrorList) {
    let text = |field: &str| object.at(field).as_str().unwrap_or("");
    let required = |field: &str, errors: &mut ErrorList| {
        if text(field).is_empty() {
            errors.push(FieldError::required(&Path::new(field), ""));
        }
    };
    required(controller, errors);
    if !text(controller).is_empty() {
        for message in names::is_qualified_name(text(controller)) {
            errors.push(FieldError::invalid(
                &Path::new(controller),
                text(controller),
                message,
            ));
        }
    }
    for (field, length) in [("reportingInstance", 128), ("action", 128), ("reason", 128)] {
        required(field, errors);
        if text(field).len() > length {
            let detail = format!("can have at most {length} characters");
            errors.push(FieldError::invalid(&Path::new(field), text(field), detail));
        }
    }
    if text(note).len() > 1024 {
        errors.push(FieldError::invalid(
            &Path::new(note),
            text(note),
            "can have at most 1024 characters",
        ));
    }
    if !matches!(text("type"), "Normal" | "Warning") {
        errors.push(FieldError::invalid(
            &Path::new("type"),
            text("type"),
            "has invalid value",
        ));
    }
}

/// Only the series of an event goes on.
pub(crate) fn event_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let fields = [
        "regarding",
        "related",
        "reason",
        "note",
        "type",
        "action",
        "reportingController",
        "reportingInstance",
    ];
    for field in fields {
        immutable(new.at(field), old.at(field), &Path::new(field), errors);
    }
    if same_time(new.at("eventTime"), old.at("eventTime")) {
        return;
    }
    immutable(
        new.at("eventTime"),
        old.at("eventTime"),
        &Path::new("eventTime"),
        errors,
    );
}

fn same_time(a: &Value, b: &Value) -> bool {
    let read = |value: &Value| value.as_str().and_then(schema::time::parse_nanos);
    matches!((read(a), read(b)), (Some(a), Some(b)) if a == b)
}
