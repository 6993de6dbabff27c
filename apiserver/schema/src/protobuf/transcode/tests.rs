use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::apply::InOrder;
use crate::protobuf::{decode_message, encode, encode_message, watch_frame};
use crate::types::{self, maker::Maker};

/// In one pass, or not at all.
fn in_one_pass(ty: &'static Type, json: &str) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    let mut encoder = Encoder::default();
    let written = encoder.pass(Shown::Object(ty), json.as_bytes(), &mut out);
    written.ok().map(|()| out.split_off(b"before".len()))
}

/// By way of a value, which is the slow and obvious one.
fn by_value(ty: &Type, json: &str) -> Option<Vec<u8>> {
    let value: Value = serde_json::from_str(json).ok()?;
    encode_message(ty, &value).ok()
}

fn kinds() -> impl Iterator<Item = &'static Type> {
    types::all().iter().filter(|ty| ty.form == Form::Object)
}

#[test]
fn every_type_is_written_in_one_pass_as_by_way_of_a_value() {
    for ty in kinds() {
        for seed in 0..20 {
            let value = Maker(seed).object(ty, 0);
            let json = value.to_string();
            let direct = in_one_pass(ty, &json);
            assert!(direct.is_some(), "{} seed {seed}: {json}", ty.name);
            assert!(direct == by_value(ty, &json), "{} seed {seed}", ty.name);
        }
    }
}

fn agrees(ty: &'static Type, json: &str) {
    let direct = in_one_pass(ty, json);
    let slow = by_value(ty, json);
    if direct.is_some() {
        assert!(direct == slow, "{}: {json}", ty.name);
    }
    let mut out = b"before".to_vec();
    let shown = Shown::Object(ty);
    match Encoder::default().message(shown, json.as_bytes(), &mut out) {
        Ok(()) => assert!(Some(&out[b"before".len()..]) == slow.as_deref(), "{json}"),
        Err(_) => assert!(out == b"before" && slow.is_none(), "{json}"),
    }
}

#[test]
fn what_is_odd_is_written_as_by_way_of_a_value_or_refused_as_there() {
    let pod = type_named("core.Pod").unwrap();
    for json in [
        // Members that nobody knows, in any place and of any kind, and names with escapes.
        r#"{"zzz":{"a":[1,{"b":null}]},"metadata":{"name":"a","x":"\"}"},"kind":"Pod","apiVersion":"v1"}"#,
        r#"{"met\u0061data":{"name":"a"}}"#,
        // Nulls of members, items and values.
        r#"{"metadata":null,"spec":{"containers":[null,{"name":null,"args":[null,"a"],"env":null}],"nodeSelector":{"a":null}}}"#,
        r#"{"spec":{"hostAliases":[null],"securityContext":{"supplementalGroups":[null]}}}"#,
        // Numbers that are too large, or not whole.
        r#"{"spec":{"priority":9223372036854775807,"activeDeadlineSeconds":-1}}"#,
        r#"{"spec":{"priority":9223372036854775808}}"#,
        r#"{"spec":{"priority":1.0}}"#,
        r#"{"spec":{"priority":1e3}}"#,
        r#"{"spec":{"priority":-0}}"#,
        r#"{"spec":{"priority":"1"}}"#,
        // Quantities, and ports by number and by name.
        r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"1500m","memory":1024,"x":1.5}}}]}}"#,
        r#"{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":80,"host":"h"},"periodSeconds":1},"readinessProbe":{"tcpSocket":{"port":"a\nb"}}}]}}"#,
        r#"{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":1.5}}}]}}"#,
        // Times.
        r#"{"metadata":{"creationTimestamp":"2026-11-21T03:16:31.25+01:00","deletionTimestamp":"1960-01-01T00:00:00Z"}}"#,
        r#"{"metadata":{"creationTimestamp":"never"}}"#,
        // Members that come twice.
        r#"{"spec":{"nodeName":"a","nodeName":"b","priority":1,"priority":null},"metadata":{"name":"a"},"metadata":{"namespace":"b"}}"#,
        r#"{"metadata":{"labels":{"a":"b","a":"c"},"annotations":{"b":"1","a":"2"}}}"#,
        // Messages that JSON has inlined, with nothing in them and out of order.
        r#"{"spec":{"volumes":[{"name":"a"},{"secret":null,"name":"b"},{"configMap":{"optional":true,"name":"c","items":[]},"name":"d"}],"ephemeralContainers":[{"targetContainerName":"x","name":"e","image":"i"},{}]}}"#,
        // Letters.
        r#"{"metadata":{"name":"\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t","annotations":{"a":"{\"kind\":\"Pod\"}","\n":"b"}}}"#,
        // Space, which this server does not write.
        "{ \"metadata\": {\"name\": \"a\"} }",
        "{\"metadata\":{\"name\":\"a\"}}\n",
        // No object, no JSON.
        "[]",
        "{}",
        "",
        "{\"metadata\":",
        "{\"metadata\":{\"name\":\"a\"}}}",
        "null",
        r#"{"spec":[]}"#,
        r#"{"spec":{"containers":{}}}"#,
        r#"{"spec":{"containers":["a"]}}"#,
    ] {
        agrees(pod, json);
    }
    let secret = type_named("core.Secret").unwrap();
    for json in [
        r#"{"data":{"a":"AP8=","b":"","c":null}}"#,
        r#"{"data":{"a":"AP8"}}"#,
        r#"{"data":{"a":"?"}}"#,
        r#"{"data":{"a":"AP8\u003d"}}"#,
        r#"{"data":[]}"#,
    ] {
        agrees(secret, json);
    }
    let definition = type_named("apiextensions.JSONSchemaProps").unwrap();
    let deep = |levels: usize| {
        let (open, close) = ("{\"not\":".repeat(levels), "}".repeat(levels));
        format!("{open}{{\"type\":\"object\"}}{close}")
    };
    for json in [
        r#"{"maximum":1.1,"minimum":-0,"multipleOf":1e300,"default":{"a":[1.5,null,"\u0061"]},"enum":[1,"x",null]}"#,
        r#"{"additionalProperties":true,"additionalItems":{"type":"x"},"items":[{"type":"a"},{}],"dependencies":{"a":["b"],"c":{}}}"#,
        r#"{"additionalProperties":1,"items":{}}"#,
        r#"{"items":[null]}"#,
    ] {
        let value: Option<Value> = serde_json::from_str(json).ok();
        agrees(definition, &value.unwrap_or_default().to_string());
    }
    for levels in [1, 100, 126, 127, 1000] {
        agrees(definition, &deep(levels));
    }
}

#[test]
fn raw_parts_are_what_stands_there() {
    let pod = type_named("core.Pod").unwrap();
    let fields = json!({"f:ports": {"k:{\"port\":443}": {}, "k:{\"port\":80}": {}, ".": {}}});
    let value = json!({"metadata": {"managedFields": [{"manager": "m", "fieldsV1": fields}]}});
    let stored = serde_json::to_string(&InOrder(&value)).unwrap();
    let direct = in_one_pass(pod, &stored).unwrap();
    let text = r#"{"f:ports":{".":{},"k:{\"port\":80}":{},"k:{\"port\":443}":{}}}"#;
    assert!(
        direct
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    );
    assert!(direct == encode_message(pod, &value).unwrap());
    assert_eq!(decode_message(pod, &direct).unwrap(), value);
}

#[test]
fn bodies_and_frames_are_those_of_values() {
    let ty = type_named("apps.Deployment").unwrap();
    let mut encoder = Encoder::default();
    for seed in 0..50 {
        let mut value = Maker(seed).object(ty, 0);
        let head = ("apps/v1", "Deployment");
        value["apiVersion"] = head.0.into();
        value["kind"] = head.1.into();
        let json = value.to_string();
        let expected = encode(ty, &value).unwrap();
        let shown = Shown::Object(ty);
        let body = encoder.body(shown, head, json.as_bytes()).unwrap();
        assert!(body == expected);
        let message = encode_message(ty, &value).unwrap();
        assert_eq!(encoder.written(), message.len());
        let frame = encoder.watch_frame("MODIFIED", shown, head, json.as_bytes());
        assert!(frame.unwrap() == watch_frame("MODIFIED", &expected));
    }
}

#[test]
fn metadata_alone_is_a_message_of_its_own() {
    let ty = type_named("meta.PartialObjectMetadata").unwrap();
    let mut encoder = Encoder::default();
    for seed in 0..50 {
        let metadata = Maker(seed).object(object_meta(), 0);
        for json in [metadata.to_string(), format!(" {metadata}")] {
            let mut out = Vec::new();
            let written = encoder.message(Shown::Metadata, json.as_bytes(), &mut out);
            assert_eq!(written, Ok(()));
            let expected = encode_message(ty, &json!({"metadata": metadata}));
            assert!(out == expected.unwrap());
        }
    }
}

proptest! {
    #[test]
    fn damaged_texts_are_written_as_by_way_of_a_value(
        (seed, index) in (any::<u64>(), any::<prop::sample::Index>()),
        (at, length) in (any::<prop::sample::Index>(), 0..4_usize),
        new in r#"[\[\]{}",:0-9a-e.\\u -]{0,4}|null|"a"|1|\PC"#,
    ) {
        let kinds: Vec<&'static Type> = kinds().collect();
        let ty = kinds[index.index(kinds.len())];
        let mut json: Vec<char> = Maker(seed).object(ty, 0).to_string().chars().collect();
        let at = at.index(json.len());
        let end = (at + length).min(json.len());
        drop(json.splice(at..end, new.chars()));
        let json: String = json.into_iter().collect();
        let direct = in_one_pass(ty, &json);
        // A member of the same name as an earlier one hides what was wrong with that, and what is raw keeps its spelling.
        if let (Some(direct), Some(slow)) = (direct, by_value(ty, &json)) {
            prop_assert_eq!(decode_message(ty, &direct), decode_message(ty, &slow), "{}", json);
        }
        let _ = Encoder::default().message(Shown::Object(ty), json.as_bytes(), &mut Vec::new());
    }

    #[test]
    fn any_bytes_are_written_or_refused(json in proptest::collection::vec(any::<u8>(), 0..200), index in any::<prop::sample::Index>()) {
        let kinds: Vec<&'static Type> = kinds().collect();
        let ty = kinds[index.index(kinds.len())];
        let _ = Encoder::default().message(Shown::Object(ty), &json, &mut Vec::new());
        let _ = Encoder::default().message(Shown::Metadata, &json, &mut Vec::new());
    }
}
