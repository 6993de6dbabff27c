//! The text of a path to its steps.

use serde_json::Value;

use super::{JsonPath, Operand, Operator, Step};

/// Longer paths are refused.
const STEPS_MAX: usize = 256;
/// Filters within filters beyond this many are refused.
const NESTING_MAX: usize = 8;

pub(super) fn parse(text: &str) -> Result<Vec<Step>, String> {
    let inner = match text.strip_prefix('{') {
        Some(inner) => inner.strip_suffix('}').ok_or("unclosed action")?,
        None => text,
    };
    let inner = inner.strip_prefix('$').unwrap_or(inner);
    let (steps, rest) = steps(inner, 0)?;
    match rest.chars().next() {
        None => Ok(steps),
        Some(c) => Err(format!("unrecognized character in action: {c:?}")),
    }
}

type Parsed<'t, T> = Result<(T, &'t str), String>;

/// The steps up to where something else begins.
fn steps(text: &str, nesting: usize) -> Parsed<'_, Vec<Step>> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        if found.len() > STEPS_MAX {
            return Err("too many steps".to_owned());
        }
        if let Some(after) = rest.strip_prefix("..") {
            found.push(Step::Descent);
            rest = after;
            if !rest.starts_with('[') {
                let (step, after) = name(rest)?;
                found.push(step);
                rest = after;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            // A lone dot is the object itself.
            if after.is_empty() || after.starts_with('[') {
                rest = after;
                continue;
            }
            let (step, after) = name(after)?;
            found.push(step);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('[') {
            let (step, after) = bracket(after, nesting)?;
            found.push(step);
            rest = after;
        } else {
            return Ok((found, rest));
        }
    }
}

/// A name behind a dot, in which a backslash takes the next character as it is.
fn name(text: &str) -> Parsed<'_, Step> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' | ']' | '(' | ')' | '=' | '!' | '<' | '>' | ',' | '{' | '}' | '|' | '&' => {
                end = at;
                break;
            }
            c if c.is_whitespace() => {
                end = at;
                break;
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => Err("a name is missing behind a dot".to_owned()),
        "*" => Ok((Step::Wildcard, &text[end..])),
        _ => Ok((Step::Name(name), &text[end..])),
    }
}

/// What is between brackets, the first of which is read already.
fn bracket(text: &str, nesting: usize) -> Parsed<'_, Step> {
    if let Some(inner) = text.strip_prefix("?(") {
        return filter(inner, nesting);
    }
    let (mut parts, mut rest) = (Vec::new(), text);
    loop {
        let (part, after) = part(rest.trim_start())?;
        parts.push(part);
        rest = after.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
        } else if let Some(after) = rest.strip_prefix(']') {
            let step = match parts.len() {
                1 => parts.swap_remove(0),
                _ => Step::Union(parts),
            };
            return Ok((step, after));
        } else {
            return Err("unterminated array".to_owned());
        }
        if parts.len() > STEPS_MAX {
            return Err("too many steps".to_owned());
        }
    }
}

fn part(text: &str) -> Parsed<'_, Step> {
    if let Some(after) = text.strip_prefix('*') {
        return Ok((Step::Wildcard, after));
    }
    if text.starts_with(['\'', '"']) {
        let (name, after) = quoted(text)?;
        return Ok((Step::Name(name), after));
    }
    let end = text.find([',', ']']).ok_or("unterminated array")?;
    let (inner, after) = text.split_at(end);
    let invalid = || format!("invalid array index {inner}");
    let number = |digits: &str| -> Result<Option<i64>, String> {
        match digits.trim() {
            "" => Ok(None),
            digits => digits.parse().map(Some).map_err(|_| invalid()),
        }
    };
    let pieces: Vec<&str> = inner.split(':').collect();
    let step = match pieces.as_slice() {
        [one] => Step::Index(number(one)?.ok_or_else(invalid)?),
        [from, to] => Step::Slice(number(from)?, number(to)?, 1),
        [from, to, stride] => match number(stride)?.unwrap_or(1) {
            stride @ 1.. => Step::Slice(number(from)?, number(to)?, stride),
            _ => return Err("step must be > 0".to_owned()),
        },
        _ => return Err(invalid()),
    };
    Ok((step, after))
}

fn quoted(text: &str) -> Parsed<'_, String> {
    let mut chars = text.char_indices();
    let quote = chars.next().map_or('\'', |(_, c)| c);
    let mut inner = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => inner.extend(chars.next().map(|(_, c)| c)),
            c if c == quote => return Ok((inner, &text[at + 1..])),
            c => inner.push(c),
        }
    }
    Err("unterminated quoted string".to_owned())
}

fn filter(text: &str, nesting: usize) -> Parsed<'_, Step> {
    if nesting >= NESTING_MAX {
        return Err("filters nest too deep".to_owned());
    }
    let (left, rest) = operand(text.trim_start(), nesting)?;
    let rest = rest.trim_start();
    let operators = [
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    let operator = operators
        .into_iter()
        .find_map(|(text, operator)| Some((operator, rest.strip_prefix(text)?)));
    let (right, rest) = match operator {
        None => (None, rest),
        Some((operator, rest)) => {
            let (right, rest) = operand(rest.trim_start(), nesting)?;
            (Some((operator, right)), rest)
        }
    };
    let rest = rest.trim_start().strip_prefix(")]");
    let rest = rest.ok_or("unterminated filter")?;
    Ok((Step::Filter(left, right), rest))
}

fn operand(text: &str, nesting: usize) -> Parsed<'_, Operand> {
    if let Some(inner) = text.strip_prefix(['@', '$']) {
        let (steps, rest) = steps(inner, nesting + 1)?;
        return Ok((Operand::Path(JsonPath(steps)), rest));
    }
    if text.starts_with('.') {
        let (steps, rest) = steps(text, nesting + 1)?;
        return Ok((Operand::Path(JsonPath(steps)), rest));
    }
    if text.starts_with(['\'', '"']) {
        let (inner, rest) = quoted(text)?;
        return Ok((Operand::Literal(inner.into()), rest));
    }
    let end = text
        .find([')', '=', '!', '<', '>', ' '])
        .unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let value = match word {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => {
            let integer = word.parse::<i64>().map(Value::from);
            let number = integer.or_else(|_| word.parse::<f64>().map(Value::from));
            number.map_err(|_| format!("cannot parse number {word}"))?
        }
    };
    Ok((Operand::Literal(value), rest))
}
