//! What makes a schema structural: every field has a type outside of all junctions, and junctions
//! only speak of values.

use serde_json::{Value, json};

use super::{Schema, flag, has, inner, list, map, text};
use crate::field::{ErrorList, FieldError, Path};
use crate::structural::pattern;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";

/// The errors, sorted by their texts.
pub(super) fn check(root: Schema<'_>, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    structure(root, Level::Root, path, &mut errors);
    complete(root, Some(root), path, path, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn structure(schema: Schema<'_>, level: Level, path: &Path, errors: &mut ErrorList) {
    let ty = text(schema, "type");
    if ty == "array" && schema.get("items").is_none_or(Value::is_null) {
        errors.push(FieldError::required(
            &path.child("items"),
            "must be specified",
        ));
    }
    if let Some(items) = inner(schema, "items") {
        structure(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in map(schema, "properties") {
        if let Value::Object(property) = property {
            structure(
                property,
                Level::Field,
                &path.child("properties").key(name),
                errors,
            );
        }
    }
    let additional_path = path.child("additionalProperties");
    let has_additional = schema
        .get("additionalProperties")
        .is_some_and(|v| !v.is_null());
    if has_additional && level == Level::Root {
        errors.push(FieldError::forbidden(
            &additional_path,
            "must not be used at the root",
        ));
    }
    if let Some(additional) = inner(schema, "additionalProperties") {
        structure(additional, Level::Field, &additional_path, errors);
    }
    for other in [PRESERVE, EMBEDDED] {
        if flag(schema, INT_OR_STRING) && flag(schema, other) {
            let detail = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&path.child(other), true, detail));
        }
    }
    let skip_first = list(schema, "allOf")
        .first()
        .is_some_and(|first| is_int_or_string(first.get("anyOf")));
    values(
        schema,
        (is_int_or_string(schema.get("anyOf")), skip_first),
        path,
        errors,
    );
    type_is_there(schema, level, path, errors);
    let embedded = flag(schema, EMBEDDED);
    if embedded && has_additional {
        let detail = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&additional_path, detail));
    }
    metadata(schema, level, path, errors);
    if embedded && !flag(schema, PRESERVE) && !has(schema, "properties") {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&path.child("properties"), detail));
    }
}

fn type_is_there(schema: Schema<'_>, level: Level, path: &Path, errors: &mut ErrorList) {
    let (ty, path) = (text(schema, "type"), path.child("type"));
    if flag(schema, EMBEDDED) && ty != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(match ty {
            "" => FieldError::required(&path, detail),
            _ => FieldError::invalid(&path, ty, detail),
        });
    } else if ty.is_empty() && !flag(schema, INT_OR_STRING) && !flag(schema, PRESERVE) {
        let detail = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&path, detail));
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.push(FieldError::invalid(&path, ty, "must be object at the root"));
    }
}

/// The fields that every resource has may be restricted a little, and not redefined.
fn metadata(schema: Schema<'_>, level: Level, path: &Path, errors: &mut ErrorList) {
    let is_resource = level == Level::Root || flag(schema, EMBEDDED);
    let property = |name: &str| inner(schema, "properties").and_then(|p| p.get(name)?.as_object());
    let path_of = |name: &str| path.child("properties").key(name);
    for name in ["kind", "apiVersion"] {
        if let Some(property) = property(name).filter(|_| is_resource)
            && text(property, "type") != "string"
        {
            let path = path_of(name).child("type");
            errors.push(FieldError::invalid(
                &path,
                text(property, "type"),
                "must be string",
            ));
        }
    }
    let Some(metadata) = property("metadata") else {
        return;
    };
    let path = path_of("metadata");
    if is_resource && text(metadata, "type") != "object" {
        let ty = text(metadata, "type");
        errors.push(FieldError::invalid(
            &path.child("type"),
            ty,
            "must be object",
        ));
    }
    let only_names = map(metadata, "properties")
        .all(|(name, _)| matches!(name.as_str(), "name" | "generateName"));
    let more = metadata.keys().any(|key| {
        !matches!(key.as_str(), "type" | "default" | "properties") && has(metadata, key)
    });
    if level == Level::Root && (more || !only_names) {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn is_int_or_string(any_of: Option<&Value>) -> bool {
    any_of.is_some_and(|any_of| *any_of == json!([{"type": "integer"}, {"type": "string"}]))
}

/// The junctions and the pattern of a schema. The two ways to spell "an integer or a string" may
/// name types: in `anyOf` itself, and in that of the first of `allOf`.
fn values(
    schema: Schema<'_>,
    (skip_any_of, skip_first_of_all): (bool, bool),
    path: &Path,
    errors: &mut ErrorList,
) {
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && skip_any_of {
            continue;
        }
        for (i, inner) in list(schema, key).iter().enumerate() {
            if let Value::Object(inner) = inner {
                let skip = key == "allOf" && i == 0 && skip_first_of_all;
                nested(inner, skip, &path.child(key).index(i), errors);
            }
        }
    }
    if let Some(inner) = inner(schema, "not") {
        nested(inner, false, &path.child("not"), errors);
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(error) = pattern::compile(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        errors.push(FieldError::invalid(&path.child("pattern"), pattern, detail));
    }
}

/// A schema within a junction.
fn nested(schema: Schema<'_>, skip_any_of: bool, path: &Path, errors: &mut ErrorList) {
    values(schema, (skip_any_of, false), path, errors);
    if let Some(items) = inner(schema, "items") {
        nested(items, false, &path.child("items"), errors);
    }
    for (name, property) in map(schema, "properties") {
        if let Value::Object(property) = property {
            nested(property, false, &path.child("properties").key(name), errors);
        }
    }
    let is_there = |key: &str| schema.get(key).is_some_and(|value| !value.is_null());
    for (key, is_there, must) in [
        ("type", has(schema, "type"), "empty"),
        (
            "additionalProperties",
            is_there("additionalProperties"),
            "undefined",
        ),
        ("default", is_there("default"), "undefined"),
        ("title", has(schema, "title"), "empty"),
        ("description", has(schema, "description"), "empty"),
        ("nullable", flag(schema, "nullable"), "false"),
        ("externalDocs", is_there("externalDocs"), "undefined"),
        (PRESERVE, flag(schema, PRESERVE), "false"),
        (EMBEDDED, flag(schema, EMBEDDED), "false"),
        (INT_OR_STRING, flag(schema, INT_OR_STRING), "false"),
        (
            "x-kubernetes-list-map-keys",
            has(schema, "x-kubernetes-list-map-keys"),
            "empty",
        ),
        (
            "x-kubernetes-list-type",
            is_there("x-kubernetes-list-type"),
            "undefined",
        ),
        (
            "x-kubernetes-map-type",
            is_there("x-kubernetes-map-type"),
            "undefined",
        ),
        (
            "x-kubernetes-validations",
            has(schema, "x-kubernetes-validations"),
            "empty",
        ),
    ] {
        if is_there {
            let detail = format!("must be {must} to be structural");
            errors.push(FieldError::forbidden(&path.child(key), detail));
        }
    }
    if inner(schema, "properties").is_some_and(|p| p.contains_key("metadata")) {
        let path = path.child("properties").key("metadata");
        let detail = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

/// What a junction speaks of must be defined outside of it. `outer` is the schema at `path` that
/// does so, `schema` what stands at `nested_path`; at the root both are the same.
fn complete(
    schema: Schema<'_>,
    outer: Option<Schema<'_>>,
    path: &Path,
    nested_path: &Path,
    errors: &mut ErrorList,
) {
    let Some(outer) = outer else {
        let detail = format!("because it is defined in {nested_path}");
        errors.push(FieldError::required(path, detail));
        return;
    };
    let is_structure = std::ptr::eq(schema, outer);
    for key in ["anyOf", "allOf", "oneOf"] {
        for (i, inner) in list(schema, key).iter().enumerate() {
            if let Value::Object(inner) = inner {
                complete(
                    inner,
                    Some(outer),
                    path,
                    &nested_path.child(key).index(i),
                    errors,
                );
            }
        }
    }
    if let Some(not) = inner(schema, "not") {
        complete(not, Some(outer), path, &nested_path.child("not"), errors);
    }
    if let Some(items) = inner(schema, "items") {
        let step = "items";
        complete(
            items,
            inner(outer, step),
            &path.child(step),
            &nested_path.child(step),
            errors,
        );
    }
    for (name, property) in map(schema, "properties") {
        if let Value::Object(property) = property {
            let step = |path: &Path| path.child("properties").key(name);
            let of_outer = inner(outer, "properties").and_then(|p| p.get(name)?.as_object());
            complete(property, of_outer, &step(path), &step(nested_path), errors);
        }
    }
    if is_structure && let Some(additional) = inner(schema, "additionalProperties") {
        let step = |path: &Path| path.child("additionalProperties");
        complete(
            additional,
            Some(additional),
            &step(path),
            &step(nested_path),
            errors,
        );
    }
}
