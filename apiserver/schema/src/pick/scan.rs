//! Goes through a JSON text and keeps what is picked. Most of a text is passed over, byte by byte and without a copy; what is
//! rare or needs care (numbers with exponents, escaped letters) is left to `serde_json`, whose word on it counts.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::leaves::Node;
use super::{NOTHING, Pick, WHOLE, plain};
use crate::letters::printable_len;
use crate::read::Json;

/// Objects and lists within each other, as many as `serde_json` reads.
const DEPTH_MAX: usize = 127;
/// Numbers of so many letters, and without an exponent, are finite.
const NUMBER_LETTERS_MAX: usize = 100;

/// It is no JSON text.
#[derive(Debug)]
pub(super) struct Refused;

/// What in a string does not stand for itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Escaped {
    Nothing,
    /// Letters, each of which may always be escaped.
    Letters,
    /// Numbers of letters, and what may not be escaped.
    Other,
}

impl Escaped {
    /// By what follows a backslash.
    fn of(letter: Option<u8>) -> Escaped {
        match letter {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escaped::Letters,
            _ => Escaped::Other,
        }
    }
}

pub(super) struct Scanner<'j> {
    text: &'j str,
    at: usize,
    depth: usize,
    /// Whether what is passed over now is more than plain.
    is_careful: bool,
}

impl<'j> Scanner<'j> {
    pub(super) fn new(text: &'j str) -> Scanner<'j> {
        Scanner {
            text,
            at: 0,
            depth: 0,
            is_careful: false,
        }
    }

    /// The one value of the text.
    pub(super) fn document(mut self, pick: &Pick) -> Result<Value, Refused> {
        self.skip_space();
        let value = self.picked(pick)?;
        self.skip_space();
        match self.peek() {
            None => Ok(value),
            Some(_) => Err(Refused),
        }
    }

    /// Notes where values stand in the one object of the text.
    pub(super) fn leaves(
        mut self,
        root: &Node,
        found: &mut [Option<&'j str>],
    ) -> Result<(), Refused> {
        self.skip_space();
        if self.peek() != Some(b'{') {
            return Err(Refused);
        }
        self.note(root, found)?;
        self.skip_space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Refused),
        }
    }

    fn note(&mut self, node: &Node, found: &mut [Option<&'j str>]) -> Result<(), Refused> {
        if let Some(own) = node.own {
            let start = self.at;
            self.skip()?;
            found[own] = Some(&self.text[start..self.at]);
            return Ok(());
        }
        // Of several members of one name the last counts.
        for below in &node.below {
            found[*below] = None;
        }
        if self.peek() != Some(b'{') {
            return self.skip();
        }
        self.each_member(|scanner| {
            let name = scanner.string()?;
            scanner.colon()?;
            match node.named(&name) {
                Some(below) => scanner.note(below, found),
                None => scanner.skip(),
            }
        })
    }

    /// The members of the object with which the text begins, with the texts of their values.
    pub(super) fn members(mut self) -> Result<Vec<(Cow<'j, str>, &'j str)>, Refused> {
        if self.peek() != Some(b'{') {
            return Err(Refused);
        }
        let mut members = Vec::new();
        self.each_member(|scanner| {
            let name = scanner.string()?;
            scanner.colon()?;
            let start = scanner.at;
            scanner.skip()?;
            members.push((name, &scanner.text[start..scanner.at]));
            Ok(())
        })?;
        Ok(members)
    }

    fn picked(&mut self, pick: &Pick) -> Result<Value, Refused> {
        if self.peek() != Some(b'{') {
            self.skip()?;
            return Ok(Value::Null);
        }
        let mut members = Map::new();
        self.each_member(|scanner| {
            let name = scanner.string()?;
            scanner.colon()?;
            let below = pick.below(&name);
            if *below == NOTHING {
                return scanner.skip();
            }
            let value = match *below == WHOLE {
                true => scanner.whole()?,
                false => scanner.picked(below)?,
            };
            members.insert(name.into_owned(), value);
            Ok(())
        })?;
        Ok(Value::Object(members))
    }

    fn whole(&mut self) -> Result<Value, Refused> {
        match self.peek() {
            Some(b'"') => Ok(Value::String(self.string()?.into_owned())),
            Some(b'{') => self.picked(&WHOLE),
            _ => {
                let start = self.at;
                self.skip()?;
                let Json(value) = parsed(&self.text[start..self.at])?;
                Ok(value)
            }
        }
    }

    /// Passes over a value.
    fn skip(&mut self) -> Result<(), Refused> {
        match self.peek() {
            Some(b'"') => self.skip_string(),
            Some(b'{' | b'[') if !self.is_careful => self.skip_nested(),
            Some(b'{') => self.each_member(|scanner| {
                scanner.skip_string()?;
                scanner.colon()?;
                scanner.skip()
            }),
            Some(b'[') => self.list(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => Err(Refused),
        }
    }

    /// Passes over an object or a list: at once where all in it is plain, and else step by step. What is in it is not tried to
    /// be passed at once again, or deep texts would be gone through many times.
    fn skip_nested(&mut self) -> Result<(), Refused> {
        let bytes = self.text.as_bytes();
        if let Some(end) = plain::end_of_nested(bytes, self.at, DEPTH_MAX - self.depth) {
            self.at = end;
            return Ok(());
        }
        self.is_careful = true;
        self.skip()?;
        self.is_careful = false;
        Ok(())
    }

    /// Passes over an object, whose members `member` has to pass over, from the quote before the name on.
    fn each_member(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        self.enter()?;
        if self.peek() == Some(b'}') {
            return self.leave();
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(Refused);
            }
            member(self)?;
            if !self.goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// Past what stands between a name and its value.
    fn colon(&mut self) -> Result<(), Refused> {
        self.skip_space();
        self.word(":")?;
        self.skip_space();
        Ok(())
    }

    fn list(&mut self) -> Result<(), Refused> {
        self.enter()?;
        if self.peek() == Some(b']') {
            return self.leave();
        }
        loop {
            self.skip()?;
            if !self.goes_on(b']')? {
                return Ok(());
            }
        }
    }

    /// Past the bracket that opens an object or a list, to what is first in it.
    fn enter(&mut self) -> Result<(), Refused> {
        self.at += 1;
        self.depth += 1;
        self.skip_space();
        match self.depth > DEPTH_MAX {
            true => Err(Refused),
            false => Ok(()),
        }
    }

    fn leave(&mut self) -> Result<(), Refused> {
        self.at += 1;
        self.depth -= 1;
        Ok(())
    }

    /// Past a comma to the next item, or past the closing bracket.
    fn goes_on(&mut self, closing: u8) -> Result<bool, Refused> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                self.skip_space();
                Ok(true)
            }
            Some(byte) if byte == closing => self.leave().map(|()| false),
            _ => Err(Refused),
        }
    }

    fn string(&mut self) -> Result<Cow<'j, str>, Refused> {
        let start = self.at;
        match self.pass_string()? {
            Escaped::Nothing => Ok(Cow::Borrowed(&self.text[start + 1..self.at - 1])),
            Escaped::Letters | Escaped::Other => self.unescaped(start).map(Cow::Owned),
        }
    }

    /// Passes over a string. Names in managed fields are full of escaped quotes: these are read only where somebody asks for
    /// what they say.
    fn skip_string(&mut self) -> Result<(), Refused> {
        let start = self.at;
        match self.pass_string()? {
            Escaped::Nothing | Escaped::Letters => Ok(()),
            Escaped::Other => self.unescaped(start).map(drop),
        }
    }

    /// Past the quote behind a string.
    fn pass_string(&mut self) -> Result<Escaped, Refused> {
        self.at += 1;
        let mut escaped = Escaped::Nothing;
        loop {
            let rest = &self.text.as_bytes()[self.at..];
            let plain = printable_len(rest);
            if plain == rest.len() {
                return Err(Refused);
            }
            self.at += plain + 1;
            match self.text.as_bytes()[self.at - 1] {
                b'"' => return Ok(escaped),
                b'\\' => {
                    escaped = escaped.max(Escaped::of(self.peek()));
                    self.at += 1;
                }
                _ => return Err(Refused),
            }
            if self.at > self.text.len() {
                return Err(Refused);
            }
        }
    }

    /// What the string says that begins at `start` and has just been passed.
    fn unescaped(&self, start: usize) -> Result<String, Refused> {
        parsed(self.text.get(start..self.at).ok_or(Refused)?)
    }

    fn number(&mut self) -> Result<(), Refused> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        let has_exponent = matches!(self.peek(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        if has_exponent || self.at - start > NUMBER_LETTERS_MAX {
            parsed::<Value>(&self.text[start..self.at])?;
        }
        Ok(())
    }

    /// One digit or more.
    fn digits(&mut self) -> Result<(), Refused> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        match self.at > start {
            true => Ok(()),
            false => Err(Refused),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Refused> {
        let rest = &self.text.as_bytes()[self.at..];
        match rest.starts_with(word.as_bytes()) {
            true => {
                self.at += word.len();
                Ok(())
            }
            false => Err(Refused),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.peek() {
            self.at += 1;
        }
    }
}

fn parsed<'j, T: Deserialize<'j>>(json: &'j str) -> Result<T, Refused> {
    serde_json::from_str(json).map_err(|_| Refused)
}
