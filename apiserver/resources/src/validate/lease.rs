//! Leases.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};

use super::POSITIVE;
use crate::look::{Look, spec};

/// Lease.
pub(crate) fn lease(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    if let Some(seconds) = spec
        .int("leaseDurationSeconds")
        .filter(|seconds| *seconds <= 0)
    {
        errors.push(FieldError::invalid(
            &path.child("leaseDurationSeconds"),
            seconds,
            POSITIVE,
        ));
    }
    super::not_negative(spec, "leaseTransitions", &path, errors);
    if spec.has("preferredHolder") && spec.text("strategy").is_empty() {
        let path = path.child("preferredHolder");
        let detail = "may only be specified if `strategy` is defined";
        errors.push(FieldError::forbidden(&path, detail));
    }
}
