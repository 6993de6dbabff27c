use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::apply::{entered, updated};
use crate::types::{Type, type_of};

fn pods() -> &'static Type {
    type_of("", "v1", "Pod").unwrap()
}

fn who<'a>(manager: &'a str, subresource: &'a str, now: &'a str) -> Who<'a> {
    Who {
        manager,
        api_version: "v1",
        subresource,
        now,
        reset: &[],
        versions: None,
    }
}

/// A pod that has more or less of everything.
fn pod(picked: u16) -> Value {
    let has = |bit: u16| picked & (1 << bit) != 0;
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "i", "ports": [
            {"containerPort": 80, "protocol": "TCP"}, {"containerPort": 8080, "protocol": "TCP"}]}]}});
    let mut put = |bit: u16, at: [&str; 2], value: Value| {
        if has(bit) {
            pod[at[0]][at[1]] = value;
        }
    };
    let conditions: Vec<Value> = ["Ready", "Initialized", "a\"\\<"]
        .iter()
        .zip(0..)
        .filter(|(_, bit)| has(*bit))
        .map(|(ty, _)| json!({"type": ty, "status": has(3).to_string()}))
        .collect();
    put(4, ["status", "conditions"], conditions.into());
    put(5, ["status", "phase"], has(6).to_string().into());
    put(7, ["status", "podIPs"], json!([{"ip": "10.0.0.1"}]));
    put(8, ["metadata", "labels"], json!({"a\"\\b": "c", "ü": "d"}));
    put(9, ["metadata", "annotations"], json!({"a": "b", "b/c": ""}));
    put(10, ["metadata", "finalizers"], json!(["x/y", "x/z"]));
    put(11, ["spec", "nodeName"], has(12).to_string().into());
    pod
}

fn with_entries(object: &Value, entries: Option<&Value>) -> Value {
    let mut object = object.clone();
    if let Some(entries) = entries {
        object["metadata"]["managedFields"] = entries.clone();
    }
    object
}

fn written(entries: &Value) -> String {
    serde_json::to_string(&InOrder(entries)).unwrap()
}

/// What a write makes of entries, and of their text.
fn both(old: &Value, new: &Value, stored: Option<&Value>, who: &Who<'_>) -> [Option<String>; 2] {
    let whole = with_entries(old, stored);
    let long = updated(pods(), &whole, new, None, who);
    let text = stored.map(written);
    let short = updated_apart(pods(), old, new, text.as_deref(), who).unwrap();
    [long.as_ref().map(written), short]
}

proptest! {
    #[test]
    fn a_text_becomes_what_its_entries_become(
        steps in prop::collection::vec((0..12_usize, 0..2_usize, 0..3_usize, any::<u16>()), 1..24),
        first in any::<u16>(),
    ) {
        let times = ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", ""];
        let managers: Vec<String> = (0..12).map(|number| format!("m{number}")).collect();
        let mut old = pod(first);
        let mut entries = entered(pods(), &old, &who("first", "", times[0]));
        for (manager, door, time, picked) in steps {
            let new = pod(picked);
            let who = who(&managers[manager], ["", "status"][door], times[time]);
            let [long, short] = both(&old, &new, entries.as_ref(), &who);
            prop_assert_eq!(&long, &short);
            entries = long.map(|text| serde_json::from_str(&text).unwrap());
            old = new;
        }
    }
}

#[test]
fn what_this_server_wrote_is_told() {
    let (create, node) = (
        who("controller", "", "2026-01-01T00:00:00Z"),
        who("node", "status", "2026-01-01T00:00:02Z"),
    );
    let (old, new) = (pod(0), pod(0b1011_1111));
    let entries = entered(pods(), &old, &create).unwrap();
    let text = written(&entries);
    let all = told(&text, &node).unwrap();
    assert_eq!(all.len(), 1);
    assert!(all[0].roots.contains(&"f:spec"));
    let [long, short] = both(&old, &new, Some(&entries), &node);
    assert_eq!(long, short);
    let short = short.unwrap();
    let all = told(&short, &node).unwrap();
    assert_eq!(all.len(), 2);
    assert!(short.contains(&text[1..text.len() - 1]));
}

/// Whatever stands there becomes the same as ever.
#[test]
fn other_texts_are_read() {
    let set = r#"{"f:spec":{"f:containers":{".":{},"k:{\"name\":\"c\"}":{}}}}"#;
    let entry = |fields: &str, rest: &str| {
        format!(
            r#"{{"apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{fields},"manager":"m","operation":"Update"{rest}}}"#
        )
    };
    let plain = entry(set, "");
    let later = entry(set, r#","time":"2026-01-01T00:00:00Z""#);
    let of = |fields: &str| format!("[{}]", entry(fields, ""));
    let node = who("node", "status", "2026-01-01T00:00:02Z");
    assert!(told(&format!("[{plain}]"), &node).is_some());
    let (old, new) = (pod(0), pod(0b1011_1111));
    for text in [
        "[]".to_owned(),
        "null".to_owned(),
        "[1]".to_owned(),
        format!("[{plain} ]"),
        format!("[{plain}] "),
        format!("[{plain},{plain}]"),
        format!("[{plain},{later}]"),
        format!("[{later},{}]", entry(set, r#","subresource":"a""#)),
        format!("[{}]", plain.replace("\"v1\"", "\"v2\"")),
        format!("[{}]", plain.replace("Update", "Else")),
        format!("[{}]", plain.replace("\"m\"", "\"\"")),
        format!("[{}]", plain.replace("\"m\"", "\"\\u0061\"")),
        format!("[{}]", plain.replace("\"m\"", "\"\\\"\"")),
        format!("[{}]", entry(set, r#","time":"""#)),
        format!("[{}]", entry(set, r#","z":1"#)),
        of("{}"),
        of(r#"{".":{},"f:spec":{}}"#),
        of(r#"{"f:spec":{".":{}}}"#),
        of(r#"{"f:spec":{".":{},".":{},"f:a":{}}}"#),
        of(r#"{"f:spec":{"f:a":{},".":{}}}"#),
        of(r#"{"f:spec":{"f:b":{},"f:a":{}}}"#),
        of(r#"{"f:spec":{"f:a":{},"f:a":{}}}"#),
        of(r#"{"f:spec":{"f:a": {}}}"#),
        of(r#"{"f:spec":{"f:a":1}}"#),
        of(r#"{"f:spec":{"x":{}}}"#),
        of(r#"{"f:spec":{"f:\u0061":{}}}"#),
        of(r#"{"f:\"":{}}"#),
        of(r#"{"f:spec":{"k:{\"p\":80}":{},"k:{\"p\":443}":{},"k:{\"p\":9}":{}}}"#),
    ] {
        assert!(told(&text, &node).is_none(), "{text}");
        let stored: Value = serde_json::from_str(&text).unwrap();
        for new in [&new, &old] {
            let whole = with_entries(&old, Some(&stored));
            let long = updated(pods(), &whole, new, None, &node);
            let short = updated_apart(pods(), &old, new, Some(&text), &node).unwrap();
            assert_eq!(short, long.as_ref().map(written), "{text}");
        }
    }
    assert!(updated_apart(pods(), &old, &new, Some("[{"), &node).is_err());
}
