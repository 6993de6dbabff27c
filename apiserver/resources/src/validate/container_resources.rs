//! What containers, and pods as a whole, ask for and may use.

use std::collections::BTreeSet;

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::quantity::Quantity;
use serde_json::Value;

use super::resource_name::{self, is_huge_page};
use super::{complain, filled, items};
use crate::look::Look;
use crate::quota::of_containers;

/// Requests and limits of one container. `claims` are the names of the pod's claims on devices.
pub(crate) fn of_container(
    resources: &Value,
    claims: &BTreeSet<&str>,
    path: &Path,
    errors: &mut ErrorList,
) {
    requirements(resources, resource_name::of_container, path, errors);
    claimed(resources, claims, path, errors);
}

/// What a pod needs beside its containers.
pub(crate) fn overhead(amounts: &Value, path: &Path, errors: &mut ErrorList) {
    let amounts = amounts.as_object().into_iter().flatten();
    for (name, value) in amounts {
        // Kubernetes takes them for limits, and says so.
        let path = path.child("limits").key(name);
        resource_name::of_container(name, &path, errors);
        resource_name::value(name, value, &path, errors);
    }
}

/// Requests and limits of a pod as a whole, and of its containers within them.
pub(crate) fn of_pod(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let resources = spec.at("resources");
    if resources.is_null() {
        return;
    }
    let path = path.child("resources");
    if spec.at("os").text("name") == "windows" {
        let detail = "may not be set for a windows pod";
        errors.push(FieldError::forbidden(&path, detail));
        return;
    }
    if resources.has("claims") {
        let detail = "claims may not be set for Resources at pod-level";
        errors.push(FieldError::forbidden(&path.child("claims"), detail));
    }
    requirements(resources, resource_name::of_pod, &path, errors);
    within_pod(spec, &path, errors);
}

fn within_pod(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let whole = |field: &str, name: &str| {
        let amount = spec.at("resources").at(field).at(name);
        Quantity::from_json(amount).ok()
    };
    for (name, sum) in of_containers(spec, "requests") {
        if let Some(amount) = whole("requests", &name).filter(|amount| sum > *amount) {
            let detail =
                format!("must be greater than or equal to aggregate container requests of {sum}");
            let path = path.child("requests").key(&name);
            errors.push(FieldError::invalid(&path, amount.to_string(), detail));
        }
    }
    for (name, sum) in of_containers(spec, "limits") {
        if !is_huge_page(&name) {
            continue;
        }
        if let Some(amount) = whole("limits", &name).filter(|amount| sum > *amount) {
            let detail =
                format!("must be greater than or equal to aggregate container limits of {sum}");
            let path = path.child("limits").key(&name);
            errors.push(FieldError::invalid(&path, amount.to_string(), detail));
        }
    }
    for (at, container) in spec.list("containers").iter().enumerate() {
        for (name, value) in container.at("resources").entries("limits") {
            let (Ok(own), Some(most)) = (Quantity::from_json(value), whole("limits", name)) else {
                continue;
            };
            if own > most {
                let path = path.child("containers").index(at).key(name).child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(FieldError::invalid(&path, own.to_string(), detail));
            }
        }
    }
}

/// Requests within limits, of resources with names that the rule lets pass.
fn requirements(
    resources: &Value,
    rule: fn(&str, &Path, &mut ErrorList),
    path: &Path,
    errors: &mut ErrorList,
) {
    let (mut has_huge_pages, mut has_others) = (false, false);
    for field in ["limits", "requests"] {
        let Some((amounts, list)) = filled(resources, field, path) else {
            continue;
        };
        for (name, value) in amounts.as_object().into_iter().flatten() {
            let place = list.key(name);
            rule(name, &place, errors);
            has_others |= matches!(name.as_str(), "cpu" | "memory");
            has_huge_pages |= is_huge_page(name);
            let Some(amount) = resource_name::value(name, value, &place, errors) else {
                continue;
            };
            if field == "requests" {
                let limits = resources.at("limits");
                request(name, amount, limits, path, errors);
            }
            if is_huge_page(name) && !is_in_pages(name, amount) {
                let detail = format!("{amount} is not positive integer multiple of {name}");
                errors.push(FieldError::invalid(&place, amount.to_string(), detail));
            }
        }
    }
    if has_huge_pages && !has_others {
        errors.push(FieldError::forbidden(
            path,
            "HugePages require cpu or memory",
        ));
    }
}

fn request(name: &str, amount: Quantity, limits: &Value, path: &Path, errors: &mut ErrorList) {
    let is_exact = !resource_name::may_be_overcommitted(name);
    let path = |field: &str| path.child(field);
    let detail = match Quantity::from_json(limits.at(name)).ok() {
        Some(limit) if is_exact && amount != limit => {
            format!("must be equal to {name} limit of {limit}")
        }
        Some(limit) if amount > limit => {
            format!("must be less than or equal to {name} limit of {limit}")
        }
        None if is_exact && !limits.has(name) => {
            let detail = "Limit must be set for non overcommitable resources";
            errors.push(FieldError::required(&path("limits"), detail));
            return;
        }
        _ => return,
    };
    let path = path("requests");
    errors.push(FieldError::invalid(&path, amount.to_string(), detail));
}

/// Whether the amount is a number of pages of the size in the name.
fn is_in_pages(name: &str, amount: Quantity) -> bool {
    let size = name.strip_prefix("hugepages-").unwrap_or("");
    let size = Quantity::parse(size).ok().filter(|size| size.sign() > 0);
    size.is_some_and(|size| size.milli_value() % 1000 == 0 && amount.value() % size.value() == 0)
}

/// Claims of a container are among those of its pod, and each stands there once.
fn claimed(resources: &Value, claims: &BTreeSet<&str>, path: &Path, errors: &mut ErrorList) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (path, claim) in items(resources, "claims", path) {
        let (name, request) = (claim.text("name"), claim.text("request"));
        if name.is_empty() {
            errors.push(FieldError::required(&path, ""));
            continue;
        }
        if !request.is_empty() {
            let place = path.child("request");
            complain(names::is_dns1123_label(request), &place, request, errors);
        }
        if seen.contains(&(name, ""))
            || (request.is_empty() && seen.iter().any(|one| one.0 == name))
        {
            errors.push(FieldError::duplicate(&path, name));
        } else if seen.contains(&(name, request)) {
            errors.push(FieldError::duplicate(&path, format!("{name}/{request}")));
        }
        seen.insert((name, request));
        if !claims.contains(name) {
            errors.push(FieldError {
                detail: known(claims),
                ..FieldError::not_found(&path, name)
            });
        }
    }
}

fn known(claims: &BTreeSet<&str>) -> String {
    let names: Vec<&str> = claims.iter().copied().collect();
    let list = match names.is_empty() {
        true => " which is empty".to_owned(),
        false => format!(": {}", names.join(", ")),
    };
    format!("must be one of the names in pod.spec.resourceClaims{list}")
}
