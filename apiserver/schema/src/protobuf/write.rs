//! Values to protobuf bytes, fields in the order of their tags. What comes as JSON is written by [`super::transcode`] with
//! the same bytes, and by this where the text is an odd one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use super::wire::{bytes, double, head, number};
use super::{MAGIC, ProtobufError};
use crate::apply::InOrder;
use crate::time;
use crate::types::{
    Container, Element, Field, Form, Member, Message, Type, type_by_id, type_named,
};

type Written = Result<(), ProtobufError>;

/// `k8s\0` and a `runtime.Unknown`.
pub(super) fn enveloped(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let (mut out, tail) = around(api_version, kind, raw, 0);
    out.extend_from_slice(&tail);
    out
}

/// An envelope that is open in the middle of its message: `start` of it is there, and so many bytes are still to come.
pub(super) fn around(
    api_version: &str,
    kind: &str,
    start: &[u8],
    to_come: usize,
) -> (Vec<u8>, Vec<u8>) {
    let names = api_version.len() + kind.len();
    let mut open = Vec::with_capacity(start.len() + names + 32);
    envelope_head(api_version, kind, &mut open);
    head(RAW, start.len() + to_come, &mut open);
    open.extend_from_slice(start);
    let mut tail = Vec::new();
    envelope_tail(&mut tail);
    (open, tail)
}

/// The tag of the message in its envelope.
pub(super) const RAW: u32 = 2;

/// What stands before the message.
pub(super) fn envelope_head(api_version: &str, kind: &str, out: &mut Vec<u8>) {
    let mut type_meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    bytes(1, api_version.as_bytes(), &mut type_meta);
    bytes(2, kind.as_bytes(), &mut type_meta);
    out.extend_from_slice(MAGIC);
    bytes(1, &type_meta, out);
}

/// What stands after it.
pub(super) fn envelope_tail(out: &mut Vec<u8>) {
    bytes(3, b"", out);
    bytes(4, b"", out);
}

/// `meta.v1.WatchEvent`.
pub(super) fn watch_event(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut extension = Vec::with_capacity(object.len() + 8);
    bytes(1, object, &mut extension);
    let mut out = Vec::with_capacity(extension.len() + 24);
    bytes(1, event_type.as_bytes(), &mut out);
    bytes(2, &extension, &mut out);
    out
}

pub(super) fn object(ty: &Type, value: &Value, out: &mut Vec<u8>) -> Written {
    if !value.is_object() {
        return Err(unsupported(value));
    }
    members(ty, &ty.message, value, out)
}

fn members(ty: &Type, message: &Message, value: &Value, out: &mut Vec<u8>) -> Written {
    for (tag, member) in &message.0 {
        match member {
            Member::Field(index) => {
                let field_of = &ty.fields[*index];
                if let Some(item) = value.get(field_of.name).filter(|v| !v.is_null()) {
                    field(field_of, *tag, item, out)?;
                }
            }
            Member::Embedded(inner) => {
                let mut body = Vec::new();
                members(ty, inner, value, &mut body)?;
                if !body.is_empty() {
                    bytes(*tag, &body, out);
                }
            }
        }
    }
    Ok(())
}

fn field(field: &Field, tag: u32, value: &Value, out: &mut Vec<u8>) -> Written {
    let of = field.ty.element;
    match (field.ty.container, value) {
        (Container::One, value) => element(of, tag, value, out),
        (Container::List, Value::Array(items)) => items
            .iter()
            .try_for_each(|item| element(of, tag, item, out)),
        (Container::Map, Value::Object(items)) => items.iter().try_for_each(|(key, item)| {
            let mut entry = Vec::new();
            bytes(1, key.as_bytes(), &mut entry);
            element(of, 2, item, &mut entry)?;
            bytes(tag, &entry, out);
            Ok(())
        }),
        (_, value) => Err(unsupported(value)),
    }
}

fn element(element: Element, tag: u32, value: &Value, out: &mut Vec<u8>) -> Written {
    match (element, value) {
        (Element::String, Value::String(text)) => bytes(tag, text.as_bytes(), out),
        (Element::Bool, Value::Bool(flag)) => number(tag, u64::from(*flag), out),
        (Element::Int32 | Element::Int64, Value::Number(n)) => {
            let integer = n.as_i64().ok_or_else(|| unsupported(value))?;
            number(tag, integer as u64, out);
        }
        (Element::Double, Value::Number(n)) => {
            double(tag, n.as_f64().ok_or_else(|| unsupported(value))?, out);
        }
        (Element::Bytes, Value::String(text)) => {
            let raw = BASE64.decode(text).map_err(|_| unsupported(value))?;
            bytes(tag, &raw, out);
        }
        (Element::Duration, Value::String(text)) => {
            let nanos = time::parse_duration(text).ok_or_else(|| unsupported(value))?;
            let mut body = Vec::new();
            number(1, nanos as u64, &mut body);
            bytes(tag, &body, out);
        }
        (Element::StringList | Element::Verbs, Value::Array(items)) => {
            bytes(tag, &strings(1, items)?, out);
        }
        // The zero value of an item: an empty message or text is read as just that.
        (
            Element::String | Element::Bytes | Element::StringList | Element::Message(_),
            Value::Null,
        ) => {
            bytes(tag, b"", out);
        }
        (Element::Message(id), value) => {
            let mut body = Vec::new();
            form(type_by_id(id), value, &mut body)?;
            bytes(tag, &body, out);
        }
        (_, value) => return Err(unsupported(value)),
    }
    Ok(())
}

fn strings(tag: u32, items: &[Value]) -> Result<Vec<u8>, ProtobufError> {
    let mut body = Vec::new();
    for item in items {
        let text = item.as_str().ok_or_else(|| unsupported(item))?;
        bytes(tag, text.as_bytes(), &mut body);
    }
    Ok(body)
}

fn form(ty: &Type, value: &Value, out: &mut Vec<u8>) -> Written {
    match (ty.form, value) {
        (Form::Object, value) => object(ty, value, out)?,
        (Form::Time | Form::MicroTime, Value::String(text)) => {
            let (seconds, nanos) = time::parse_nanos(text).ok_or_else(|| unsupported(value))?;
            number(1, seconds as u64, out);
            number(2, u64::from(nanos), out);
        }
        (Form::Quantity, Value::String(text)) => bytes(1, text.as_bytes(), out),
        (Form::Quantity, Value::Number(n)) => bytes(1, n.to_string().as_bytes(), out),
        (Form::IntOrString, Value::Number(n)) => {
            let integer = n.as_i64().ok_or_else(|| unsupported(value))?;
            number(1, 0, out);
            number(2, integer as u64, out);
            bytes(3, b"", out);
        }
        (Form::IntOrString, Value::String(text)) => {
            number(1, 1, out);
            number(2, 0, out);
            bytes(3, text.as_bytes(), out);
        }
        (Form::FieldsV1, value) => {
            let text = serde_json::to_vec(&InOrder(value)).map_err(|_| unsupported(value))?;
            bytes(1, &text, out);
        }
        (Form::RawExtension | Form::Json, value) => {
            bytes(1, value.to_string().as_bytes(), out);
        }
        (Form::SchemaOrBool, Value::Bool(allows)) => number(1, u64::from(*allows), out),
        (Form::SchemaOrBool, value) => {
            // Go sets `allows` beside a schema.
            number(1, 1, out);
            let mut body = Vec::new();
            object(json_schema(), value, &mut body)?;
            bytes(2, &body, out);
        }
        (Form::SchemaOrArray, Value::Array(items)) => {
            for item in items {
                let mut body = Vec::new();
                object(json_schema(), item, &mut body)?;
                bytes(2, &body, out);
            }
        }
        (Form::SchemaOrStringArray, Value::Array(items)) => out.extend(strings(2, items)?),
        (Form::SchemaOrArray | Form::SchemaOrStringArray, value) => {
            let mut body = Vec::new();
            object(json_schema(), value, &mut body)?;
            bytes(1, &body, out);
        }
        (_, value) => return Err(unsupported(value)),
    }
    Ok(())
}

pub(super) fn json_schema() -> &'static Type {
    type_named("apiextensions.JSONSchemaProps").expect("it is in the table")
}

fn unsupported(value: &Value) -> ProtobufError {
    ProtobufError::Value(value.to_string().chars().take(64).collect())
}
