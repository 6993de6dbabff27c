//! The schemas of custom resources, made of what their definition says.
//!
//! Kubernetes' clients know only a part of OpenAPI 2, so that version leaves out what it cannot say
//! and what they stumble over: junctions, types that may be null, parts of objects with any fields.

use serde_json::{Map, Value, json};

use super::{Custom, Edition, Served};
use crate::structural::DEPTH_MAX;
use crate::types::{Type, type_named};

/// What is published of a schema. The parts are published after their own kind.
const KEPT: &[&str] = &[
    "description",
    "type",
    "title",
    "default",
    "nullable",
    "format",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "maxProperties",
    "minProperties",
    "required",
    "enum",
    "externalDocs",
    "example",
];
const JUNCTIONS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// The name of the schema of a kind: `com.example.stable.v1.CronTab`.
pub(super) fn name(resource: &Served<'_>, kind: &str) -> String {
    let group: Vec<&str> = resource.group.rsplit('.').collect();
    format!("{}.{}.{kind}", group.join("."), resource.version)
}

/// The schemas of a kind and of its list, by name.
pub(super) fn schemas(
    edition: Edition,
    resource: &Served<'_>,
    custom: &Custom<'_>,
) -> [(String, Value); 2] {
    let own = name(resource, resource.kind);
    let list = list(edition, resource, custom, &own);
    let object = object(edition, resource, custom);
    [(own, object), (name(resource, custom.list_kind), list)]
}

fn object(edition: Edition, resource: &Served<'_>, custom: &Custom<'_>) -> Value {
    let schema = custom.schema.and_then(Value::as_object);
    let is_open = |schema: &Map<String, Value>| is_set(schema, PRESERVE);
    let mut published = match schema {
        Some(schema) if edition == Edition::V3 || !is_open(schema) => {
            let mut published = part(edition, schema, 0);
            add_meta(edition, &mut published);
            published
        }
        // kubectl takes every field that is not listed for an unknown one.
        _ => json!({"type": "object"}),
    };
    published["x-kubernetes-group-version-kind"] = gvk(resource, resource.kind);
    published
}

fn list(edition: Edition, resource: &Served<'_>, custom: &Custom<'_>, own: &str) -> Value {
    let reference = json!({"$ref": edition.reference(own)});
    let mut properties = Map::new();
    if let Some(model) = type_named("core.PodList") {
        add_type_meta(edition, model, &mut properties);
        properties.insert("metadata".to_owned(), of_model(edition, model, "metadata"));
    }
    properties.insert(
        "items".to_owned(),
        json!({"description": format!("List of {}", resource.plural), "type": "array", "items": reference}),
    );
    json!({
        "description": format!("{} is a list of {}", custom.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": gvk(resource, custom.list_kind),
    })
}

fn gvk(resource: &Served<'_>, kind: &str) -> Value {
    json!([{"group": resource.group, "version": resource.version, "kind": kind}])
}

/// A field that every kind has, as built-in kinds have it.
fn of_model(edition: Edition, model: &Type, name: &str) -> Value {
    let field = model.field(name);
    field.map_or(json!({}), |field| super::schemas::property(edition, field))
}

fn add_type_meta(edition: Edition, model: &Type, properties: &mut Map<String, Value>) {
    for name in ["apiVersion", "kind"] {
        properties.insert(name.to_owned(), of_model(edition, model, name));
    }
}

/// Adds the fields of every resource to the schema of one.
fn add_meta(edition: Edition, published: &mut Value) {
    let Some(model) = type_named("core.Pod") else {
        return;
    };
    if !published["properties"].is_object() {
        published["properties"] = json!({});
    }
    if let Value::Object(properties) = &mut published["properties"] {
        add_type_meta(edition, model, properties);
        properties.insert("metadata".to_owned(), of_model(edition, model, "metadata"));
    }
}

fn is_set(schema: &Map<String, Value>, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn part(edition: Edition, schema: &Map<String, Value>, depth: usize) -> Value {
    let mut published = Map::new();
    for (key, value) in schema {
        if KEPT.contains(&key.as_str()) || key.starts_with("x-kubernetes-") {
            published.insert(key.clone(), value.clone());
        }
    }
    if depth > DEPTH_MAX {
        return published.into();
    }
    let inner = |value: &Value| match value {
        Value::Object(inner) => part(edition, inner, depth + 1),
        other => other.clone(),
    };
    for key in ["items", "additionalProperties", "not"] {
        if let Some(value) = schema.get(key) {
            published.insert(key.to_owned(), inner(value));
        }
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let properties = properties
            .iter()
            .map(|(name, value)| (name.clone(), inner(value)));
        published.insert("properties".to_owned(), Value::Object(properties.collect()));
    }
    for key in JUNCTIONS {
        if let Some(list) = schema.get(key).and_then(Value::as_array) {
            published.insert(key.to_owned(), list.iter().map(inner).collect());
        }
    }
    let is_int_or_string = is_set(schema, "x-kubernetes-int-or-string");
    if edition == Edition::V2 {
        without_what_v2_lacks(schema, &mut published);
    } else if is_int_or_string && !published.contains_key("anyOf") {
        published.insert(
            "anyOf".to_owned(),
            json!([{"type": "integer"}, {"type": "string"}]),
        );
    }
    let mut published = Value::Object(published);
    let is_open_in_v2 = edition == Edition::V2 && is_set(schema, PRESERVE);
    if is_set(schema, "x-kubernetes-embedded-resource") && !is_open_in_v2 {
        add_meta(edition, &mut published);
        require_type_meta(&mut published);
    }
    published
}

fn require_type_meta(published: &mut Value) {
    let mut required = published["required"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    for name in ["kind", "apiVersion"] {
        if !required.iter().any(|known| known == name) {
            required.push(name.into());
        }
    }
    published["required"] = required.into();
}

fn without_what_v2_lacks(schema: &Map<String, Value>, published: &mut Map<String, Value>) {
    for key in JUNCTIONS.iter().chain(&["not"]) {
        published.remove(*key);
    }
    let is_nullable = is_set(schema, "nullable");
    let is_open = is_set(schema, PRESERVE);
    published.remove("nullable");
    if is_nullable || is_open {
        published.remove("items");
        published.remove("properties");
    }
    let ty = published.get("type").and_then(Value::as_str).unwrap_or("");
    let is_bare_list = ty == "array" && !published.contains_key("items");
    if is_nullable || is_bare_list || is_open && ty == "object" {
        published.remove("type");
    }
    let may_be_null = |name: &Value| {
        let property = schema.get("properties").and_then(|p| p.get(name.as_str()?));
        property
            .and_then(Value::as_object)
            .is_some_and(|p| is_set(p, "nullable"))
    };
    let any_may_be_null = schema
        .get("additionalProperties")
        .and_then(Value::as_object)
        .is_some_and(|additional| is_set(additional, "nullable"));
    if let Some(Value::Array(required)) = published.get_mut("required") {
        required.retain(|name| !any_may_be_null && !may_be_null(name));
        if required.is_empty() {
            published.remove("required");
        }
    }
}
