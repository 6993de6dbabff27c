//! Namespaces.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::items;
use crate::look::{Look, spec, status};
use crate::meta;

/// Namespace: finalizers have to be standard or qualified.
pub(crate) fn namespace(object: &Object, errors: &mut ErrorList) {
    for (_, name) in items(spec(object), "finalizers", &Path::new("spec")) {
        finalizer(name, &Path::new("spec").child("finalizers"), errors);
    }
}

fn finalizer(name: &Value, path: &Path, errors: &mut ErrorList) {
    let text = name.as_str().unwrap_or("");
    super::complain(names::is_qualified_name(text), path, text, errors);
    meta::standard_or_qualified(text, path, errors);
}

/// The doors for finalizers and for the phase, which says whether the namespace goes away.
pub(crate) fn namespace_subresource(
    subresource: &str,
    new: &Object,
    _old: &Object,
    errors: &mut ErrorList,
) {
    if subresource == "finalize" {
        for (path, name) in items(spec(new), "finalizers", &Path::new("spec")) {
            finalizer(name, &path, errors);
        }
        return;
    }
    let phase = status(new).text("phase");
    let (only, detail) = match new.deletion_timestamp() {
        None => (
            "Active",
            "may only be 'Active' if `deletionTimestamp` is empty",
        ),
        Some(_) => (
            "Terminating",
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        ),
    };
    // Absent, it says nothing.
    if !phase.is_empty() && phase != only {
        let path = Path::new("status").child("Phase");
        errors.push(FieldError::invalid(&path, phase, detail));
    }
}
