//! The paths of a definition: of printer columns, selectable fields and the scale subresource.

use std::collections::HashSet;

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};
use crate::jsonpath::{check_simple, field_steps};
use crate::structural::{Additional, Node, NodeType, Structural};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &[
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const SELECTABLE_MAX: usize = 8;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// Checks one of `additionalPrinterColumns`.
pub fn check_column(column: &Value, path: &Path, errors: &mut ErrorList) {
    if text(column, "name").is_empty() {
        errors.push(FieldError::required(&path.child("name"), ""));
    }
    let (ty, format) = (text(column, "type"), text(column, "format"));
    let one_of = |known: &[&str]| format!("must be one of {}", known.join(","));
    if ty.is_empty() {
        errors.push(FieldError::required(
            &path.child("type"),
            one_of(COLUMN_TYPES),
        ));
    } else if !COLUMN_TYPES.contains(&ty) {
        errors.push(FieldError::invalid(
            &path.child("type"),
            ty,
            one_of(COLUMN_TYPES),
        ));
    }
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
        let detail = one_of(COLUMN_FORMATS);
        errors.push(FieldError::invalid(&path.child("format"), format, detail));
    }
    let json_path = text(column, "jsonPath");
    if json_path.is_empty() {
        errors.push(FieldError::required(&path.child("JSONPath"), ""));
    } else {
        check_simple(json_path, &path.child("JSONPath"), errors);
    }
}

/// Checks `selectableFields`: each is a scalar that the schema names.
pub fn check_selectable_fields(
    fields: &[Value],
    schema: &Structural,
    path: &Path,
    errors: &mut ErrorList,
) {
    let mut seen: HashSet<Vec<String>> = HashSet::new();
    for (i, field) in fields.iter().enumerate() {
        let path = path.index(i).child("jsonPath");
        let json_path = text(field, "jsonPath");
        if json_path.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let steps = field_steps(json_path);
        let found = steps
            .as_deref()
            .and_then(|steps| lookup(schema.root(), steps));
        let (Some(steps), Some(found)) = (steps, found) else {
            let detail = "is an invalid path: does not refer to a valid field";
            errors.push(FieldError::invalid(&path, json_path, detail));
            continue;
        };
        if steps.first().is_some_and(|first| first == "metadata") {
            let detail = "must not point to fields in metadata";
            errors.push(FieldError::invalid(&path, json_path, detail));
        }
        use NodeType::{Boolean, Integer, String};
        if !matches!(found.ty, Some(String | Boolean | Integer)) {
            let detail = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(FieldError::invalid(&path, json_path, detail));
        }
        if !seen.insert(steps) {
            errors.push(FieldError::duplicate(&path, json_path));
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.push(FieldError::too_many(path, seen.len(), SELECTABLE_MAX));
    }
}

fn lookup<'a>(root: &'a Node, steps: &[String]) -> Option<&'a Node> {
    steps.iter().try_fold(root, |node, step| {
        let any = match &node.additional {
            Additional::Of(node) => Some(&**node),
            _ => None,
        };
        node.property(step).or(any)
    })
}

/// Checks `scale`; `path` is that of `subresources`.
pub fn check_scale(scale: &Value, path: &Path, errors: &mut ErrorList) {
    for (key, under) in [
        ("specReplicasPath", ".spec."),
        ("statusReplicasPath", ".status."),
    ] {
        let path = path.child("scale").child(key);
        let json_path = text(scale, key);
        if json_path.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let before = errors.len();
        check_simple(json_path, &path, errors);
        if errors.len() == before && !json_path.starts_with(under) {
            let under = under.trim_end_matches('.');
            let detail = format!("should be a json path under {under}");
            errors.push(FieldError::invalid(&path, json_path, detail));
        }
    }
    let selector = text(scale, "labelSelectorPath");
    if !selector.is_empty() {
        let path = path.child("scale").child("labelSelectorPath");
        let before = errors.len();
        check_simple(selector, &path, errors);
        let known = selector.starts_with(".spec.") || selector.starts_with(".status.");
        if errors.len() == before && !known {
            let detail = "should be a json path under either .spec or .status";
            errors.push(FieldError::invalid(&path, selector, detail));
        }
    }
}
