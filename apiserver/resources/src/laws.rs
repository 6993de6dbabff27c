//! Laws over the list of kinds: what must hold for every entry, so that an entry cannot be half right.

mod shortcuts;

use std::collections::BTreeSet;

use schema::Object;
use serde_json::{Value, json};

use crate::{ALL, Resource, Storage, by_kind, find, groups, storage_key, storage_resource};

fn sample(resource: &Resource) -> Object {
    let mut object = Object::empty(&resource.api_version(), &resource.kind);
    object.set_name("sample");
    if resource.namespaced {
        object.set_namespace("space");
    }
    object
}

#[test]
fn every_kind_of_the_release_is_there() {
    assert_eq!(
        ALL.iter().filter(|r| !r.group.is_empty()).count() + 17,
        ALL.len()
    );
    assert_eq!(ALL.len(), 70);
    let subresources: usize = ALL.iter().map(|r| r.subresources.len()).sum();
    assert_eq!(subresources, 45);
    assert_eq!(groups()[0].name, "");
    let scaling = groups()
        .into_iter()
        .find(|group| group.name == "autoscaling")
        .unwrap();
    assert_eq!(scaling.versions, ["v2", "v1"]);
}

#[test]
fn names_are_unique_and_found() {
    let mut seen = BTreeSet::new();
    for resource in ALL.iter() {
        let id = (&*resource.group, &*resource.version, &*resource.plural);
        assert!(seen.insert(id), "{id:?} twice");
        assert_eq!(find(id.0, id.1, id.2).unwrap().kind, resource.kind);
        assert_eq!(
            by_kind(id.0, id.1, &resource.kind).unwrap().plural,
            resource.plural
        );
        assert_eq!(resource.plural, resource.plural.to_lowercase());
        assert!(!resource.kind.is_empty() && !resource.verbs.is_empty());
    }
}

#[test]
fn subresources_are_well_formed() {
    for resource in ALL.iter() {
        let mut seen = BTreeSet::new();
        for subresource in resource.subresources {
            assert!(
                seen.insert(subresource.name),
                "{} {}",
                resource.kind,
                subresource.name
            );
            assert!(!subresource.verbs.is_empty() && !subresource.kind.is_empty());
            assert_eq!(
                subresource.group.is_empty(),
                subresource.version.is_empty() || subresource.group.is_empty()
            );
        }
        assert_eq!(
            resource.scale.is_some(),
            resource.subresource("scale").is_some(),
            "{}",
            resource.kind
        );
        assert!(
            resource.subresources.is_sorted_by_key(|s| s.name),
            "{}",
            resource.kind
        );
    }
}

#[test]
fn storage_keys_do_not_collide() {
    let mut seen = BTreeSet::new();
    for resource in ALL.iter().filter(|r| matches!(r.storage, Storage::Own)) {
        assert!(
            seen.insert(storage_key(resource, "n", "x")),
            "{}",
            resource.kind
        );
        assert!(std::ptr::eq(storage_resource(resource), resource));
    }
    let shared: Vec<&Resource> = ALL
        .iter()
        .filter(|r| matches!(r.storage, Storage::Shared(_)))
        .collect();
    assert_eq!(shared.len(), 2);
    for resource in shared {
        let stored =
            storage_resource(find(&resource.group, &resource.version, &resource.plural).unwrap());
        assert!(matches!(stored.storage, Storage::Own));
        assert_eq!(
            storage_key(resource, "n", "x"),
            storage_key(stored, "n", "x")
        );
    }
    assert_eq!(
        storage_key(find("", "v1", "pods").unwrap(), "n", "x"),
        "/registry/pods/n/x"
    );
    assert_eq!(
        storage_key(find("", "v1", "nodes").unwrap(), "n", "x"),
        "/registry/nodes/x"
    );
}

#[test]
fn rows_have_as_many_cells_as_columns() {
    for resource in ALL.iter().filter(|r| !r.is_virtual() || r.allows("list")) {
        let object = sample(resource);
        let cells = crate::table(resource, &object, 0);
        assert_eq!(cells.len(), resource.columns.len(), "{}", &resource.kind);
        assert!(
            resource
                .columns
                .iter()
                .any(|column| column.format == "name"),
            "{}",
            resource.kind
        );
        assert!(
            resource
                .columns
                .iter()
                .all(|column| !column.description.is_empty()),
            "{}",
            resource.kind
        );
    }
}

#[test]
fn field_selectors_answer() {
    for resource in ALL.iter() {
        let object = sample(resource);
        assert_eq!(
            resource.field(&object, "metadata.name").as_deref(),
            Some("sample")
        );
        assert_eq!(
            resource.field(&object, "metadata.namespace").is_some(),
            resource.namespaced
        );
        assert_eq!(resource.field(&object, "spec.nothing"), None);
        for name in &resource.field_selectors {
            assert!(
                resource.field(&object, name).is_some(),
                "{} {name}",
                resource.kind
            );
        }
    }
    let pods = find("", "v1", "pods").unwrap();
    assert_eq!(
        pods.field(&sample(pods), "spec.hostNetwork").as_deref(),
        Some("false")
    );
}

#[test]
fn fields_are_read_from_where_they_are_said_to_be() {
    let full = json!({
        "metadata": { "name": "sample", "namespace": "n" },
        "spec": { "nodeName": "n1", "hostNetwork": true, "clusterIP": "10.0.0.1", "type": "x", "signerName": "s",
                  "unschedulable": true, "driver": "d", "restartPolicy": "Never", "schedulerName": "s",
                  "serviceAccountName": "a" },
        "status": { "phase": "Running", "podIP": "10.1.0.1", "podIPs": [{ "ip": "10.1.0.2" }, { "ip": "::1" }],
                    "replicas": 3, "succeeded": 2, "nominatedNodeName": "n2" },
        "involvedObject": { "kind": "Pod", "name": "p", "namespace": "n", "uid": "u" },
        "source": { "component": "c" }, "reportingComponent": "r", "reason": "x", "type": "t", "other": 1,
    });
    for resource in ALL.iter() {
        let whole = Object::new(full.clone()).unwrap();
        let picked = schema::pick::Pick::of(resource.field_paths());
        let picked = picked.read(full.to_string().as_bytes()).unwrap();
        assert!(picked.get("other").is_none(), "{}", resource.kind);
        let picked = Object::new(picked).unwrap();
        for name in &resource.field_selectors {
            let of = |object| resource.field(object, name);
            assert_eq!(of(&picked), of(&whole), "{} {name}", resource.kind);
        }
    }
}

#[test]
fn preparing_twice_changes_nothing_and_generation_moves_with_intent() {
    for resource in ALL.iter().filter(|r| !r.is_virtual()) {
        let mut old = sample(resource);
        resource.default(&mut old);
        resource.prepare_create(&mut old);
        assert_eq!(
            old.generation(),
            i64::from(resource.generation.is_some()),
            "{}",
            resource.kind
        );
        let mut same = old.clone();
        resource.default(&mut same);
        resource.prepare_update(&mut same, &old);
        assert_eq!(same, old, "{}", &resource.kind);
        for field in resource.generation.unwrap_or_default() {
            let mut new = old.clone();
            new.set(&[field], json!({"changed": true}));
            resource.prepare_update(&mut new, &old);
            assert_eq!(new.generation(), 2, "{}", &resource.kind);
        }
        if resource.has_status() {
            let mut new = old.clone();
            new.set(&["status", "forged"], true);
            resource.prepare_update(&mut new, &old);
            assert_eq!(
                new.get(&["status"]),
                old.get(&["status"]),
                "{}",
                resource.kind
            );
            let mut new = old.clone();
            new.set(&["status", "seen"], true);
            new.set(&["spec", "forged"], true);
            resource.prepare_status_update(&mut new, &old);
            assert_eq!(new.get(&["spec"]), old.get(&["spec"]), "{}", &resource.kind);
            assert_eq!(
                new.get_bool(&["status", "seen"]),
                Some(true),
                "{}",
                resource.kind
            );
            assert_eq!(new.generation(), old.generation());
        }
    }
}

/// Every hook of every kind is fed values of every wrong type in every place.
#[test]
fn odd_shapes_never_panic() {
    let pool = odd_values();
    let mut seed: u64 = 42;
    let mut next = move |below: usize| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        usize::try_from((seed >> 33) % below as u64).unwrap_or(0)
    };
    for resource in ALL.iter() {
        let ty = schema::type_of(&resource.group, &resource.version, &resource.kind);
        for round in 0..300 {
            let mut object = match ty {
                Some(ty) => {
                    Object::new(grow(ty, 0, &pool, &mut next)).unwrap_or_else(|_| sample(resource))
                }
                None => sample(resource),
            };
            if round % 2 == 0 {
                object.set(
                    &["metadata"],
                    json!({"name": "sample", "namespace": "space"}),
                );
            }
            let before = object.clone();
            resource.default(&mut object);
            let defaulted = object.clone();
            resource.default(&mut object);
            assert_eq!(
                object, defaulted,
                "defaults of {} are not idempotent",
                resource.kind
            );
            resource.prepare_create(&mut object);
            resource.validate(&object);
            let mut new = before.clone();
            resource.prepare_update(&mut new, &object);
            resource.validate_update(&new, &object);
            for subresource in resource.subresources {
                let mut new = before.clone();
                resource.prepare_subresource_update(subresource.name, &mut new, &object);
                resource.validate_subresource_update(subresource.name, &new, &object);
            }
            resource.warnings(&object);
            crate::table(resource, &object, 0);
            resource.scale_of(&object);
            for name in &resource.field_selectors {
                resource.field(&object, name);
            }
            if let Storage::Shared(shared) = resource.storage {
                (shared.to_storage)(&mut object);
                (shared.from_storage)(&mut object);
            }
        }
    }
}

fn odd_values() -> Vec<Value> {
    vec![
        Value::Null,
        json!(""),
        json!("x"),
        json!("Ü/\u{0}%$"),
        json!("10%"),
        json!("1Gi"),
        json!("é:é@é"),
        json!("*/5 * * * *"),
        json!("10.0.0.1"),
        json!("10.0.0.0/8"),
        json!(0),
        json!(1),
        json!(-1),
        json!(i64::MIN),
        json!(i64::MAX),
        json!(u64::MAX),
        json!(1.5e300),
        json!(true),
        json!([]),
        json!([null, 1, "a", {}, []]),
        json!({}),
        json!({"a": 1, "": null}),
    ]
}

/// A value that resembles the type, with odd values strewn in.
fn grow(
    ty: &schema::Type,
    depth: usize,
    pool: &[Value],
    next: &mut dyn FnMut(usize) -> usize,
) -> Value {
    use schema::types::{Container, Element, Form};

    let odd = |next: &mut dyn FnMut(usize) -> usize| pool[next(pool.len())].clone();
    if ty.form != Form::Object || depth > 7 {
        return odd(next);
    }
    let mut map = serde_json::Map::new();
    for field in &ty.fields {
        if next(3) == 0 && depth > 0 {
            continue;
        }
        let item = |next: &mut dyn FnMut(usize) -> usize| -> Value {
            match (field.ty.element, field.ty.message()) {
                (_, Some(ty)) => grow(ty, depth + 1, pool, next),
                (Element::String, _) if !field.enumeration.is_empty() => {
                    field.enumeration[next(field.enumeration.len())].into()
                }
                _ => pool[next(pool.len())].clone(),
            }
        };
        let value = if next(8) == 0 {
            odd(next)
        } else {
            match field.ty.container {
                Container::One => item(next),
                Container::List => (0..next(3)).map(|_| item(next)).collect(),
                Container::Map => json!({"key": item(next)}),
            }
        };
        map.insert(field.name.to_owned(), value);
    }
    Value::Object(map)
}

#[test]
fn every_kind_has_a_type() {
    for resource in ALL.iter() {
        assert!(
            schema::type_of(&resource.group, &resource.version, &resource.kind).is_some(),
            "{}",
            resource.kind
        );
        for subresource in resource
            .subresources
            .iter()
            .filter(|s| !s.kind.ends_with("Options"))
        {
            let (group, version) = if subresource.version.is_empty() {
                (&*resource.group, &*resource.version)
            } else {
                (subresource.group, subresource.version)
            };
            assert!(
                schema::type_of(group, version, subresource.kind).is_some(),
                "{}",
                subresource.kind
            );
        }
    }
}
