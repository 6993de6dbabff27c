use serde_json::{Value, json};

use super::*;
use crate::apply::{ApplyError, apply, updated};
use crate::structural::Structural;

/// `v1` calls `size` what `v2` calls `replicas`. `broken` cannot be had.
#[derive(Debug)]
struct Renamed(Structural);

impl Renamed {
    fn new() -> Renamed {
        Renamed(Structural::open().clone())
    }
}

impl Versions for Renamed {
    fn schema(&self, api_version: &str) -> Option<Schema<'_>> {
        let known = ["x.io/v1", "x.io/v2", "x.io/broken"].contains(&api_version);
        known.then_some(Schema::Custom(&self.0))
    }

    fn convert(&self, objects: &[&Value], api_version: &str) -> Result<Vec<Value>, String> {
        if api_version == "x.io/broken" {
            return Err("no".to_owned());
        }
        let [old, new] = match api_version {
            "x.io/v1" => ["replicas", "size"],
            _ => ["size", "replicas"],
        };
        let convert = |object: &&Value| {
            let mut object = (*object).clone();
            object["apiVersion"] = api_version.into();
            if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut)
                && let Some(value) = spec.remove(old)
            {
                spec.insert(new.to_owned(), value);
            }
            object
        };
        Ok(objects.iter().map(convert).collect())
    }
}

fn who<'a>(manager: &'a str, api_version: &'a str, versions: &'a Renamed) -> Who<'a> {
    Who {
        manager,
        api_version,
        subresource: "",
        now: "2026-01-01T00:00:00Z",
        reset: &[],
        versions: Some(versions),
    }
}

fn object(version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("x.io/{version}"), "kind": "X", "metadata": {"name": "a"}, "spec": spec})
}

/// `live` as one of another version, its entries kept.
fn shown(versions: &Renamed, live: &Value, version: &str) -> Value {
    let version = format!("x.io/{version}");
    versions.convert(&[live], &version).unwrap().remove(0)
}

/// `manager version fields` of every entry.
fn entries(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let entries = entries.into_iter().flatten();
    let text = |entry: &Value| {
        let fields = entry["fieldsV1"]["f:spec"].as_object();
        let fields: Vec<&str> = fields
            .into_iter()
            .flat_map(|fields| fields.keys())
            .map(String::as_str)
            .filter(|key| *key != ".")
            .collect();
        let (manager, version) = (&entry["manager"], &entry["apiVersion"]);
        [
            manager.as_str().unwrap(),
            version.as_str().unwrap(),
            &fields.join(","),
        ]
        .join(" ")
    };
    entries.map(text).collect()
}

fn applied(live: &Value, config: &Value, who: &Who<'_>, force: bool) -> Result<Value, ApplyError> {
    apply(Structural::open(), live, config, who, force)
}

#[test]
fn a_field_that_another_version_calls_otherwise_is_the_same_field() {
    let versions = Renamed::new();
    let nothing = json!({});
    let config = object("v1", json!({"size": 1, "paused": true}));
    let live = applied(&nothing, &config, &who("one", "x.io/v1", &versions), false).unwrap();
    let live = shown(&versions, &live, "v2");

    let two = who("two", "x.io/v2", &versions);
    let same = object("v2", json!({"replicas": 1}));
    let shared = applied(&live, &same, &two, false).unwrap();
    assert_eq!(
        entries(&shared),
        ["two x.io/v2 f:replicas", "one x.io/v1 f:paused,f:size"]
    );

    let other = object("v2", json!({"replicas": 2}));
    let error = applied(&live, &other, &two, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.size"
    );
    let forced = applied(&live, &other, &two, true).unwrap();
    assert_eq!(
        entries(&forced),
        ["one x.io/v1 f:paused", "two x.io/v2 f:replicas"]
    );
    assert_eq!(forced["spec"], json!({"replicas": 2, "paused": true}));
}

#[test]
fn an_update_takes_fields_from_the_managers_of_other_versions() {
    let versions = Renamed::new();
    let live = object("v1", json!({"size": 1, "paused": true}));
    let managed = |old: &Value, new: &mut Value, who: &Who<'_>| {
        let entries = updated(Structural::open(), old, new, None, who);
        new["metadata"]["managedFields"] = entries.unwrap_or_default();
    };
    let mut first = live.clone();
    managed(
        &json!({"metadata": {}}),
        &mut first,
        &who("one", "x.io/v1", &versions),
    );
    let old = shown(&versions, &first, "v2");
    let mut new = old.clone();
    new["spec"]["replicas"] = 5.into();
    managed(&old, &mut new, &who("two", "x.io/v2", &versions));
    assert_eq!(
        entries(&new),
        ["one x.io/v1 f:paused", "two x.io/v2 f:replicas"]
    );
}

#[test]
fn what_was_applied_in_one_version_is_taken_back_in_another() {
    let versions = Renamed::new();
    let nothing = json!({});
    let config = object("v1", json!({"size": 1, "paused": true}));
    let live = applied(&nothing, &config, &who("one", "x.io/v1", &versions), false).unwrap();
    let live = shown(&versions, &live, "v2");
    // Somebody else wants it too, in the version of before.
    let third = who("three", "x.io/v1", &versions);
    let theirs = object("v1", json!({"paused": true}));
    let both = applied(&shown(&versions, &live, "v1"), &theirs, &third, false).unwrap();
    let both = shown(&versions, &both, "v2");

    let one = who("one", "x.io/v2", &versions);
    let less = object("v2", json!({"mode": "x"}));
    let after = applied(&live, &less, &one, false).unwrap();
    assert_eq!(after["spec"], json!({"mode": "x"}));
    assert_eq!(entries(&after), ["one x.io/v2 f:mode"]);
    let after = applied(&both, &less, &one, false).unwrap();
    assert_eq!(after["spec"], json!({"mode": "x", "paused": true}));
}

#[test]
fn entries_of_versions_that_are_gone_are_dropped() {
    let versions = Renamed::new();
    let mut live = object("v2", json!({"replicas": 1, "old": 1}));
    let entry = |manager: &str, version: &str, operation: &str, subresource: &str| {
        json!({"manager": manager, "apiVersion": version, "operation": operation, "subresource": subresource,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:old": {}}}})
    };
    live["metadata"]["uid"] = "u".into();
    live["metadata"]["managedFields"] = json!([
        entry("gone", "x.io/v0", "Apply", ""),
        entry("stays", "x.io/v1", "Update", ""),
        entry("scaler", "autoscaling/v1", "Update", "scale")
    ]);
    let who = who("gone", "x.io/v2", &versions);
    let mut new = live.clone();
    new["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    // Even by a write that changes nothing.
    let left = updated(Structural::open(), &live, &new, None, &who).unwrap();
    new["metadata"]["managedFields"] = left;
    assert_eq!(
        entries(&new),
        ["scaler autoscaling/v1 f:old", "stays x.io/v1 f:old"]
    );
    // What was applied in such a version is not taken back.
    let config = object("v2", json!({"replicas": 1}));
    let applied = applied(&live, &config, &who, false).unwrap();
    assert_eq!(applied["spec"]["old"], 1);
    assert_eq!(entries(&applied)[0], "gone x.io/v2 f:replicas");
}

#[test]
fn without_a_conversion_updates_compare_names_and_applies_are_refused() {
    let versions = Renamed::new();
    let mut live = object("v2", json!({"replicas": 1, "mode": "x"}));
    live["metadata"]["managedFields"] = json!([{"manager": "one", "apiVersion": "x.io/broken", "operation": "Update",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:mode": {}, "f:size": {}}}}]);
    let who = who("two", "x.io/v2", &versions);
    let mut new = live.clone();
    new["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    new["spec"] = json!({"replicas": 1, "mode": "y"});
    new["metadata"]["managedFields"] =
        updated(Structural::open(), &live, &new, None, &who).unwrap();
    assert_eq!(
        entries(&new),
        ["one x.io/broken f:size", "two x.io/v2 f:mode"]
    );
    let config = object("v2", json!({"mode": "y"}));
    let error = applied(&live, &config, &who, true).unwrap_err();
    assert_eq!(error.to_string(), "failed to convert old object: no");
}
