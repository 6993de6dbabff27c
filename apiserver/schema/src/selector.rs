//! Label selectors (`app=web,tier in (a,b),!old`), field selectors (`metadata.name=x`) and the
//! `LabelSelector` of objects, with the parse errors that Kubernetes gives.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use crate::field::{FieldError, Path, go_quote};
use crate::names;

/// Why a selector is not valid; the text is the one of the 400 answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How a requirement of a label selector compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Exists,
    DoesNotExist,
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    GreaterThan,
    LessThan,
}

/// One term of a label selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: BTreeSet<String>,
}

/// A label selector: all requirements hold. Empty matches everything; [`LabelSelector::nothing`]
/// matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Requirement {
    fn new(
        key: &str,
        operator: Operator,
        values: BTreeSet<String>,
    ) -> Result<Requirement, SelectorError> {
        let root = Path::root();
        check_key(key, root.child("key").as_str())?;
        let path = root.child("values");
        let list = || Value::from(values.iter().cloned().collect::<Vec<_>>());
        let refuse = |detail: &str| {
            let error = FieldError::invalid(&path, list(), detail);
            Err(SelectorError(error.to_string()))
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return refuse("for 'in', 'notin' operators, values set can't be empty");
            }
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals
                if values.len() != 1 =>
            {
                return refuse("exact-match compatibility requires one single value");
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return refuse("values set must be empty for exists and does not exist");
            }
            Operator::GreaterThan | Operator::LessThan => {
                if values.len() != 1 {
                    return refuse("for 'Gt', 'Lt' operators, exactly one value is required");
                }
                for (i, value) in values.iter().enumerate() {
                    if value.parse::<i64>().is_err() {
                        let error = FieldError::invalid(
                            &path.index(i),
                            value.as_str(),
                            "for 'Gt', 'Lt' operators, the value must be an integer",
                        );
                        return Err(SelectorError(error.to_string()));
                    }
                }
            }
            _ => {}
        }
        for (i, value) in values.iter().enumerate() {
            let errors = names::is_valid_label_value(value);
            if !errors.is_empty() {
                let path = path.index(i).key(key);
                let error = FieldError::invalid(&path, value.as_str(), errors.join("; "));
                return Err(SelectorError(error.to_string()));
            }
        }
        Ok(Requirement {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    /// Whether a label with this value (or its absence) satisfies the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = || self.values.first().and_then(|v| number(v));
        match self.operator {
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Equals | Operator::DoubleEquals | Operator::In => {
                value.is_some_and(|v| self.values.contains(v))
            }
            Operator::NotEquals | Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::GreaterThan => {
                matches!((value.and_then(number), bound()), (Some(v), Some(b)) if v > b)
            }
            Operator::LessThan => {
                matches!((value.and_then(number), bound()), (Some(v), Some(b)) if v < b)
            }
        }
    }
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> LabelSelector {
        LabelSelector::default()
    }

    /// Matches nothing: what an absent `LabelSelector` of an object means.
    pub fn nothing() -> LabelSelector {
        LabelSelector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Reads the query parameter `labelSelector`.
    pub fn parse(text: &str) -> Result<LabelSelector, SelectorError> {
        Parser::new(text).selector()
    }

    /// The selector of a plain map, as in `spec.selector` of a Service: all pairs equal. An absent
    /// or empty map matches everything here; callers give it its own meaning.
    pub fn from_map(map: &Value) -> LabelSelector {
        let pairs = map.as_object().into_iter().flatten();
        let requirements = pairs
            .filter_map(|(key, value)| {
                Some(Requirement {
                    key: key.clone(),
                    operator: Operator::Equals,
                    values: BTreeSet::from([value.as_str()?.to_owned()]),
                })
            })
            .collect();
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// The `metav1.LabelSelector` of an object. Absent or null matches nothing, an empty one
    /// everything.
    pub fn from_object(selector: Option<&Value>) -> Result<LabelSelector, SelectorError> {
        let Some(selector) = selector.and_then(Value::as_object) else {
            return Ok(LabelSelector::nothing());
        };
        let mut requirements = Vec::new();
        let labels = selector.get("matchLabels").and_then(Value::as_object);
        for (key, value) in labels.into_iter().flatten() {
            let value = value.as_str().unwrap_or("").to_owned();
            requirements.push(Requirement::new(
                key,
                Operator::Equals,
                BTreeSet::from([value]),
            )?);
        }
        let expressions = selector.get("matchExpressions").and_then(Value::as_array);
        for expression in expressions.into_iter().flatten() {
            let text = |k: &str| expression.get(k).and_then(Value::as_str).unwrap_or("");
            let operator = match text("operator") {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{} is not a valid label selector operator",
                        go_quote(other)
                    )));
                }
            };
            let values = expression.get("values").and_then(Value::as_array);
            let values = values.into_iter().flatten().filter_map(Value::as_str);
            let values = values.map(str::to_owned).collect();
            requirements.push(Requirement::new(text("key"), operator, values)?);
        }
        Ok(LabelSelector::of(requirements))
    }

    fn of(mut requirements: Vec<Requirement>) -> LabelSelector {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        LabelSelector {
            requirements,
            nothing: false,
        }
    }

    /// Whether an object with these labels is selected.
    pub fn matches<'a>(&self, labels: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> bool {
        !self.nothing
            && self.requirements.iter().all(|r| {
                let value = labels.clone().find(|(k, _)| *k == r.key).map(|(_, v)| v);
                r.matches(value)
            })
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether nothing can be selected.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// The terms, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = || {
            let values: Vec<&str> = self.values.iter().map(String::as_str).collect();
            values.join(",")
        };
        let key = &self.key;
        match self.operator {
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={}", list()),
            Operator::DoubleEquals => write!(f, "{key}=={}", list()),
            Operator::NotEquals => write!(f, "{key}!={}", list()),
            Operator::In => write!(f, "{key} in ({})", list()),
            Operator::NotIn => write!(f, "{key} notin ({})", list()),
            Operator::GreaterThan => write!(f, "{key}>{}", list()),
            Operator::LessThan => write!(f, "{key}<{}", list()),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

fn check_key(key: &str, path: &str) -> Result<(), SelectorError> {
    let errors = names::is_qualified_name(key);
    if errors.is_empty() {
        return Ok(());
    }
    let error = FieldError::invalid(&Path::new(path), key, errors.join("; "));
    Err(SelectorError(error.to_string()))
}

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

struct Parser<'a> {
    items: Vec<(Token, &'a str)>,
    position: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Parser<'a> {
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

    fn selector(mut self) -> Result<LabelSelector, SelectorError> {
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

fn fail<T>(text: String) -> Result<T, SelectorError> {
    Err(SelectorError(text))
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

/// One term of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTerm {
    pub field: String,
    /// `false` for `!=`.
    pub equal: bool,
    pub value: String,
}

/// A field selector: all terms hold. Which fields exist is the resource's business.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    pub terms: Vec<FieldTerm>,
}

impl FieldSelector {
    /// Reads the query parameter `fieldSelector`.
    pub fn parse(text: &str) -> Result<FieldSelector, SelectorError> {
        let mut terms: Vec<FieldTerm> = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            let Some((field, equal, value)) = split_term(part) else {
                return fail(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                ));
            };
            terms.push(FieldTerm {
                field: field.to_owned(),
                equal,
                value: unescape(value)?,
            });
        }
        Ok(FieldSelector { terms })
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether the fields, as `get` reads them, satisfy all terms. An absent field is empty.
    pub fn matches(&self, get: impl Fn(&str) -> Option<String>) -> bool {
        self.terms
            .iter()
            .all(|t| (get(&t.field).unwrap_or_default() == t.value) == t.equal)
    }

    /// The value that a field must have, when the selector says so.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|t| t.equal && t.field == field)
            .map(|t| t.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if term.equal { "=" } else { "!=" };
            write!(f, "{comma}{}{operator}{}", term.field, escape(&term.value))?;
        }
        Ok(())
    }
}

/// A value as it must stand in a field selector.
pub fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace(',', "\\,")
        .replace('=', "\\=")
}

/// Splits at the commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (i, _) in term.char_indices() {
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = term[i..].strip_prefix(operator) {
                return Some((&term[..i], equal, value));
            }
        }
    }
    None
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => out.push(e),
                other => {
                    let sequence: String = std::iter::once('\\').chain(other).collect();
                    return fail(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    ));
                }
            },
            ',' | '=' => {
                return fail(format!(
                    "invalid field selector: unescaped character in value: {}",
                    c as u32
                ));
            }
            _ => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        LabelSelector::parse(selector)
            .unwrap()
            .matches(labels.iter().copied())
    }

    #[test]
    fn label_matching() {
        let l = [("app", "web"), ("tier", ""), ("n", "5")];
        for yes in [
            "",
            "app",
            "app=web",
            "app==web",
            "app!=db",
            "app in (web,db)",
            "app notin (db)",
            "!old",
            "old!=x",
            "old notin (x)",
            "tier=",
            "tier in ()",
            "tier in (,a)",
            "app=web,!old , n>4,n<6",
            "in",
            "notin,app",
        ] {
            let expected = yes != "in" && yes != "notin,app";
            assert_eq!(matches(yes, &l), expected, "{yes}");
        }
        for no in [
            "app=db",
            "!app",
            "app notin (web)",
            "old=x",
            "n>5",
            "old>1",
            "app>1",
        ] {
            assert!(!matches(no, &l), "{no}");
        }
    }

    #[test]
    fn label_display_is_sorted_and_parses_again() {
        let s = LabelSelector::parse("z notin (b,a),a==1,!c,b,d!=2,e in (x)").unwrap();
        assert_eq!(s.to_string(), "a==1,b,!c,d!=2,e in (x),z notin (a,b)");
        assert_eq!(LabelSelector::parse(&s.to_string()).unwrap(), s);
    }

    #[test]
    fn label_errors() {
        for (text, error) in [
            (
                ",",
                "found ',', expected: !, identifier, or 'end of string'",
            ),
            ("a,", "found '', expected: identifier after ','"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a in b",
                "unable to parse requirement: found 'b' expected: '('",
            ),
            (
                "a in (b",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            (
                "a in (b c)",
                "unable to parse requirement: found 'c', expected: ',' or ')'",
            ),
            ("a==b c", "found 'c', expected: ',' or 'end of string'"),
            (
                "!",
                "unable to parse requirement: found '', expected: identifier",
            ),
            (
                "a=(",
                "unable to parse requirement: found '(', expected: identifier",
            ),
            (
                "a>x",
                "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an integer",
            ),
        ] {
            assert_eq!(
                LabelSelector::parse(text).unwrap_err().to_string(),
                error,
                "{text}"
            );
        }
        let text = LabelSelector::parse("-a=b").unwrap_err().to_string();
        assert!(
            text.starts_with(
                "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must"
            ),
            "{text}"
        );
        let text = LabelSelector::parse("a=b!").unwrap_err().to_string();
        assert_eq!(text, "found '!', expected: ',' or 'end of string'");
        let text = LabelSelector::parse("a=b/c").unwrap_err().to_string();
        assert!(text.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"b/c\": a valid label must"), "{text}");
    }

    #[test]
    fn label_selector_of_an_object() {
        let s = json!({"matchLabels": {"b": "1"}, "matchExpressions": [
            {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "c", "operator": "DoesNotExist"}]});
        let s = LabelSelector::from_object(Some(&s)).unwrap();
        assert_eq!(s.to_string(), "a in (x,y),b=1,!c");
        let empty = LabelSelector::from_object(Some(&json!({}))).unwrap();
        assert!(empty.matches([].into_iter()) && empty.is_empty());
        let nothing = LabelSelector::from_object(None).unwrap();
        assert!(!nothing.matches([].into_iter()) && !nothing.is_empty());
        let bad = json!({"matchExpressions": [{"key": "a", "operator": "Near"}]});
        assert_eq!(
            LabelSelector::from_object(Some(&bad))
                .unwrap_err()
                .to_string(),
            "\"Near\" is not a valid label selector operator"
        );
    }

    #[test]
    fn field_selectors() {
        let s = FieldSelector::parse(r"metadata.name==a,,spec.nodeName!=b\,c\=d\\").unwrap();
        assert_eq!(s.to_string(), r"metadata.name=a,spec.nodeName!=b\,c\=d\\");
        assert_eq!(s.required_value("metadata.name"), Some("a"));
        assert_eq!(s.required_value("spec.nodeName"), None);
        let field = |f: &str| (f == "metadata.name").then(|| "a".to_owned());
        assert!(s.matches(field));
        assert!(
            !FieldSelector::parse("metadata.name!=a")
                .unwrap()
                .matches(field)
        );
        for (text, error) in [
            ("abc", "invalid selector: 'abc'; can't understand 'abc'"),
            (
                "a=b=c",
                "invalid field selector: unescaped character in value: 61",
            ),
            (
                r"a=\n",
                r"invalid field selector: invalid escape sequence: \n",
            ),
        ] {
            assert_eq!(FieldSelector::parse(text).unwrap_err().to_string(), error);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[a-c=!(),<> in]{0,20}|\\PC{0,20}") {
            if let Ok(s) = LabelSelector::parse(&text) {
                prop_assert_eq!(LabelSelector::parse(&s.to_string()).map(|s| s.to_string()), Ok(s.to_string()));
            }
            if let Ok(s) = FieldSelector::parse(&text) {
                prop_assert_eq!(FieldSelector::parse(&s.to_string()), Ok(s));
            }
        }
    }
}
