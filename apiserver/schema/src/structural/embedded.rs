//! The resources within a custom resource (`x-kubernetes-embedded-resource`): each has a version, a
//! kind and metadata like any other.

use serde_json::{Map, Value};

use super::node::Node;
use crate::field::{ErrorList, FieldError, Path};
use crate::names;

/// What is wrong with the resources within a value.
pub(super) fn resources(node: &Node, value: &Value, path: &Path, errors: &mut ErrorList) {
    match value {
        Value::Object(map) => {
            if node.embedded {
                resource(map, path, errors);
            }
            for (key, value) in map {
                if !value.is_object() && !value.is_array() {
                    continue;
                }
                if let Some(inner) = node.property(key) {
                    resources(inner, value, &path.child(key), errors);
                } else if let Some(inner) = node.member(key) {
                    resources(inner, value, &path.key(key), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = node.items.as_deref() {
                for (i, item) in items.iter().enumerate() {
                    resources(inner, item, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

/// What is wrong with one resource: its version, kind and metadata.
pub(super) fn resource(map: &Map<String, Value>, path: &Path, errors: &mut ErrorList) {
    for key in ["apiVersion", "kind"] {
        let path = path.child(key);
        let text = match map.get(key) {
            None => {
                errors.push(FieldError::required(&path, ""));
                continue;
            }
            Some(Value::String(text)) => text,
            Some(other) => {
                errors.push(FieldError::invalid(
                    &path,
                    other.clone(),
                    "must be a string",
                ));
                continue;
            }
        };
        if text.is_empty() {
            errors.push(FieldError::invalid(&path, "", "must not be empty"));
        } else if key == "apiVersion" && text.matches('/').count() > 1 {
            let detail = format!("unexpected GroupVersion string: {text}");
            errors.push(FieldError::invalid(&path, text.as_str(), detail));
        } else if key == "kind" {
            let wrong = names::is_dns1035_label(&text.to_lowercase());
            if !wrong.is_empty() {
                let wrong = wrong.join(",");
                let detail = format!("may have mixed case, but should otherwise match: {wrong}");
                errors.push(FieldError::invalid(&path, text.as_str(), detail));
            }
        }
    }
    if let Some(Value::Object(map)) = map.get("metadata") {
        metadata(map, &path.child("metadata"), errors);
    }
}

/// Metadata, whose shape was checked when it was decoded.
pub(super) fn metadata(map: &Map<String, Value>, path: &Path, errors: &mut ErrorList) {
    let mut complain = |path: &Path, value: &str, wrong: Vec<String>| {
        for detail in wrong {
            errors.push(FieldError::invalid(path, value, detail));
        }
    };
    for key in ["name", "generateName"] {
        if let Some(name) = map
            .get(key)
            .and_then(Value::as_str)
            .filter(|n| !n.is_empty())
        {
            complain(
                &path.child(key),
                name,
                names::is_valid_path_segment_name(name),
            );
        }
    }
    let namespace = map.get("namespace").and_then(Value::as_str).unwrap_or("");
    if !namespace.is_empty() {
        complain(
            &path.child("namespace"),
            namespace,
            names::is_dns1123_label(namespace),
        );
    }
    for (field, are_labels) in [("labels", true), ("annotations", false)] {
        let path = path.child(field);
        for (key, value) in map
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let name = if are_labels {
                key.clone()
            } else {
                key.to_lowercase()
            };
            complain(&path, key, names::is_qualified_name(&name));
            if let Some(value) = value.as_str().filter(|_| are_labels) {
                complain(&path, value, names::is_valid_label_value(value));
            }
        }
    }
}
