//! JSON text to a value, as `serde_json` reads it, in less time: the server reads what it has stored itself, whose members
//! stand in order nearly everywhere. A map is built of all its members at once, which takes one comparison for each instead
//! of a search, and fills its nodes.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::de::Read;
use serde_json::{Error, Map, Number, Value};

/// Maps of so many members are built one by one: that is as fast, and takes no list of them.
const FEW: usize = 3;
/// Few texts have more in all the maps around one place.
pub(crate) const MEMBERS_EXPECTED: usize = 32;

/// What `serde_json::from_slice` answers, errors included, but for [`Json`]'s odd name, which is a name here.
pub fn json(bytes: &[u8]) -> Result<Value, Error> {
    // Seen at once, it need not be seen for each string.
    match std::str::from_utf8(bytes) {
        Ok(text) => document(serde_json::Deserializer::from_str(text)),
        // It says where the fault is.
        Err(_) => document(serde_json::Deserializer::from_slice(bytes)),
    }
}

fn document<'de, R: Read<'de>>(mut reader: serde_json::Deserializer<R>) -> Result<Value, Error> {
    let mut members = Vec::with_capacity(MEMBERS_EXPECTED);
    let value = Tree(&mut members).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// A value within something else, read like that. A [`Value`] takes a member called `$serde_json::private::RawValue` for text of JSON,
/// and reads that to any depth, until there is no stack left.
pub struct Json(pub Value);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        let value = Tree(&mut Vec::new()).deserialize(deserializer)?;
        Ok(Json(value))
    }
}

/// Reads a value. Holds the members of all the maps around it that were read before it.
struct Tree<'m>(&'m mut Vec<(String, Value)>);

impl Tree<'_> {
    fn below(&mut self) -> Tree<'_> {
        Tree(self.0)
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any valid JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.below())? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<Value, A::Error> {
        let before = self.0.len();
        while let Some(name) = members.next_key_seed(Name)? {
            let value = members.next_value_seed(self.below())?;
            self.0.push((name, value));
        }
        Ok(Value::Object(map_of(self.0.drain(before..))))
    }
}

/// A map of members that nearly always stand in order. Of those with the same name the last one stays.
pub(crate) fn map_of(
    members: impl ExactSizeIterator<Item = (String, Value)>,
) -> Map<String, Value> {
    match members.len() {
        0..=FEW => {
            let mut map = Map::new();
            members.for_each(|(name, value)| drop(map.insert(name, value)));
            map
        }
        _ => members.collect(),
    }
}

/// Reads the name of a member.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        String::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Texts of JSON with names in any order, which come again.
    fn texts() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            prop::sample::select(vec![
                "null",
                "true",
                "0",
                "-0",
                "-1",
                "1.50",
                "1e3",
                "-0.0",
                "1e400",
                "18446744073709551615",
                "-9223372036854775808",
                "18446744073709551616",
                "\"\"",
                r#""\u00fc\n""#,
                "\"ü\"",
                "{}",
                "[]",
                "x",
                ""
            ])
            .prop_map(str::to_owned),
            "\"[a-z]{0,3}\"",
        ];
        leaf.prop_recursive(4, 64, 12, |inner| {
            let member = ("[a-k]|ü|\\\\u0061", inner.clone());
            let member = member.prop_map(|(name, value)| format!("\"{name}\" : {value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4)
                    .prop_map(|items| format!("[{}]", items.join(","))),
                prop::collection::vec(member, 0..30)
                    .prop_map(|members| format!("{{{}}}", members.join(" ,"))),
            ]
        })
    }

    fn agrees(bytes: &[u8]) {
        let (own, other) = (json(bytes), serde_json::from_slice::<Value>(bytes));
        match (own, other) {
            (Ok(own), Ok(other)) => {
                assert_eq!(own, other);
                assert_eq!(own.to_string(), other.to_string());
            }
            (Err(own), Err(other)) => assert_eq!(own.to_string(), other.to_string()),
            (own, other) => panic!("{own:?} {other:?}"),
        }
    }

    proptest! {
        #[test]
        fn it_is_read_as_by_others(text in texts(), cut in 0..200_usize) {
            agrees(text.as_bytes());
            agrees(&text.as_bytes()[..cut.min(text.len())]);
        }
    }

    #[test]
    fn a_name_that_means_something_to_serde_json_is_a_name() {
        let text = r#"[{"$serde_json::private::RawValue":"x"}]"#;
        assert!(serde_json::from_str::<Value>(text).is_err());
        let Json(read) = serde_json::from_str(text).unwrap();
        assert_eq!(read[0]["$serde_json::private::RawValue"], "x");
        assert_eq!(json(text.as_bytes()).unwrap(), read);
        let no_text = b"[{\"$serde_json::private::RawValue\":\"[\"},\"\xff\"]";
        let error = json(no_text).unwrap_err().to_string();
        assert!(error.starts_with("invalid unicode code point"), "{error}");
    }

    #[test]
    fn what_is_no_text_or_too_deep_is_refused_alike() {
        for bytes in [
            &b"\"\xff\""[..],
            b"{\"a\":1,\"\xff\":2}",
            b"",
            b"{} {}",
            b" [1] ",
        ] {
            agrees(bytes);
        }
        for depth in [100, 126, 127, 128, 200] {
            agrees(format!("{}{}", "[".repeat(depth), "]".repeat(depth)).as_bytes());
            let maps = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
            agrees(maps.as_bytes());
        }
    }
}
