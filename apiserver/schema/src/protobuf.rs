//! Kubernetes' protobuf encoding, transcoded to and from JSON values along the schema table.
//!
//! A body is the magic `k8s\0`, then a `runtime.Unknown` that carries `apiVersion`, `kind` and the
//! message. There is no generated code: the table knows the tag of each field, so one walk serves
//! all types. Stored objects are encoded from their JSON without a value between ([`Encoder`]). What is decoded has the form
//! that a JSON body has after its walk (see `decode`).

mod read;
mod reader;
mod scan;
mod transcode;
pub(crate) mod wire;
mod write;

pub use transcode::{Encoder, Shown};

use serde_json::Value;

use crate::decode::{self, DecodeError, FieldValidation};
use crate::types::{Form, Type, type_named, type_of_api_version};

/// The content type of bodies.
pub const CONTENT_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What may be in an envelope instead of protobuf.
const JSON: &str = "application/json";

/// The first bytes of every body.
pub const MAGIC: &[u8] = b"k8s\0";

/// Deeper nesting of messages is refused.
const DEPTH_MAX: usize = 128;

/// Why a body is not what it should be; each is a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Magic,
    #[error("unexpected EOF")]
    UnexpectedEnd,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: illegal tag {0}")]
    Tag(u64),
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WireType { wire_type: u8, field: String },
    #[error("proto: messages are nested too deeply")]
    Depth,
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { api_version: String, kind: String },
    #[error("unsupported content type or encoding inside the protobuf envelope: {0:?}")]
    Content(String),
    /// JSON inside the message (raw extensions) is broken.
    #[error("{0}")]
    Json(String),
    /// A value that no JSON or protobuf field can hold.
    #[error("json: unsupported value: {0}")]
    Value(String),
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The envelope of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Envelope<'a> {
    pub api_version: &'a str,
    pub kind: &'a str,
    pub raw: &'a [u8],
    /// Empty for protobuf.
    pub content_type: &'a str,
}

/// Decodes a body of any known kind; `apiVersion` and `kind` are set from the envelope.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    decode_or(bytes, None)
}

/// Decodes a body whose envelope may leave out what the URL says already: `fallback` is used where
/// the envelope names no kind.
pub fn decode_or(bytes: &[u8], fallback: Option<&Type>) -> Result<Value, ProtobufError> {
    let envelope = envelope(bytes)?;
    if envelope.content_type != JSON {
        return read::enveloped(envelope, fallback, 0);
    }
    let value = read::json(envelope.raw)?;
    let ty = typed(&value).or(fallback);
    Ok(decode::value(ty, value, FieldValidation::Ignore)?.value)
}

/// Decodes a bare message of a type, without an envelope.
pub fn decode_message(ty: &Type, raw: &[u8]) -> Result<Value, ProtobufError> {
    let value = Value::Object(read::message(ty, raw, 0)?);
    match ty.form {
        Form::Object => Ok(value),
        // It only occurs as a field, and is refused here.
        _ => Ok(decode::value(Some(ty), value, FieldValidation::Ignore)?.value),
    }
}

/// Splits a body into its envelope and the message.
pub fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, ProtobufError> {
    let body = bytes.strip_prefix(MAGIC).ok_or(ProtobufError::Magic)?;
    read::envelope(body)
}

/// Encodes an object (or list) as a body. `apiVersion` and `kind` are taken from the value, or from
/// the type where the value has none.
pub fn encode(ty: &Type, value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    let (mut api_version, mut kind) = (text("apiVersion").to_owned(), text("kind"));
    if let (true, Some(k)) = (api_version.is_empty() || kind.is_empty(), ty.kinds.first()) {
        kind = k.kind;
        api_version = match k.group {
            "" => k.version.to_owned(),
            group => format!("{group}/{}", k.version),
        };
    }
    let raw = encode_message(ty, value)?;
    Ok(write::enveloped(&api_version, kind, &raw))
}

/// Encodes a message of a type, without an envelope.
pub fn encode_message(ty: &Type, value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let mut out = Vec::new();
    write::object(ty, value, &mut out)?;
    Ok(out)
}

/// Encodes an object (or list) of the kind that it names itself.
pub fn encode_any(value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or("");
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    // The older name of metadata alone has the same messages; discovery leaves out the version.
    let known = match api_version {
        "meta.k8s.io/v1beta1" => "meta.k8s.io/v1",
        "" => "v1",
        other => other,
    };
    let ty = type_of_api_version(known, kind).ok_or_else(|| ProtobufError::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    })?;
    encode(ty, value)
}

/// What stands around the items of a list: the bytes before the first one and those after the last. Each item follows
/// its own [`list_item_head`]; `items` are their lengths. So a list is sent piece by piece.
pub fn list_around(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: impl Iterator<Item = usize>,
) -> Result<(Vec<u8>, Vec<u8>), ProtobufError> {
    let list_meta = type_named("meta.ListMeta").expect("it is in the table");
    let mut before = Vec::new();
    wire::bytes(1, &encode_message(list_meta, metadata)?, &mut before);
    let mut head = Vec::with_capacity(8);
    let with_head = |length: usize| {
        head.clear();
        list_item_head(length, &mut head);
        head.len() + length
    };
    let items: usize = items.map(with_head).sum();
    Ok(write::around(api_version, kind, &before, items))
}

/// Appends what stands before an item of so many bytes.
pub fn list_item_head(length: usize, out: &mut Vec<u8>) {
    wire::head(2, length, out);
}

/// One frame of a watch: a 4-byte big-endian length and a `WatchEvent` around an object that
/// [`encode`] has made.
pub fn watch_frame(event_type: &str, object: &[u8]) -> Vec<u8> {
    let event = write::watch_event(event_type, object);
    let length = u32::try_from(event.len()).unwrap_or(u32::MAX);
    let mut frame = Vec::with_capacity(event.len() + 4);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&event);
    frame
}

fn typed(value: &Value) -> Option<&'static Type> {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    type_of_api_version(text("apiVersion")?, text("kind")?)
}

#[cfg(test)]
mod tests;
