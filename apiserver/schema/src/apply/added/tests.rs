//! The walk says of every new object what the comparison with nothing says.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::apply::compare::compare;
use crate::apply::laws::odd;
use crate::apply::managers::{UNOWNED, Who, entered, updated};
use crate::structural::Structural;
use crate::types::maker::Maker;
use crate::types::{self, type_of};

/// A custom kind with every sort of place.
static CUSTOM: LazyLock<Structural> = LazyLock::new(|| {
    let text = json!({"type": "string"});
    let port = json!({"type": "object", "properties": {"port": {"type": "integer"},
        "protocol": {"type": "string", "default": "TCP"}, "name": text}});
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let spec = json!({"type": "object", "properties": {
        "ports": {"type": "array", "items": port, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "protocol"]},
        "names": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
        "args": {"type": "array", "items": text},
        "labels": {"type": "object", "additionalProperties": text},
        "whole": {"type": "object", "additionalProperties": text, "x-kubernetes-map-type": "atomic"},
        "template": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "open": open, "size": {"x-kubernetes-int-or-string": true}}});
    Structural::compile(&json!({"type": "object", "properties": {"spec": spec}})).unwrap()
});

/// What goes when an object becomes nothing, which the comparison finds member by member.
fn by_comparison(schema: Schema<'_>, new: &Value, skipped: &[&[&str]]) -> Set {
    let nothing = json!({"apiVersion": new["apiVersion"], "kind": new["kind"], "metadata": {}});
    let gone = compare(schema, new, &nothing, skipped);
    let mut all = gone.removed;
    all.add(gone.modified);
    all
}

/// What a change adds goes when it is taken back, and the other way round.
fn is_found_both_ways(schema: Schema<'_>, one: &Value, other: &Value, skipped: &[&[&str]]) -> bool {
    let there = compare(schema, one, other, skipped);
    let back = compare(schema, other, one, skipped);
    (there.added, there.removed, there.modified) == (back.removed, back.added, back.modified)
}

/// With and without what a door resets.
fn skips() -> [Vec<&'static [&'static str]>; 2] {
    let reset: [&[&str]; 2] = [&["status"], &["metadata", "labels"]];
    [UNOWNED.to_vec(), [UNOWNED, &reset].concat()]
}

#[test]
fn objects_of_every_type_are_entered_as_compared() {
    for ty in types::all().iter().filter(|ty| ty.is_top_level()) {
        for seed in 0..40 {
            let new = Maker(seed).object(ty, 0);
            for skipped in skips() {
                let expected = by_comparison(ty.into(), &new, &skipped);
                assert_eq!(
                    added(ty.into(), &new, &skipped),
                    expected,
                    "{} seed {seed}",
                    ty.name
                );
            }
        }
    }
}

#[test]
fn changes_of_every_type_are_found_both_ways() {
    for ty in types::all().iter().filter(|ty| ty.is_top_level()) {
        for seed in 0..40 {
            let [one, other] = [seed, seed + 40].map(|seed| Maker(seed).object(ty, 0));
            for skipped in skips() {
                let is_found = is_found_both_ways(ty.into(), &one, &other, &skipped);
                assert!(is_found, "{} seed {seed}", ty.name);
            }
        }
    }
}

#[test]
fn what_is_implied_is_entered_with_its_owner() {
    let ty = type_of("", "v1", "Pod").unwrap();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always"}});
    let set = added(ty.into(), &pod, UNOWNED);
    assert_eq!(
        set.write(),
        json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:restartPolicy": {}, "f:containers": {
            "k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:resources": {}}}}})
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn odd_objects_are_entered_as_compared(new in prop_oneof![odd(), custom()]) {
        for schema in [type_of("apps", "v1", "Deployment").unwrap().into(), (&*CUSTOM).into(), Schema::Any] {
            for skipped in skips() {
                prop_assert_eq!(added(schema, &new, &skipped), by_comparison(schema, &new, &skipped));
            }
        }
    }

    #[test]
    fn odd_changes_are_found_both_ways(one in prop_oneof![odd(), custom()], other in prop_oneof![odd(), custom()]) {
        for schema in [type_of("apps", "v1", "Deployment").unwrap().into(), (&*CUSTOM).into(), Schema::Any] {
            for skipped in skips() {
                prop_assert!(is_found_both_ways(schema, &one, &other, &skipped));
            }
        }
    }

    #[test]
    fn a_new_object_gets_the_entry_of_an_update_of_nothing(seed in any::<u64>()) {
        let ty = type_of("", "v1", "Pod").unwrap();
        let new = Maker(seed).object(ty, 0);
        let who = Who {
            manager: "one",
            api_version: "v1",
            subresource: "",
            now: "2026-01-01T00:00:00Z",
            reset: &[&["status"]],
            versions: None,
        };
        let nothing = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}});
        prop_assert_eq!(entered(ty, &new, &who), updated(ty, &nothing, &new, None, &who));
    }
}

/// Values under the names of the custom kind, most of them where they belong.
fn custom() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(1)),
        Just(json!("a")),
        Just(json!({})),
        Just(json!([])),
        Just(json!(["a", "b", "a"])),
        Just(json!([{"port": 1}, {"port": 1, "protocol": "UDP"}, {"port": 1, "name": "twice"}])),
        Just(
            json!({"apiVersion": "v1", "kind": "X", "metadata": {"labels": {"a": "b"}, "finalizers": ["f"]}, "x": [1]})
        ),
    ];
    let names = vec![
        "ports", "names", "args", "labels", "whole", "template", "open", "size", "unknown",
    ];
    let spec = prop::collection::btree_map(prop::sample::select(names), leaf, 0..6);
    spec.prop_map(|spec| json!({"apiVersion": "a/v1", "kind": "C", "metadata": {"name": "c", "labels": {}}, "spec": spec}))
}
