//! Where a pod may run: node selectors, affinity, tolerations, topology spread.

use std::collections::BTreeSet;

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{
    complain, complain_of, filled, items, label_selector, one_of, optional_one_of, require,
};
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
            node_term(term.at("preference"), &path.child("preference"), errors);
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
        node_term(term, &path, errors);
    }
}

fn node_term(term: &Value, path: &Path, errors: &mut ErrorList) {
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
        }
    }
}

fn pod_term(term: &Value, path: &Path, errors: &mut ErrorList) {
    for field in ["labelSelector", "namespaceSelector"] {
        if let Some((selector, path)) = filled(term, field, path) {
            label_selector(selector, &path, errors);
        }
    }
    for (at, name) in term.texts("namespaces").into_iter().enumerate() {
        complain(
            names::is_dns1123_label(name),
            &path.child("namespace").index(at),
            name,
            errors,
        );
    }
    topology_key(term, path, errors);
}

fn topology_key(term: &Value, path: &Path, errors: &mut ErrorList) {
    let key = term.text("topologyKey");
    if key.is_empty() {
        errors.push(FieldError::required(
            &path.child("topologyKey"),
            "can not be empty",
        ));
    } else {
        meta::label_name_of(term, "topologyKey", path, errors);
    }
}

/// Topology spread constraints of a pod spec.
pub(crate) fn topology_spread(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, constraint) in items(spec, "topologySpreadConstraints", path) {
        let skew = constraint.int("maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(FieldError::invalid(
                &path.child("maxSkew"),
                skew,
                "must be greater than zero",
            ));
        }
        topology_key(constraint, &path, errors);
        let action = constraint.text("whenUnsatisfiable");
        if action.is_empty() {
            errors.push(FieldError::required(
                &path.child("whenUnsatisfiable"),
                "can not be empty",
            ));
        } else {
            optional_one_of(
                constraint,
                "whenUnsatisfiable",
                &["DoNotSchedule", "ScheduleAnyway"],
                &path,
                errors,
            );
        }
        let key = constraint.text("topologyKey");
        if !seen.insert((key, action)) {
            let pair = format!("{{{key}, {action}}}");
            errors.push(FieldError::duplicate(
                &path.child("{topologyKey, whenUnsatisfiable}"),
                pair,
            ));
        }
        if let Some(least) = constraint.int("minDomains") {
            let path = path.child("minDomains");
            if least <= 0 {
                errors.push(FieldError::invalid(
                    &path,
                    least,
                    "must be greater than zero",
                ));
            } else if action != "DoNotSchedule" {
                let detail = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
                errors.push(FieldError::invalid(&path, least, detail));
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            optional_one_of(constraint, field, &["Honor", "Ignore"], &path, errors);
        }
        if let Some((selector, path)) = filled(constraint, "labelSelector", &path) {
            label_selector(selector, &path, errors);
        }
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
            "" | "Equal" => complain_of(
                names::is_valid_label_value(value),
                "operator",
                &path,
                value,
                errors,
            ),
            "Exists" if !value.is_empty() => errors.push(FieldError::invalid(
                &path.child("operator"),
                toleration.clone(),
                "value must be empty when `operator` is 'Exists'",
            )),
            "Exists" => {}
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

fn taint_effect(parent: &Value, path: &Path, errors: &mut ErrorList) {
    one_of(
        parent,
        "effect",
        &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        path,
        errors,
    );
}

/// Taints of a node.
pub(crate) fn taints(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, taint) in items(spec, "taints", path) {
        if require(taint, "key", &path, errors) {
            meta::label_name_of(taint, "key", &path, errors);
        }
        complain(
            names::is_valid_label_value(taint.text("value")),
            &path.child("value"),
            taint.text("value"),
            errors,
        );
        taint_effect(taint, &path, errors);
        if !seen.insert((taint.text("key"), taint.text("effect"))) {
            errors.push(FieldError::duplicate(&path, taint.clone()));
        }
    }
}
