//! Sizes, types, conversions, and the tests on strings.

use std::sync::Arc;

use super::{Function, time};
use crate::meter::{EvalError, Meter, Outcome};
use crate::operators;
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "size",
        signatures: &[
            "(string) int",
            "(bytes) int",
            "(list<A>) int",
            "(map<A, B>) int",
            "string.() int",
            "bytes.() int",
            "list<A>.() int",
            "map<A, B>.() int",
        ],
        native: size,
    },
    Function {
        name: "type",
        signatures: &["(A) type"],
        native: type_of,
    },
    Function {
        name: "dyn",
        signatures: &["(A) dyn"],
        native: dynamic,
    },
    Function {
        name: "bool",
        signatures: &["(bool) bool", "(string) bool"],
        native: to_bool,
    },
    Function {
        name: "int",
        signatures: &[
            "(int) int",
            "(uint) int",
            "(double) int",
            "(string) int",
            "(timestamp) int",
            "(duration) int",
        ],
        native: to_int,
    },
    Function {
        name: "uint",
        signatures: &[
            "(uint) uint",
            "(int) uint",
            "(double) uint",
            "(string) uint",
        ],
        native: to_uint,
    },
    Function {
        name: "double",
        signatures: &[
            "(double) double",
            "(int) double",
            "(uint) double",
            "(string) double",
        ],
        native: to_double,
    },
    Function {
        name: "string",
        signatures: &[
            "(string) string",
            "(bool) string",
            "(int) string",
            "(uint) string",
            "(double) string",
            "(bytes) string",
            "(timestamp) string",
            "(duration) string",
            "(ip) string",
            "(cidr) string",
        ],
        native: to_string,
    },
    Function {
        name: "bytes",
        signatures: &["(bytes) bytes", "(string) bytes"],
        native: to_bytes,
    },
    Function {
        name: "startsWith",
        signatures: &["string.(string) bool"],
        native: starts_with,
    },
    Function {
        name: "endsWith",
        signatures: &["string.(string) bool"],
        native: ends_with,
    },
    Function {
        name: "contains",
        signatures: &["string.(string) bool"],
        native: contains,
    },
];

fn size<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    if let [Value::String(text)] = args {
        meter.walk(text.len())?;
    }
    match args {
        [value] => operators::size(value)
            .map(|size| Value::Int(size as i64))
            .ok_or_else(EvalError::no_overload),
        _ => Err(EvalError::no_overload()),
    }
}

fn type_of<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value] => Ok(Value::Type(value.type_name().into())),
        _ => Err(EvalError::no_overload()),
    }
}

fn dynamic<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value] => Ok(value.clone()),
        _ => Err(EvalError::no_overload()),
    }
}

fn to_bool<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(*value)),
        [Value::String(text)] => match &**text {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            other => Err(EvalError::new(format!(
                "type conversion error from 'string' to 'bool': {other}"
            ))),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn out_of_range(what: &str) -> EvalError {
    EvalError::new(format!("{what} overflow"))
}

fn to_int<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let value = match args {
        [Value::Int(value)] => Some(*value),
        [Value::Uint(value)] => i64::try_from(*value).ok(),
        [Value::Double(value)] if *value > i64::MIN as f64 && *value < i64::MAX as f64 => {
            Some(*value as i64)
        }
        [Value::Double(_)] => None,
        [Value::Timestamp(nanos)] => i64::try_from(nanos.div_euclid(1_000_000_000)).ok(),
        [Value::Duration(nanos)] => Some(*nanos),
        [Value::String(text)] => {
            meter.walk(text.len())?;
            let parsed = text.parse::<i64>().map_err(|_| not_a_number("Int", text))?;
            Some(parsed)
        }
        _ => return Err(EvalError::no_overload()),
    };
    value.map(Value::Int).ok_or_else(|| out_of_range("integer"))
}

fn not_a_number(what: &str, text: &str) -> EvalError {
    let parser = match what {
        "Int" => "ParseInt",
        "Uint" => "ParseUint",
        _ => "ParseFloat",
    };
    EvalError::new(format!(
        "strconv.{parser}: parsing {text:?}: invalid syntax"
    ))
}

fn to_uint<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let value = match args {
        [Value::Uint(value)] => Some(*value),
        [Value::Int(value)] => u64::try_from(*value).ok(),
        [Value::Double(value)] if *value >= 0.0 && *value < u64::MAX as f64 => Some(*value as u64),
        [Value::Double(_)] => None,
        [Value::String(text)] => {
            meter.walk(text.len())?;
            Some(
                text.parse::<u64>()
                    .map_err(|_| not_a_number("Uint", text))?,
            )
        }
        _ => return Err(EvalError::no_overload()),
    };
    value
        .map(Value::Uint)
        .ok_or_else(|| out_of_range("unsigned integer"))
}

fn to_double<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Double(value)] => Ok(Value::Double(*value)),
        [Value::Int(value)] => Ok(Value::Double(*value as f64)),
        [Value::Uint(value)] => Ok(Value::Double(*value as f64)),
        [Value::String(text)] => {
            meter.walk(text.len())?;
            text.parse()
                .map(Value::Double)
                .map_err(|_| not_a_number("Double", text))
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// A double as Go writes it with %g and the shortest precision.
pub(crate) fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 {
            "+Inf".into()
        } else {
            "-Inf".into()
        };
    }
    let plain = format!("{value}");
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = exponent
            .strip_prefix('-')
            .map_or(('+', exponent), |rest| ('-', rest));
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    plain
}

fn to_string<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let text = match args {
        [Value::String(text)] => return Ok(Value::String(text.clone())),
        [Value::Bool(value)] => value.to_string(),
        [Value::Int(value)] => value.to_string(),
        [Value::Uint(value)] => value.to_string(),
        [Value::Double(value)] => double_text(*value),
        [Value::Bytes(bytes)] => {
            meter.walk(bytes.len())?;
            let text = std::str::from_utf8(bytes);
            text.map_err(|_| EvalError::new("invalid UTF-8 in bytes, cannot convert to string"))?
                .to_string()
        }
        [Value::Timestamp(nanos)] => time::format_timestamp(*nanos),
        [Value::Duration(nanos)] => time::format_duration(*nanos),
        [Value::Ip(ip)] => ip.to_string(),
        [Value::Cidr(ip, bits)] => format!("{ip}/{bits}"),
        [Value::Type(name)] => name.to_string(),
        _ => return Err(EvalError::no_overload()),
    };
    Ok(Value::text(text))
}

fn to_bytes<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bytes(bytes)] => Ok(Value::Bytes(bytes.clone())),
        [Value::String(text)] => {
            meter.walk(text.len())?;
            Ok(Value::Bytes(Arc::from(text.as_bytes())))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn starts_with<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::String(part)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(part.len())?;
    Ok(Value::Bool(text.starts_with(&**part)))
}

fn ends_with<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::String(part)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(part.len())?;
    Ok(Value::Bool(text.ends_with(&**part)))
}

fn contains<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text), Value::String(part)] = args else {
        return Err(EvalError::no_overload());
    };
    let cost = (text.len() as u64)
        .div_ceil(10)
        .saturating_mul((part.len() as u64).div_ceil(10));
    meter.charge(cost)?;
    Ok(Value::Bool(text.contains(&**part)))
}
