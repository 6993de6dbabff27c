//! Objects of all kinds, and definitions of more.

use crate::{Target, samples};
use resources::{Resource, by_kind, quota};
use schema::decode::{self, FieldValidation};
use schema::field::{ErrorList, Path};
use schema::structural::definition;
use schema::{Object, Structural};
use serde_json::Value;

const NOW: i64 = 1_767_225_600;

pub(crate) const KINDS: Target = Target {
    name: "kinds",
    help: "an object of a built-in kind: to fill in defaults twice changes nothing more, and what is valid stays so when it is written as it is",
    seeds: || samples::bytes(samples::kinds()),
    run: |bytes| {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        let Some(resource) = named(&value) else {
            return;
        };
        let Ok(decoded) = decode::value(resource.schema(), value, FieldValidation::Ignore) else {
            return;
        };
        if let Ok(object) = Object::new(decoded.value) {
            goes_through(resource, object);
        }
    },
};

pub(crate) const DEFINITIONS: Target = Target {
    name: "definitions",
    help: "a schema of a definition: where it is accepted, pruning and defaults are done with after one time, also for odd objects",
    seeds: || samples::bytes([samples::schema()]),
    run: |bytes| {
        let Ok(schema) = serde_json::from_slice::<Value>(bytes) else {
            return;
        };
        let mut errors = ErrorList::new();
        let _ = definition::warnings(&schema);
        let path = Path::new("spec");
        let Some(structural) = definition::check(&schema, &path, true, &mut errors) else {
            assert!(!errors.is_empty(), "refused, and nobody knows why");
            return;
        };
        for object in objects(&schema) {
            settles(&structural, object);
        }
    },
};

fn named(value: &Value) -> Option<&'static Resource> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let api_version = text("apiVersion")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    by_kind(group, version, text("kind")?)
}

fn goes_through(resource: &Resource, mut object: Object) {
    resource.default(&mut object);
    let once = object.clone();
    resource.default(&mut object);
    assert_eq!(object, once, "defaults of {}", resource.kind);
    resource.prepare_create(&mut object);
    let _ = resource.warnings(&object);
    let _ = resources::table(resource, &object, NOW);
    let _ = quota::usage(&resource.group, &resource.plural, &object, NOW);
    let _ = resource.scale_of(&object);
    let errors = resource.validate(&object);
    let same = resource.validate_update(&object, &object);
    if errors.is_empty() {
        assert!(same.is_empty(), "{}: {same:?}", object.value());
    }
    let mut moved = once.clone();
    resource.prepare_update(&mut moved, &object);
    let _ = resource.validate_update(&moved, &object);
    for subresource in resource.subresources {
        let mut moved = once.clone();
        resource.prepare_subresource_update(subresource.name, &mut moved, &object);
    }
}

/// Objects to try a schema with: a usual one, and one of which nothing fits.
fn objects(schema: &Value) -> Vec<Value> {
    let boat = serde_json::json!({"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "a"}, "spec": {
        "name": "ra", "crew": 3, "sort": null, "logs": [{"name": "a", "length": "3"}, {"name": "a", "x": 1}], "tags": ["a", "a"],
        "cargo": {"fish": 1.5}, "free": {"a": {"b": []}}, "inner": {"apiVersion": "v1", "kind": "Pod", "metadata": {"x": 1}},
        "born": "1947-04-28"}, "status": {"crew": "six"}, "more": 1});
    let odd = serde_json::json!({"spec": [schema], "status": null});
    vec![boat, odd, schema.clone()]
}

fn settles(structural: &Structural, mut object: Value) {
    structural.prune(&mut object);
    let pruned = object.clone();
    let more = structural.prune(&mut object);
    assert!(
        more.is_empty() && object == pruned,
        "pruned twice: {more:?} of {pruned}"
    );
    structural.default(&mut object);
    let filled = object.clone();
    structural.default(&mut object);
    assert_eq!(object, filled, "defaults twice");
    let _ = structural.validate(&object, None);
    let _ = structural.validate(&object, Some(&pruned));
    let _ = structural.validate_status(&object, Some(&pruned));
}
