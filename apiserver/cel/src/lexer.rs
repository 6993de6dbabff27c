//! Text to tokens.

use std::sync::Arc;

use crate::Issue;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(Arc<str>),
    Int(i64),
    /// 2^63, which only a minus makes an int.
    IntMin,
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    /// An operator, a bracket, or one of `true`, `false`, `null`, `in`.
    Symbol(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(crate) struct Spanned {
    pub(crate) token: Token,
    /// In characters.
    pub(crate) at: u32,
    pub(crate) text: String,
}

/// The longer ones first.
const SYMBOLS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%", "<", ">",
];
const WORDS: &[&str] = &["true", "false", "null", "in"];

struct Lexer<'a> {
    text: &'a [char],
    at: usize,
}

pub(crate) fn tokens(text: &[char]) -> Result<Vec<Spanned>, Issue> {
    let mut lexer = Lexer { text, at: 0 };
    let mut found = Vec::new();
    loop {
        lexer.skip_blank();
        let start = lexer.at;
        let token = lexer.token()?;
        let end = token == Token::End;
        found.push(Spanned {
            token,
            at: start as u32,
            text: if end {
                "<EOF>".into()
            } else {
                text[start..lexer.at].iter().collect()
            },
        });
        if end {
            return Ok(found);
        }
    }
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> char {
        self.text.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn issue(&self, at: usize, text: impl Into<String>) -> Issue {
        Issue {
            at: at as u32,
            text: text.into(),
        }
    }

    fn skip_blank(&mut self) {
        loop {
            while self.at < self.text.len()
                && matches!(self.peek(0), ' ' | '\t' | '\r' | '\n' | '\u{c}')
            {
                self.at += 1;
            }
            if self.peek(0) != '/' || self.peek(1) != '/' {
                return;
            }
            while self.at < self.text.len() && self.peek(0) != '\n' {
                self.at += 1;
            }
        }
    }

    fn token(&mut self) -> Result<Token, Issue> {
        if self.at >= self.text.len() {
            return Ok(Token::End);
        }
        let first = self.peek(0);
        if first.is_ascii_digit() || first == '.' && self.peek(1).is_ascii_digit() {
            return self.number();
        }
        if let Some(token) = self.string()? {
            return Ok(token);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return Ok(self.word());
        }
        if first == '`' {
            return self.quoted_word();
        }
        for symbol in SYMBOLS {
            if symbol
                .chars()
                .enumerate()
                .all(|(ahead, c)| self.peek(ahead) == c)
            {
                self.at += symbol.len();
                return Ok(Token::Symbol(symbol));
            }
        }
        Err(self.issue(
            self.at,
            format!("Syntax error: token recognition error at: '{first}'"),
        ))
    }

    fn word(&mut self) -> Token {
        let start = self.at;
        while self.peek(0).is_ascii_alphanumeric() || self.peek(0) == '_' {
            self.at += 1;
        }
        let word: String = self.text[start..self.at].iter().collect();
        match WORDS.iter().find(|known| **known == word) {
            Some(known) => Token::Symbol(known),
            None => Token::Ident(word.into()),
        }
    }

    /// A field name in backticks.
    fn quoted_word(&mut self) -> Result<Token, Issue> {
        let start = self.at;
        self.at += 1;
        while self.at < self.text.len() && self.peek(0) != '`' {
            self.at += 1;
        }
        if self.at >= self.text.len() {
            return Err(self.issue(start, "Syntax error: token recognition error at: '`'"));
        }
        self.at += 1;
        let word: String = self.text[start + 1..self.at - 1].iter().collect();
        Ok(Token::Ident(word.into()))
    }

    fn digits(&mut self, radix: u32) -> String {
        let start = self.at;
        while self.peek(0).is_digit(radix) {
            self.at += 1;
        }
        self.text[start..self.at].iter().collect()
    }

    fn number(&mut self) -> Result<Token, Issue> {
        let start = self.at;
        if self.peek(0) == '0'
            && matches!(self.peek(1), 'x' | 'X')
            && self.peek(2).is_ascii_hexdigit()
        {
            self.at += 2;
            let digits = self.digits(16);
            return self.whole(start, &digits, 16);
        }
        let digits = self.digits(10);
        let mut double = false;
        if self.peek(0) == '.' && self.peek(1).is_ascii_digit() {
            double = true;
            self.at += 1;
            self.digits(10);
        }
        let sign = usize::from(matches!(self.peek(1), '+' | '-'));
        if matches!(self.peek(0), 'e' | 'E') && self.peek(1 + sign).is_ascii_digit() {
            double = true;
            self.at += 1 + sign;
            self.digits(10);
        }
        if !double {
            return self.whole(start, &digits, 10);
        }
        let text: String = self.text[start..self.at].iter().collect();
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Token::Double(value)),
            _ => Err(self.issue(start, "invalid double literal")),
        }
    }

    fn whole(&mut self, start: usize, digits: &str, radix: u32) -> Result<Token, Issue> {
        let value = u64::from_str_radix(digits, radix).ok();
        if matches!(self.peek(0), 'u' | 'U') {
            self.at += 1;
            let value = value.ok_or_else(|| self.issue(start, "invalid uint literal"))?;
            return Ok(Token::Uint(value));
        }
        match value {
            Some(value) if value == 1 << 63 => Ok(Token::IntMin),
            Some(value) if value < 1 << 63 => Ok(Token::Int(value as i64)),
            _ => Err(self.issue(start, "invalid int literal")),
        }
    }

    /// A string or bytes literal, when one begins here.
    fn string(&mut self) -> Result<Option<Token>, Issue> {
        let start = self.at;
        let (mut raw, mut bytes, mut ahead) = (false, false, 0);
        loop {
            match self.peek(ahead) {
                'r' | 'R' if !raw => raw = true,
                'b' | 'B' if !bytes => bytes = true,
                '"' | '\'' => break,
                _ => return Ok(None),
            }
            ahead += 1;
        }
        self.at += ahead;
        let quote = self.peek(0);
        let triple = self.peek(1) == quote && self.peek(2) == quote;
        let width = if triple { 3 } else { 1 };
        self.at += width;
        let mut made = Vec::new();
        loop {
            let unfinished =
                self.at >= self.text.len() || !triple && matches!(self.peek(0), '\n' | '\r');
            if unfinished {
                let text: String = self.text[start..self.at].iter().collect();
                return Err(self.issue(
                    start,
                    format!("Syntax error: token recognition error at: '{text}'"),
                ));
            }
            if (0..width).all(|ahead| self.peek(ahead) == quote) {
                self.at += width;
                break;
            }
            let c = self.peek(0);
            self.at += 1;
            if c == '\\' && !raw {
                self.escape(bytes, &mut made)?;
            } else {
                made.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        if bytes {
            return Ok(Some(Token::Bytes(made.into())));
        }
        let text =
            String::from_utf8(made).map_err(|_| self.issue(start, "invalid string literal"))?;
        Ok(Some(Token::String(text.into())))
    }

    fn escape(&mut self, bytes: bool, made: &mut Vec<u8>) -> Result<(), Issue> {
        let start = self.at - 1;
        let c = self.peek(0);
        self.at += 1;
        let simple = match c {
            'a' => Some(7),
            'b' => Some(8),
            'f' => Some(12),
            'n' => Some(b'\n'),
            'r' => Some(b'\r'),
            't' => Some(b'\t'),
            'v' => Some(11),
            '\\' | '\'' | '"' | '`' | '?' => Some(c as u8),
            _ => None,
        };
        if let Some(byte) = simple {
            made.push(byte);
            return Ok(());
        }
        let (count, radix) = match c {
            'x' | 'X' => (2, 16),
            'u' if !bytes => (4, 16),
            'U' if !bytes => (8, 16),
            '0'..='3' => {
                self.at -= 1;
                (3, 8)
            }
            _ => {
                return Err(self.issue(
                    start,
                    format!("Syntax error: token recognition error at: '\\{c}'"),
                ));
            }
        };
        let mut value = 0u32;
        for _ in 0..count {
            let digit = self.peek(0).to_digit(radix);
            let digit = digit.ok_or_else(|| self.issue(start, "invalid escape sequence"))?;
            value = value.wrapping_mul(radix).wrapping_add(digit);
            self.at += 1;
        }
        if bytes {
            made.push(value as u8);
            return Ok(());
        }
        let c =
            char::from_u32(value).ok_or_else(|| self.issue(start, "invalid unicode code point"))?;
        made.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}
