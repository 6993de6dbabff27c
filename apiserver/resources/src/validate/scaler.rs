//! Horizontal pod autoscalers in both shapes.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{
    GREATER_THAN_ZERO, POSITIVE, amount, complain, complain_of, items, not_negative, quantity,
    require, resource_name,
};
use crate::look::{Look, spec, status};

fn bounds(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let least = spec.int("minReplicas");
    if let Some(least) = least.filter(|least| *least < 1) {
        let detail = "must be greater than or equal to 1";
        errors.push(FieldError::invalid(
            &path.child("minReplicas"),
            least,
            detail,
        ));
    }
    let most = spec.int("maxReplicas").unwrap_or(0);
    if most < 1 {
        errors.push(FieldError::invalid(
            &path.child("maxReplicas"),
            most,
            POSITIVE,
        ));
    }
    if least.is_some_and(|least| most < least) {
        let detail = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(
            &path.child("maxReplicas"),
            most,
            detail,
        ));
    }
    target(
        spec.at("scaleTargetRef"),
        &path.child("scaleTargetRef"),
        errors,
    );
}

fn target(target: &Value, path: &Path, errors: &mut ErrorList) {
    for field in ["kind", "name"] {
        if require(target, field, path, errors) {
            let name = target.text(field);
            complain(
                names::is_valid_path_segment_name(name),
                &path.child(field),
                name,
                errors,
            );
        }
    }
}

/// autoscaling/v1.
pub(crate) fn v1(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    bounds(spec, &path, errors);
    if let Some(percent) = spec
        .int("targetCPUUtilizationPercentage")
        .filter(|percent| *percent < 1)
    {
        errors.push(FieldError::invalid(
            &path.child("targetCPUUtilizationPercentage"),
            percent,
            POSITIVE,
        ));
    }
}

/// Sources of metrics by their types, in the order in which Kubernetes looks at their fields.
const SOURCES: &[(&str, &str)] = &[
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const KINDS: &[&str] = &[
    "ContainerResource",
    "External",
    "Object",
    "Pods",
    "Resource",
];

/// autoscaling/v2.
pub(crate) fn v2(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    bounds(spec, &path, errors);
    for (path, metric) in items(spec, "metrics", &path) {
        metric_spec(metric, &path, errors);
    }
    let (behavior, path) = (spec.at("behavior"), path.child("behavior"));
    for direction in ["scaleUp", "scaleDown"] {
        if behavior.has(direction) {
            scaling_rules(behavior.at(direction), &path.child(direction), errors);
        }
    }
}

fn metric_spec(metric: &Value, path: &Path, errors: &mut ErrorList) {
    let kind = metric.text("type");
    if kind.is_empty() {
        let path = path.child("type");
        errors.push(FieldError::required(
            &path,
            "must specify a metric source type",
        ));
    }
    let expected = SOURCES.iter().find(|(name, _)| *name == kind);
    if expected.is_none() {
        errors.push(FieldError::not_supported(&path.child("type"), kind, KINDS));
    }
    let present: Vec<&str> = (SOURCES.iter().map(|(_, field)| *field))
        .filter(|field| metric.has(field))
        .collect();
    if let Some(field) = present.first() {
        source(field, metric.at(field), &path.child(field), errors);
    }
    let expected = expected.map_or("", |(_, field)| *field);
    if !expected.is_empty() && !metric.has(expected) {
        let detail = "must populate information for the given metric source";
        errors.push(FieldError::required(&path.child(expected), detail));
    }
    if present.len() > 1 {
        for field in present.into_iter().filter(|field| *field != expected) {
            let detail = "must populate the given metric source only";
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
}

fn source(field: &str, source: &Value, path: &Path, errors: &mut ErrorList) {
    match field {
        "resource" | "containerResource" => resource(field, source, path, errors),
        _ => {
            if field == "object" {
                let path = path.child("describedObject");
                target(source.at("describedObject"), &path, errors);
            }
            metric_name(source.at("metric"), &path.child("metric"), errors);
        }
    }
    let (target, path) = (source.at("target"), path.child("target"));
    metric_target(target, &path, errors);
    let has = |field: &str| target.has(field);
    let missing = match field {
        "object" if !has("value") && !has("averageValue") => (
            "averageValue",
            "must set either a target value or averageValue",
        ),
        "external" if !has("value") && !has("averageValue") => (
            "averageValue",
            "must set either a target value for metric or a per-pod target",
        ),
        "pods" if !has("averageValue") => (
            "averageValue",
            "must specify a positive target averageValue",
        ),
        "resource" | "containerResource" if !has("averageUtilization") && !has("averageValue") => (
            "averageUtilization",
            "must set either a target raw value or a target utilization",
        ),
        _ => return too_much(field, target, &path, errors),
    };
    errors.push(FieldError::required(&path.child(missing.0), missing.1));
}

fn too_much(field: &str, target: &Value, path: &Path, errors: &mut ErrorList) {
    let has = |field: &str| target.has(field);
    let (twice, detail) = match field {
        "external" if has("value") && has("averageValue") => (
            "value",
            "may not set both a target value for metric and a per-pod target",
        ),
        "resource" | "containerResource" if has("averageUtilization") && has("averageValue") => (
            "averageValue",
            "may not set both a target raw value and a target utilization",
        ),
        _ => return,
    };
    errors.push(FieldError::forbidden(&path.child(twice), detail));
}

fn resource(field: &str, source: &Value, path: &Path, errors: &mut ErrorList) {
    let (name, container) = (source.text("name"), source.text("container"));
    if name.is_empty() {
        let path = path.child("name");
        errors.push(FieldError::required(&path, "must specify a resource name"));
    }
    if field == "resource" {
        return;
    }
    if !name.is_empty() {
        resource_name::of_container(name, &path.child("name"), errors);
    }
    if container.is_empty() {
        let path = path.child("container");
        errors.push(FieldError::required(&path, "must specify a container"));
    } else {
        let messages = names::is_dns1123_label(container);
        complain_of(messages, "container", path, container, errors);
    }
}

fn metric_name(metric: &Value, path: &Path, errors: &mut ErrorList) {
    let name = metric.text("name");
    if name.is_empty() {
        let path = path.child("name");
        errors.push(FieldError::required(&path, "must specify a metric name"));
    } else {
        let messages = names::is_valid_path_segment_name(name);
        complain_of(messages, "name", path, name, errors);
    }
}

fn metric_target(target: &Value, path: &Path, errors: &mut ErrorList) {
    let kind = target.text("type");
    if kind.is_empty() {
        let path = path.child("type");
        errors.push(FieldError::required(
            &path,
            "must specify a metric target type",
        ));
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.push(FieldError::invalid(&path.child("type"), kind, detail));
    }
    for field in ["value", "averageValue"] {
        let path = path.child(field);
        if target.has(field)
            && let Some(amount) = quantity(target.at(field), &path, errors)
            && amount.sign() != 1
        {
            let amount = amount.to_string();
            errors.push(FieldError::invalid(&path, amount, "must be positive"));
        }
    }
    let field = "averageUtilization";
    if let Some(percent) = target.int(field).filter(|percent| *percent < 1) {
        errors.push(FieldError::invalid(&path.child(field), percent, POSITIVE));
    }
}

fn scaling_rules(rules: &Value, path: &Path, errors: &mut ErrorList) {
    const WINDOW_MAX: i64 = 3600;
    let (window, window_path) = (
        rules.int("stabilizationWindowSeconds"),
        path.child("stabilizationWindowSeconds"),
    );
    if let Some(seconds) = window.filter(|seconds| *seconds < 0) {
        let detail = "must be greater than or equal to zero";
        errors.push(FieldError::invalid(&window_path, seconds, detail));
    }
    if let Some(seconds) = window.filter(|seconds| *seconds > WINDOW_MAX) {
        let detail = format!("must be less than or equal to {WINDOW_MAX}");
        errors.push(FieldError::invalid(&window_path, seconds, detail));
    }
    if rules.has("selectPolicy") {
        let (policy, policies) = (rules.text("selectPolicy"), &["Disabled", "Max", "Min"]);
        if !policies.contains(&policy) {
            let path = path.child("selectPolicy");
            errors.push(FieldError::not_supported(&path, policy, policies));
        }
    }
    if rules.has("tolerance") {
        amount(rules.at("tolerance"), &path.child("tolerance"), errors);
    }
    if rules.list("policies").is_empty() {
        let path = path.child("policies");
        errors.push(FieldError::required(
            &path,
            "must specify at least one Policy",
        ));
    }
    for (path, policy) in items(rules, "policies", path) {
        scaling_policy(policy, &path, errors);
    }
}

fn scaling_policy(policy: &Value, path: &Path, errors: &mut ErrorList) {
    const PERIOD_MAX: i64 = 1800;
    let (kind, kinds) = (policy.text("type"), &["Percent", "Pods"]);
    if !kinds.contains(&kind) {
        errors.push(FieldError::not_supported(&path.child("type"), kind, kinds));
    }
    for field in ["value", "periodSeconds"] {
        let number = policy.int(field).unwrap_or(0);
        if number <= 0 {
            let path = path.child(field);
            errors.push(FieldError::invalid(&path, number, GREATER_THAN_ZERO));
        }
    }
    let period = policy.int("periodSeconds").unwrap_or(0);
    if period > PERIOD_MAX {
        let path = path.child("periodSeconds");
        let detail = format!("must be less than or equal to {PERIOD_MAX}");
        errors.push(FieldError::invalid(&path, period, detail));
    }
}

/// An update through `status`.
pub(crate) fn subresource(subresource: &str, new: &Object, _old: &Object, errors: &mut ErrorList) {
    if subresource == "status" {
        for field in ["currentReplicas", "desiredReplicas"] {
            not_negative(status(new), field, &Path::new("status"), errors);
        }
    }
}
