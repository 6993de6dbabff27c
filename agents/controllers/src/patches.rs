//! Pieces of patches that several controllers build.

use agent_runtime::kinds::{Condition, Labels, ObjectMeta, OwnerReference};
use agent_runtime::plan::Op;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{PatchType, ResourceRef};
use serde_json::{Map, Value, json};

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

/// A value without the fields that are null: to the API they are absent.
pub(crate) fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k.clone(), without_nulls(v)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// Takes the empty metadata of ephemeral volumes' claims out of a pod template: the API writes it by default, and older
/// builds of it did not.
pub(crate) fn drop_empty_claim_metadata(template: &mut Value) {
    let volumes = template
        .pointer_mut("/spec/volumes")
        .and_then(Value::as_array_mut);
    for volume in volumes.into_iter().flatten() {
        let claim = volume.pointer_mut("/ephemeral/volumeClaimTemplate");
        if let Some(fields) = claim.and_then(Value::as_object_mut) {
            fields.retain(|name, value| name != "metadata" || *value != json!({}));
        }
    }
}

/// Puts a text at a path of objects; what is in the way is replaced.
pub(crate) fn set_path(value: &mut Value, path: &[&str], text: &str) {
    let mut place = value;
    for key in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[*key];
    }
    *place = text.into();
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

/// One condition of this incarnation of an object, beside those that others write.
pub(crate) fn one_condition(resource: &ResourceRef, meta: &ObjectMeta, condition: &Value) -> Op {
    Op::Patch {
        resource: resource.clone(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        subresource: Some("status"),
        form: PatchType::Strategic,
        body: json!({"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}),
    }
}

/// What makes labels or annotations exactly these.
pub(crate) fn map(old: &Labels, new: &Labels) -> Value {
    let gone = old.keys().filter(|key| !new.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Value::Null));
    let wanted = new
        .iter()
        .map(|(key, value)| (key.clone(), value.as_str().into()));
    gone.chain(wanted).collect::<Map<_, _>>().into()
}
