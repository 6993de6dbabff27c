//! The status of a pod as the API shows it, assembled from what the runtime has.
//!
//! Pure. The reasons and messages are a kubelet's: `kubectl` prints them, controllers and users match on them.

mod container;
mod phase;
mod record;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use time::OffsetDateTime;

use self::container::container_status;
pub(super) use self::phase::exit_code;
use self::phase::phase;
pub(crate) use self::record::{is_recorded, patch};
use super::admission::REJECTED;
use super::conditions::conditions;
use super::container::Qos;
use super::plan::{Observation, Waiting};
use super::probe::Results;
use super::resize::{Allocation, Resize};
use crate::clock;
use crate::spec::{Container, Pod, Role};

/// Everything a status depends on.
pub(crate) struct Inputs<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observation,
    pub(crate) resize: &'a Resize,
    /// The amounts of containers that do not have those yet which the pod was given.
    pub(crate) in_force: &'a Allocation,
    pub(crate) probes: &'a BTreeMap<String, Results>,
    /// Why containers that do not run wait: failed starts, back-offs.
    pub(crate) waiting: &'a BTreeMap<String, Waiting>,
    /// Messages that dead containers left, by container id.
    pub(crate) messages: &'a BTreeMap<String, String>,
    /// Set when the node has ended the pod for a reason of its own.
    pub(crate) verdict: Option<&'a Verdict>,
    /// Whether the pod is over: nothing runs or will.
    pub(crate) over: bool,
    /// `docker`, `hollow`.
    pub(crate) scheme: &'a str,
    pub(crate) host_ip: &'a str,
    pub(crate) started_at: OffsetDateTime,
    pub(crate) now: OffsetDateTime,
}

/// Why the node has failed a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The status object, conditions included that this node owns and nobody else's.
pub(crate) fn assemble(inputs: &Inputs<'_>) -> Value {
    let pod = inputs.pod;
    let init: Vec<Value> = statuses(inputs, &pod.spec.init_containers, true);
    let apps: Vec<Value> = statuses(inputs, &pod.spec.containers, false);
    let ephemeral: Vec<Value> = pod
        .spec
        .ephemeral_containers
        .iter()
        .map(|container| container_status(inputs, Role::Ephemeral, container))
        .collect();
    let phase = phase(inputs, &init, &apps);
    let ips = addresses(inputs);
    let mut status = json!({
        "observedGeneration": pod.metadata.generation,
        "phase": phase,
        "hostIP": inputs.host_ip,
        "hostIPs": [{"ip": inputs.host_ip}],
        "startTime": clock::format(inputs.started_at),
        "qosClass": Qos::of(pod).as_str(),
    });
    // Moved in: the macro would copy whole trees.
    status["conditions"] = conditions(inputs, phase, &init, &apps, !ips.is_empty());
    status["containerStatuses"] = Value::Array(apps);
    if !init.is_empty() {
        status["initContainerStatuses"] = Value::Array(init);
    }
    if !ephemeral.is_empty() {
        status["ephemeralContainerStatuses"] = Value::Array(ephemeral);
    }
    if let Some(first) = ips.first() {
        status["podIP"] = json!(first);
        status["podIPs"] = ips.iter().map(|ip| json!({"ip": ip})).collect();
    }
    if let Some(verdict) = inputs.verdict {
        status["reason"] = json!(verdict.reason);
        status["message"] = json!(verdict.message);
    }
    if let Some(status) = status.as_object_mut() {
        if pod.metadata.generation == 0 {
            status.remove("observedGeneration");
        }
        // Kubernetes tells of no containers where none was ever to run, so that lists of pods show why.
        if was_rejected(inputs) {
            status.remove("containerStatuses");
            status.remove("initContainerStatuses");
        }
    }
    status
}

/// Whether the node has not taken the pod.
fn was_rejected(inputs: &Inputs<'_>) -> bool {
    let recorded = inputs.pod.status.get("message").and_then(Value::as_str);
    let said = inputs.verdict.map(|verdict| verdict.message.as_str());
    let said = said.or(recorded);
    inputs.observed.containers.is_empty() && said.is_some_and(|text| text.starts_with(REJECTED))
}

fn addresses(inputs: &Inputs<'_>) -> Vec<String> {
    if inputs.pod.spec.host_network {
        return match inputs.observed.sandboxes.is_empty() && !inputs.over {
            true => Vec::new(),
            false => vec![inputs.host_ip.to_owned()],
        };
    }
    if let Some(ip) = inputs
        .observed
        .sandbox()
        .and_then(|sandbox| sandbox.ip.clone())
    {
        return vec![ip];
    }
    // A sandbox that has ended has lost its address; the record keeps the last one.
    let recorded = inputs
        .pod
        .status
        .get("podIPs")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    recorded
        .iter()
        .filter_map(|entry| entry.get("ip").and_then(Value::as_str))
        .map(str::to_owned)
        .collect()
}

fn statuses(inputs: &Inputs<'_>, containers: &[Container], init: bool) -> Vec<Value> {
    containers
        .iter()
        .map(|container| {
            let role = match (init, container.is_sidecar()) {
                (false, _) => Role::App,
                (true, true) => Role::Sidecar,
                (true, false) => Role::Init,
            };
            container_status(inputs, role, container)
        })
        .collect()
}

#[cfg(test)]
mod tests;
