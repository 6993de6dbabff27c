//! Messages as JSON and back, by the schema: proto3's JSON, with the names of the schema as etcd's gateway has it.
//! Bytes are base64, 64-bit numbers are strings, what is empty is left out. Unknown fields are ignored both ways.

use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use serde_json::{Map, Value};

use super::schema::{Field, Kind, SCHEMA, camel};

/// Messages inside of messages; transactions nest.
const DEPTH_MAX: usize = 64;

const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// Why something is not a message of this type; for the client.
pub(super) type Wrong = String;

pub(super) fn encode(message: &str, value: &Value) -> Result<Vec<u8>, Wrong> {
    let mut bytes = Vec::new();
    encode_message(message, value, DEPTH_MAX, &mut bytes)?;
    Ok(bytes)
}

fn encode_message(
    message: &str,
    value: &Value,
    depth: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
    let Value::Object(object) = value else {
        return Err(format!("{message} is an object"));
    };
    let fields = SCHEMA.messages.get(message).ok_or("no such message")?;
    for (name, value) in object {
        let Some(field) = fields
            .iter()
            .find(|field| field.name == *name || camel(&field.name) == *name)
        else {
            continue;
        };
        let in_field = |wrong: Wrong| format!("{name}: {wrong}");
        match value {
            Value::Null => {}
            Value::Array(items) if field.repeated => {
                for item in items {
                    encode_field(field, item, depth, bytes).map_err(in_field)?;
                }
            }
            _ if field.repeated => return Err(in_field("a list is expected".into())),
            value => encode_field(field, value, depth, bytes).map_err(in_field)?,
        }
    }
    Ok(())
}

fn encode_field(
    field: &Field,
    value: &Value,
    depth: usize,
    bytes: &mut Vec<u8>,
) -> Result<(), Wrong> {
    let number = field.number;
    let mut varint = |value: u64| {
        encode_key(number, WireType::Varint, bytes);
        encode_varint(value, bytes);
    };
    match &field.kind {
        Kind::Int64 => varint(integer::<i64>(value)? as u64),
        Kind::Uint64 => varint(integer::<u64>(value)?),
        Kind::Uint32 => varint(u64::from(integer::<u32>(value)?)),
        Kind::Bool => varint(u64::from(
            value.as_bool().ok_or("true or false is expected")?,
        )),
        Kind::Enum(name) => varint(enum_number(name, value)? as u64),
        Kind::String => delimited(number, text(value)?.as_bytes(), bytes),
        Kind::Bytes => delimited(number, &from_base64(text(value)?)?, bytes),
        Kind::Message(name) => {
            let mut inner = Vec::new();
            encode_message(name, value, depth, &mut inner)?;
            delimited(number, &inner, bytes);
        }
    }
    Ok(())
}

fn delimited(number: u32, content: &[u8], bytes: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

fn text(value: &Value) -> Result<&str, Wrong> {
    value.as_str().ok_or_else(|| "a string is expected".into())
}

fn from_base64(text: &str) -> Result<Vec<u8>, Wrong> {
    let decoded = ANY_PADDING.decode(text);
    let decoded = decoded.or_else(|_| URL_SAFE.decode(text));
    decoded.map_err(|_| "base64 is expected".into())
}

/// A number, or one in a string.
fn integer<T: std::str::FromStr>(value: &Value) -> Result<T, Wrong> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err("a number is expected".into()),
    };
    text.parse()
        .map_err(|_| format!("{text:?} is not a number of this type"))
}

fn enum_number(name: &str, value: &Value) -> Result<i64, Wrong> {
    let Value::String(text) = value else {
        return integer::<i32>(value).map(i64::from);
    };
    let values = SCHEMA.enums.get(name).ok_or("no such enumeration")?;
    let found = values.iter().find(|(name, _)| name == text);
    found
        .map(|(_, number)| i64::from(*number))
        .ok_or_else(|| format!("{text:?} is not one of {name}"))
}

pub(super) fn decode(message: &str, bytes: &[u8]) -> Result<Value, Wrong> {
    decode_message(message, bytes, DEPTH_MAX)
}

fn decode_message(message: &str, mut bytes: &[u8], depth: usize) -> Result<Value, Wrong> {
    let depth = depth.checked_sub(1).ok_or("nested too deeply")?;
    let fields = SCHEMA.messages.get(message).ok_or("no such message")?;
    let mut object = Map::new();
    while !bytes.is_empty() {
        let (number, wire_type) = decode_key(&mut bytes).map_err(|error| error.to_string())?;
        let field = fields.iter().find(|field| field.number == number);
        match wire_type {
            WireType::Varint => {
                let raw = decode_varint(&mut bytes).map_err(|error| error.to_string())?;
                if let Some(field) = field {
                    add(&mut object, field, number_value(&field.kind, raw));
                }
            }
            WireType::LengthDelimited => {
                let content = take_delimited(&mut bytes)?;
                match field {
                    Some(field) if is_number(&field.kind) => {
                        let mut packed = content;
                        while !packed.is_empty() {
                            let raw = decode_varint(&mut packed).map_err(|e| e.to_string())?;
                            add(&mut object, field, number_value(&field.kind, raw));
                        }
                    }
                    Some(field) => {
                        let value = match &field.kind {
                            Kind::String => String::from_utf8_lossy(content).into(),
                            Kind::Message(name) => decode_message(name, content, depth)?,
                            _ => STANDARD.encode(content).into(),
                        };
                        add(&mut object, field, value);
                    }
                    None => {}
                }
            }
            WireType::SixtyFourBit => bytes = bytes.get(8..).ok_or("cut off")?,
            WireType::ThirtyTwoBit => bytes = bytes.get(4..).ok_or("cut off")?,
            _ => return Err("groups are not used".into()),
        }
    }
    Ok(Value::Object(object))
}

fn take_delimited<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Wrong> {
    let length = decode_varint(bytes).map_err(|error| error.to_string())?;
    let length = usize::try_from(length).map_err(|_| "too long")?;
    let (content, rest) = bytes.split_at_checked(length).ok_or("cut off")?;
    *bytes = rest;
    Ok(content)
}

fn add(object: &mut Map<String, Value>, field: &Field, value: Value) {
    if !field.repeated {
        object.insert(field.name.clone(), value);
        return;
    }
    let list = object
        .entry(field.name.clone())
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(list) = list {
        list.push(value);
    }
}

fn is_number(kind: &Kind) -> bool {
    !matches!(kind, Kind::String | Kind::Bytes | Kind::Message(_))
}

fn number_value(kind: &Kind, raw: u64) -> Value {
    match kind {
        Kind::Int64 => (raw as i64).to_string().into(),
        Kind::Uint64 => raw.to_string().into(),
        Kind::Bool => (raw != 0).into(),
        Kind::Enum(name) => {
            let number = raw as i32;
            let values = SCHEMA.enums.get(name);
            let named = values.and_then(|values| values.iter().find(|(_, n)| *n == number));
            named.map_or(number.into(), |(name, _)| name.clone().into())
        }
        _ => (raw as u32).into(),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_range_there_and_back() {
        let value = json!({"key": "Zm9v", "rangeEnd": "Zm9w", "limit": "7", "sort_order": "DESCEND",
                           "sort_target": 3, "keys_only": true, "no_such": 1});
        let bytes = encode("etcdserverpb.RangeRequest", &value).unwrap();
        let request = kv::RangeRequest::decode(&bytes[..]).unwrap();
        assert_eq!(
            (&request.key[..], &request.range_end[..]),
            (&b"foo"[..], &b"fop"[..])
        );
        assert_eq!(
            (request.limit, request.sort_order, request.sort_target),
            (7, 2, 3)
        );
        assert!(request.keys_only);
        let back = decode("etcdserverpb.RangeRequest", &request.encode_to_vec()).unwrap();
        assert_eq!(
            back,
            json!({"key": "Zm9v", "range_end": "Zm9w", "limit": "7", "sort_order": "DESCEND",
                   "sort_target": "MOD", "keys_only": true})
        );
    }

    #[test]
    fn messages_inside_lists_and_large_numbers() {
        let response = kv::RangeResponse {
            kvs: vec![kv::KeyValue {
                key: "foo".into(),
                mod_revision: i64::MAX,
                lease: -1,
                ..Default::default()
            }],
            more: true,
            count: 3,
        };
        let value = decode("etcdserverpb.RangeResponse", &response.encode_to_vec()).unwrap();
        assert_eq!(
            value,
            json!({"kvs": [{"key": "Zm9v", "mod_revision": "9223372036854775807", "lease": "-1"}],
                   "more": true, "count": "3"})
        );
        let bytes = encode("etcdserverpb.RangeResponse", &value).unwrap();
        assert_eq!(kv::RangeResponse::decode(&bytes[..]).unwrap(), response);
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_panics() {
        let wrong = |value: Value| encode("etcdserverpb.TxnRequest", &value).unwrap_err();
        assert!(wrong(json!([])).contains("object"));
        assert!(wrong(json!({"compare": {}})).contains("list"));
        assert!(wrong(json!({"success": [{"request_put": {"key": 5}}]})).contains("string"));
        assert!(wrong(json!({"success": [{"request_put": {"key": "?"}}]})).contains("base64"));
        assert!(wrong(json!({"success": [{"request_put": {"lease": "x"}}]})).contains("number"));
        assert!(wrong(json!({"compare": [{"result": "ABOUT"}]})).contains("ABOUT"));
        let mut deep = json!({});
        for _ in 0..100 {
            deep = json!({"success": [{"request_txn": deep}]});
        }
        assert!(wrong(deep).contains("deep"));
        for bytes in [&[0x0a][..], &[0x0a, 200], &[0xff; 12], &[0x0b], &[0x09, 1]] {
            assert!(
                decode("etcdserverpb.RangeRequest", bytes).is_err(),
                "{bytes:?}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(0u8.., 0..60)) {
            let _: Result<Value, Wrong> = decode("etcdserverpb.TxnRequest", &bytes);
            let _: Result<Value, Wrong> = decode("etcdserverpb.WatchResponse", &bytes);
        }
    }
}
