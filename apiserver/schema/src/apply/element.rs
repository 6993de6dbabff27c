//! One step of a path, in its written form: `f:<name>`, `k:<the keys of an item>`, `v:<an item>`,
//! `i:<a position>`.

use std::cmp::Ordering;

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use crate::field::go_quote;
use crate::read::json;

/// Few keys of items are longer, in bytes.
const KEYS_EXPECTED: usize = 48;

pub(super) fn field(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push_str("f:");
    text.push_str(name);
    text
}

pub(super) fn value(item: &Value) -> String {
    format!("v:{}", json_of(item))
}

/// JSON as Go writes it, where no text can be taken for a tag of HTML.
fn json_of(value: &Value) -> String {
    let mut text = value.to_string();
    for (plain, escaped) in [
        ('<', "\\u003c"),
        ('>', "\\u003e"),
        ('&', "\\u0026"),
        ('\u{2028}', "\\u2028"),
        ('\u{2029}', "\\u2029"),
    ] {
        if text.contains(plain) {
            text = text.replace(plain, escaped);
        }
    }
    text
}

/// The element of an item with these keys, which must be sorted by name.
pub(super) fn keys<'a>(keys: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
    let mut text = String::with_capacity(KEYS_EXPECTED);
    text.push_str("k:{");
    for (i, (name, value)) in keys.into_iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        push_string(&mut text, name);
        text.push(':');
        match value {
            Value::String(value) => push_string(&mut text, value),
            other => text.push_str(&json_of(other)),
        }
    }
    text.push('}');
    text
}

fn push_string(text: &mut String, value: &str) {
    let plain = |byte: u8| (0x20..0x7f).contains(&byte) && !b"\"\\<>&".contains(&byte);
    if value.bytes().all(plain) {
        text.push('"');
        text.push_str(value);
        text.push('"');
    } else {
        text.push_str(&json_of(&Value::from(value)));
    }
}

/// The one spelling of an element that somebody wrote. None where it is none.
pub(super) fn canonical(text: &str) -> Option<String> {
    let (class, rest) = text.split_once(':')?;
    match class {
        "f" => Some(text.to_owned()),
        "k" => {
            let read = json(rest.as_bytes()).ok()?;
            let map = read.as_object()?;
            Some(keys(map.iter().map(|(name, value)| (name.as_str(), value))))
        }
        "v" => Some(value(&json(rest.as_bytes()).ok()?)),
        "i" => Some(format!("i:{}", rest.parse::<i64>().ok()?)),
        _ => None,
    }
}

/// How messages show an element.
pub(super) fn shown(text: &str) -> String {
    let (class, rest) = text.split_at(text.len().min(2));
    match class {
        "f:" => format!(".{rest}"),
        "i:" => format!("[{rest}]"),
        "v:" => match json(rest.as_bytes()) {
            Ok(item) => format!("[={}]", shown_value(&item)),
            Err(_) => format!("[={rest}]"),
        },
        _ => {
            let read = json(rest.as_bytes()).unwrap_or_default();
            let members = read.as_object().into_iter().flatten();
            let keys = members.map(|(name, value)| format!("{name}={}", shown_value(value)));
            format!("[{}]", keys.collect::<Vec<_>>().join(","))
        }
    }
}

fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => go_quote(text),
        other => other.to_string(),
    }
}

/// Kubernetes' order: names, keys, values, positions; numbers by size.
pub(super) fn order(a: &str, b: &str) -> Ordering {
    let class = |text: &str| match text.as_bytes().first() {
        Some(b'f') => 0,
        Some(b'k') => 1,
        Some(b'v') => 2,
        _ => 3,
    };
    let classes = class(a).cmp(&class(b));
    if classes != Ordering::Equal || class(a) == 0 {
        return classes.then_with(|| a.cmp(b));
    }
    if let Some(order) = order_of_texts(a, b) {
        return order;
    }
    let parsed = |text: &str| json(text.get(2..)?.as_bytes()).ok();
    match (parsed(a), parsed(b)) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let pairs = a.iter().zip(&b);
            let unequal = pairs
                .map(|((a_name, a), (b_name, b))| {
                    a_name.cmp(b_name).then_with(|| order_values(a, b))
                })
                .find(|order| *order != Ordering::Equal);
            unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Some(a), Some(b)) => order_values(&a, &b),
        _ => a.cmp(b),
    }
}

/// The order of two elements whose texts first differ within a string: that of the strings.
fn order_of_texts(a: &str, b: &str) -> Option<Ordering> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let at = a.iter().zip(b).position(|(a, b)| a != b)?;
    let is_within_string = a[..at].iter().filter(|byte| **byte == b'"').count() % 2 == 1;
    if !is_within_string || a.contains(&b'\\') || b.contains(&b'\\') {
        return None;
    }
    Some(match (a[at], b[at]) {
        (b'"', _) => Ordering::Less,
        (_, b'"') => Ordering::Greater,
        (a, b) => a.cmp(&b),
    })
}

fn order_values(a: &Value, b: &Value) -> Ordering {
    let class = |value: &Value| match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        _ => 3,
    };
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => {
                let float = |n: &serde_json::Number| n.as_f64().unwrap_or_default();
                float(a).total_cmp(&float(b))
            }
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => class(a)
            .cmp(&class(b))
            .then_with(|| a.to_string().cmp(&b.to_string())),
    }
}

/// Writes `managedFields` as Kubernetes does: where the items of a list are told apart by numbers,
/// these go by size. Everything else is in the order of a JSON map anyway.
pub struct InOrder<'a>(pub &'a Value);

impl Serialize for InOrder<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Array(items) => {
                let mut out = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    out.serialize_element(&InOrder(item))?;
                }
                out.end()
            }
            Value::Object(map) => {
                let mut out = serializer.serialize_map(Some(map.len()))?;
                let of_items = |key: &String| !key.starts_with("f:") && key.contains(':');
                if map.keys().any(of_items) {
                    let mut members: Vec<(&String, &Value)> = map.iter().collect();
                    let place = |key: &str| u8::from(key != ".");
                    members.sort_by(|(a, _), (b, _)| {
                        place(a).cmp(&place(b)).then_with(|| order(a, b))
                    });
                    for (key, value) in members {
                        out.serialize_entry(key, &InOrder(value))?;
                    }
                } else {
                    for (key, value) in map {
                        out.serialize_entry(key, &InOrder(value))?;
                    }
                }
                out.end()
            }
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn elements_are_written_as_json() {
        let (port, protocol) = (json!(80), json!("TCP"));
        assert_eq!(
            keys([("containerPort", &port), ("protocol", &protocol)]),
            r#"k:{"containerPort":80,"protocol":"TCP"}"#
        );
        let odd = json!("a\"\u{1}ü");
        assert_eq!(keys([("n", &odd)]), format!("k:{{\"n\":{odd}}}"));
        assert_eq!(value(&json!("x")), "v:\"x\"");
        assert_eq!(value(&json!("<a&b>")), r#"v:"\u003ca\u0026b\u003e""#);
        assert_eq!(keys([("n", &json!("a>"))]), r#"k:{"n":"a\u003e"}"#);
        assert_eq!(canonical(r#"v:"<""#), canonical(r#"v:"\u003c""#));
        // To serde_json it would mean the JSON in that text.
        let named = r#"v:{"$serde_json::private::RawValue":"x"}"#;
        assert_eq!(canonical(named).as_deref(), Some(named));
    }

    #[test]
    fn numbers_go_by_size() {
        let fields = json!([{"fieldsV1": {"f:ports": {".": {},
            "k:{\"port\":80}": {}, "k:{\"port\":443}": {}, "k:{\"port\":8080}": {"f:b": {}, "f:a": {}}}}}]);
        assert_eq!(
            serde_json::to_string(&InOrder(&fields)).unwrap(),
            r#"[{"fieldsV1":{"f:ports":{".":{},"k:{\"port\":80}":{},"k:{\"port\":443}":{},"k:{\"port\":8080}":{"f:a":{},"f:b":{}}}}}]"#
        );
        for (less, more) in [
            (r#"k:{"name":"a"}"#, r#"k:{"name":"a b"}"#),
            (r#"k:{"name":"a!"}"#, r#"k:{"name":"b"}"#),
            (r#"k:{"name":"a\"b"}"#, r#"k:{"name":"a#"}"#),
            (r#"k:{"name":"Z"}"#, r#"k:{"name":"é"}"#),
            (r#"k:{"a":1}"#, r#"k:{"ab":0}"#),
            (r#"v:"a""#, r#"v:"a b""#),
            (r#"k:{"p":80,"q":"TCP"}"#, r#"k:{"p":80,"q":"UDP"}"#),
        ] {
            assert_eq!(order(less, more), Ordering::Less, "{less} {more}");
            assert_eq!(order(more, less), Ordering::Greater, "{more} {less}");
        }
        assert_eq!(order("v:9", "v:10"), Ordering::Less);
        assert_eq!(order("v:9", "v:\"1\""), Ordering::Less);
        assert_eq!(order("f:z", "k:{}"), Ordering::Less);
        assert_eq!(order("i:2", "v:3"), Ordering::Greater);
    }
}
