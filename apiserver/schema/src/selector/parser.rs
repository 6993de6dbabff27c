//! The syntax of label selectors.

use std::collections::BTreeSet;

use super::label::{LabelSelector, Operator, Requirement, check_key};
use super::{SelectorError, fail};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Error,
    End,
    Identifier,
    Comma,
    OpenParenthesis,
    CloseParenthesis,
    Not,
    Operator(Operator),
}

/// `in` and `notin` are operators only where an operator is expected; elsewhere they are values.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Context {
    Operator,
    Value,
}

pub(super) struct Parser<'a> {
    items: Vec<(Token, &'a str)>,
    position: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a str) -> Parser<'a> {
        Parser {
            items: scan(text),
            position: 0,
        }
    }

    fn look(&self, context: Context) -> (Token, &'a str) {
        let (token, text) = self
            .items
            .get(self.position)
            .cloned()
            .unwrap_or((Token::End, ""));
        let is_word = matches!(token, Token::Operator(Operator::In | Operator::NotIn));
        if context == Context::Value && is_word {
            return (Token::Identifier, text);
        }
        (token, text)
    }

    fn take(&mut self, context: Context) -> (Token, &'a str) {
        let item = self.look(context);
        self.position += 1;
        item
    }

    pub(super) fn selector(mut self) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            let (token, text) = self.look(Context::Value);
            match token {
                Token::Identifier | Token::Not => {
                    let requirement = self
                        .requirement()
                        .map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
                    requirements.push(requirement);
                    match self.take(Context::Value) {
                        (Token::End, _) => return Ok(LabelSelector::of(requirements)),
                        (Token::Comma, _) => {
                            let (next, text) = self.look(Context::Value);
                            if next != Token::Identifier && next != Token::Not {
                                return fail(format!(
                                    "found '{text}', expected: identifier after ','"
                                ));
                            }
                        }
                        (_, text) => {
                            return fail(format!(
                                "found '{text}', expected: ',' or 'end of string'"
                            ));
                        }
                    }
                }
                Token::End => return Ok(LabelSelector::of(requirements)),
                _ => {
                    return fail(format!(
                        "found '{text}', expected: !, identifier, or 'end of string'"
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let (mut token, mut key) = self.take(Context::Value);
        let negated = token == Token::Not;
        if negated {
            (token, key) = self.take(Context::Value);
        }
        if token != Token::Identifier {
            return fail(format!("found '{key}', expected: identifier"));
        }
        check_key(key, "<nil>")?;
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, BTreeSet::new());
        }
        let (next, _) = self.look(Context::Value);
        if next == Token::End || next == Token::Comma {
            return Requirement::new(key, Operator::Exists, BTreeSet::new());
        }
        let operator = match self.take(Context::Operator) {
            (Token::Operator(operator), _) => operator,
            (_, text) => {
                return fail(format!(
                    "found '{text}', expected: in, notin, =, ==, !=, gt, lt"
                ));
            }
        };
        let values = match operator {
            Operator::In | Operator::NotIn => self.values()?,
            _ => self.exact_value()?,
        };
        Requirement::new(key, operator, values)
    }

    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let (token, text) = self.take(Context::Value);
        if token != Token::OpenParenthesis {
            return fail(format!("found '{text}' expected: '('"));
        }
        let (token, text) = self.look(Context::Value);
        match token {
            Token::Identifier | Token::Comma => {
                let values = self.identifiers()?;
                if self.take(Context::Value).0 != Token::CloseParenthesis {
                    return fail(format!("found '{text}', expected: ')'"));
                }
                Ok(values)
            }
            Token::CloseParenthesis => {
                self.take(Context::Value);
                Ok(BTreeSet::from([String::new()]))
            }
            _ => fail(format!("found '{text}', expected: ',', ')' or identifier")),
        }
    }

    /// The list between the parentheses, where an empty place stands for the empty value.
    fn identifiers(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let mut values = BTreeSet::new();
        loop {
            match self.take(Context::Value) {
                (Token::Identifier, text) => {
                    values.insert(text.to_owned());
                    match self.look(Context::Value) {
                        (Token::Comma, _) => {}
                        (Token::CloseParenthesis, _) => return Ok(values),
                        (_, text) => {
                            return fail(format!("found '{text}', expected: ',' or ')'"));
                        }
                    }
                }
                (Token::Comma, _) => {
                    if values.is_empty() {
                        values.insert(String::new());
                    }
                    match self.look(Context::Value).0 {
                        Token::CloseParenthesis => {
                            values.insert(String::new());
                            return Ok(values);
                        }
                        Token::Comma => {
                            self.take(Context::Value);
                            values.insert(String::new());
                        }
                        _ => {}
                    }
                }
                (_, text) => {
                    return fail(format!("found '{text}', expected: ',', or identifier"));
                }
            }
        }
    }

    fn exact_value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if matches!(self.look(Context::Value).0, Token::End | Token::Comma) {
            return Ok(BTreeSet::from([String::new()]));
        }
        match self.take(Context::Value) {
            (Token::Identifier, text) => Ok(BTreeSet::from([text.to_owned()])),
            (_, text) => fail(format!("found '{text}', expected: identifier")),
        }
    }
}

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn scan(text: &str) -> Vec<(Token, &str)> {
    let is_space = |c: char| matches!(c, ' ' | '\t' | '\r' | '\n');
    let mut items = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while let Some(first) = rest.chars().next() {
        let (token, length) = if is_symbol(first) {
            symbol(rest)
        } else {
            let length = rest
                .find(|c| is_symbol(c) || is_space(c))
                .unwrap_or(rest.len());
            match &rest[..length] {
                "in" => (Token::Operator(Operator::In), length),
                "notin" => (Token::Operator(Operator::NotIn), length),
                _ => (Token::Identifier, length),
            }
        };
        let (item, after) = rest.split_at(length);
        items.push((token, item));
        rest = after.trim_start_matches(is_space);
    }
    items
}

/// The longest operator or bracket at the start of the text, and its length.
fn symbol(text: &str) -> (Token, usize) {
    for (literal, token) in [
        ("==", Token::Operator(Operator::DoubleEquals)),
        ("!=", Token::Operator(Operator::NotEquals)),
        ("=", Token::Operator(Operator::Equals)),
        (">", Token::Operator(Operator::GreaterThan)),
        ("<", Token::Operator(Operator::LessThan)),
        ("!", Token::Not),
        (",", Token::Comma),
        ("(", Token::OpenParenthesis),
        (")", Token::CloseParenthesis),
    ] {
        if text.starts_with(literal) {
            return (token, literal.len());
        }
    }
    (Token::Error, text.chars().next().map_or(0, char::len_utf8))
}
