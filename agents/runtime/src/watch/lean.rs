//! Objects without what nobody looks at: the record of who owns which of their fields is often a third of their text, and more of
//! their tree.

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;

/// Fields of an object that are passed over as it is read.
pub type Unread = &'static [(&'static str, Part)];

/// What of a field is passed over.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// All of it.
    Whole,
    /// These fields of the object that it is, or of each object in the list that it is.
    Of(Unread),
}

/// `metadata.managedFields`.
pub const MANAGED_FIELDS: Unread = &[("metadata", Part::Of(&[("managedFields", Part::Whole)]))];

/// An object without its `metadata.managedFields`, which are passed over as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Lean(pub Value);

impl<'de> Deserialize<'de> for Lean {
    fn deserialize<D: Deserializer<'de>>(decoder: D) -> Result<Self, D::Error> {
        without(MANAGED_FIELDS, decoder).map(Lean)
    }
}

/// Reads an object without these fields.
///
/// # Errors
/// What is read is no JSON object.
pub fn without<'de, D: Deserializer<'de>>(unread: Unread, decoder: D) -> Result<Value, D::Error> {
    decoder.deserialize_map(Without(unread))
}

/// JSON that anybody may have written, as a tree. A [`Value`] takes a member called `$serde_json::private::RawValue` for text of JSON,
/// and reads that to any depth, until there is no stack left.
///
/// # Errors
/// It is no JSON, or nested too deep.
pub fn tree(text: &[u8]) -> serde_json::Result<Value> {
    let mut decoder = serde_json::Deserializer::from_slice(text);
    let value = Without(&[]).deserialize(&mut decoder)?;
    decoder.end()?;
    Ok(value)
}

/// Reads any value: an object, and each object of a list, without these fields.
pub struct Without(pub Unread);

impl<'de> DeserializeSeed<'de> for Without {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Value, D::Error> {
        decoder.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Without {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Without(self.0))? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key_seed(Names(self.0))? {
            match name {
                Name::Unread => drop(map.next_value::<IgnoredAny>()?),
                Name::Read(name) => {
                    fields.insert(name, map.next_value_seed(Without(&[]))?);
                }
                Name::ReadInPart(name, unread) => {
                    fields.insert(name, map.next_value_seed(Without(unread))?);
                }
            }
        }
        Ok(Value::Object(fields))
    }
}

/// Reads the name of a field, which is not written down where the field is passed over.
struct Names(Unread);

enum Name {
    Unread,
    Read(String),
    ReadInPart(String, Unread),
}

impl<'de> DeserializeSeed<'de> for Names {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, decoder: D) -> Result<Name, D::Error> {
        decoder.deserialize_str(self)
    }
}

impl Visitor<'_> for Names {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        let unread = self.0.iter().find(|(unread, _)| *unread == name);
        Ok(match unread.map(|(_, part)| *part) {
            None => Name::Read(name.to_owned()),
            Some(Part::Whole) => Name::Unread,
            Some(Part::Of(fields)) => Name::ReadInPart(name.to_owned(), fields),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn all_but_managed_fields_is_read() {
        let mut object = json!({"metadata": {"name": "p", "annotations": {"managedFields": "kept"},
            "managedFields": [{"manager": "m"}]}, "spec": {"metadata": {"managedFields": 1}}, "status": {"a": [1, null]}});
        let Lean(read) = serde_json::from_str(&object.to_string()).unwrap();
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("managedFields");
        assert_eq!(read, object);
        let Lean(again) = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(again, object);
        assert!(serde_json::from_str::<Lean>("[]").is_err());
    }

    #[test]
    fn a_name_that_means_something_to_serde_json_is_a_name() {
        let text = r#"{"a":[{"$serde_json::private::RawValue":"x"}]}"#;
        assert!(serde_json::from_str::<Value>(text).is_err());
        let read = tree(text.as_bytes()).unwrap();
        assert_eq!(read["a"][0]["$serde_json::private::RawValue"], "x");
        assert_eq!(serde_json::from_str::<Lean>(text).unwrap(), Lean(read));
        assert!(tree(b"{} x").is_err() && tree("[".repeat(200).as_bytes()).is_err());
    }

    #[test]
    fn fields_of_objects_and_of_those_in_lists_are_passed_over_and_nothing_else() {
        const UNREAD: Unread = &[
            ("gone", Part::Whole),
            ("some", Part::Of(&[("gone", Part::Whole)])),
        ];
        let odd = [
            json!({"a": {"gone": 1}, "some": {"gone": {"b": []}, "kept": {"gone": 1}}}),
            json!({"gone": [1], "some": [{"gone": "x", "a": -1}, {"gone": 2}, [{"gone": 3}], "gone"]}),
            json!({"some": null, "a": [1.5, true, "\u{e9}\n"], "ki\"nd": u64::MAX}),
            json!({"some": true}),
            json!({"some": -7}),
            json!({"some": u64::MAX}),
            json!({"some": 0.25}),
            json!({"some": "gone"}),
            json!({}),
        ];
        let pruned = |mut object: Value| {
            fn prune(value: &mut Value) {
                match value {
                    Value::Object(fields) => drop(fields.remove("gone")),
                    Value::Array(values) => values.iter_mut().for_each(prune),
                    _ => {}
                }
            }
            prune(&mut object);
            if let Some(some) = object.get_mut("some") {
                prune(some);
            }
            object
        };
        for object in odd {
            let text = object.to_string();
            let read = without(UNREAD, &mut serde_json::Deserializer::from_str(&text)).unwrap();
            assert_eq!(read, pruned(object.clone()), "{text}");
            assert_eq!(without(UNREAD, object.clone()).unwrap(), pruned(object));
        }
        assert!(without(UNREAD, json!("gone")).is_err());
    }
}
