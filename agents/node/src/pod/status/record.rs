//! A status against the one that the API has on record.

use serde_json::{Value, json};

use crate::pod::resize;
use crate::spec::Pod;

/// The strategic merge patch that turns the recorded status into this one.
pub(crate) fn patch(pod: &Pod, mut status: Value) -> Value {
    if let Some(members) = status.as_object_mut() {
        for (field, recorded) in [
            ("reason", "reason"),
            ("message", "message"),
            ("podIP", "podIP"),
            ("podIPs", "podIPs"),
        ] {
            if !members.contains_key(field) && pod.status.get(recorded).is_some() {
                members.insert(field.to_owned(), Value::Null);
            }
        }
        let recorded = pod
            .status
            .get("podIPs")
            .and_then(Value::as_array)
            .is_some_and(|ips| !ips.is_empty());
        let changed = members.get("podIPs") != pod.status.get("podIPs");
        // Addresses merge by their value, so a changed one has to replace the list.
        if recorded
            && changed
            && let Some(Value::Array(ips)) = members.get_mut("podIPs")
        {
            ips.insert(0, json!({"$patch": "replace"}));
        }
        // These are the node's alone, and there only while they hold.
        let over = [resize::PENDING, resize::IN_PROGRESS].into_iter();
        let over = over.filter(|kind| {
            let told = members.get("conditions").is_some_and(|all| has(all, kind));
            !told && has(&pod.status["conditions"], kind)
        });
        let over: Vec<Value> = over
            .map(|kind| json!({"$patch": "delete", "type": kind}))
            .collect();
        if let Some(Value::Array(conditions)) = members.get_mut("conditions") {
            conditions.extend(over);
        }
    }
    let mut patch = json!({"metadata": {"uid": pod.metadata.uid}});
    patch["status"] = status;
    patch
}

/// Whether a list of conditions has one of this type.
fn has(conditions: &Value, kind: &str) -> bool {
    let mut all = conditions.as_array().into_iter().flatten();
    all.any(|condition| condition["type"] == kind)
}

/// Whether the recorded status already says all this.
pub(crate) fn is_recorded(pod: &Pod, status: &Value) -> bool {
    let Some(members) = status.as_object() else {
        return false;
    };
    members.iter().all(|(field, value)| match field.as_str() {
        "conditions" => {
            let recorded = pod
                .status
                .get("conditions")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
                .unwrap_or_default();
            let is_over = |kind: &str| has(&pod.status["conditions"], kind) && !has(value, kind);
            if is_over(resize::PENDING) || is_over(resize::IN_PROGRESS) {
                return false;
            }
            value.as_array().into_iter().flatten().all(|condition| {
                let kind = condition.get("type");
                recorded.iter().any(|other| {
                    other.get("type") == kind && without_nulls(condition) == without_nulls(other)
                })
            })
        }
        _ => pod.status.get(field).map(without_nulls) == Some(without_nulls(value)),
    }) && ["reason", "message"]
        .iter()
        .all(|field| members.contains_key(*field) || pod.status.get(*field).is_none())
}

pub(super) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), without_nulls(v)));
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}
