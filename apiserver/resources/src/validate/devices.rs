//! resource.k8s.io.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, immutable, items, one_of, require};
use crate::look::{Look, spec};

/// ResourceClaim.
pub(crate) fn claim(object: &Object, errors: &mut ErrorList) {
    claim_spec(spec(object), &Path::new("spec"), errors);
}

/// ResourceClaimTemplate.
pub(crate) fn claim_template(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("spec");
    claim_spec(spec(object).at("spec"), &path, errors);
}

fn claim_spec(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (devices, path) = (spec.at("devices"), path.child("devices"));
    let mut seen = BTreeSet::new();
    for (path, request) in items(devices, "requests", &path) {
        let name = request.text("name");
        if require(request, "name", &path, errors) {
            complain(
                names::is_dns1123_label(name),
                &path.child("name"),
                name,
                errors,
            );
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        match (
            request.has("exactly"),
            request.list("firstAvailable").is_empty(),
        ) {
            (true, true) => {
                let (exactly, path) = (request.at("exactly"), path.child("exactly"));
                require(exactly, "deviceClassName", &path, errors);
                one_of(
                    exactly,
                    "allocationMode",
                    &["All", "ExactCount"],
                    &path,
                    errors,
                );
                if exactly.text("allocationMode") == "ExactCount"
                    && exactly.int("count").unwrap_or(0) <= 0
                {
                    let count = exactly.int("count").unwrap_or(0);
                    errors.push(FieldError::invalid(
                        &path.child("count"),
                        count,
                        "must be greater than zero",
                    ));
                }
            }
            (false, true) => {
                let detail = "exactly one of `exactly` or `firstAvailable` is required";
                errors.push(FieldError::required(&path, detail));
            }
            (true, false) => {
                let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
                errors.push(FieldError::invalid(&path, Value::Null, detail));
            }
            (false, false) => {}
        }
    }
}

/// What is claimed never changes.
pub(crate) fn spec_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    immutable(spec(new), spec(old), &Path::new("spec"), errors);
}

/// ResourceSlice.
pub(crate) fn slice(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    if require(spec, "driver", &path, errors) {
        let driver = spec.text("driver");
        complain(
            names::is_dns1123_subdomain(driver),
            &path.child("driver"),
            driver,
            errors,
        );
    }
    require(spec.at("pool"), "name", &path.child("pool"), errors);
    let chosen = [
        spec.has("nodeName"),
        spec.has("nodeSelector"),
        spec.flag("allNodes"),
        spec.flag("perDeviceNodeSelection"),
    ];
    if chosen.iter().filter(|chosen| **chosen).count() != 1 {
        let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
        errors.push(FieldError::invalid(&path, Value::Null, detail));
    }
    let devices = spec.list("devices").len();
    if devices > 128 {
        errors.push(FieldError::too_many(&path.child("devices"), devices, 128));
    }
}

/// Driver, node and pool of a slice stay.
pub(crate) fn slice_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    for field in ["driver", "nodeName"] {
        immutable(
            spec(new).at(field),
            spec(old).at(field),
            &path.child(field),
            errors,
        );
    }
    let name = path.child("pool").child("name");
    immutable(
        spec(new).at("pool").at("name"),
        spec(old).at("pool").at("name"),
        &name,
        errors,
    );
}
