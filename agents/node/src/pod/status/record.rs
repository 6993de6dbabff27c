//! A status against the one that the API has on record.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::Status;
use crate::pod::conditions::Condition;
use crate::pod::resize;
use crate::spec::Pod;

/// Most patches have less text.
const PATCH_BYTES: usize = 2048;

/// The strategic merge patch that turns the recorded status into this one.
pub(crate) fn patch(pod: &Pod, mut status: Value) -> Value {
    if let Some(members) = status.as_object_mut() {
        complete(pod, members);
        let told = members.get("conditions");
        let over: Vec<Value> = over(pod, |kind| told.is_some_and(|all| has(all, kind)))
            .into_iter()
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

/// What a patch of these members of the status has to say besides, so that what is on record is replaced by them.
fn complete(pod: &Pod, members: &mut Map<String, Value>) {
    for field in ["reason", "message", "podIP", "podIPs"] {
        if !members.contains_key(field) && pod.status.get(field).is_some() {
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
}

/// The conditions on record that are the node's alone, and there only while they hold, where they are not told any more.
fn over(pod: &Pod, is_told: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let kinds = [resize::PENDING, resize::IN_PROGRESS].into_iter();
    kinds
        .filter(|&kind| !is_told(kind) && has(&pod.status["conditions"], kind))
        .collect()
}

impl Status<'_> {
    /// The text of the [`patch`] that turns the recorded status into this one.
    pub(crate) fn patch(mut self, pod: &Pod) -> Vec<u8> {
        complete(pod, &mut self.members);
        let over = over(pod, |kind| self.tells(kind));
        let told = self.conditions.iter().map(Word::Told);
        let over = over.into_iter().map(|kind| Word::Over {
            patch: "delete",
            kind,
        });
        let patch = Patch {
            metadata: Whose {
                uid: &pod.metadata.uid,
            },
            status: Members {
                conditions: told.chain(over).collect(),
                others: &self.members,
            },
        };
        let mut text = Vec::with_capacity(PATCH_BYTES);
        match serde_json::to_writer(&mut text, &patch) {
            Ok(()) => text,
            // Nothing of it cannot be written.
            Err(_) => Vec::new(),
        }
    }

    fn tells(&self, kind: &str) -> bool {
        self.conditions.iter().any(|one| one.kind() == kind)
    }

    /// Whether the recorded status already says all this.
    pub(crate) fn is_recorded(&self, pod: &Pod) -> bool {
        let recorded = pod.status["conditions"].as_array().map(Vec::as_slice);
        let recorded = recorded.unwrap_or_default();
        let is_there = |condition: &Condition<'_>| {
            let mut alike = recorded
                .iter()
                .filter(|one| one["type"] == condition.kind());
            alike.any(|one| without_nulls(&condition.value()) == without_nulls(one))
        };
        self.conditions.iter().all(is_there)
            && over(pod, |kind| self.tells(kind)).is_empty()
            && self
                .members
                .iter()
                .all(|(field, value)| is_same(pod, field, value))
            && is_all_told(pod, &self.members)
    }
}

#[derive(Serialize)]
struct Patch<'a> {
    metadata: Whose<'a>,
    status: Members<'a>,
}

#[derive(Serialize)]
struct Whose<'a> {
    uid: &'a str,
}

/// A status with the conditions first, where their name stands in the order of names.
struct Members<'a> {
    conditions: Vec<Word<'a>>,
    others: &'a Map<String, Value>,
}

/// An entry of the list of conditions.
#[derive(Serialize)]
#[serde(untagged)]
enum Word<'a> {
    Told(&'a Condition<'a>),
    Over {
        #[serde(rename = "$patch")]
        patch: &'static str,
        #[serde(rename = "type")]
        kind: &'static str,
    },
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, encoder: S) -> Result<S::Ok, S::Error> {
        let mut members = encoder.serialize_map(None)?;
        members.serialize_entry("conditions", &self.conditions)?;
        for (name, value) in self.others {
            members.serialize_entry(name, value)?;
        }
        members.end()
    }
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
        _ => is_same(pod, field, value),
    }) && is_all_told(pod, members)
}

/// Whether a field of the recorded status says the same.
fn is_same(pod: &Pod, field: &str, value: &Value) -> bool {
    pod.status.get(field).map(without_nulls) == Some(without_nulls(value))
}

/// Whether nothing is on record of why it ended that is not told.
fn is_all_told(pod: &Pod, members: &Map<String, Value>) -> bool {
    ["reason", "message"]
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
