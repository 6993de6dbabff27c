//! What the nodes say of their pods, read from the pods' status in the store: from when to when each one ran. It is in the
//! history for the rule that two pods of one name never run at the same time (K7).

use crate::kube::history::{PodRun, Truth, uid};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Every life of every pod of which a container was started. Times are the nodes' own, which is one machine's clock. They
/// are whole seconds, and within one the lives of a name come one after the other as the store had them.
pub fn of(truth: &Truth) -> Vec<PodRun> {
    let mut runs = Vec::new();
    let pods = truth.objects().filter(|(key, _)| key.starts_with("pods/"));
    for (key, states) in pods {
        let states: Vec<&Value> = states.values().flatten().map(|state| &**state).collect();
        let lives = states.chunk_by(|one, next| uid(one) == uid(next));
        let lives = (0..).zip(lives);
        runs.extend(lives.filter_map(|(place, states)| {
            let run = life(key, states)?;
            Some(PodRun {
                from: run.from + place,
                until: run.until.map(|until| until + place),
                ..run
            })
        }));
    }
    runs
}

/// One pod, from its first container that ran to its last. It has no end where its last state says that one runs.
fn life(key: &str, states: &[&Value]) -> Option<PodRun> {
    let times = |of: &dyn Fn(&Value) -> Option<u64>| -> Vec<u64> {
        let containers = states.iter().flat_map(|state| containers(state));
        containers.filter_map(of).collect()
    };
    let began = times(&|container| {
        let state = &container["state"];
        let running = nanoseconds(&state["running"]["startedAt"]);
        running.or_else(|| nanoseconds(&state["terminated"]["startedAt"]))
    });
    let from = began.into_iter().min()?;
    let ended = times(&|container| nanoseconds(&container["state"]["terminated"]["finishedAt"]));
    let last = states.last()?;
    let runs_on = containers(last).any(|container| container["state"]["running"].is_object());
    Some(PodRun {
        node: last["spec"]["nodeName"].as_str().unwrap_or_default().into(),
        key: key.into(),
        uid: uid(last).into(),
        from,
        // One whose end nobody saw was there when it began.
        until: (!runs_on).then(|| ended.into_iter().max().unwrap_or(from)),
    })
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let statuses = pod["status"]["containerStatuses"].as_array();
    statuses.into_iter().flatten()
}

fn nanoseconds(time: &Value) -> Option<u64> {
    let time = OffsetDateTime::parse(time.as_str()?, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::history::History;
    use crate::kube::rules;
    use serde_json::json;

    fn pod(uid: &str, node: &str, state: Value) -> Value {
        json!({
            "metadata": {"uid": uid}, "spec": {"nodeName": node},
            "status": {"containerStatuses": [{"state": state}]}
        })
    }

    fn running(second: u32) -> Value {
        json!({"running": {"startedAt": format!("2026-01-02T03:04:{second:02}Z")}})
    }

    fn ended(from: u32, until: u32) -> Value {
        let at = |second: u32| format!("2026-01-02T03:04:{second:02}Z");
        json!({"terminated": {"startedAt": at(from), "finishedAt": at(until)}})
    }

    /// A pod that runs, with or without its end, and another one of its name on another node.
    fn found(end: Option<Value>, next: u32) -> Vec<String> {
        let mut truth = Truth::default();
        let key = "pods/n/web-0";
        truth.put(
            2,
            key,
            Some(json!({"metadata": {"uid": "w"}, "spec": {"nodeName": "a"}})),
        );
        truth.put(3, key, Some(pod("w", "a", running(10))));
        if let Some(end) = end {
            truth.put(4, key, Some(pod("w", "a", end)));
        }
        truth.put(5, key, None);
        truth.put(
            6,
            key,
            Some(json!({"metadata": {"uid": "v"}, "spec": {"nodeName": "b"}})),
        );
        truth.put(7, key, Some(pod("v", "b", running(next))));
        let history = History {
            runs: of(&truth),
            truth,
            ..History::default()
        };
        assert_eq!(history.runs.len(), 2);
        let found = rules::check(&history).into_iter();
        found.map(|found| found.rule).collect()
    }

    #[test]
    fn two_pods_of_one_name_do_not_run_at_the_same_time() {
        let none: [&str; 0] = [];
        assert_eq!(found(Some(ended(10, 12)), 12), none);
        // All of it in one second.
        assert_eq!(found(Some(ended(10, 10)), 10), none);
        // It is not known when it ended.
        assert_eq!(found(Some(json!({"terminated": {}})), 12), none);
        let twice = ["K7: two pods of one name"];
        assert_eq!(found(Some(ended(10, 13)), 12), twice);
        // Its object is gone, and its node has not said that it has ended.
        assert_eq!(found(None, 12), twice);
    }
}
