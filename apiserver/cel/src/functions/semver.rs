//! Semantic versions. Their comparisons stand with those of quantities.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::Value;

#[derive(Debug, Clone)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
}

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "semver",
        signatures: &["(string) semver", "(string, bool) semver"],
        native: semver,
    },
    Function {
        name: "isSemver",
        signatures: &["(string) bool", "(string, bool) bool"],
        native: is_semver,
    },
    Function {
        name: "major",
        signatures: &["semver.() int"],
        native: |_, args| number(args, 0),
    },
    Function {
        name: "minor",
        signatures: &["semver.() int"],
        native: |_, args| number(args, 1),
    },
    Function {
        name: "patch",
        signatures: &["semver.() int"],
        native: |_, args| number(args, 2),
    },
];

impl Semver {
    /// By precedence; what follows `+` does not count.
    pub(crate) fn cmp(&self, other: &Semver) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        let empty = other.pre.is_empty().cmp(&self.pre.is_empty()).reverse();
        let parts = || {
            let pairs = self
                .pre
                .iter()
                .zip(&other.pre)
                .map(|(a, b)| part_order(a, b));
            pairs
                .fold(Ordering::Equal, Ordering::then)
                .then(self.pre.len().cmp(&other.pre.len()))
        };
        numbers.then(if self.pre.is_empty() || other.pre.is_empty() {
            empty
        } else {
            parts()
        })
    }
}

fn part_order(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        _ => a.cmp(b),
    }
}

fn numeral(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    (plain && (text == "0" || !text.starts_with('0')))
        .then(|| text.parse().ok())
        .flatten()
}

fn parts(text: &str, numerals: bool) -> Option<Vec<String>> {
    let parts = text.split('.').map(|part| {
        let letters =
            !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let digits = part.chars().all(|c| c.is_ascii_digit());
        (letters && (!numerals || !digits || numeral(part).is_some())).then(|| part.to_string())
    });
    parts.collect()
}

/// `v1`, `1.2` and `01.2.3` become whole versions.
fn normalize(text: &str) -> String {
    let text = text.trim().strip_prefix('v').unwrap_or(text.trim());
    let end = text.find(['-', '+']).unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let mut numbers: Vec<&str> = numbers
        .split('.')
        .map(|number| {
            let short = number.trim_start_matches('0');
            if short.is_empty() && !number.is_empty() {
                "0"
            } else {
                short
            }
        })
        .collect();
    while numbers.len() < 3 && rest.is_empty() {
        numbers.push("0");
    }
    numbers.join(".") + rest
}

pub(crate) fn parse(text: &str) -> Option<Semver> {
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    if build.is_some_and(|build| parts(build, false).is_none()) {
        return None;
    }
    let (numbers, pre) = match text.split_once('-') {
        Some((numbers, pre)) => (numbers, parts(pre, true)?),
        None => (text, Vec::new()),
    };
    let numbers: Vec<u64> = numbers.split('.').map(numeral).collect::<Option<_>>()?;
    Some(Semver {
        numbers: numbers.try_into().ok()?,
        pre,
    })
}

fn read(meter: &mut Meter<'_>, args: &[Value<'_>]) -> Result<Option<Semver>, EvalError> {
    let (text, loose) = match args {
        [Value::String(text)] => (text, false),
        [Value::String(text), Value::Bool(loose)] => (text, *loose),
        _ => return Err(EvalError::no_overload()),
    };
    meter.walk(text.len())?;
    Ok(if loose {
        parse(&normalize(text))
    } else {
        parse(text)
    })
}

fn semver<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let version =
        read(meter, args)?.ok_or_else(|| EvalError::new("No Major.Minor.Patch elements found"))?;
    Ok(Value::Semver(Arc::new(version)))
}

fn is_semver<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    Ok(Value::Bool(read(meter, args)?.is_some()))
}

fn number<'a>(args: &[Value<'a>], at: usize) -> Outcome<'a> {
    match args {
        [Value::Semver(version)] => {
            let number = i64::try_from(version.numbers[at]);
            number
                .map(Value::Int)
                .map_err(|_| EvalError::new("integer overflow"))
        }
        _ => Err(EvalError::no_overload()),
    }
}
