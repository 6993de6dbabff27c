//! The conditions of the node's status: what of them is news, and since when each is as it is.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::clock;

/// Status by type of the node's conditions.
pub(crate) type Conditions = BTreeMap<String, String>;

pub(crate) fn conditions_of(status: &Value) -> Conditions {
    let list = status.get("conditions").and_then(Value::as_array);
    let text = |condition: &Value, field: &str| {
        let text = condition.get(field).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    list.into_iter()
        .flatten()
        .map(|condition| (text(condition, "type"), text(condition, "status")))
        .collect()
}

/// Whether the API says something else than it was told last: the node controller has taken the node for dead.
pub(super) fn is_contradicted(told: &Conditions, node: &Value) -> bool {
    let shown = conditions_of(&node["status"]);
    told.iter()
        .any(|(kind, status)| shown.get(kind) != Some(status))
}

/// The reasons of the events that tell what has changed since the conditions were told last.
pub(crate) fn news(told: &Conditions, current: &Conditions) -> Vec<&'static str> {
    const REASONS: [(&str, &str, &str); 4] = [
        (
            "MemoryPressure",
            "NodeHasInsufficientMemory",
            "NodeHasSufficientMemory",
        ),
        (
            "DiskPressure",
            "NodeHasDiskPressure",
            "NodeHasNoDiskPressure",
        ),
        (
            "PIDPressure",
            "NodeHasInsufficientPID",
            "NodeHasSufficientPID",
        ),
        ("Ready", "NodeReady", "NodeNotReady"),
    ];
    let changed = REASONS
        .iter()
        .filter(|(kind, ..)| told.get(*kind) != current.get(*kind));
    changed
        .map(
            |(kind, yes, no)| match current.get(*kind).map(String::as_str) {
                Some("True") => *yes,
                _ => *no,
            },
        )
        .collect()
}

/// Statuses and times by type of condition, as last changed.
pub(crate) type Transitions = BTreeMap<String, (String, OffsetDateTime)>;

/// Those on record, so that a restart of the agent does not look like a change.
pub(crate) fn transitions_of(node: &Value) -> Transitions {
    let conditions = node.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    let read = |condition: &Value| {
        let text = |field: &str| condition.get(field).and_then(Value::as_str);
        Some((
            text("type")?.to_owned(),
            (
                text("status")?.to_owned(),
                clock::parse(text("lastTransitionTime")?)?,
            ),
        ))
    };
    conditions.filter_map(read).collect()
}

pub(crate) fn stamp(status: &mut Value, transitions: &mut Transitions, now: OffsetDateTime) {
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let text = |field: &str| {
            condition
                .get(field)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let (kind, value) = (text("type"), text("status"));
        let entry = transitions
            .entry(kind)
            .or_insert_with(|| (value.clone(), now));
        if entry.0 != value {
            *entry = (value, now);
        }
        let since = entry.1;
        condition["lastTransitionTime"] = json!(clock::format(since));
        condition["lastHeartbeatTime"] = json!(clock::format(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_told_once() {
        let conditions = |ready: &str, disk: &str| -> Conditions {
            let all = [
                ("Ready", ready),
                ("DiskPressure", disk),
                ("MemoryPressure", "False"),
                ("PIDPressure", "False"),
            ];
            all.map(|(kind, status)| (kind.to_owned(), status.to_owned()))
                .into()
        };
        let first = conditions("True", "False");
        assert_eq!(
            news(&Conditions::new(), &first),
            [
                "NodeHasSufficientMemory",
                "NodeHasNoDiskPressure",
                "NodeHasSufficientPID",
                "NodeReady"
            ]
        );
        assert!(
            news(&first, &first).is_empty(),
            "nor after a restart of the agent"
        );
        assert_eq!(
            news(&first, &conditions("False", "True")),
            ["NodeHasDiskPressure", "NodeNotReady"]
        );
    }

    #[test]
    fn a_node_that_was_taken_for_dead_has_become_ready_now() {
        let node = |ready: &str| {
            json!({"status": {"conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:05Z"},
                {"type": "NetworkUnavailable", "status": "True", "lastTransitionTime": "1970-01-01T00:00:05Z"},
            ]}})
        };
        let told: Conditions = [("Ready".to_owned(), "True".to_owned())].into();
        assert!(!is_contradicted(&told, &node("True")));
        assert!(is_contradicted(&told, &node("Unknown")));
        assert!(is_contradicted(&told, &json!({})));
        let mut transitions = transitions_of(&node("Unknown"));
        let mut value = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let now = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(70);
        stamp(&mut value, &mut transitions, now);
        assert_eq!(
            value["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:01:10Z"
        );
        let shown = conditions_of(&node("Unknown")["status"]);
        assert_eq!(
            news(&shown, &told).last(),
            Some(&"NodeReady"),
            "which is an event"
        );
    }

    #[test]
    fn transition_times_move_only_with_the_status() {
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let mut transitions = [("Ready".to_owned(), ("True".to_owned(), at(5)))].into();
        let mut value = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        stamp(&mut value, &mut transitions, at(60));
        assert_eq!(
            value["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:00:05Z"
        );
        value["conditions"][0]["status"] = json!("False");
        stamp(&mut value, &mut transitions, at(70));
        assert_eq!(
            value["conditions"][0]["lastTransitionTime"],
            "1970-01-01T00:01:10Z"
        );
    }
}
