//! What a device of a ResourceSlice says of its capacity, where allocations share it.

use std::collections::BTreeSet;

use schema::field::{ErrorList, FieldError, Path};
use schema::quantity::Quantity;
use serde_json::Value;

use super::devices::bounded;
use crate::look::Look;

/// So many values can be asked for.
const VALUES_MAX: usize = 10;

/// The policies of its capacities, which only a device that is shared may have.
pub(super) fn sharing(device: &Value, path: &Path, errors: &mut ErrorList) {
    let shared = device.flag("allowMultipleAllocations");
    for (name, capacity) in device.entries("capacity") {
        if !capacity.has("requestPolicy") {
            continue;
        }
        let path = path.child("capacity").key(name).child("requestPolicy");
        match shared {
            true => policy(capacity.at("requestPolicy"), capacity, &path, errors),
            false => {
                let detail = "allowMultipleAllocations must be true";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
    }
}

/// One that is there and is a quantity; others are refused when they are decoded.
fn amount(parent: &Value, field: &str) -> Option<Quantity> {
    Quantity::from_json(parent.at(field)).ok()
}

fn policy(policy: &Value, capacity: &Value, path: &Path, errors: &mut ErrorList) {
    let (values, range) = (policy.list("validValues"), policy.at("validRange"));
    let most = amount(capacity, "value").unwrap_or(Quantity::ZERO);
    let field = match (values.is_empty(), range.is_null()) {
        (true, true) => return,
        (false, false) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time";
            errors.push(FieldError::forbidden(path, detail));
            return;
        }
        (false, true) => "validValues",
        (true, false) => "validRange",
    };
    let Some(default) = amount(policy, "default") else {
        let detail = format!("required when {field} is defined");
        errors.push(FieldError::required(&path.child("default"), detail));
        return;
    };
    match range.is_null() {
        true => valid_values(policy, default, most, path, errors),
        false => valid_range(range, default, most, &path.child(field), errors),
    }
}

/// Values in rising order, one of which is the default.
fn valid_values(
    policy: &Value,
    default: Quantity,
    most: Quantity,
    path: &Path,
    errors: &mut ErrorList,
) {
    let field = path.child("validValues");
    let values = policy.list("validValues");
    let values: Vec<Quantity> = values
        .iter()
        .filter_map(|value| Quantity::from_json(value).ok())
        .collect();
    for (at, pair) in values.windows(2).enumerate() {
        if let [before, after] = pair
            && before > after
        {
            let detail = "values must be sorted in ascending order";
            let path = field.index(at + 1);
            errors.push(FieldError::invalid(&path, after.to_string(), detail));
        }
    }
    let mut has_default = false;
    if bounded(policy, "validValues", VALUES_MAX, path, errors) {
        for (at, value) in values.iter().enumerate() {
            if *value > most {
                let detail = format!("option is larger than capacity value: {most}");
                let path = field.index(at);
                errors.push(FieldError::invalid(&path, value.to_string(), detail));
            }
            has_default |= *value == default;
        }
        let mut seen = BTreeSet::new();
        for (at, value) in values.iter().enumerate() {
            if !seen.insert(value.value()) {
                let text = value.value().to_string();
                errors.push(FieldError::duplicate(&field.index(at), text));
            }
        }
    }
    if !has_default {
        let detail = "default value is not valid according to the requestPolicy";
        errors.push(FieldError::invalid(&field, default.to_string(), detail));
    }
}

/// From the least on, in steps and up to the most where these are given; the default is in it.
fn valid_range(
    range: &Value,
    default: Quantity,
    most: Quantity,
    path: &Path,
    errors: &mut ErrorList,
) {
    let Some(min) = amount(range, "min") else {
        let detail = "required when validRange is defined";
        errors.push(FieldError::required(&path.child("min"), detail));
        return;
    };
    let max = amount(range, "max");
    let mut wrong = |field: &str, value: Quantity, detail: String| {
        let path = path.child(field);
        errors.push(FieldError::invalid(&path, value.to_string(), detail));
    };
    if min > most {
        let detail = format!("min is larger than capacity value: {most}");
        wrong("min", min, detail);
    }
    if default < min {
        wrong("min", default, format!("default is less than min: {min}"));
    }
    if let Some(max) = max {
        if min > max {
            wrong("max", min, format!("min is larger than max: {max}"));
        }
        if max > most {
            let detail = format!("max is larger than capacity value: {most}");
            wrong("max", max, detail);
        }
        if default > max {
            wrong("max", default, format!("default is more than max: {max}"));
        }
    }
    let Some(step) = amount(range, "step") else {
        return;
    };
    if step.sign() <= 0 {
        wrong("step", step, "must be greater than zero".to_owned());
        return;
    }
    let one = min + step;
    if one > most {
        let detail = format!("one step {one} is larger than capacity value: {most}");
        wrong("step", step, detail);
    }
    for value in [Some(default), max].into_iter().flatten() {
        if !is_on(value, min, step) {
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            wrong("step", value, detail);
        }
    }
}

/// Whether steps lead there from the least value; in whole units, as Kubernetes counts them.
fn is_on(value: Quantity, min: Quantity, step: Quantity) -> bool {
    let [value, min, step] = [value, min, step].map(|quantity| i128::from(quantity.value()));
    step == 0 || (value - min) % step == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(device: Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        sharing(&device, &Path::new("d"), &mut errors);
        let texts = errors.iter().map(ToString::to_string);
        texts
            .map(|text| text.replace("d.capacity[memory].requestPolicy", "P"))
            .collect()
    }

    fn wrong(policy: Value) -> Vec<String> {
        told(
            json!({"allowMultipleAllocations": true, "capacity": {"memory": {"value": "8Gi", "requestPolicy": policy}}}),
        )
    }

    #[test]
    fn only_a_device_that_is_shared_has_a_policy() {
        let capacity = json!({"memory": {"value": "8Gi", "requestPolicy": {"default": "1Gi"}}});
        assert_eq!(
            told(json!({"capacity": capacity})),
            ["P: Forbidden: allowMultipleAllocations must be true"]
        );
        assert_eq!(
            told(json!({"capacity": {"memory": {"value": "8Gi"}}})),
            [""; 0]
        );
        assert_eq!(wrong(json!({"default": "1Gi"})), [""; 0]);
        let both = json!({"validValues": ["1Gi"], "validRange": {"min": "1Gi"}});
        assert_eq!(
            wrong(both),
            [
                "P: Forbidden: exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the same time"
            ]
        );
    }

    #[test]
    fn values_rise_and_the_default_is_one_of_them() {
        let values = |default: &str, values: Value| {
            wrong(json!({"default": default, "validValues": values}))
        };
        assert_eq!(values("2Gi", json!(["1Gi", "2Gi"])), [""; 0]);
        assert_eq!(
            wrong(json!({"validValues": ["1Gi"]})),
            ["P.default: Required value: required when validValues is defined"]
        );
        assert_eq!(
            values("3Gi", json!(["2Gi", "1Gi", "9Gi", "9Gi"])),
            [
                "P.validValues[1]: Invalid value: \"1Gi\": values must be sorted in ascending order",
                "P.validValues[2]: Invalid value: \"9Gi\": option is larger than capacity value: 8Gi",
                "P.validValues[3]: Invalid value: \"9Gi\": option is larger than capacity value: 8Gi",
                "P.validValues[3]: Duplicate value: \"9663676416\"",
                "P.validValues: Invalid value: \"3Gi\": default value is not valid according to the requestPolicy",
            ]
        );
        let many: Vec<String> = (1..12).map(|n| n.to_string()).collect();
        assert_eq!(
            values("1", json!(many)),
            [
                "P.validValues: Too many: 11: must have at most 10 items",
                "P.validValues: Invalid value: \"1\": default value is not valid according to the requestPolicy",
            ]
        );
    }

    #[test]
    fn a_range_is_in_the_capacity_and_in_whole_steps() {
        let range =
            |default: &str, range: Value| wrong(json!({"default": default, "validRange": range}));
        let fine = json!({"min": "1Gi", "max": "7Gi", "step": "2Gi"});
        assert_eq!(range("3Gi", fine.clone()), [""; 0]);
        assert_eq!(
            wrong(json!({"validRange": fine})),
            ["P.default: Required value: required when validRange is defined"]
        );
        assert_eq!(
            range("3Gi", json!({})),
            ["P.validRange.min: Required value: required when validRange is defined"]
        );
        assert_eq!(
            range("1Gi", json!({"min": "9Gi", "max": "8Gi"})),
            [
                "P.validRange.min: Invalid value: \"9Gi\": min is larger than capacity value: 8Gi",
                "P.validRange.min: Invalid value: \"1Gi\": default is less than min: 9Gi",
                "P.validRange.max: Invalid value: \"9Gi\": min is larger than max: 8Gi",
            ]
        );
        assert_eq!(
            range("10Gi", json!({"min": "1Gi", "max": "9Gi"})),
            [
                "P.validRange.max: Invalid value: \"9Gi\": max is larger than capacity value: 8Gi",
                "P.validRange.max: Invalid value: \"10Gi\": default is more than max: 9Gi",
            ]
        );
        assert_eq!(
            range("2Gi", json!({"min": "1Gi", "max": "4Gi", "step": "8Gi"})),
            [
                "P.validRange.step: Invalid value: \"8Gi\": one step 9Gi is larger than capacity value: 8Gi",
                "P.validRange.step: Invalid value: \"2Gi\": value is not a multiple of a given step (8Gi) from (1Gi)",
                "P.validRange.step: Invalid value: \"4Gi\": value is not a multiple of a given step (8Gi) from (1Gi)",
            ]
        );
        assert_eq!(
            range("1Gi", json!({"min": "1Gi", "step": "0"})),
            ["P.validRange.step: Invalid value: \"0\": must be greater than zero"]
        );
    }
}
