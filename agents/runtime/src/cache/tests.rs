use super::*;
use crate::kinds::{Mention, Pod, ReplicaSet};
use crate::reflector::Sink;
use crate::resource_ref::{PODS, REPLICA_SETS};
use serde_json::{Value, json};

fn pod(name: &str, uid: &str, node: &str, version: u32) -> Value {
    json!({"metadata": {"name": name, "namespace": "a", "uid": uid, "resourceVersion": version.to_string(), "labels": {"app": name},
        "ownerReferences": [{"uid": "owner", "name": "o", "kind": "X", "apiVersion": "v1"}]}, "spec": {"nodeName": node}})
}

fn recorded(cache: &Cache<Pod>) -> Arc<Mutex<Vec<String>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let sink = log.clone();
    cache.subscribe(move |change| {
        let side = |s: &Option<Arc<Pod>>| {
            s.as_ref().map_or("-".to_owned(), |p| {
                format!("{}@{}", p.metadata.uid, p.metadata.resource_version)
            })
        };
        sink.lock()
            .unwrap()
            .push(format!("{} -> {}", side(&change.old), side(&change.new)));
    });
    log
}

#[test]
fn a_relist_tells_of_what_was_missed() {
    let cache = Cache::<Pod>::new(PODS);
    let log = recorded(&cache);
    let page = |items: Value, version: &str| {
        cache.begin();
        let text = json!({"metadata": {"resourceVersion": version}, "items": items}).to_string();
        cache.page(text.as_bytes()).unwrap();
        cache.commit(version);
    };
    page(
        json!([
            pod("x", "u1", "n", 1),
            pod("y", "u2", "n", 2),
            pod("z", "u3", "", 3)
        ]),
        "3",
    );
    page(
        json!([
            pod("y", "u2", "m", 5),
            pod("x", "u9", "n", 6),
            pod("w", "u4", "", 7)
        ]),
        "7",
    );
    assert_eq!(
        *log.lock().unwrap(),
        [
            "- -> u1@1",
            "- -> u2@2",
            "- -> u3@3",
            "u3@3 -> -",
            "- -> u4@7",
            "u1@1 -> -",
            "- -> u9@6",
            "u2@2 -> u2@5"
        ]
    );
    assert_eq!(cache.on_node("n").len(), 1);
    assert_eq!(cache.on_node("m").len(), 1);
    assert_eq!(cache.owned_by("owner").len(), 3);
    assert_eq!(cache.owned_in("a", "owner").len(), 3);
    assert!(cache.owned_in("b", "owner").is_empty() && cache.owned_in("a", "other").is_empty());
    assert_eq!(
        cache
            .with_labels("a", &[("app".to_owned(), "w".to_owned())].into())
            .len(),
        1
    );
    assert!(cache.in_namespace("b").is_empty());
    assert!(cache.version().borrow().synced && cache.version().borrow().revision == 7);
}

#[test]
fn what_there_is_and_what_a_relist_misses_is_told_in_order() {
    let cache = Cache::<Pod>::new(PODS);
    for name in ["d", "b", "e", "a", "c"] {
        cache.apply(serde_json::from_value(pod(name, name, "n", 1)).unwrap());
    }
    let log = recorded(&cache);
    cache.begin();
    cache.commit("9");
    let names = ["a", "b", "c", "d", "e"];
    let come = names.map(|name| format!("- -> {name}@1"));
    let gone = names.map(|name| format!("{name}@1 -> -"));
    assert_eq!(*log.lock().unwrap(), [come, gone].concat());
}

#[test]
fn an_object_that_changes_is_found_as_it_is_wherever_it_was() {
    let cache = Cache::<Pod>::new(PODS);
    let put = |node: &str, version: u32| {
        let pod = pod("x", "u", node, version);
        cache.apply(serde_json::from_value(pod).unwrap());
    };
    let versions = |found: Vec<Arc<Pod>>| -> Vec<u64> {
        found.iter().map(|pod| pod.metadata.version()).collect()
    };
    put("n", 1);
    put("n", 2);
    assert_eq!(versions(cache.on_node("n")), [2]);
    assert_eq!(versions(cache.owned_by("owner")), [2]);
    assert_eq!(versions(cache.uncontrolled_in("a")), [2]);
    put("m", 3);
    assert!(cache.on_node("n").is_empty());
    assert_eq!(versions(cache.on_node("m")), [3]);
    assert_eq!(versions(cache.owned_by("owner")), [3]);
}

#[test]
fn what_an_object_mentions_finds_it_as_it_is() {
    let cache = Cache::<Pod>::new(PODS);
    let put = |name: &str, claims: Value| {
        let mut pod = pod(name, name, "", 1);
        pod["status"] = json!({ "resourceClaimStatuses": claims });
        cache.apply(serde_json::from_value(pod).unwrap());
    };
    let mentioning = |namespace: &str, claim: &str| -> Vec<String> {
        let found = cache.mentioning(&Mention::DeviceClaim(Key::new(namespace, claim)));
        found.iter().map(|pod| pod.metadata.name.clone()).collect()
    };
    let of = |claim: &str| json!([{"name": "x", "resourceClaimName": claim}]);
    put("b", of("c"));
    put("a", of("c"));
    put("z", json!([]));
    assert_eq!(mentioning("a", "c"), ["a", "b"]);
    assert!(mentioning("b", "c").is_empty() && mentioning("a", "d").is_empty());
    put("a", of("d"));
    assert_eq!(mentioning("a", "c"), ["b"]);
    assert_eq!(mentioning("a", "d"), ["a"]);
    cache.remove(&Key::new("a", "b"));
    put("a", json!([]));
    assert!(cache.read().by_mention.is_empty(), "nothing is left over");
}

#[test]
fn who_may_select_is_found_by_labels() {
    let cache = Cache::<ReplicaSet>::new(REPLICA_SETS);
    for (name, selector) in [
        ("d", json!({"matchLabels": {"app": "web", "tier": "x"}})),
        ("c", json!({"matchLabels": {"app": "web"}})),
        ("b", json!({"matchLabels": {"app": "db"}})),
        (
            "a",
            json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
        ),
        ("none", Value::Null),
    ] {
        let set =
            json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"selector": selector}});
        cache.apply(serde_json::from_value(set).unwrap());
    }
    let found = |namespace: &str, labels: Value| -> Vec<String> {
        let labels = serde_json::from_value(labels).unwrap();
        let found = cache.might_select(namespace, &labels);
        found.iter().map(|set| set.metadata.name.clone()).collect()
    };
    assert_eq!(found("a", json!({"app": "web"})), ["a", "c", "d"]);
    assert_eq!(found("a", json!({"tier": "x", "app": "db"})), ["a", "b"]);
    assert_eq!(found("a", json!({})), ["a"]);
    assert!(found("b", json!({"app": "web"})).is_empty());
}

#[test]
fn a_place_in_an_index_leads_to_the_object_as_it_is() {
    assert_eq!(size_of::<Held<Pod>>(), 2 * size_of::<usize>());
    let cache = Cache::<Pod>::new(PODS);
    let put = |version: u32| {
        let mut pod = pod("x", "x", "n", version);
        pod["status"] = json!({"resourceClaimStatuses": [{"name": "x", "resourceClaimName": "c"}]});
        cache.apply(serde_json::from_value(pod).unwrap());
    };
    put(1);
    let first = Arc::downgrade(&cache.get("a", "x").unwrap());
    put(2);
    assert!(first.upgrade().is_none(), "no index holds what was before");
    cache.apply(serde_json::from_value(pod("y", "y", "n", 3)).unwrap());
    cache.remove(&Key::new("a", "x"));
    let objects = cache.read();
    let holders = (objects.all.len(), objects.by_node["n"].len());
    assert_eq!((holders, objects.by_owner["owner"].len()), ((1, 1), 1));
    assert!(objects.by_mention.is_empty());
}

#[test]
fn a_number_that_is_free_is_given_to_the_next() {
    let cache = Cache::<Pod>::new(PODS);
    let put = |name: &str, node: &str| {
        cache.apply(serde_json::from_value(pod(name, name, node, 1)).unwrap());
    };
    let on = |node: &str| -> Vec<String> {
        let found = cache.on_node(node);
        found.iter().map(|pod| pod.metadata.name.clone()).collect()
    };
    put("b", "n");
    put("c", "n");
    cache.remove(&Key::new("a", "b"));
    put("d", "n");
    put("a", "m");
    assert_eq!((on("n"), on("m")), (names(["c", "d"]), names(["a"])));
    cache.remove(&Key::new("a", "d"));
    cache.remove(&Key::new("a", "c"));
    put("e", "m");
    assert_eq!((on("n"), on("m")), (names([]), names(["a", "e"])));
    assert_eq!(cache.count_owned_by("owner"), 2);
}

#[test]
fn a_long_list_is_in_order_whatever_comes_and_goes() {
    let cache = Cache::<Pod>::new(PODS);
    let pods: u32 = 60;
    // In order, in disorder, and in the opposite order.
    for step in [1, 7, 59] {
        let of_step = || (0..pods).map(move |number| number * step % pods);
        let mut there = BTreeSet::new();
        let mut look = |number: u32, is_there: bool| {
            let name = format!("p-{number:02}");
            if is_there {
                let pod = pod(&name, &name, "n", number);
                cache.apply(serde_json::from_value(pod).unwrap());
                there.insert(name);
            } else {
                cache.remove(&Key::new("a", &name));
                there.remove(&name);
            }
            let found = cache.owned_in("a", "owner");
            let found = found.iter().map(|pod| &pod.metadata.name);
            assert!(found.eq(&there), "{number}");
            assert_eq!(cache.on_node("n").len(), there.len());
            assert_eq!(cache.count_owned_by("owner"), there.len());
        };
        of_step().for_each(|number| look(number, true));
        of_step().step_by(2).for_each(|number| look(number, false));
        of_step().for_each(|number| look(number, true));
        of_step().for_each(|number| look(number, false));
        assert!(cache.is_empty() && cache.read().by_owner.is_empty());
    }
}

fn names<const N: usize>(names: [&str; N]) -> Vec<String> {
    names.map(str::to_owned).to_vec()
}

#[test]
fn a_namespace_ends_where_the_next_begins() {
    let cache = Cache::<Pod>::new(PODS);
    for (namespace, name) in [("a", "z"), ("ab", "a"), ("b", "a"), ("a", "b")] {
        let mut pod = pod(name, name, "", 1);
        pod["metadata"]["namespace"] = namespace.into();
        cache.apply(serde_json::from_value(pod).unwrap());
    }
    let of = |found: Vec<Arc<Pod>>| -> Vec<String> {
        let names = found.iter().map(|pod| Key::of(&pod.metadata).to_string());
        names.collect()
    };
    assert_eq!(of(cache.in_namespace("a")), ["a/b", "a/z"]);
    assert_eq!(of(cache.owned_in("ab", "owner")), ["ab/a"]);
    assert_eq!(of(cache.list()), ["a/b", "a/z", "ab/a", "b/a"]);
    assert!(cache.get("b", "z").is_none() && cache.get("b", "a").is_some());
    assert!(cache.by_key(&Key::new("ab", "a")).is_some());
}

#[test]
fn the_uncontrolled_are_found_without_looking_at_the_others() {
    let cache = Cache::<Pod>::new(PODS);
    let with = |controller: bool| {
        let mut pod = pod("x", "u", "", 1);
        pod["metadata"]["ownerReferences"][0]["controller"] = controller.into();
        serde_json::from_value::<Pod>(pod).unwrap()
    };
    assert!(!cache.has_any_in("a"));
    cache.apply(with(false));
    assert_eq!(cache.uncontrolled_in("a").len(), 1);
    assert!(cache.uncontrolled_in("b").is_empty());
    let named = |name: &'static str| cache.uncontrolled_where("a", move |meta| meta.name == name);
    assert!(named("x").len() == 1 && named("y").is_empty());
    assert!(cache.has_any_in("a") && !cache.has_any_in("") && !cache.has_any_in("b"));
    cache.apply(with(true));
    assert!(cache.uncontrolled_in("a").is_empty());
    cache.apply(with(false));
    cache.remove(&Key::new("a", "x"));
    assert!(cache.uncontrolled_in("a").is_empty());
}

#[test]
fn a_selector_finds_what_has_its_labels_now_in_the_order_of_names() {
    let cache = Cache::<Pod>::new(PODS);
    let put = |name: &str, labels: Value| {
        let mut pod = pod(name, name, "", 1);
        pod["metadata"]["labels"] = labels;
        cache.apply(serde_json::from_value(pod).unwrap());
    };
    let with = |namespace: &str, labels: Value| -> Vec<String> {
        let labels = serde_json::from_value(labels).unwrap();
        let found = cache.with_labels(namespace, &labels);
        found.iter().map(|pod| pod.metadata.name.clone()).collect()
    };
    put("c", json!({"app": "web"}));
    put("a", json!({"app": "web", "tier": "x"}));
    put("b", json!({"app": "web"}));
    put("d", json!({"app": "db"}));
    put("e", json!({}));
    assert_eq!(with("a", json!({"app": "web"})), ["a", "b", "c"]);
    assert_eq!(with("a", json!({"tier": "x"})), ["a"]);
    assert_eq!(with("a", json!({})).len(), 5);
    assert!(with("b", json!({})).is_empty());
    let selector =
        json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]});
    let selector = serde_json::from_value(selector).unwrap();
    assert_eq!(cache.select("a", &selector).len(), 2);
    put("b", json!({"app": "db"}));
    cache.remove(&Key::new("a", "c"));
    assert_eq!(with("a", json!({"app": "web"})), ["a"]);
    assert_eq!(with("a", json!({"app": "db"})), ["b", "d"]);
    assert_eq!(cache.read().classes["a"].len(), 3, "no class is empty");
    for name in ["a", "b", "d", "e"] {
        cache.remove(&Key::new("a", name));
    }
    assert!(cache.is_empty() && cache.read().classes.is_empty());
}

#[test]
fn a_subscriber_that_panics_does_not_stop_the_others() {
    let cache = Cache::<Pod>::new(PODS);
    cache.subscribe(|_| panic!("a bug in a subscriber (this test means it)"));
    let log = recorded(&cache);
    cache.apply(serde_json::from_value(pod("x", "u", "", 1)).unwrap());
    assert_eq!(*log.lock().unwrap(), ["- -> u@1"]);
}

#[test]
fn broken_objects_are_left_out_and_broken_lines_refused() {
    let cache = Cache::<Pod>::new(PODS);
    let line =
        json!({"type": "ADDED", "object": {"metadata": {"name": 7, "resourceVersion": "9"}}})
            .to_string();
    assert_eq!(cache.line(line.as_bytes(), false).unwrap().revision, "9");
    assert!(cache.line(b"<html>", false).is_err());
    assert!(cache.is_empty());
    assert_eq!(cache.version().borrow().revision, 9, "who waits goes on");
    // One that was readable before does not stay as it was.
    cache.apply(serde_json::from_value(pod("x", "u", "", 1)).unwrap());
    let mut odd = pod("x", "u", "", 10);
    odd["spec"] = 7.into();
    let line = json!({"type": "MODIFIED", "object": odd}).to_string();
    assert!(cache.line(line.as_bytes(), false).is_ok());
    assert!(cache.is_empty());
}
