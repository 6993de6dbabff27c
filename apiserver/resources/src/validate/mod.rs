//! Validation: why an object may not be stored, in Kubernetes' words. One file a topic; the pieces that topics share
//! stand here. A rule reads what may have any shape, so it goes through [`crate::look`] and reports, never panics.

pub(crate) mod admission;
pub(crate) mod affinity;
mod allocation;
pub(crate) mod batch;
pub(crate) mod certificate;
mod conditions;
pub(crate) mod config;
pub(crate) mod container;
mod container_env;
mod container_resources;
mod device;
pub(crate) mod devices;
pub(crate) mod endpoints;
pub(crate) mod event;
pub(crate) mod extensions;
mod flow_rules;
mod handler;
mod job_policies;
pub(crate) mod lease;
mod mounts;
pub(crate) mod namespace;
pub(crate) mod network;
pub(crate) mod node;
mod pkcs10;
pub(crate) mod pod;
mod pod_annotations;
mod pod_resize;
mod pod_security;
mod pod_status;
pub(crate) mod pod_update;
pub(crate) mod pod_volume;
pub(crate) mod policy;
pub(crate) mod quota;
pub(crate) mod rbac;
mod resource_name;
pub(crate) mod reviews;
pub(crate) mod scaler;
pub(crate) mod service;
pub(crate) mod slice;
mod slice_device;
pub(crate) mod storage;
pub(crate) mod versions;
pub(crate) mod volume;
mod volume_source;
pub(crate) mod warnings;
pub(crate) mod workload;

#[cfg(test)]
mod tests;

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::quantity::Quantity;
use serde_json::Value;

use crate::look::{Look, whole};
use crate::meta;
use crate::resource::same;

pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const POSITIVE: &str = "must be greater than 0";
pub(crate) const GREATER_THAN_ZERO: &str = "must be greater than zero";
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// Items of a list with their paths.
pub(crate) fn items<'a>(
    parent: &'a (impl Look + ?Sized),
    field: &str,
    path: &Path,
) -> impl Iterator<Item = (Path, &'a Value)> {
    let list = parent.list(field);
    // Most lists are empty, and their paths are nobody's.
    let path = match list.is_empty() {
        true => Path::root(),
        false => path.child(field),
    };
    list.iter()
        .enumerate()
        .map(move |(at, item)| (path.index(at), item))
}

/// A map that says something, with its path. Most are absent or empty: rules about what is in them need no path then.
pub(crate) fn filled<'a>(
    parent: &'a (impl Look + ?Sized),
    field: &str,
    path: &Path,
) -> Option<(&'a Value, Path)> {
    let value = parent.at(field);
    let says = value.as_object().is_some_and(|map| !map.is_empty());
    says.then(|| (value, path.child(field)))
}

/// A text that must be there.
pub(crate) fn require(
    parent: &(impl Look + ?Sized),
    field: &str,
    path: &Path,
    errors: &mut ErrorList,
) -> bool {
    let there = !parent.text(field).is_empty();
    if !there {
        errors.push(FieldError::required(&path.child(field), ""));
    }
    there
}

/// Pushes a message for each thing that is wrong with a text.
pub(crate) fn complain(messages: Vec<String>, path: &Path, value: &str, errors: &mut ErrorList) {
    errors.extend(
        messages
            .into_iter()
            .map(|message| FieldError::invalid(path, value, message)),
    );
}

/// The same of a field, whose path is made where something is wrong.
pub(crate) fn complain_of(
    messages: Vec<String>,
    field: &str,
    path: &Path,
    value: &str,
    errors: &mut ErrorList,
) {
    if !messages.is_empty() {
        complain(messages, &path.child(field), value, errors);
    }
}

/// Whose a thing is and what it is called: a domain, a slash, and a path.
pub(crate) fn domain_path(value: &str, path: &Path, errors: &mut ErrorList) {
    let in_paths = |char: char| char.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(char);
    match value.split_once('/') {
        _ if value.is_empty() => errors.push(FieldError::required(path, "")),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            complain(names::is_dns1123_subdomain(host), path, host, errors);
            if !rest.chars().all(in_paths) {
                let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(FieldError::invalid(path, rest, detail));
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, value, detail));
        }
    }
}

/// An integer field that may be absent but not negative.
pub(crate) fn not_negative(
    parent: &(impl Look + ?Sized),
    field: &str,
    path: &Path,
    errors: &mut ErrorList,
) {
    if let Some(number) = parent.int(field).filter(|number| *number < 0) {
        errors.push(FieldError::invalid(
            &path.child(field),
            number,
            NOT_NEGATIVE,
        ));
    }
}

/// A text that must be one of a list; absent is an error too.
pub(crate) fn one_of(
    parent: &(impl Look + ?Sized),
    field: &str,
    supported: &[&str],
    path: &Path,
    errors: &mut ErrorList,
) {
    if require(parent, field, path, errors) {
        optional_one_of(parent, field, supported, path, errors);
    }
}

/// A text that must be one of a list when it is there.
pub(crate) fn optional_one_of(
    parent: &(impl Look + ?Sized),
    field: &str,
    supported: &[&str],
    path: &Path,
    errors: &mut ErrorList,
) {
    let text = parent.text(field);
    if !text.is_empty() && !supported.contains(&text) {
        errors.push(FieldError::not_supported(
            &path.child(field),
            text,
            supported,
        ));
    }
}

/// A field that an update may not change.
pub(crate) fn immutable(new: &Value, old: &Value, path: &Path, errors: &mut ErrorList) {
    if !same(Some(new), Some(old)) {
        errors.push(FieldError::invalid(path, new.clone(), IMMUTABLE));
    }
}

/// A port number.
pub(crate) fn port_number(number: i64, path: &Path, errors: &mut ErrorList) {
    for message in names::is_valid_port_num(number) {
        errors.push(FieldError::invalid(path, number, message));
    }
}

/// The same of a field, whose path is made where something is wrong.
pub(crate) fn port_number_of(number: i64, field: &str, path: &Path, errors: &mut ErrorList) {
    let messages = names::is_valid_port_num(number);
    if !messages.is_empty() {
        port_number(number, &path.child(field), errors);
    }
}

/// A port number or the name of a port.
pub(crate) fn port(value: &Value, path: &Path, errors: &mut ErrorList) {
    match value {
        Value::String(name) => complain(names::is_valid_port_name(name), path, name, errors),
        _ => port_number(whole(value).unwrap_or(0), path, errors),
    }
}

/// The same in a field, whose path is made where something is wrong.
pub(crate) fn port_of(
    parent: &(impl Look + ?Sized),
    field: &str,
    path: &Path,
    errors: &mut ErrorList,
) {
    match parent.at(field) {
        Value::String(name) => {
            complain_of(names::is_valid_port_name(name), field, path, name, errors)
        }
        other => port_number_of(whole(other).unwrap_or(0), field, path, errors),
    }
}

/// A label selector, wherever it stands.
pub(crate) fn label_selector(selector: &Value, path: &Path, errors: &mut ErrorList) {
    if let Some((labels, path)) = filled(selector, "matchLabels", path) {
        meta::labels(labels, &path, errors);
    }
    for (path, term) in items(selector, "matchExpressions", path) {
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
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => {
                errors.push(FieldError::invalid(
                    &path.child("operator"),
                    other,
                    "not a valid selector operator",
                ));
            }
        }
        meta::label_name_of(term, "key", &path, errors);
        for (at, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or("");
            complain(
                names::is_valid_label_value(value),
                &path.child("values").index(at),
                value,
                errors,
            );
        }
    }
}

/// Whether a label selector selects everything.
pub(crate) fn selects_all(selector: &Value) -> bool {
    selector
        .at("matchLabels")
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
        && selector.list("matchExpressions").is_empty()
}

/// An amount; None (and an error) when the text is none.
pub(crate) fn quantity(value: &Value, path: &Path, errors: &mut ErrorList) -> Option<Quantity> {
    match Quantity::from_json(value) {
        Ok(quantity) => Some(quantity),
        Err(error) => {
            errors.push(FieldError::invalid(path, value.clone(), error.to_string()));
            None
        }
    }
}

/// An amount that is not negative.
pub(crate) fn amount(value: &Value, path: &Path, errors: &mut ErrorList) -> Option<Quantity> {
    let quantity = quantity(value, path, errors)?;
    if quantity.sign() < 0 {
        errors.push(FieldError::invalid(
            path,
            quantity.to_string(),
            NOT_NEGATIVE,
        ));
    }
    Some(quantity)
}

/// A count or a percentage, not negative.
pub(crate) fn count_or_percent(value: &Value, path: &Path, errors: &mut ErrorList) {
    match value {
        Value::Null => {}
        Value::String(text) => complain(names::is_valid_percent(text), path, text, errors),
        _ => {
            if let Some(number) = whole(value).filter(|number| *number < 0) {
                errors.push(FieldError::invalid(path, number, NOT_NEGATIVE));
            }
        }
    }
}

/// The percentage in an int-or-string.
pub(crate) fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%')?.parse().ok()
}

/// Percentages that make no sense above a hundred.
pub(crate) fn at_most_hundred_percent(value: &Value, path: &Path, errors: &mut ErrorList) {
    if percent(value).is_some_and(|percent| percent > 100) {
        errors.push(FieldError::invalid(
            path,
            value.clone(),
            "must not be greater than 100%",
        ));
    }
}

/// Whether the int-or-string is zero or "0%".
pub(crate) fn is_zero(value: &Value) -> bool {
    whole(value) == Some(0) || percent(value) == Some(0)
}
