//! Whether the schema of a definition may be served, with the paths and texts that Kubernetes has.
//!
//! Three questions, each with its own walk over the JSON: is it structural (`invariants`), are its
//! defaults objects of it (`defaults`), and does it keep to the part of OpenAPI that custom
//! resources have (here).

mod defaults;
mod invariants;
mod paths;

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::compile::{self, DEPTH_MAX};
use super::node::NodeType;
use super::{Structural, format};
use crate::decode::is_zero;
use crate::field::{ErrorList, FieldError, Path};

pub use paths::{check_column, check_scale, check_selectable_fields};

/// A schema as JSON.
type Schema<'a> = &'a Map<String, Value>;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const REASONS: [&str; 4] = [
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];
/// What the root may have beside the structure when its status is written for itself.
const WITH_STATUS: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";
const NOT_WITH_STATUS: [&str; 21] = [
    "id",
    "$schema",
    "$ref",
    "default",
    "enum",
    "maxProperties",
    "minProperties",
    "allOf",
    "oneOf",
    "anyOf",
    "not",
    "additionalProperties",
    "patternProperties",
    "dependencies",
    "additionalItems",
    "definitions",
    "nullable",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];

/// Errors, and warnings, beyond this many are not listed.
const LISTED_MAX: usize = 100;

/// The fields of every resource.
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];

/// Checks the `openAPIV3Schema` that stands at `path`. Kubernetes names that place
/// `spec.validation.openAPIV3Schema` when all versions have the same schema, and
/// `spec.versions[0].schema.openAPIV3Schema` otherwise. Rules in CEL are only looked at from
/// outside. The compiled schema comes back when nothing is wrong.
pub fn check(
    schema: &Value,
    path: &Path,
    has_status: bool,
    errors: &mut ErrorList,
) -> Option<Structural> {
    let Value::Object(root) = schema else {
        errors.push(FieldError::required(path, "schemas are required"));
        return None;
    };
    if !is_shallow(schema, 2 * DEPTH_MAX) {
        let detail = format!("must not nest deeper than {DEPTH_MAX} schemas");
        errors.push(FieldError::forbidden(path, detail));
        return None;
    }
    let before = errors.len();
    if has_status {
        beside_status(root, path, errors);
    }
    if flag(root, "nullable") {
        let detail = "nullable cannot be true at the root";
        errors.push(FieldError::forbidden(&path.child("nullable"), detail));
    }
    let structure = invariants::check(root, path);
    let compiled = compile::compile(schema).map(Structural::of);
    match &compiled {
        Some(compiled) if structure.is_empty() => {
            defaults::check(compiled.root(), path, errors);
        }
        _ => errors.extend(structure),
    }
    openapi(root, path, &Scope::default(), true, errors);
    if compiled.is_none() && errors.len() == before {
        let detail = format!("must not nest deeper than {DEPTH_MAX} schemas");
        errors.push(FieldError::forbidden(path, detail));
    }
    let compiled = compiled.filter(|_| errors.len() == before);
    errors.truncate(before + LISTED_MAX);
    compiled
}

/// What a definition may have and yet is not taken seriously, each as the text of a warning.
pub fn warnings(schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    unknown_formats(schema, 0, &mut found);
    found
}

fn unknown_formats(schema: &Value, depth: usize, found: &mut Vec<String>) {
    let Value::Object(map) = schema else {
        return;
    };
    let format = text(map, "format");
    let known = text(map, "type") != "string"
        || format.is_empty()
        || format::canonical(format, Some(NodeType::String)).is_some();
    if !known {
        let warning = format!("unrecognized format {}", crate::field::go_quote(format));
        if found.len() < LISTED_MAX && !found.contains(&warning) {
            found.push(warning);
        }
    }
    if depth < DEPTH_MAX {
        for (_, inner) in parts(map, &Path::root()) {
            unknown_formats(inner, depth + 1, found);
        }
    }
}

fn is_shallow(value: &Value, depth: usize) -> bool {
    match value {
        Value::Object(map) => depth > 0 && map.values().all(|inner| is_shallow(inner, depth - 1)),
        Value::Array(list) => depth > 0 && list.iter().all(|inner| is_shallow(inner, depth - 1)),
        _ => true,
    }
}

fn text<'a>(schema: Schema<'a>, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or("")
}

fn flag(schema: Schema<'_>, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or(false)
}

fn list<'a>(schema: Schema<'a>, key: &str) -> &'a [Value] {
    schema
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn map<'a>(schema: Schema<'a>, key: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    schema
        .get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

fn inner<'a>(schema: Schema<'a>, key: &str) -> Option<Schema<'a>> {
    schema.get(key).and_then(Value::as_object)
}

/// Whether a field is there and says something.
fn has(schema: Schema<'_>, key: &str) -> bool {
    schema.get(key).is_some_and(|value| !is_zero(value))
}

/// The schemas directly below one, with their paths.
fn parts<'a>(schema: Schema<'a>, path: &Path) -> Vec<(Path, &'a Value)> {
    let mut found = Vec::new();
    for key in ["additionalProperties", "not", "items"] {
        if let Some(schema @ Value::Object(_)) = schema.get(key) {
            found.push((path.child(key), schema));
        }
    }
    for (name, schema) in map(schema, "properties") {
        found.push((path.child("properties").key(name), schema));
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (i, schema) in list(schema, key).iter().enumerate() {
            found.push((path.child(key).index(i), schema));
        }
    }
    found
}

fn beside_status(root: Schema<'_>, path: &Path, errors: &mut ErrorList) {
    let ty = text(root, "type");
    if !ty.is_empty() && ty != "object" {
        let detail = r#"only "object" is allowed as the type at the root of the schema if the status subresource is enabled"#;
        errors.push(FieldError::invalid(&path.child("type"), ty, detail));
    } else if NOT_WITH_STATUS.iter().any(|key| has(root, key)) {
        let detail = format!(
            "only {WITH_STATUS} fields are allowed at the root of the schema if the status subresource is enabled"
        );
        errors.push(FieldError::invalid(path, root.clone(), detail));
    }
}

/// Where a schema stands, as far as that forbids anything.
#[derive(Clone, Default)]
struct Scope {
    in_metadata: bool,
    /// Why there may be no defaults.
    no_defaults: Option<String>,
}

fn openapi(schema: Schema<'_>, path: &Path, scope: &Scope, is_root: bool, errors: &mut ErrorList) {
    standard(schema, path, scope, errors);
    if flag(schema, "uniqueItems") {
        let detail =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), detail));
    }
    if let Some(additional) = schema.get("additionalProperties").filter(|a| !a.is_null()) {
        if has(schema, "properties") && additional.as_bool() != Some(true) {
            let detail = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(
                &path.child("additionalProperties"),
                detail,
            ));
        }
        if let Value::Object(inner) = additional {
            let mut scope = scope.clone();
            if scope.in_metadata {
                let reason = "inside additionalProperties applying to object metadata";
                scope.no_defaults = Some(reason.to_owned());
            }
            openapi(
                inner,
                &path.child("additionalProperties"),
                &scope,
                false,
                errors,
            );
        }
    }
    let is_resource = is_root || flag(schema, "x-kubernetes-embedded-resource");
    for (name, inner) in map(schema, "properties") {
        let Value::Object(inner) = inner else {
            continue;
        };
        let mut scope = scope.clone();
        if is_resource && META.contains(&name.as_str()) {
            scope.in_metadata = true;
            if is_root {
                scope.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        openapi(
            inner,
            &path.child("properties").key(name),
            &scope,
            false,
            errors,
        );
    }
    if let Some(inner) = inner(schema, "not") {
        openapi(inner, &path.child("not"), scope, false, errors);
    }
    for key in ["allOf", "oneOf", "anyOf"] {
        for (i, inner) in list(schema, key).iter().enumerate() {
            if let Value::Object(inner) = inner {
                openapi(inner, &path.child(key).index(i), scope, false, errors);
            }
        }
    }
    if let Some(inner) = inner(schema, "items") {
        openapi(inner, &path.child("items"), scope, false, errors);
    }
    kinds_of_containers(schema, path, errors);
    map_keys(schema, path, errors);
    rules(schema, path, errors);
}

/// What OpenAPI has and custom resources have not.
fn standard(schema: Schema<'_>, path: &Path, scope: &Scope, errors: &mut ErrorList) {
    let ty = text(schema, "type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.push(FieldError::not_supported(&path.child("type"), ty, &TYPES));
    }
    let mut forbid = |key: &str, detail: &str| {
        errors.push(FieldError::forbidden(&path.child(key), detail));
    };
    if let Some(reason) = scope.no_defaults.as_deref()
        && schema.get("default").is_some_and(|value| !value.is_null())
    {
        forbid("default", &format!("must not be set {reason}"));
    }
    for (key, is_there) in [
        ("id", has(schema, "id")),
        (
            "additionalItems",
            schema.get("additionalItems").is_some_and(|v| !v.is_null()),
        ),
        ("patternProperties", has(schema, "patternProperties")),
        ("definitions", has(schema, "definitions")),
        (
            "dependencies",
            schema.get("dependencies").is_some_and(|v| !v.is_null()),
        ),
        ("$ref", schema.get("$ref").is_some_and(|v| !v.is_null())),
    ] {
        if is_there {
            forbid(key, &format!("{key} is not supported"));
        }
    }
    if ty == "null" {
        forbid(
            "type",
            "type cannot be set to null, use nullable as an alternative",
        );
    }
    if !list(schema, "items").is_empty() {
        forbid("items", "items must be a schema object and not an array");
    }
    if scope.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        forbid(
            "x-kubernetes-embedded-resource",
            "must not be used inside of resource meta",
        );
    }
}

/// `x-kubernetes-preserve-unknown-fields`, `-map-type` and `-list-type`.
fn kinds_of_containers(schema: Schema<'_>, path: &Path, errors: &mut ErrorList) {
    let ty = text(schema, "type");
    let wrong_type = |wanted: &str, key: &str| {
        let detail = format!("must be {wanted} if {key} is specified");
        match ty {
            "" => FieldError::required(&path.child("type"), detail),
            _ => FieldError::invalid(&path.child("type"), ty, detail),
        }
    };
    let key = "x-kubernetes-preserve-unknown-fields";
    if schema.get(key) == Some(&Value::Bool(false)) {
        errors.push(FieldError::invalid(
            &path.child(key),
            false,
            "must be true or undefined",
        ));
    }
    let key = "x-kubernetes-map-type";
    if let Some(kind) = schema.get(key).and_then(Value::as_str) {
        if ty != "object" {
            errors.push(wrong_type("object", key));
        }
        if !["atomic", "granular"].contains(&kind) {
            let supported = ["atomic", "granular"];
            errors.push(FieldError::not_supported(
                &path.child(key),
                kind,
                &supported,
            ));
        }
    }
    let key = "x-kubernetes-list-type";
    let Some(kind) = schema.get(key).and_then(Value::as_str) else {
        return;
    };
    if ty != "array" {
        errors.push(wrong_type("array", key));
    } else if let Some(items) = inner(schema, "items").filter(|_| kind == "set") {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let of_list = items.get(key).and_then(Value::as_str);
        let wrong = match text(items, "type") {
            "array" => of_list.filter(|k| *k != "atomic").map(|_| key),
            "object" if text(items, "x-kubernetes-map-type") != "atomic" => {
                Some("x-kubernetes-map-type")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            let path = path.child("items").child(wrong);
            // Kubernetes shows the list type in both cases.
            let shown = of_list.map_or(Value::Null, Value::from);
            errors.push(FieldError::invalid(&path, shown, detail));
        }
    }
    if !["atomic", "set", "map"].contains(&kind) {
        let supported = ["atomic", "set", "map"];
        errors.push(FieldError::not_supported(
            &path.child(key),
            kind,
            &supported,
        ));
    }
}

/// `x-kubernetes-list-map-keys`, and what a list of type `map` needs beside it.
fn map_keys(schema: Schema<'_>, path: &Path, errors: &mut ErrorList) {
    let (type_path, keys_path) = (
        path.child("x-kubernetes-list-type"),
        path.child("x-kubernetes-list-map-keys"),
    );
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let kind = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
    if !keys.is_empty() && kind != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match kind {
            None => FieldError::required(&type_path, detail),
            Some(kind) => FieldError::invalid(&type_path, kind, detail),
        });
    }
    let items_path = path.child("items");
    let items = inner(schema, "items");
    if kind == Some("map") {
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            errors.push(FieldError::required(&keys_path, detail));
        }
        match (schema.get("items"), items) {
            (None | Some(Value::Null), _) => {
                let detail = "must have a schema if x-kubernetes-list-type is map";
                errors.push(FieldError::required(&items_path, detail));
            }
            (Some(several), None) => {
                let detail = "must only have a single schema if x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&items_path, several.clone(), detail));
            }
            (_, Some(items)) if text(items, "type") != "object" => {
                let detail = "must be object if parent array's x-kubernetes-list-type is map";
                let path = items_path.child("type");
                errors.push(FieldError::invalid(&path, text(items, "type"), detail));
            }
            (_, Some(items)) => are_properties(keys, items, &items_path, &keys_path, errors),
        }
    }
    let Some((kind, items)) = kind.filter(|k| matches!(*k, "set" | "map")).zip(items) else {
        return;
    };
    if flag(items, "nullable") {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.push(FieldError::forbidden(&items_path.child("nullable"), detail));
    }
    if kind == "map" {
        are_always_there(keys, items, &items_path, errors);
    }
}

fn are_properties(
    keys: &[Value],
    items: Schema<'_>,
    items_path: &Path,
    keys_path: &Path,
    errors: &mut ErrorList,
) {
    let mut seen = HashSet::new();
    for key in keys {
        let name = key.as_str().unwrap_or("");
        let property = inner(items, "properties").and_then(|p| p.get(name)?.as_object());
        match property {
            Some(property) if matches!(text(property, "type"), "array" | "object") => {
                let path = items_path.child("properties").key(name).child("type");
                let detail =
                    "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.push(FieldError::invalid(&path, text(items, "type"), detail));
            }
            Some(_) => {}
            None => {
                let detail = "entries must all be names of item properties";
                errors.push(FieldError::invalid(keys_path, keys.to_vec(), detail));
            }
        }
        if !seen.insert(name) {
            let detail = "must not contain duplicate entries";
            errors.push(FieldError::invalid(keys_path, keys.to_vec(), detail));
        }
        if errors.len() > LISTED_MAX {
            // Each of them shows all keys.
            return;
        }
    }
}

fn are_always_there(keys: &[Value], items: Schema<'_>, path: &Path, errors: &mut ErrorList) {
    let required = list(items, "required").iter().filter_map(Value::as_str);
    let required: HashSet<&str> = required.collect();
    for key in keys {
        let name = key.as_str().unwrap_or("");
        let Some(property) = inner(items, "properties").and_then(|p| p.get(name)?.as_object())
        else {
            continue;
        };
        let path = path.child("properties").key(name);
        let has_default = property
            .get("default")
            .is_some_and(|value| !value.is_null());
        if !required.contains(name) && !has_default {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&path.child("default"), detail));
        }
        if flag(property, "nullable") {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&path.child("nullable"), detail));
        }
    }
}

/// `x-kubernetes-validations`, but for the expressions themselves.
fn rules(schema: Schema<'_>, path: &Path, errors: &mut ErrorList) {
    let breaks = |text: &str| text.contains(['\n', '\r']);
    for (i, rule) in list(schema, "x-kubernetes-validations").iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(i);
        let text = |key: &str| rule.get(key).and_then(Value::as_str).unwrap_or("");
        let (own, message) = (text("rule").trim(), text("message"));
        if own.is_empty() {
            errors.push(FieldError::required(
                &path.child("rule"),
                "rule is not specified",
            ));
        } else if !message.is_empty() && message.trim().is_empty() {
            let detail = "must be non-empty if specified";
            errors.push(FieldError::invalid(&path.child("message"), message, detail));
        } else if breaks(message.trim()) {
            let detail = "must not contain line breaks";
            errors.push(FieldError::invalid(&path.child("message"), message, detail));
        } else if breaks(own) && message.is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            errors.push(FieldError::required(&path.child("message"), detail));
        }
        let expression = text("messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            errors.push(FieldError::required(
                &path.child("messageExpression"),
                detail,
            ));
        }
        if let Some(reason) = rule.get("reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            errors.push(FieldError::not_supported(
                &path.child("reason"),
                reason,
                &REASONS,
            ));
        }
        let field = text("fieldPath");
        let field_path = path.child("fieldPath");
        if field.is_empty() {
            continue;
        }
        if field.trim().is_empty() {
            let detail = "must be non-empty if specified";
            errors.push(FieldError::invalid(&field_path, field, detail));
        }
        if breaks(field) {
            let detail = "must not contain line breaks";
            errors.push(FieldError::invalid(&field_path, field, detail));
        }
        if !names_a_field(schema, field) {
            errors.push(FieldError::invalid(
                &field_path,
                field,
                "must be a valid path",
            ));
        }
    }
}

/// Whether a path like `.a['b'].c` leads to a field of objects of this schema.
fn names_a_field(schema: Schema<'_>, path: &str) -> bool {
    let Some(steps) = crate::jsonpath::field_steps(path) else {
        return false;
    };
    let mut at = schema;
    for step in steps {
        let property = inner(at, "properties").and_then(|p| p.get(&step)?.as_object());
        match property.or(inner(at, "additionalProperties")) {
            Some(inner) => at = inner,
            None => return false,
        }
    }
    true
}
