use serde_json::{Value, json};

use super::*;

fn object(metadata: Value) -> Object {
    let mut object = json!({"apiVersion": "a/v1", "kind": "A"});
    object["metadata"] = metadata;
    Object::new(object).unwrap()
}

fn owner(name: &str, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "B", "name": name, "uid": uid})
}

#[test]
fn an_owner_that_is_there_twice_is_dropped_once() {
    let (one, other) = (owner("b", "u"), owner("c", "u"));
    let owners = json!([one, other, one]);
    let mut twice = object(json!({"name": "a", "ownerReferences": owners}));
    assert_eq!(dedup_owners(&mut twice), ["u"]);
    let left = object(json!({"name": "a", "ownerReferences": [one, other]}));
    assert_eq!(twice, left);
    assert_eq!(dedup_owners(&mut twice), [""; 0]);
    assert_eq!(twice, left);
}

#[test]
fn finalizers_without_a_domain_are_warned_of_when_they_come() {
    let with = |names: &[&str]| object(json!({"name": "a", "finalizers": names}));
    let old = with(&["old"]);
    let new = with(&["old", "orphan", "mine", "a.b/c", "a.b"]);
    let why = "to avoid accidental conflicts with other finalizer writers";
    assert_eq!(
        finalizer_warnings(&new, Some(&old)),
        [
            format!(
                "metadata.finalizers: \"a.b\": prefer a domain-qualified finalizer name including a path (/) {why}"
            ),
            format!(
                "metadata.finalizers: \"mine\": prefer a domain-qualified finalizer name {why}"
            ),
        ]
    );
    assert_eq!(finalizer_warnings(&old, None).len(), 1);
    assert_eq!(finalizer_warnings(&old, Some(&old)), [""; 0]);
}

#[test]
fn owners_have_a_version_and_one_controller() {
    let controller = |kind: &str, name: &str| json!({"apiVersion": "a/v1", "kind": kind, "name": name, "uid": name, "controller": true});
    let mut odd = owner("b", "u");
    odd["apiVersion"] = "a/b/c".into();
    let owners = json!([odd, controller("C", "c"), controller("D", "d")]);
    let mut errors = ErrorList::new();
    owner_references(
        owners.as_array().unwrap(),
        &Path::new("metadata").child("ownerReferences"),
        &mut errors,
    );
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts[0],
        "metadata.ownerReferences.apiVersion: Invalid value: \"a/b/c\": version must not be empty"
    );
    assert!(
        texts[1].ends_with("Found \"true\" in references for C/c and D/d"),
        "{texts:?}"
    );
    assert_eq!(texts.len(), 2);
}

#[test]
fn what_begins_a_name_could_stand_in_a_path() {
    let old = object(json!({"name": "a"}));
    let with = |start: &str| object(json!({"name": "a", "generateName": start}));
    assert!(validate_update(&with("a-"), &old).is_empty());
    let texts: Vec<String> = validate_update(&with("a/"), &old)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        texts,
        [r#"metadata.generateName: Invalid value: "a/": may not contain '/'"#]
    );
}
