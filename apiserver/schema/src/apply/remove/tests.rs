//! Who owns what when an apply takes the last of a field away, and what was there before anybody applied.

use serde_json::{Value, json};

use crate::Structural;
use crate::apply::{Who, apply};

fn schema() -> Structural {
    let text = json!({"type": "string"});
    let part = json!({"type": "object", "properties": {
        "a": {"type": "string", "default": "filled in"}, "b": text}});
    Structural::compile(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "other": text, "part": part}}}}),
    )
    .unwrap()
}

fn object(labels: &Value, spec: &Value) -> Value {
    let mut metadata = json!({"name": "x"});
    if !labels.is_null() {
        metadata["labels"] = labels.clone();
    }
    json!({"apiVersion": "a/v1", "kind": "A", "metadata": metadata, "spec": spec})
}

/// Applies to a custom resource, by force.
fn applied(live: &Value, config: &Value, manager: &str) -> Value {
    let who = Who {
        manager,
        api_version: "a/v1",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        reset: &[],
        versions: None,
    };
    apply(&schema(), live, config, &who, true).unwrap()
}

/// The managers with what they own.
fn owners(object: &Value) -> Vec<(&str, &Value)> {
    let entries = object.pointer("/metadata/managedFields");
    let entries = entries.and_then(Value::as_array).into_iter().flatten();
    entries
        .map(|entry| (entry["manager"].as_str().unwrap(), &entry["fieldsV1"]))
        .collect()
}

fn nothing() -> Value {
    json!({"apiVersion": "a/v1", "kind": "A", "metadata": {}})
}

#[test]
fn nothing_was_there_before_a_create() {
    let config = object(&json!({"l": "1"}), &json!({"other": "1"}));
    let live = applied(&nothing(), &config, "one");
    assert_eq!(
        owners(&live),
        [(
            "one",
            &json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:spec": {"f:other": {}}})
        )]
    );
}

#[test]
fn metadata_itself_has_no_owner() {
    let mut live = object(&json!({"l": "1"}), &json!({"other": "1"}));
    live["metadata"]["uid"] = "u".into();
    let live = applied(&live, &object(&Value::Null, &json!({"other": "2"})), "one");
    assert_eq!(
        owners(&live)[1],
        (
            "before-first-apply",
            &json!({"f:metadata": {"f:labels": {".": {}, "f:l": {}}}, "f:spec": {}})
        )
    );
}

#[test]
fn a_field_whose_parts_go_keeps_its_owner() {
    let part = |part: Value| object(&Value::Null, &json!({"other": "1", "part": part}));
    let live = applied(&nothing(), &part(json!({"b": "1"})), "one");
    let live = applied(&live, &part(json!({})), "two");
    let without = object(&Value::Null, &json!({"other": "1"}));
    let live = applied(&live, &without, "one");
    // What a default filled in has no owner, and stays.
    assert_eq!(live["spec"]["part"], json!({"a": "filled in"}));
    assert_eq!(
        owners(&live),
        [
            ("two", &json!({"f:spec": {"f:other": {}, "f:part": {}}})),
            ("one", &json!({"f:spec": {"f:other": {}}})),
        ]
    );
}

#[test]
fn a_field_that_is_emptied_keeps_its_owner() {
    let labels = |labels: Value| object(&labels, &json!({"other": "1"}));
    let live = applied(&nothing(), &labels(json!({"l": "1"})), "one");
    let live = applied(&live, &labels(json!({})), "two");
    let live = applied(&live, &labels(Value::Null), "one");
    assert_eq!(live["metadata"].get("labels"), None);
    assert_eq!(
        owners(&live)[0],
        (
            "two",
            &json!({"f:metadata": {"f:labels": {}}, "f:spec": {"f:other": {}}})
        )
    );
}
