//! Quotas and limit ranges.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::quantity::Quantity;
use serde_json::Value;

use super::{amount, complain, immutable, items, quantity};
use crate::look::{Look, spec, status};

const SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Counts of objects, which cannot be fractions.
fn is_count(name: &str) -> bool {
    name.starts_with("count/")
        || matches!(
            name,
            "pods"
                | "services"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
                | "services.nodeports"
                | "services.loadbalancers"
        )
}

fn quota_resource(name: &str, path: &Path, errors: &mut ErrorList) {
    complain(names::is_qualified_name(name), path, name, errors);
    let standard = is_count(name)
        || matches!(name, "cpu" | "memory" | "ephemeral-storage" | "storage")
        || ["requests.", "limits.", "hugepages-"]
            .iter()
            .any(|prefix| name.starts_with(prefix));
    if !name.contains('/') && !standard {
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource for quota",
        ));
    }
}

/// ResourceQuota.
pub(crate) fn resource_quota(object: &Object, errors: &mut ErrorList) {
    for (parent, field, path) in [
        (spec(object), "hard", "spec"),
        (status(object), "hard", "status"),
        (status(object), "used", "status"),
    ] {
        for (name, value) in parent.entries(field) {
            let path = Path::new(path).child(field).key(name);
            quota_resource(name, &path, errors);
            if let Some(quantity) = amount(value, &path, errors)
                && is_count(name)
                && quantity.milli_value() % 1000 != 0
            {
                errors.push(FieldError::invalid(
                    &path,
                    quantity.to_string(),
                    "must be an integer",
                ));
            }
        }
    }
    let path = Path::new("spec");
    scopes(spec(object), &path.child("scopes"), errors);
    selected_scopes(spec(object), &path.child("scopeSelector"), errors);
}

/// Whether a quota of this scope can count the resource; resources that are not Kubernetes' own go with any.
fn counts(scope: &str, resource: &str) -> bool {
    let standard = (is_count(resource) && !resource.starts_with("count/"))
        || matches!(
            resource,
            "cpu" | "memory" | "ephemeral-storage" | "requests.storage"
        )
        || matches!(
            resource.split_once('.'),
            Some((
                "requests" | "limits",
                "cpu" | "memory" | "ephemeral-storage"
            ))
        );
    let computes = matches!(
        resource,
        "cpu" | "memory" | "requests.cpu" | "requests.memory" | "limits.cpu" | "limits.memory"
    );
    !standard
        || match scope {
            "BestEffort" => resource == "pods",
            "VolumeAttributesClass" => {
                matches!(resource, "persistentvolumeclaims" | "requests.storage")
            }
            _ => resource == "pods" || computes,
        }
}

/// Scopes that no object is in at the same time.
fn contradict(scopes: &[&str]) -> bool {
    let both = |one, other| scopes.contains(&one) && scopes.contains(&other);
    both("BestEffort", "NotBestEffort") || both("Terminating", "NotTerminating")
}

fn scopes(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let scopes = spec.texts("scopes");
    let mut refuse =
        |detail: &str| errors.push(FieldError::invalid(path, spec.at("scopes").clone(), detail));
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            refuse("unsupported scope");
            continue;
        }
        for _ in spec
            .entries("hard")
            .filter(|(resource, _)| !counts(scope, resource))
        {
            refuse("unsupported scope applied to resource");
        }
    }
    if contradict(&scopes) {
        refuse("conflicting scopes");
    }
}

fn selected_scopes(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let selector = spec.at("scopeSelector");
    let mut names = Vec::new();
    let whole = path.child("matchExpressions");
    for (path, term) in items(selector, "matchExpressions", path) {
        let scope = term.text("scopeName");
        names.push(scope);
        if SCOPES.contains(&scope) {
            for _ in spec
                .entries("hard")
                .filter(|(resource, _)| !counts(scope, resource))
            {
                let detail = "unsupported scope applied to resource";
                errors.push(FieldError::invalid(&whole, selector.clone(), detail));
            }
        } else {
            errors.push(FieldError::invalid(
                &path.child("scopeName"),
                scope,
                "unsupported scope",
            ));
        }
        let valued = matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope) && !valued && term.text("operator") != "Exists" {
            errors.push(FieldError::invalid(
                &path.child("operator"),
                term.text("operator"),
                "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
                 ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
                 ResourceQuotaScopeCrossNamespacePodAffinity",
            ));
        }
        let values = term.list("values");
        match term.text("operator") {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &path.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::invalid(
                &path.child("values"),
                term.at("values").clone(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                &path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
    }
    if contradict(&names) {
        errors.push(FieldError::invalid(
            &whole,
            selector.clone(),
            "conflicting scopes",
        ));
    }
}

/// What a quota counts never changes, how much it grants does.
pub(crate) fn resource_quota_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("scopes");
    immutable(
        spec(new).at("scopes"),
        spec(old).at("scopes"),
        &path,
        errors,
    );
}

/// LimitRange.
pub(crate) fn limit_range(object: &Object, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (path, item) in items(spec(object), "limits", &Path::new("spec")) {
        let kind = item.text("type");
        complain(
            names::is_qualified_name(kind),
            &path.child("type"),
            kind,
            errors,
        );
        if seen.contains(&kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
        seen.push(kind);
        for field in [
            "max",
            "min",
            "default",
            "defaultRequest",
            "maxLimitRequestRatio",
        ] {
            for (name, value) in item.entries(field) {
                quantity(value, &path.child(field).key(name), errors);
            }
        }
        if kind == "Pod" {
            for field in ["default", "defaultRequest"] {
                if item
                    .at(field)
                    .as_object()
                    .is_some_and(|map| !map.is_empty())
                {
                    let detail = "may not be specified when `type` is 'Pod'";
                    errors.push(FieldError::forbidden(&path.child(field), detail));
                }
            }
        }
        order(item, &path, errors);
    }
}

/// min <= defaultRequest <= default <= max, for whatever of them is there.
fn order(item: &Value, path: &Path, errors: &mut ErrorList) {
    const PAIRS: [(&str, &str, &str, &str); 6] = [
        ("min", "max", "min value", "max value"),
        (
            "min",
            "defaultRequest",
            "min value",
            "default request value",
        ),
        ("min", "default", "min value", "default value"),
        (
            "defaultRequest",
            "max",
            "default request value",
            "max value",
        ),
        (
            "defaultRequest",
            "default",
            "default request value",
            "default limit value",
        ),
        ("default", "max", "default value", "max value"),
    ];
    for (low, high, low_words, high_words) in PAIRS {
        for (name, value) in item.entries(low) {
            let (Ok(a), Ok(b)) = (
                Quantity::from_json(value),
                Quantity::from_json(item.at(high).at(name)),
            ) else {
                continue;
            };
            if a > b {
                let detail = format!("{low_words} {a} is greater than {high_words} {b}");
                errors.push(FieldError::invalid(
                    &path.child(low).key(name),
                    a.to_string(),
                    detail,
                ));
            }
        }
    }
}
