//! resource.k8s.io.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, immutable, items, one_of, require};
use crate::look::{Look, spec, status};
use crate::quota::is_foreign;

/// ResourceClaim.
pub(crate) fn claim(object: &Object, errors: &mut ErrorList) {
    claim_spec(spec(object), &Path::new("spec"), errors);
}

/// ResourceClaimTemplate.
pub(crate) fn claim_template(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("spec");
    claim_spec(spec(object).at("spec"), &path, errors);
}

/// Kubernetes' limits of a claim.
const REQUESTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const SELECTORS_MAX: usize = 32;
const EXPRESSION_BYTES_MAX: usize = 10 * 1024;

/// DeviceClass.
pub(crate) fn class(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    selectors(spec, &path, errors);
    bounded(spec, "config", REQUESTS_MAX, &path, errors);
    for (path, config) in items(spec, "config", &path) {
        opaque(config, &path, errors);
    }
    let resource = spec.text("extendedResourceName");
    let named = spec.has("extendedResourceName");
    if named && !(is_foreign(resource) && names::is_qualified_name(resource).is_empty()) {
        let path = path.child("extendedResourceName");
        let detail = "must be a valid extended resource name";
        errors.push(FieldError::invalid(&path, resource, detail));
    }
}

fn claim_spec(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (devices, path) = (spec.at("devices"), path.child("devices"));
    for field in ["requests", "constraints", "config"] {
        bounded(devices, field, REQUESTS_MAX, &path, errors);
    }
    let mut seen = BTreeSet::new();
    for (path, request) in items(devices, "requests", &path) {
        let name = request.text("name");
        if request_name(request, &path, errors) && !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        match (
            request.has("exactly"),
            request.list("firstAvailable").is_empty(),
        ) {
            (true, true) => asked(request.at("exactly"), &path.child("exactly"), errors),
            (false, true) => {
                let detail = "exactly one of `exactly` or `firstAvailable` is required";
                errors.push(FieldError::required(&path, detail));
            }
            (true, false) => {
                let detail = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
                errors.push(FieldError::invalid(&path, Value::Null, detail));
            }
            (false, false) => alternatives(request, &path, errors),
        }
    }
    for (path, constraint) in items(devices, "constraints", &path) {
        of_requests(constraint, devices, &path, errors);
        let attribute = ["matchAttribute", "distinctAttribute"]
            .into_iter()
            .find(|field| constraint.has(field));
        match attribute {
            Some(field) => full_name(constraint.text(field), &path.child(field), errors),
            None => {
                let detail = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
                errors.push(FieldError::required(&path, detail));
            }
        }
    }
    for (path, config) in items(devices, "config", &path) {
        of_requests(config, devices, &path, errors);
        opaque(config, &path, errors);
    }
}

/// Whether a list is no longer than it may be.
pub(super) fn bounded(
    parent: &Value,
    field: &str,
    max: usize,
    path: &Path,
    errors: &mut ErrorList,
) -> bool {
    let count = parent.list(field).len();
    if count > max {
        errors.push(FieldError::too_many(&path.child(field), count, max));
    }
    count <= max
}

/// The name of a driver, as that of a driver of volumes.
pub(super) fn driver(parent: &Value, path: &Path, errors: &mut ErrorList) {
    if !require(parent, "driver", path, errors) {
        return;
    }
    driver_name(parent.text("driver"), &path.child("driver"), errors);
}

/// The same of a name that is there.
pub(super) fn driver_name(name: &str, path: &Path, errors: &mut ErrorList) {
    const BYTES_MAX: usize = 63;
    if name.len() > BYTES_MAX {
        errors.push(FieldError::too_long(path, BYTES_MAX));
    }
    let details = names::is_dns1123_subdomain(&name.to_lowercase());
    complain(details, path, name, errors);
}

/// Whether there is a name.
fn request_name(request: &Value, path: &Path, errors: &mut ErrorList) -> bool {
    let name = request.text("name");
    let there = require(request, "name", path, errors);
    if there {
        let path = path.child("name");
        complain(names::is_dns1123_label(name), &path, name, errors);
    }
    there
}

/// Requests of which the first that can be met counts.
fn alternatives(request: &Value, path: &Path, errors: &mut ErrorList) {
    bounded(request, "firstAvailable", ALTERNATIVES_MAX, path, errors);
    let mut seen = BTreeSet::new();
    for (path, alternative) in items(request, "firstAvailable", path) {
        let name = alternative.text("name");
        if request_name(alternative, &path, errors) && !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        asked(alternative, &path, errors);
    }
}

/// Of which class, which of them, and how many.
fn asked(request: &Value, path: &Path, errors: &mut ErrorList) {
    if require(request, "deviceClassName", path, errors) {
        let name = request.text("deviceClassName");
        let path = path.child("deviceClassName");
        complain(names::is_dns1123_subdomain(name), &path, name, errors);
    }
    selectors(request, path, errors);
    let modes = &["All", "ExactCount"];
    one_of(request, "allocationMode", modes, path, errors);
    let count = request.int("count").unwrap_or(0);
    let detail = match request.text("allocationMode") {
        "All" if count != 0 => "must not be specified when allocationMode is 'All'",
        "ExactCount" if count <= 0 => "must be greater than zero",
        _ => return,
    };
    errors.push(FieldError::invalid(&path.child("count"), count, detail));
}

/// Of an expression only the grammar is looked at: what there is of a device is its driver's to say.
fn selectors(parent: &Value, path: &Path, errors: &mut ErrorList) {
    bounded(parent, "selectors", SELECTORS_MAX, path, errors);
    for (path, selector) in items(parent, "selectors", path) {
        let path = path.child("cel");
        if !selector.has("cel") {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        let (expression, path) = (
            selector.at("cel").text("expression"),
            path.child("expression"),
        );
        if expression.len() > EXPRESSION_BYTES_MAX {
            let detail = format!("may not be more than {EXPRESSION_BYTES_MAX} bytes");
            errors.push(FieldError::invalid(&path, "", detail));
            continue;
        }
        let environment = cel::Environment::new().with("device", cel::Type::Dyn);
        if let Err(error) = cel::Program::compile(&environment, expression) {
            let text = error.to_string();
            // The lines after the first ones show the expression, which may say so itself.
            if text
                .lines()
                .next()
                .is_some_and(|line| line.contains(": Syntax error"))
            {
                let detail = format!("compilation failed: {text}");
                errors.push(FieldError::invalid(&path, expression, detail));
            }
        }
    }
}

/// The requests of the claim that something is about.
pub(super) fn of_requests(parent: &Value, devices: &Value, path: &Path, errors: &mut ErrorList) {
    bounded(parent, "requests", REQUESTS_MAX, path, errors);
    let mut seen = BTreeSet::new();
    for (at, name) in parent.texts("requests").into_iter().enumerate() {
        let path = path.child("requests").index(at);
        request_ref(name, devices, &path, errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

/// The name of a request, or of one of its alternatives.
pub(super) fn request_ref(name: &str, devices: &Value, path: &Path, errors: &mut ErrorList) {
    if name.split('/').count() <= 2 {
        for part in name.split('/') {
            complain(names::is_dns1123_label(part), path, part, errors);
        }
    }
    if !is_request(devices, name) {
        let detail = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'";
        errors.push(FieldError::invalid(path, name, detail));
    }
}

fn is_request(devices: &Value, name: &str) -> bool {
    let named =
        |list: &'_ [Value], name: &str| list.iter().position(|one| one.text("name") == name);
    let (name, alternative) = match name.split_once('/') {
        Some((name, alternative)) => (name, Some(alternative)),
        None => (name, None),
    };
    let requests = devices.list("requests");
    match (named(requests, name), alternative) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(at), Some(alternative)) => {
            named(requests[at].list("firstAvailable"), alternative).is_some()
        }
    }
}

/// A domain and an identifier of an attribute.
fn full_name(name: &str, path: &Path, errors: &mut ErrorList) {
    const ID_BYTES_MAX: usize = 32;
    let Some((domain, id)) = name.split_once('/') else {
        errors.push(FieldError::invalid(path, name, "must include a domain"));
        return;
    };
    match domain {
        "" => errors.push(FieldError::invalid(
            path,
            "",
            "the domain must not be empty",
        )),
        domain => complain(names::is_dns1123_subdomain(domain), path, domain, errors),
    }
    match id {
        "" => errors.push(FieldError::invalid(path, "", "the name must not be empty")),
        id if id.len() > ID_BYTES_MAX => {
            let detail = format!("may not be more than {ID_BYTES_MAX} bytes");
            errors.push(FieldError::invalid(path, id, detail));
        }
        id => complain(names::is_c_identifier(id), path, id, errors),
    }
}

/// Parameters for a driver.
pub(super) fn opaque(config: &Value, path: &Path, errors: &mut ErrorList) {
    let (opaque, path) = (config.at("opaque"), path.child("opaque"));
    if !config.has("opaque") {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    driver(opaque, &path, errors);
    raw_object(opaque.at("parameters"), &path.child("parameters"), errors);
}

/// An object that only a driver understands.
pub(super) fn raw_object(value: &Value, path: &Path, errors: &mut ErrorList) {
    const BYTES_MAX: usize = 10 * 1024;
    if value.is_null() {
        errors.push(FieldError::required(path, ""));
    } else if value.to_string().len() > BYTES_MAX {
        errors.push(FieldError::too_long(path, BYTES_MAX));
    } else if !value.is_object() {
        let detail = "must be a valid JSON object";
        errors.push(FieldError::invalid(path, "<value omitted>", detail));
    }
}

/// What is claimed never changes.
pub(crate) fn spec_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    immutable(spec(new), spec(old), &Path::new("spec"), errors);
}

/// As many consumers may use a claim at a time.
const CONSUMERS_MAX: usize = 256;

/// Who may use a claim, and which devices it has got.
pub(crate) fn claim_status(subresource: &str, new: &Object, old: &Object, errors: &mut ErrorList) {
    if subresource != "status" {
        return;
    }
    let (now, before) = (status(new), status(old));
    let path = Path::new("status");
    let consumers = now.list("reservedFor");
    let reserved = path.child("reservedFor");
    if consumers.len() > CONSUMERS_MAX {
        errors.push(FieldError::too_many(
            &reserved,
            consumers.len(),
            CONSUMERS_MAX,
        ));
    }
    let mut seen = BTreeSet::new();
    for (path, consumer) in items(now, "reservedFor", &path) {
        for field in ["resource", "name", "uid"] {
            require(consumer, field, &path, errors);
        }
        if !seen.insert(consumer.text("uid")) {
            let uid = consumer.text("uid");
            errors.push(FieldError::duplicate(&path.child("uid"), uid));
        }
    }
    let mut told = ErrorList::new();
    super::allocation::devices(now, &path, &mut told);
    if !told.is_empty() {
        // What an older server let a driver tell stays, and keeps no pod from letting go of the claim.
        let mut known = ErrorList::new();
        super::allocation::devices(before, &path, &mut known);
        told.retain(|error| !known.contains(error));
        errors.append(&mut told);
    }
    let (allocation, allocated) = (now.at("allocation"), before.at("allocation"));
    if !consumers.is_empty() && allocation.is_null() {
        let detail = "may not be specified when `allocated` is not set";
        errors.push(FieldError::forbidden(&reserved, detail));
    }
    let known = before.list("reservedFor");
    let is_new = |consumer: &Value| !known.contains(consumer);
    if !allocation.is_null() && old.deletion_timestamp().is_some() && consumers.iter().any(is_new) {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(FieldError::forbidden(&reserved, detail));
    }
    let path = path.child("allocation");
    match (allocation.is_null(), allocated.is_null()) {
        (false, false) => immutable(allocation, allocated, &path, errors),
        (false, true) => {
            let asked = spec(new).at("devices");
            super::allocation::allocation(allocation, asked, &path, errors);
        }
        (true, _) => {}
    }
}
