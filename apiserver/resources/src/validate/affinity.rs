//! Where a pod may run: node selectors, affinity, tolerations, topology spread.

use std::collections::BTreeSet;

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, complain_of, filled, items, label_selector, one_of, optional_one_of};
use crate::look::Look;
use crate::meta;

/// Affinity of a pod.
pub(crate) fn affinity(affinity: &Value, path: &Path, errors: &mut ErrorList) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some((node, path)) = filled(affinity, "nodeAffinity", path) {
        if node.has(required) {
            node_selector(node.at(required), &path.child(required), errors);
        }
        for (path, term) in items(node, preferred, &path) {
            weight(term, &path, errors);
            // Values that no label can have are no reason here.
            let path = path.child("preference");
            node_term(term.at("preference"), false, &path, errors);
        }
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some((pods, path)) = filled(affinity, kind, path) else {
            continue;
        };
        for (path, term) in items(pods, required, &path) {
            pod_term(term, &path, errors);
        }
        for (path, term) in items(pods, preferred, &path) {
            weight(term, &path, errors);
            pod_term(
                term.at("podAffinityTerm"),
                &path.child("podAffinityTerm"),
                errors,
            );
        }
    }
}

fn weight(term: &Value, path: &Path, errors: &mut ErrorList) {
    let weight = term.int("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(FieldError::invalid(
            &path.child("weight"),
            weight,
            "must be in the range 1-100",
        ));
    }
}

/// A node selector: a list of alternatives.
pub(crate) fn node_selector(selector: &Value, path: &Path, errors: &mut ErrorList) {
    if selector.list("nodeSelectorTerms").is_empty() {
        let path = path.child("nodeSelectorTerms");
        errors.push(FieldError::required(
            &path,
            "must have at least one node selector term",
        ));
    }
    for (path, term) in items(selector, "nodeSelectorTerms", path) {
        node_term(term, true, &path, errors);
    }
}

/// `strict`: what is compared with labels has the form of their values.
fn node_term(term: &Value, strict: bool, path: &Path, errors: &mut ErrorList) {
    for (path, expression) in items(term, "matchExpressions", path) {
        let values = expression.list("values");
        let detail = match expression.text("operator") {
            "In" | "NotIn" if values.is_empty() => {
                Some((true, "must be specified when `operator` is 'In' or 'NotIn'"))
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => Some((
                false,
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "Gt" | "Lt" if values.len() != 1 => Some((
                true,
                "must be specified single value when `operator` is 'Lt' or 'Gt'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => None,
            other => {
                errors.push(FieldError::invalid(
                    &path.child("operator"),
                    other,
                    "not a valid selector operator",
                ));
                None
            }
        };
        match detail {
            Some((true, detail)) => {
                errors.push(FieldError::required(&path.child("values"), detail))
            }
            Some((false, detail)) => {
                errors.push(FieldError::forbidden(&path.child("values"), detail))
            }
            None => {}
        }
        meta::label_name_of(expression, "key", &path, errors);
        if strict {
            for (at, value) in expression.texts("values").into_iter().enumerate() {
                let path = path.child("values").index(at);
                complain(names::is_valid_label_value(value), &path, value, errors);
            }
        }
    }
    for (path, expression) in items(term, "matchFields", path) {
        match expression.text("operator") {
            "In" | "NotIn" if expression.list("values").len() != 1 => errors.push(FieldError::required(
                &path.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )),
            "In" | "NotIn" => {}
            other => {
                errors.push(FieldError::invalid(&path.child("operator"), other, "not a valid selector operator"));
            }
        }
        if expression.text("key") != "metadata.name" {
            let detail = "not a valid field selector key";
            errors.push(FieldError::invalid(
                &path.child("key"),
                expression.text("key"),
                detail,
            ));
            continue;
        }
        for (at, name) in expression.texts("values").into_iter().enumerate() {
            let path = path.child("values").index(at);
            complain(names::is_dns1123_subdomain(name), &path, name, errors);
        }
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut ErrorList) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some((selector, path)) = filled(term, field, path) {
            label_selector(selector, &path, errors);
        }
    }
    for name in term.texts("namespaces") {
        let messages = names::is_dns1123_label(name);
        complain_of(messages, "namespace", path, name, errors);
    }
    label_keys(term, path, errors);
    if term.text("topologyKey").is_empty() {
        let path = path.child("topologyKey");
        errors.push(FieldError::required(&path, "can not be empty"));
    }
    meta::label_name_of(term, "topologyKey", path, errors);
}

/// Labels whose values are those of the pod itself, in terms of affinity and of spread. Before they are checked, they are
/// part of the selector.
fn label_keys(term: &Value, path: &Path, errors: &mut ErrorList) {
    let (matched, mismatched) = (
        term.texts("matchLabelKeys"),
        term.texts("mismatchLabelKeys"),
    );
    if matched.is_empty() && mismatched.is_empty() {
        return;
    }
    for (field, keys) in [
        ("matchLabelKeys", &matched),
        ("mismatchLabelKeys", &mismatched),
    ] {
        if !keys.is_empty() && !term.has("labelSelector") {
            let detail = "must not be specified when labelSelector is not set";
            errors.push(FieldError::forbidden(&path.child(field), detail));
            continue;
        }
        for (at, key) in keys.iter().enumerate() {
            meta::label_name(key, &path.child(field).index(at), errors);
        }
    }
    let selector = term.at("labelSelector");
    let mut selected: BTreeSet<&str> = selector.entries("matchLabels").map(|one| one.0).collect();
    for expression in selector.list("matchExpressions") {
        let key = expression.text("key");
        let at = matched.iter().rposition(|one| *one == key);
        if let Some(at) = at.filter(|_| selected.contains(key)) {
            let detail = "exists in both matchLabelKeys and labelSelector";
            errors.push(FieldError::invalid(&path.index(at), key, detail));
        }
        selected.insert(key);
    }
    for (at, key) in matched.iter().enumerate() {
        if mismatched.contains(key) {
            let path = path.child("matchLabelKeys").index(at);
            let detail = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(FieldError::invalid(&path, *key, detail));
        }
    }
}

/// Topology spread constraints of a pod spec.
pub(crate) fn topology_spread(spec: &Value, path: &Path, errors: &mut ErrorList) {
    const ACTIONS: &[&str] = &["DoNotSchedule", "ScheduleAnyway"];
    let all = spec.list("topologySpreadConstraints");
    for (at, (path, constraint)) in items(spec, "topologySpreadConstraints", path).enumerate() {
        positive(constraint.int("maxSkew"), &path.child("maxSkew"), errors);
        let (key, action) = (
            constraint.text("topologyKey"),
            constraint.text("whenUnsatisfiable"),
        );
        if key.is_empty() {
            let path = path.child("topologyKey");
            errors.push(FieldError::required(&path, "can not be empty"));
        }
        if !ACTIONS.contains(&action) {
            let path = path.child("whenUnsatisfiable");
            errors.push(FieldError::not_supported(&path, action, ACTIONS));
        }
        let is_alike = |other: &Value| {
            other.text("topologyKey") == key && other.text("whenUnsatisfiable") == action
        };
        if all.iter().skip(at + 1).any(is_alike) {
            let path = path.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&path, format!("{{{key}, {action}}}")));
        }
        if let Some(least) = constraint.int("minDomains") {
            let path = path.child("minDomains");
            positive(Some(least), &path, errors);
            if action != "DoNotSchedule" {
                let detail = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                );
                errors.push(FieldError::invalid(&path, least, detail));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            optional_one_of(constraint, field, &["Honor", "Ignore"], &path, errors);
        }
        label_keys(constraint, &path, errors);
        if let Some((selector, path)) = filled(constraint, "labelSelector", &path) {
            label_selector(selector, &path, errors);
        }
    }
}

fn positive(number: Option<i64>, path: &Path, errors: &mut ErrorList) {
    let number = number.unwrap_or(0);
    if number <= 0 {
        errors.push(FieldError::invalid(path, number, super::GREATER_THAN_ZERO));
    }
}

/// Tolerations of a pod spec.
pub(crate) fn tolerations(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, toleration) in items(spec, "tolerations", path) {
        let (key, operator, value) = (
            toleration.text("key"),
            toleration.text("operator"),
            toleration.text("value"),
        );
        if !key.is_empty() {
            meta::label_name_of(toleration, "key", &path, errors);
        } else if operator != "Exists" {
            errors.push(FieldError::invalid(
                &path.child("operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        let effect = toleration.text("effect");
        if toleration.has("tolerationSeconds") && effect != "NoExecute" {
            let detail = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&path.child("effect"), effect, detail));
        }
        match operator {
            "" | "Equal" => label_value(value, "operator", &path, errors),
            "Exists" if !value.is_empty() => errors.push(FieldError::invalid(
                &path.child("operator"),
                value,
                "value must be empty when `operator` is 'Exists'",
            )),
            "Exists" => {}
            // Comparing is alpha in Kubernetes, and off; it tells of it all the same.
            "Lt" | "Gt" => errors.push(FieldError::not_supported(
                &path.child("operator"),
                operator,
                &["Equal", "Exists", "Lt", "Gt"],
            )),
            other => errors.push(FieldError::not_supported(
                &path.child("operator"),
                other,
                &["Equal", "Exists"],
            )),
        }
        if !effect.is_empty() {
            taint_effect(toleration, &path, errors);
        }
    }
}

/// A value as labels have them. All that is wrong with it is said at once.
fn label_value(value: &str, field: &str, path: &Path, errors: &mut ErrorList) {
    let messages = names::is_valid_label_value(value);
    if !messages.is_empty() {
        let path = path.child(field);
        errors.push(FieldError::invalid(&path, value, messages.join(";")));
    }
}

fn taint_effect(parent: &Value, path: &Path, errors: &mut ErrorList) {
    one_of(
        parent,
        "effect",
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        path,
        errors,
    );
}

/// Taints of a node, of which Kubernetes speaks as of its metadata.
pub(crate) fn taints(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, taint) in items(spec, "taints", path) {
        meta::label_name_of(taint, "key", &path, errors);
        label_value(taint.text("value"), "value", &path, errors);
        taint_effect(taint, &path, errors);
        if !seen.insert((taint.text("key"), taint.text("effect"))) {
            errors.push(FieldError {
                detail: "taints must be unique by key and effect pair".to_owned(),
                ..FieldError::duplicate(&path, taint.clone())
            });
        }
    }
}
