//! Values that field selectors compare. Most names are simply paths; the few that are not stand here.

use schema::Object;
use serde_json::Value;

use crate::look::Look;
use crate::resource::Resource;

/// The value of a selectable field as text; absent reads as empty.
pub(crate) fn value(resource: &Resource, object: &Object, name: &str) -> String {
    if resource.custom.is_some() {
        return plain(object, name);
    }
    match (&*resource.kind, name) {
        ("Pod", "spec.hostNetwork") | ("Node", "spec.unschedulable") => {
            object.get_bool(&path(name)).unwrap_or(false).to_string()
        }
        ("Pod", "status.podIP") => {
            let first = object
                .at("status")
                .list("podIPs")
                .first()
                .map_or("", |ip| ip.text("ip"));
            if first.is_empty() {
                plain(object, name)
            } else {
                first.to_owned()
            }
        }
        ("Pod", "status.podIPs") => {
            let ips: Vec<&str> = object
                .at("status")
                .list("podIPs")
                .iter()
                .map(|ip| ip.text("ip"))
                .collect();
            ips.join(",")
        }
        ("Event", "source") => {
            let component = object.at("source").text("component");
            if component.is_empty() {
                object
                    .at("reportingComponent")
                    .as_str()
                    .unwrap_or("")
                    .to_owned()
            } else {
                component.to_owned()
            }
        }
        // Stored events have the names of core/v1.
        ("Event", new) if new.starts_with("regarding.") && !object.has("regarding") => {
            plain(object, &new.replacen("regarding", "involvedObject", 1))
        }
        ("Event", "reportingController") if !object.has("reportingController") => {
            plain(object, "reportingComponent")
        }
        ("ReplicationController", "status.replicas") => number(object, &["status", "replicas"]),
        ("Job", "status.successful") => number(object, &["status", "succeeded"]),
        _ => plain(object, name),
    }
}

/// The paths that [`value`] looks at for a field of a built-in kind, their names joined by dots.
pub(crate) fn reads<'a>(kind: &str, name: &'a str) -> Vec<&'a str> {
    match (kind, name) {
        ("Pod", "status.podIP") => vec![name, "status.podIPs"],
        ("Event", _) => vec![name, "source", "reportingComponent", "involvedObject"],
        ("Job", "status.successful") => vec!["status.succeeded"],
        _ => vec![name],
    }
}

fn path(name: &str) -> Vec<&str> {
    name.split('.').collect()
}

fn number(object: &Object, path: &[&str]) -> String {
    object.get_i64(path).unwrap_or(0).to_string()
}

fn plain(object: &Object, name: &str) -> String {
    match object.get(&path(name)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(flag)) => flag.to_string(),
        _ => String::new(),
    }
}
