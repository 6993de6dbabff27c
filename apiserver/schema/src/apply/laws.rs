//! What holds for any object and any configuration.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::managers::{Managers, Who};
use super::operation::apply;
use super::set::Set;
use crate::structural::{Schema, Structural};
use crate::types::type_of;

static CUSTOM: LazyLock<Structural> = LazyLock::new(|| {
    let port = json!({"type": "object", "required": ["containerPort"], "properties": {
        "containerPort": {"type": "integer"}, "name": {"type": "string"},
        "protocol": {"type": "string", "default": "TCP"}}});
    let container = json!({"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"}, "image": {"type": "string"},
        "args": {"type": "array", "items": {"type": "string"}},
        "ports": {"type": "array", "items": port, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["containerPort", "protocol"]}}});
    let labels = json!({"type": "object", "additionalProperties": {"type": "string"}});
    let pod = json!({"type": "object", "properties": {"containers": {"type": "array", "items": container,
        "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}}});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "replicas": {"type": "integer"},
        "paused": {"type": "boolean"},
        "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"matchLabels": labels}},
        "template": {"type": "object", "properties": {"spec": pod}}}}}});
    Structural::compile(&schema).unwrap()
});

/// A built-in kind, and a custom one whose schema says the same of the fields used here.
fn schemas() -> [Schema<'static>; 2] {
    [
        type_of("apps", "v1", "Deployment").unwrap().into(),
        (&*CUSTOM).into(),
    ]
}

/// The object as it is stored: of a custom resource with its defaults.
fn settled(schema: Schema<'_>, object: &Value) -> Value {
    let mut object = object.clone();
    if let Schema::Custom(schema) = schema {
        schema.default(&mut object);
    }
    object
}

fn who<'a>(manager: &'a str) -> Who<'a> {
    Who {
        manager,
        api_version: "apps/v1",
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        reset: &[],
        versions: None,
    }
}

/// A few fields of every sort: scalars, maps, lists with one key and with two, sets, atomic ones.
fn config() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(vec!["a", "b", "c"]);
    let port = (
        1..4_i64,
        prop::option::of(prop::sample::select(vec!["TCP", "UDP"])),
        prop::option::of(text()),
    );
    let port = port.prop_map(|(port, protocol, name)| {
        drop_nulls(json!({"containerPort": port, "protocol": protocol, "name": name}))
    });
    let container = (
        text(),
        prop::option::of(text()),
        prop::option::of(prop::collection::vec(text(), 0..3)),
        prop::collection::vec(port, 0..3),
    );
    let container = container.prop_map(|(name, image, args, ports)| {
        let key = |p: &Value| {
            (
                p["containerPort"].clone(),
                p["protocol"].as_str().unwrap_or("TCP").to_owned(),
            )
        };
        let ports = unique(ports, key);
        drop_nulls(json!({"name": name, "image": image, "args": args, "ports": ports}))
    });
    let labels = prop::option::of(prop::collection::btree_map(text(), text(), 0..3));
    let finalizers = prop::option::of(prop::collection::btree_set(text(), 0..3));
    let spec = (
        prop::option::of(0..3_i64),
        prop::option::of(any::<bool>()),
        prop::option::of(text()),
        prop::collection::vec(container, 0..3),
    );
    (labels, finalizers, spec).prop_map(|(labels, finalizers, (replicas, paused, selector, containers))| {
        let containers = unique(containers, |c| c["name"].clone());
        let selector = selector.map(|value| json!({"matchLabels": {"x": value}}));
        let template = json!({"spec": {"containers": containers}});
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": drop_nulls(json!({"name": "web", "labels": labels, "finalizers": finalizers})),
            "spec": drop_nulls(json!({"replicas": replicas, "paused": paused, "selector": selector, "template": template}))})
    })
}

fn drop_nulls(value: Value) -> Value {
    let Value::Object(map) = value else {
        return value;
    };
    map.into_iter()
        .filter(|(_, value)| !value.is_null())
        .collect()
}

fn unique<K: PartialEq>(items: Vec<Value>, key: impl Fn(&Value) -> K) -> Vec<Value> {
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if !kept.iter().any(|other| key(other) == key(&item)) {
            kept.push(item);
        }
    }
    kept
}

fn nothing() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {}})
}

/// Applies by two managers in turn, then one ordinary update.
fn history(schema: Schema<'_>, configs: &[Value]) -> Value {
    let mut live = nothing();
    for (config, manager) in configs.iter().zip(["one", "two", "three"]) {
        live = apply(schema, &live, config, &who(manager), true).unwrap();
    }
    live
}

fn managers(object: &Value) -> Managers {
    Managers::read(object.pointer("/metadata/managedFields")).unwrap()
}

/// Everything that some manager owns.
fn owned(object: &Value) -> Set {
    let mut all = Set::default();
    for entry in managers(object).0 {
        all.add(entry.set);
    }
    all
}

fn without_managers(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    object
}

/// What merging means, said without the schema table: items by their keys, everything else by name.
fn naive(live: &Value, config: &Value, path: &str) -> Value {
    let key = |item: &Value| match path {
        "/spec/template/spec/containers" => Some(item["name"].to_string()),
        "/spec/template/spec/containers/ports" => {
            let protocol = item
                .get("protocol")
                .and_then(Value::as_str)
                .unwrap_or("TCP");
            Some(format!("{}{protocol}", item["containerPort"]))
        }
        "/metadata/finalizers" => Some(item.to_string()),
        _ => None,
    };
    match (live, config) {
        (Value::Object(live), Value::Object(config))
            if path != "/spec/selector" && !live.is_empty() =>
        {
            let mut merged = live.clone();
            for (name, value) in config {
                let value = match live.get(name) {
                    Some(old) => naive(old, value, &format!("{path}/{name}")),
                    None => value.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Value::Array(live), Value::Array(config))
            if live.iter().chain(config).all(|i| key(i).is_some()) =>
        {
            let mut merged = live.clone();
            for item in config {
                match merged.iter_mut().find(|old| key(old) == key(item)) {
                    Some(old) => *old = naive(old, item, path),
                    None => merged.push(item.clone()),
                }
            }
            Value::Array(merged)
        }
        _ => config.clone(),
    }
}

/// Lists with keys in one order, and without what is the same as nothing.
fn in_one_order(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(in_one_order).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), in_one_order(value)))
            .filter(|(key, value)| {
                *value != json!([]) && *value != json!({}) && !(key == "paused" && value == false)
            })
            .collect(),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whoever applies the same again changes nothing, not even the order.
    #[test]
    fn applying_is_idempotent(configs in prop::collection::vec(config(), 3)) {
        for schema in schemas() {
            let live = history(schema, &configs);
            let again = apply(schema, &live, &configs[2], &who("three"), true).unwrap();
            prop_assert_eq!(again, live);
        }
    }

    /// An apply that is forced always succeeds, and the object then says what was applied.
    #[test]
    fn what_is_applied_is_there(configs in prop::collection::vec(config(), 3)) {
        for schema in schemas() {
            let live = without_managers(&history(schema, &configs[..2]));
            let merged = settled(schema, &super::merge::merge(schema, &live, &configs[2]));
            prop_assert_eq!(in_one_order(&merged), in_one_order(&settled(schema, &naive(&live, &configs[2], ""))));
            let new = apply(schema, &live, &configs[2], &who("x"), true).unwrap();
            prop_assert_eq!(in_one_order(&without_managers(&new)), in_one_order(&merged));
        }
    }

    /// Items that are applied again in their order are merged in place, to the same as item by item.
    #[test]
    fn items_that_are_applied_again_are_merged_as_others(configs in prop::collection::vec(config(), 1)) {
        const CONTAINERS: &str = "/spec/template/spec/containers";
        fn containers(object: &mut Value) -> &mut Vec<Value> {
            object.pointer_mut(CONTAINERS).and_then(Value::as_array_mut).unwrap()
        }
        for schema in schemas() {
            let live = history(schema, &configs);
            let mut again = configs[0].clone();
            for container in containers(&mut again) {
                container["image"] = "z".into();
                container["ports"] = json!([{"containerPort": 2, "name": "z"}]);
            }
            // An item that the object does not have, which is left out afterwards.
            let more = json!({"name": "more"});
            let mut other = again.clone();
            containers(&mut other).push(more.clone());
            let mut long = super::merge::merge(schema, &live, &other);
            containers(&mut long).retain(|item| *item != more);
            prop_assert_eq!(super::merge::merge(schema, &live, &again), long);
        }
    }

    /// A path that had an owner and is still there has one.
    #[test]
    fn owners_are_never_lost(configs in prop::collection::vec(config(), 4)) {
        for schema in schemas() {
            let before = history(schema, &configs[..3]);
            let after = apply(schema, &before, &configs[3], &who("one"), true).unwrap();
            let there = super::fields::fields(schema, &after);
            let mut lost = owned(&before).intersection(&there);
            lost.subtract(&owned(&after));
            prop_assert!(lost.is_empty(), "{:?}", lost.paths());
        }
    }

    /// What nobody owns any more goes; what others own does not.
    #[test]
    fn a_manager_takes_its_fields_with_it(configs in prop::collection::vec(config(), 2)) {
        for schema in schemas() {
            let one = history(schema, &configs[..1]);
            let both = apply(schema, &one, &configs[1], &who("two"), true).unwrap();
            let bare = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
            let gone = apply(schema, &both, &bare, &who("two"), true).unwrap();
            prop_assert!(managers(&gone).0.iter().all(|entry| entry.manager != "two"));
            let left = super::fields::fields(schema, &gone);
            let mut orphans = left.clone();
            orphans.subtract(&owned(&gone));
            let mut expected = super::fields::fields(schema, &without_managers(&one));
            expected.add(left);
            // Whatever is there stood in the first configuration.
            let mut first = expected.clone();
            first.subtract(&super::fields::fields(schema, &without_managers(&one)));
            prop_assert!(first.paths().iter().all(|path| path.starts_with(".metadata.managedFields")), "{:?}", first.paths());
        }
    }

    /// An ordinary write never makes two owners of what it changed, and loses none of the rest.
    #[test]
    fn an_update_owns_what_it_changed(configs in prop::collection::vec(config(), 3)) {
        for schema in schemas() {
            let live = history(schema, &configs[..2]);
            let new = &settled(schema, &configs[2]);
            let before = managers(&live);
            let changes = super::compare::compare(schema, &live, new, super::managers::UNOWNED);
            let taken = changes.taken();
            let seen = super::versions::Seen::of(schema, (&live, new), changes, &before, &who("editor"));
            let after = before.clone().update(&live, seen, &who("editor"));
            for entry in &after.0 {
                let has = entry.set.intersection(&taken);
                prop_assert!(entry.manager == "editor" || has.is_empty());
            }
            let editor = after.0.iter().find(|entry| entry.manager == "editor");
            prop_assert!(editor.map_or(taken.is_empty(), |entry| taken.is_within(&entry.set)));
            prop_assert_eq!(Managers::read(after.clone().write().as_ref()).map(|m| m.0.len()), Some(after.0.len()));
        }
    }

    /// No input makes the walks panic, whatever its shape.
    #[test]
    fn odd_objects_do_no_harm(a in odd(), b in odd(), sets in odd()) {
        for schema in schemas() {
            let _ = apply(schema, &a, &b, &who("x"), true);
            let _ = super::managers::updated(schema, &a, &b, Some(sets.clone()), &who("x"));
            let _ = Set::read(&sets);
        }
    }
}

/// JSON that uses the names of the type in the wrong places.
pub(super) fn odd() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        Just(json!(1)),
        Just(json!("a")),
        Just(json!({})),
        Just(json!([])),
        Just(json!([{}])),
        Just(json!({"name": "a"})),
    ];
    leaf.prop_recursive(7, 40, 4, |inner| {
        let names = vec![
            "metadata",
            "spec",
            "status",
            "template",
            "containers",
            "ports",
            "name",
            "managedFields",
            "fieldsV1",
            "labels",
            "finalizers",
            "conditions",
            "selector",
            "k:{\"a\":1}",
            "f:a",
            "v:1",
            ".",
            "resources",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(prop::sample::select(names), inner, 0..4).prop_map(|map| {
                map.into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            }),
        ]
    })
}
