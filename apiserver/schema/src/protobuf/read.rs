//! Protobuf bytes to values, in the form that they have after the walk that a JSON body takes: Go's encoder writes every
//! zero of a field that is not a pointer, and JSON has none of them. Unknown tags are skipped; repeated scalars are read
//! packed and unpacked.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};

use super::reader::{Reader, Wire, last};
use super::{DEPTH_MAX, Envelope, MAGIC, ProtobufError};
use crate::decode::{self, DecodeError, FieldValidation};
use crate::quantity::Quantity;
use crate::time;
use crate::types::{
    Container, Element, Field, Form, Member, Message, Type, type_by_id, type_named,
    type_of_api_version,
};

/// `runtime.Unknown`.
pub(super) fn envelope(body: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let mut found = Envelope::default();
    let mut encoding = "";
    let mut reader = Reader::new(body);
    while let Some((tag, wire)) = reader.next()? {
        match tag {
            1 => {
                let mut type_meta = Reader::new(wire.bytes("typeMeta")?);
                while let Some((tag, wire)) = type_meta.next()? {
                    match tag {
                        1 => found.api_version = plain(wire.bytes("apiVersion")?)?,
                        2 => found.kind = plain(wire.bytes("kind")?)?,
                        _ => {}
                    }
                }
            }
            2 => found.raw = wire.bytes("raw")?,
            3 => encoding = plain(wire.bytes("contentEncoding")?)?,
            4 => found.content_type = plain(wire.bytes("contentType")?)?,
            _ => {}
        }
    }
    if !encoding.is_empty() {
        return Err(ProtobufError::Content(encoding.to_owned()));
    }
    Ok(found)
}

fn plain(bytes: &[u8]) -> Result<&str, ProtobufError> {
    std::str::from_utf8(bytes).map_err(|e| ProtobufError::Value(e.to_string()))
}

/// A body whose envelope was taken off, as a value with `apiVersion` and `kind`. JSON in it is read as it is.
pub(super) fn enveloped(
    envelope: Envelope<'_>,
    fallback: Option<&Type>,
    depth: usize,
) -> Result<Value, ProtobufError> {
    match envelope.content_type {
        "" | super::CONTENT_TYPE => {}
        super::JSON => return json(envelope.raw),
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
        for (name, value) in [
            ("apiVersion", envelope.api_version),
            ("kind", envelope.kind),
        ] {
            if let Some(field) = ty.field(name) {
                put(field, value.into(), &mut object);
            }
        }
    }
    Ok(Value::Object(object))
}

/// The fields of a message of a type.
pub(super) fn message(
    ty: &Type,
    bytes: &[u8],
    depth: usize,
) -> Result<Map<String, Value>, ProtobufError> {
    let mut object = Map::new();
    members(ty, &ty.message, bytes, depth, &mut object)?;
    decode::write_unset(ty, &mut object);
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

/// Puts a value in its place. Null is nothing, and so is a zero that Go leaves out.
fn put(field: &Field, value: Value, object: &mut Map<String, Value>) {
    if value.is_null() || field.omit_empty && decode::is_zero(&value) {
        object.remove(field.name);
    } else {
        object.insert(field.name.to_owned(), value);
    }
}

/// What is under a name; `empty` where nothing was yet, or what is written of nothing.
fn slot<'o>(
    name: &str,
    object: &'o mut Map<String, Value>,
    empty: fn() -> Value,
) -> Option<&'o mut Value> {
    if object.get(name).is_none_or(Value::is_null) {
        object.insert(name.to_owned(), empty());
    }
    object.get_mut(name)
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
            let earlier = match field.ty.message() {
                Some(ty) if ty.form == Form::Object => object.remove(name).map(|part| (ty, part)),
                _ => None,
            };
            let value = match earlier {
                Some((ty, Value::Object(mut whole))) => {
                    members(ty, &ty.message, wire.bytes(name)?, depth, &mut whole)?;
                    decode::write_unset(ty, &mut whole);
                    Value::Object(whole)
                }
                _ => element(of, name, wire, depth)?,
            };
            put(field, value, object);
        }
        Container::List => {
            let Some(Value::Array(items)) = slot(name, object, || Value::Array(Vec::new())) else {
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
                (_, wire) => items.push(item(of, name, wire, depth)?),
            }
            // Numbers that are packed may be none.
            if items.is_empty() && field.omit_empty {
                object.remove(name);
            }
        }
        Container::Map => {
            let Some(Value::Object(items)) = slot(name, object, || Value::Object(Map::new()))
            else {
                return Ok(());
            };
            let (mut key, mut value) = (String::new(), None);
            let mut entry = Reader::new(wire.bytes(name)?);
            while let Some((tag, wire)) = entry.next()? {
                match tag {
                    1 => key = wire.text(name)?,
                    2 => value = Some(item(of, name, wire, depth)?),
                    _ => {}
                }
            }
            // An absent value is the zero value.
            items.insert(key, value.unwrap_or_else(|| decode::zero_of(of)));
        }
    }
    Ok(())
}

/// An item of a list or map, which is there even if it says nothing.
fn item(of: Element, name: &str, wire: Wire<'_>, depth: usize) -> Result<Value, ProtobufError> {
    let value = element(of, name, wire, depth)?;
    Ok(match value.is_null() {
        true => decode::zero_of(of),
        false => value,
    })
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
            Some(wire) => {
                let quantity = Quantity::parse(&wire.text(name)?);
                let quantity = quantity.map_err(|error| refused(error.to_string()))?;
                Ok(quantity.to_string().into())
            }
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
        Form::RawExtension | Form::FieldsV1 | Form::Json => {
            let Some(wire) = last(bytes, 1)? else {
                return Ok(Value::Null);
            };
            match (ty.form, raw(wire.bytes(name)?, depth)?) {
                (Form::FieldsV1, value) if !(value.is_object() || value.is_null()) => {
                    let kind = crate::object::kind_of(&value);
                    let text = format!("json: cannot unmarshal {kind} into {name}");
                    Err(refused(text))
                }
                (_, value) => Ok(value),
            }
        }
        Form::SchemaOrArray | Form::SchemaOrBool | Form::SchemaOrStringArray => {
            schema_or(ty.form, name, bytes, depth)
        }
    }
}

/// What fits the message and not its field.
fn refused(text: String) -> ProtobufError {
    ProtobufError::Decode(DecodeError::Type(text))
}

/// `{seconds, nanos}`; both zero is Go's zero time in a message, which JSON leaves out, and so is Go's zero time itself.
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
    if seconds == time::GO_ZERO && (micros == 0 || form == Form::Time) {
        return Ok(Value::Null);
    }
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
        return enveloped(super::envelope(bytes)?, None, depth + 1);
    }
    json(bytes)
}

pub(super) fn json(bytes: &[u8]) -> Result<Value, ProtobufError> {
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
