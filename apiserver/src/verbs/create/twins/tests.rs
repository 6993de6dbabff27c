use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::codec::{self, Own};

fn body(name: &str, label: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "generateName": "web-1-", "labels": {"app": label}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

fn ask<'a>(body: &'a [u8], namespace: &'a str) -> Ask<'a> {
    Ask {
        body,
        namespace,
        manager: "m".to_owned(),
        validation: FieldValidation::Warn,
        epoch: 0,
        like: Like::default(),
    }
}

/// A store without caches that knows the pod of a body.
fn knowing(text: &str, now: &str) -> Twins {
    let twins = Twins(Mutex::default());
    let mut pod = Object::new(serde_json::from_str(text).unwrap()).unwrap();
    let entry = json!({"manager": "m", "fieldsV1": {}, "time": now});
    pod.metadata_mut()
        .insert("managedFields".to_owned(), json!([entry]));
    pod.set_uid("4c6f6f6b-2061-4769-a974-206f66206f6e");
    pod.set_creation_timestamp(now);
    pod.set_resource_version("7");
    twins.learn(&ask(text.as_bytes(), "n"), Arc::new(pod), 0);
    twins
}

const NOW: &str = "1970-01-01T00:00:00Z";

#[test]
fn a_pod_is_made_of_one_whose_body_differs_in_the_end_of_its_name() {
    let first = body("web-1-aaaaa", "web").to_string();
    let twins = knowing(&first, NOW);
    let second = body("web-1-b2b2b", "web").to_string();
    for turn in 0..3 {
        let mut ask = ask(second.as_bytes(), "n");
        let pod = twins.find(&mut ask, 60).unwrap();
        let metadata = pod.metadata().unwrap();
        assert_eq!(pod.name(), "web-1-b2b2b");
        assert_eq!(pod.creation_timestamp(), Some("1970-01-01T00:01:00Z"));
        assert_eq!(metadata["managedFields"][0]["time"], "1970-01-01T00:01:00Z");
        assert_eq!(pod.uid().len(), 36);
        assert_eq!(pod.resource_version(), "");
        assert_eq!(pod.label("app"), Some("web"));
        assert!(ask.like.room.abs_diff(trees::room(pod.value())) < 1024);
        let template = ask.like.template.clone().unwrap();
        let own = Own {
            name: pod.name(),
            uid: pod.uid(),
            time: "1970-01-01T00:01:00Z",
        };
        assert_eq!(template.with(own), codec::encode(pod.value()));
        twins.give_back(&ask, Arc::new(pod));
        let trees = twins.lock().twins[0].trees.len();
        assert_eq!(trees, 1, "turn {turn}: one tree goes round");
    }
}

#[test]
fn what_differs_in_anything_else_is_another_pod() {
    let first = body("web-1-aaaaa", "web").to_string();
    let twins = knowing(&first, NOW);
    for other in [
        body("web-1-aaaaA", "web"),
        body("web-1-aaaa", "web"),
        body("web-1-aaaa-", "web"),
        body("web-2-aaaaa", "web"),
        body("web-1-aaaaa", "wed"),
    ] {
        let other = other.to_string();
        assert!(twins.find(&mut ask(other.as_bytes(), "n"), 0).is_none());
    }
    let text = first.as_bytes();
    assert!(twins.find(&mut ask(text, "o"), 0).is_none());
    let mut strict = ask(text, "n");
    strict.validation = FieldValidation::Strict;
    assert!(twins.find(&mut strict, 0).is_none());
    let mut managed = ask(text, "n");
    managed.manager.push('m');
    assert!(twins.find(&mut managed, 0).is_none());
    assert!(twins.find(&mut ask(text, "n"), 0).is_some());
}

#[test]
fn only_plain_pods_are_remembered() {
    let knows = |body: &Value, now: &str| {
        let twins = knowing(&body.to_string(), now);
        let count = twins.lock().twins.len();
        count == 1
    };
    let plain = body("web-1-aaaaa", "web");
    assert!(knows(&plain, NOW));
    assert!(!knows(&plain, "1970-01-01T00:00:01Z"));
    let mut bound = plain.clone();
    bound["spec"]["nodeName"] = "n".into();
    let mut twice = plain.clone();
    twice["metadata"]["labels"]["pod"] = "web-1-aaaaa".into();
    let mut escaped = plain.clone();
    escaped["metadata"]["labels"]["pod"] = "\"".into();
    let mut entries = plain.clone();
    entries["metadata"]["annotations"] = json!({"managedFields": ""});
    let mut chosen = plain.clone();
    chosen["metadata"]["name"] = "other".into();
    let mut alone = plain.clone();
    alone["metadata"]["generateName"] = "".into();
    let mut fraction = plain.clone();
    fraction["spec"]["part"] = 0.5.into();
    let mut large = plain.clone();
    let named: Vec<Value> = (0..700)
        .map(|at| json!({"name": format!("a{at}")}))
        .collect();
    large["spec"]["containers"][0]["env"] = named.into();
    assert!(large.to_string().len() < BODY_BYTES_MAX);
    for odd in [
        bound, twice, escaped, entries, chosen, alone, fraction, large,
    ] {
        assert!(!knows(&odd, NOW), "{odd}");
    }
}

#[test]
fn a_change_of_what_admission_looks_up_makes_all_pods_strange() {
    let first = body("web-1-aaaaa", "web").to_string();
    let twins = knowing(&first, NOW);
    let changes = watch::Sender::new(0_u64);
    twins.lock().wakes.push(changes.subscribe());
    let mut before = ask(first.as_bytes(), "n");
    let pod = twins.find(&mut before, 0).unwrap();
    changes.send_replace(1);
    twins.give_back(&before, Arc::new(pod.clone()));
    assert!(twins.find(&mut ask(first.as_bytes(), "n"), 0).is_none());
    // What was asked for before tells nothing of what holds now.
    twins.learn(&before, Arc::new(pod), 0);
    assert!(twins.lock().twins.is_empty());
}

#[test]
fn little_is_remembered_and_not_for_long() {
    let twins = Twins(Mutex::default());
    for number in 0..2 * TWINS_MAX {
        let text = body("web-1-aaaaa", &number.to_string()).to_string();
        let mut pod = Object::new(serde_json::from_str(&text).unwrap()).unwrap();
        let entries = json!([{"time": NOW}]);
        pod.metadata_mut()
            .insert("managedFields".to_owned(), entries);
        let ask = ask(text.as_bytes(), "n");
        twins.learn(&ask, Arc::new(pod.clone()), 0);
        for _ in 0..2 * TREES_MAX {
            twins.give_back(&ask, Arc::new(pod.clone()));
        }
    }
    let counts: Vec<usize> = twins.lock().twins.iter().map(|t| t.trees.len()).collect();
    assert_eq!(counts.len(), TWINS_MAX);
    assert!(counts.iter().all(|count| *count <= TREES_MAX));
    assert!(counts.iter().sum::<usize>() <= ALL_TREES_MAX);
    // The template in use has what it needs.
    assert_eq!(counts.first(), Some(&TREES_MAX));
    twins.age(Instant::now());
    assert_eq!(twins.lock().twins.len(), TWINS_MAX);
    twins.age(Instant::now() + KEPT);
    assert!(twins.lock().twins.is_empty());
}

proptest! {
    /// Whatever else a body holds: with another end in its place it is the same but for the name.
    #[test]
    fn the_place_of_the_end_is_that_of_the_name(
        prefix in "[a-b-]{1,3}",
        (end, other) in ("[ab]{5}", "[ab]{5}"),
        texts in prop::collection::vec(("[ab,:\" -]{0,9}", "[ab,:\\\\\" -]{0,9}"), 0..6),
    ) {
        let named = |end: &str| {
            let labels: Map<String, Value> = texts
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().into()))
                .collect();
            json!({"metadata": {"name": format!("{prefix}{end}"), "generateName": prefix, "labels": labels}})
        };
        let text = named(&end).to_string();
        let pod = Object::new(named(&end)).unwrap();
        if let Some(place) = place(text.as_bytes(), &pod) {
            prop_assert_eq!(&text[place.clone()], end.as_str());
            let mut changed = text.clone();
            changed.replace_range(place, &other);
            let changed: Value = serde_json::from_str(&changed).unwrap();
            prop_assert_eq!(changed, named(&other));
        }
    }
}
