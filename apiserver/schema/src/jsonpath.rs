//! JSONPath, as far as printer columns, selectable fields and the paths of the scale subresource
//! use it: names, positions, slices, unions, wildcards, descent and filters, as kubectl has them.

mod parse;

use serde_json::Value;

use crate::field::{ErrorList, FieldError, Path};

/// What one step may find; the rest is left out.
const FOUND_MAX: usize = 10_000;
/// How deep a descent (`..`) looks.
const DEPTH_MAX: usize = 64;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Name(String),
    /// From, to and stride; a single position is a slice of one.
    Slice(Option<i64>, Option<i64>, i64),
    Index(i64),
    Wildcard,
    Descent,
    Union(Vec<Step>),
    Filter(Operand, Option<(Operator, Operand)>),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// Relative to the item (`@`).
    Path(JsonPath),
    Literal(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Parses `.status.conditions[?(@.type=="Ready")].status`; braces around it are fine. The error
    /// says what is wrong.
    pub fn parse(text: &str) -> Result<JsonPath, String> {
        parse::parse(text).map(JsonPath)
    }

    /// All values that the path leads to, in order.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.walk(value, &mut next, 0);
                if next.len() >= FOUND_MAX {
                    next.truncate(FOUND_MAX);
                    break;
                }
            }
            found = next;
        }
        found
    }

    /// The first of them.
    pub fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.find(value).into_iter().next()
    }
}

impl Step {
    fn walk<'v>(&self, value: &'v Value, found: &mut Vec<&'v Value>, depth: usize) {
        match (self, value) {
            (Step::Name(name), Value::Object(map)) => found.extend(map.get(name)),
            (Step::Index(index), Value::Array(list)) => {
                let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
                let at = if *index < 0 { index + length } else { *index };
                found.extend(usize::try_from(at).ok().and_then(|at| list.get(at)));
            }
            (Step::Slice(from, to, stride), Value::Array(list)) => {
                let length = i64::try_from(list.len()).unwrap_or(i64::MAX);
                let bound =
                    |at: i64| if at < 0 { at + length } else { at }.clamp(0, length) as usize;
                let (from, to) = (bound(from.unwrap_or(0)), bound(to.unwrap_or(length)));
                let stride = usize::try_from(*stride).unwrap_or(1).max(1);
                found.extend(list.iter().take(to).skip(from).step_by(stride));
            }
            (Step::Wildcard, Value::Array(list)) => found.extend(list),
            (Step::Wildcard, Value::Object(map)) => found.extend(map.values()),
            (Step::Descent, value) => {
                if found.len() >= FOUND_MAX || depth > DEPTH_MAX {
                    return;
                }
                found.push(value);
                match value {
                    Value::Array(list) => list.iter().for_each(|v| self.walk(v, found, depth + 1)),
                    Value::Object(map) => {
                        map.values().for_each(|v| self.walk(v, found, depth + 1));
                    }
                    _ => {}
                }
            }
            (Step::Union(steps), value) => {
                steps.iter().for_each(|step| step.walk(value, found, depth));
            }
            (Step::Filter(left, right), Value::Array(list)) => {
                found.extend(list.iter().filter(|item| holds(left, right.as_ref(), item)));
            }
            _ => {}
        }
    }
}

fn holds(left: &Operand, right: Option<&(Operator, Operand)>, item: &Value) -> bool {
    let left = left.value(item);
    let Some((operator, right)) = right else {
        return left.is_some();
    };
    let (Some(left), Some(right)) = (left, right.value(item)) else {
        return false;
    };
    let order = match (left, right) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(0.0), b.as_f64().unwrap_or(0.0));
            a.partial_cmp(&b)
        }
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) if a == b => Some(std::cmp::Ordering::Equal),
        _ => None,
    };
    match operator {
        Operator::Equal => order.is_some_and(|o| o.is_eq()),
        Operator::NotEqual => order.is_none_or(|o| o.is_ne()),
        Operator::Less => order.is_some_and(|o| o.is_lt()),
        Operator::LessOrEqual => order.is_some_and(|o| o.is_le()),
        Operator::Greater => order.is_some_and(|o| o.is_gt()),
        Operator::GreaterOrEqual => order.is_some_and(|o| o.is_ge()),
    }
}

impl Operand {
    fn value<'v>(&'v self, item: &'v Value) -> Option<&'v Value> {
        match self {
            Operand::Path(path) => path.first(item),
            Operand::Literal(value) => Some(value),
        }
    }
}

/// The names of a path that only goes from field to field: `.spec.a`, `.spec['b.c']`. None for any
/// other path.
pub fn field_steps(text: &str) -> Option<Vec<String>> {
    let steps = parse::parse(text).ok()?;
    if text.starts_with(['{', '$']) || steps.is_empty() {
        return None;
    }
    let name = |step| match step {
        Step::Name(name) => Some(name),
        _ => None,
    };
    steps.into_iter().map(name).collect()
}

/// What a printer column shows of an object: a cell of its `type`, null where there is nothing.
/// `age` turns a point in time (RFC 3339, seconds since 1970) into the text of a `date`.
pub fn cell(path: &JsonPath, ty: &str, object: &Value, age: impl Fn(i64) -> String) -> Value {
    let Some(value) = path.first(object).filter(|value| !value.is_null()) else {
        return Value::Null;
    };
    match (ty, value) {
        ("string", Value::String(_)) => value.clone(),
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.into(),
            (None, Some(float)) => (float as i64).into(),
            (None, None) => Value::Null,
        },
        ("number", Value::Number(number)) => number.as_f64().map_or(Value::Null, Value::from),
        ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(text)) => match crate::time::parse(text) {
            Some(seconds) => age(seconds).into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

/// Checks a path of the scale subresource or of a column as Kubernetes does, which is barely.
pub fn check_simple(text: &str, path: &Path, errors: &mut ErrorList) {
    if text.is_empty() {
        errors.push(FieldError::invalid(path, text, "must not be empty"));
    } else if !text.starts_with('.') {
        let detail = "must be a simple json path starting with .";
        errors.push(FieldError::invalid(path, text, detail));
    }
}

#[cfg(test)]
mod tests;
