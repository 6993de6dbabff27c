//! The status of a pod as the API shows it, assembled from what the runtime has.
//!
//! Pure. The reasons and messages are a kubelet's: `kubectl` prints them, controllers and users match on them.

mod container;
mod phase;
mod record;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use self::container::container_status;
pub(super) use self::phase::exit_code;
use self::phase::phase;
pub(crate) use self::record::{is_recorded, patch};
use super::admission::REJECTED;
use super::conditions::{Condition, conditions};
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
    Status::of(inputs).into_value()
}

/// The same before it is a tree: half of that are the conditions, and whoever writes the status down at once needs no tree of them.
#[derive(Debug, Clone, PartialEq, Hash)]
pub(crate) struct Status<'a> {
    /// All but the conditions.
    members: Map<String, Value>,
    conditions: Vec<Condition<'a>>,
}

impl<'a> Status<'a> {
    pub(crate) fn of(inputs: &Inputs<'a>) -> Status<'a> {
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
        let conditions = conditions(inputs, phase, &init, &apps, !ips.is_empty());
        let mut members = Map::new();
        let mut put = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
        if pod.metadata.generation != 0 {
            put("observedGeneration", json!(pod.metadata.generation));
        }
        put("phase", json!(phase));
        put("hostIP", json!(inputs.host_ip));
        put("hostIPs", json!([{"ip": inputs.host_ip}]));
        put("startTime", json!(clock::format(inputs.started_at)));
        put("qosClass", json!(Qos::of(pod).as_str()));
        // Kubernetes tells of no containers where none was ever to run, so that lists of pods show why.
        if !was_rejected(inputs) {
            put("containerStatuses", Value::Array(apps));
            if !init.is_empty() {
                put("initContainerStatuses", Value::Array(init));
            }
        }
        if !ephemeral.is_empty() {
            put("ephemeralContainerStatuses", Value::Array(ephemeral));
        }
        if let Some(first) = ips.first() {
            put("podIP", json!(first));
            put("podIPs", ips.iter().map(|ip| json!({"ip": ip})).collect());
        }
        if let Some(verdict) = inputs.verdict {
            put("reason", json!(verdict.reason));
            put("message", json!(verdict.message));
        }
        Status {
            members,
            conditions,
        }
    }

    fn into_value(self) -> Value {
        let conditions = self.conditions.iter().map(Condition::value).collect();
        let mut members = self.members;
        members.insert("conditions".to_owned(), conditions);
        Value::Object(members)
    }
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
