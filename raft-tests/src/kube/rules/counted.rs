//! What is counted: K10 of quotas (never more than there may be), K14 (a Job counts no pod twice), and K15 (a CronJob starts
//! one Job for a time).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Evidence, Verdict, verdict};
use crate::kube::history::{History, Truth, uid};

pub(super) fn check(history: &History) -> Vec<Verdict> {
    let mut found = exceeded(&history.truth);
    found.extend(counted_twice(&history.truth));
    found.extend(started_twice(&history.truth));
    found
}

/// K10: nothing is created in a namespace whose quota had no room for it.
fn exceeded(truth: &Truth) -> Vec<Verdict> {
    let mut found = Vec::new();
    for (key, states) in truth.objects() {
        let Some(place) = key.strip_prefix("resourcequotas/") else {
            continue;
        };
        let namespace = place.split('/').next().unwrap_or_default();
        let counted = |state: &&Value| state["status"]["used"].is_object();
        let quotas = states
            .iter()
            .filter_map(|(at, state)| Some((*at, state.as_deref().filter(counted)?)));
        // It is obeyed from when its status says what is used.
        let Some((since, quota)) = quotas.into_iter().next() else {
            continue;
        };
        for (plural, room) in quota["spec"]["hard"].as_object().into_iter().flatten() {
            let Some(room) = room.as_str().and_then(|text| text.parse::<usize>().ok()) else {
                continue;
            };
            let prefix = format!("{plural}/{namespace}/");
            found.extend(first_beyond(truth, (key, since), &prefix, room));
        }
    }
    found
}

/// The first object below a prefix that is created where so many are there already.
fn first_beyond(
    truth: &Truth,
    (quota, since): (&str, i64),
    prefix: &str,
    room: usize,
) -> Option<Verdict> {
    let mut at = since;
    while let Some((revision, _)) = truth.between(prefix, at, truth.last() + 1) {
        at = revision;
        let there = truth.list(prefix, revision);
        let is_new =
            |(key, made): &(&str, i64)| *made == revision && truth.before(key, revision).is_none();
        if there.len() > room
            && let Some((key, _)) = there.iter().find(|one| is_new(one))
        {
            // It may have been deleted since.
            truth.at(quota, revision)?;
            let story = format!(
                "{key} is created at version {revision} as number {}. {quota} has room for {room}, as of version {since}.",
                there.len()
            );
            let evidence = [Evidence::Change(since), Evidence::Change(revision)];
            return Some(verdict("K10: quota exceeded", story, evidence));
        }
    }
    None
}

/// K14: a Job says of no more pods that they have succeeded than ever did.
fn counted_twice(truth: &Truth) -> Vec<Verdict> {
    let mut succeeded: BTreeMap<&str, BTreeMap<&str, i64>> = BTreeMap::new();
    for (_, states) in truth.objects().filter(|(key, _)| key.starts_with("pods/")) {
        for (revision, state) in states {
            let Some(pod) = state.as_deref() else {
                continue;
            };
            if pod["status"]["phase"] == "Succeeded" {
                let owner = pod["metadata"]["ownerReferences"][0]["uid"].as_str();
                let of_owner = succeeded.entry(owner.unwrap_or_default()).or_default();
                of_owner.entry(uid(pod)).or_insert(*revision);
            }
        }
    }
    let mut found = Vec::new();
    for (key, states) in truth.objects().filter(|(key, _)| key.starts_with("jobs/")) {
        let mut lives = BTreeSet::new();
        for (revision, state) in states {
            let Some(job) = state.as_deref() else {
                continue;
            };
            let pods = succeeded.get(uid(job)).into_iter().flatten();
            let by_then = pods.filter(|(_, at)| *at <= revision).count() as u64;
            let says = job["status"]["succeeded"].as_u64().unwrap_or(0);
            if says > by_then && lives.insert(uid(job)) {
                let story = format!(
                    "{key} says at version {revision} that {says} of its pods have succeeded. By then {by_then} had."
                );
                let evidence = [Evidence::Change(*revision)];
                found.push(verdict("K14: counted twice", story, evidence));
            }
        }
    }
    found
}

/// When a Job of a CronJob should have been started, RFC 3339, as the controller says.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// K15: one life of a CronJob starts one Job for each time that it comes due.
fn started_twice(truth: &Truth) -> Vec<Verdict> {
    let mut started: BTreeMap<(&str, &str), (&str, i64)> = BTreeMap::new();
    let mut found = Vec::new();
    for (key, states) in truth.objects().filter(|(key, _)| key.starts_with("jobs/")) {
        for (revision, state) in states {
            let Some(job) = state.as_deref() else {
                continue;
            };
            let owner = &job["metadata"]["ownerReferences"][0];
            let due = job["metadata"]["annotations"][SCHEDULED].as_str();
            let (Some("CronJob"), Some(owner), Some(due)) =
                (owner["kind"].as_str(), owner["uid"].as_str(), due)
            else {
                continue;
            };
            let (first, since) = *started.entry((owner, due)).or_insert((uid(job), *revision));
            let is_told = found.iter().any(|(told, _)| *told == uid(job));
            if first != uid(job) && !is_told {
                let story = format!(
                    "{key} is started at version {revision} for {due}. Its CronJob had started one for that time at version {since}."
                );
                let evidence = [Evidence::Change(since), Evidence::Change(*revision)];
                found.push((uid(job), verdict("K15: started twice", story, evidence)));
            }
        }
    }
    found.into_iter().map(|(_, verdict)| verdict).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules_of;
    use super::*;

    fn rules(changes: &[(i64, &str, Option<Value>)]) -> Vec<String> {
        let mut truth = Truth::default();
        for (revision, key, state) in changes {
            truth.put(*revision, key, state.clone());
            truth.reach(*revision);
        }
        let history = History {
            truth,
            ..History::default()
        };
        rules_of(&check(&history))
    }

    #[test]
    fn a_quota_has_room_for_so_many() {
        let quota = |used: Option<&str>| {
            let status = used.map(|used| json!({"used": {"services": used}}));
            Some(json!({"spec": {"hard": {"services": "1"}}, "status": status}))
        };
        let (few, a, b) = ("resourcequotas/n/few", "services/n/a", "services/n/b");
        let one = || Some(json!({"metadata": {"uid": "u"}}));
        let good = [
            (2, few, quota(None)),
            (3, few, quota(Some("0"))),
            (4, a, one()),
            (5, a, None),
            (6, b, one()),
            (7, b, one()),
            (8, "services/m/a", one()),
        ];
        assert_eq!(rules(&good), Vec::<String>::new());
        // What was there before it is not its business, and neither is what comes after it.
        let around = [
            (2, a, one()),
            (3, b, one()),
            (4, few, quota(Some("2"))),
            (5, a, one()),
            (6, a, None),
            (7, few, None),
            (8, a, one()),
        ];
        assert_eq!(rules(&around), Vec::<String>::new());
        let bad = [(3, few, quota(Some("0"))), (4, a, one()), (5, b, one())];
        assert_eq!(rules(&bad), ["K10: quota exceeded"]);
    }

    #[test]
    fn a_pod_is_one_success() {
        let job =
            |says: u64| Some(json!({"metadata": {"uid": "j"}, "status": {"succeeded": says}}));
        let pod = |uid: &str, phase: &str| {
            let metadata = json!({"uid": uid, "ownerReferences": [{"uid": "j"}]});
            Some(json!({"metadata": metadata, "status": {"phase": phase}}))
        };
        let (key, a) = ("jobs/n/j", "pods/n/a");
        let good = [
            (2, key, job(0)),
            (3, a, pod("p", "Running")),
            (4, a, pod("p", "Succeeded")),
            (5, key, job(1)),
            (6, a, None),
            (7, key, job(1)),
        ];
        assert_eq!(rules(&good), Vec::<String>::new());
        let early = [(3, a, pod("p", "Running")), (4, key, job(1))];
        assert_eq!(rules(&early), ["K14: counted twice"]);
        let twice = [
            (3, a, pod("p", "Succeeded")),
            (4, key, job(2)),
            (5, key, job(3)),
        ];
        assert_eq!(rules(&twice), ["K14: counted twice"]);
    }

    #[test]
    fn a_cron_job_starts_one_job_for_a_time() {
        let job = |uid: &str, owner: &str, due: &str| {
            let owner = json!({"kind": "CronJob", "uid": owner});
            let metadata =
                json!({"uid": uid, "ownerReferences": [owner], "annotations": {SCHEDULED: due}});
            Some(json!({"metadata": metadata}))
        };
        let (one, other) = ("jobs/n/c-1", "jobs/n/c-2");
        let once = [
            (2, one, job("a", "c", "22:14")),
            (3, one, job("a", "c", "22:14")),
            (4, other, job("b", "c", "22:15")),
            (5, "jobs/n/d-1", job("e", "d", "22:14")),
        ];
        assert!(rules(&once).is_empty());
        let again = [
            (2, one, job("a", "c", "22:14")),
            (3, one, None),
            (4, one, job("f", "c", "22:14")),
            (5, one, job("f", "c", "22:14")),
        ];
        assert_eq!(rules(&again), ["K15: started twice"]);
    }
}
