use serde_json::json;

use super::*;
use crate::types::type_of_api_version;

fn patched(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let text = |key: &str| original[key].as_str().unwrap_or("");
    let ty = type_of_api_version(text("apiVersion"), text("kind"));
    apply(ty, original, patch)
}

/// Nulls and directives stay inside items that are appended: the server's decoding drops them.
fn cleaned(value: &Value) -> Value {
    let mut value = value.clone();
    without_directives(&mut value);
    value
}

/// Items are told apart as by their JSON.
#[test]
fn an_identity_is_that_of_the_json() {
    let values =
        json!([null, true, "true", 1, "1", 1.0, "", "\"1\"", [], ["1"], {}, {"a": 1}, "{\"a\":1}"]);
    let values = values.as_array().unwrap();
    for a in values {
        for b in values {
            let texts = [a, b].map(ToString::to_string);
            let is_same = texts[0] == texts[1];
            assert_eq!(Id::of(a) == Id::of(b), is_same, "{a} {b}");
            assert_eq!(Id::of(a).into_owned() == Id::of(b), is_same, "{a} {b}");
        }
    }
}

/// In short lists and in long ones.
#[test]
fn the_position_of_an_item_is_its_first() {
    for items in 0..4 * FEW {
        for different in 1..=items + 1 {
            let name = |at: usize| format!("n{}", at * 7 % different);
            let list: Vec<Value> = (0..items).map(|at| json!({"name": name(at)})).collect();
            let unsized_list = list.iter().filter(|item| item.is_object());
            for found in [
                positions(&list, Some("name")),
                positions(unsized_list, Some("name")),
            ] {
                for at in 0..=different {
                    let name = json!(format!("n{at}"));
                    let first = list.iter().position(|item| item["name"] == name);
                    assert_eq!(found.get(&Id::of(&name)), first, "{name} of {list:?}");
                }
            }
        }
    }
}

#[test]
fn items_that_a_patch_names_twice_become_one() {
    let pod = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}});
    let original = pod(json!([{"name": "a", "image": "x"}]));
    let patch = json!({"spec": {"containers": [
        {"name": "b", "image": "y"}, {"name": "a", "tty": true}, {"name": "b", "tty": true}, {"name": "a", "image": "z"}]}});
    let merged = pod(json!([
        {"name": "b", "image": "y", "tty": true}, {"name": "a", "image": "z", "tty": true}]));
    assert_eq!(patched(&original, &patch), Ok(merged));
}

/// An ordered list is taken out of the object while it is merged.
#[test]
fn an_ordered_list_that_the_patch_does_not_change_stays() {
    let pod = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}});
    let (a, b) = (json!({"name": "a", "image": "x"}), json!({"name": "b"}));
    let original = pod(json!([a, b]));
    let order = json!([{"name": "b"}, {"name": "a"}]);
    let patch = json!({"spec": {"$setElementOrder/containers": order}});
    assert_eq!(patched(&original, &patch), Ok(pod(json!([b, a]))));
    let patch = json!({"spec": {"$setElementOrder/volumes": order}});
    assert_eq!(patched(&original, &patch), Ok(original));
    let nameless = pod(json!([a, {"image": "y"}]));
    for list in [json!([b]), json!([])] {
        let patch = json!({"spec": {"containers": list}});
        match patched(&nameless, &patch) {
            Err(PatchError::Refused(text)) => {
                let key = "map: map[image:y] does not contain declared merge key: name";
                assert_eq!(text, key);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// In the place of nothing, and of a value of another sort.
#[test]
fn what_has_no_counterpart_is_taken_without_directives() {
    let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
    let containers = json!([{"name": "a"}]);
    let original = pod(json!({"nodeName": "n", "containers": containers, "hostname": null}));
    let gone = json!({"$patch": "delete"});
    let patch = json!({"spec": {"nodeName": gone, "containers": gone, "hostname": gone, "subdomain": gone}});
    assert_eq!(patched(&original, &patch), Ok(pod(json!({}))));
    let new =
        json!({"a": null, "b": {"c": 1, "$retainKeys": ["c"]}, "d": [{"$patch": "delete"}, 2]});
    let kept = json!({"b": {"c": 1}, "d": [2]});
    let patch = json!({"spec": {"nodeName": new, "hostname": new, "subdomain": new}});
    let spec =
        json!({"nodeName": kept, "containers": containers, "hostname": kept, "subdomain": kept});
    assert_eq!(patched(&original, &patch), Ok(pod(spec)));
}

#[test]
fn refusals_are_those_of_kubernetes() {
    let pod = |spec: Value| json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
    let original = pod(json!({"containers": [{"name": "a"}], "nodeSelector": {"a": "b"}}));
    for (spec, text) in [
        (
            json!({"$patch": "explode", "n": 1}),
            "unknown patch type: explode in map: map[$patch:explode n:1]",
        ),
        (
            json!({"nodeSelector": {"$patch": 7}}),
            "unknown patch type: %!s(int64=7) in map: map[$patch:7]",
        ),
        (
            json!({"containers": [{"image": "x", "args": ["y", null]}]}),
            "map: map[args:[y <nil>] image:x] does not contain declared merge key: name",
        ),
        (
            json!({"containers": ["x"]}),
            "list element types are not identical: [[map[name:a]] [x]]",
        ),
        (
            json!({"$setElementOrder/containers": "x"}),
            "expected a []interface {}, but received a string",
        ),
    ] {
        let refused = Err(PatchError::Refused(text.to_owned()));
        assert_eq!(patched(&original, &json!({ "spec": spec })), refused);
    }
}

/// Objects, patches and what `kubectl patch --local --type=strategic` makes of them: `null` where
/// it refuses the patch.
#[test]
fn agrees_with_kubectl() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("../../../testdata/strategic.json")).unwrap();
    assert!(cases.len() > 100);
    let mut wrong = Vec::new();
    for case in cases {
        let (original, patch, expected) = (&case["original"], &case["patch"], &case["expected"]);
        let result = patched(original, patch);
        match (&result, expected) {
            (Err(_), Value::Null) => {}
            (Ok(value), expected) if cleaned(value) == cleaned(expected) => {}
            _ => wrong.push(format!(
                "original {original}\npatch    {patch}\nexpected {expected}\nresult   {result:?}"
            )),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n\n")
    );
}
