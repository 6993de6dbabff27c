//! Patterns. The engine takes time linear in the text, whatever the pattern is.

use regex::Regex;

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "matches",
        signatures: &["string.(string) bool", "(string, string) bool"],
        native: |meter, args| dynamic(meter, "matches", args),
    },
    Function {
        name: "find",
        signatures: &["string.(string) string"],
        native: |meter, args| dynamic(meter, "find", args),
    },
    Function {
        name: "findAll",
        signatures: &[
            "string.(string) list<string>",
            "string.(string, int) list<string>",
        ],
        native: |meter, args| dynamic(meter, "findAll", args),
    },
];

/// Whether the second argument of this function is a pattern.
pub(crate) fn takes_pattern(name: &str) -> bool {
    matches!(name, "matches" | "find" | "findAll")
}

fn dynamic<'a>(meter: &mut Meter<'_>, name: &str, args: &[Value<'a>]) -> Outcome<'a> {
    let [_, Value::String(pattern), ..] = args else {
        return Err(EvalError::no_overload());
    };
    let regex = meter.regex(pattern)?;
    with_literal(meter, name, &regex, args)
}

pub(crate) fn with_literal<'a>(
    meter: &mut Meter<'_>,
    name: &str,
    regex: &Regex,
    args: &[Value<'a>],
) -> Outcome<'a> {
    let [Value::String(text), _, rest @ ..] = args else {
        return Err(EvalError::no_overload());
    };
    let pattern = (regex.as_str().len() as u64).div_ceil(4);
    meter.charge((text.len() as u64 + 1).div_ceil(10).saturating_mul(pattern))?;
    match (name, rest) {
        ("matches", []) => Ok(Value::Bool(regex.is_match(text))),
        ("find", []) => Ok(Value::text(
            regex.find(text).map_or("", |found| found.as_str()),
        )),
        ("findAll", []) => find_all(meter, regex, text, -1),
        ("findAll", [Value::Int(most)]) => find_all(meter, regex, text, *most),
        _ => Err(EvalError::no_overload()),
    }
}

fn find_all<'a>(meter: &mut Meter<'_>, regex: &Regex, text: &str, most: i64) -> Outcome<'a> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for part in regex.find_iter(text).take(most) {
        meter.charge(1)?;
        found.push(Value::text(part.as_str()));
    }
    Ok(Value::list(found))
}
