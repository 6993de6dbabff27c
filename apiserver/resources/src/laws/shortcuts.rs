//! What updates leave out gives the same as the long way, for every kind.

use schema::Object;
use schema::apply::{InOrder, Who, updated, updated_apart};
use serde_json::{Value, json};

use super::{grow, odd_values, sample};
use crate::{ALL, Resource, by_kind};

/// Numbers below a bound, the same in each run.
fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        usize::try_from((seed >> 33) % below as u64).unwrap_or(0)
    }
}

/// Some object of the kind, and the same with other metadata; of some pairs the name or the version differs too.
fn pair(resource: &Resource, next: &mut dyn FnMut(usize) -> usize) -> (Object, Object) {
    let pool = odd_values();
    let ty = schema::type_of(&resource.group, &resource.version, &resource.kind);
    let mut grown = || {
        let value = ty.map(|ty| grow(ty, 0, &pool, next));
        let object = value.and_then(|value| Object::new(value).ok());
        object.unwrap_or_else(|| sample(resource))
    };
    let (mut old, other) = (grown(), grown());
    let mut new = old.clone();
    match other.get(&["metadata"]) {
        Some(metadata) => new.set(&["metadata"], metadata.clone()),
        None => {
            new.remove(&["metadata"]);
        }
    }
    for (object, version) in [(&mut old, 1), (&mut new, next(4))] {
        object.set_name(if next(8) == 0 { "other" } else { "sample" });
        object.set_namespace(if resource.namespaced { "space" } else { "" });
        let version = if version == 0 { "" } else { "7" };
        object.set_resource_version(version);
    }
    (new, old)
}

#[test]
fn fields_that_did_not_change_are_not_judged_again_and_the_verdict_is_the_same() {
    let mut next = numbers(7);
    for resource in ALL.iter().filter(|resource| !resource.is_virtual()) {
        let mut alike = 0;
        for _ in 0..200 {
            let (new, old) = pair(resource, &mut next);
            if !resource.is_judged_alike(&new, &old) {
                continue;
            }
            alike += 1;
            let long = resource.judge_update(&new, &old, false);
            assert_eq!(
                resource.validate_update(&new, &old),
                long,
                "{new:?} {old:?}"
            );
        }
        assert!(alike > 0, "{}", resource.kind);
    }
}

#[test]
fn a_changed_field_is_judged() {
    let old = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}, "data": {"k": "v"}});
    let mut new = Object::new(old.clone()).unwrap();
    let old = Object::new(old).unwrap();
    let resource = by_kind("", "v1", "ConfigMap").unwrap();
    assert!(resource.is_judged_alike(&new, &old));
    new.set(&["data", "a/b"], "v");
    assert!(!resource.is_judged_alike(&new, &old));
    assert_eq!(resource.validate_update(&new, &old).len(), 1);
}

#[test]
fn annotations_are_judged_where_fields_need_them() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "a", "namespace": "n",
            "annotations": {"kubernetes.io/service-account.name": "default"}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crons.x.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes/kubernetes/pull/1"}},
        "spec": {"group": "x.k8s.io", "scope": "Namespaced", "names": {"plural": "crons", "kind": "Cron"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    for value in [secret, definition] {
        let mut old = Object::new(value).unwrap();
        let resource = by_kind(old.group(), old.version(), old.kind()).unwrap();
        resource.default(&mut old);
        let mut new = old.clone();
        assert!(resource.validate_update(&new, &old).is_empty());
        new.metadata_mut().remove("annotations");
        let errors = resource.validate_update(&new, &old);
        assert!(!errors.is_empty(), "{}", resource.kind);
        assert!(
            errors
                .iter()
                .all(|error| error.to_string().starts_with("metadata.annotations"))
        );
    }
}

#[test]
fn what_is_said_to_be_defaulted_is_not_changed_by_defaults() {
    let mut next = numbers(11);
    for resource in ALL.iter().filter(|resource| !resource.is_virtual()) {
        let mut told = 0;
        for round in 0..200 {
            let (mut new, mut stored) = pair(resource, &mut next);
            if round % 2 == 0 {
                resource.default(&mut stored);
                let metadata = new.get(&["metadata"]).cloned();
                new = stored.clone();
                new.set(&["metadata"], metadata.unwrap_or(Value::Null));
            }
            resource.default(&mut new);
            if resource.is_defaulted_like(&stored, &new) {
                told += 1;
                let mut defaulted = stored.clone();
                resource.default(&mut defaulted);
                assert_eq!(defaulted, stored, "{}", resource.kind);
            }
        }
        let mut same = sample(resource);
        resource.default(&mut same);
        assert!(resource.is_defaulted_like(&same, &same.clone()));
        assert!(told > 0 || !resource.has_defaults(), "{}", resource.kind);
    }
}

/// Makes the managed fields of what a write makes of an old object.
type Enter<'a> = &'a dyn Fn(&Value, &Value) -> Option<Value>;

#[test]
fn a_status_is_written_alike_with_little_of_the_spec() {
    let resource = by_kind("", "v1", "Pod").unwrap();
    let needed = resource.needed_for_status().unwrap();
    let part = |object: &Object| {
        let mut part = object.clone();
        if let Some(spec) = object.get(&["spec"]).filter(|spec| spec.is_object()) {
            let spec = needed.read(spec.to_string().as_bytes()).unwrap();
            part.set(&["spec"], spec);
        }
        part.metadata_mut().remove("managedFields");
        part
    };
    let who = Who {
        manager: "node",
        api_version: "v1",
        subresource: "status",
        now: "2026-01-01T00:00:00Z",
        reset: resource.reset_fields("status"),
        versions: None,
    };
    let written = |mut new: Object, old: &Object, enter: Enter<'_>| {
        resource.default(&mut new);
        let entries = enter(old.value(), new.value());
        resource.prepare_subresource_update("status", &mut new, old);
        resource.stamp_subresource_update(&mut new, old, 0);
        let errors = resource.validate_subresource_update("status", &new, old);
        (new, (errors, entries))
    };
    let mut next = numbers(13);
    let mut parts = 0;
    for _ in 0..200 {
        let (mut new, old) = pair(resource, &mut next);
        match pair(resource, &mut next).0.get(&["status"]) {
            Some(status) => new.set(&["status"], status.clone()),
            None => {
                new.remove(&["status"]);
            }
        }
        let stored = old.get(&["metadata", "managedFields"]).cloned();
        // A large fraction may be read with another last digit.
        if stored
            .as_ref()
            .is_some_and(|entries| entries.to_string().contains("300"))
        {
            continue;
        }
        let whole = |old: &Value, new: &Value| updated(resource.schema(), old, new, None, &who);
        let apart = |old: &Value, new: &Value| {
            let text = stored.as_ref().map(InOrder);
            let text = text.map(|entries| serde_json::to_string(&entries).unwrap());
            let told = updated_apart(resource.schema(), old, new, text.as_deref(), &who).unwrap();
            told.map(|text| serde_json::from_str::<Value>(&text).unwrap())
        };
        let (long, all) = written(new.clone(), &old, &whole);
        let (short, told) = written(part(&new), &part(&old), &apart);
        assert_eq!(told, all, "{new:?} {old:?}");
        assert_eq!(short, part(&long), "{new:?} {old:?}");
        assert_eq!(short.get(&["spec"]), part(&old).get(&["spec"]));
        assert_eq!(long.get(&["spec"]), old.get(&["spec"]));
        for name in &resource.field_selectors {
            let [short, long] = [&short, &long].map(|pod| resource.offered_field(pod, name));
            assert_eq!(short, long, "{name}");
        }
        parts += usize::from(part(&old) != old);
    }
    assert!(parts > 0);
}
