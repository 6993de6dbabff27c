//! What is found after any steps, held against a look at all there is.

use super::*;
use crate::kinds::{Labels, Mention, PartialObject, Pod};
use crate::reflector::Sink;
use crate::resource_ref::PODS;
use proptest::prelude::*;
use serde_json::{Value, json};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]
    #[test]
    fn what_is_found_by_hash_is_listed_as_what_is_held_in_order(
        steps in prop::collection::vec((0..3_usize, 0..6_u8, 0..8_u8), 1..60),
    ) {
        let hashed = Cache::<Pod>::new(PODS);
        let sorted = Cache::<PartialObject>::new(PODS);
        let keys_of = |found: Vec<ObjectMeta>| -> Vec<String> {
            let versions = found.iter().map(|meta| format!("{}@{}", Key::of(meta), meta.resource_version));
            versions.collect()
        };
        let of_pods = |found: Vec<Arc<Pod>>| keys_of(found.iter().map(|pod| pod.metadata.clone()).collect());
        let of_others = |found: Vec<Arc<PartialObject>>| keys_of(found.iter().map(|one| one.metadata.clone()).collect());
        for (version, (namespace, name, step)) in steps.into_iter().enumerate() {
            let (namespace, name) = (["a", "ab", "b"][namespace], format!("p-{name}"));
            let labels = json!({"app": (version % 3).to_string()});
            let object = json!({"metadata": {"name": name, "namespace": namespace, "uid": name, "labels": labels,
                "resourceVersion": version.to_string()}});
            match step {
                0 | 1 => {
                    hashed.remove(&Key::new(namespace, &name));
                    sorted.remove(&Key::new(namespace, &name));
                }
                2 => {
                    // A relist leaves this one and nothing else.
                    let page = json!({"metadata": {"resourceVersion": "1"}, "items": [object]}).to_string();
                    for sink in [&hashed as &dyn Sink, &sorted] {
                        sink.begin();
                        sink.page(page.as_bytes()).unwrap();
                        sink.commit("1");
                    }
                }
                _ => {
                    hashed.apply(serde_json::from_value(object.clone()).unwrap());
                    sorted.apply(serde_json::from_value(object).unwrap());
                }
            }
            prop_assert_eq!(of_pods(hashed.list()), of_others(sorted.list()));
            let mut unsorted = of_pods(hashed.list_unsorted());
            unsorted.sort();
            let mut expected = of_others(sorted.list());
            expected.sort();
            prop_assert_eq!(unsorted, expected);
            prop_assert_eq!(hashed.len(), sorted.len());
            for namespace in ["a", "ab", "b", ""] {
                prop_assert_eq!(of_pods(hashed.in_namespace(namespace)), of_others(sorted.in_namespace(namespace)));
                prop_assert_eq!(hashed.has_any_in(namespace), sorted.has_any_in(namespace));
                let found = hashed.get(namespace, &name).map(|pod| pod.metadata.version());
                prop_assert_eq!(found, sorted.get(namespace, &name).map(|one| one.metadata.version()));
            }
        }
    }
}

/// A pod by what is rolled for its owners, its node, its labels and its claim.
fn rolled(namespace: &str, name: &str, version: usize, sides: [u8; 4]) -> Value {
    let [owners, node, labels, claim] = sides;
    let node = ["", "n", "m", "n"][usize::from(node)];
    let owner = |uid: &str, controller: bool| json!({"uid": uid, "controller": controller});
    let owners = match owners {
        0 => json!([]),
        1 => json!([owner("o", true)]),
        2 => json!([owner("o", false)]),
        _ => json!([owner("o", false), owner("p", true)]),
    };
    let claims = match claim {
        0 | 1 => json!([]),
        _ => json!([{"name": "x", "resourceClaimName": format!("c{claim}")}]),
    };
    json!({"metadata": {"name": name, "namespace": namespace, "uid": name, "resourceVersion": version.to_string(),
            "labels": {"app": labels.to_string()}, "ownerReferences": owners},
        "spec": {"nodeName": node}, "status": {"resourceClaimStatuses": claims}})
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]
    #[test]
    fn every_index_finds_what_a_look_at_all_finds(
        steps in prop::collection::vec((0..2_usize, 0..3_usize, 0..5_u8, prop::array::uniform4(0..4_u8)), 1..40),
    ) {
        let cache = Cache::<Pod>::new(PODS);
        for (version, (namespace, name, step, sides)) in steps.into_iter().enumerate() {
            let (namespace, name) = (["a", "b"][namespace], ["x", "y", "z"][name]);
            if step == 0 {
                cache.remove(&Key::new(namespace, name));
            } else {
                let pod = rolled(namespace, name, version, sides);
                cache.apply(serde_json::from_value(pod).unwrap());
            }
            let versions = |found: Vec<Arc<Pod>>| -> Vec<u64> {
                found.iter().map(|pod| pod.metadata.version()).collect()
            };
            let among = |wanted: &dyn Fn(&Pod) -> bool| {
                let mut all = cache.list_unsorted();
                all.sort_by_key(|pod| Key::of(&pod.metadata));
                versions(all.into_iter().filter(|pod| wanted(pod)).collect())
            };
            for uid in ["o", "p"] {
                let is_owned = |pod: &Pod| pod.metadata.owner_references.iter().any(|owner| owner.uid == uid);
                prop_assert_eq!(versions(cache.owned_by(uid)), among(&is_owned));
                prop_assert_eq!(cache.count_owned_by(uid), among(&is_owned).len());
            }
            for node in ["n", "m"] {
                prop_assert_eq!(versions(cache.on_node(node)), among(&|pod| pod.node_name() == node));
                prop_assert_eq!(cache.nodes().iter().any(|known| known == node), !cache.on_node(node).is_empty());
            }
            for namespace in ["a", "b"] {
                let is_here = |pod: &Pod| pod.metadata.namespace == namespace;
                let is_free = |pod: &Pod| is_here(pod) && pod.metadata.controller().is_none();
                prop_assert_eq!(versions(cache.uncontrolled_in(namespace)), among(&is_free));
                prop_assert_eq!(cache.has_uncontrolled(namespace, |_| true), !among(&is_free).is_empty());
                for number in 0..4_u8 {
                    let app = number.to_string();
                    let has_label = |pod: &Pod| is_here(pod) && pod.metadata.labels.get("app") == Some(&app);
                    let wanted: Labels = [("app".to_owned(), app.clone())].into();
                    prop_assert_eq!(versions(cache.with_labels(namespace, &wanted)), among(&has_label));
                    let claim = format!("c{number}");
                    let uses = |pod: &Pod| {
                        let mut statuses = pod.status.resource_claim_statuses.iter();
                        is_here(pod) && statuses.any(|status| status.resource_claim_name.as_ref() == Some(&claim))
                    };
                    let mention = Mention::DeviceClaim(Key::new(namespace, &claim));
                    prop_assert_eq!(versions(cache.mentioning(&mention)), among(&uses));
                }
            }
        }
    }
}
