//! Makes other inputs of an input: by bytes, and of what is JSON also by its parts, which gets behind the parser.

use crate::chance::Chance;
use serde_json::{Map, Value};

/// Inputs do not grow beyond this.
const BYTES_MAX: usize = 64 << 10;
/// Words that mean something to some reader.
const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "1e400",
    "-9223372036854775808",
    "18446744073709551616",
    "\\u0000",
    "\\ud800",
    "\\u",
    "\u{0}",
    "\u{fffd}",
    "ß",
    "\u{202e}",
    "\r\n",
    "\t",
    "---\n",
    "&a ",
    "*a",
    "<<: ",
    "!!binary ",
    "!=",
    "=",
    " in (",
    " notin ",
    "(",
    ")",
    "~1",
    "~0",
    "/-",
    "/0",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/args",
    "k8s\u{0}",
    ".",
    "..",
    "%",
    "0x",
    "1Ki",
    "n",
    "E",
    "@every 1s",
    "has(",
    "self.",
    ".all(x, ",
    "duration('",
    "matches('",
    "x-kubernetes-",
    "f:",
    "k:{",
    "v:",
    "i:",
];

/// An input like this one, or like it and another one.
pub fn changed(input: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut bytes = input.to_vec();
    if chance.below(2) == 0
        && let Ok(mut value) = serde_json::from_slice::<Value>(input)
    {
        let spare = serde_json::from_slice(other).unwrap_or(Value::Null);
        for _ in 0..=chance.below(4) {
            change_value(&mut value, &spare, chance, 0);
        }
        bytes = value.to_string().into_bytes();
        if chance.below(4) != 0 {
            return cut(bytes);
        }
    }
    for _ in 0..=chance.below(4) {
        change_bytes(&mut bytes, other, chance);
    }
    cut(bytes)
}

fn cut(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change_bytes(bytes: &mut Vec<u8>, other: &[u8], chance: &mut Chance) {
    let at = chance.below(bytes.len() + 1);
    let end = bytes.len().min(at + 1 + chance.below(16));
    match chance.below(8) {
        0 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        1 if at < bytes.len() => bytes[at] = chance.number().to_le_bytes()[0],
        2 => {
            bytes.drain(at..end);
        }
        3 => {
            let piece = bytes[at..end].to_vec();
            let times = 1 + chance.below(200);
            bytes.splice(at..at, piece.repeat(times));
        }
        4 => bytes.truncate(at),
        5 => {
            let from = chance.below(other.len() + 1);
            let piece = other[from..other.len().min(from + 64)].to_vec();
            bytes.splice(at..at, piece);
        }
        _ => {
            let word = chance.one_of(WORDS).copied().unwrap_or_default();
            let times = [1, 1, 1, 300][chance.below(4)];
            bytes.splice(at..at, word.repeat(times).into_bytes());
        }
    }
}

/// Walks to a part at random, and makes something else of it.
fn change_value(value: &mut Value, spare: &Value, chance: &mut Chance, depth: usize) {
    let goes_on = depth < 16 && chance.below(4) != 0;
    match value {
        Value::Object(map) if goes_on && !map.is_empty() => change_map(map, spare, chance, depth),
        Value::Array(list) if goes_on && !list.is_empty() => {
            let at = chance.below(list.len());
            match chance.below(6) {
                0 => {
                    list.remove(at);
                }
                1 => list.push(list[at].clone()),
                2 => list.swap(0, at),
                _ => change_value(&mut list[at], spare, chance, depth + 1),
            }
        }
        _ => *value = strange(value, spare, chance),
    }
}

fn change_map(map: &mut Map<String, Value>, spare: &Value, chance: &mut Chance, depth: usize) {
    let at = chance.below(map.len());
    let Some(key) = map.keys().nth(at).cloned() else {
        return;
    };
    match chance.below(8) {
        0 => {
            map.remove(&key);
        }
        1 => {
            let taken = map.remove(&key).unwrap_or(Value::Null);
            let name = chance.one_of(WORDS).copied().unwrap_or_default();
            map.insert(format!("{name}{key}"), taken);
        }
        2 => {
            if let Some((name, part)) = part_of(spare, chance) {
                map.insert(name, part);
            }
        }
        _ => {
            if let Some(inner) = map.get_mut(&key) {
                change_value(inner, spare, chance, depth + 1);
            }
        }
    }
}

/// A member of an object, wherever it lies.
fn part_of(value: &Value, chance: &mut Chance) -> Option<(String, Value)> {
    match value {
        Value::Object(map) => {
            let (name, inner) = map.iter().nth(chance.below(map.len()))?;
            match chance.below(3) {
                0 => Some((name.clone(), inner.clone())),
                _ => part_of(inner, chance).or_else(|| Some((name.clone(), inner.clone()))),
            }
        }
        Value::Array(list) => part_of(chance.one_of(list)?, chance),
        _ => None,
    }
}

/// Something of another sort, or another value of this one.
fn strange(value: &Value, spare: &Value, chance: &mut Chance) -> Value {
    let nested = |mut inner: Value, levels: usize| {
        for _ in 0..levels {
            inner = Value::Array(vec![inner]);
        }
        inner
    };
    match chance.below(14) {
        0 => Value::Null,
        1 => Value::Bool(chance.below(2) == 0),
        2 => i64::MIN.into(),
        3 => u64::MAX.into(),
        4 => (chance.below(5) as f64 - 2.5).into(),
        5 => Value::String(String::new()),
        6 => Value::String(chance.one_of(WORDS).copied().unwrap_or_default().to_owned()),
        7 => Value::Array(Vec::new()),
        8 => Value::Object(Map::new()),
        9 => nested(value.clone(), 1 + chance.below(100)),
        10 => part_of(spare, chance).map_or(Value::Null, |(_, part)| part),
        11 => Value::String("x".repeat(1 + chance.below(300))),
        12 => Value::Array(vec![value.clone(), value.clone()]),
        _ => (i64::try_from(chance.below(70_000)).unwrap_or(0) - 10).into(),
    }
}
