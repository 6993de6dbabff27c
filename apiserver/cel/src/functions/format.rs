//! `'..'.format([..])`.

use super::{Function, core::double_text};
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::{Map, Value};

pub(crate) const FUNCTIONS: &[Function] = &[Function {
    name: "format",
    signatures: &["string.(list<dyn>) string"],
    native: format,
}];

/// Digits after the point at most.
const PRECISION_MAX: usize = 1_000;

fn format<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(pattern), Value::List(list)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(pattern.len())?;
    let mut made = String::new();
    let mut rest: &str = pattern;
    let mut next = 0;
    while let Some((before, after)) = rest.split_once('%') {
        made.push_str(before);
        if let Some(after) = after.strip_prefix('%') {
            made.push('%');
            rest = after;
            continue;
        }
        let (precision, clause, after) = clause(after)?;
        let value = list
            .get(next)
            .ok_or_else(|| EvalError::new(format!("index {next} out of range")))?;
        next += 1;
        let length = made.len();
        write(&mut made, meter, clause, precision, &value)?;
        meter.walk(made.len() - length)?;
        rest = after;
    }
    made.push_str(rest);
    Ok(Value::text(made))
}

fn clause(text: &str) -> Result<(Option<usize>, char, &str), EvalError> {
    let (precision, text) = match text.strip_prefix('.') {
        None => (None, text),
        Some(rest) => {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let precision = rest[..end]
                .parse()
                .ok()
                .filter(|precision| *precision <= PRECISION_MAX);
            let precision =
                precision.ok_or_else(|| EvalError::new("error while parsing precision"))?;
            (Some(precision), &rest[end..])
        }
    };
    let clause = text.chars().next();
    let clause = clause.ok_or_else(|| {
        EvalError::new("could not parse formatting clause: unexpected end of string")
    })?;
    Ok((precision, clause, &text[clause.len_utf8()..]))
}

fn write(
    made: &mut String,
    meter: &mut Meter<'_>,
    clause: char,
    precision: Option<usize>,
    value: &Value<'_>,
) -> Result<(), EvalError> {
    let text = match (clause, value) {
        ('s', value) => return plain(made, meter, value),
        ('d', Value::Int(value)) => value.to_string(),
        ('d', Value::Uint(value)) => value.to_string(),
        ('d', Value::Double(value)) if !value.is_finite() => special(*value),
        ('f', value) => fixed(number(value, "fixed-point")?, precision.unwrap_or(6)),
        ('e', value) => scientific(number(value, "scientific")?),
        ('b', Value::Bool(value)) => u8::from(*value).to_string(),
        ('b', Value::Int(value)) => signed(*value, format!("{:b}", value.unsigned_abs())),
        ('b', Value::Uint(value)) => format!("{value:b}"),
        ('o', Value::Int(value)) => signed(*value, format!("{:o}", value.unsigned_abs())),
        ('o', Value::Uint(value)) => format!("{value:o}"),
        ('x', Value::Int(value)) => signed(*value, format!("{:x}", value.unsigned_abs())),
        ('X', Value::Int(value)) => signed(*value, format!("{:X}", value.unsigned_abs())),
        ('x', Value::Uint(value)) => format!("{value:x}"),
        ('X', Value::Uint(value)) => format!("{value:X}"),
        ('x' | 'X', Value::String(text)) => hex(meter, text.as_bytes(), clause)?,
        ('x' | 'X', Value::Bytes(bytes)) => hex(meter, bytes, clause)?,
        ('d' | 'b' | 'o' | 'x' | 'X', other) => {
            let (name, wanted) = match clause {
                'd' => ("decimal", "integers"),
                'b' => ("binary", "integers and bools"),
                'o' => ("octal", "integers"),
                _ => ("hex", "integers, byte buffers, and strings"),
            };
            let text = format!(
                "error during formatting: {name} clause can only be used on {wanted}, was given {}",
                other.type_name()
            );
            return Err(EvalError::new(text));
        }
        _ => {
            return Err(EvalError::new(format!(
                "could not parse formatting clause: unrecognized formatting clause {clause:?}"
            )));
        }
    };
    made.push_str(&text);
    Ok(())
}

fn signed(value: i64, digits: String) -> String {
    if value < 0 {
        format!("-{digits}")
    } else {
        digits
    }
}

fn hex(meter: &mut Meter<'_>, bytes: &[u8], clause: char) -> Result<String, EvalError> {
    meter.walk(bytes.len() * 2)?;
    let digits = bytes.iter().map(|byte| {
        if clause == 'x' {
            format!("{byte:02x}")
        } else {
            format!("{byte:02X}")
        }
    });
    Ok(digits.collect())
}

fn number(value: &Value<'_>, what: &str) -> Result<f64, EvalError> {
    match value {
        Value::Double(value) => Ok(*value),
        Value::Int(value) => Ok(*value as f64),
        Value::Uint(value) => Ok(*value as f64),
        Value::String(text) if matches!(&**text, "NaN" | "Infinity" | "-Infinity") => {
            Ok(match &**text {
                "NaN" => f64::NAN,
                "Infinity" => f64::INFINITY,
                _ => f64::NEG_INFINITY,
            })
        }
        other => {
            let text = format!(
                "error during formatting: {what} clause can only be used on doubles, was given {}",
                other.type_name()
            );
            Err(EvalError::new(text))
        }
    }
}

fn special(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        value if value > 0.0 => "Infinity".into(),
        _ => "-Infinity".into(),
    }
}

/// What is no number, as cel-go writes it in English.
fn foreign(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".into(),
        value if value > 0.0 => "∞".into(),
        _ => "-∞".into(),
    }
}

/// With commas between thousands, as cel-go writes numbers in English.
fn fixed(value: f64, precision: usize) -> String {
    if !value.is_finite() {
        return foreign(value);
    }
    let text = format!("{value:.precision$}");
    let (sign, digits) = text
        .strip_prefix('-')
        .map_or(("", &*text), |rest| ("-", rest));
    let (whole, part) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
    let mut made = String::from(sign);
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            made.push(',');
        }
        made.push(digit);
    }
    made + part
}

/// As cel-go writes it in English, where six digits follow the point whatever is asked for.
fn scientific(value: f64) -> String {
    static RAISED: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    if !value.is_finite() {
        return foreign(value);
    }
    let text = format!("{value:.6e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent
        .strip_prefix('-')
        .map_or(("", exponent), |rest| ("⁻", rest));
    let exponent = format!("{exponent:0>2}");
    let raised = exponent
        .chars()
        .filter_map(|digit| RAISED.get(digit.to_digit(10)? as usize));
    format!("{digits}×10{sign}{}", raised.collect::<String>())
}

/// What `%s` makes of any value.
fn plain(made: &mut String, meter: &mut Meter<'_>, value: &Value<'_>) -> Result<(), EvalError> {
    meter.charge(1)?;
    match value {
        Value::Null => made.push_str("null"),
        Value::String(text) => made.push_str(text),
        Value::Bool(value) => made.push_str(&value.to_string()),
        Value::Int(value) => made.push_str(&value.to_string()),
        Value::Uint(value) => made.push_str(&value.to_string()),
        Value::Double(value) if value.is_finite() => made.push_str(&double_text(*value)),
        Value::Double(value) => made.push_str(&special(*value)),
        Value::Bytes(bytes) => made.push_str(&String::from_utf8_lossy(bytes)),
        Value::Duration(nanos) => made.push_str(&super::time::format_duration(*nanos)),
        Value::Timestamp(nanos) => made.push_str(&super::time::format_timestamp(*nanos)),
        Value::Type(name) => made.push_str(name),
        Value::List(list) => {
            made.push('[');
            for (at, item) in list.iter().enumerate() {
                if at > 0 {
                    made.push_str(", ");
                }
                plain(made, meter, &item)?;
            }
            made.push(']');
        }
        Value::Map(map) => plain_map(made, meter, map)?,
        other => {
            let text = "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given";
            return Err(EvalError::new(format!("{text} {}", other.type_name())));
        }
    }
    Ok(())
}

fn plain_map(made: &mut String, meter: &mut Meter<'_>, map: &Map<'_>) -> Result<(), EvalError> {
    made.push('{');
    for (at, key) in map.keys().iter().enumerate() {
        if at > 0 {
            made.push_str(", ");
        }
        plain(made, meter, &Value::from(key))?;
        made.push_str(": ");
        plain(made, meter, &map.get(key).unwrap_or(Value::Null))?;
    }
    made.push('}');
    Ok(())
}
