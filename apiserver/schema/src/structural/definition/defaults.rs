//! Defaults must be what the schema demands, and have no field that it does not know.

use serde_json::{Map, Value, json};

use crate::field::{ErrorList, FieldError, Path, aggregate};
use crate::structural::node::Node;
use crate::structural::{embedded, prune, validate};

/// Checks the defaults of a schema and of all below it.
pub(super) fn check(node: &Node, path: &Path, errors: &mut ErrorList) {
    walk(node, None, path, errors);
}

/// `around` are the fields that lead here from the resource whose metadata, version or kind this is part of.
fn walk<'n>(node: &'n Node, around: Option<&[&'n str]>, path: &Path, errors: &mut ErrorList) {
    let around = around.filter(|_| !node.embedded);
    if let Some(default) = node.default.as_deref() {
        one(node, default, around, &path.child("default"), errors);
    }
    // There are none below `additionalProperties` that could be set.
    if let Some(items) = &node.items {
        walk(items, None, &path.child("items"), errors);
    }
    for property in &node.properties {
        let name: &'n str = &property.name;
        let steps: Option<Vec<&'n str>> = if node.is_meta(name) {
            Some(vec![name])
        } else {
            around.map(|steps| steps.iter().copied().chain([name]).collect())
        };
        let path = path.child("properties").key(name);
        walk(&property.node, steps.as_deref(), &path, errors);
    }
}

fn one(node: &Node, default: &Value, around: Option<&[&str]>, path: &Path, errors: &mut ErrorList) {
    if let Some(steps) = around {
        // Every field of metadata is known, whatever the schema says of it.
        let wrong = metadata(default, steps);
        if !wrong.is_empty() {
            let detail = format!("must result in valid metadata: {}", aggregate(&wrong));
            errors.push(FieldError::invalid(path, default.clone(), detail));
            return;
        }
    } else {
        let mut pruned = default.clone();
        prune::prune(node, &mut pruned);
        if pruned != *default {
            let detail = "must not have unknown fields";
            errors.push(FieldError::invalid(path, default.clone(), detail));
        }
    }
    let before = errors.len();
    embedded::resources(node, default, path, errors);
    if errors.len() == before {
        errors.extend(validate::values(node, default, None, Some(path)));
    }
}

/// What is wrong with a resource that has nothing but this value there.
fn metadata(value: &Value, steps: &[&str]) -> ErrorList {
    let whole = steps.iter().rev().fold(value.clone(), |inner, step| {
        let mut around = Map::new();
        around.insert((*step).to_owned(), inner);
        Value::Object(around)
    });
    let mut resource = json!({"apiVersion": "validation/v1", "kind": "Validation"});
    if let (Some(fields), Value::Object(whole)) = (resource.as_object_mut(), whole) {
        fields.extend(whole);
    }
    let mut errors = ErrorList::new();
    if let Value::Object(fields) = &resource {
        embedded::resource(fields, &Path::root(), &mut errors);
    }
    errors
}
