//! Whether the values of an object are what its schema demands, with Kubernetes' kinds and texts of
//! errors.
//!
//! On an update, what is wrong in a part that did not change is forgiven: the rules may be younger
//! than the object. Parts are the same when they are at the same place, where items of lists have
//! one only if the list has keys.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Number, Value};

use super::node::{Additional, Limits, Node, NodeType};
use super::{format, pattern};
use crate::field::{ErrorKind, ErrorList, FieldError, Path};
use crate::types::ListType;

/// Errors beyond this many are not listed.
const ERRORS_MAX: usize = 200;

/// What is wrong with a value, `prefix` being the path of it.
pub(super) fn values(
    node: &Node,
    value: &Value,
    old: Option<&Value>,
    prefix: Option<&Path>,
) -> ErrorList {
    let outcome = check(node, value, old, None);
    let mut errors = outcome.errors;
    for error in &mut errors {
        error.path = match (prefix, error.path.as_str()) {
            // What is said of the schemas of a junction names no field.
            (None, NOWHERE) => "<nil>".to_owned(),
            (Some(prefix), "" | NOWHERE) => prefix.to_string(),
            (Some(prefix), path) => prefix.child(path).to_string(),
            (None, "") => "<nil>".to_owned(),
            (None, path) => path.to_owned(),
        };
    }
    errors
}

/// Stands for no path at all while errors are collected; no path looks like it.
const NOWHERE: &str = "\0";

/// Where we are: a list on the stack, since it is only shown with an error.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Name(name) if self.parent.is_none() => f.write_str(name),
            Step::Name(name) => write!(f, ".{name}"),
        }
    }
}

type Place<'a> = Option<&'a At<'a>>;

fn shown(at: Place<'_>) -> String {
    at.map(ToString::to_string).unwrap_or_default()
}

/// The errors of a value, and how much was right with it: of several alternatives the one that
/// fits best is complained about.
#[derive(Default)]
struct Outcome {
    errors: ErrorList,
    matches: usize,
}

impl Outcome {
    fn is_valid(&self) -> bool {
        self.errors.is_empty()
    }

    fn add(&mut self, error: FieldError) {
        let same = |known: &FieldError| {
            known.kind == error.kind && known.path == error.path && known.detail == error.detail
        };
        if self.errors.len() < ERRORS_MAX && !self.errors.iter().any(same) {
            self.errors.push(error);
        }
    }

    fn merge(&mut self, other: Outcome) {
        self.matches += other.matches;
        other.errors.into_iter().for_each(|error| self.add(error));
    }

    /// An error whose text names its place.
    fn fail(&mut self, kind: ErrorKind, at: Place<'_>, value: Value, text: &str) {
        let path = shown(at);
        self.add(FieldError {
            kind,
            detail: format!("{path} in body {text}"),
            path,
            value,
        });
    }

    fn invalid(&mut self, at: Place<'_>, value: &Value, text: &str) {
        self.fail(ErrorKind::Invalid, at, value.clone(), text);
    }

    /// `in body must be of type`, which shows the type that was found.
    fn misfit(&mut self, at: Place<'_>, expected: &str, found: &Value) {
        let text = match found {
            Value::String(found) => {
                format!(
                    "must be of type {expected}: {}",
                    crate::field::go_quote(found)
                )
            }
            _ => format!("must be of type {expected}"),
        };
        self.fail(ErrorKind::TypeInvalid, at, found.clone(), &text);
    }

    fn of_junction(&mut self, at: Place<'_>, text: &str) {
        self.add(FieldError {
            kind: ErrorKind::Invalid,
            path: NOWHERE.to_owned(),
            value: "".into(),
            detail: format!("{} {text}", crate::field::go_quote(&shown(at))),
        });
    }
}

fn check(node: &Node, value: &Value, old: Option<&Value>, at: Place<'_>) -> Outcome {
    let mut outcome = demands(node, value, old, at);
    if !outcome.is_valid() && old.is_some_and(|old| old == value || is_unchanged(node, old, value))
    {
        outcome.errors.clear();
    }
    outcome
}

/// Whether two values say the same. The order of items that have keys says nothing.
fn is_unchanged(node: &Node, old: &Value, new: &Value) -> bool {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            before.len() == after.len()
                && after.iter().all(|(key, new)| {
                    let Some(old) = before.get(key) else {
                        return false;
                    };
                    match node.member(key) {
                        Some(inner) => is_unchanged(inner, old, new),
                        None => old == new,
                    }
                })
        }
        (Value::Array(before), Value::Array(after)) if node.list_type == Some(ListType::Map) => {
            let (Some(found), Some(inner)) = (OldItems::of(node, Some(old)), node.items.as_deref())
            else {
                return old == new;
            };
            let is_there = |new| {
                found
                    .get(new)
                    .is_some_and(|old| is_unchanged(inner, old, new))
            };
            before.len() == after.len() && after.iter().all(is_there)
        }
        _ => old == new,
    }
}

fn demands(node: &Node, value: &Value, old: Option<&Value>, at: Place<'_>) -> Outcome {
    let mut outcome = Outcome::default();
    of_type(node, value, at, &mut outcome);
    let limits = node.limits.as_deref();
    if value.is_null() {
        if let Some(limits) = limits {
            enumeration(limits, value, at, &mut outcome);
        }
        return outcome;
    }
    if let Some(limits) = limits {
        junctions(limits, value, old, at, &mut outcome);
        if let Value::String(text) = value {
            string(limits, text, value, at, &mut outcome);
        }
    }
    if let Value::Number(number) = value {
        range(node, number, at, &mut outcome);
        if let (Some(limits), Some(number)) = (limits, number.as_f64()) {
            self::number(limits, number, value, at, &mut outcome);
        }
    }
    if let Value::Array(items) = value {
        list(node, items, old, at, &mut outcome);
    }
    if let Some(limits) = limits {
        enumeration(limits, value, at, &mut outcome);
    }
    if let Value::Object(map) = value {
        object(node, map, old, at, &mut outcome);
    }
    outcome
}

fn of_type(node: &Node, value: &Value, at: Place<'_>, outcome: &mut Outcome) {
    let expected = match node.ty {
        Some(ty) => ty.as_str(),
        None if node.int_or_string => "integer,string",
        None => return,
    };
    let found = type_of(value);
    let fits = match node.ty {
        _ if value.is_null() => node.nullable,
        None => matches!(found, "integer" | "string") || is_whole(value),
        Some(NodeType::Integer) => found == "integer" || is_whole(value),
        Some(NodeType::Number) => matches!(found, "integer" | "number"),
        Some(_) => found == expected,
    };
    if fits {
        outcome.matches += 1;
    } else {
        let format = node.limits.as_deref();
        let format = format.and_then(|limits| limits.format.as_deref());
        match (node.ty, format, found) {
            // Of a number with a format, that is told instead of the type.
            (Some(NodeType::Integer), Some(format), "number") => {
                outcome.misfit(at, format, &"float64".into());
            }
            _ => outcome.misfit(at, expected, &found.into()),
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A number that was written with a fraction or an exponent and is an integer all the same.
fn is_whole(value: &Value) -> bool {
    const EXACT_MAX: f64 = 9_007_199_254_740_991.0;
    let number = value.as_f64();
    number.is_some_and(|n| n.fract() == 0.0 && n.abs() <= EXACT_MAX)
}

fn junctions(
    limits: &Limits,
    value: &Value,
    old: Option<&Value>,
    at: Place<'_>,
    outcome: &mut Outcome,
) {
    let run = |node: &Node| demands(node, value, old, at);
    if !limits.any_of.is_empty() {
        let (valid, best) = best_of(limits.any_of.iter().map(|node| run(node)), 1);
        if valid == 0 {
            outcome.of_junction(at, "must validate at least one schema (anyOf)");
        }
        outcome.merge(best);
    }
    if !limits.one_of.is_empty() {
        let (valid, best) = best_of(limits.one_of.iter().map(|node| run(node)), usize::MAX);
        match valid {
            1 => outcome.merge(best),
            0 => {
                let text = "must validate one and only one schema (oneOf). Found none valid";
                outcome.of_junction(at, text);
                outcome.merge(best);
            }
            several => outcome.of_junction(
                at,
                &format!(
                    "must validate one and only one schema (oneOf). Found {several} valid alternatives"
                ),
            ),
        }
    }
    let mut valid = 0;
    for node in &limits.all_of {
        let result = run(node);
        valid += usize::from(result.is_valid());
        outcome.merge(result);
    }
    if valid < limits.all_of.len() {
        let none = if valid == 0 { ". None validated" } else { "" };
        outcome.of_junction(at, &format!("must validate all the schemas (allOf){none}"));
    }
    if limits
        .not
        .as_deref()
        .is_some_and(|node| run(node).is_valid())
    {
        outcome.of_junction(at, "must not validate the schema (not)");
    }
}

/// How many are valid, counting up to `enough`, and the first of them; the best failure where none
/// is.
fn best_of(outcomes: impl Iterator<Item = Outcome>, enough: usize) -> (usize, Outcome) {
    let (mut valid, mut best) = (0, None::<Outcome>);
    for outcome in outcomes {
        if outcome.is_valid() {
            valid += 1;
            if valid == 1 {
                best = Some(outcome);
            }
            if valid == enough {
                break;
            }
        } else if valid == 0 && best.as_ref().is_none_or(|b| outcome.matches > b.matches) {
            best = Some(outcome);
        }
    }
    (valid, best.unwrap_or_default())
}

fn string(limits: &Limits, text: &str, value: &Value, at: Place<'_>, outcome: &mut Outcome) {
    let length = || i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let too_long = limits.max_length.filter(|max| length() > *max);
    let too_short = limits.min_length.filter(|min| length() < *min);
    // Only the first of these is told.
    if let Some(max) = too_long {
        let max = usize::try_from(max).unwrap_or(0);
        outcome.add(FieldError::too_long(&Path::root(), max).at(shown(at)));
    } else if let Some(min) = too_short {
        outcome.invalid(at, value, &format!("should be at least {min} chars long"));
    } else if let Some(pattern) = &limits.pattern
        && !pattern::matches(pattern, text)
    {
        outcome.invalid(at, value, &format!("should match '{pattern}'"));
    } else {
        outcome.matches += 1;
    }
    if let Some(format) = &limits.format
        && !format::matches(format, text)
    {
        outcome.misfit(at, format, value);
    }
}

/// Whether a number is one that its type and format can hold.
fn range(node: &Node, number: &Number, at: Place<'_>, outcome: &mut Outcome) {
    let format = node.limits.as_deref();
    let format = format.and_then(|limits| limits.format.as_deref());
    let float = number.as_f64();
    let whole = number.as_i64().or_else(|| float.and_then(exact_i64));
    let fits = match (node.ty, format) {
        (Some(NodeType::Integer), Some("int32")) => whole.is_some_and(|n| i32::try_from(n).is_ok()),
        (Some(NodeType::Integer), _) => whole.is_some(),
        (Some(NodeType::Number), Some("float")) => float.is_none_or(|n| (n as f32).is_finite()),
        _ => true,
    };
    let Some(ty) = node.ty.filter(|_| !fits) else {
        return;
    };
    let format = match format {
        Some(format) => format!("with format {format}"),
        None => "(default format)".to_owned(),
    };
    outcome.add(FieldError {
        kind: ErrorKind::Invalid,
        path: NOWHERE.to_owned(),
        value: "".into(),
        detail: format!(
            "Checked value must be of type {} {format} in {}",
            ty.as_str(),
            shown(at)
        ),
    });
}

fn number(limits: &Limits, number: f64, value: &Value, at: Place<'_>, outcome: &mut Outcome) {
    let before = outcome.errors.len();
    if let Some(factor) = limits.multiple_of {
        if factor <= 0.0 {
            let detail = format!(
                "factor MultipleOf declared for {} must be positive: {}",
                shown(at),
                go_float(factor)
            );
            outcome.add(FieldError::invalid(&Path::root(), factor, detail).at(shown(at)));
        } else if !is_multiple(value, number, factor) {
            outcome.invalid(
                at,
                value,
                &format!("should be a multiple of {}", go_float(factor)),
            );
        }
    }
    if let Some(max) = limits.maximum {
        let excluded = limits.exclusive_maximum;
        if compare(value, number, max).is_gt() || excluded && compare(value, number, max).is_eq() {
            let or_equal = if excluded { "" } else { " or equal to" };
            outcome.invalid(
                at,
                value,
                &format!("should be less than{or_equal} {}", go_float(max)),
            );
        }
    }
    if let Some(min) = limits.minimum {
        let excluded = limits.exclusive_minimum;
        if compare(value, number, min).is_lt() || excluded && compare(value, number, min).is_eq() {
            let or_equal = if excluded { "" } else { " or equal to" };
            outcome.invalid(
                at,
                value,
                &format!("should be greater than{or_equal} {}", go_float(min)),
            );
        }
    }
    outcome.matches += usize::from(outcome.errors.len() == before);
}

/// Compares an integer with an integer exactly, and anything else as floating point numbers.
fn compare(value: &Value, number: f64, limit: f64) -> std::cmp::Ordering {
    match (value.as_i64(), exact_i64(limit)) {
        (Some(value), Some(limit)) => value.cmp(&limit),
        _ => number
            .partial_cmp(&limit)
            .unwrap_or(std::cmp::Ordering::Equal),
    }
}

fn exact_i64(number: f64) -> Option<i64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    (number.fract() == 0.0 && (-LIMIT..LIMIT).contains(&number)).then_some(number as i64)
}

fn is_multiple(value: &Value, number: f64, factor: f64) -> bool {
    match (value.as_i64(), exact_i64(factor)) {
        (Some(value), Some(factor)) if factor != 0 => value.checked_rem(factor) == Some(0),
        _ => {
            let quotient = number / factor;
            quotient.is_finite() && (quotient - quotient.round()).abs() < 1e-9
        }
    }
}

/// A number as Go prints it.
fn go_float(number: f64) -> String {
    let text = format!("{number:e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if number != 0.0 && !(-4..21).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    number.to_string()
}

fn enumeration(limits: &Limits, value: &Value, at: Place<'_>, outcome: &mut Outcome) {
    if limits.enumeration.is_empty() {
        return;
    }
    if limits.enumeration.iter().any(|known| same(known, value)) {
        outcome.matches += 1;
        return;
    }
    let texts: Vec<String> = limits
        .enumeration
        .iter()
        .map(|known| match known {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect();
    let error = FieldError::not_supported(&Path::root(), value.clone(), &texts);
    outcome.add(error.at(shown(at)));
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        _ => a == b,
    }
}

fn list(node: &Node, items: &[Value], old: Option<&Value>, at: Place<'_>, outcome: &mut Outcome) {
    if let Some(inner) = node.items.as_deref() {
        let before = OldItems::of(node, old);
        for (i, item) in items.iter().enumerate() {
            let here = At {
                parent: at,
                step: Step::Index(i),
            };
            let old = before.as_ref().and_then(|before| before.get(item));
            outcome.merge(check(inner, item, old, Some(&here)));
        }
    }
    let Some(limits) = &node.limits else {
        return;
    };
    let count = items.len();
    if let Some(min) = limits.min_items.filter(|min| (count as i64) < *min) {
        outcome.invalid(
            at,
            &count.into(),
            &format!("should have at least {min} items"),
        );
    }
    if let Some(max) = limits.max_items.filter(|max| count as i64 > *max) {
        let max = usize::try_from(max).unwrap_or(0);
        outcome.add(FieldError::too_many(&Path::root(), count, max).at(shown(at)));
    }
}

/// The items of a list with keys as they were, by their keys.
struct OldItems<'a> {
    node: &'a Node,
    items: HashMap<String, &'a Value>,
}

impl<'a> OldItems<'a> {
    fn of(node: &'a Node, old: Option<&'a Value>) -> Option<OldItems<'a>> {
        if node.list_type != Some(ListType::Map) {
            return None;
        }
        let items = old?.as_array()?.iter();
        let items = items.map(|item| (super::unique::key_text(node, item), item));
        Some(OldItems {
            node,
            items: items.collect(),
        })
    }

    fn get(&self, item: &Value) -> Option<&'a Value> {
        self.items
            .get(&super::unique::key_text(self.node, item))
            .copied()
    }
}

fn object(
    node: &Node,
    map: &Map<String, Value>,
    old: Option<&Value>,
    at: Place<'_>,
    outcome: &mut Outcome,
) {
    let count = map.len();
    if let Some(limits) = &node.limits {
        if let Some(min) = limits.min_properties.filter(|min| (count as i64) < *min) {
            let text = format!("should have at least {min} properties");
            outcome.invalid(at, &count.into(), &text);
            return;
        }
        if let Some(max) = limits.max_properties.filter(|max| count as i64 > *max) {
            let max = usize::try_from(max).unwrap_or(0);
            outcome.add(FieldError::too_many(&Path::root(), count, max).at(shown(at)));
            return;
        }
    }
    for (key, value) in map {
        let here = At {
            parent: at,
            step: Step::Name(key),
        };
        if let Some(inner) = node.member(key) {
            let old = old.and_then(|old| old.get(key));
            outcome.merge(check(inner, value, old, Some(&here)));
        } else if matches!(node.additional, Additional::Forbidden) && !node.is_meta(key) {
            let path = shown(at);
            let detail = format!("{} in body is a forbidden property", here);
            outcome.add(FieldError::invalid(&Path::root(), key.as_str(), detail).at(path));
        }
    }
    for name in &node.required {
        if map.contains_key(&**name) {
            outcome.matches += 1;
            continue;
        }
        let here = At {
            parent: at,
            step: Step::Name(name),
        };
        outcome.add(FieldError::required(&Path::root(), "").at(here.to_string()));
    }
}
