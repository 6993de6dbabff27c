//! Pods: the STATUS column is a small story told from phase, conditions and container states.

use schema::{Object, time};
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, NONE, age, human_duration, name, or_none, terminating, text, wide};
use crate::look::{Look, spec, status};

pub(crate) const POD: &[Column] = &[
    NAME,
    text(
        "Ready",
        "Containers that are ready, of those that should be.",
    ),
    text(
        "Status",
        "The phase, or the most telling reason why the pod is not running.",
    ),
    text(
        "Restarts",
        "How often containers were restarted, and when last.",
    ),
    AGE,
    wide("IP", "Address of the pod."),
    wide("Node", "Node to which the pod is bound."),
    wide(
        "Nominated Node",
        "Node on which preemption makes room for the pod.",
    ),
    wide(
        "Readiness Gates",
        "Readiness gates that are passed, of those that the pod has.",
    ),
];

/// Restart count and the time of the latest restart.
#[derive(Default, Clone, Copy)]
struct Restarts {
    count: i64,
    last: Option<i64>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count = self
            .count
            .saturating_add(container.int("restartCount").unwrap_or(0));
        let finished = container
            .at("lastState")
            .at("terminated")
            .at("finishedAt")
            .as_str()
            .and_then(time::parse);
        self.last = self.last.max(finished);
    }

    fn text(&self, now: i64) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!(
                    "{} ({} ago)",
                    self.count,
                    human_duration(now.saturating_sub(last))
                )
            }
            _ => self.count.to_string(),
        }
    }
}

/// What the containers say about the pod.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

pub(crate) fn pod(object: &Object, now: i64) -> Vec<Value> {
    let summary = summarize(object);
    let (spec, status) = (spec(object), status(object));
    let gates = spec.list("readinessGates");
    let passed = gates
        .iter()
        .filter(|gate| object.condition_status(gate.text("conditionType")) == Some("True"))
        .count();
    let gates = if gates.is_empty() {
        NONE.to_owned()
    } else {
        format!("{passed}/{}", gates.len())
    };
    let ip = match status.list("podIPs").first().map_or("", |ip| ip.text("ip")) {
        "" => status.text("podIP"),
        ip => ip,
    };
    vec![
        name(object),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        summary.restarts.text(now).into(),
        age(object, now),
        or_none(ip),
        or_none(spec.text("nodeName")),
        or_none(status.text("nominatedNodeName")),
        gates.into(),
    ]
}

fn is_sidecar(spec: &Value, name: &str) -> bool {
    spec.list("initContainers").iter().any(|container| {
        container.text("name") == name && container.text("restartPolicy") == "Always"
    })
}

fn summarize(object: &Object) -> Summary {
    let (spec, status) = (spec(object), status(object));
    let phase = status.text("phase");
    let mut summary = Summary {
        reason: if status.text("reason").is_empty() {
            phase.to_owned()
        } else {
            status.text("reason").to_owned()
        },
        ready: 0,
        total: spec.list("containers").len()
            + spec
                .list("initContainers")
                .iter()
                .filter(|c| c.text("restartPolicy") == "Always")
                .count(),
        restarts: Restarts::default(),
    };
    if object
        .condition("PodScheduled")
        .is_some_and(|c| c.text("reason") == "SchedulingGated")
    {
        summary.reason = "SchedulingGated".to_owned();
    }
    let mut sidecar_restarts = Restarts::default();
    let initializing = init_containers(spec, status, &mut summary, &mut sidecar_restarts);
    if !initializing || object.condition_status("Initialized") == Some("True") {
        summary.restarts = sidecar_restarts;
        app_containers(object, status, &mut summary);
    }
    if terminating(object) {
        if status.text("reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            summary.reason = "Terminating".to_owned();
        }
    }
    summary
}

/// Walks the init containers up to the first that is not done. True when there is one.
fn init_containers(
    spec: &Value,
    status: &Value,
    summary: &mut Summary,
    sidecar_restarts: &mut Restarts,
) -> bool {
    let total = spec.list("initContainers").len();
    for (at, container) in status.list("initContainerStatuses").iter().enumerate() {
        summary.restarts.add(container);
        let sidecar = is_sidecar(spec, container.text("name"));
        if sidecar {
            sidecar_restarts.add(container);
        }
        let state = container.at("state");
        let ended = state.at("terminated");
        if ended.is_object() && ended.int("exitCode").unwrap_or(0) == 0 {
            continue;
        }
        if sidecar && container.flag("started") {
            summary.ready += usize::from(container.flag("ready"));
            continue;
        }
        let waiting = state.at("waiting").text("reason");
        summary.reason = if ended.is_object() {
            format!("Init:{}", ended_reason(ended))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{at}/{total}")
        };
        return true;
    }
    false
}

fn app_containers(object: &Object, status: &Value, summary: &mut Summary) {
    let mut running = false;
    for container in status.list("containerStatuses").iter().rev() {
        summary.restarts.add(container);
        let state = container.at("state");
        let waiting = state.at("waiting").text("reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if state.at("terminated").is_object() {
            summary.reason = ended_reason(state.at("terminated"));
        } else if container.flag("ready") && state.at("running").is_object() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        let ready = object.condition_status("Ready") == Some("True");
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

fn ended_reason(ended: &Value) -> String {
    if !ended.text("reason").is_empty() {
        return ended.text("reason").to_owned();
    }
    match ended.int("signal").unwrap_or(0) {
        0 => format!("ExitCode:{}", ended.int("exitCode").unwrap_or(0)),
        signal => format!("Signal:{signal}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn row(mut pod: Value) -> Vec<String> {
        pod["metadata"]["name"] = "p".into();
        pod["metadata"]["creationTimestamp"] = time::now_rfc3339(NOW - 310).into();
        let cells = super::pod(&Object::new(pod).unwrap(), NOW);
        assert_eq!(cells.len(), POD.len());
        cells
            .iter()
            .take(5)
            .map(|cell| cell.as_str().unwrap_or_default().to_owned())
            .collect()
    }

    fn two(status: Value) -> Value {
        json!({"metadata": {}, "spec": {"containers": [{"name": "a"}, {"name": "b"}]}, "status": status})
    }

    #[test]
    fn statuses_tell_the_story() {
        let running = json!({"ready": true, "restartCount": 0, "state": {"running": {}}});
        let ended = |reason: &str| json!({"restartCount": 0, "state": {"terminated": {"reason": reason, "exitCode": 0}}});
        let crash = json!({"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"finishedAt": time::now_rfc3339(NOW - 300)}}});
        assert_eq!(
            row(two(json!({"phase": "Pending"}))),
            ["p", "0/2", "Pending", "0", "5m10s"]
        );
        assert_eq!(
            row(two(
                json!({"phase": "Running", "containerStatuses": [running, running]})
            )),
            ["p", "2/2", "Running", "0", "5m10s"]
        );
        assert_eq!(
            row(two(
                json!({"phase": "Running", "containerStatuses": [crash, running]})
            )),
            ["p", "1/2", "CrashLoopBackOff", "3 (5m ago)", "5m10s"]
        );
        assert_eq!(
            row(two(
                json!({"phase": "Succeeded", "containerStatuses": [ended("Completed"), ended("Completed")]})
            ))[2],
            "Completed"
        );
        assert_eq!(
            row(two(
                json!({"phase": "Running", "containerStatuses": [ended("Completed"), running]})
            ))[2],
            "NotReady"
        );
        assert_eq!(
            row(two(json!({"phase": "Failed", "containerStatuses":
                [{"state": {"terminated": {"exitCode": 3}}}, {"state": {"terminated": {"signal": 9}}}]})))
                [2],
            "ExitCode:3"
        );
        assert_eq!(
            row(two(json!({"phase": "Failed", "reason": "Evicted"})))[2],
            "Evicted"
        );
        let mut leaving = two(json!({"phase": "Running", "containerStatuses": [running, running]}));
        leaving["metadata"]["deletionTimestamp"] = time::now_rfc3339(NOW).into();
        assert_eq!(row(leaving)[2], "Terminating");
        let gated = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]});
        assert_eq!(row(two(gated))[2], "SchedulingGated");
    }

    #[test]
    fn init_containers_and_sidecars() {
        let pod = |statuses: Value| {
            json!({"metadata": {}, "spec": {"containers": [{"name": "a"}], "initContainers":
                [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]},
                "status": {"phase": "Pending", "initContainerStatuses": statuses}})
        };
        let done = json!({"name": "i", "state": {"terminated": {"exitCode": 0}}});
        assert_eq!(
            row(pod(json!([{"name": "i", "state": {"running": {}}}])))[1..3],
            ["0/2", "Init:0/2"]
        );
        assert_eq!(
            row(pod(
                json!([done, {"name": "s", "state": {"waiting": {"reason": "PodInitializing"}}}])
            ))[2],
            "Init:1/2"
        );
        assert_eq!(
            row(pod(
                json!([{"name": "i", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}])
            ))[2],
            "Init:CrashLoopBackOff"
        );
        assert_eq!(
            row(pod(
                json!([{"name": "i", "state": {"terminated": {"exitCode": 2}}}])
            ))[2],
            "Init:ExitCode:2"
        );
        let sidecar = json!({"name": "s", "started": true, "ready": true, "restartCount": 2, "state": {"running": {}}});
        assert_eq!(
            row(pod(json!([done, sidecar])))[1..4],
            ["1/2", "Pending", "2"]
        );
    }
}
