//! Disruption budgets, priority classes and flow control.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};

use super::{
    at_most_hundred_percent, count_or_percent, flow_rules, immutable, items, label_selector,
    one_of, optional_one_of, require,
};
use crate::bootstrap;
use crate::look::{Look, spec};

/// Pods may use values up to this; higher ones are for the system.
const USER_PRIORITY_MAX: i64 = 1_000_000_000;

/// PodDisruptionBudget.
pub(crate) fn disruption_budget(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    let (least, most) = (spec.at("minAvailable"), spec.at("maxUnavailable"));
    if !least.is_null() && !most.is_null() {
        let detail = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(&path, spec.clone(), detail));
    }
    for (field, value) in [("minAvailable", least), ("maxUnavailable", most)] {
        count_or_percent(value, &path.child(field), errors);
        at_most_hundred_percent(value, &path.child(field), errors);
    }
    label_selector(spec.at("selector"), &path.child("selector"), errors);
    optional_one_of(
        spec,
        "unhealthyPodEvictionPolicy",
        &["AlwaysAllow", "IfHealthyBudget"],
        &path,
        errors,
    );
}

/// PriorityClass.
pub(crate) fn priority_class(object: &Object, errors: &mut ErrorList) {
    let name = object.name();
    let value = object.at("value").as_i64().unwrap_or(0);
    if name.starts_with("system-") {
        if let Some(wrong) = unlike_system_class(object, value) {
            let detail = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {wrong}"
            );
            let path = Path::new("metadata").child("name");
            errors.push(FieldError::forbidden(&path, detail));
        }
    } else if value > USER_PRIORITY_MAX {
        let detail =
            format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}");
        errors.push(FieldError::forbidden(&Path::new("value"), detail));
    }
    let policies = &["PreemptLowerPriority", "Never"];
    optional_one_of(object, "preemptionPolicy", policies, &Path::root(), errors);
}

/// What keeps a class from being the system's of that name.
fn unlike_system_class(class: &Object, value: i64) -> Option<String> {
    let name = class.name();
    let expected = match name {
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        _ => return Some(format!("{name} is not a known system priority class")),
    };
    if value != expected {
        return Some(format!("value of {name} PriorityClass must be {expected}"));
    }
    let is_default = class.at("globalDefault").as_bool() == Some(true);
    is_default.then(|| format!("globalDefault of {name} PriorityClass must be false"))
}

/// Pods carry the value of their class, so it never changes.
pub(crate) fn priority_class_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    if new.at("value").as_i64() != old.at("value").as_i64() {
        errors.push(FieldError::forbidden(
            &Path::new("value"),
            "may not be changed in an update.",
        ));
    }
    immutable(
        new.at("preemptionPolicy"),
        old.at("preemptionPolicy"),
        &Path::new("preemptionPolicy"),
        errors,
    );
}

/// The schemas and levels of last resort are what the server counts on: nobody changes them. Of `exempt`, the shares may
/// change, which others borrow.
fn fixed(object: &Object, wanted: Vec<Object>, free: &[&str], errors: &mut ErrorList) {
    let name = object.name();
    if !bootstrap::flow::MANDATORY.contains(&name) {
        return;
    }
    let without = |object: &Object| {
        let mut object = object.clone();
        object.remove(free);
        object.get(&["spec"]).cloned()
    };
    let wanted = wanted.iter().find(|wanted| wanted.name() == name);
    if wanted.is_some_and(|wanted| without(wanted) != without(object)) {
        let value = object.get(&["spec"]).cloned().unwrap_or_default();
        let detail = format!("spec of '{name}' must equal the fixed value");
        errors.push(FieldError::invalid(&Path::new("spec"), value, detail));
    }
}

/// FlowSchema.
pub(crate) fn flow_schema(object: &Object, errors: &mut ErrorList) {
    fixed(
        object,
        bootstrap::flow::flow_schemas(),
        &["spec", ""],
        errors,
    );
    let (spec, path) = (spec(object), Path::new("spec"));
    let precedence = spec.int("matchingPrecedence").unwrap_or(0);
    if precedence <= 0 {
        let detail = "must be a positive value";
        errors.push(FieldError::invalid(
            &path.child("matchingPrecedence"),
            precedence,
            detail,
        ));
    } else if precedence > 10_000 {
        let detail = "must not be greater than 10000";
        errors.push(FieldError::invalid(
            &path.child("matchingPrecedence"),
            precedence,
            detail,
        ));
    } else if precedence == 1 && object.name() != "exempt" {
        let detail = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.push(FieldError::invalid(
            &path.child("matchingPrecedence"),
            precedence,
            detail,
        ));
    }
    let method = spec.at("distinguisherMethod");
    if method.is_object() {
        one_of(
            method,
            "type",
            &["ByNamespace", "ByUser"],
            &path.child("distinguisherMethod"),
            errors,
        );
    }
    let level = path.child("priorityLevelConfiguration");
    require(
        spec.at("priorityLevelConfiguration"),
        "name",
        &level,
        errors,
    );
    for (path, rule) in items(spec, "rules", &path) {
        if rule.list("subjects").is_empty() {
            errors.push(FieldError::required(
                &path.child("subjects"),
                "subjects must contain at least one value",
            ));
        }
        for (path, subject) in items(rule, "subjects", &path) {
            flow_rules::subject(subject, &path, errors);
        }
        if rule.list("resourceRules").is_empty() && rule.list("nonResourceRules").is_empty() {
            let detail = "at least one of resourceRules and nonResourceRules has to be non-empty";
            errors.push(FieldError::required(&path, detail));
        }
        for (path, rule) in items(rule, "resourceRules", &path) {
            flow_rules::resources(rule, &path, errors);
        }
        for (path, rule) in items(rule, "nonResourceRules", &path) {
            flow_rules::urls(rule, &path, errors);
        }
    }
}

/// PriorityLevelConfiguration.
pub(crate) fn priority_level(object: &Object, errors: &mut ErrorList) {
    let levels = bootstrap::flow::priority_levels();
    fixed(object, levels, &["spec", "exempt"], errors);
    let (spec, path) = (spec(object), Path::new("spec"));
    one_of(spec, "type", &["Exempt", "Limited"], &path, errors);
    let (limited, exempt) = (spec.at("limited"), spec.at("exempt"));
    match spec.text("type") {
        "Exempt" if !limited.is_null() => {
            errors.push(FieldError::forbidden(
                &path.child("limited"),
                "must be nil if the type is not Limited",
            ));
        }
        "Limited" if !exempt.is_null() => {
            errors.push(FieldError::forbidden(
                &path.child("exempt"),
                "must be nil if the type is Limited",
            ));
        }
        "Limited" if limited.is_null() => {
            errors.push(FieldError::required(
                &path.child("limited"),
                "must not be empty when type is Limited",
            ));
        }
        "Limited" => {
            let path = path.child("limited");
            super::not_negative(limited, "nominalConcurrencyShares", &path, errors);
            let response = limited.at("limitResponse");
            let response_path = path.child("limitResponse");
            one_of(
                response,
                "type",
                &["Queue", "Reject"],
                &response_path,
                errors,
            );
            let queuing = response.at("queuing");
            match (response.text("type"), queuing.is_null()) {
                ("Queue", true) => {
                    let detail = "must not be empty if limitResponse.type is Queue";
                    errors.push(FieldError::required(
                        &response_path.child("queuing"),
                        detail,
                    ));
                }
                ("Reject", false) => {
                    let detail = "must be nil if limitResponse.type is not Queue";
                    errors.push(FieldError::forbidden(
                        &response_path.child("queuing"),
                        detail,
                    ));
                }
                ("Queue", false) => {
                    for field in ["queues", "handSize", "queueLengthLimit"] {
                        if let Some(number) = queuing.int(field).filter(|number| *number <= 0) {
                            let path = response_path.child("queuing").child(field);
                            errors.push(FieldError::invalid(&path, number, "must be positive"));
                        }
                    }
                    let number = |field| queuing.int(field).unwrap_or_default();
                    let (queues, hand) = (number("queues"), number("handSize"));
                    if hand > queues {
                        let path = response_path.child("queuing").child("handSize");
                        let detail = format!("should not be greater than queues ({queues})");
                        errors.push(FieldError::invalid(&path, hand, detail));
                    }
                }
                _ => {}
            }
        }
        _ => {}
    }
}
