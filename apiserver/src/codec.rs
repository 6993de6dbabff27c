//! The stored form of an object: its JSON without `resourceVersion`, with `kind`, `apiVersion` and `metadata` first.
//!
//! The version of an object is the store's revision of its key, which is known only once it is written; because
//! `metadata` opens at a known place, every member splices the number in without parsing. Foreign bytes (another key
//! order) still work: they are parsed and encoded again.

mod members;
mod template;

use std::ops::Range;

use bytes::Bytes;
use schema::apply::InOrder;
use schema::pick::Pick;
use serde_json::{Map, Value};

use crate::packed::{Json, Room};
pub(crate) use members::with_member;
pub(crate) use template::{Own, Template};

const METADATA: &[u8] = b"\"metadata\":{";
/// What follows `metadata` where the object has a `spec`, and nothing whose name is before that in the alphabet.
const SPEC: &[u8] = b",\"spec\":{";
/// Stands for a `spec`, and for managed fields, while all else is read: no other value that a foreign writer may have put behind
/// it.
const HELD: &str = "\0spec";
const HELD_JSON: &[u8] = br#""\u0000spec""#;
const ENTRIES: &str = "managedFields";
/// Few objects are longer.
const BYTES_EXPECTED: usize = 8 << 10;
/// `kind` and `apiVersion` end well before this.
const HEAD_MAX: usize = 512;

/// The bytes to store. `resourceVersion` is left out.
pub(crate) fn encode(object: &Value) -> Bytes {
    encode_with(object, None, None)
}

/// The same of an object that has only a part of its `spec`, all of which is this text, and whose managed fields are `entries`,
/// where they are told, whatever it has itself.
pub(crate) fn encode_around(object: &Value, spec: &[u8], entries: Option<&[u8]>) -> Bytes {
    encode_with(object, Some(spec), entries)
}

fn encode_with(object: &Value, spec: Option<&[u8]>, entries: Option<&[u8]>) -> Bytes {
    let mut out = Vec::with_capacity(BYTES_EXPECTED);
    let empty = Map::new();
    let object = object.as_object().unwrap_or(&empty);
    out.push(b'{');
    for key in ["kind", "apiVersion"] {
        write_member(&mut out, key, object.get(key).unwrap_or(&Value::Null));
        out.push(b',');
    }
    out.extend_from_slice(b"\"metadata\":");
    write_metadata(&mut out, object.get("metadata"), entries);
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

/// Without the version. The managed fields, where they are told as a text, come in their place by the alphabet.
fn write_metadata(out: &mut Vec<u8>, metadata: Option<&Value>, mut entries: Option<&[u8]>) {
    out.push(b'{');
    let start = out.len();
    for (key, value) in metadata.and_then(Value::as_object).into_iter().flatten() {
        let is_told = entries.is_some() && key == ENTRIES;
        if is_told || key == "resourceVersion" {
            continue;
        }
        if key.as_str() > ENTRIES
            && let Some(text) = entries.take()
        {
            write_entries(out, start, text);
        }
        separate(out, start);
        if key == ENTRIES {
            write_key(out, key);
            serde_json::to_writer(&mut *out, &InOrder(value))
                .expect("writing to memory cannot fail");
        } else {
            write_member(out, key, value);
        }
    }
    if let Some(text) = entries {
        write_entries(out, start, text);
    }
    out.push(b'}');
}

/// The managed fields as a member of the object whose members begin at `start`.
fn write_entries(out: &mut Vec<u8>, start: usize, text: &[u8]) {
    separate(out, start);
    write_key(out, ENTRIES);
    out.extend_from_slice(text);
}

/// Goes on after a member, if there is one since `start`.
fn separate(out: &mut Vec<u8>, start: usize) {
    if out.len() > start {
        out.push(b',');
    }
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &Value) {
    write_key(out, key);
    write_value(out, value);
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    serde_json::to_writer(&mut *out, key).expect("writing to memory cannot fail");
    out.push(b':');
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
                let value = schema::read::json(stored).ok()?;
                value.as_object()?;
                let encoded = encode(&value);
                let at = metadata_at(&encoded)?;
                Some(Versioned::insert(&encoded, at, 0, revision))
            }
        }
    }

    fn insert(bytes: &[u8], at: usize, replaced: usize, revision: i64) -> Versioned {
        let (head, tail) = (&bytes[..at], &bytes[at + replaced..]);
        // Foreign bytes may have blanks before it.
        let is_last = tail.trim_ascii_start().starts_with(b"}");
        let comma = if is_last { "" } else { "," };
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
        &rest[..end_of_nested(rest)]
    }

    /// The object with no more of its `spec` than what is picked, and all of that as text, and its managed fields; none where it
    /// has no `spec`, or another layout.
    pub(crate) fn around_spec(&self, pick: &Pick) -> Option<Around> {
        let json = self.json.bytes();
        let spec = self.spec_at(&json)?;
        let metadata = self.at as usize - 1;
        let entries = members::value_at(&json[metadata..spec.start], ENTRIES)
            .map(|at| metadata + at.start..metadata + at.end);
        let rest = held_out(&json, entries.iter().chain([&spec]));
        let mut value = schema::read::json(&rest).ok()?;
        // A foreign writer may have given either twice.
        let part = value.get_mut("spec").filter(|part| **part == HELD)?;
        let spec = json.slice(spec);
        *part = pick.read(&spec).ok()?;
        let is_held = match value.get_mut("metadata")?.as_object_mut()?.remove(ENTRIES) {
            Some(found) => entries.is_some() && found == HELD,
            None => entries.is_none(),
        };
        is_held.then(|| Around {
            value,
            spec,
            entries: entries.map(|at| json.slice(at)),
        })
    }

    /// Where the value of `spec` stands in the bytes.
    fn spec_at(&self, json: &[u8]) -> Option<Range<usize>> {
        let metadata = self.at as usize - 1;
        let end = metadata + end_of_nested(&json[metadata..]);
        if !json[end..].starts_with(SPEC) {
            return None;
        }
        let start = end + SPEC.len() - 1;
        Some(start..start + end_of_nested(&json[start..]))
    }

    /// What follows `kind` and `apiVersion`, from `"metadata"` on: lists of built-in kinds leave the first two out.
    pub(crate) fn list_item_tail<'a>(&'a self, room: &'a mut Room) -> &'a [u8] {
        &self.json.read(room)[self.at as usize - METADATA.len()..]
    }
}

/// The value of `metadata` in an encoded object; none where the layout is foreign.
pub(crate) fn metadata(encoded: &[u8]) -> Option<&[u8]> {
    let rest = &encoded[metadata_at(encoded)? - 1..];
    Some(&rest[..end_of_nested(rest)])
}

/// A JSON text in which something else stands for the values in these places, which come one after the other.
fn held_out<'p>(json: &[u8], places: impl Iterator<Item = &'p Range<usize>>) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut from = 0;
    for place in places {
        out.extend_from_slice(&json[from..place.start]);
        out.extend_from_slice(HELD_JSON);
        from = place.end;
    }
    out.extend_from_slice(&json[from..]);
    out
}

/// Where the object or the list ends with which a JSON text begins.
fn end_of_nested(json: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => at += length_of_string(&json[at..]),
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth <= 1 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
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
mod tests;
