//! YAML text to a value, with the mapping keys that occurred twice.
//!
//! Bounded in depth, nodes, scalar bytes and alias expansion, since a small text can describe a
//! huge value.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Budget, DuplicateKeyPolicy, Options, Spanned};

use super::{Expect, PROBLEMS_MAX, Problems, Step, Trail};

const DEPTH_MAX: usize = 256;
/// Lines are told no deeper: with its place a value takes much more of the stack.
const DEPTH_OF_LINES_MAX: usize = 64;
const NODES_MAX: usize = 500_000;
const SCALAR_BYTES_MAX: usize = 16 << 20;
const ALIASED_EVENTS_MAX: usize = 100_000;

/// Parses one YAML document; notes unknown fields, which are left out, and keys that occur again,
/// of which the last wins.
pub(super) fn parse(
    bytes: &[u8],
    expect: Expect<'_>,
    problems: &mut Problems,
) -> Result<Value, String> {
    let text = String::from_utf8_lossy(bytes);
    let node: Node = serde_saphyr::from_str_with_options(&text, options(DEPTH_MAX))
        .map_err(|e| format!("error converting YAML to JSON: yaml: {e}"))?;
    let value = value_of(node, expect, None, problems);
    if problems.has_duplicates() {
        // Kubernetes tells them by their lines, for which it is worth to read the text again.
        let options = options(DEPTH_OF_LINES_MAX);
        let twice: Result<Twice, _> = serde_saphyr::from_str_with_options(&text, options);
        problems.lines = twice.map(Twice::texts).unwrap_or_default();
    }
    Ok(value)
}

fn options(depth_max: usize) -> Options {
    let mut budget = Budget::default();
    budget.max_depth = depth_max;
    budget.max_nodes = NODES_MAX;
    budget.max_events = 3 * NODES_MAX;
    budget.max_total_scalar_bytes = SCALAR_BYTES_MAX;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::LastWins;
    options.alias_limits.max_total_replayed_events = ALIASED_EVENTS_MAX;
    options.with_snippet = false;
    options
}

/// A YAML value that still has its duplicates.
enum Node {
    Leaf(Value),
    List(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

fn value_of(
    node: Node,
    expect: Expect<'_>,
    trail: Option<&Trail<'_>>,
    problems: &mut Problems,
) -> Value {
    match node {
        Node::Leaf(value) => value,
        Node::List(items) => {
            let values = items.into_iter().enumerate().map(|(i, item)| {
                let here = Trail::new(trail, Step::Index(i));
                value_of(item, expect.item(), Some(&here), problems)
            });
            Value::Array(values.collect())
        }
        Node::Mapping(pairs) => {
            let mut map = Map::new();
            for (Key(key), item) in pairs {
                let here = Trail::new(trail, Step::Name(&key));
                let Some(inner) = expect.member(&key) else {
                    problems.unknown(&here);
                    continue;
                };
                if map.contains_key(&key) {
                    problems.duplicate(&here);
                }
                let value = value_of(item, inner, Some(&here), problems);
                map.insert(key, value);
            }
            Value::Object(map)
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// The keys that occur again in a text, each with the line of its value.
struct Twice(Vec<(u64, String)>);

impl Twice {
    fn texts(self) -> Vec<String> {
        let text = |(line, key): (u64, String)| {
            let key = crate::field::go_quote(&key);
            format!("line {line}: key {key} already set in map")
        };
        self.0.into_iter().map(text).collect()
    }
}

impl<'de> Deserialize<'de> for Twice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Twice, D::Error> {
        deserializer.deserialize_any(TwiceVisitor)
    }
}

struct TwiceVisitor;

impl<'de> Visitor<'de> for TwiceVisitor {
    type Value = Twice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        NodeVisitor.expecting(f)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_u128<E>(self, _: u128) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_unit<E>(self) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_none<E>(self) -> Result<Twice, E> {
        Ok(Twice(Vec::new()))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Twice, D::Error> {
        Twice::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Twice, A::Error> {
        let mut found = Vec::new();
        while let Some(Twice(inner)) = access.next_element()? {
            found.extend(inner);
            found.truncate(PROBLEMS_MAX);
        }
        Ok(Twice(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Twice, A::Error> {
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        while let Some(Key(key)) = access.next_key()? {
            let value: Spanned<Twice> = access.next_value()?;
            found.extend(value.value.0);
            if !seen.insert(key.clone()) {
                found.push((value.referenced.line(), key));
            }
            found.truncate(PROBLEMS_MAX);
        }
        Ok(Twice(found))
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value that JSON can express")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        // As in JSON, integers beyond 64 signed bits are floating point numbers.
        Ok(Node::Leaf(match i64::try_from(value) {
            Ok(integer) => integer.into(),
            Err(_) => (value as f64).into(),
        }))
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        Number::from_f64(value)
            .map(|n| Node::Leaf(Value::Number(n)))
            .ok_or_else(|| E::custom(format!("json: unsupported value: {value}")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = access.next_entry()? {
            pairs.push(pair);
        }
        Ok(Node::Mapping(pairs))
    }
}

/// A mapping key: any scalar, as its text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        match Node::deserialize(deserializer)? {
            Node::Leaf(Value::String(text)) => Ok(Key(text)),
            Node::Leaf(scalar) => Ok(Key(scalar.to_string())),
            _ => Err(serde::de::Error::custom("a mapping key must be a scalar")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Value, String> {
        parse(text.as_bytes(), Expect::Any, &mut Problems::default())
    }

    #[test]
    fn reads_values() {
        for (text, value) in [
            (
                "a: 1\nb: [x, 'y', \"z\", 1.5, true, null, ~]\n",
                json!({"a": 1, "b": ["x", "y", "z", 1.5, true, null, null]}),
            ),
            ("---\na: |\n  two\n  lines\n", json!({"a": "two\nlines\n"})),
            (
                "a: '1'\nb: \"true\"\nc: 1Gi\nd: 010m\n",
                json!({"a": "1", "b": "true", "c": "1Gi", "d": "010m"}),
            ),
            ("{\"a\": {\"b\": [1]}}", json!({"a": {"b": [1]}})),
            ("1: x\ntrue: z\n", json!({"1": "x", "true": "z"})),
            (
                "base: &b {x: 1}\nuse: *b\n",
                json!({"base": {"x": 1}, "use": {"x": 1}}),
            ),
            ("a:\n", json!({"a": null})),
            (
                "t: 2026-11-21T00:00:00Z\n",
                json!({"t": "2026-11-21T00:00:00Z"}),
            ),
            (
                "big: 18446744073709551615\n",
                json!({"big": 18446744073709551615.0}),
            ),
        ] {
            assert_eq!(read(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn finds_duplicates() {
        let mut found = Problems::default();
        let text = b"a: 1\nb:\n- c: 1\n  c: 2\na: 2\n";
        let value = parse(text, Expect::Any, &mut found).unwrap();
        assert_eq!(value, json!({"a": 2, "b": [{"c": 2}]}));
        assert_eq!(
            found.texts(),
            [
                r#"line 4: key "c" already set in map"#,
                r#"line 5: key "a" already set in map"#
            ]
        );
        let mut found = Problems::default();
        let text = b"\na: {b: 1, b: 2}\na:\n  b: 1\n'x y': [1]\n'x y':\n- 2\n{}";
        parse(&text[..text.len() - 3], Expect::Any, &mut found).unwrap();
        assert_eq!(
            found.texts(),
            [
                r#"line 2: key "b" already set in map"#,
                r#"line 4: key "a" already set in map"#,
                r#"line 7: key "x y" already set in map"#
            ]
        );
    }

    #[test]
    fn refuses_what_is_broken_or_explodes() {
        assert!(read("a: [").is_err());
        assert!(read("a: b: c").is_err());
        assert!(read("? {a: 1}\n: 2\n").is_err());
        assert!(read(&"[".repeat(100_000)).is_err());
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(",");
            laughs += &format!("a{i}: &a{i} [{refs}]\n");
        }
        assert!(read(&laughs).is_err());
        let long = format!(
            "a: &a {}\nb: [{}]\n",
            "x".repeat(1 << 20),
            vec!["*a"; 1000].join(",")
        );
        assert!(read(&long).is_err());
    }
}
