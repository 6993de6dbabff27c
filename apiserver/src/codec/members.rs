//! The members of an object in JSON that is written without blanks, as this server writes it, and where they stand.

use std::ops::Range;

use serde_json::Value;

use super::{end_of_nested, length_of_string};

/// One of them.
struct Member<'a> {
    /// As it is written.
    name: &'a [u8],
    /// Where it begins, with its name.
    at: usize,
    value: Range<usize>,
}

/// Tells them one after the other, as far as the text is one of this server's.
struct Members<'a> {
    json: &'a [u8],
    at: usize,
    /// Whether the object has ended.
    is_over: bool,
}

impl<'a> Members<'a> {
    /// Of the object with which a text begins.
    fn of(json: &'a [u8]) -> Members<'a> {
        Members {
            json,
            at: 1,
            is_over: json.starts_with(b"{}"),
        }
    }

    /// Whether all of them were told, and nothing follows the object.
    fn told_all(&self) -> bool {
        self.is_over && self.at + 1 == self.json.len()
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        let (json, at) = (self.json, self.at);
        if self.is_over || json.get(at) != Some(&b'"') {
            return None;
        }
        let name = at + 1..at + length_of_string(&json[at + 1..]);
        // Behind the quote that ends it.
        let colon = name.end + 1;
        if json.get(colon) != Some(&b':') {
            return None;
        }
        let start = colon + 1;
        let end = start + length_of_value(&json[start..])?;
        match json.get(end)? {
            b',' => self.at = end + 1,
            b'}' => (self.at, self.is_over) = (end, true),
            _ => return None,
        }
        Some(Member {
            name: json.get(name)?,
            at,
            value: start..end,
        })
    }
}

/// How long the value is with which a text begins; none where that is not plain.
fn length_of_value(json: &[u8]) -> Option<usize> {
    let is_of_word = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    let length = match json.first()? {
        b'"' => 1 + length_of_string(&json[1..]),
        b'{' | b'[' => end_of_nested(json),
        _ => json.iter().take_while(is_of_word).count(),
    };
    (length > 0).then_some(length)
}

/// Where the value of a member stands in the text of an object; none where it has none of that name, or may have one that is
/// written in another way.
pub(super) fn value_at(json: &[u8], name: &str) -> Option<Range<usize>> {
    let mut members = Members::of(json);
    let found = members.find(|member| member.name == name.as_bytes())?;
    Some(found.value)
}

/// The text of an object with one more member, in its place by the alphabet. None where it has one of that name, or is not
/// written as this server does it.
pub(crate) fn with_member(json: &[u8], name: &str, value: &Value) -> Option<Vec<u8>> {
    let mut members = Members::of(json);
    let mut before: Option<&[u8]> = None;
    let mut place = None;
    for member in members.by_ref() {
        let is_behind = before.is_none_or(|before| before < member.name);
        if !is_behind || member.name == name.as_bytes() || member.name.contains(&b'\\') {
            return None;
        }
        if member.name > name.as_bytes() && place.is_none() {
            place = Some(member.at);
        }
        before = Some(member.name);
    }
    if !members.told_all() {
        return None;
    }
    let at = place.unwrap_or(members.at);
    let mut out = Vec::with_capacity(json.len() + 128);
    out.extend_from_slice(&json[..at]);
    if place.is_none() && before.is_some() {
        out.push(b',');
    }
    super::write_member(&mut out, name, value);
    if place.is_some() {
        out.push(b',');
    }
    out.extend_from_slice(&json[at..]);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Map, json};

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\],:\u{1}ü]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\}]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_member_is_put_in_as_into_a_tree(
            members in prop::collection::btree_map("[a-zA-Z]{0,3}", any_value(), 0..6),
            name in "[a-zA-Z]{0,3}",
            value in any_value(),
        ) {
            let mut object: Map<String, Value> = members.into_iter().collect();
            let text = serde_json::to_string(&object).unwrap();
            for (name, value) in &object {
                let at = value_at(text.as_bytes(), name).unwrap();
                prop_assert_eq!(&text[at], &value.to_string());
            }
            let spliced = with_member(text.as_bytes(), &name, &value);
            let was = object.insert(name, value);
            let expected = was.is_none().then(|| serde_json::to_vec(&object).unwrap());
            prop_assert_eq!(spliced, expected);
        }
    }

    #[test]
    fn what_is_written_in_another_way_is_left() {
        let insert = |text: &str| with_member(text.as_bytes(), "m", &json!(1));
        assert_eq!(insert("{}").unwrap(), br#"{"m":1}"#);
        assert_eq!(
            insert(r#"{"a":[{}],"z":{"m":2}}"#).unwrap(),
            br#"{"a":[{}],"m":1,"z":{"m":2}}"#
        );
        for other in [
            "",
            "{",
            "[]",
            "{ }",
            "{}}",
            r#"{"a":1"#,
            r#"{"a""#,
            r#"{"a":"#,
            r#"{"a":}"#,
            r#"{"a": {"b":1}}"#,
            r#"{"a":1 }"#,
            r#"{"a":1 ,"b":2}"#,
            r#"{"a":1, "b":2}"#,
            r#"{"a":1,}"#,
            r#"{"a":1}}"#,
            r#"{"b":1,"a":2}"#,
            r#"{"a":1,"a":2}"#,
            r#"{"m":""}"#,
            r#"{"m":null}"#,
            r#"{"\u006d":1}"#,
        ] {
            assert!(insert(other).is_none(), "{other}");
        }
        let text = br#"{"a":{"m":1},"m":[2],"z":3}"#;
        assert_eq!(&text[value_at(text, "m").unwrap()], b"[2]");
        assert_eq!(value_at(text, "b"), None);
        assert_eq!(value_at(br#"{ "m":1}"#, "m"), None);
        // What follows the object is not looked at.
        assert_eq!(value_at(br#"{"a":1},"m":2}"#, "m"), None);
    }
}
