//! Horizontal pod autoscalers in both shapes.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{POSITIVE, complain, items, one_of, require};
use crate::look::{Look, spec};

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

/// autoscaling/v2.
pub(crate) fn v2(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    bounds(spec, &path, errors);
    for (path, metric) in items(spec, "metrics", &path) {
        let source = match metric.text("type") {
            "" => {
                errors.push(FieldError::required(
                    &path.child("type"),
                    "must specify a metric source type",
                ));
                continue;
            }
            "Object" => "object",
            "Pods" => "pods",
            "Resource" => "resource",
            "ContainerResource" => "containerResource",
            "External" => "external",
            other => {
                let kinds = [
                    "ContainerResource",
                    "External",
                    "Object",
                    "Pods",
                    "Resource",
                ];
                errors.push(FieldError::not_supported(
                    &path.child("type"),
                    other,
                    &kinds,
                ));
                continue;
            }
        };
        if !metric.has(source) {
            let detail = format!("must populate information for the given metric source: {source}");
            errors.push(FieldError::required(&path.child(source), detail));
            continue;
        }
        let (metric, path) = (metric.at(source), path.child(source));
        if matches!(source, "resource" | "containerResource") {
            if metric.text("name").is_empty() {
                errors.push(FieldError::required(
                    &path.child("name"),
                    "must specify a resource name",
                ));
            }
            let (target, path) = (metric.at("target"), path.child("target"));
            match (target.has("averageUtilization"), target.has("averageValue")) {
                (false, false) => {
                    let detail = "must set either a target raw value or a target utilization";
                    errors.push(FieldError::required(
                        &path.child("averageUtilization"),
                        detail,
                    ));
                }
                (true, true) => {
                    let detail = "may not set both a target raw value and a target utilization";
                    errors.push(FieldError::forbidden(&path.child("averageValue"), detail));
                }
                _ => {}
            }
        } else if metric.at("metric").text("name").is_empty() {
            errors.push(FieldError::required(
                &path.child("metric").child("name"),
                "must specify a metric name",
            ));
        }
        one_of(
            metric.at("target"),
            "type",
            &["AverageValue", "Utilization", "Value"],
            &path.child("target"),
            errors,
        );
    }
    behavior(spec.at("behavior"), &path.child("behavior"), errors);
}

fn behavior(behavior: &Value, path: &Path, errors: &mut ErrorList) {
    for direction in ["scaleUp", "scaleDown"] {
        let (rules, path) = (behavior.at(direction), path.child(direction));
        if rules.is_null() {
            continue;
        }
        if let Some(seconds) = rules.int("stabilizationWindowSeconds") {
            let path = path.child("stabilizationWindowSeconds");
            if seconds < 0 {
                errors.push(FieldError::invalid(
                    &path,
                    seconds,
                    "must be greater than or equal to zero",
                ));
            } else if seconds > 3600 {
                errors.push(FieldError::invalid(
                    &path,
                    seconds,
                    "must be less than or equal to 3600",
                ));
            }
        }
        super::optional_one_of(
            rules,
            "selectPolicy",
            &["Disabled", "Max", "Min"],
            &path,
            errors,
        );
        if rules.list("policies").is_empty() {
            errors.push(FieldError::required(
                &path.child("policies"),
                "must specify at least one Policy",
            ));
        }
        for (path, policy) in items(rules, "policies", &path) {
            super::optional_one_of(policy, "type", &["Percent", "Pods"], &path, errors);
            for (field, most) in [("value", i64::MAX), ("periodSeconds", 1800)] {
                let number = policy.int(field).unwrap_or(0);
                if number <= 0 {
                    errors.push(FieldError::invalid(
                        &path.child(field),
                        number,
                        "must be greater than zero",
                    ));
                } else if number > most {
                    let detail = format!("must be less than or equal to {most}");
                    errors.push(FieldError::invalid(&path.child(field), number, detail));
                }
            }
        }
    }
}
