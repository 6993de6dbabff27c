//! Pieces of patches that several controllers build.

use agent_runtime::kinds::{Condition, OwnerReference};
use agent_runtime::timestamp::{self, Micros};
use serde_json::{Value, json};

/// A number of a status as Kubernetes writes it: zero means that the field is left out.
pub(crate) fn or_absent(number: i64) -> Value {
    if number == 0 {
        Value::Null
    } else {
        number.into()
    }
}

/// Conditions for a merge patch.
pub(crate) fn conditions(conditions: &[Condition]) -> Value {
    if conditions.is_empty() {
        Value::Null
    } else {
        json!(conditions)
    }
}

/// Owner references for a merge patch.
pub(crate) fn owners(owners: &[OwnerReference]) -> Value {
    if owners.is_empty() {
        Value::Null
    } else {
        json!(owners)
    }
}

/// A condition that begins now.
pub(crate) fn condition(
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    now: Micros,
) -> Condition {
    Condition {
        kind: kind.into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Some(timestamp::time(now)),
        ..Condition::default()
    }
}
