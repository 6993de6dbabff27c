//! The string functions of cel-go's extension, in the version that Kubernetes has.

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::operators::size;
use crate::value::{Text, Value};

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "charAt",
        signatures: &["string.(int) string"],
        native: char_at,
    },
    Function {
        name: "indexOf",
        signatures: &[
            "string.(string) int",
            "string.(string, int) int",
            "list<A>.(A) int",
        ],
        native: |meter, args| index_of(meter, args, false),
    },
    Function {
        name: "lastIndexOf",
        signatures: &[
            "string.(string) int",
            "string.(string, int) int",
            "list<A>.(A) int",
        ],
        native: |meter, args| index_of(meter, args, true),
    },
    Function {
        name: "join",
        signatures: &["list<string>.() string", "list<string>.(string) string"],
        native: join,
    },
    Function {
        name: "lowerAscii",
        signatures: &["string.() string"],
        native: |meter, args| map(meter, args, |text| text.to_ascii_lowercase()),
    },
    Function {
        name: "upperAscii",
        signatures: &["string.() string"],
        native: |meter, args| map(meter, args, |text| text.to_ascii_uppercase()),
    },
    Function {
        name: "trim",
        signatures: &["string.() string"],
        native: |meter, args| map(meter, args, |text| text.trim().to_string()),
    },
    Function {
        name: "replace",
        signatures: &[
            "string.(string, string) string",
            "string.(string, string, int) string",
        ],
        native: replace,
    },
    Function {
        name: "split",
        signatures: &[
            "string.(string) list<string>",
            "string.(string, int) list<string>",
        ],
        native: split,
    },
    Function {
        name: "substring",
        signatures: &["string.(int) string", "string.(int, int) string"],
        native: substring,
    },
    Function {
        name: "strings.quote",
        signatures: &["(string) string"],
        native: |meter, args| map(meter, args, quote),
    },
    Function {
        name: "jsonpatch.escapeKey",
        signatures: &["(string) string"],
        native: |meter, args| map(meter, args, escape_key),
    },
];

fn map<'a>(meter: &mut Meter<'_>, args: &[Value<'a>], change: fn(&str) -> String) -> Outcome<'a> {
    let [Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(text.len())?;
    Ok(Value::text(change(text)))
}

fn escape_key(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}

fn quote(text: &str) -> String {
    let mut made = String::with_capacity(text.len() + 2);
    made.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => made.push_str("\\a"),
            '\u{8}' => made.push_str("\\b"),
            '\u{c}' => made.push_str("\\f"),
            '\n' => made.push_str("\\n"),
            '\r' => made.push_str("\\r"),
            '\t' => made.push_str("\\t"),
            '\u{b}' => made.push_str("\\v"),
            '\\' => made.push_str("\\\\"),
            '"' => made.push_str("\\\""),
            other => made.push(other),
        }
    }
    made.push('"');
    made
}

fn out_of_range(at: i64) -> EvalError {
    EvalError::new(format!("index out of range: {at}"))
}

/// The byte where the character with this number starts, the end included.
fn place(text: &str, at: i64) -> Result<usize, EvalError> {
    let number = usize::try_from(at).map_err(|_| out_of_range(at))?;
    let starts = text
        .char_indices()
        .map(|(start, _)| start)
        .chain([text.len()]);
    starts
        .into_iter()
        .nth(number)
        .ok_or_else(|| out_of_range(at))
}

fn char_at<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::Int(at)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(text.len())?;
    let start = place(text, *at)?;
    let found = text[start..].chars().next();
    Ok(Value::text(found.map(String::from).unwrap_or_default()))
}

fn index_of<'a>(meter: &mut Meter<'_>, args: &[Value<'a>], last: bool) -> Outcome<'a> {
    match args {
        [Value::List(list), item] => {
            meter.charge(list.len() as u64)?;
            let found = meter.compare(|steps| {
                let mut places = (0..list.len())
                    .filter(|at| list.get(*at).is_some_and(|other| steps.equal(&other, item)));
                if last { places.last() } else { places.next() }
            })?;
            Ok(Value::Int(found.map_or(-1, |at| at as i64)))
        }
        [Value::String(text), Value::String(part)] => text_index(meter, text, part, None, last),
        [Value::String(text), Value::String(part), Value::Int(from)] => {
            text_index(meter, text, part, Some(*from), last)
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn text_index<'a>(
    meter: &mut Meter<'_>,
    text: &str,
    part: &str,
    from: Option<i64>,
    last: bool,
) -> Outcome<'a> {
    meter.walk(text.len())?;
    let found = match (from, last) {
        (None, false) => text.find(part),
        (None, true) => text.rfind(part),
        (Some(from), false) => {
            let start = place(text, from)?;
            text[start..].find(part).map(|at| at + start)
        }
        (Some(from), true) => {
            let start = place(text, from)?;
            let end = (start + part.len()).min(text.len());
            // The end may fall into a character, in which no match ends.
            let end = (end..=text.len())
                .find(|end| text.is_char_boundary(*end))
                .unwrap_or(text.len());
            text[..end].rfind(part).filter(|at| *at <= start)
        }
    };
    Ok(Value::Int(
        found.map_or(-1, |at| text[..at].chars().count() as i64),
    ))
}

fn join<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, &**separator),
        _ => return Err(EvalError::no_overload()),
    };
    let mut made = String::new();
    for (at, item) in list.iter().enumerate() {
        let Value::String(item) = item else {
            return Err(EvalError::no_overload());
        };
        meter.walk(item.len() + separator.len())?;
        if at > 0 {
            made.push_str(separator);
        }
        made.push_str(&item);
    }
    Ok(Value::text(made))
}

fn replace<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, from, to, most) = match args {
        [Value::String(text), Value::String(from), Value::String(to)] => (text, from, to, -1),
        [
            Value::String(text),
            Value::String(from),
            Value::String(to),
            Value::Int(most),
        ] => (text, from, to, *most),
        _ => return Err(EvalError::no_overload()),
    };
    meter.walk(text.len())?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let times = text.matches(&**from).count().min(most);
    meter.walk(times.saturating_mul(to.len()))?;
    Ok(Value::text(text.replacen(&**from, to, times)))
}

fn split<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, separator, most) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [
            Value::String(text),
            Value::String(separator),
            Value::Int(most),
        ] => (text, separator, *most),
        _ => return Err(EvalError::no_overload()),
    };
    meter.charge(text.len() as u64)?;
    if most == 0 {
        return Ok(Value::list(Vec::new()));
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let parts: Vec<Value<'a>> = if separator.is_empty() {
        characters(text, most)
    } else {
        text.splitn(most, &**separator).map(Value::text).collect()
    };
    Ok(Value::list(parts))
}

/// Each character alone, the last part with all the rest.
fn characters<'a>(text: &str, most: usize) -> Vec<Value<'a>> {
    let starts: Vec<usize> = text
        .char_indices()
        .map(|(start, _)| start)
        .take(most)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let whole = starts.len() < most;
    let parts = starts.iter().zip(ends).enumerate();
    parts
        .map(|(at, (start, end))| {
            let end = if !whole && at + 1 == starts.len() {
                text.len()
            } else {
                end
            };
            Value::text(&text[*start..end])
        })
        .collect()
}

fn substring<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (text, from, to) = match args {
        [Value::String(text), Value::Int(from)] => (text, *from, None),
        [Value::String(text), Value::Int(from), Value::Int(to)] => (text, *from, Some(*to)),
        _ => return Err(EvalError::no_overload()),
    };
    meter.walk(text.len())?;
    let start = place(text, from)?;
    let end = to.map_or(Ok(text.len()), |to| place(text, to))?;
    if start > end {
        let to = to.unwrap_or(size(&args[0]).unwrap_or(0) as i64);
        return Err(EvalError::new(format!(
            "invalid substring range. start: {from}, end: {to}"
        )));
    }
    match text {
        Text::Borrowed(text) => Ok(Value::String(Text::Borrowed(&text[start..end]))),
        Text::Shared(text) => Ok(Value::text(&text[start..end])),
    }
}
