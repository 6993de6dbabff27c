//! Bodies as they can be read slowly and obviously: every field as it comes, then the walk that a JSON body takes. What is
//! read in one go has to come to the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};

use super::super::reader::{Reader, Wire, last};
use super::super::{CONTENT_TYPE, DEPTH_MAX, MAGIC, ProtobufError, envelope, typed};
use crate::decode::{self, FieldValidation};
use crate::time;
use crate::types::{
    Container, Element, Field, Form, Member, Message, Type, type_by_id, type_named,
    type_of_api_version,
};

/// As [`super::decode_or`].
pub(super) fn decode_or(bytes: &[u8], fallback: Option<&Type>) -> Result<Value, ProtobufError> {
    let value = enveloped(bytes, fallback, 0)?;
    let ty = typed(&value).or(fallback);
    Ok(decode::value(ty, value, FieldValidation::Ignore)?.value)
}

/// As [`super::decode_message`].
pub(super) fn decode_message(ty: &Type, raw: &[u8]) -> Result<Value, ProtobufError> {
    let value = Value::Object(message(ty, raw, 0)?);
    Ok(decode::value(Some(ty), value, FieldValidation::Ignore)?.value)
}

/// A body with its envelope, as a value with `apiVersion` and `kind`.
fn enveloped(bytes: &[u8], fallback: Option<&Type>, depth: usize) -> Result<Value, ProtobufError> {
    let envelope = envelope(bytes)?;
    match envelope.content_type {
        "" | CONTENT_TYPE => {}
        "application/json" => return json(envelope.raw),
        other => return Err(ProtobufError::Content(other.to_owned())),
    }
    let ty = type_of_api_version(envelope.api_version, envelope.kind);
    let unnamed = envelope.api_version.is_empty() && envelope.kind.is_empty();
    let ty = ty
        .or(fallback.filter(|_| unnamed))
        .ok_or_else(|| ProtobufError::UnknownKind {
            api_version: envelope.api_version.to_owned(),
            kind: envelope.kind.to_owned(),
        })?;
    let mut object = message(ty, envelope.raw, depth)?;
    if !unnamed {
        object.insert("apiVersion".to_owned(), envelope.api_version.into());
        object.insert("kind".to_owned(), envelope.kind.into());
    }
    Ok(Value::Object(object))
}

/// The fields of a message of a type.
fn message(ty: &Type, bytes: &[u8], depth: usize) -> Result<Map<String, Value>, ProtobufError> {
    let mut object = Map::new();
    members(ty, &ty.message, bytes, depth, &mut object)?;
    Ok(object)
}

fn members(
    ty: &Type,
    message: &Message,
    bytes: &[u8],
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    if depth > DEPTH_MAX {
        return Err(ProtobufError::Depth);
    }
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match message.member(tag) {
            None => {}
            Some(Member::Embedded(inner)) => {
                members(ty, inner, wire.bytes("embedded")?, depth + 1, object)?;
            }
            Some(Member::Field(index)) => field(&ty.fields[*index], wire, depth + 1, object)?,
        }
    }
    Ok(())
}

fn field(
    field: &Field,
    wire: Wire<'_>,
    depth: usize,
    object: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    let name = field.name;
    let of = field.ty.element;
    match field.ty.container {
        Container::One => {
            // A message that comes in parts is one message.
            if let (Some(ty), Some(Value::Object(earlier))) =
                (field.ty.message(), object.get_mut(name))
                && ty.form == Form::Object
            {
                return members(ty, &ty.message, wire.bytes(name)?, depth, earlier);
            }
            let value = element(of, name, wire, depth)?;
            object.insert(name.to_owned(), value);
        }
        Container::List => {
            let slot = object
                .entry(name)
                .or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(items) = slot else {
                return Ok(());
            };
            match (of, wire) {
                (
                    Element::Bool | Element::Int32 | Element::Int64 | Element::Double,
                    Wire::Bytes(packed),
                ) => {
                    let mut reader = Reader::new(packed);
                    while !reader.is_empty() {
                        let wire = match of {
                            Element::Double => Wire::Fixed64(u64::from_le_bytes(reader.fixed()?)),
                            _ => Wire::Varint(reader.varint()?),
                        };
                        items.push(element(of, name, wire, depth)?);
                    }
                }
                (_, wire) => items.push(element(of, name, wire, depth)?),
            }
        }
        Container::Map => {
            let slot = object
                .entry(name)
                .or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(items) = slot else {
                return Ok(());
            };
            let (mut key, mut value) = (String::new(), None);
            let mut entry = Reader::new(wire.bytes(name)?);
            while let Some((tag, wire)) = entry.next()? {
                match tag {
                    1 => key = wire.text(name)?,
                    2 => value = Some(element(of, name, wire, depth)?),
                    _ => {}
                }
            }
            // An absent value is the zero value, which null stands for in the walk that follows.
            items.insert(key, value.unwrap_or(Value::Null));
        }
    }
    Ok(())
}

fn element(
    element: Element,
    name: &str,
    wire: Wire<'_>,
    depth: usize,
) -> Result<Value, ProtobufError> {
    Ok(match element {
        Element::String => wire.text(name)?.into(),
        Element::Bool => (wire.varint(name)? != 0).into(),
        // Negative numbers come as 64 bits; Go truncates to the type in the same way.
        Element::Int32 => (wire.varint(name)? as i32).into(),
        Element::Int64 => (wire.varint(name)? as i64).into(),
        Element::Double => match wire {
            Wire::Fixed64(bits) => {
                let double = f64::from_bits(bits);
                let number = Number::from_f64(double);
                let number = number.ok_or_else(|| ProtobufError::Value(double.to_string()))?;
                crate::decode::double(number)
            }
            other => return Err(other.wrong(name)),
        },
        Element::Bytes => BASE64.encode(wire.bytes(name)?).into(),
        Element::Duration => {
            let nanos = last(wire.bytes(name)?, 1)?.map(|wire| wire.varint(name));
            let nanos = nanos.transpose()?.unwrap_or(0);
            time::duration_text(nanos as i64).into()
        }
        Element::StringList | Element::Verbs => strings(name, wire.bytes(name)?)?,
        Element::Message(id) => form(type_by_id(id), name, wire.bytes(name)?, depth)?,
    })
}

/// A message that wraps `repeated string items = 1`.
fn strings(name: &str, bytes: &[u8]) -> Result<Value, ProtobufError> {
    let mut items = Vec::new();
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        if tag == 1 {
            items.push(wire.text(name)?.into());
        }
    }
    Ok(Value::Array(items))
}

/// A message in the JSON form of its type.
fn form(ty: &Type, name: &str, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    match ty.form {
        Form::Object => Ok(Value::Object(message(ty, bytes, depth)?)),
        Form::Time | Form::MicroTime => timestamp(ty.form, name, bytes),
        Form::Quantity => match last(bytes, 1)? {
            Some(wire) => Ok(wire.text(name)?.into()),
            None => Ok("0".into()),
        },
        Form::IntOrString => {
            let is_string = last(bytes, 1)?.map(|w| w.varint(name)).transpose()? == Some(1);
            if is_string {
                let text = last(bytes, 3)?.map(|w| w.text(name)).transpose()?;
                return Ok(text.unwrap_or_default().into());
            }
            let number = last(bytes, 2)?.map(|w| w.varint(name)).transpose()?;
            Ok((number.unwrap_or(0) as i32).into())
        }
        Form::RawExtension | Form::FieldsV1 | Form::Json => match last(bytes, 1)? {
            Some(wire) => raw(wire.bytes(name)?, depth),
            None => Ok(Value::Null),
        },
        Form::SchemaOrArray | Form::SchemaOrBool | Form::SchemaOrStringArray => {
            schema_or(ty.form, name, bytes, depth)
        }
    }
}

/// `{seconds, nanos}`; both zero is Go's zero time, which JSON leaves out.
fn timestamp(form: Form, name: &str, bytes: &[u8]) -> Result<Value, ProtobufError> {
    let number = |tag| -> Result<i64, ProtobufError> {
        let wire = last(bytes, tag)?;
        Ok(wire.map(|w| w.varint(name)).transpose()?.unwrap_or(0) as i64)
    };
    let (seconds, nanos) = (number(1)?, number(2)?);
    if seconds == 0 && nanos == 0 {
        return Ok(Value::Null);
    }
    let micros = nanos.clamp(0, 999_999_999) / 1000;
    Ok(match form {
        Form::MicroTime => {
            let bounded = seconds.clamp(-62_167_219_200, 253_402_300_799);
            time::now_rfc3339_micro(bounded * 1_000_000 + micros)
        }
        _ => time::now_rfc3339(seconds),
    }
    .into())
}

/// An embedded object: a body of its own, or JSON.
fn raw(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    if bytes.starts_with(MAGIC) {
        let value = enveloped(bytes, None, depth + 1)?;
        let is_json = envelope(bytes)?.content_type == "application/json";
        let ty = typed(&value).filter(|_| !is_json);
        return Ok(decode::value(ty, value, FieldValidation::Ignore)?.value);
    }
    json(bytes)
}

fn json(bytes: &[u8]) -> Result<Value, ProtobufError> {
    decode::json(None, bytes, FieldValidation::Ignore)
        .map(|d| d.value)
        .map_err(|e| ProtobufError::Json(e.to_string()))
}

fn schema_or(form: Form, name: &str, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let ty = type_named("apiextensions.JSONSchemaProps").expect("it is in the table");
    let (mut schema, mut allows, mut items) = (None, false, Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((tag, wire)) = reader.next()? {
        match (form, tag) {
            (Form::SchemaOrBool, 1) => allows = wire.varint(name)? != 0,
            (Form::SchemaOrBool, 2) | (_, 1) => {
                schema = Some(Value::Object(message(ty, wire.bytes(name)?, depth)?));
            }
            (Form::SchemaOrArray, 2) => {
                items.push(Value::Object(message(ty, wire.bytes(name)?, depth)?));
            }
            (Form::SchemaOrStringArray, 2) => items.push(wire.text(name)?.into()),
            _ => {}
        }
    }
    Ok(match (schema, form) {
        _ if !items.is_empty() => Value::Array(items),
        (Some(schema), _) => schema,
        (None, Form::SchemaOrBool) => allows.into(),
        (None, _) => Value::Null,
    })
}
