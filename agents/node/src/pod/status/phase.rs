//! The phase of a pod, from the statuses of its containers.

use serde_json::{Map, Value};

use super::Inputs;
use crate::pod::plan;
use crate::spec::Role;

fn state_of<'a>(status: &'a Value, state: &str) -> Option<&'a Map<String, Value>> {
    status.get("state")?.get(state)?.as_object()
}

pub(in crate::pod) fn exit_code(status: &Value) -> Option<i64> {
    state_of(status, "terminated")?.get("exitCode")?.as_i64()
}

pub(super) fn phase(inputs: &Inputs<'_>, init: &[Value], apps: &[Value]) -> &'static str {
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
    let before = initialised(inputs, init);
    if before.has_ended {
        return "Failed";
    }
    let count =
        |matches: &dyn Fn(&Value) -> bool| apps.iter().filter(|status| matches(status)).count();
    let running = count(&|status| state_of(status, "running").is_some());
    let was_stopped = |status: &Value| status.pointer("/lastState/terminated").is_some();
    let waiting = count(&|status| state_of(status, "waiting").is_some() && !was_stopped(status));
    let stopped = apps.len() - running - waiting;
    let succeeded = count(&|status| exit_code(status) == Some(0));
    if (before.is_pending && !any_app_started && !inputs.over) || waiting > 0 {
        return if inputs.over { "Failed" } else { "Pending" };
    }
    if running > 0 {
        return "Running";
    }
    if inputs.over {
        return match stopped == succeeded && !before.has_failed {
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

/// How far what comes before the app containers is.
#[derive(Default)]
struct Initialised {
    is_pending: bool,
    has_failed: bool,
    /// One has failed for good, and the pod with it.
    has_ended: bool,
}

fn initialised(inputs: &Inputs<'_>, init: &[Value]) -> Initialised {
    let pod = inputs.pod;
    let mut all = Initialised::default();
    for (container, status) in pod.spec.init_containers.iter().zip(init) {
        if container.is_sidecar() {
            all.is_pending |= status.get("started") != Some(&Value::Bool(true));
            continue;
        }
        match exit_code(status) {
            Some(0) => {}
            Some(code) => {
                all.has_failed = true;
                all.has_ended |= !plan::should_restart(pod, Role::Init, container, code);
                all.is_pending = true;
            }
            None => all.is_pending = true,
        }
    }
    all
}
