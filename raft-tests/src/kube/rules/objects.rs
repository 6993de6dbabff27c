//! What holds of every object whoever writes it, judged by the changes of the store alone: K5, K6 and K10.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Evidence, Verdict, verdict};
use crate::kube::history::{History, Told, Truth, finalizers, is_deleting, uid};
use crate::kube::workloads::TRACKED;

pub(super) fn check(history: &History) -> Vec<Verdict> {
    let truth = &history.truth;
    let released = released(history);
    let mut found = Vec::new();
    let mut lives = Lives::new();
    for (key, states) in truth.objects() {
        found.extend(lifetimes(key, states, &released, &mut lives));
        if key.starts_with("pods/") {
            found.extend(nodes(key, states));
        }
    }
    found.extend(taken_twice(truth));
    found
}

/// Objects that some request left without finalizers, perhaps: if they were being deleted, that was their end.
fn released(history: &History) -> BTreeSet<&str> {
    let refused = |told: &Told| matches!(told, Told::Refused { code, .. } if *code < 500);
    let calls = history.calls.iter();
    let releasing = calls.filter(|call| call.releases && !refused(&call.told));
    releasing.map(|call| call.key.as_str()).collect()
}

type States = BTreeMap<i64, Option<Arc<Value>>>;
/// By uid: the object that has it, and since which version.
type Lives = BTreeMap<String, (String, i64)>;

/// K6: finalizers hold, a deletion is not taken back, and a uid is one life of one object.
fn lifetimes(
    key: &str,
    states: &States,
    released: &BTreeSet<&str>,
    lives: &mut Lives,
) -> Vec<Verdict> {
    let mut found = Vec::new();
    let mut before: Option<&Value> = None;
    let mut made = 0;
    let mut over: BTreeMap<String, i64> = BTreeMap::new();
    for (revision, state) in states {
        let now = state.as_deref();
        let both = [Evidence::Change(made), Evidence::Change(*revision)];
        match (before, now) {
            (Some(was), None) => {
                let let_go = is_deleting(was) && (released.contains(key) || is_only_tracked(was));
                if finalizers(was) > 0 && !let_go {
                    let story = format!(
                        "{key} is gone at version {revision}. At version {made} it had finalizers, and nobody removed them."
                    );
                    found.push(verdict("K6: finalizer ignored", story, both));
                }
                over.insert(uid(was).into(), *revision);
            }
            (Some(was), Some(is)) if uid(was) != uid(is) => {
                let story = format!(
                    "{key} has another uid at version {revision} than at version {made}. It was not deleted between them."
                );
                found.push(verdict("K6: uid changed", story, both));
            }
            (Some(was), Some(is)) if is_deleting(was) && !is_deleting(is) => {
                let story = format!(
                    "{key} was being deleted at version {made}. At version {revision} it is not any more."
                );
                found.push(verdict("K6: deletion taken back", story, both));
            }
            (None, Some(is)) => {
                let id = uid(is).to_string();
                let other = lives.get(&id).filter(|(other, _)| other != key);
                let own = over.get(&id).map(|ended| (key, *ended));
                let other = other.map(|(key, began)| (key.as_str(), *began));
                if let Some((other, at)) = own.or(other).filter(|_| !id.is_empty()) {
                    let story = format!(
                        "{key} is new at version {revision} and has the uid {id}. An earlier object had it, {other} of \
                         version {at}."
                    );
                    let evidence = [Evidence::Change(at), Evidence::Change(*revision)];
                    found.push(verdict("K6: uid used again", story, evidence));
                }
                lives.insert(id, (key.into(), *revision));
            }
            _ => {}
        }
        (before, made) = (now, *revision);
    }
    found
}

/// Whether nothing holds a pod but that its Job has to count it: the controller lets go of it, and K14 looks at the counts.
fn is_only_tracked(object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|all| all.iter().all(|one| one == TRACKED))
}

/// K5: a pod gets a node once.
fn nodes(key: &str, states: &States) -> Vec<Verdict> {
    let node = |pod: &Value| {
        pod["spec"]["nodeName"]
            .as_str()
            .unwrap_or_default()
            .to_string()
    };
    let mut found = Vec::new();
    let mut before: Option<&Value> = None;
    let mut bound = 0;
    for (revision, state) in states {
        if let (Some(was), Some(is)) = (before, state.as_deref())
            && uid(was) == uid(is)
            && !node(was).is_empty()
            && node(was) != node(is)
        {
            let story = format!(
                "{key} was given {} at version {bound}. At version {revision} it has {:?}.",
                node(was),
                node(is)
            );
            let evidence = [Evidence::Change(bound), Evidence::Change(*revision)];
            found.push(verdict("K5: bound twice", story, evidence));
        }
        let node_of = |pod: Option<&Value>| pod.map(node).unwrap_or_default();
        if node_of(before) != node_of(state.as_deref()) {
            bound = *revision;
        }
        before = state.as_deref();
    }
    found
}

/// What a service has that no other may have.
fn taken(service: &Value) -> BTreeSet<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let addresses = service["spec"]["clusterIPs"]
        .as_array()
        .into_iter()
        .flatten()
        .map(text);
    let addresses = addresses.chain([text(&service["spec"]["clusterIP"])]);
    let addresses = addresses.filter(|address| !address.is_empty() && address != "None");
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let ports = ports.filter_map(|port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        Some(format!(
            "node port {}/{protocol}",
            port["nodePort"].as_u64()?
        ))
    });
    addresses
        .map(|address| format!("address {address}"))
        .chain(ports)
        .collect()
}

/// K10: at no time two services have the same address or node port.
fn taken_twice(truth: &Truth) -> Vec<Verdict> {
    let services = truth
        .objects()
        .filter(|(key, _)| key.starts_with("services/"));
    let mut changes: Vec<(i64, &str, Option<&Value>)> = services
        .flat_map(|(key, states)| {
            states
                .iter()
                .map(move |(at, state)| (*at, key, state.as_deref()))
        })
        .collect();
    changes.sort_unstable_by_key(|(at, key, _)| (*at, *key));
    let mut owners: BTreeMap<String, (&str, i64)> = BTreeMap::new();
    let mut found = Vec::new();
    for (revision, key, state) in changes {
        owners.retain(|_, (owner, _)| *owner != key);
        for thing in state.map(taken).unwrap_or_default() {
            if let Some((other, since)) = owners.insert(thing.clone(), (key, revision)) {
                let story = format!(
                    "{key} has {thing} at version {revision}. It is {other}'s, as of version {since}."
                );
                let evidence = [Evidence::Change(since), Evidence::Change(revision)];
                found.push(verdict("K10: given twice", story, evidence));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules_of;
    use super::*;
    use crate::kube::history::{Call, Verb};

    fn rules(changes: &[(i64, &str, Option<Value>)]) -> Vec<String> {
        rules_with(changes, Vec::new())
    }

    fn rules_with(changes: &[(i64, &str, Option<Value>)], calls: Vec<Call>) -> Vec<String> {
        let mut truth = Truth::default();
        for (revision, key, state) in changes {
            truth.put(*revision, key, state.clone());
        }
        let history = History {
            truth,
            calls,
            ..History::default()
        };
        rules_of(&check(&history))
    }

    fn plain(uid: &str) -> Option<Value> {
        Some(json!({"metadata": {"uid": uid}}))
    }

    fn held(uid: &str) -> Option<Value> {
        let metadata =
            json!({"uid": uid, "finalizers": ["a/b"], "deletionTimestamp": "2026-01-01T00:00:00Z"});
        Some(json!({"metadata": metadata}))
    }

    #[test]
    fn finalizers_hold() {
        let good = [
            (2, "x/a", held("u")),
            (3, "x/a", {
                Some(json!({"metadata": {"uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}}))
            }),
            (4, "x/a", None),
        ];
        assert_eq!(rules(&good), Vec::<String>::new());
        assert_eq!(
            rules(&[(2, "x/a", held("u")), (3, "x/a", None)]),
            ["K6: finalizer ignored"]
        );
        assert_eq!(
            rules(&[(2, "x/a", held("u")), (3, "x/a", plain("u"))]),
            ["K6: deletion taken back"]
        );
        // The write that takes the last one away ends what is being deleted, and only that.
        let release = |told| Call {
            verb: Verb::Patch,
            key: "x/a".into(),
            releases: true,
            told,
            ..Call::default()
        };
        let gone = [(2, "x/a", held("u")), (3, "x/a", None)];
        assert_eq!(
            rules_with(&gone, vec![release(Told::Done)]),
            Vec::<String>::new()
        );
        let refused = Told::Refused {
            code: 409,
            reason: "Conflict".into(),
        };
        assert_eq!(
            rules_with(&gone, vec![release(refused)]),
            ["K6: finalizer ignored"]
        );
        let tracked = |others: &[&str]| {
            let finalizers = [&[TRACKED], others].concat();
            let metadata = json!({"uid": "u", "finalizers": finalizers, "deletionTimestamp": "2026-01-01T00:00:00Z"});
            [
                (2, "x/a", Some(json!({ "metadata": metadata }))),
                (3, "x/a", None),
            ]
        };
        assert_eq!(rules(&tracked(&[])), Vec::<String>::new());
        assert_eq!(rules(&tracked(&["a/b"])), ["K6: finalizer ignored"]);
        let alive = json!({"metadata": {"uid": "u", "finalizers": ["a/b"]}});
        let gone = [(2, "x/a", Some(alive)), (3, "x/a", None)];
        assert_eq!(
            rules_with(&gone, vec![release(Told::Done)]),
            ["K6: finalizer ignored"]
        );
    }

    #[test]
    fn a_uid_is_one_life() {
        let good = [
            (2, "x/a", plain("u")),
            (3, "x/a", None),
            (4, "x/a", plain("v")),
        ];
        assert_eq!(rules(&good), Vec::<String>::new());
        let again = [
            (2, "x/a", plain("u")),
            (3, "x/a", None),
            (4, "x/a", plain("u")),
        ];
        assert_eq!(rules(&again), ["K6: uid used again"]);
        assert_eq!(
            rules(&[(2, "x/a", plain("u")), (3, "x/b", plain("u"))]),
            ["K6: uid used again"]
        );
        assert_eq!(
            rules(&[(2, "x/a", plain("u")), (3, "x/a", plain("v"))]),
            ["K6: uid changed"]
        );
    }

    #[test]
    fn a_pod_is_bound_once() {
        let pod = |uid: &str, node: &str| {
            Some(json!({"metadata": {"uid": uid}, "spec": {"nodeName": node}}))
        };
        let key = "pods/n/a";
        let good = [
            (2, key, plain("u")),
            (3, key, pod("u", "x")),
            (4, key, None),
            (5, key, pod("v", "y")),
        ];
        assert_eq!(rules(&good), Vec::<String>::new());
        let bad = [(2, key, pod("u", "x")), (3, key, pod("u", "y"))];
        assert_eq!(rules(&bad), ["K5: bound twice"]);
    }

    #[test]
    fn an_address_and_a_port_are_one_services() {
        let service = |uid: &str, address: &str, port: u64| {
            let spec =
                json!({"clusterIP": address, "ports": [{"protocol": "TCP", "nodePort": port}]});
            Some(json!({"metadata": {"uid": uid}, "spec": spec}))
        };
        let (a, b) = ("services/n/a", "services/n/b");
        let good = [
            (2, a, service("u", "10.0.0.1", 1)),
            (3, b, service("v", "10.0.0.2", 2)),
            (4, a, None),
            (5, b, service("v", "10.0.0.1", 1)),
        ];
        assert_eq!(rules(&good), Vec::<String>::new());
        let address = [
            (2, a, service("u", "10.0.0.1", 1)),
            (3, b, service("v", "10.0.0.1", 2)),
        ];
        assert_eq!(rules(&address), ["K10: given twice"]);
        let port = [
            (2, a, service("u", "10.0.0.1", 1)),
            (3, b, service("v", "10.0.0.2", 1)),
        ];
        assert_eq!(rules(&port), ["K10: given twice"]);
        let none = [
            (2, a, service("u", "None", 1)),
            (3, b, service("v", "None", 2)),
        ];
        assert_eq!(rules(&none), Vec::<String>::new());
    }
}
