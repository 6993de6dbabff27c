//! The conditions of a pod, from the statuses of its containers.
//!
//! Pure. Reasons and messages are a kubelet's.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::Value;

use super::admission::preempt;
use super::resize;
use super::status::{Inputs, exit_code};
use crate::clock;
use crate::spec::Pod;

/// A condition as the node tells it. Its fields stand in the order of their names, as those of a tree do.
#[derive(Debug, Clone, PartialEq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition<'a> {
    last_probe_time: (),
    last_transition_time: Cow<'a, str>,
    // Absent rather than empty; the patch has to say so, or an earlier text would stay.
    message: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_generation: Option<i64>,
    reason: Option<&'a str>,
    status: &'static str,
    #[serde(rename = "type")]
    kind: &'a str,
}

impl Condition<'_> {
    pub(super) fn kind(&self) -> &str {
        self.kind
    }

    /// As a tree.
    pub(super) fn value(&self) -> Value {
        // What has such fields is always a tree.
        serde_json::to_value(self).unwrap_or_default()
    }
}

pub(super) fn conditions<'a>(
    inputs: &Inputs<'a>,
    phase: &str,
    init: &[Value],
    apps: &[Value],
    has_ip: bool,
) -> Vec<Condition<'a>> {
    let pod = inputs.pod;
    let ended = matches!(phase, "Succeeded" | "Failed");
    let incomplete = incomplete(pod, init, apps);
    let unready = unready(pod, init, apps);
    let initialized = match (phase, incomplete.is_empty()) {
        ("Succeeded", _) => Ok("PodCompleted"),
        (_, true) => Ok(""),
        (_, false) => Err((
            "ContainersNotInitialized",
            message("containers with incomplete status", &incomplete),
        )),
    };
    let containers_ready = match phase {
        "Succeeded" => Err(("PodCompleted", String::new())),
        "Failed" => Err(("PodFailed", String::new())),
        _ if !unready.is_empty() => Err((
            "ContainersNotReady",
            message("containers with unready status", &unready),
        )),
        _ => Ok(""),
    };
    let ready = containers_ready
        .clone()
        .and_then(|reason| match gates(pod) {
            None => Ok(reason),
            Some(text) => Err(("ReadinessGatesNotReady", text)),
        });
    let sandbox = match !ended && inputs.observed.sandbox().is_some() && has_ip {
        true => Ok(""),
        false => Err(("", String::new())),
    };
    let list = [
        ("PodReadyToStartContainers", sandbox),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Ok("")),
    ];
    let list = list.into_iter();
    list.map(|(kind, outcome)| condition(inputs, kind, outcome))
        .chain(disruption(inputs))
        .chain(resizes(inputs))
        .collect()
}

/// The init containers that have not done yet what the others wait for.
fn incomplete(pod: &Pod, init: &[Value], apps: &[Value]) -> Vec<String> {
    let any_app_started = apps
        .iter()
        .any(|status| status.get("containerID").is_some());
    if any_app_started {
        return Vec::new();
    }
    pod.spec
        .init_containers
        .iter()
        .zip(init)
        .filter(|(container, status)| {
            let done = if container.is_sidecar() {
                is(status, "started")
            } else {
                exit_code(status) == Some(0)
            };
            !done
        })
        .map(|(_, status)| name(status))
        .collect()
}

/// The containers that count for the pod's readiness and are not ready.
fn unready(pod: &Pod, init: &[Value], apps: &[Value]) -> Vec<String> {
    let sidecars = pod
        .spec
        .init_containers
        .iter()
        .zip(init)
        .filter(|(c, _)| c.is_sidecar())
        .map(|(_, status)| status);
    sidecars
        .chain(apps)
        .filter(|status| !is(status, "ready"))
        .map(name)
        .collect()
}

fn name(status: &Value) -> String {
    status
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn is(status: &Value, field: &str) -> bool {
    status.get(field) == Some(&Value::Bool(true))
}

/// That the pod has not been given what it asks for, and that its containers do not have yet what it was given.
fn resizes<'a>(inputs: &Inputs<'a>) -> Vec<Condition<'a>> {
    let resize: &'a resize::Resize = inputs.resize;
    let told = |kind: &'a str, reason: &'a str, message: Option<&'a str>, generation: i64| {
        let mut told = condition(inputs, kind, Ok(reason));
        told.message = message.map(Cow::Borrowed);
        told.observed_generation = Some(generation);
        told
    };
    let pending = resize.pending.as_ref().map(|pending| {
        let message = Some(pending.message.as_str());
        told(resize::PENDING, pending.reason, message, pending.generation)
    });
    let progress = resize.progress.as_ref().map(|progress| {
        let error = progress.error.as_deref();
        let reason = error.map_or("", |_| "Error");
        told(resize::IN_PROGRESS, reason, error, progress.generation)
    });
    pending.into_iter().chain(progress).collect()
}

/// That the pod was ended for a more important one.
fn disruption<'a>(inputs: &Inputs<'a>) -> Option<Condition<'a>> {
    inputs
        .verdict
        .filter(|verdict| verdict.reason == preempt::REASON)?;
    let mut condition = condition(inputs, "DisruptionTarget", Ok("TerminationByKubelet"));
    let message = "Pod was preempted by Kubelet to accommodate a critical pod.";
    condition.message = Some(Cow::Borrowed(message));
    Some(condition)
}

fn message(what: &str, names: &[String]) -> String {
    format!("{what}: [{}]", names.join(" "))
}

fn gates(pod: &Pod) -> Option<String> {
    let recorded = pod
        .status
        .get("conditions")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let mut problems = Vec::new();
    for gate in &pod.spec.readiness_gates {
        let kind = &gate.condition_type;
        let status = recorded
            .iter()
            .find(|condition| condition.get("type").and_then(Value::as_str) == Some(kind))
            .map(|condition| {
                condition
                    .get("status")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
            });
        match status {
            None => problems.push(format!(
                "corresponding condition of pod readiness gate \"{kind}\" does not exist."
            )),
            Some("True") => {}
            Some(other) => problems.push(format!(
                "the status of pod readiness gate \"{kind}\" is not \"True\", but {other}"
            )),
        }
    }
    (!problems.is_empty()).then(|| problems.join(", "))
}

fn text<'a>(condition: &'a Value, field: &str) -> &'a str {
    let found = condition.get(field).and_then(Value::as_str);
    found.unwrap_or_default()
}

fn condition<'a>(
    inputs: &Inputs<'a>,
    kind: &'a str,
    outcome: Result<&'a str, (&'a str, String)>,
) -> Condition<'a> {
    let (status, reason, message) = match outcome {
        Ok(reason) => ("True", reason, String::new()),
        Err((reason, message)) => ("False", reason, message),
    };
    let pod: &'a Pod = inputs.pod;
    let recorded = pod.status.get("conditions").and_then(Value::as_array);
    let same = recorded
        .into_iter()
        .flatten()
        .find(|c| text(c, "type") == kind && text(c, "status") == status);
    let since = same
        .map(|c| text(c, "lastTransitionTime"))
        .filter(|since| !since.is_empty());
    let generation = pod.metadata.generation;
    Condition {
        last_probe_time: (),
        last_transition_time: match since {
            Some(since) => Cow::Borrowed(since),
            None => Cow::Owned(clock::format(inputs.now)),
        },
        message: (!message.is_empty()).then_some(Cow::Owned(message)),
        observed_generation: (generation > 0).then_some(generation),
        reason: (!reason.is_empty()).then_some(reason),
        status,
        kind,
    }
}
