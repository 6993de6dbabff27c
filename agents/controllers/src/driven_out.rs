//! Pods that are deleted because of a taint: marked as disrupted, reported and deleted in one plan.

use crate::patches;
use agent_runtime::EventType;
use agent_runtime::events::reference;
use agent_runtime::kinds::Pod;
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::PODS;
use agent_runtime::timestamp::Micros;
use serde_json::json;

/// In which words it is told that a pod is driven out.
pub(crate) struct Words {
    /// Reason of the condition `DisruptionTarget`.
    pub(crate) reason: &'static str,
    /// Its message.
    pub(crate) message: &'static str,
    /// Reason of the event.
    pub(crate) event: &'static str,
}

/// Marks and deletes the pod. `note` is the message of the event.
pub(crate) fn drive_out(pod: &Pod, words: &Words, note: String, now: Micros) -> Plan {
    let Words {
        reason,
        message,
        event,
    } = *words;
    let condition = patches::condition("DisruptionTarget", "True", reason, message, now);
    let mark = patches::one_condition(&PODS, &pod.metadata, &json!(condition));
    let report = Report {
        regarding: reference(&PODS, &pod.metadata),
        kind: EventType::Normal,
        reason: event,
        message: note,
    };
    Plan::of(vec![
        Op::Event(Box::new(report)),
        mark,
        Op::delete(&PODS, &pod.metadata),
    ])
}
