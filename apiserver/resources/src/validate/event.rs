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
        modern(object, "reportingComponent", "message", errors);
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
    modern(object, "reportingController", "note", errors);
    strict(object, errors);
}

/// Events with an event time name who reports and what was done.
fn modern(object: &Object, controller: &str, message: &str, errors: &mut ErrorList) {
    let text = |field: &str| object.at(field).as_str().unwrap_or("");
    for field in [controller, "reportingInstance", "action", "reason"] {
        let path = Path::new(field);
        if text(field).is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else if field != controller && text(field).len() > 128 {
            errors.push(FieldError::invalid(
                &path,
                "",
                "can have at most 128 characters",
            ));
        }
    }
    if !text(controller).is_empty() {
        super::complain(
            names::is_qualified_name(text(controller)),
            &Path::new(controller),
            text(controller),
            errors,
        );
    }
    // The note of one shape is the message of the other, and called so in both.
    if text(message).len() > 1024 {
        let detail = "can have at most 1024 characters";
        errors.push(FieldError::invalid(&Path::new("message"), "", detail));
    }
}

/// What events.k8s.io asks for beyond that.
fn strict(object: &Object, errors: &mut ErrorList) {
    let kind = object.at("type").as_str().unwrap_or("");
    if !matches!(kind, "Normal" | "Warning") {
        let detail = format!("has invalid value: {kind}");
        errors.push(FieldError::invalid(&Path::new("type"), "", detail));
    }
}

/// Only the series of an event goes on. The names are those of the server itself, as in Kubernetes.
pub(crate) fn event_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let fields = [
        ("regarding", "involvedObject"),
        ("reason", "reason"),
        ("note", "message"),
        ("type", "type"),
        ("action", "action"),
        ("related", "related"),
        ("reportingController", "reportingController"),
        ("reportingInstance", "reportingInstance"),
    ];
    for (field, name) in fields {
        let (now, before) = (new.at(field), old.at(field));
        // Events that came in through core/v1 leave texts empty, and to be empty and not to be there is the same.
        if is_unsaid(now) && is_unsaid(before) {
            continue;
        }
        immutable(now, before, &Path::new(name), errors);
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

fn is_unsaid(value: &Value) -> bool {
    value.is_null() || value == ""
}

fn same_time(a: &Value, b: &Value) -> bool {
    let read = |value: &Value| value.as_str().and_then(schema::time::parse_nanos);
    matches!((read(a), read(b)), (Some(a), Some(b)) if a == b)
}
