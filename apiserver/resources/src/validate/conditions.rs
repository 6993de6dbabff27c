//! Conditions as `metav1.Condition` has them.

use std::collections::BTreeSet;

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, items};
use crate::look::Look;
use crate::meta;

const REASON_BYTES_MAX: usize = 1024;
const MESSAGE_BYTES_MAX: usize = 32 * 1024;
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

/// The `conditions` of an object, or of a part of one.
pub(super) fn conditions(parent: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, condition) in items(parent, "conditions", path) {
        let kind = condition.text("type");
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&path.child("type"), kind));
        }
        self::condition(condition, &path, errors);
    }
}

fn condition(condition: &Value, path: &Path, errors: &mut ErrorList) {
    meta::label_name(condition.text("type"), &path.child("type"), errors);
    let status = condition.text("status");
    if !STATUSES.contains(&status) {
        let below = path.child("status");
        errors.push(FieldError::not_supported(&below, status, &STATUSES));
    }
    if let Some(generation) = condition.int("observedGeneration").filter(|g| *g < 0) {
        let detail = "must be greater than or equal to zero";
        let below = path.child("observedGeneration");
        errors.push(FieldError::invalid(&below, generation, detail));
    }
    for field in ["lastTransitionTime", "reason"] {
        if condition.text(field).is_empty() {
            errors.push(FieldError::required(&path.child(field), "must be set"));
        }
    }
    let (reason, below) = (condition.text("reason"), path.child("reason"));
    if !reason.is_empty() {
        complain(names::is_condition_reason(reason), &below, reason, errors);
    }
    if reason.len() > REASON_BYTES_MAX {
        errors.push(FieldError::too_long(&below, REASON_BYTES_MAX));
    }
    if condition.text("message").len() > MESSAGE_BYTES_MAX {
        let below = path.child("message");
        errors.push(FieldError::too_long(&below, MESSAGE_BYTES_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(all: Value) -> Vec<String> {
        let mut errors = ErrorList::new();
        conditions(&json!({"conditions": all}), &Path::new("s"), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn conditions_say_what_is_so_since_when_and_why() {
        let time = "2026-01-01T00:00:00Z";
        let fine = json!({"type": "example.com/ready", "status": "True", "reason": "A,b:C_", "lastTransitionTime": time});
        assert_eq!(told(json!([fine])), [""; 0]);
        let twice = told(json!([fine, fine]));
        assert_eq!(
            twice,
            ["s.conditions[1].type: Duplicate value: \"example.com/ready\""]
        );
        let empty = told(json!([{"type": "ready", "observedGeneration": -1}]));
        assert_eq!(
            empty,
            [
                "s.conditions[0].status: Unsupported value: \"\": supported values: \"False\", \"True\", \"Unknown\"",
                "s.conditions[0].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
                "s.conditions[0].lastTransitionTime: Required value: must be set",
                "s.conditions[0].reason: Required value: must be set",
            ]
        );
        let mut odd = fine;
        odd["reason"] = json!("no reason");
        odd["message"] = json!("m".repeat(MESSAGE_BYTES_MAX + 1));
        let odd = told(json!([odd]));
        assert!(odd[0].starts_with("s.conditions[0].reason: Invalid value: \"no reason\": a condition reason must start with alphabetic character"));
        assert_eq!(
            odd[1],
            "s.conditions[0].message: Too long: may not be more than 32768 bytes"
        );
    }
}
