//! Other amounts for containers that run: what a pod was given of what it asks for, and what its containers have been told of
//! that.
//!
//! Pure; [`act`] does what follows. The API asks (`spec`), the node gives (`allocatedResources` in the status; the pod that the
//! agent works with has these amounts in its spec), and the runtime is told (`resources` in the status). The record in the API
//! is the checkpoint: an agent that starts anew takes what was given from there.

mod act;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::container::{self, LABEL_HASH, definition_hash};
use super::plan::Observation;
use crate::quantity;
use crate::runtime::{Limits, Observed, State};
use crate::spec::{Container, Pod, Resources, Role};

pub(crate) const PENDING: &str = "PodResizePending";
pub(crate) const IN_PROGRESS: &str = "PodResizeInProgress";
pub(crate) const DEFERRED: &str = "Deferred";
pub(crate) const INFEASIBLE: &str = "Infeasible";

/// The amounts of the containers that can be resized, by name.
pub(crate) type Allocation = BTreeMap<String, Resources>;

/// How far a resize has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Resize {
    /// What is asked for is not given.
    pub(crate) pending: Option<Pending>,
    /// What was given is not in force yet.
    pub(crate) progress: Option<Progress>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pending {
    /// [`DEFERRED`] or [`INFEASIBLE`].
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    /// The generation of the pod that was looked at.
    pub(crate) generation: i64,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) generation: i64,
    /// What the last try has met.
    pub(crate) error: Option<String>,
}

impl Resize {
    /// As an earlier agent has left it on record.
    pub(crate) fn recorded(pod: &Pod) -> Resize {
        let conditions = pod.status["conditions"].as_array();
        let find = |kind: &str| {
            let mut all = conditions.into_iter().flatten();
            all.find(|one| one["type"] == kind && one["status"] == "True")
        };
        let generation = |one: &Value| one["observedGeneration"].as_i64().unwrap_or(0);
        let message = |one: &Value| one["message"].as_str().map(str::to_owned);
        Resize {
            pending: find(PENDING).map(|one| Pending {
                reason: match one["reason"] == INFEASIBLE {
                    true => INFEASIBLE,
                    false => DEFERRED,
                },
                message: message(one).unwrap_or_default(),
                generation: generation(one),
            }),
            progress: find(IN_PROGRESS).map(|one| Progress {
                generation: generation(one),
                error: message(one),
            }),
        }
    }
}

/// Containers that can be resized while the pod runs.
fn resizable(pod: &Pod) -> impl Iterator<Item = (Role, &Container)> {
    pod.all_containers()
        .filter(|(role, _)| matches!(role, Role::App | Role::Sidecar))
}

/// What the spec of a pod says.
pub(crate) fn of(pod: &Pod) -> Allocation {
    let each = resizable(pod);
    each.map(|(_, container)| (container.name.clone(), container.resources.clone()))
        .collect()
}

fn recorded_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a Value> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let mut all = lists
        .iter()
        .filter_map(|list| pod.status[list].as_array())
        .flatten();
    all.find(|status| status["name"] == name)
}

fn amounts(value: &Value) -> BTreeMap<String, Value> {
    BTreeMap::deserialize(value).unwrap_or_default()
}

/// What a pod was given according to the API; what its spec says where nothing is on record.
pub(crate) fn recorded(pod: &Pod) -> Allocation {
    let mut allocation = of(pod);
    for (name, resources) in &mut allocation {
        let status = recorded_status(pod, name);
        if let Some(status) = status.filter(|status| status["resources"].is_object()) {
            resources.requests = amounts(&status["allocatedResources"]);
            resources.limits = amounts(&status["resources"]["limits"]);
        }
    }
    allocation
}

/// Whether the same amounts are meant, in whatever words.
pub(crate) fn is_same(one: &Allocation, other: &Allocation) -> bool {
    let is_same = |(one, other): (&BTreeMap<String, Value>, &BTreeMap<String, Value>)| {
        let mut pairs = one.iter().zip(other);
        one.len() == other.len()
            && pairs.all(|((name, x), (other_name, y))| {
                let same = x == y || quantity::milli_of(x) == quantity::milli_of(y);
                name == other_name && same
            })
    };
    let mut pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs.all(|((name, x), (other_name, y))| {
            let parts = [(&x.requests, &y.requests), (&x.limits, &y.limits)];
            name == other_name && parts.into_iter().all(is_same)
        })
}

/// Whether a container that can be resized has other limits than those that are on record, in whatever words. From the object as
/// the API has it: who simulates thousands of pods asks this of each version of each.
pub(crate) fn has_other_limits(object: &Value) -> bool {
    let lists = [
        ("containers", "containerStatuses"),
        ("initContainers", "initContainerStatuses"),
    ];
    lists.into_iter().any(|(list, statuses)| {
        let containers = object["spec"][list].as_array().into_iter().flatten();
        let mut resizable =
            containers.filter(|one| list == "containers" || one["restartPolicy"] == "Always");
        resizable.any(|container| {
            let mut all = object["status"][statuses].as_array().into_iter().flatten();
            let told = all.find(|status| status["name"] == container["name"]);
            let told = told.map(|status| &status["resources"]);
            let limits = &container["resources"]["limits"];
            told.is_some_and(|told| told.is_object() && !are_same(limits, &told["limits"]))
        })
    })
}

/// Whether two objects of quantities mean the same. One that is not there is empty.
fn are_same(one: &Value, other: &Value) -> bool {
    let count = |value: &Value| value.as_object().map_or(0, |members| members.len());
    let mut members = one.as_object().into_iter().flatten();
    count(one) == count(other)
        && members.all(|(name, x)| {
            let y = &other[name.as_str()];
            x == y || quantity::milli_of(x).is_some_and(|x| quantity::milli_of(y) == Some(x))
        })
}

/// Puts what was given in the place of what is asked for.
pub(crate) fn overlay(pod: &mut Pod, allocation: &Allocation) {
    let spec = &mut pod.spec;
    let sidecars = spec.init_containers.iter_mut();
    let sidecars = sidecars.filter(|container| container.is_sidecar());
    for container in sidecars.chain(&mut spec.containers) {
        if let Some(given) = allocation.get(&container.name) {
            container.resources.clone_from(given);
        }
    }
}

/// A running container that has to be told its limits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Update {
    pub(crate) id: String,
    pub(crate) container: String,
    pub(crate) now: Limits,
    pub(crate) limits: Limits,
}

impl Update {
    /// The limit of memory in bytes, where it becomes lower.
    pub(crate) fn lower_memory(&self) -> Option<i64> {
        let (now, next) = (self.now.memory_bytes, self.limits.memory_bytes);
        (next > 0 && (now == 0 || next < now)).then_some(next)
    }

    fn grows(&self) -> bool {
        let larger = |now: i64, next: i64| now != 0 && (next == 0 || next > now);
        larger(self.now.memory_bytes, self.limits.memory_bytes)
            || larger(self.now.cpu_quota_us, self.limits.cpu_quota_us)
    }
}

/// Who has to be told, those that shrink first: what they had may be what the others get. `told` is what this agent has told
/// containers since they were made, by id.
pub(crate) fn updates(
    pod: &Pod,
    observed: &Observation,
    told: &BTreeMap<String, Limits>,
    node_memory_bytes: i64,
) -> Vec<Update> {
    let mut updates = Vec::new();
    for (role, container) in resizable(pod) {
        let current = observed.current(&container.name);
        let Some(current) = current.filter(|one| one.is_running() && !is_replaced(container, one))
        else {
            continue;
        };
        let Some(now) = told.get(&current.id).or(current.limits.as_ref()) else {
            continue;
        };
        let limits = container::limits(pod, role, container, node_memory_bytes);
        if !now.binds_like(&limits) {
            updates.push(Update {
                id: current.id.clone(),
                container: container.name.clone(),
                now: now.clone(),
                limits,
            });
        }
    }
    updates.sort_by_key(Update::grows);
    updates
}

/// Whether a container gives way to another one.
fn is_replaced(container: &Container, current: &Observed) -> bool {
    let hash = current.labels.get(LABEL_HASH);
    hash.is_some_and(|hash| *hash != definition_hash(container))
}

/// The containers that do not have yet what they were given, with what they have as it is on record.
pub(crate) fn lagging(pod: &Pod, observed: &Observation, updates: &[Update]) -> Allocation {
    let is_lagging = |container: &Container| {
        let waits = updates.iter().any(|one| one.container == container.name);
        let current = observed.current(&container.name);
        let began = current.filter(|one| one.state != State::Created);
        waits || began.is_some_and(|one| is_replaced(container, one))
    };
    let each = resizable(pod).filter(|(_, container)| is_lagging(container));
    each.map(|(_, container)| {
        let status = recorded_status(pod, &container.name);
        let status = status.filter(|status| status["resources"].is_object());
        let has = status.map(|status| Resources {
            limits: amounts(&status["resources"]["limits"]),
            requests: amounts(&status["resources"]["requests"]),
        });
        let has = has.unwrap_or_else(|| container.resources.clone());
        (container.name.clone(), has)
    })
    .collect()
}

/// What the limits of memory that are to be lowered collide with; `usage` gives the bytes that a container uses.
pub(crate) fn obstacle(updates: &[Update], usage: impl Fn(&str) -> Option<u64>) -> Option<String> {
    let collisions: Vec<String> = updates
        .iter()
        .filter_map(|update| {
            let limit = update.lower_memory()?;
            let used = usage(&update.id)?;
            let is_below = u64::try_from(limit).is_ok_and(|limit| limit < used);
            is_below.then(|| {
                format!(
                    "attempting to set container {:?} memory limit ({limit}) below current usage ({used})",
                    update.container
                )
            })
        })
        .collect();
    let text = match collisions.as_slice() {
        [] => return None,
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    Some(format!("cannot decrease memory limits: {text}"))
}

/// The text of an event: what has become of the resize, and the amounts in question.
pub(crate) fn text(what: &str, pod: &Pod, generation: i64, error: Option<&str>) -> String {
    let list = |containers: &[Container]| {
        let one = |container: &Container| {
            let name = Value::from(container.name.as_str());
            let resources = json!(container.resources);
            format!("{{\"name\":{name},\"resources\":{resources}}}")
        };
        let all: Vec<String> = containers.iter().map(one).collect();
        format!("[{}]", all.join(","))
    };
    let mut members = Vec::new();
    if !pod.spec.init_containers.is_empty() {
        let init = list(&pod.spec.init_containers);
        members.push(format!("\"initContainers\":{init}"));
    }
    members.push(format!("\"containers\":{}", list(&pod.spec.containers)));
    members.push(format!("\"generation\":{generation}"));
    members.extend(error.map(|error| format!("\"error\":{}", Value::from(error))));
    format!("Pod resize {what}: {{{}}}", members.join(","))
}

#[cfg(test)]
mod tests;
