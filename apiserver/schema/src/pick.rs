//! Reads only some members of a JSON object.
//!
//! Whoever needs two fields of an object of thousands of bytes should not pay for a tree of all of them. What nobody asked
//! for is still checked as if it were kept, so that a text is refused here if and only if [`read::json`] refuses it.

pub mod leaves;
mod plain;
mod scan;

use serde::de::Error;
use serde_json::Value;

use crate::read;
use scan::{Refused, Scanner};

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
        let text = std::str::from_utf8(json).map_err(serde_json::Error::custom)?;
        let picked = Scanner::new(text).document(self);
        picked.map_err(|Refused| match read::json(json) {
            Err(error) => error,
            Ok(_) => serde_json::Error::custom("not a JSON text"),
        })
    }

    /// What is picked below a name.
    fn below(&self, name: &str) -> &Pick {
        let named = self.named.iter().find(|(known, _)| **known == *name);
        match (named, self.others) {
            (Some((_, below)), _) => below,
            (None, true) => &WHOLE,
            (None, false) => &NOTHING,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    /// What is picked of a value that was read completely.
    fn of_complete(pick: &Pick, value: Value) -> Value {
        let Value::Object(map) = value else {
            return Value::Null;
        };
        let members = map.into_iter().filter_map(|(name, value)| {
            let below = pick.below(&name);
            let value = match *below == WHOLE {
                true => value,
                false => of_complete(below, value),
            };
            (*below != NOTHING).then_some((name, value))
        });
        Value::Object(members.collect::<Map<_, _>>())
    }

    fn compare(pick: &Pick, json: &str) {
        let complete = serde_json::from_str::<Value>(json).ok();
        let expected = complete.map(|value| of_complete(pick, value));
        assert_eq!(pick.read(json.as_bytes()).ok(), expected, "{json}");
    }

    proptest! {
        #[test]
        fn reads_and_refuses_as_a_complete_reading(
            text in r#"[\[\]{}",:0-9a-e.\\u -]{0,24}|\PC{0,20}"#,
            number in "-?[0-9.eE+-]{1,12}",
            string in r#"([a-c]|\\[\\"/bfnrtu]|\\u[0-9a-fA-F]{4}|\\ud[89a-f]00|[\x00-\x20]){0,6}"#,
            (a, b) in (0..3_usize, 0..3_usize),
        ) {
            let picks = [Pick::of(["a", "b.c"]), Pick::without(["a", "b.c"]), Pick::of([])];
            let values = [text, number, format!("\"{string}\"")];
            for pick in &picks {
                compare(pick, &values[a]);
                let (a, b) = (&values[a], &values[b]);
                compare(pick, &format!(r#" {{"a" :{a}, "b": {{"c": {b}, "d":[1,{a}]}}, "e": {b}}} "#));
                compare(pick, &format!(r#"{{"b":1,"b":{{"c":{b},"c":2}},{a}:{b}}}"#));
            }
        }
    }

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
        compare(
            &Pick::of(["a"]),
            r#"{"a":{"s":"\"\u00fc\n","o":{"b":{},"b":{"c":"x"}},"l":["\"",{"n":-1.5e3}],"t":true}}"#,
        );
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
    fn a_name_that_means_something_to_serde_json_is_a_name() {
        let json = r#"{"a":[{"$serde_json::private::RawValue":"x"}],"b":1}"#;
        let complete = crate::read::json(json.as_bytes()).unwrap();
        assert_eq!(read(&["a", "b"], json), complete);
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
            br#"{"b":"\"\\\/\b\f\n\r\t"}"#.to_vec(),
            br#"{"b":{"\"\\\/\b\f\n\r\t":"\u00fc\n"}}"#.to_vec(),
            br#"{"b":{"\n\ud800":1}}"#.to_vec(),
            br#"{"b":{"\n\q":1}}"#.to_vec(),
            br#"{"b":"\q\n"}"#.to_vec(),
            "{\"b\":\"\\ü\"}".as_bytes().to_vec(),
            br#"{"b":"\n\"#.to_vec(),
            br#"{"b":"\n"#.to_vec(),
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
