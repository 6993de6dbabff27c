//! What a pod says to the plugins that a profile has to ask for: the group that it is placed with, and its deadline.

use super::{field, text};
use crate::resources::items;
use agent_runtime::timestamp::{self, Micros};
use serde_json::Value;

/// A label that names the group of a pod whose spec names none.
pub const GROUP_LABEL: &str = "scheduling.kontiki.io/pod-group";
/// How many pods of the group have to run for any of them to be of use.
const MIN_COUNT: &str = "scheduling.kontiki.io/pod-group-min-count";
/// By when the pod should be through.
const DEADLINE: &str = "scheduling.kontiki.io/deadline";

/// A group of pods that are placed together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name, in the namespace of the pod.
    pub name: String,
    /// How many have to be placed together.
    pub min_count: u32,
}

/// The group of a pod: a name, and a count above one. A pod that has only one of the two is a pod like others.
pub(super) fn group(object: &Value, spec: &Value) -> Option<Group> {
    let min_count = annotation(object, MIN_COUNT)?.trim().parse().ok()?;
    let of_spec = field(spec, "/schedulingGroup/podGroupName");
    let name = of_spec
        .or_else(|| object.get("metadata")?.get("labels")?.get(GROUP_LABEL))
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())?;
    (min_count > 1).then(|| Group {
        name: name.to_owned(),
        min_count,
    })
}

/// The deadline that the pod names, or that its `activeDeadlineSeconds` sets, counted from when it was made.
pub(super) fn deadline(object: &Value, spec: &Value) -> Option<Micros> {
    if let Some(named) = annotation(object, DEADLINE).and_then(timestamp::parse) {
        return Some(named);
    }
    let seconds = spec.get("activeDeadlineSeconds").and_then(Value::as_i64)?;
    let created = timestamp::parse(&text(object, "/metadata/creationTimestamp"))?;
    Some(created.saturating_add(seconds.saturating_mul(1_000_000)))
}

fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    let annotations = object.get("metadata")?.get("annotations")?;
    annotations.get(name)?.as_str()
}

/// Whether every container of the pod has ended well, so that nobody will replace it.
pub(super) fn succeeded(object: &Value) -> bool {
    field(object, "/status/phase").and_then(Value::as_str) == Some("Succeeded")
}

/// The names of the gates that are still closed.
pub(super) fn gates(spec: &Value) -> Vec<String> {
    let gates = items(spec, "schedulingGates");
    gates.map(|gate| text(gate, "/name")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Pod;
    use serde_json::{Value, json};

    fn pod(metadata: Value, spec: Value) -> Pod {
        Pod::compile(&json!({"metadata": metadata, "spec": spec}))
    }

    #[test]
    fn a_group_has_a_name_and_a_count_above_one() {
        let of = |labels: Value, count: Value, spec: Value| {
            let annotations = json!({"scheduling.kontiki.io/pod-group-min-count": count});
            pod(json!({"labels": labels, "annotations": annotations}), spec)
                .group
                .clone()
                .map(|group| (group.name, group.min_count))
        };
        let label = json!({"scheduling.kontiki.io/pod-group": "l"});
        let field = json!({"schedulingGroup": {"podGroupName": "f"}});
        let table = [
            (label.clone(), json!("3"), json!({}), Some(("l", 3))),
            (json!({}), json!("3"), field.clone(), Some(("f", 3))),
            (label.clone(), json!(" 2 "), field, Some(("f", 2))),
            (label.clone(), json!("1"), json!({}), None),
            (label.clone(), json!("-3"), json!({}), None),
            (label.clone(), json!("many"), json!({}), None),
            (label.clone(), json!(3), json!({}), None),
            (label, json!("99999999999"), json!({}), None),
            (json!({}), json!("3"), json!({}), None),
        ];
        for (labels, count, spec, expected) in table {
            let found = of(labels, count.clone(), spec);
            let expected = expected.map(|(name, count)| (name.to_owned(), count));
            assert_eq!(found, expected, "{count}");
        }
    }

    #[test]
    fn a_deadline_is_named_or_counted_from_the_creation() {
        let created = "2026-01-01T00:00:00Z";
        let of = |named: Value, seconds: Value| {
            let annotations = json!({"scheduling.kontiki.io/deadline": named});
            let metadata = json!({"annotations": annotations, "creationTimestamp": created});
            pod(metadata, json!({"activeDeadlineSeconds": seconds}))
                .deadline
                .micros()
        };
        let start = agent_runtime::timestamp::parse(created).unwrap();
        let table = [
            (json!("2026-01-01T01:00:05+01:00"), json!(60), Some(5)),
            (json!(null), json!(60), Some(60)),
            (json!("tomorrow"), json!(60), Some(60)),
            (json!(null), json!(null), None),
        ];
        for (named, seconds, expected) in table {
            let expected = expected.map(|seconds: i64| start + seconds * 1_000_000);
            assert_eq!(of(named.clone(), seconds), expected, "{named}");
        }
        assert_eq!(of(json!(null), json!(i64::MAX)), Some(i64::MAX));
    }
}
