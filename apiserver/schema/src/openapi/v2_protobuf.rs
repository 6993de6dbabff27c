//! The version 2 document as protobuf: `openapi.v2.Document` of the gnostic project, which kubectl
//! up to 1.28 and tools of its time ask for and do not take JSON in its place.
//!
//! Only what [`super::v2_document`] makes is written. Free values (extensions, defaults) are texts
//! of YAML there, and JSON is YAML.

use serde_json::Value;

use crate::protobuf::wire::{bytes, double, number};

type Out = Vec<u8>;

/// The media type of the encoding.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// The name by which clients ask for it. It is no valid media type, and no client takes it in an
/// answer.
pub const V2_PROTOBUF_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Encodes a version 2 document.
pub fn v2_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    text(1, document, "swagger", &mut out);
    message(2, &mut out, |out| {
        text(1, &document["info"], "title", out);
        text(2, &document["info"], "version", out);
    });
    message(8, &mut out, |out| {
        for (path, item) in entries(&document["paths"]) {
            named(2, path, out, |out| path_item(item, out));
        }
    });
    message(9, &mut out, |out| {
        for (name, definition) in entries(&document["definitions"]) {
            named(1, name, out, |out| schema(definition, out));
        }
    });
    out
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items<'v>(value: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn message(tag: u32, out: &mut Out, write: impl FnOnce(&mut Out)) {
    let mut body = Vec::new();
    write(&mut body);
    bytes(tag, &body, out);
}

/// A `Named..` message: `name = 1`, `value = 2`.
fn named(tag: u32, name: &str, out: &mut Out, write: impl FnOnce(&mut Out)) {
    message(tag, out, |out| {
        bytes(1, name.as_bytes(), out);
        message(2, out, write);
    });
}

fn text(tag: u32, value: &Value, key: &str, out: &mut Out) {
    if let Some(text) = value.get(key).and_then(Value::as_str) {
        bytes(tag, text.as_bytes(), out);
    }
}

fn texts(tag: u32, value: &Value, key: &str, out: &mut Out) {
    for text in items(value, key).filter_map(Value::as_str) {
        bytes(tag, text.as_bytes(), out);
    }
}

fn flag(tag: u32, value: &Value, key: &str, out: &mut Out) {
    if value.get(key) == Some(&Value::Bool(true)) {
        number(tag, 1, out);
    }
}

/// `Any`, by its text.
fn free(value: &Value, out: &mut Out) {
    bytes(2, value.to_string().as_bytes(), out);
}

fn extensions(tag: u32, value: &Value, out: &mut Out) {
    for (name, extension) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
        named(tag, name, out, |out| free(extension, out));
    }
}

fn schema(value: &Value, out: &mut Out) {
    text(1, value, "$ref", out);
    text(2, value, "format", out);
    text(3, value, "title", out);
    text(4, value, "description", out);
    if let Some(default) = value.get("default") {
        message(5, out, |out| free(default, out));
    }
    limits(value, out);
    texts(19, value, "required", out);
    for one in items(value, "enum") {
        message(20, out, |out| free(one, out));
    }
    match value.get("additionalProperties") {
        None => {}
        Some(Value::Bool(any)) => message(21, out, |out| number(2, u64::from(*any), out)),
        Some(inner) => message(21, out, |out| message(1, out, |out| schema(inner, out))),
    }
    if value.get("type").is_some() {
        message(22, out, |out| text(1, value, "type", out));
    }
    if let Some(inner) = value.get("items") {
        message(23, out, |out| message(1, out, |out| schema(inner, out)));
    }
    if let Some(properties) = value.get("properties") {
        message(25, out, |out| {
            for (name, property) in entries(properties) {
                named(1, name, out, |out| schema(property, out));
            }
        });
    }
    extensions(31, value, out);
}

/// What only custom resources have.
fn limits(value: &Value, out: &mut Out) {
    let mut float = |tag: u32, key: &str| {
        if let Some(limit) = value.get(key).and_then(Value::as_f64) {
            double(tag, limit, out);
        }
    };
    float(6, "multipleOf");
    float(7, "maximum");
    float(9, "minimum");
    flag(8, value, "exclusiveMaximum", out);
    flag(10, value, "exclusiveMinimum", out);
    text(13, value, "pattern", out);
    flag(16, value, "uniqueItems", out);
    for (tag, key) in [
        (11, "maxLength"),
        (12, "minLength"),
        (14, "maxItems"),
        (15, "minItems"),
        (17, "maxProperties"),
        (18, "minProperties"),
    ] {
        if let Some(limit) = value.get(key).and_then(Value::as_u64) {
            number(tag, limit, out);
        }
    }
}

fn path_item(value: &Value, out: &mut Out) {
    for (tag, method) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (8, "patch"),
    ] {
        if let Some(operation_of) = value.get(method) {
            message(tag, out, |out| operation(operation_of, out));
        }
    }
    for item in items(value, "parameters") {
        message(9, out, |out| parameter(item, out));
    }
}

fn operation(value: &Value, out: &mut Out) {
    texts(1, value, "tags", out);
    text(3, value, "description", out);
    text(5, value, "operationId", out);
    texts(6, value, "produces", out);
    texts(7, value, "consumes", out);
    for item in items(value, "parameters") {
        message(8, out, |out| parameter(item, out));
    }
    message(9, out, |out| {
        for (code, response) in entries(&value["responses"]) {
            named(1, code, out, |out| {
                message(1, out, |out| {
                    text(1, response, "description", out);
                    if let Some(of) = response.get("schema") {
                        message(2, out, |out| message(1, out, |out| schema(of, out)));
                    }
                });
            });
        }
    });
    texts(10, value, "schemes", out);
    extensions(13, value, out);
}

/// `ParametersItem { parameter = 1 }` around a body parameter or another one.
fn parameter(value: &Value, out: &mut Out) {
    message(1, out, |out| match value["in"].as_str() {
        Some("body") => message(1, out, |out| {
            text(1, value, "description", out);
            text(2, value, "name", out);
            text(3, value, "in", out);
            flag(4, value, "required", out);
            if let Some(of) = value.get("schema") {
                message(5, out, |out| schema(of, out));
            }
        }),
        place => message(2, out, |out| {
            // The two differ in one field that is only there for queries.
            let (kind, after) = if place == Some("path") {
                (4, 0)
            } else {
                (3, 1)
            };
            message(kind, out, |out| {
                flag(1, value, "required", out);
                text(2, value, "in", out);
                text(3, value, "description", out);
                text(4, value, "name", out);
                text(5 + after, value, "type", out);
                flag(19 + after, value, "uniqueItems", out);
            });
        }),
    });
}
