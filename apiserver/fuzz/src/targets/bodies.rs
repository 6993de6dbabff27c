//! Bodies of requests: JSON, YAML, protobuf, and the reading of a part of what is stored.

use super::text;
use crate::{Target, samples};
use schema::decode::{self, Decoded, FieldValidation};
use schema::pick::Pick;
use schema::protobuf::{self, Encoder, ProtobufError, Shown};
use schema::types::type_of_api_version;
use schema::{Type, type_of};
use serde_json::Value;

pub(crate) const JSON: Target = Target {
    name: "json",
    help: "a body in JSON: what is kept of it reads the same again, and has nothing that the type does not know",
    seeds: || {
        let mut seeds = samples::bytes([samples::pod()]);
        seeds.extend(samples::texts(&[
            r#"{"kind":"Pod","kind":"x","metadata":{"name":null,"labels":{"a":"b","a":"c"}},"spec":{"unknown":[{}],"hostNetwork":"yes"}}"#,
            r#"[{"a":1.50,"b":-0,"c":1e3,"d":"\ud83d\ude00"}]"#,
        ]));
        seeds
    },
    run: |bytes| {
        for ty in [pod(), None] {
            if let Ok(decoded) = decode::json(ty, bytes, FieldValidation::Warn) {
                reads_again(ty, &decoded);
            }
            let _ = decode::json(ty, bytes, FieldValidation::Strict);
        }
    },
};

pub(crate) const YAML: Target = Target {
    name: "yaml",
    help: "a body in YAML: what is kept of it reads the same as JSON",
    seeds: || {
        samples::texts(&[
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {a: 'b', \"c\": d}\nspec:\n  containers:\n  - name: c\n    image: \"i\"\n    args: [a, 1, 0x10, 1e3, yes, ~, 2001-01-01]\n",
            "a: &x {b: 1}\nc: *x\nd:\n  <<: *x\n  e: |\n    text\n    more\n  f: >-\n    folded\n",
            "? complex\n: 1\n--- \n!!binary aGk=\n",
            "[a, [b, {c: d}]]",
        ])
    },
    run: |bytes| {
        for ty in [pod(), None] {
            if let Ok(decoded) = decode::yaml(ty, bytes, FieldValidation::Warn) {
                reads_again(ty, &decoded);
            }
        }
    },
};

pub(crate) const PROTOBUF: Target = Target {
    name: "protobuf",
    help: "a body in protobuf: what is understood of it is written, read and written with the same bytes",
    seeds: || {
        let kinds = samples::kinds();
        let encoded = kinds
            .iter()
            .filter_map(|kind| protobuf::encode_any(kind).ok());
        encoded.collect()
    },
    run: |bytes| {
        let _ = protobuf::envelope(bytes);
        let Ok(value) = protobuf::decode_or(bytes, pod()) else {
            return;
        };
        let Ok(written) = protobuf::encode_any(&value) else {
            return;
        };
        let read = protobuf::decode(&written).expect("what was written can be read");
        let again = protobuf::encode_any(&read).expect("what was read can be written");
        assert_eq!(written, again, "of {value}");
        written_in_one_pass(&value);
    },
};

pub(crate) const PICK: Target = Target {
    name: "pick",
    help: "a part of a stored object: there is one where the whole can be read, and it says what the whole says",
    seeds: || samples::bytes([samples::pod()]),
    run: |bytes| {
        let pick = Pick::of(["metadata.labels", "spec.nodeName", "status"]);
        let (part, whole) = (pick.read(bytes), serde_json::from_slice::<Value>(bytes));
        let Ok(whole) = whole else {
            return;
        };
        let part = part.expect("what can be read can be read in part");
        for (outer, path) in [
            ("", "/status"),
            ("/metadata", "/metadata/labels"),
            ("/spec", "/spec/nodeName"),
        ] {
            let has_outer = match outer {
                "" => whole.is_object(),
                outer => whole.is_object() && whole.pointer(outer).is_some_and(Value::is_object),
            };
            if has_outer {
                assert_eq!(
                    part.pointer(path),
                    whole.pointer(path),
                    "{path} of {}",
                    text(bytes)
                );
            }
        }
    },
};

/// From its text an object is written as from its value, but for the order within raw parts.
fn written_in_one_pass(value: &Value) {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let Some(ty) = type_of_api_version(text("apiVersion"), text("kind")) else {
        return;
    };
    let mut direct = Vec::new();
    let json = value.to_string();
    let outcome = Encoder::default().message(Shown::Object(ty), json.as_bytes(), &mut direct);
    if let Err(ProtobufError::Json(_)) = outcome {
        // A message may be deeper than a text.
        return;
    }
    let read = |message: Vec<u8>| protobuf::decode_message(ty, &message);
    assert_eq!(
        outcome.and_then(|()| read(direct)),
        protobuf::encode_message(ty, value).and_then(read),
        "of {value}"
    );
}

fn pod() -> Option<&'static Type> {
    type_of("", "v1", "Pod")
}

fn reads_again(ty: Option<&Type>, decoded: &Decoded) {
    let written = decoded.value.to_string();
    let again = decode::json(ty, written.as_bytes(), FieldValidation::Strict);
    let again = again.unwrap_or_else(|error| panic!("{error}: {written}"));
    assert_eq!(again.value, decoded.value);
}
