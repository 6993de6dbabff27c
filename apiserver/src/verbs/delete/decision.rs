//! What a deletion does to an object: whether it goes at once, or stays for a while, and for how long. Pure.

use kv::mutants::{Bug, planted};
use resources::{Resource, definition};
use schema::Object;

use super::is_in;
use super::options::{DeleteOptions, Propagation};
use crate::definitions;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// Kinds whose dependents stay unless a deletion says otherwise: they are older than the garbage collector.
const ORPHANS: &[(&str, &str)] = &[("", "replicationcontrollers"), ("batch", "jobs")];

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
pub(super) enum Plan {
    Remove,
    /// Store this: the object that is being deleted.
    Mark(Object),
    /// The deletion is under way and this request does not speed it up.
    Nothing,
}

/// Decides a deletion. `now` in unix seconds.
pub(super) fn plan(
    resource: &Resource,
    object: &Object,
    options: &DeleteOptions,
    now: i64,
) -> Plan {
    let terminated;
    let mut object = object;
    if definitions::is_definition(resource) && object.deletion_timestamp().is_none() {
        terminated = terminated_at(object, now);
        object = &terminated;
    }
    let finalizers = finalizers_for(resource, object, options.propagation);
    let finalizers_changed = finalizers != object.finalizers();
    // What goes at once needs no copy.
    let with_finalizers = || {
        let mut marked = object.clone();
        if finalizers_changed {
            marked.set_finalizers(&finalizers);
        }
        marked
    };
    if resource.group.is_empty() && resource.plural == "namespaces" {
        return plan_namespace(with_finalizers(), now);
    }
    let waits = |seconds: i64| seconds > 0 || !finalizers.is_empty();
    match graceful(resource, object, options) {
        Grace::Pending if !finalizers_changed => Plan::Nothing,
        Grace::Pending => Plan::Mark(with_finalizers()),
        Grace::Shorten(seconds) if waits(seconds) => {
            let mut marked = with_finalizers();
            shorten(&mut marked, now, seconds);
            Plan::Mark(marked)
        }
        Grace::Start(seconds) if waits(seconds) => {
            let mut marked = with_finalizers();
            mark(&mut marked, now + seconds, seconds);
            Plan::Mark(marked)
        }
        Grace::Shorten(_) | Grace::Start(_) => Plan::Remove,
        Grace::None if finalizers.is_empty() || planted(Bug::FinalizersIgnored) => Plan::Remove,
        Grace::None => {
            let mut marked = with_finalizers();
            if object.deletion_timestamp().is_none() {
                mark(&mut marked, now, 0);
            } else if object.deletion_grace_period_seconds().unwrap_or(1) != 0 {
                marked.set_deletion_grace_period_seconds(Some(0));
            }
            if marked == *object {
                Plan::Nothing
            } else {
                Plan::Mark(marked)
            }
        }
    }
}

/// A definition whose objects go first.
fn terminated_at(object: &Object, now: i64) -> Object {
    let mut object = object.clone();
    definition::terminate(&mut object, &schema::time::now_rfc3339(now));
    object
}

fn mark(object: &mut Object, at: i64, seconds: i64) {
    object.set_deletion_timestamp(Some(&schema::time::now_rfc3339(at)));
    object.set_deletion_grace_period_seconds(Some(seconds));
    if object.generation() > 0 {
        object.set_generation(object.generation().saturating_add(1));
    }
}

/// As if the deletion had given so many seconds from its beginning.
fn shorten(object: &mut Object, now: i64, seconds: i64) {
    let old_seconds = object.deletion_grace_period_seconds().unwrap_or(0);
    let old_time = object
        .deletion_timestamp()
        .and_then(schema::time::parse)
        .unwrap_or(now);
    let time = schema::time::now_rfc3339(old_time - old_seconds + seconds);
    object.set_deletion_timestamp(Some(&time));
    object.set_deletion_grace_period_seconds(Some(seconds));
}

/// A namespace empties itself first; the namespace controller takes its finalizer away.
fn plan_namespace(mut marked: Object, now: i64) -> Plan {
    let started = marked.deletion_timestamp().is_some();
    let held = marked
        .get_array(&["spec", "finalizers"])
        .is_some_and(|list| !list.is_empty());
    if !held && marked.finalizers().is_empty() {
        return Plan::Remove;
    }
    if started && marked.get_str(&["status", "phase"]) == Some("Terminating") {
        return Plan::Nothing;
    }
    if !started {
        marked.set_deletion_timestamp(Some(&schema::time::now_rfc3339(now)));
    }
    marked.set(&["status", "phase"], "Terminating");
    Plan::Mark(marked)
}

/// The finalizers that the propagation policy asks for; others stay. Without a policy, what the object says itself holds,
/// and then what is usual for its kind.
fn finalizers_for<'a>(
    resource: &Resource,
    object: &'a Object,
    propagation: Option<Propagation>,
) -> Vec<&'a str> {
    let mut list = object.finalizers();
    let Some(propagation) = propagation else {
        let says = |name: &&str| *name == FOREGROUND || *name == ORPHAN;
        if is_in(ORPHANS, resource) && !list.iter().any(says) {
            list.push(ORPHAN);
        }
        return list;
    };
    list.retain(|name| *name != FOREGROUND && *name != ORPHAN);
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => list.push(FOREGROUND),
        Propagation::Orphan => list.push(ORPHAN),
    }
    // An unchanged set keeps its order, so that nothing is written.
    let before = object.finalizers();
    if list.len() == before.len() && list.iter().all(|name| before.contains(name)) {
        before
    } else {
        list
    }
}

enum Grace {
    /// The kind knows no grace.
    None,
    Start(i64),
    Shorten(i64),
    Pending,
}

fn graceful(resource: &Resource, object: &Object, options: &DeleteOptions) -> Grace {
    if !resource.graceful {
        return Grace::None;
    }
    let asked = options.grace_period_seconds.map(bounded_grace);
    if object.deletion_timestamp().is_some() {
        let Some(present) = object.deletion_grace_period_seconds() else {
            return Grace::None;
        };
        return match asked {
            Some(seconds) if seconds < present => Grace::Shorten(seconds),
            // Asking again for zero finishes a deletion that only its finalizers held up.
            Some(0) if present == 0 && object.finalizers().is_empty() => Grace::Shorten(0),
            _ => Grace::Pending,
        };
    }
    let bound = object
        .get_str(&["spec", "nodeName"])
        .is_some_and(|node| !node.is_empty());
    let ended = matches!(
        object.get_str(&["status", "phase"]),
        Some("Succeeded" | "Failed")
    );
    if !bound || ended {
        return Grace::Start(0);
    }
    let own = object
        .get_i64(&["spec", "terminationGracePeriodSeconds"])
        .unwrap_or(30);
    let seconds = asked.unwrap_or(own);
    Grace::Start(bounded_grace(seconds))
}

/// Negative is one second, as in Kubernetes; and no more than a time can be added to.
fn bounded_grace(seconds: i64) -> i64 {
    if seconds < 0 {
        1
    } else {
        seconds.min(i64::from(i32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(extra: Value) -> Object {
        let mut value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "generation": 1},
            "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
        schema_merge(&mut value, &extra);
        Object::new(value).unwrap()
    }

    fn schema_merge(into: &mut Value, from: &Value) {
        if let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) {
            for (key, value) in from {
                if into.get(key).is_some_and(Value::is_object) && value.is_object() {
                    schema_merge(into.get_mut(key).unwrap(), value);
                } else {
                    into.insert(key.clone(), value.clone());
                }
            }
        }
    }

    fn pods() -> &'static Resource {
        resources::find("", "v1", "pods").unwrap()
    }

    fn seconds(seconds: i64) -> DeleteOptions {
        DeleteOptions {
            grace_period_seconds: Some(seconds),
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn pods_get_their_grace_and_may_only_lose_it() {
        let Plan::Mark(first) = plan(pods(), &pod(json!({})), &DeleteOptions::default(), 1_000)
        else {
            panic!()
        };
        assert_eq!(first.deletion_grace_period_seconds(), Some(30));
        assert_eq!(first.deletion_timestamp(), Some("1970-01-01T00:17:10Z"));
        assert_eq!(first.generation(), 2);
        assert_eq!(
            plan(pods(), &first, &DeleteOptions::default(), 1_001),
            Plan::Nothing
        );
        assert_eq!(plan(pods(), &first, &seconds(60), 1_001), Plan::Nothing);
        let Plan::Mark(second) = plan(pods(), &first, &seconds(5), 1_001) else {
            panic!()
        };
        assert_eq!(second.deletion_timestamp(), Some("1970-01-01T00:16:45Z"));
        assert_eq!(plan(pods(), &second, &seconds(0), 1_001), Plan::Remove);
    }

    #[test]
    fn pods_that_run_nowhere_go_at_once() {
        assert_eq!(
            plan(
                pods(),
                &pod(json!({"spec": {"nodeName": ""}})),
                &DeleteOptions::default(),
                1
            ),
            Plan::Remove
        );
        assert_eq!(
            plan(
                pods(),
                &pod(json!({"status": {"phase": "Failed"}})),
                &DeleteOptions::default(),
                1
            ),
            Plan::Remove
        );
        assert_eq!(plan(pods(), &pod(json!({})), &seconds(0), 1), Plan::Remove);
    }

    #[test]
    fn finalizers_hold_and_policies_add_them() {
        let maps = resources::find("", "v1", "configmaps").unwrap();
        let object = Object::new(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}),
        )
        .unwrap();
        assert_eq!(
            plan(maps, &object, &DeleteOptions::default(), 5),
            Plan::Remove
        );
        let foreground = DeleteOptions {
            propagation: Some(Propagation::Foreground),
            ..DeleteOptions::default()
        };
        let Plan::Mark(marked) = plan(maps, &object, &foreground, 5) else {
            panic!()
        };
        assert_eq!(marked.finalizers(), [FOREGROUND]);
        assert_eq!(marked.deletion_grace_period_seconds(), Some(0));
        assert_eq!(plan(maps, &marked, &foreground, 9), Plan::Nothing);
        let background = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        assert_eq!(plan(maps, &marked, &background, 9), Plan::Remove);
    }

    #[test]
    fn old_kinds_leave_their_dependents_unless_told_otherwise() {
        let with = |resource: &Resource, finalizers: &[&str], propagation| {
            let kind = (resource.api_version(), &resource.kind);
            let metadata = json!({"name": "o", "finalizers": finalizers});
            let object = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": metadata});
            let options = DeleteOptions {
                propagation,
                ..DeleteOptions::default()
            };
            match plan(resource, &Object::new(object).unwrap(), &options, 5) {
                Plan::Mark(marked) => marked.finalizers().join(","),
                Plan::Remove => String::new(),
                Plan::Nothing => panic!("it is not being deleted yet"),
            }
        };
        let controllers = resources::find("", "v1", "replicationcontrollers").unwrap();
        let jobs = resources::find("batch", "v1", "jobs").unwrap();
        for old in [controllers, jobs] {
            assert_eq!(with(old, &[], None), ORPHAN);
            assert_eq!(with(old, &["x"], None), "x,orphan");
            assert_eq!(with(old, &[FOREGROUND], None), FOREGROUND);
            assert_eq!(with(old, &[], Some(Propagation::Background)), "");
        }
        let sets = resources::find("apps", "v1", "replicasets").unwrap();
        assert_eq!(with(sets, &[], None), "");
    }

    #[test]
    fn namespaces_wait_for_their_own_finalizer() {
        let namespaces = resources::find("", "v1", "namespaces").unwrap();
        let object = Object::new(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"},
            "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
        )
        .unwrap();
        let Plan::Mark(mut marked) = plan(namespaces, &object, &DeleteOptions::default(), 5) else {
            panic!()
        };
        assert_eq!(marked.get_str(&["status", "phase"]), Some("Terminating"));
        assert_eq!(
            plan(namespaces, &marked, &DeleteOptions::default(), 6),
            Plan::Nothing
        );
        marked.set(&["spec", "finalizers"], json!([]));
        assert_eq!(
            plan(namespaces, &marked, &DeleteOptions::default(), 6),
            Plan::Remove
        );
    }
}
