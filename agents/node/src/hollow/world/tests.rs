use serde_json::{Value, json};

use super::*;
use crate::hollow::nodes::Behaviour;

fn entry(uid: &str, version: u64, status: Value) -> Entry {
    let spec = json!({"nodeName": "n", "containers": [{"name": "c", "ports": [{"hostPort": 80}]}]});
    let metadata = json!({"uid": uid, "resourceVersion": version.to_string()});
    let pod = json!({"metadata": metadata, "spec": spec, "status": status});
    Entry {
        life: Life::new(Slim::of(pod).unwrap()),
        node: 0,
        stage: 0,
        seen: None,
        removed: false,
        listed: 1,
        queued: false,
        writing: false,
        due: None,
        refused_at: None,
        failures: 0,
    }
}

fn world(entries: Vec<(&str, Entry)>) -> World {
    let node = Node::new(0, "n".to_owned(), Behaviour::Steady);
    let mut world = World::new(std::iter::once(node));
    for (uid, entry) in entries {
        world.places[0].pods.insert(uid.into());
        world.pods.insert(uid.into(), Box::new(entry));
    }
    world
}

#[test]
fn what_was_taken_takes_room_until_it_has_ended_as_the_newest_word_says() {
    let started = json!({"startTime": "2026-01-01T00:00:00Z"});
    assert!(entry("a", 1, started.clone()).taken().is_some());
    assert!(entry("a", 1, json!({})).taken().is_none(), "nobody knows");
    let mut ended = entry("a", 1, started.clone());
    let later = entry("a", 2, json!({"phase": "Succeeded"}));
    ended.seen = Some(Box::new(later.life.pod));
    assert!(ended.taken().is_none() && !ended.is_new());
    let mut gone = entry("a", 1, started);
    gone.removed = true;
    assert!(gone.taken().is_none());
}

#[test]
fn a_refusal_for_what_the_node_was_shown_as_waits_for_its_newer_word() {
    let verdict = |reason| Verdict {
        reason,
        message: String::new(),
    };
    let first = Duration::from_secs(1);
    let mut pod = entry("a", 1, json!({}));
    assert_eq!(pod.looks_again(&verdict("NodePorts"), first), None);
    let again = Some(first + BEHIND);
    assert_eq!(pod.looks_again(&verdict("NodeAffinity"), first), again);
    // The pod has changed meanwhile: that gives it no more time.
    let between = first + BEHIND / 2;
    assert_eq!(pod.looks_again(&verdict("TaintToleration"), between), again);
    let over = first + BEHIND;
    assert_eq!(pod.looks_again(&verdict("NodeAffinity"), over), None);
}

#[test]
fn a_pod_waits_until_its_own_status_has_been_shown() {
    let shown = |version| Some(Box::new(entry("a", version, json!({})).life.pod));
    let mut pod = entry("a", 5, json!({}));
    assert!(!pod.awaits(), "nothing was written of it");
    pod.life.taken(7);
    pod.seen = shown(6);
    assert!(pod.awaits(), "another one wrote that before");
    pod.seen = shown(7);
    assert!(!pod.awaits());
    pod.seen = None;
    pod.removed = true;
    assert!(!pod.awaits(), "what is gone will not be shown");
}

fn held<'a>(pods: &[&'a Slim]) -> Vec<Holder<'a>> {
    let pods = pods.iter();
    pods.map(|pod| Holder::new(&pod.uid, &pod.kind.share, pod.kind.rank))
        .collect()
}

#[test]
fn a_critical_pod_waits_for_the_end_of_those_in_whose_place_it_comes() {
    let slim = |uid: &str, cpu: &str, priority: i64, deleting: Value| {
        let requests = json!({"cpu": cpu});
        let pod = json!({"metadata": {"uid": uid, "deletionTimestamp": deleting},
            "spec": {"priority": priority, "containers": [{"resources": {"requests": requests}}]}});
        Slim::of(pod).unwrap()
    };
    let site = Site::of(&json!({"status": {"allocatable": {"cpu": "2", "pods": "9"}}}));
    let (a, b) = (
        slim("a", "1", 0, Value::Null),
        slim("b", "1", 0, Value::Null),
    );
    let about = |pod: &Slim, staying: &[&Slim], leaving: &[&Slim]| {
        Decision::about(pod, &site, &held(staying), &held(leaving))
    };
    let critical = slim("c", "1", 2_000_000_000, Value::Null);
    let ends = |uid: &str| Decision::Ends(vec![uid.to_owned()]);
    assert_eq!(about(&critical, &[&a], &[]), Decision::Goes);
    assert_eq!(about(&critical, &[&a, &b], &[]), ends("a"));
    assert_eq!(about(&critical, &[&b], &[&a]), Decision::Waits);
    let other = slim("d", "1", 0, Value::Null);
    assert!(matches!(about(&other, &[&b], &[&a]), Decision::Refused(_)));
    let large = slim("e", "2", 2_000_000_000, Value::Null);
    assert_eq!(about(&large, &[&b], &[&a]), ends("b"));
    let gone = slim("f", "2", 2_000_000_000, json!("2026-01-01T00:00:00Z"));
    assert_eq!(about(&gone, &[&a, &b], &[]), Decision::Goes);
}

/// A pod that was given the first and asks for the second.
fn asking(uid: &str, priority: i64, given: &str, asked: &str) -> Entry {
    let resources = json!({"requests": {"cpu": asked}});
    let pod = json!({
        "metadata": {"uid": uid, "resourceVersion": "5", "generation": 2},
        "spec": {"nodeName": "n", "priority": priority, "containers": [{"name": "c", "resources": resources}]},
        "status": {"startTime": "2026-01-01T00:00:00Z",
                   "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": given}}]}});
    let mut made = entry(uid, 5, json!({}));
    made.life = Life::new(Slim::of(pod).unwrap());
    made
}

fn resize(world: &mut World, uid: &str) -> Option<Outcome> {
    let template = Template {
        config: super::super::config(&super::super::HollowNodes::new(1), false),
        zones: 0,
        periods: crate::hollow::Periods::default(),
        port: 1,
    };
    let outcome = world.resize(&Uid::from(uid), &template)?;
    let entry = world.pods.get_mut(uid).unwrap();
    let pod = entry.newest().pod().unwrap();
    entry.life.resized(&pod, outcome.clone());
    Some(outcome)
}

fn four_cores(entries: Vec<(&str, Entry)>) -> World {
    let mut world = world(entries);
    let allocatable = json!({"cpu": "4", "pods": "9"});
    world.places[0].node.see(Shown::of(
        &json!({"metadata": {"uid": "u"}, "status": {"allocatable": allocatable}}),
    ));
    world
}

#[test]
fn what_was_given_is_given_once_also_before_it_is_on_record() {
    let mut world = four_cores(vec![
        ("a", asking("a", 0, "1", "3")),
        ("b", asking("b", 0, "1", "3")),
        ("c", asking("c", 0, "0", "0")),
    ]);
    assert_eq!(resize(&mut world, "c"), None);
    assert_eq!(resize(&mut world, "a"), Some(Outcome::Fits));
    let second = resize(&mut world, "b");
    assert!(matches!(second, Some(Outcome::Deferred(_))), "{second:?}");
    assert_eq!(world.deferred(0), [Uid::from("b")]);
    assert!(world.pods["a"].life.is_given());
    world.pods.get_mut("a").unwrap().removed = true;
    assert_eq!(resize(&mut world, "b"), Some(Outcome::Fits));
    assert!(world.deferred(0).is_empty() && world.deferred(7).is_empty());
}

#[test]
fn room_goes_to_the_more_important_of_those_that_wait() {
    let hog = |has: &str| asking("c", 0, has, has);
    let mut world = four_cores(vec![
        ("a", asking("a", 0, "1", "2")),
        ("b", asking("b", 9, "1", "2")),
        ("c", hog("2")),
    ]);
    for uid in ["a", "b"] {
        let told = resize(&mut world, uid);
        assert!(
            matches!(told, Some(Outcome::Deferred(_))),
            "{uid}: {told:?}"
        );
    }
    world.pods.insert("c".into(), Box::new(hog("1")));
    let told = resize(&mut world, "a");
    assert!(
        matches!(told, Some(Outcome::Deferred(_))),
        "it is kept for b"
    );
    assert_eq!(resize(&mut world, "b"), Some(Outcome::Fits));
    let told = resize(&mut world, "a");
    assert!(matches!(told, Some(Outcome::Deferred(_))), "{told:?}");
}

#[test]
fn new_pods_wait_until_all_that_were_there_before_are_known() {
    let mut world = world(vec![
        ("new", entry("new", 1, json!({}))),
        (
            "begun",
            entry("begun", 1, json!({"startTime": "2026-01-01T00:00:00Z"})),
        ),
    ]);
    assert!(u64::from(world.pods[&Uid::from("new")].listed) > world.places[0].pods_listed);
    assert_eq!(world.pods_listed(1, Some(7)), Vec::<Uid>::new());
    assert_eq!(world.places[0].pods_listed, 0);
    assert_eq!(world.pods_listed(1, None), [Uid::from("new")]);
    assert_eq!(world.places[0].pods_listed, 1);
}

#[test]
fn a_pod_takes_little_room() {
    // There are a hundred thousand, and what is larger takes the next size of the allocator.
    assert!(size_of::<Entry>() <= 256, "{}", size_of::<Entry>());
    let run = size_of::<crate::hollow::runs::Run>();
    assert!(run <= 64, "{run}");
}
