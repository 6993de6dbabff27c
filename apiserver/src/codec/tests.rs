use super::*;
use serde_json::json;

#[test]
fn stored_form_is_fixed() {
    let object = json!({"spec": {"a": 1}, "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "x", "resourceVersion": "4", "managedFields": [
            {"manager": "m", "fieldsV1": {"f:l": {"v:9": {}, "v:10": {}, ".": {}}}}]}});
    let expected = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"managedFields":[{"fieldsV1":{"f:l":{".":{},"v:9":{},"v:10":{}}},"manager":"m"}],"name":"x"},"spec":{"a":1}}"#;
    assert_eq!(String::from_utf8_lossy(&encode(&object)), expected);
    let bare = encode(&json!({"apiVersion": "v1", "kind": "Pod"}));
    assert_eq!(
        &bare[..],
        br#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#
    );
}

#[test]
fn the_version_is_spliced_and_replaced() {
    let stored = encode(
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "data": {"metadata": {}}}),
    );
    let versioned = Versioned::splice(&stored, 42).unwrap();
    let value: Value = serde_json::from_slice(&versioned.json.bytes()).unwrap();
    assert_eq!(
        value["metadata"],
        json!({"name": "x", "resourceVersion": "42"})
    );
    let later: Value = serde_json::from_slice(&versioned.with_revision(1234567)).unwrap();
    assert_eq!(later["metadata"]["resourceVersion"], "1234567");
    assert_eq!(versioned.stored(), stored);
    assert_eq!(
        versioned.list_item_tail(&mut Room::default()),
        br#""metadata":{"resourceVersion":"42","name":"x"},"data":{"metadata":{}}}"#
    );
}

#[test]
fn an_object_is_written_around_its_spec() {
    let pick = Pick::of(["a.b", "z"]);
    for spec in [
        json!({"a": {"b": "}{", "c": 1}, "y": ["\"", {"spec": {}}], "z": 1.5}),
        json!({"x\"}": "ü\u{1}\\", "y": "\\\""}),
        json!({}),
    ] {
        let entries =
            json!([{"manager": "][\"", "fieldsV1": {"k:{\"a\":9}": {}, "k:{\"a\":80}": {}}}, 1]);
        let mut object = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec, "status": {"a": [1, "x"]},
            "metadata": {"name": "managedFields", "labels": {"spec": "},\"spec\":{"},
                "annotations": {"managedFields": "\"managedFields\":["}}});
        let stored = encode(&object);
        let around = Versioned::splice(&stored, 42).unwrap().around_spec(&pick);
        assert_eq!(around.unwrap().entries, None);
        object["metadata"]["managedFields"] = entries.clone();
        let stored = encode(&object);
        let versioned = Versioned::splice(&stored, 42).unwrap();
        let around = versioned.around_spec(&pick).unwrap();
        let (mut part, text) = (around.value, around.spec);
        assert_eq!(text, spec.to_string());
        let managed = around.entries.unwrap();
        assert_eq!(managed, serde_json::to_string(&InOrder(&entries)).unwrap());
        assert_eq!(encode_around(&part, &text, Some(&managed[..])), stored);
        let mut expected: Value = serde_json::from_slice(&versioned.json.bytes()).unwrap();
        expected["spec"] = pick.read(&text).unwrap();
        part["metadata"]["managedFields"] = entries;
        assert_eq!(part, expected);
        assert_eq!(encode_around(&part, &text, None), stored);
        assert_eq!(encode_around(&part, &text, Some(&managed[..])), stored);
        part["status"] = json!({"b": 2});
        let changed = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec, "status": {"b": 2},
            "metadata": object["metadata"]});
        assert_eq!(encode_around(&part, &text, None), encode(&changed));
    }
    for other in [
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"spec":null}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"data":{},"spec":{}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{}, "spec":{}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{},"spec":{"z":1}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{"z":1},"sp\u0065c":null}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{"managedFields":[],"managedFields":[]},"spec":{}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{"managedFields":[],"managed\u0046ields":1},"spec":{}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{"managed\u0046ields":[]},"spec":{}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{"managedFields": []},"spec":{}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{"z":}}"#,
        r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{"z":[}]}}"#,
    ] {
        let versioned = Versioned::splice(&Bytes::from(other), 42).unwrap();
        assert!(versioned.around_spec(&pick).is_none(), "{other}");
    }
}

#[test]
fn managed_fields_are_kept_as_they_are_written() {
    let pick = Pick::of(["a"]);
    for entries in [
        json!([{"manager": "m\"]", "fieldsV1": {"f:l": {"v:9": {}, "v:10": {}, ".": {}}}}]),
        json!([]),
        Value::Null,
    ] {
        for metadata in [
            json!({"labels": {"managedFields": "}"}, "name": "x"}),
            json!({"labels": {"managedFields": "}"}}),
            json!({"name": "x"}),
            json!({}),
        ] {
            let mut object = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"a": 1, "b": 2}, "status": {"a": 1},
                "metadata": metadata});
            object["metadata"]["managedFields"] = entries.clone();
            let stored = encode(&object);
            let versioned = Versioned::splice(&stored, 42).unwrap();
            let around = versioned.around_spec(&pick).unwrap();
            let (mut part, spec, told) = (around.value, around.spec, around.entries.unwrap());
            assert_eq!(part["spec"], json!({"a": 1}));
            assert_eq!(part["metadata"].get("managedFields"), None);
            assert_eq!(part["metadata"]["resourceVersion"], "42");
            assert_eq!(encode_around(&part, &spec, Some(&told[..])), stored);
            for object in [&mut part, &mut object] {
                object["metadata"]["labels"] = json!({"a": "b"});
                object["status"] = json!({"b": 2});
            }
            assert_eq!(
                encode_around(&part, &spec, Some(&told[..])),
                encode(&object)
            );
        }
    }
    for twice in [
        r#""managedFields":[1],"managedFields":[2]"#,
        r#""managedFields":[1],"managed\u0046ields":null"#,
    ] {
        let text =
            format!(r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{{twice}}},"spec":{{}}}}"#);
        let versioned = Versioned::splice(&Bytes::from(text), 42).unwrap();
        assert!(versioned.around_spec(&pick).is_none(), "{twice}");
    }
}

#[test]
fn metadata_is_a_part_of_it() {
    for metadata in [
        json!({}),
        json!({"name": "x", "labels": {"a": "}"}, "z": [{}, [{}]]}),
        json!({"annotations": {"a\"}{": "\\", "b": "\\\"}", "c": "\u{1}ü"}}),
    ] {
        let stored = encode(
            &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"a": {}}}),
        );
        let versioned = Versioned::splice(&stored, 42).unwrap();
        let found: Value =
            serde_json::from_slice(versioned.metadata(&mut Room::default())).unwrap();
        let whole: Value = serde_json::from_slice(&versioned.json.bytes()).unwrap();
        assert_eq!(found, whole["metadata"]);
        let json = versioned.json.bytes();
        let part = super::metadata(&json).unwrap();
        assert_eq!(part, versioned.metadata(&mut Room::default()));
    }
}

#[test]
fn foreign_bytes_are_encoded_again() {
    let foreign = Bytes::from_static(br#"{"metadata": {}, "apiVersion":"v1","kind":"Pod"}"#);
    let value: Value =
        serde_json::from_slice(&Versioned::splice(&foreign, 7).unwrap().json.bytes()).unwrap();
    assert_eq!(value["metadata"]["resourceVersion"], "7");
    assert!(Versioned::splice(&Bytes::from_static(b"[1]"), 7).is_none());
    assert!(Versioned::splice(&Bytes::from_static(b"\xff"), 7).is_none());
}
