//! Namespaces.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;

use super::items;
use crate::look::spec;

/// Namespace: finalizers have to be standard or qualified.
pub(crate) fn namespace(object: &Object, errors: &mut ErrorList) {
    for (_, finalizer) in items(spec(object), "finalizers", &Path::new("spec")) {
        let path = Path::new("spec").child("finalizers");
        let text = finalizer.as_str().unwrap_or("");
        super::complain(names::is_qualified_name(text), &path, text, errors);
        if !text.contains('/') && !matches!(text, "kubernetes" | "orphan" | "foregroundDeletion") {
            let detail = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(&path, text, detail));
        }
    }
}
