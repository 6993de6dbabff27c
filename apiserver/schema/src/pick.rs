//! Reads only some members of a JSON object.
//!
//! Whoever needs two fields of an object of thousands of bytes should not pay for a tree of all of them. What nobody asked
//! for is still checked as if it were kept, so that a text is refused here if and only if `serde_json::Value` refuses it.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Which members to read, as a tree of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    named: Vec<(Box<str>, Pick)>,
    /// Whether members that are not named are read as a whole.
    others: bool,
}

static WHOLE: Pick = Pick {
    named: Vec::new(),
    others: true,
};
static NOTHING: Pick = Pick {
    named: Vec::new(),
    others: false,
};

impl Pick {
    /// What lies at these paths, whose names are joined by dots.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Pick {
        let mut pick = NOTHING.clone();
        paths.into_iter().for_each(|path| pick.put(path, &WHOLE));
        pick
    }

    /// Everything but what lies at these paths.
    pub fn without<'a>(paths: impl IntoIterator<Item = &'a str>) -> Pick {
        let mut pick = WHOLE.clone();
        paths.into_iter().for_each(|path| pick.put(path, &NOTHING));
        pick
    }

    fn put(&mut self, path: &str, end: &Pick) {
        let others = self.others;
        let (name, rest) = match path.split_once('.') {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        let at = self.named.iter().position(|(known, _)| **known == *name);
        let at = at.unwrap_or_else(|| {
            let below = Pick {
                named: Vec::new(),
                others,
            };
            self.named.push((name.into(), below));
            self.named.len() - 1
        });
        let below = &mut self.named[at].1;
        match rest {
            None => below.clone_from(end),
            // What is above it says the same already.
            Some(_) if *below == *end => {}
            Some(rest) => below.put(rest, end),
        }
    }

    /// The object with the picked members; others are not in it. What is no object and not read as a whole reads as null.
    pub fn read(&self, json: &[u8]) -> serde_json::Result<Value> {
        // Seen once here, it need not be seen for every string.
        let text = std::str::from_utf8(json).map_err(serde_json::Error::custom)?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let value = self.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for &Pick {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Picking(self))
    }
}

struct Picking<'p>(&'p Pick);

impl<'de> Visitor<'de> for Picking<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut picked = Map::new();
        while let Some(found) = map.next_key_seed(Name(self.0))? {
            let Some((name, below)) = found else {
                map.next_value_seed(Checked)?;
                continue;
            };
            let value = match *below == WHOLE {
                true => map.next_value()?,
                false => map.next_value_seed(below)?,
            };
            picked.insert(name, value);
        }
        Ok(Value::Object(picked))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Value, A::Error> {
        Checked.visit_seq(seq).map(|()| Value::Null)
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// A member's name, with what is picked below it; none where nothing is.
struct Name<'p>(&'p Pick);

impl<'de, 'p> DeserializeSeed<'de> for Name<'p> {
    type Value = Option<(String, &'p Pick)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'p> Visitor<'_> for Name<'p> {
    type Value = Option<(String, &'p Pick)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let found = self.0.named.iter().find(|(known, _)| **known == *name);
        let below = match found {
            Some((_, below)) => Some(below).filter(|below| **below != NOTHING),
            None => self.0.others.then_some(&WHOLE),
        };
        Ok(below.map(|below| (name.to_owned(), below)))
    }
}

/// Reads a value and keeps nothing of it. `IgnoredAny` would let pass what is no text, no number, or nested too deeply.
struct Checked;

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(Checked)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Checked)?.is_some() {
            map.next_value_seed(Checked)?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Checked)?.is_some() {}
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(paths: &[&str], json: &str) -> Value {
        Pick::of(paths.iter().copied())
            .read(json.as_bytes())
            .unwrap()
    }

    #[test]
    fn only_what_is_picked_is_there() {
        let json = r#"{"a":{"b":[1,{"c":2}],"d":"x"},"e":{"f":1},"g":null}"#;
        for (paths, expected) in [
            (&["a.b"][..], json!({"a": {"b": [1, {"c": 2}]}})),
            (
                &["a.b", "e"],
                json!({"a": {"b": [1, {"c": 2}]}, "e": {"f": 1}}),
            ),
            (
                &["a.d", "a", "a.b"],
                json!({"a": {"b": [1, {"c": 2}], "d": "x"}}),
            ),
            (
                &["e.f.x", "g.x", "z.z"],
                json!({"e": {"f": null}, "g": null}),
            ),
            (&[], json!({})),
        ] {
            assert_eq!(read(paths, json), expected, "{paths:?}");
        }
        assert_eq!(read(&["a"], "[1]"), Value::Null);
        for (paths, expected) in [
            (&["a.b", "e"][..], json!({"a": {"d": "x"}, "g": null})),
            (&["a", "a.b", "e.f.x"], json!({"e": {"f": null}, "g": null})),
        ] {
            let pick = Pick::without(paths.iter().copied());
            assert_eq!(pick.read(json.as_bytes()).unwrap(), expected, "{paths:?}");
        }
        assert_eq!(read(&["a"], r#"{"\u0061":1,"a":2}"#), json!({"a": 2}));
    }

    #[test]
    fn what_a_complete_reading_refuses_is_refused() {
        let deep = |levels: usize| {
            format!("{{\"b\":{}1{}}}", "[".repeat(levels), "]".repeat(levels)).into_bytes()
        };
        let pick = Pick::of(["a", "c.d"]);
        for json in [
            deep(100),
            deep(126),
            deep(127),
            deep(200),
            b"{\"b\":1e999}".to_vec(),
            b"{\"b\":\"\\ud800\"}".to_vec(),
            b"{\"b\":\"\\u00fc\"}".to_vec(),
            b"{\"b\":\"\xff\"}".to_vec(),
            b"{\"\xff\":1}".to_vec(),
            b"{\"b\":01}".to_vec(),
            b"{\"b\":1} x".to_vec(),
            b"{\"c\":[{}, 18446744073709551616, -1]}".to_vec(),
            b"{\"b\":1".to_vec(),
            b"".to_vec(),
        ] {
            let complete = serde_json::from_slice::<Value>(&json).is_ok();
            let text = String::from_utf8_lossy(&json);
            assert_eq!(pick.read(&json).is_ok(), complete, "{text}");
        }
    }
}
