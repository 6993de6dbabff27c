//! The status of a pod as the API shows it, assembled from what the runtime has.
//!
//! Pure. The reasons and messages are a kubelet's: `kubectl` prints them, controllers and users match on them.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::admission::REJECTED;
use super::conditions::conditions;
use super::container::{LABEL_HASH, Qos, definition_hash};
use super::plan::{self, Observation, Waiting};
use super::probe::Results;
use super::resize::{self, Allocation, Resize};
use crate::clock;
use crate::runtime::{Exit, Observed, State};
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
        "conditions": conditions(inputs, phase, &init, &apps, !ips.is_empty()),
        "hostIP": inputs.host_ip,
        "hostIPs": [{"ip": inputs.host_ip}],
        "startTime": clock::format(inputs.started_at),
        "containerStatuses": apps,
        "qosClass": Qos::of(pod).as_str(),
    });
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

fn container_status(inputs: &Inputs<'_>, role: Role, container: &Container) -> Value {
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
    let waiting = inputs.waiting.get(&container.name);
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
        Some((_, State::Created)) | None => match waiting {
            Some(waiting) => json!({"waiting": waiting_state(waiting)}),
            None if inputs.over && has_begun(inputs, role, &container.name) => {
                json!({"terminated": recorded_exit(inputs.pod, &container.name).unwrap_or_else(unknown_exit)})
            }
            None if inputs.pod.spec.init_containers.is_empty() => {
                json!({"waiting": {"reason": "ContainerCreating"}})
            }
            None => json!({"waiting": {"reason": "PodInitializing"}}),
        },
    };
    let mut status = json!({
        "name": container.name,
        "state": state,
        "lastState": last_state.map_or_else(|| json!({}), |terminated| json!({"terminated": terminated})),
        "ready": ready,
        "restartCount": match current {
            Some(current) => current.identity.attempt,
            None => plan::recorded_restarts(inputs.pod, &container.name),
        },
        "image": image(inputs.pod, container, current),
        "imageID": current.map_or("", |current| current.image_id.as_str()),
    });
    if role != Role::Ephemeral {
        status["started"] = json!(started);
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

/// The image of the container that is there. Until it is replaced that is the one which was asked for before, and which only
/// the recorded status names: the runtime knows its content.
fn image<'a>(pod: &'a Pod, container: &'a Container, current: Option<&Observed>) -> &'a str {
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

fn state_of<'a>(status: &'a Value, state: &str) -> Option<&'a Map<String, Value>> {
    status.get("state")?.get(state)?.as_object()
}

pub(super) fn exit_code(status: &Value) -> Option<i64> {
    state_of(status, "terminated")?.get("exitCode")?.as_i64()
}

fn phase(inputs: &Inputs<'_>, init: &[Value], apps: &[Value]) -> &'static str {
    // What has been recorded as ended stays as it ended.
    match inputs.pod.recorded_phase() {
        "Succeeded" => return "Succeeded",
        "Failed" => return "Failed",
        _ => {}
    }
    if inputs.verdict.is_some() {
        return "Failed";
    }
    let pod = inputs.pod;
    let any_app_started = apps
        .iter()
        .any(|status| status.get("containerID").is_some());
    let mut pending_init = false;
    let (mut failed_init, mut ended_init) = (false, false);
    for (container, status) in inputs.pod.spec.init_containers.iter().zip(init) {
        if container.is_sidecar() {
            pending_init |= status.get("started") != Some(&Value::Bool(true));
            continue;
        }
        match exit_code(status) {
            Some(0) => {}
            Some(code) => {
                failed_init = true;
                ended_init |= !plan::should_restart(pod, Role::Init, container, code);
                pending_init = true;
            }
            None => pending_init = true,
        }
    }
    if ended_init {
        return "Failed";
    }
    let count =
        |matches: &dyn Fn(&Value) -> bool| apps.iter().filter(|status| matches(status)).count();
    let running = count(&|status| state_of(status, "running").is_some());
    let was_stopped = |status: &Value| status.pointer("/lastState/terminated").is_some();
    let waiting = count(&|status| state_of(status, "waiting").is_some() && !was_stopped(status));
    let stopped = apps.len() - running - waiting;
    let succeeded = count(&|status| exit_code(status) == Some(0));
    if (pending_init && !any_app_started && !inputs.over) || waiting > 0 {
        return if inputs.over { "Failed" } else { "Pending" };
    }
    if running > 0 {
        return "Running";
    }
    if inputs.over {
        return match stopped == succeeded && !failed_init {
            true => "Succeeded",
            false => "Failed",
        };
    }
    // One that waits has its end behind it, and may have a start before it.
    let last_code = |status: &Value| {
        let last = status.pointer("/lastState/terminated/exitCode");
        exit_code(status).or_else(|| last.and_then(Value::as_i64))
    };
    let mut each = pod.spec.containers.iter().zip(apps);
    let restarts = each.any(|(container, status)| {
        last_code(status).is_some_and(|code| {
            plan::should_restart(pod, Role::App, container, code)
                || plan::is_outgrown(inputs.observed, container)
        })
    });
    match (restarts, stopped == succeeded) {
        (true, _) => "Running",
        (false, true) => "Succeeded",
        (false, false) => "Failed",
    }
}

/// The strategic merge patch that turns the recorded status into this one.
pub(crate) fn patch(pod: &Pod, status: &Value) -> Value {
    let mut status = status.clone();
    if let Some(members) = status.as_object_mut() {
        for (field, recorded) in [
            ("reason", "reason"),
            ("message", "message"),
            ("podIP", "podIP"),
            ("podIPs", "podIPs"),
        ] {
            if !members.contains_key(field) && pod.status.get(recorded).is_some() {
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
        // These are the node's alone, and there only while they hold.
        let over = [resize::PENDING, resize::IN_PROGRESS].into_iter();
        let over = over.filter(|kind| {
            let told = members.get("conditions").is_some_and(|all| has(all, kind));
            !told && has(&pod.status["conditions"], kind)
        });
        let over: Vec<Value> = over
            .map(|kind| json!({"$patch": "delete", "type": kind}))
            .collect();
        if let Some(Value::Array(conditions)) = members.get_mut("conditions") {
            conditions.extend(over);
        }
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
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
        _ => pod.status.get(field).map(without_nulls) == Some(without_nulls(value)),
    }) && ["reason", "message"]
        .iter()
        .all(|field| members.contains_key(*field) || pod.status.get(*field).is_none())
}

fn without_nulls(value: &Value) -> Value {
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

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::pod::container::{LABEL_SANDBOX, identity};
    use crate::runtime::SANDBOX;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    fn pod(policy: &str, init: bool) -> Pod {
        let init = if init {
            json!([{"name": "i", "image": "x"}])
        } else {
            json!([])
        };
        Pod::decode(&json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1},
            "spec": {"restartPolicy": policy, "initContainers": init, "containers": [
                {"name": "a", "image": "img:1"},
                {"name": "b", "image": "img:1", "readinessProbe": {"tcpSocket": {"port": 1}}},
            ]},
        }))
        .unwrap()
    }

    fn observed(pod: &Pod, name: &str, attempt: u32, state: State) -> Observed {
        Observed {
            id: format!("{name}{attempt}"),
            identity: identity(pod, name, attempt),
            state,
            created_at: at(0),
            image: "img:1".into(),
            image_id: "docker://sha256:1".into(),
            labels: [(LABEL_SANDBOX.to_owned(), format!("{SANDBOX}0"))].into(),
            ip: (name == SANDBOX).then(|| "10.1.2.3".to_owned()),
            pid: None,
            limits: None,
        }
    }

    fn running() -> State {
        State::Running { started_at: at(5) }
    }

    fn exited(code: i64) -> State {
        let exit = Exit {
            code,
            oom_killed: code == 137,
            start_error: None,
            started_at: Some(at(5)),
            finished_at: at(9),
        };
        State::Exited(exit)
    }

    struct Case<'a> {
        pod: Pod,
        containers: &'a [(&'a str, u32, State)],
        ready: bool,
        waiting: Option<(&'a str, &'a str)>,
        over: bool,
        verdict: Option<Verdict>,
        resize: Resize,
    }

    fn case<'a>(pod: Pod, containers: &'a [(&'a str, u32, State)]) -> Case<'a> {
        Case {
            pod,
            containers,
            ready: true,
            waiting: None,
            over: false,
            verdict: None,
            resize: Resize::default(),
        }
    }

    #[test]
    fn an_ephemeral_container_has_a_status_and_counts_for_nothing() {
        let mut pod = pod("Never", false);
        pod.spec.ephemeral_containers = vec![Container {
            name: "e".into(),
            image: "img:1".into(),
            ..Container::default()
        }];
        let world = [
            (SANDBOX, 0, running()),
            ("a", 0, running()),
            ("b", 0, running()),
            ("e", 0, exited(1)),
        ];
        let told = status(&case(pod, &world));
        assert_eq!(told["phase"], "Running");
        let e = &told["ephemeralContainerStatuses"][0];
        assert_eq!(e["state"]["terminated"]["exitCode"], 1);
        assert_eq!(e["ready"], false);
        assert_eq!(e.get("started"), None);
    }

    fn status(case: &Case<'_>) -> Value {
        let pod = &case.pod;
        let all = case
            .containers
            .iter()
            .map(|(name, attempt, state)| observed(pod, name, *attempt, state.clone()));
        let readiness = Results {
            readiness: Some(case.ready),
            ..Results::default()
        };
        let waiting = case.waiting.iter().map(|(name, reason)| {
            (
                (*name).to_owned(),
                Waiting {
                    reason: (*reason).to_owned(),
                    message: String::new(),
                },
            )
        });
        assemble(&Inputs {
            pod,
            observed: &Observation::new(all.collect()),
            resize: &case.resize,
            in_force: &Allocation::new(),
            probes: &[("b0".to_owned(), readiness)].into(),
            waiting: &waiting.collect(),
            messages: &BTreeMap::new(),
            verdict: case.verdict.as_ref(),
            over: case.over,
            scheme: "docker",
            host_ip: "192.168.0.1",
            started_at: at(1),
            now: at(20),
        })
    }

    fn brief(status: &Value) -> String {
        let conditions = status["conditions"].as_array().unwrap();
        let truth =
            |kind: &str| conditions.iter().find(|c| c["type"] == kind).unwrap()["status"] == "True";
        let states = status["containerStatuses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                let (state, detail) = c["state"].as_object().unwrap().iter().next().unwrap();
                format!("{state}:{}", detail["reason"].as_str().unwrap_or("-"))
            });
        format!(
            "{} {} ready={} init={}",
            status["phase"].as_str().unwrap(),
            states.collect::<Vec<_>>().join(","),
            truth("Ready"),
            truth("Initialized")
        )
    }

    #[test]
    fn phases_and_states_through_a_life() {
        let sandbox = (SANDBOX, 0, running());
        let both = |a: State, b: State| vec![(SANDBOX, 0, running()), ("a", 0, a), ("b", 0, b)];
        let check = |case: Case<'_>, expected: &str| assert_eq!(brief(&status(&case)), expected);
        check(
            case(pod("Always", false), &[]),
            "Pending waiting:ContainerCreating,waiting:ContainerCreating ready=false init=true",
        );
        check(
            case(pod("Always", true), &[sandbox.clone(), ("i", 0, running())]),
            "Pending waiting:PodInitializing,waiting:PodInitializing ready=false init=false",
        );
        check(
            case(pod("Always", false), &both(running(), running())),
            "Running running:-,running:- ready=true init=true",
        );
        let mut unready = both(running(), running());
        check(
            Case {
                ready: false,
                ..case(pod("Always", false), &unready)
            },
            "Running running:-,running:- ready=false init=true",
        );
        unready[1].2 = exited(1);
        check(
            Case {
                waiting: Some(("a", "CrashLoopBackOff")),
                ..case(pod("Always", false), &unready)
            },
            "Running waiting:CrashLoopBackOff,running:- ready=false init=true",
        );
        check(
            Case {
                waiting: Some(("b", "ErrImagePull")),
                ..case(pod("Always", false), &both(running(), State::Created))
            },
            "Pending running:-,waiting:ErrImagePull ready=false init=true",
        );
        check(
            case(pod("Never", false), &both(exited(0), exited(0))),
            "Succeeded terminated:Completed,terminated:Completed ready=false init=true",
        );
        check(
            case(pod("Never", false), &both(exited(0), exited(137))),
            "Failed terminated:Completed,terminated:OOMKilled ready=false init=true",
        );
        check(
            case(pod("OnFailure", false), &both(exited(0), exited(2))),
            "Running terminated:Completed,terminated:Error ready=false init=true",
        );
        check(
            Case {
                over: true,
                ..case(pod("Always", false), &both(exited(0), exited(0)))
            },
            "Succeeded terminated:Completed,terminated:Completed ready=false init=true",
        );
        check(
            case(pod("Never", true), &[sandbox, ("i", 0, exited(1))]),
            "Failed waiting:PodInitializing,waiting:PodInitializing ready=false init=false",
        );
        let verdict = Some(Verdict {
            reason: "DeadlineExceeded",
            message: "late".into(),
        });
        check(
            Case {
                verdict,
                over: true,
                ..case(pod("Always", false), &both(exited(143), exited(143)))
            },
            "Failed terminated:Error,terminated:Error ready=false init=true",
        );
    }

    #[test]
    fn a_pod_that_was_not_taken_has_no_containers() {
        let verdict = Some(Verdict {
            reason: "OutOfcpu",
            message: format!("{REJECTED}why"),
        });
        let rejected = status(&Case {
            verdict,
            over: true,
            ..case(pod("Always", true), &[])
        });
        assert_eq!(
            (&rejected["phase"], &rejected["reason"]),
            (&json!("Failed"), &json!("OutOfcpu"))
        );
        assert_eq!(rejected.get("containerStatuses"), None);
        assert_eq!(rejected.get("initContainerStatuses"), None);
    }

    #[test]
    fn a_container_that_comes_back_by_its_own_policy_keeps_the_pod_running() {
        let mut pod = pod("Never", false);
        let containers = [
            (SANDBOX, 0, running()),
            ("a", 0, exited(3)),
            ("b", 0, exited(0)),
        ];
        assert_eq!(status(&case(pod.clone(), &containers))["phase"], "Failed");
        pod.spec.containers[0].restart_policy = Some("OnFailure".into());
        assert_eq!(status(&case(pod, &containers))["phase"], "Running");
    }

    #[test]
    fn a_resize_has_conditions_while_it_goes_on() {
        let world = [
            (SANDBOX, 0, running()),
            ("a", 0, running()),
            ("b", 0, running()),
        ];
        let mut before = case(pod("Always", false), &world);
        before.resize.pending = Some(resize::Pending {
            reason: resize::DEFERRED,
            message: "why".into(),
            generation: 3,
        });
        let told = status(&before);
        let conditions = told["conditions"].as_array().unwrap();
        let pending = conditions.iter().find(|one| one["type"] == resize::PENDING);
        let pending = pending.unwrap();
        assert_eq!(pending["reason"], "Deferred");
        assert_eq!(pending["message"], "why");
        assert_eq!(pending["observedGeneration"], 3);
        let mut pod = pod("Always", false);
        pod.status = told.clone();
        assert!(is_recorded(&pod, &told));
        let after = status(&case(pod.clone(), &world));
        assert!(!is_recorded(&pod, &after));
        let patch = patch(&pod, &after);
        let conditions = patch["status"]["conditions"].as_array().unwrap();
        let gone = json!({"$patch": "delete", "type": "PodResizePending"});
        assert!(conditions.contains(&gone));
    }

    #[test]
    fn the_image_is_the_one_that_runs() {
        let mut pod = pod("Always", false);
        pod.status = json!({"containerStatuses": [{"name": "a", "image": "img:1"}, {"name": "b", "image": "img:1"}]});
        let before = definition_hash(&pod.spec.containers[0]);
        let mut old = observed(&pod, "a", 0, running());
        old.labels.insert(LABEL_HASH.to_owned(), before);
        assert_eq!(image(&pod, &pod.spec.containers[0], Some(&old)), "img:1");
        pod.spec.containers[0].image = "img:2".into();
        let changed = &pod.spec.containers[0];
        assert_eq!(image(&pod, changed, Some(&old)), "img:1");
        assert_eq!(image(&pod, changed, None), "img:2");
        let hash = definition_hash(changed);
        old.labels.insert(LABEL_HASH.to_owned(), hash);
        assert_eq!(image(&pod, changed, Some(&old)), "img:2");
    }

    #[test]
    fn restarts_carry_the_last_state() {
        let containers = [
            (SANDBOX, 0, running()),
            ("a", 1, running()),
            ("a", 0, exited(3)),
            ("b", 0, running()),
        ];
        let status = status(&case(pod("Always", false), &containers));
        let a = &status["containerStatuses"][0];
        assert_eq!(a["restartCount"], 1);
        assert_eq!(a["containerID"], "docker://a1");
        assert_eq!(a["imageID"], "docker://sha256:1");
        assert_eq!(a["lastState"]["terminated"]["exitCode"], 3);
        assert_eq!(a["lastState"]["terminated"]["reason"], "Error");
        assert_eq!(status["podIP"], "10.1.2.3");
        let mut lost = case(pod("Always", false), &containers[..1]);
        lost.pod.status = without_nulls(&status);
        let lost = self::status(&lost);
        assert_eq!(
            lost["containerStatuses"][0]["restartCount"], 1,
            "never counted backwards"
        );
        assert_eq!(status["startTime"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn an_ended_pod_tells_what_was_lost_from_what_never_began() {
        let over = |policy: &str, init: bool, containers: &[(&str, u32, State)]| {
            status(&Case {
                over: true,
                ..case(pod(policy, init), containers)
            })
        };
        let failed = over("Never", true, &[("i", 0, exited(1))]);
        let waiting = json!({"waiting": {"reason": "PodInitializing"}});
        assert_eq!(failed["containerStatuses"][0]["state"], waiting);
        assert_eq!(failed["phase"], "Failed");
        let lost = over("Never", true, &[("i", 0, exited(0)), ("a", 0, exited(0))]);
        let reason = "/containerStatuses/1/state/terminated/reason";
        assert_eq!(lost.pointer(reason), Some(&json!("ContainerStatusUnknown")));
        // What is on record of a container that somebody has removed since stays.
        let mut pruned = case(pod("Never", false), &[]);
        let containers = [("a", 0, exited(3)), ("b", 0, exited(0))];
        pruned.pod.status = without_nulls(&over("Never", false, &containers));
        pruned.over = true;
        let pruned = status(&pruned);
        let code = "/containerStatuses/0/state/terminated/exitCode";
        assert_eq!(pruned.pointer(code), Some(&json!(3)));
    }

    #[test]
    fn the_time_of_a_transition_stays_and_a_recorded_status_is_recognised() {
        let containers = [
            (SANDBOX, 0, running()),
            ("a", 0, running()),
            ("b", 0, running()),
        ];
        let mut case = case(pod("Always", false), &containers);
        let first = status(&case);
        case.pod.status = without_nulls(&first);
        let since = json!("1970-01-01T00:00:07Z");
        case.pod.status["conditions"][2]["lastTransitionTime"] = since.clone();
        let second = status(&case);
        assert_eq!(second["conditions"][2]["lastTransitionTime"], since);
        assert!(is_recorded(&case.pod, &second));
        case.ready = false;
        let third = status(&case);
        assert_eq!(
            third["conditions"][2]["lastTransitionTime"],
            "1970-01-01T00:00:20Z"
        );
        assert_eq!(
            third["conditions"][2]["message"],
            "containers with unready status: [b]"
        );
        assert!(!is_recorded(&case.pod, &third));
    }

    #[test]
    fn a_new_address_replaces_the_old_one() {
        let containers = [(SANDBOX, 0, running())];
        let mut case = case(pod("Always", false), &containers);
        let status = status(&case);
        assert_eq!(
            patch(&case.pod, &status)["status"]["podIPs"],
            json!([{"ip": "10.1.2.3"}])
        );
        case.pod.status = json!({"podIPs": [{"ip": "10.9.9.9"}], "reason": "Old"});
        let patch = patch(&case.pod, &status);
        assert_eq!(
            patch["status"]["podIPs"],
            json!([{"$patch": "replace"}, {"ip": "10.1.2.3"}])
        );
        assert_eq!(patch["status"]["reason"], Value::Null);
    }
}
