//! Quotas and limit ranges.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::quantity::Quantity;
use serde_json::Value;

use super::{complain, items, quantity, resource_name};
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

/// ResourceQuota.
pub(crate) fn resource_quota(object: &Object, errors: &mut ErrorList) {
    for (parent, field, path) in [
        (spec(object), "hard", "spec"),
        (status(object), "hard", "status"),
        (status(object), "used", "status"),
    ] {
        for (name, value) in parent.entries(field) {
            let path = Path::new(path).child(field).key(name);
            resource_name::of_quota(name, &path, errors);
            resource_name::value(name, value, &path, errors);
        }
    }
    let path = Path::new("spec");
    scopes(spec(object), &path.child("scopes"), errors);
    selected_scopes(spec(object), &path.child("scopeSelector"), errors);
}

/// Whether a quota of this scope can count the resource; resources that are not Kubernetes' own go with any.
fn counts(scope: &str, resource: &str) -> bool {
    let standard = resource_name::is_of_quotas(resource);
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
    // Kubernetes does not say which of them is wrong.
    let path = &path.child("matchExpressions");
    for term in selector.list("matchExpressions") {
        let scope = term.text("scopeName");
        names.push(scope);
        if SCOPES.contains(&scope) {
            for _ in spec
                .entries("hard")
                .filter(|(resource, _)| !counts(scope, resource))
            {
                let detail = "unsupported scope applied to resource";
                errors.push(FieldError::invalid(path, selector.clone(), detail));
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
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, \
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
        let shown = spec.at("scopes").clone();
        errors.push(FieldError::invalid(path, shown, "conflicting scopes"));
    }
}

/// What a quota counts never changes, how much it grants does.
pub(crate) fn resource_quota_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let scopes = |object: &Object| {
        let scopes = spec(object).texts("scopes").into_iter();
        scopes.map(str::to_owned).collect::<BTreeSet<String>>()
    };
    if scopes(new) != scopes(old) {
        let path = Path::new("spec").child("scopes");
        let shown = spec(new).at("scopes").clone();
        errors.push(FieldError::invalid(&path, shown, super::IMMUTABLE));
    }
}

/// LimitRange.
pub(crate) fn limit_range(object: &Object, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (path, item) in items(spec(object), "limits", &Path::new("spec")) {
        let kind = item.text("type");
        limit_type(kind, &path.child("type"), errors);
        if seen.contains(&kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
        seen.push(kind);
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for field in [
            "max",
            "min",
            "default",
            "defaultRequest",
            "maxLimitRequestRatio",
        ] {
            let is_filled = item
                .at(field)
                .as_object()
                .is_some_and(|map| !map.is_empty());
            if kind == "Pod" && field.starts_with("default") {
                if is_filled {
                    let detail = "may not be specified when `type` is 'Pod'";
                    errors.push(FieldError::forbidden(&path.child(field), detail));
                }
                continue;
            }
            for (name, value) in item.entries(field) {
                let path = path.child(field).key(name);
                match kind {
                    "Pod" | "Container" => resource_name::of_container(name, &path, errors),
                    _ => {
                        resource_name::any(name, &path, errors);
                    }
                }
                quantity(value, &path, errors);
                names.insert(name);
            }
        }
        let has_size = item.at("min").has("storage") || item.at("max").has("storage");
        if kind == "PersistentVolumeClaim" && !has_size {
            let detail =
                "either minimum or maximum storage value is required, but neither was provided";
            errors.push(FieldError::required(&path.child("limits"), detail));
        }
        for name in names {
            order(item, name, &path, errors);
            ratio(item, name, &path, errors);
            exact(item, name, &path, errors);
        }
    }
}

fn limit_type(kind: &str, path: &Path, errors: &mut ErrorList) {
    let messages = names::is_qualified_name(kind);
    let is_known =
        kind.contains('/') || matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
    if messages.is_empty() && !is_known {
        let detail = "must be a standard limit type or fully qualified";
        errors.push(FieldError::invalid(path, kind, detail));
    }
    complain(messages, path, kind, errors);
}

fn amount_of(item: &Value, field: &str, name: &str) -> Option<Quantity> {
    let is_of_pod = item.text("type") == "Pod" && field.starts_with("default");
    let amount = item.at(field).at(name);
    Quantity::from_json(amount).ok().filter(|_| !is_of_pod)
}

/// min <= defaultRequest <= default <= max, for whatever of them is there. The field that is blamed, and the amount that
/// is shown, are those of Kubernetes.
fn order(item: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    const PAIRS: [(&str, &str, &str, &str, &str, bool); 6] = [
        ("min", "max", "min value", "max value", "min", true),
        (
            "min",
            "defaultRequest",
            "min value",
            "default request value",
            "defaultRequest",
            false,
        ),
        (
            "defaultRequest",
            "max",
            "default request value",
            "max value",
            "defaultRequest",
            true,
        ),
        (
            "defaultRequest",
            "default",
            "default request value",
            "default limit value",
            "defaultRequest",
            true,
        ),
        (
            "min",
            "default",
            "min value",
            "default value",
            "default",
            true,
        ),
        (
            "default",
            "max",
            "default value",
            "max value",
            "default",
            false,
        ),
    ];
    for (low, high, low_words, high_words, blamed, shows_low) in PAIRS {
        let (Some(a), Some(b)) = (amount_of(item, low, name), amount_of(item, high, name)) else {
            continue;
        };
        if a > b {
            let detail = format!("{low_words} {a} is greater than {high_words} {b}");
            let shown = if shows_low { a } else { b };
            let path = path.child(blamed).key(name);
            errors.push(FieldError::invalid(&path, shown.to_string(), detail));
        }
    }
}

/// How much more may be used than is promised, at most.
fn ratio(item: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    let of = |field: &str| amount_of(item, field, name);
    let Some(ratio) = of("maxLimitRequestRatio") else {
        return;
    };
    let path = path.child("maxLimitRequestRatio").key(name);
    if ratio.as_f64() < 1.0 {
        let detail = format!("ratio {ratio} is less than 1");
        errors.push(FieldError::invalid(&path, ratio.to_string(), detail));
    }
    let (Some(least), Some(most)) = (of("min"), of("max")) else {
        return;
    };
    let limit = most.as_f64() / least.as_f64();
    if ratio.as_f64() > limit {
        let detail = format!("ratio {ratio} is greater than max/min = {limit:.6}");
        errors.push(FieldError::invalid(&path, ratio.to_string(), detail));
    }
}

/// Of what cannot be promised twice, default and default request are the same.
fn exact(item: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    let (limit, request) = (
        amount_of(item, "default", name),
        amount_of(item, "defaultRequest", name),
    );
    if let (Some(limit), Some(request), false) =
        (limit, request, resource_name::may_be_overcommitted(name))
        && limit != request
    {
        let detail =
            format!("default value {limit} must equal to defaultRequest value {request} in {name}");
        let path = path.child("defaultRequest").key(name);
        errors.push(FieldError::invalid(&path, request.to_string(), detail));
    }
}
