//! Reviews: questions to the server.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, items};
use crate::look::{Look, spec};
use crate::meta;

fn attributes(spec: &Value, path: &Path, errors: &mut ErrorList) {
    match (
        spec.has("resourceAttributes"),
        spec.has("nonResourceAttributes"),
    ) {
        (true, true) => errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            spec.at("nonResourceAttributes").clone(),
            "cannot be specified in combination with resourceAttributes",
        )),
        (false, false) => errors.push(FieldError::invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let path = path.child("resourceAttributes");
    for field in ["fieldSelector", "labelSelector"] {
        let selector = spec.at("resourceAttributes").at(field);
        if selector.is_object() {
            selector_of(selector, field, &path.child(field), errors);
        }
    }
}

/// What a review says of the objects that are asked about. An operator that is not known may be one of a newer client.
fn selector_of(selector: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    let raw = selector.text("rawSelector");
    match (raw, selector.list("requirements")) {
        ("", []) => {
            let path_text = path.as_str();
            let detail =
                format!("when {path_text} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(&path.child("requirements"), detail));
        }
        ("", _) | (_, []) => {}
        _ => errors.push(FieldError::invalid(
            &path.child("rawSelector"),
            raw,
            "may not specified at the same time as requirements",
        )),
    }
    for (path, term) in items(selector, "requirements", path) {
        let is_of_labels = field == "labelSelector";
        if !is_of_labels && term.text("key").is_empty() {
            errors.push(FieldError::required(
                &path.child("key"),
                "must be specified",
            ));
        }
        let values = term.list("values");
        match term.text("operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            _ => {}
        }
        if !is_of_labels {
            continue;
        }
        meta::label_name_of(term, "key", &path, errors);
        for (at, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            let path = path.child("values").index(at);
            complain(names::is_valid_label_value(value), &path, value, errors);
        }
    }
}

/// Kubernetes takes no metadata but these fields, which somebody else may set: a name would look as if it meant something.
fn empty_metadata(object: &Object, allowed: &[&str], detail: &str, errors: &mut ErrorList) {
    let metadata = object.at("metadata");
    let is_set = |(field, value): (&str, &Value)| {
        let is_empty = match value {
            Value::Null => true,
            Value::Bool(flag) => !flag,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
        };
        !is_empty && !allowed.contains(&field)
    };
    if object.entries("metadata").any(is_set) {
        let path = Path::new("metadata");
        errors.push(FieldError::invalid(&path, metadata.clone(), detail));
    }
}

/// SelfSubjectAccessReview.
pub(crate) fn self_access_review(object: &Object, errors: &mut ErrorList) {
    attributes(spec(object), &Path::new("spec"), errors);
    empty_metadata(object, &["managedFields"], "must be empty", errors);
}

/// SubjectAccessReview.
pub(crate) fn access_review(object: &Object, errors: &mut ErrorList) {
    of_subject(object, errors);
    empty_metadata(object, &["managedFields"], "must be empty", errors);
}

fn of_subject(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    attributes(spec(object), &path, errors);
    if spec(object).text("user").is_empty() && spec(object).list("groups").is_empty() {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", detail));
    }
}

/// LocalSubjectAccessReview.
pub(crate) fn local_access_review(object: &Object, errors: &mut ErrorList) {
    of_subject(object, errors);
    let (allowed, detail) = (
        ["managedFields", "namespace"],
        "must be empty except for namespace",
    );
    empty_metadata(object, &allowed, detail, errors);
    let path = Path::new("spec");
    let asked = spec(object).at("resourceAttributes");
    if asked.is_object() && asked.text("namespace") != object.namespace() {
        let detail = "must match metadata.namespace";
        errors.push(FieldError::invalid(
            &path.child("resourceAttributes").child("namespace"),
            asked.text("namespace"),
            detail,
        ));
    }
    if spec(object).has("nonResourceAttributes") {
        let detail = "disallowed on this kind of request";
        errors.push(FieldError::invalid(
            &path.child("nonResourceAttributes"),
            spec(object).at("nonResourceAttributes").clone(),
            detail,
        ));
    }
}
