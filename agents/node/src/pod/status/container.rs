//! The status of one container.

use serde_json::{Value, json};

use super::Inputs;
use crate::clock;
use crate::pod::container::{LABEL_HASH, definition_hash};
use crate::pod::plan::{self, Waiting};
use crate::runtime::{Exit, Observed, State};
use crate::spec::{Container, Pod, Role};

pub(super) fn container_status(inputs: &Inputs<'_>, role: Role, container: &Container) -> Value {
    let attempts = inputs
        .observed
        .containers
        .get(&container.name)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let current = attempts
        .iter()
        .find(|observed| observed.state != State::Created);
    let previous = current.and_then(|current| {
        attempts
            .iter()
            .find(|older| older.identity.attempt < current.identity.attempt)
    });
    let told = told(inputs, role, container, (current, previous));
    let mut status = json!({
        "name": container.name,
        "lastState": {},
        "ready": told.ready,
        "restartCount": match current {
            Some(current) => current.identity.attempt,
            None => plan::recorded_restarts(inputs.pod, &container.name),
        },
        "image": image(inputs.pod, container, current),
        "imageID": current.map_or("", |current| current.image_id.as_str()),
    });
    // Moved in: the macro would copy whole trees.
    status["state"] = told.state;
    if let Some(terminated) = told.last_state {
        status["lastState"]["terminated"] = terminated;
    }
    if role != Role::Ephemeral {
        status["started"] = json!(told.started);
    }
    if let Some(current) = current {
        status["containerID"] = json!(format!("{}://{}", inputs.scheme, current.id));
    }
    let resources = &container.resources;
    if !resources.requests.is_empty() || !resources.limits.is_empty() {
        let in_force = inputs.in_force.get(&container.name).unwrap_or(resources);
        status["resources"] = serde_json::to_value(in_force).unwrap_or_default();
        if !resources.requests.is_empty() {
            status["allocatedResources"] = json!(resources.requests);
        }
    } else if current.is_some() {
        status["resources"] = json!({});
    }
    if !container.volume_mounts.is_empty() {
        status["volumeMounts"] = container.volume_mounts.iter().map(mount_status).collect();
    }
    status
}

/// What is told of a container by what it does and has done.
struct Told {
    state: Value,
    last_state: Option<Value>,
    ready: bool,
    started: bool,
}

/// From the attempt that has been started last, and the one before it.
fn told(
    inputs: &Inputs<'_>,
    role: Role,
    container: &Container,
    (current, previous): (Option<&Observed>, Option<&Observed>),
) -> Told {
    let terminated = |observed: &Observed| {
        observed
            .exit()
            .map(|exit| terminated(inputs, observed, exit))
    };
    let mut last_state = previous.and_then(terminated);
    let results = current
        .and_then(|c| inputs.probes.get(&c.id))
        .copied()
        .unwrap_or_default();
    let (mut ready, mut started) = (false, false);
    let state = match current.map(|current| (current, &current.state)) {
        Some((_, State::Running { started_at })) => {
            started = results.started(container);
            ready = matches!(role, Role::App | Role::Sidecar) && results.ready(container);
            json!({"running": {"startedAt": clock::format(*started_at)}})
        }
        Some((observed, State::Exited(exit))) => {
            let waiting = inputs.waiting.get(&container.name);
            ready = role == Role::Init && exit.code == 0;
            match waiting.filter(|_| !inputs.over) {
                Some(waiting) => {
                    ready = false;
                    last_state = terminated(observed);
                    json!({"waiting": waiting_state(waiting)})
                }
                None => json!({"terminated": terminated(observed)}),
            }
        }
        Some((_, State::Created)) | None => absent(inputs, role, container),
    };
    Told {
        state,
        last_state,
        ready,
        started,
    }
}

/// The state of a container that is not there, or has not been started.
fn absent(inputs: &Inputs<'_>, role: Role, container: &Container) -> Value {
    match inputs.waiting.get(&container.name) {
        Some(waiting) => json!({"waiting": waiting_state(waiting)}),
        None if inputs.over && has_begun(inputs, role, &container.name) => {
            json!({"terminated": recorded_exit(inputs.pod, &container.name).unwrap_or_else(unknown_exit)})
        }
        None if inputs.pod.spec.init_containers.is_empty() => {
            json!({"waiting": {"reason": "ContainerCreating"}})
        }
        None => json!({"waiting": {"reason": "PodInitializing"}}),
    }
}

/// The image of the container that is there. Until it is replaced that is the one which was asked for before, and which only
/// the recorded status names: the runtime knows its content.
pub(super) fn image<'a>(
    pod: &'a Pod,
    container: &'a Container,
    current: Option<&Observed>,
) -> &'a str {
    let hash = current.and_then(|current| current.labels.get(LABEL_HASH));
    if hash.is_none_or(|hash| *hash == definition_hash(container)) {
        return &container.image;
    }
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let recorded = lists
        .iter()
        .filter_map(|list| pod.status[list].as_array())
        .flatten()
        .find(|status| status["name"] == container.name.as_str());
    recorded
        .and_then(|status| status["image"].as_str())
        .unwrap_or(&container.image)
}

fn mount_status(mount: &crate::spec::VolumeMount) -> Value {
    let mut status = json!({"name": mount.name, "mountPath": mount.mount_path});
    if mount.read_only {
        status["readOnly"] = json!(true);
        status["recursiveReadOnly"] = json!("Disabled");
    }
    status
}

fn waiting_state(waiting: &Waiting) -> Value {
    let mut state = json!({"reason": waiting.reason});
    if !waiting.message.is_empty() {
        state["message"] = json!(waiting.message);
    }
    state
}

fn terminated(inputs: &Inputs<'_>, observed: &Observed, exit: &Exit) -> Value {
    let reason = match exit {
        Exit {
            start_error: Some(_),
            ..
        } => "StartError",
        Exit {
            oom_killed: true, ..
        } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    };
    let mut state = json!({
        "exitCode": exit.code,
        "reason": reason,
        "startedAt": exit.started_at.map_or_else(|| "1970-01-01T00:00:00Z".to_owned(), clock::format),
        "finishedAt": clock::format(exit.finished_at),
        "containerID": format!("{}://{}", inputs.scheme, observed.id),
    });
    let message = exit
        .start_error
        .as_ref()
        .or_else(|| inputs.messages.get(&observed.id));
    if let Some(message) = message.filter(|message| !message.is_empty()) {
        state["message"] = json!(message);
    }
    state
}

/// Whether the pod has come as far as this container, so that one which is missing has been lost: one that a pod never
/// came to waits for ever.
fn has_begun(inputs: &Inputs<'_>, role: Role, name: &str) -> bool {
    let seen = |container: &Container| {
        let attempts = inputs.observed.containers.get(&container.name);
        let started = |observed: &Observed| observed.state != State::Created;
        attempts.is_some_and(|attempts| attempts.iter().any(started))
            || plan::was_recorded(inputs.pod, &container.name)
    };
    let spec = &inputs.pod.spec;
    let later = spec
        .init_containers
        .iter()
        .skip_while(|container| container.name != name);
    let initialised = || {
        let last = spec.init_containers.last().and_then(|container| {
            let latest = inputs.observed.latest(&container.name)?;
            Some(match latest.exit() {
                Some(exit) => exit.code == 0,
                None => container.is_sidecar() && latest.is_running(),
            })
        });
        spec.init_containers.is_empty() || last == Some(true)
    };
    let any_app = || spec.containers.iter().any(seen);
    match role {
        Role::App => any_app() || initialised(),
        Role::Init | Role::Sidecar => any_app() || later.into_iter().any(seen),
        Role::Ephemeral => {
            let named = |container: &&Container| container.name == name;
            spec.ephemeral_containers.iter().filter(named).any(seen)
        }
    }
}

/// The end that the API has on record for a container.
fn recorded_exit(pod: &Pod, name: &str) -> Option<Value> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let statuses = lists
        .iter()
        .filter_map(|list| pod.status.get(list)?.as_array())
        .flatten();
    statuses
        .filter(|status| status.get("name").and_then(Value::as_str) == Some(name))
        .find_map(|status| status.pointer("/state/terminated").cloned())
}

/// For a container of an ended pod about which the runtime knows nothing any more.
fn unknown_exit() -> Value {
    json!({
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "startedAt": null,
        "finishedAt": null,
    })
}
