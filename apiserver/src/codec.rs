//! The stored form of an object: its JSON without `resourceVersion`, with `kind`, `apiVersion` and `metadata` first.
//!
//! The version of an object is the store's revision of its key, which is known only once it is written; because
//! `metadata` opens at a known place, every member splices the number in without parsing. Foreign bytes (another key
//! order) still work: they are parsed and encoded again.

use std::ops::Range;

use bytes::Bytes;
use schema::apply::InOrder;
use schema::pick::Pick;
use serde_json::{Map, Value};

use crate::packed::{Json, Room};

const METADATA: &[u8] = b"\"metadata\":{";
/// What follows `metadata` where the object has a `spec`, and nothing whose name is before that in the alphabet.
const SPEC: &[u8] = b",\"spec\":{";
/// Stands for a `spec` while all else is read: no other value that a foreign writer may have put behind it.
const HELD: &str = "\0spec";
const HELD_JSON: &[u8] = br#""\u0000spec""#;
/// The managed fields, with the bracket that opens them.
const ENTRIES: &[u8] = b"\"managedFields\":[";
/// Stands for them.
const HELD_ENTRIES: &str = "\0entries";
const HELD_ENTRIES_JSON: &[u8] = br#""\u0000entries""#;
/// Few objects are longer.
const BYTES_EXPECTED: usize = 8 << 10;
/// `kind` and `apiVersion` end well before this.
const HEAD_MAX: usize = 512;

/// The bytes to store. `resourceVersion` is left out.
pub(crate) fn encode(object: &Value) -> Bytes {
    encode_with(object, None)
}

/// The same of an object that has only a part of its `spec`, all of which is this text, and whose managed fields are a text in
/// JSON.
pub(crate) fn encode_around(object: &Value, spec: &[u8]) -> Bytes {
    encode_with(object, Some(spec))
}

fn encode_with(object: &Value, spec: Option<&[u8]>) -> Bytes {
    let mut out = Vec::with_capacity(BYTES_EXPECTED);
    let empty = Map::new();
    let object = object.as_object().unwrap_or(&empty);
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        write_member(&mut out, key, object.get(key).unwrap_or(&Value::Null));
        out.push(b',');
    }
    out.extend_from_slice(b"\"metadata\":");
    write_metadata(&mut out, object.get("metadata"), spec.is_some());
    for (key, value) in object {
        if matches!(key.as_str(), "kind" | "apiVersion" | "metadata") {
            continue;
        }
        match spec.filter(|_| key == "spec") {
            Some(text) => {
                out.extend_from_slice(&SPEC[..SPEC.len() - 1]);
                out.extend_from_slice(text);
            }
            None => {
                out.push(b',');
                write_member(&mut out, key, value);
            }
        }
    }
    out.push(b'}');
    Bytes::from(out)
}

fn write_metadata(out: &mut Vec<u8>, metadata: Option<&Value>, has_text: bool) {
    out.push(b'{');
    let start = out.len();
    for (key, value) in metadata.and_then(Value::as_object).into_iter().flatten() {
        if key == "resourceVersion" {
            continue;
        }
        if out.len() > start {
            out.push(b',');
        }
        if key == "managedFields" {
            out.extend_from_slice(b"\"managedFields\":");
            match value {
                Value::String(text) if has_text => out.extend_from_slice(text.as_bytes()),
                _ => serde_json::to_writer(&mut *out, &InOrder(value))
                    .expect("writing to memory cannot fail"),
            }
        } else {
            write_member(out, key, value);
        }
    }
    out.push(b'}');
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &Value) {
    serde_json::to_writer(&mut *out, key).expect("writing to memory cannot fail");
    out.push(b':');
    write_value(out, value);
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(out, value).expect("writing a JSON value to memory cannot fail");
}

/// Where the members of `metadata` begin in encoded bytes; none where the layout is foreign.
fn metadata_at(encoded: &[u8]) -> Option<usize> {
    if !encoded.starts_with(b"{\"kind\":") {
        return None;
    }
    let head = &encoded[..encoded.len().min(HEAD_MAX)];
    head.windows(METADATA.len())
        .position(|window| window == METADATA)
        .map(|at| at + METADATA.len())
}

/// An object with only a part of its `spec`, and without its managed fields.
#[derive(Debug)]
pub(crate) struct Around {
    pub(crate) value: Value,
    /// All of its `spec`, as it is stored.
    pub(crate) spec: Bytes,
    /// Its managed fields, as they are stored.
    pub(crate) entries: Option<Bytes>,
}

/// An encoded object with its version in place.
#[derive(Clone, Debug)]
pub(crate) struct Versioned {
    pub(crate) json: Json,
    /// Offset of the first member of `metadata`, which is `resourceVersion`.
    at: u32,
    version_len: u32,
}

impl Versioned {
    /// Puts `revision` into stored bytes. None where they are not a JSON object.
    pub(crate) fn splice(stored: &Bytes, revision: i64) -> Option<Versioned> {
        match metadata_at(stored) {
            Some(at) => Some(Versioned::insert(stored, at, 0, revision)),
            None => {
                let value: Value = serde_json::from_slice(stored).ok()?;
                value.as_object()?;
                let encoded = encode(&value);
                let at = metadata_at(&encoded)?;
                Some(Versioned::insert(&encoded, at, 0, revision))
            }
        }
    }

    fn insert(bytes: &[u8], at: usize, replaced: usize, revision: i64) -> Versioned {
        let (head, tail) = (&bytes[..at], &bytes[at + replaced..]);
        let comma = if tail.first() == Some(&b'}') { "" } else { "," };
        let member = format!("\"resourceVersion\":\"{revision}\"{comma}");
        let mut out = Vec::with_capacity(bytes.len() + member.len());
        out.extend_from_slice(head);
        out.extend_from_slice(member.as_bytes());
        out.extend_from_slice(tail);
        Versioned {
            json: Json::Plain(Bytes::from(out)),
            at: at as u32,
            version_len: member.len() as u32,
        }
    }

    /// The same object under another version: the last state of a deleted object carries the deletion's revision.
    pub(crate) fn with_revision(&self, revision: i64) -> Bytes {
        let (at, len) = (self.at as usize, self.version_len as usize);
        Versioned::insert(&self.json.bytes(), at, len, revision)
            .json
            .bytes()
    }

    /// The same with its bytes in another form.
    pub(crate) fn with_json(&self, json: Json) -> Versioned {
        Versioned {
            json,
            at: self.at,
            version_len: self.version_len,
        }
    }

    /// The bytes as they are stored: without the version.
    pub(crate) fn stored(&self) -> Bytes {
        let (at, len) = (self.at as usize, self.version_len as usize);
        let json = self.json.bytes();
        let mut out = Vec::with_capacity(json.len());
        out.extend_from_slice(&json[..at]);
        out.extend_from_slice(&json[at + len..]);
        Bytes::from(out)
    }

    /// The value of `metadata`, as [`metadata`] finds it.
    pub(crate) fn metadata<'a>(&'a self, room: &'a mut Room) -> &'a [u8] {
        let rest = &self.json.read(room)[self.at as usize - 1..];
        &rest[..end_of_object(rest)]
    }

    /// The object with no more of its `spec` than what is picked, and all of that as text, and its managed fields; none where it
    /// has no `spec`, or another layout.
    pub(crate) fn around_spec(&self, pick: &Pick) -> Option<Around> {
        let json = self.json.bytes();
        let at = self.spec_at(&json)?;
        let metadata = self.at as usize - 1;
        let entries = entries_at(&json[metadata..at.start])
            .map(|found| metadata + found.start..metadata + found.end);
        let mut rest = Vec::with_capacity(json.len() - at.len() + HELD_JSON.len());
        let mut end = 0;
        let held = entries.iter().map(|found| (found, HELD_ENTRIES_JSON));
        for (place, stands_in) in held.chain([(&at, HELD_JSON)]) {
            rest.extend_from_slice(&json[end..place.start]);
            rest.extend_from_slice(stands_in);
            end = place.end;
        }
        rest.extend_from_slice(&json[end..]);
        let mut value = schema::read::json(&rest).ok()?;
        // A foreign writer may have given either twice.
        let spec = value.get_mut("spec").filter(|spec| **spec == HELD)?;
        let text = json.slice(at);
        *spec = pick.read(&text).ok()?;
        let metadata = value.get_mut("metadata")?.as_object_mut()?;
        let is_held = match metadata.remove("managedFields") {
            Some(found) => entries.is_some() && found == HELD_ENTRIES,
            None => entries.is_none(),
        };
        is_held.then(|| Around {
            value,
            spec: text,
            entries: entries.map(|found| json.slice(found)),
        })
    }

    /// Where the value of `spec` stands in the bytes.
    fn spec_at(&self, json: &[u8]) -> Option<Range<usize>> {
        let metadata = self.at as usize - 1;
        let end = metadata + end_of_object(&json[metadata..]);
        if !json[end..].starts_with(SPEC) {
            return None;
        }
        let start = end + SPEC.len() - 1;
        Some(start..start + end_of_object(&json[start..]))
    }

    /// What follows `kind` and `apiVersion`, from `"metadata"` on: lists of built-in kinds leave the first two out.
    pub(crate) fn list_item_tail<'a>(&'a self, room: &'a mut Room) -> &'a [u8] {
        &self.json.read(room)[self.at as usize - METADATA.len()..]
    }
}

/// The value of `metadata` in an encoded object; none where the layout is foreign.
pub(crate) fn metadata(encoded: &[u8]) -> Option<&[u8]> {
    let rest = &encoded[metadata_at(encoded)? - 1..];
    Some(&rest[..end_of_object(rest)])
}

/// Where the list of the managed fields stands in the object with which a JSON text begins.
fn entries_at(metadata: &[u8]) -> Option<Range<usize>> {
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = metadata.get(at) {
        if depth == 1 && metadata[at..].starts_with(ENTRIES) {
            let start = at + ENTRIES.len() - 1;
            return Some(start..start + end_of(&metadata[start..], b'[', b']'));
        }
        at += 1;
        match byte {
            b'"' => at += length_of_string(&metadata[at..]),
            b'{' => depth += 1,
            b'}' if depth == 1 => return None,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// Where the object ends with which a JSON text begins.
fn end_of_object(json: &[u8]) -> usize {
    end_of(json, b'{', b'}')
}

/// Where the object or the list ends with which a JSON text begins.
fn end_of(json: &[u8], opening: u8, closing: u8) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        at += 1;
        if byte == b'"' {
            at += length_of_string(&json[at..]);
        } else if byte == opening {
            depth += 1;
        } else if byte == closing {
            if depth == 1 {
                return at;
            }
            depth -= 1;
        }
    }
    at
}

/// How long the rest of a string is with whose inside a JSON text begins, its closing quote included.
fn length_of_string(json: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += schema::letters::plain_len(&json[at..]);
        match json.get(at) {
            Some(b'"') => return at + 1,
            // And whatever is escaped.
            Some(_) => at = (at + 2).min(json.len()),
            None => return json.len(),
        }
    }
}

#[cfg(test)]
mod tests {
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
            let entries = json!([{"manager": "][\"", "fieldsV1": {"k:{\"a\":9}": {}, "k:{\"a\":80}": {}}}, 1]);
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
            let managed = String::from_utf8(around.entries.unwrap().to_vec()).unwrap();
            assert_eq!(managed, serde_json::to_string(&InOrder(&entries)).unwrap());
            let mut expected: Value = serde_json::from_slice(&versioned.json.bytes()).unwrap();
            expected["spec"] = pick.read(&text).unwrap();
            part["metadata"]["managedFields"] = entries;
            assert_eq!(part, expected);
            assert_eq!(encode_around(&part, &text), stored);
            part["metadata"]["managedFields"] = managed.into();
            assert_eq!(encode_around(&part, &text), stored);
            part["status"] = json!({"b": 2});
            let changed = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec, "status": {"b": 2},
                "metadata": object["metadata"]});
            assert_eq!(encode_around(&part, &text), encode(&changed));
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
}
