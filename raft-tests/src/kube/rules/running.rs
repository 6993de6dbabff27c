//! K5 of two who bind, K7 (one pod of a name runs), and K8 (what is wanted comes true, and nothing is left over).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Evidence, Verdict, verdict};
use crate::kube::history::{Call, History, PodRun, Told, Truth, Verb, is_deleting, uid};
use crate::kube::workloads::{self, TRACKED};

pub(super) fn check(history: &History) -> Vec<Verdict> {
    let mut found = bound(history);
    found.extend(lives(&history.runs));
    found.extend(not_as_wanted(history));
    found
}

/// K5: of two bindings of a pod one is acknowledged, and it is the one that counts.
fn bound(history: &History) -> Vec<Verdict> {
    let done = |call: &&Call| call.verb == Verb::Bind && call.told == Told::Done;
    let mut winners: BTreeMap<&str, &Call> = BTreeMap::new();
    let mut found = Vec::new();
    for call in history.calls.iter().filter(done) {
        let other = winners.insert(&call.key, call);
        if let Some(other) = other {
            let story = format!(
                "Client {} was told that it bound {} to {}. Client {} was told so, too, to {}.",
                other.client, call.key, other.node, call.client, call.node
            );
            let evidence = [Evidence::Call(other.id), Evidence::Call(call.id)];
            found.push(verdict("K5: bound twice", story, evidence));
        }
        let states = history.truth.objects().find(|(key, _)| *key == call.key);
        let states = states
            .into_iter()
            .flat_map(|(_, states)| states.values().flatten());
        let mut nodes = states.filter_map(|pod| pod["spec"]["nodeName"].as_str());
        if !nodes.any(|node| node == call.node) {
            let story = format!(
                "Client {} was told that {} is bound to {}.",
                call.client, call.key, call.node
            );
            let story = format!("{story} It never was.");
            found.push(verdict("K1: lost write", story, [Evidence::Call(call.id)]));
        }
    }
    found
}

/// K7: two pods of one name never run at the same time, on whatever nodes.
fn lives(runs: &[PodRun]) -> Vec<Verdict> {
    let mut by_key: BTreeMap<&str, Vec<(&PodRun, usize)>> = BTreeMap::new();
    for (place, run) in runs.iter().enumerate() {
        by_key.entry(&run.key).or_default().push((run, place));
    }
    let mut found = Vec::new();
    for (key, mut runs) in by_key {
        runs.sort_unstable_by_key(|(run, place)| (run.from, *place));
        let ends = |run: &PodRun| run.until.unwrap_or(u64::MAX);
        // Of those before, the one that is over last.
        let mut before: Option<(&PodRun, usize)> = None;
        for (second, other) in runs {
            let overlaps = |(first, _): &(&PodRun, usize)| {
                let is_other = first.uid != second.uid || first.node != second.node;
                ends(first) > second.from && is_other
            };
            if let Some((first, one)) = before.filter(overlaps) {
                let story = format!(
                    "{key} runs on {} with uid {}. Before it is over a second one with uid {} starts on {}.",
                    first.node, first.uid, second.uid, second.node
                );
                let evidence = [Evidence::Ran(one), Evidence::Ran(other)];
                found.push(verdict("K7: two pods of one name", story, evidence));
            }
            if before.is_none_or(|(first, _)| ends(second) >= ends(first)) {
                before = Some((second, other));
            }
        }
    }
    found
}

/// K8: when nobody has wished for anything new for long, everything is as it is wanted.
fn not_as_wanted(history: &History) -> Option<Verdict> {
    let (key, what) = history.missing.first()?;
    let more = match history.missing.len() - 1 {
        0 => String::new(),
        more => format!(", and {more} more things are not as they are wanted"),
    };
    let story = format!("{what}{more}. Nobody has wished for anything new since long ago.");
    let states = history.truth.objects().find(|(other, _)| other == key);
    let last = states.and_then(|(_, states)| states.keys().next_back());
    let mut found = verdict("K8: not as wanted", story, []);
    let last = last.copied().unwrap_or(history.truth.last());
    found.evidence.push(Evidence::Change(last));
    Some(found)
}

/// K8: what is not yet as it is wanted, with the object; nothing where all is.
pub fn unfinished(truth: &Truth) -> Vec<(String, String)> {
    let last = truth.last();
    let all = truth
        .objects()
        .filter_map(|(key, _)| Some((key, &**truth.at(key, last)?.1)));
    let all: Vec<(&str, &Value)> = all.collect();
    let uids: BTreeSet<&str> = all.iter().map(|(_, object)| uid(object)).collect();
    let mut missing: Vec<(String, String)> = Vec::new();
    for (key, object) in &all {
        let mut miss = |what: String| missing.push((key.to_string(), what));
        let owners = object["metadata"]["ownerReferences"]
            .as_array()
            .into_iter()
            .flatten();
        let mut owners = owners
            .map(|owner| owner["uid"].as_str().unwrap_or_default())
            .peekable();
        if owners.peek().is_some() && !owners.any(|owner| uids.contains(owner)) {
            miss(format!("{key} is left over, and its owners are gone"));
        }
        if is_deleting(object)
            && object["metadata"]["finalizers"] != serde_json::json!(["example.com/hold"])
        {
            miss(format!("{key} is still being deleted"));
        }
        match key.split('/').next() {
            Some("namespaces") if !is_deleting(object) => {
                let name = key.trim_start_matches("namespaces/");
                let inside = [
                    format!("serviceaccounts/{name}/default"),
                    format!("configmaps/{name}/kube-root-ca.crt"),
                ];
                let there = |wanted: &String| all.iter().any(|(key, _)| key == wanted);
                let absent = inside.into_iter().filter(|wanted| !there(wanted));
                absent.for_each(|wanted| miss(format!("{wanted} is not there")));
            }
            Some("deployments") => behind(key, object).into_iter().for_each(miss),
            Some("statefulsets") => behind_set(key, object).into_iter().for_each(miss),
            Some("daemonsets") => behind_daemons(key, object).into_iter().for_each(miss),
            Some("cronjobs") => late(key, object, &all).into_iter().for_each(miss),
            Some("jobs") if !is_done(object) => miss(format!("{key} is not done")),
            Some("replicasets") => {
                let pods = all
                    .iter()
                    .filter(|(key, pod)| key.starts_with("pods/") && is_owned_by(pod, uid(object)));
                let (has, wants) = (
                    pods.count() as u64,
                    object["spec"]["replicas"].as_u64().unwrap_or(0),
                );
                if has != wants {
                    miss(format!("{key} has {has} pods and wants {wants}"));
                }
            }
            Some("pods") => {
                let phase = &object["status"]["phase"];
                let over = phase == "Succeeded" || phase == "Failed";
                if phase != "Running" && !over && is_scheduled(object) {
                    miss(format!("{key} does not run"));
                }
                let finalizers = object["metadata"]["finalizers"].as_array();
                if over && finalizers.is_some_and(|all| all.iter().any(|one| one == TRACKED)) {
                    miss(format!("{key} is over and not counted"));
                }
            }
            _ => {}
        }
    }
    missing
}

/// When CronJobs come due, see [`workloads::DUE`].
const DUE_AT: &str = "2023-11-14T22:14:00Z";

/// Whether the scheduler has to do with a pod, or it has a node.
fn is_scheduled(pod: &Value) -> bool {
    pod["spec"]["schedulerName"] == "default-scheduler" || pod["spec"]["nodeName"].is_string()
}

fn is_owned_by(object: &Value, owner: &str) -> bool {
    let owners = object["metadata"]["ownerReferences"].as_array();
    owners.is_some_and(|owners| owners.iter().any(|reference| reference["uid"] == owner))
}

/// The counts of a status that are not `wants`, told with the status.
fn other_than(
    key: &str,
    object: &Value,
    wants: u64,
    counts: &[&str],
    more: bool,
) -> Option<String> {
    let status = &object["status"];
    let observed = status["observedGeneration"] == object["metadata"]["generation"];
    let count = |field: &&str| status[field].as_u64().unwrap_or(0) == wants;
    let done = observed && more && counts.iter().all(count);
    (!done).then(|| format!("{key} wants {wants} and says {status}"))
}

/// Whether a StatefulSet's status is not what its specification wants.
fn behind_set(key: &str, set: &Value) -> Option<String> {
    let wants = set["spec"]["replicas"].as_u64().unwrap_or(1);
    let status = &set["status"];
    let settled = status["currentRevision"] == status["updateRevision"];
    let counts = [
        "replicas",
        "currentReplicas",
        "readyReplicas",
        "availableReplicas",
    ];
    other_than(key, set, wants, &counts, settled)
}

/// Whether a DaemonSet's status is not that of a pod on each node.
fn behind_daemons(key: &str, set: &Value) -> Option<String> {
    let wants = u64::from(workloads::NODES);
    let counts = [
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "numberAvailable",
        "updatedNumberScheduled",
    ];
    let none_elsewhere = set["status"]["numberMisscheduled"].as_u64().unwrap_or(0) == 0;
    other_than(key, set, wants, &counts, none_elsewhere)
}

/// Whether a Job is complete, and has counted each of its completions.
fn is_done(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == "Complete" && one["status"] == "True")
        && job["status"]["succeeded"] == job["spec"]["completions"]
}

/// Whether a CronJob has not started what was due, or takes a Job for active that is not.
fn late(key: &str, cron_job: &Value, all: &[(&str, &Value)]) -> Option<String> {
    let (spec, status) = (&cron_job["spec"], &cron_job["status"]);
    let created = cron_job["metadata"]["creationTimestamp"].as_str();
    let waits = spec["suspend"] != true
        && created.is_some_and(|created| created < DUE_AT)
        && status["lastScheduleTime"].is_null();
    if waits {
        return Some(format!("{key} has started nothing for {DUE_AT}"));
    }
    let mut active = status["active"].as_array().into_iter().flatten();
    let is_active = |reference: &Value| {
        let job = all.iter().find(|(_, job)| uid(job) == reference["uid"]);
        job.is_some_and(|(_, job)| !is_done(job))
    };
    let stale = active.find(|reference| !is_active(reference))?;
    Some(format!("{key} has {} as active", stale["name"]))
}

/// Whether a Deployment's status is not what its specification wants.
fn behind(key: &str, deployment: &Value) -> Option<String> {
    let wants = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let counts = [
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
    ];
    other_than(key, deployment, wants, &counts, true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules_of;
    use super::*;

    fn run(node: &str, uid: &str, from: u64, until: Option<u64>) -> PodRun {
        PodRun {
            node: node.into(),
            key: "pods/n/web-0".into(),
            uid: uid.into(),
            from,
            until,
        }
    }

    #[test]
    fn one_pod_of_a_name_runs() {
        let good = [run("a", "u", 1, Some(5)), run("b", "v", 5, None)];
        assert!(lives(&good).is_empty());
        // The same one again, on a machine that started anew.
        assert!(lives(&[run("a", "u", 1, Some(5)), run("a", "u", 6, None)]).is_empty());
        for until in [Some(5), None] {
            let found = lives(&[run("a", "u", 1, until), run("b", "v", 4, None)]);
            assert_eq!(rules_of(&found), ["K7: two pods of one name"]);
            assert_eq!(found[0].evidence, [Evidence::Ran(0), Evidence::Ran(1)]);
        }
        let found = lives(&[run("a", "u", 1, None), run("b", "u", 4, Some(5))]);
        assert_eq!(
            rules_of(&found),
            ["K7: two pods of one name"],
            "one uid on two nodes"
        );
        let between = run("a", "u", 2, Some(3));
        let found = lives(&[run("a", "u", 1, Some(9)), between, run("b", "v", 4, None)]);
        assert_eq!(rules_of(&found), ["K7: two pods of one name"]);
        assert_eq!(found[0].evidence, [Evidence::Ran(0), Evidence::Ran(2)]);
    }

    #[test]
    fn one_binding_counts() {
        let bind = |client: u32, node: &str, told| Call {
            id: client.into(),
            client,
            verb: Verb::Bind,
            key: "pods/n/p".into(),
            node: node.into(),
            told,
            ..Call::default()
        };
        let rules = |calls: Vec<Call>| {
            let mut truth = Truth::default();
            truth.put(2, "pods/n/p", Some(json!({"metadata": {"uid": "u"}})));
            truth.put(
                3,
                "pods/n/p",
                Some(json!({"metadata": {"uid": "u"}, "spec": {"nodeName": "a"}})),
            );
            let history = History {
                truth,
                calls,
                ..History::default()
            };
            rules_of(&check(&history))
        };
        let refused = Told::Refused {
            code: 409,
            reason: "Conflict".into(),
        };
        let good = vec![bind(1, "a", Told::Done), bind(2, "b", refused)];
        assert_eq!(rules(good), Vec::<String>::new());
        let twice = vec![bind(1, "a", Told::Done), bind(2, "b", Told::Done)];
        assert_eq!(rules(twice), ["K5: bound twice", "K1: lost write"]);
        let same = vec![bind(1, "a", Told::Done), bind(2, "a", Told::Done)];
        assert_eq!(rules(same), ["K5: bound twice"]);
        assert_eq!(rules(vec![bind(2, "b", Told::Done)]), ["K1: lost write"]);
    }

    #[test]
    fn what_is_missing_in_the_end_is_told() {
        let mut truth = Truth::default();
        truth.put(2, "pods/n/p", Some(json!({"metadata": {"uid": "u"}})));
        truth.put(5, "pods/n/q", Some(json!({"metadata": {"uid": "v"}})));
        let miss = |name: &str| {
            (
                format!("pods/n/{name}"),
                format!("pods/n/{name} does not run"),
            )
        };
        let history = History {
            truth,
            missing: vec![miss("p"), miss("q")],
            ..History::default()
        };
        let found = check(&history);
        assert_eq!(rules_of(&found), ["K8: not as wanted"]);
        assert_eq!(found[0].evidence, [Evidence::Change(2)]);
        assert!(check(&History::default()).is_empty());
    }

    #[test]
    fn what_is_wanted_comes_true() {
        let rs = |replicas: u64| json!({"metadata": {"uid": "r"}, "spec": {"replicas": replicas}});
        let pod = |owner: &str, phase: &str| {
            json!({
                "metadata": {"uid": "p", "ownerReferences": [{"uid": owner}]},
                "spec": {"schedulerName": "default-scheduler"}, "status": {"phase": phase}
            })
        };
        let status = json!({
            "observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1
        });
        let deployment = |generation: u64| json!({"metadata": {"uid": "d", "generation": generation}, "spec": {"replicas": 1}, "status": status});
        let count = |objects: Vec<(&str, Value)>| {
            let mut truth = Truth::default();
            for (at, (key, object)) in objects.into_iter().enumerate() {
                truth.put(at as i64 + 1, key, Some(object));
            }
            unfinished(&truth).len()
        };
        let good = vec![
            ("deployments/n/d", deployment(2)),
            ("replicasets/n/r", rs(1)),
            ("pods/n/p", pod("r", "Running")),
        ];
        assert_eq!(count(good), 0);
        assert_eq!(count(vec![("deployments/n/d", deployment(3))]), 1);
        let cron_job = |created: &str, suspend: bool, status: Value| {
            let metadata = json!({"uid": "c", "creationTimestamp": created});
            json!({"metadata": metadata, "spec": {"suspend": suspend}, "status": status})
        };
        let (before, after) = ("2023-11-14T22:13:59Z", DUE_AT);
        let one = |cron_job: Value| count(vec![("cronjobs/n/c", cron_job)]);
        assert_eq!(one(cron_job(before, false, json!({}))), 1);
        assert_eq!(one(cron_job(before, true, json!({}))), 0);
        assert_eq!(one(cron_job(after, false, json!({}))), 0);
        let started = json!({"lastScheduleTime": DUE_AT});
        assert_eq!(one(cron_job(before, false, started)), 0);
        let stale = json!({"lastScheduleTime": DUE_AT, "active": [{"uid": "j", "name": "j"}]});
        assert_eq!(one(cron_job(before, false, stale)), 1);
        assert_eq!(count(vec![("replicasets/n/r", rs(1))]), 1);
        assert_eq!(
            count(vec![
                ("replicasets/n/r", rs(0)),
                ("pods/n/p", pod("r", "Running"))
            ]),
            1
        );
        assert_eq!(
            count(vec![
                ("replicasets/n/r", rs(1)),
                ("pods/n/p", pod("r", "Pending"))
            ]),
            1
        );
        assert_eq!(count(vec![("pods/n/p", pod("gone", "Running"))]), 1);
        let alive = json!({"metadata": {"uid": "n"}});
        assert_eq!(count(vec![("namespaces/t", alive)]), 2);
        let dying = json!({"metadata": {"uid": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(count(vec![("namespaces/t", dying)]), 1);
    }
}
