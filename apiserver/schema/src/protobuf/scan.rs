//! Goes through the JSON of an object piece by piece, without a copy and without a tree.
//!
//! What it is given is JSON that was read before, mostly as this server writes it: without space, names and numbers in
//! their plain spelling. It does not check that once more; what it does not know its way in is [`Odd`], and read by others.

use crate::letters::plain_len;

/// A text that has to be read in the slow and obvious way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Odd;

pub(super) struct Scanner<'j> {
    text: &'j str,
    at: usize,
}

/// What stands between the quotes of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text<'j> {
    Plain(&'j str),
    /// With escapes, see [`unescape`].
    Escaped(&'j str),
}

impl<'j> Scanner<'j> {
    pub(super) fn new(text: &'j str) -> Scanner<'j> {
        Scanner { text, at: 0 }
    }

    fn rest(&self) -> &'j [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Whether nothing follows.
    pub(super) fn end(&self) -> Result<(), Odd> {
        match self.at == self.text.len() {
            true => Ok(()),
            false => Err(Odd),
        }
    }

    /// Past the byte, if it is the next one.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), Odd> {
        match self.take(byte) {
            true => Ok(()),
            false => Err(Odd),
        }
    }

    fn word(&mut self, word: &[u8]) -> bool {
        let is_next = self.rest().starts_with(word);
        if is_next {
            self.at += word.len();
        }
        is_next
    }

    /// Past the bracket that opens an object or a list; whether something is in there.
    pub(super) fn enter(&mut self, open: u8, close: u8) -> Result<bool, Odd> {
        self.expect(open)?;
        Ok(!self.take(close))
    }

    /// Past what is behind a member or an item; whether another follows.
    pub(super) fn goes_on(&mut self, close: u8) -> Result<bool, Odd> {
        if self.take(b',') {
            return Ok(true);
        }
        self.expect(close)?;
        Ok(false)
    }

    /// The name of a member, and past the colon.
    pub(super) fn name(&mut self) -> Result<&'j str, Odd> {
        let name = self.plain()?;
        self.expect(b':')?;
        Ok(name)
    }

    /// Past a null, if it is the next value.
    pub(super) fn null(&mut self) -> bool {
        self.word(b"null")
    }

    pub(super) fn boolean(&mut self) -> Result<bool, Odd> {
        match self.word(b"true") {
            true => Ok(true),
            false if self.word(b"false") => Ok(false),
            false => Err(Odd),
        }
    }

    /// A whole number that is written as such.
    pub(super) fn integer(&mut self) -> Result<i64, Odd> {
        let negative = self.take(b'-');
        let start = self.at;
        // Counted below zero, where there is one number more.
        let mut value = 0i64;
        while let Some(digit @ b'0'..=b'9') = self.peek() {
            value = value
                .checked_mul(10)
                .and_then(|value| value.checked_sub(i64::from(digit - b'0')))
                .ok_or(Odd)?;
            self.at += 1;
        }
        let is_plain = match &self.text.as_bytes()[start..self.at] {
            [] | [b'0', _, ..] => false,
            // JSON knows a zero below zero, which is a fraction to others.
            [b'0'] => !negative,
            _ => true,
        };
        if !is_plain || matches!(self.peek(), Some(b'.' | b'e' | b'E')) {
            return Err(Odd);
        }
        match negative {
            true => Ok(value),
            false => value.checked_neg().ok_or(Odd),
        }
    }

    /// Any number, as `serde_json` reads it.
    pub(super) fn double(&mut self) -> Result<f64, Odd> {
        let number =
            self.pass(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        serde_json::from_slice(number).map_err(|_| Odd)
    }

    pub(super) fn string(&mut self) -> Result<Text<'j>, Odd> {
        self.expect(b'"')?;
        let rest = self.rest();
        let mut len = plain_len(rest);
        let mut is_escaped = false;
        while rest.get(len) == Some(&b'\\') {
            is_escaped = true;
            // Whatever is escaped.
            len += 2;
            len += plain_len(rest.get(len..).ok_or(Odd)?);
        }
        if len >= rest.len() {
            return Err(Odd);
        }
        let inner = self.text.get(self.at..self.at + len).ok_or(Odd)?;
        self.at += len + 1;
        Ok(match is_escaped {
            true => Text::Escaped(inner),
            false => Text::Plain(inner),
        })
    }

    /// A string without escapes.
    pub(super) fn plain(&mut self) -> Result<&'j str, Odd> {
        match self.string()? {
            Text::Plain(text) => Ok(text),
            Text::Escaped(_) => Err(Odd),
        }
    }

    /// Past a value of any kind, which is the answer.
    pub(super) fn skip(&mut self) -> Result<&'j str, Odd> {
        let start = self.at;
        let mut depth = 0usize;
        loop {
            match self.peek().ok_or(Odd)? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    self.at += 1;
                    depth += 1;
                }
                b'}' | b']' => {
                    self.at += 1;
                    depth = depth.checked_sub(1).ok_or(Odd)?;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                _ => self.scalar()?,
            }
            if depth == 0 {
                return self.text.get(start..self.at).ok_or(Odd);
            }
        }
    }

    /// Past a number, a truth value or a null.
    fn scalar(&mut self) -> Result<(), Odd> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        match self.pass(is_part).is_empty() {
            true => Err(Odd),
            false => Ok(()),
        }
    }

    /// Past all bytes of a sort that follow each other, which are the answer.
    fn pass(&mut self, is_part: impl Fn(u8) -> bool) -> &'j [u8] {
        let rest = self.rest();
        let len = rest.iter().take_while(|byte| is_part(**byte)).count();
        self.at += len;
        &rest[..len]
    }
}

/// Writes what an escaped string says.
pub(super) fn unescape(inner: &str, out: &mut Vec<u8>) -> Result<(), Odd> {
    let mut rest = inner.as_bytes();
    loop {
        let (plain, escape) = rest.split_at(plain_len(rest));
        out.extend_from_slice(plain);
        rest = match escape {
            [] => return Ok(()),
            [b'\\', letter, after @ ..] => match letter {
                b'"' | b'\\' | b'/' => put(*letter, after, out),
                b'b' => put(0x08, after, out),
                b'f' => put(0x0c, after, out),
                b'n' => put(b'\n', after, out),
                b'r' => put(b'\r', after, out),
                b't' => put(b'\t', after, out),
                b'u' => code_point(after, out)?,
                _ => return Err(Odd),
            },
            _ => return Err(Odd),
        };
    }
}

fn put<'j>(byte: u8, after: &'j [u8], out: &mut Vec<u8>) -> &'j [u8] {
    out.push(byte);
    after
}

/// What `\u` begins: four digits, or two times four for what is beyond them.
fn code_point<'j>(digits: &'j [u8], out: &mut Vec<u8>) -> Result<&'j [u8], Odd> {
    let (first, after) = hexadecimal(digits)?;
    let (code, after) = match first {
        0xd800..0xdc00 => {
            let (second, after) = hexadecimal(after.strip_prefix(b"\\u").ok_or(Odd)?)?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(Odd);
            }
            let beyond = (first - 0xd800) << 10 | (second - 0xdc00);
            (0x1_0000 + beyond, after)
        }
        code => (code, after),
    };
    let letter = char::from_u32(code).ok_or(Odd)?;
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(after)
}

fn hexadecimal(text: &[u8]) -> Result<(u32, &[u8]), Odd> {
    let (digits, after) = text.split_first_chunk::<4>().ok_or(Odd)?;
    let value = digits.iter().try_fold(0u32, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | digit)
    });
    Ok((value.ok_or(Odd)?, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn said(text: Text<'_>) -> Option<String> {
        let mut out = Vec::new();
        match text {
            Text::Plain(text) => out.extend_from_slice(text.as_bytes()),
            Text::Escaped(inner) => unescape(inner, &mut out).ok()?,
        }
        String::from_utf8(out).ok()
    }

    #[test]
    fn numbers_are_plain_or_odd() {
        for (text, expected) in [
            ("0", Ok(0)),
            ("-1", Ok(-1)),
            ("9223372036854775807", Ok(i64::MAX)),
            ("-9223372036854775808", Ok(i64::MIN)),
            ("9223372036854775808", Err(Odd)),
            ("-0", Err(Odd)),
            ("01", Err(Odd)),
            ("1.0", Err(Odd)),
            ("1e3", Err(Odd)),
            ("-", Err(Odd)),
            ("x", Err(Odd)),
        ] {
            assert_eq!(Scanner::new(text).integer(), expected, "{text}");
        }
    }

    #[test]
    fn a_value_is_passed_over_as_a_whole() {
        for value in [
            r#""a\"}b""#,
            "-1.5e3",
            "null",
            "{}",
            r#"[1,{"a":"]","b":[[]]},true]"#,
        ] {
            let text = format!("{value},rest");
            assert_eq!(Scanner::new(&text).skip(), Ok(value));
        }
        for odd in ["", "]", ",", "[1, 2]", "[1", "\"a", "\"a\\", " 1"] {
            assert_eq!(Scanner::new(odd).skip(), Err(Odd), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn strings_say_what_they_say_to_serde(inner in r#"([a-zé😀/]|\\["\\/bfnrtux]|\\u[0-9a-fA-F]{4}|\\ud8[0-9]{2}\\udc[0-9a-f]{2}|"){0,24}"#) {
            let text = format!("\"{inner}\"");
            let string = Scanner::new(&text).string();
            if let Ok(expected) = serde_json::from_str::<String>(&text) {
                prop_assert_eq!(string.ok().and_then(said), Some(expected));
            }
        }

        #[test]
        fn whatever_serde_writes_is_passed_over(text in r#"[\[\]{}",:0-9a-e.\\u -]{0,24}"#) {
            let _ = Scanner::new(&text).skip();
            let _ = Scanner::new(&text).double();
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let written = value.to_string();
                let mut scanner = Scanner::new(&written);
                prop_assert_eq!(scanner.skip(), Ok(written.as_str()));
                prop_assert_eq!(scanner.end(), Ok(()));
            }
        }
    }
}
