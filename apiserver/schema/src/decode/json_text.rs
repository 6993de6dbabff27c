//! JSON text to a value, with the fields that are unknown or occurred twice.
//!
//! Own parser, since `serde_json::Value` cannot tell duplicates and stops at another depth. The
//! error texts are those of Go's parser, which clients show to their users. Invalid UTF-8 reads as
//! the replacement character, as in Go.

use std::borrow::Cow;

use serde_json::map::Entry;
use serde_json::{Map, Number, Value};

use super::{Expect, Problems, Step, Trail};
use crate::letters::printable_len;
use crate::read::{MEMBERS_EXPECTED, map_of};

/// Deeper nesting is refused: far beyond any real object, far below what a stack holds.
pub const DEPTH_MAX: usize = 512;
/// Of what YAML reads, too: far below its bounds on depth, ..
const COMMON_DEPTH_MAX: usize = 100;
/// .. on nodes and the events that they make, ..
const COMMON_NODES_MAX: usize = 400_000;
/// .. on bytes, ..
const COMMON_BYTES_MAX: usize = 8 << 20;
/// .. on the length of keys as they are written, escapes and quotes included, ..
const COMMON_KEY_BYTES_MAX: usize = 512;
/// .. and numbers that fit an integer in every reading.
const COMMON_NUMBER_BYTES_MAX: usize = 18;

/// Parses one JSON text; notes unknown fields, which are left out, and keys that occur again, of
/// which the last wins.
pub(super) fn parse(
    bytes: &[u8],
    expect: Expect<'_>,
    problems: &mut Problems,
) -> Result<Value, String> {
    parse_as(Dialect::Json, &text_of(bytes), expect, problems)
}

/// A body as text. Nearly all are, which is seen faster than the end of what is not.
fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// The value of a text that is JSON as programs write it, which YAML reads the same way. None where that is not certain: YAML
/// is then asked. What is noted until then means nothing.
///
/// Nearly all that comes as YAML is such a text, and YAML takes ten times as long for it.
pub(super) fn parse_common(
    bytes: &[u8],
    expect: Expect<'_>,
    problems: &mut Problems,
) -> Option<Value> {
    if bytes.first() != Some(&b'{') || bytes.len() > COMMON_BYTES_MAX {
        return None;
    }
    let text = text_of(bytes);
    let text = text.trim_end_matches('\n');
    // What YAML takes for the end of a line, or for nothing that can be printed.
    let odd = |c: char| {
        matches!(
            c,
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
    };
    if text.contains('\u{7f}') || !text.is_ascii() && text.contains(odd) {
        return None;
    }
    parse_as(Dialect::Common, text, expect, problems).ok()
}

/// Which texts are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// All JSON.
    Json,
    /// What means the same in YAML, beyond doubt. The texts of its errors mean nothing.
    Common,
}

fn parse_as(
    dialect: Dialect,
    text: &str,
    expect: Expect<'_>,
    problems: &mut Problems,
) -> Result<Value, String> {
    let mut parser = Parser {
        dialect,
        text,
        at: 0,
        depth: 0,
        nodes: 0,
        members: Vec::with_capacity(MEMBERS_EXPECTED),
        problems,
    };
    parser.skip_space();
    let value = parser.value(expect, None)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.unexpected("after top-level value"));
    }
    Ok(value)
}

struct Parser<'t, 'd> {
    dialect: Dialect,
    text: &'t str,
    at: usize,
    depth: usize,
    /// Values and keys so far.
    nodes: usize,
    /// Of all the objects around here, as long as their names stand in order: a map is built of all its members at once, which
    /// takes less than a search for each.
    members: Vec<(String, Value)>,
    problems: &'d mut Problems,
}

impl<'t> Parser<'t, '_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            // YAML has opinions on lines and tabs.
            if self.is_common() && self.peek() != Some(b' ') {
                return;
            }
            self.at += 1;
        }
    }

    fn is_common(&self) -> bool {
        self.dialect == Dialect::Common
    }

    /// Refuses what YAML could read otherwise.
    fn doubt(&self, is_doubtful: bool) -> Result<(), String> {
        match self.is_common() && is_doubtful {
            true => Err(String::new()),
            false => Ok(()),
        }
    }

    /// The error about the character here.
    fn unexpected(&self, context: &str) -> String {
        match self.text[self.at..].chars().next() {
            None => "unexpected end of JSON input".to_owned(),
            Some(c) => format!("invalid character {} {context}", quoted(c)),
        }
    }

    fn value(&mut self, expect: Expect<'_>, trail: Option<&Trail<'_>>) -> Result<Value, String> {
        self.nodes += 1;
        match self.peek() {
            Some(b'{') => self.nested(|p| p.object(expect, trail)),
            Some(b'[') => self.nested(|p| p.array(expect, trail)),
            Some(b'"') => Ok(Value::String(self.string()?.into_owned())),
            Some(b't') => self.literal("true", Value::Bool(true)),
            Some(b'f') => self.literal("false", Value::Bool(false)),
            Some(b'n') => self.literal("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.unexpected("looking for beginning of value")),
        }
    }

    fn nested(
        &mut self,
        parse: impl FnOnce(&mut Self) -> Result<Value, String>,
    ) -> Result<Value, String> {
        self.at += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("exceeded max depth".to_owned());
        }
        self.doubt(self.depth > COMMON_DEPTH_MAX)?;
        let value = parse(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self, expect: Expect<'_>, trail: Option<&Trail<'_>>) -> Result<Value, String> {
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Object(Map::new()));
        }
        let before = self.members.len();
        // What was read of an object in which a name is out of order.
        let mut unordered: Option<Map<String, Value>> = None;
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("looking for beginning of object key string"));
            }
            let start = self.at;
            let key = self.string()?;
            self.nodes += 1;
            self.doubt(self.nodes > COMMON_NODES_MAX)?;
            self.doubt(&*key == "<<" || self.at - start > COMMON_KEY_BYTES_MAX)?;
            self.doubt(self.peek() != Some(b':'))?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.unexpected("after object key"));
            }
            self.at += 1;
            self.skip_space();
            let last = self.members[before..].last();
            if unordered.is_none() && last.is_some_and(|(last, _)| **last >= *key) {
                unordered = Some(self.members.drain(before..).collect());
            }
            self.member(expect, trail, key, unordered.as_mut())?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    let map = unordered.unwrap_or_else(|| map_of(self.members.drain(before..)));
                    return Ok(Value::Object(map));
                }
                _ => return Err(self.unexpected("after object key:value pair")),
            }
        }
    }

    /// Reads the value of a member, into the map where its object has one already.
    fn member(
        &mut self,
        expect: Expect<'_>,
        trail: Option<&Trail<'_>>,
        key: Cow<'t, str>,
        map: Option<&mut Map<String, Value>>,
    ) -> Result<(), String> {
        let Some(inner) = expect.member(&key) else {
            self.problems.unknown(&Trail::new(trail, Step::Name(&key)));
            // What is inside an unknown field is not looked at, but must be JSON.
            let muted = std::mem::replace(&mut self.problems.muted, true);
            self.value(Expect::Any, None)?;
            self.problems.muted = muted;
            return Ok(());
        };
        let Some(map) = map else {
            let here = Trail::new(trail, Step::Name(&key));
            let value = self.value(inner, Some(&here))?;
            self.members.push((key.into_owned(), value));
            return Ok(());
        };
        let entry = map.entry(key);
        let here = Trail::new(trail, Step::Name(entry.key()));
        if matches!(entry, Entry::Occupied(_)) {
            self.doubt(true)?;
            self.problems.duplicate(&here);
        }
        let value = self.value(inner, Some(&here))?;
        match entry {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => {
                entry.insert(value);
            }
        }
        Ok(())
    }

    fn array(&mut self, expect: Expect<'_>, trail: Option<&Trail<'_>>) -> Result<Value, String> {
        let mut list = Vec::new();
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Array(list));
        }
        loop {
            self.skip_space();
            self.doubt(self.nodes > COMMON_NODES_MAX)?;
            let here = Trail::new(trail, Step::Index(list.len()));
            list.push(self.value(expect.item(), Some(&here))?);
            self.skip_space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(Value::Array(list));
                }
                _ => return Err(self.unexpected("after array element")),
            }
        }
    }

    fn literal(&mut self, word: &str, value: Value) -> Result<Value, String> {
        for expected in word.chars() {
            if self.peek() != Some(expected as u8) {
                let context = format!("in literal {word} (expecting {})", quoted(expected));
                return Err(self.unexpected(&context));
            }
            self.at += 1;
        }
        Ok(value)
    }

    fn digits(&mut self, context: &str) -> Result<(), String> {
        if !self.peek().is_some_and(|c| c.is_ascii_digit()) {
            return Err(self.unexpected(context));
        }
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Result<Value, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'-' | b'+') = self.peek() {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        let text = &self.text[start..self.at];
        let is_integer = || text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        self.doubt(text.len() > COMMON_NUMBER_BYTES_MAX || text == "-0" || !is_integer())?;
        if let Ok(integer) = text.parse::<i64>() {
            return Ok(integer.into());
        }
        let number = text.parse::<f64>().ok().and_then(Number::from_f64);
        number.map(Value::Number).ok_or_else(|| {
            format!("json: cannot unmarshal number {text} into Go value of type float64")
        })
    }

    fn string(&mut self) -> Result<Cow<'t, str>, String> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<String> = None;
        let mut copied = start;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            self.at += printable_len(rest);
            match self.peek() {
                Some(b'"') => {
                    let rest = &self.text[copied..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(rest),
                        Some(text) => Cow::Owned(text + rest),
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[copied..self.at]);
                    let c = self.escape()?;
                    owned.get_or_insert_default().push(c);
                    copied = self.at;
                }
                Some(_) => return Err(self.unexpected("in string literal")),
                None => return Err(self.unexpected("")),
            }
        }
    }

    /// The character that the escape here stands for.
    fn escape(&mut self) -> Result<char, String> {
        self.at += 1;
        let c = match self.peek() {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.unexpected("in string escape code")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self) -> Result<char, String> {
        self.at += 1;
        let high = self.hex4()?;
        self.doubt(high == 0 || (0xd800..0xe000).contains(&high))?;
        if let Some(c) = char::from_u32(high) {
            return Ok(c);
        }
        // A pair of surrogates is one character; a lone one is replaced.
        if (0xd800..0xdc00).contains(&high) && self.text[self.at..].starts_with("\\u") {
            let after_high = self.at;
            self.at += 2;
            let low = self.hex4()?;
            if (0xdc00..0xe000).contains(&low) {
                let c = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(c).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.at = after_high;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|c| char::from(c).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("in \\u hexadecimal character escape"));
            };
            value = value * 16 + digit;
            self.at += 1;
        }
        Ok(value)
    }
}

fn quoted(c: char) -> String {
    match c {
        '\'' => r"'\''".to_owned(),
        '"' => "'\"'".to_owned(),
        _ => {
            let text = crate::field::go_quote(&c.to_string());
            format!("'{}'", &text[1..text.len() - 1])
        }
    }
}

#[cfg(test)]
mod as_yaml;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Value, String> {
        parse(text.as_bytes(), Expect::Any, &mut Problems::default())
    }

    #[test]
    fn reads_values() {
        for (text, value) in [
            (" null ", json!(null)),
            (
                "[1,-0,1.5,1e2,-9223372036854775808]",
                json!([1, 0, 1.5, 100.0, i64::MIN]),
            ),
            ("9223372036854775808", json!(9223372036854775808.0)),
            (r#""a\n\u00e9\ud83d\ude00\/""#, json!("a\né😀/")),
            (r#""\ud83dx\udc00""#, json!("\u{fffd}x\u{fffd}")),
            (
                r#"{"a":{"b":[]},"":[{}]}"#,
                json!({"a": {"b": []}, "": [{}]}),
            ),
        ] {
            assert_eq!(read(text), Ok(value), "{text}");
        }
        let cases: [(&[u8], &str); 4] = [
            (b"\"a\xff\"", "a\u{fffd}"),
            (b"\"\xc3\"", "\u{fffd}"),
            (b"\"\xe2\x82 \xf0\x9f\"", "\u{fffd} \u{fffd}"),
            ("\"aü€🙂\"".as_bytes(), "aü€🙂"),
        ];
        for (bytes, text) in cases {
            let read = parse(bytes, Expect::Any, &mut Problems::default());
            assert_eq!(read, Ok(json!(text)));
        }
    }

    #[test]
    fn errors_are_those_of_go() {
        for (text, error) in [
            ("", "unexpected end of JSON input"),
            ("{", "unexpected end of JSON input"),
            ("\"a", "unexpected end of JSON input"),
            ("x", "invalid character 'x' looking for beginning of value"),
            (
                "{a",
                "invalid character 'a' looking for beginning of object key string",
            ),
            ("{\"a\" 1", "invalid character '1' after object key"),
            (
                "{\"a\":1 2",
                "invalid character '2' after object key:value pair",
            ),
            ("[1 2", "invalid character '2' after array element"),
            (
                "[1,]",
                "invalid character ']' looking for beginning of value",
            ),
            ("1 1", "invalid character '1' after top-level value"),
            (
                "trux",
                "invalid character 'x' in literal true (expecting 'e')",
            ),
            ("01", "invalid character '1' after top-level value"),
            ("-a", "invalid character 'a' in numeric literal"),
            ("1.", "unexpected end of JSON input"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            ("\"\n\"", "invalid character '\\n' in string literal"),
            ("\"\\x\"", "invalid character 'x' in string escape code"),
            (
                "\"\\u12g4\"",
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            (
                "1e999",
                "json: cannot unmarshal number 1e999 into Go value of type float64",
            ),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text}");
        }
        assert!(read(&("[".repeat(512) + &"]".repeat(512))).is_ok());
        assert_eq!(
            read(&"[".repeat(100_000)),
            Err("exceeded max depth".to_owned())
        );
    }

    #[test]
    fn finds_duplicates() {
        let mut found = Problems::default();
        let text = br#"{"a":1,"b":{"c":[{"d":1,"d":2}]},"a":3}"#;
        let value = parse(text, Expect::Any, &mut found).unwrap();
        assert_eq!(
            found.texts(),
            [r#"duplicate field "b.c[0].d""#, r#"duplicate field "a""#]
        );
        assert_eq!(value, json!({"a": 3, "b": {"c": [{"d": 2}]}}));
    }

    proptest! {
        #[test]
        fn members_are_kept_in_any_order(names in prop::collection::vec("[a-h]", 0..9), at in 0..9_usize) {
            let member = |(at, name): (usize, &String)| format!("\"{name}\":{at}");
            let members: Vec<String> = names.iter().enumerate().map(member).collect();
            let inner = format!("{{{}}}", members.join(","));
            let mut outer = members.clone();
            outer.insert(at.min(outer.len()), format!("\"d\":[{inner}]"));
            let text = format!("{{{}}}", outer.join(","));
            let mut found = Problems::default();
            let value = parse(text.as_bytes(), Expect::Any, &mut found);
            let expected: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(value, Ok(expected));
            let mut alone = Problems::default();
            parse(inner.as_bytes(), Expect::Any, &mut alone).unwrap();
            let mut expected: Vec<String> = Vec::new();
            for (at, name) in names.iter().enumerate() {
                let told = format!("duplicate field \"{name}\"");
                if names[..at].contains(name) && !expected.contains(&told) {
                    expected.push(told);
                }
            }
            prop_assert_eq!(alone.texts(), expected);
        }

        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}",:0-9a-e.\\u -]{0,24}|\PC{0,20}"#) {
            let theirs: Result<Value, _> = serde_json::from_str(&text);
            match read(&text) {
                Ok(ours) => {
                    // Only unpaired surrogates are taken more kindly here, and big integers differ.
                    if let Ok(theirs) = theirs {
                        prop_assert_eq!(ours.to_string(), read(&theirs.to_string()).unwrap().to_string());
                    } else {
                        prop_assert!(text.contains("\\u"));
                    }
                }
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }
    }
}
