//! Passes over JSON that is plain: written without blanks, with whole numbers and with letters that are not escaped by their
//! number, as nearly all of what a server stores is. One loop goes along it, where a call for each value would take twice as
//! long. What is not plain, right or wrong, is left to whoever asks.

use crate::letters::printable_len;

/// Longer numbers are not plain, in digits.
const DIGITS_MAX: usize = 100;

/// Levels within each other, the innermost in the lowest bit: set for a list, and not for an object.
type Levels = u128;

/// Where the object or the list ends that begins at `start`; none where not all of it is plain, or where it is nested deeper than
/// `levels_max`, which is 127 at most.
pub(super) fn end_of_nested(json: &[u8], start: usize, levels_max: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0);
    let mut levels: Levels = 0;
    loop {
        // Here a value begins.
        match *json.get(at)? {
            b'"' => at = end_of_string(json, at + 1)?,
            opening @ (b'{' | b'[') => {
                let is_list = opening == b'[';
                depth += 1;
                if depth > levels_max {
                    return None;
                }
                levels = (levels << 1) | Levels::from(is_list);
                at += 1;
                match (json.get(at)?, is_list) {
                    (b'}', false) | (b']', true) => {}
                    (_, false) => {
                        at = end_of_name(json, at)?;
                        continue;
                    }
                    (_, true) => continue,
                }
            }
            b'-' | b'0'..=b'9' => at = end_of_number(json, at)?,
            b't' => at = end_of_word(json, at, b"true")?,
            b'f' => at = end_of_word(json, at, b"false")?,
            b'n' => at = end_of_word(json, at, b"null")?,
            _ => return None,
        }
        // Here one has ended, or what is nested is about to.
        loop {
            let is_list = levels & 1 == 1;
            match (*json.get(at)?, is_list) {
                (b',', false) => {
                    at = end_of_name(json, at + 1)?;
                    break;
                }
                (b',', true) => {
                    at += 1;
                    break;
                }
                (b'}', false) | (b']', true) => {
                    at += 1;
                    levels >>= 1;
                    depth -= 1;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                _ => return None,
            }
        }
    }
}

/// Past a name and its colon.
fn end_of_name(json: &[u8], at: usize) -> Option<usize> {
    if *json.get(at)? != b'"' {
        return None;
    }
    let end = end_of_string(json, at + 1)?;
    (*json.get(end)? == b':').then_some(end + 1)
}

/// Past the quote of a string whose letters begin at `at`.
fn end_of_string(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += printable_len(json.get(at..)?);
        match *json.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => match *json.get(at + 1)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                _ => return None,
            },
            _ => return None,
        }
    }
}

/// Past the digits of a number. What follows them, if it is more of it, is not what may follow a value.
fn end_of_number(json: &[u8], at: usize) -> Option<usize> {
    let start = at + usize::from(*json.get(at)? == b'-');
    let digits = json.get(start..)?.iter().take(DIGITS_MAX);
    let count = digits.take_while(|byte| byte.is_ascii_digit()).count();
    match (count, json.get(start)?) {
        (1, _) => Some(start + 1),
        (0 | DIGITS_MAX.., _) | (_, b'0') => None,
        (count, _) => Some(start + count),
    }
}

fn end_of_word(json: &[u8], at: usize, word: &[u8]) -> Option<usize> {
    json.get(at..)?.starts_with(word).then_some(at + word.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn end(json: &str) -> Option<usize> {
        end_of_nested(json.as_bytes(), 0, 127)
    }

    #[test]
    fn what_is_plain_is_passed() {
        for plain in [
            json!({}),
            json!([]),
            json!([[], {}, [[{}]], {"a": {}, "b": []}, "", "a\"\\\n", 0, -1, 10, i64::MIN, true, false, null]),
            json!({"k:{\"a\":1}": {".": {}}, "ü": "ü \u{2028}", "n": [null, {"x": 7}]}),
        ] {
            let text = plain.to_string();
            for behind in ["", ",", "}", " x"] {
                assert_eq!(end(&format!("{text}{behind}")), Some(text.len()), "{text}");
            }
            let nested = |levels| end_of_nested(text.as_bytes(), 0, levels).is_some();
            assert!(nested(4) && !nested(0));
        }
        let deep = |pairs: usize| format!("{}1{}", "[{\"a\":".repeat(pairs), "}]".repeat(pairs));
        assert!(end(&deep(63)).is_some() && end(&deep(64)).is_none());
    }

    #[test]
    fn what_is_not_plain_is_left() {
        let digits = "1".repeat(DIGITS_MAX);
        for inner in [
            " 1",
            "1 ",
            "1.5",
            "1e3",
            "01",
            "-",
            "-01",
            "+1",
            "tru",
            "nul1",
            "x",
            "",
            "1,",
            ",1",
            "1 1",
            "\"\\u0061\"",
            "\"\\q\"",
            "\"\u{1}\"",
            "\"a",
            "\"a\\",
            "[1}",
            "{\"a\":1]",
            "{\"a\"}",
            "{\"a\":}",
            "{1:1}",
            "{\"a\":1,}",
            "[1,]",
            "[",
            "{",
            "{\"a\" :1}",
            "{ }",
            "[ ]",
            digits.as_str(),
        ] {
            for text in [
                format!("[{inner}]"),
                format!("{{\"a\":{inner}}}"),
                format!("[0,{inner},0]"),
            ] {
                assert!(
                    inner.is_empty() && text == "[]" || end(&text).is_none(),
                    "{text}"
                );
            }
        }
    }

    proptest! {
        /// What is passed is a value, and ends where that does.
        #[test]
        fn only_json_is_passed(text in r#"[\[{]([\[\]{}",:01-]|\{"a":|\[\{|"a",|\\["u]|true|nul){0,24}"#) {
            if let Some(end) = end(&text) {
                prop_assert!(serde_json::from_str::<Value>(&text[..end]).is_ok(), "{text}");
            }
        }
    }
}
