//! Kubernetes reads a member that is null as absent, and its conditions have such members.

use std::borrow::Cow;

/// JSON without members that are null, and then without white space between its parts. A null in a list stays.
pub(super) fn without_nulls(text: &str) -> Cow<'_, str> {
    // Only what has members can have such members.
    match text.starts_with(['{', '[']) && text.contains("null") {
        true => Cow::Owned(rewritten(text)),
        false => Cow::Borrowed(text),
    }
}

fn rewritten(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    // Where the last string begins in what is written; where a colon follows, that is a name.
    let (mut name, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        let end = match byte {
            b'"' => {
                name = out.len();
                end_of_string(bytes, at)
            }
            b':' => {
                let value = behind_spaces(bytes, at + 1);
                if bytes[value..].starts_with(b"null") {
                    out.truncate(name);
                    at = value + b"null".len();
                    if out.ends_with(',') {
                        out.pop();
                    } else {
                        // It came first, and so does the next one now.
                        let next = behind_spaces(bytes, at);
                        at = match bytes.get(next) {
                            Some(b',') => next + 1,
                            _ => next,
                        };
                    }
                    continue;
                }
                at + 1
            }
            byte if is_space(*byte) => {
                at += 1;
                continue;
            }
            _ => {
                let is_next = |byte: &u8| matches!(byte, b'"' | b':') || is_space(*byte);
                let more = bytes[at..].iter().position(is_next);
                more.map_or(bytes.len(), |more| at + more)
            }
        };
        out.push_str(text.get(at..end).unwrap_or_default());
        at = end;
    }
    out
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Where something else than white space follows, from here on.
fn behind_spaces(bytes: &[u8], from: usize) -> usize {
    let rest = bytes[from..].iter();
    from + rest.take_while(|byte| is_space(**byte)).count()
}

/// Where the string ends that begins here.
fn end_of_string(bytes: &[u8], begin: usize) -> usize {
    let mut at = begin + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::hollow::slim::drop_nulls;

    #[test]
    fn members_that_are_null_are_left_out_wherever_they_stand() {
        for (text, expected) in [
            (r#"{"a":null}"#, "{}"),
            (r#"{"a":null,"b":1}"#, r#"{"b":1}"#),
            (r#"{"a":1,"b":null}"#, r#"{"a":1}"#),
            (r#"{"a":1,"b":null,"c":2}"#, r#"{"a":1,"c":2}"#),
            (r#"{"a":null,"b":null,"c":[null]}"#, r#"{"c":[null]}"#),
            (
                r#"[{"a":null},null,{"b":{"c":null}}]"#,
                r#"[{},null,{"b":{}}]"#,
            ),
            (
                r#"{"a":"null","null":"\":null,"}"#,
                r#"{"a":"null","null":"\":null,"}"#,
            ),
            ("{ \"a\" : null ,\n\"b\": 1 }", r#"{"b":1}"#),
            ("null", "null"),
            (r#""null""#, r#""null""#),
            (r#"{"a": 1}"#, r#"{"a": 1}"#),
        ] {
            assert_eq!(without_nulls(text), expected, "{text}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            3 => Just(Value::Null),
            1 => any::<bool>().prop_map(Value::from),
            1 => any::<i64>().prop_map(Value::from),
            2 => "(null|:|,|\"|\\\\|[a-z ]|.){0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            let name = "(null|[a-c:\"]){0,2}";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((name, inner), 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn it_is_what_is_left_of_the_tree(value in values(), is_spaced in any::<bool>()) {
            let text = match is_spaced {
                true => serde_json::to_string_pretty(&value).unwrap(),
                false => value.to_string(),
            };
            let read: Value = serde_json::from_str(&without_nulls(&text)).unwrap();
            let mut expected = json!([value]);
            drop_nulls(&mut expected);
            prop_assert_eq!(json!([read]), expected);
        }
    }
}
