//! The scale subresource: an autoscaling/v1 Scale read from the paths that an entry names.

use schema::Object;
use schema::selector::LabelSelector;
use serde_json::{Map, Value, json};

use crate::look::Look;
use crate::resource::{Scale, SelectorForm};

/// The Scale of an object.
pub(crate) fn read(paths: &Scale, object: &Object) -> Value {
    let mut metadata = Map::new();
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = object.metadata().and_then(|metadata| metadata.get(field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let mut status = Map::new();
    status.insert(
        "replicas".to_owned(),
        count(object, &paths.status_replicas).into(),
    );
    let selector = selector_text(paths, object);
    if !selector.is_empty() {
        status.insert("selector".to_owned(), selector.into());
    }
    let mut spec = Map::new();
    let replicas = count(object, &paths.spec_replicas);
    if replicas != 0 {
        spec.insert("replicas".to_owned(), replicas.into());
    }
    json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": spec, "status": status})
}

/// The fields of a path that is joined by dots.
pub(crate) fn fields(path: &str) -> Vec<&str> {
    path.split('.').collect()
}

fn count(object: &Object, path: &str) -> i64 {
    object.get_i64(&fields(path)).unwrap_or(0)
}

fn selector_text(paths: &Scale, object: &Object) -> String {
    let Some(selector) = object.get(&fields(&paths.selector)) else {
        return String::new();
    };
    match paths.selector_form {
        SelectorForm::Selector => selector_of(selector),
        SelectorForm::Map => map_text(selector),
        SelectorForm::Text => selector.as_str().unwrap_or_default().to_owned(),
    }
}

/// A metav1.LabelSelector as text; empty when it selects everything or is malformed.
pub(crate) fn selector_of(selector: &Value) -> String {
    LabelSelector::from_object(Some(selector))
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

/// A label map as selector text.
pub(crate) fn map_text(map: &Value) -> String {
    let Some(map) = map.as_object() else {
        return String::new();
    };
    let terms: Vec<String> = map
        .keys()
        .map(|key| format!("{key}={}", map.text(key)))
        .collect();
    terms.join(",")
}
