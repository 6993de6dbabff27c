//! Reviews: questions to the server.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use serde_json::Value;

use crate::look::{Look, spec};

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
}

/// SelfSubjectAccessReview.
pub(crate) fn self_access_review(object: &Object, errors: &mut ErrorList) {
    attributes(spec(object), &Path::new("spec"), errors);
}

/// SubjectAccessReview.
pub(crate) fn access_review(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    attributes(spec(object), &path, errors);
    if spec(object).text("user").is_empty() && spec(object).list("groups").is_empty() {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&path.child("user"), "", detail));
    }
}

/// LocalSubjectAccessReview.
pub(crate) fn local_access_review(object: &Object, errors: &mut ErrorList) {
    access_review(object, errors);
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
