//! Arithmetic and comparison.

use std::cmp::Ordering;

use crate::ast::Binary;
use crate::functions::time;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::{List, Map, Steps, Value, numbers};

pub(crate) fn binary<'a>(
    meter: &mut Meter<'_>,
    operator: Binary,
    left: &Value<'a>,
    right: &Value<'a>,
) -> Outcome<'a> {
    match operator {
        Binary::Equal | Binary::NotEqual => {
            let same = meter.compare(|steps| steps.equal(left, right))?;
            Ok(Value::Bool(same == (operator == Binary::Equal)))
        }
        Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => {
            charge_comparison(meter, left, right)?;
            let order = compare(left, right)?;
            Ok(Value::Bool(
                order.is_some_and(|order| holds(operator, order)),
            ))
        }
        Binary::In => contains(meter, left, right),
        Binary::Add => add(meter, left, right),
        Binary::Subtract => {
            meter.charge(1)?;
            subtract(left, right)
        }
        Binary::Multiply | Binary::Divide | Binary::Modulo => {
            meter.charge(1)?;
            scale(operator, left, right)
        }
    }
}

fn charge_comparison(
    meter: &mut Meter<'_>,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Result<(), EvalError> {
    let length = |value: &Value<'_>| match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        _ => 1,
    };
    meter.walk(length(left).min(length(right)).max(1))
}

fn holds(operator: Binary, order: Ordering) -> bool {
    match operator {
        Binary::Less => order.is_lt(),
        Binary::LessEqual => order.is_le(),
        Binary::Greater => order.is_gt(),
        _ => order.is_ge(),
    }
}

/// The order of two values; none where one is NaN.
pub(crate) fn compare(left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, EvalError> {
    let number =
        |value: &Value<'_>| matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_));
    Ok(Some(match (left, right) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::String(a), Value::String(b)) => str::cmp(a, b),
        (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
        (Value::Duration(a), Value::Duration(b)) => a.cmp(b),
        (Value::Timestamp(a), Value::Timestamp(b)) => a.cmp(b),
        (a, b) if number(a) && number(b) => return Ok(numbers(a, b)),
        _ => return Err(EvalError::no_overload()),
    }))
}

fn contains<'a>(meter: &mut Meter<'_>, item: &Value<'a>, whole: &Value<'a>) -> Outcome<'a> {
    meter.charge(1)?;
    match whole {
        Value::List(list) => {
            meter.charge(list.len() as u64)?;
            Ok(Value::Bool(meter.compare(|steps| steps.has(list, item))?))
        }
        Value::Map(map) => {
            let key = item.key();
            Ok(Value::Bool(key.is_some_and(|key| map.has(&key))))
        }
        _ => Err(EvalError::no_overload()),
    }
}

fn overflow(what: &str) -> EvalError {
    EvalError::new(format!("{what} overflow"))
}

fn int<'a>(value: Option<i64>) -> Outcome<'a> {
    value.map(Value::Int).ok_or_else(|| overflow("integer"))
}

fn uint<'a>(value: Option<u64>) -> Outcome<'a> {
    value
        .map(Value::Uint)
        .ok_or_else(|| overflow("unsigned integer"))
}

fn duration<'a>(value: Option<i64>) -> Outcome<'a> {
    value
        .map(Value::Duration)
        .ok_or_else(|| overflow("duration"))
}

fn timestamp<'a>(value: i128) -> Outcome<'a> {
    if time::is_in_range(value) {
        Ok(Value::Timestamp(value))
    } else {
        Err(overflow("timestamp"))
    }
}

fn add<'a>(meter: &mut Meter<'_>, left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
    meter.charge(1)?;
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Value::String(a), Value::String(b)) => {
            meter.walk(a.len() + b.len())?;
            Ok(Value::text([&**a, &**b].concat()))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            meter.walk(a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        (Value::List(a), Value::List(b)) => {
            meter.walk(a.len() + b.len())?;
            meter.compare(|steps| join_lists(steps, a, b))
        }
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_add(*b)),
        (Value::Timestamp(a), Value::Duration(b)) | (Value::Duration(b), Value::Timestamp(a)) => {
            timestamp(a + i128::from(*b))
        }
        _ => Err(EvalError::no_overload()),
    }
}

/// Lists with keys keep the places of the left one, whose items the right one overwrites.
fn join_lists<'a>(steps: &mut Steps, a: &List<'a>, b: &List<'a>) -> Value<'a> {
    use crate::types::Semantics;
    let mut items: Vec<Value<'a>> = a.iter().collect();
    match a.semantics() {
        Semantics::Ordered => items.extend(b.iter()),
        Semantics::Set => {
            for item in b.iter() {
                if !items.iter().any(|other| steps.equal(other, &item)) {
                    items.push(item);
                }
            }
        }
        Semantics::Map(keys) => {
            for item in b.iter() {
                match items
                    .iter_mut()
                    .find(|other| steps.take(1) && crate::value::keyed_alike(other, &item, keys))
                {
                    Some(place) => *place = item,
                    None => items.push(item),
                }
            }
        }
    }
    Value::list(items)
}

fn subtract<'a>(left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => int(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => uint(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Value::Duration(a), Value::Duration(b)) => duration(a.checked_sub(*b)),
        (Value::Timestamp(a), Value::Duration(b)) => timestamp(a - i128::from(*b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => duration(i64::try_from(a - b).ok()),
        _ => Err(EvalError::no_overload()),
    }
}

fn scale<'a>(operator: Binary, left: &Value<'a>, right: &Value<'a>) -> Outcome<'a> {
    let zero = matches!(right, Value::Int(0) | Value::Uint(0));
    match (left, right) {
        (Value::Int(_), Value::Int(_)) | (Value::Uint(_), Value::Uint(_))
            if zero && operator != Binary::Multiply =>
        {
            let what = if operator == Binary::Divide {
                "division"
            } else {
                "modulus"
            };
            Err(EvalError::new(format!("{what} by zero")))
        }
        (Value::Int(a), Value::Int(b)) => int(match operator {
            Binary::Multiply => a.checked_mul(*b),
            Binary::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }),
        (Value::Uint(a), Value::Uint(b)) => uint(match operator {
            Binary::Multiply => a.checked_mul(*b),
            Binary::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        }),
        (Value::Double(a), Value::Double(b)) if operator == Binary::Multiply => {
            Ok(Value::Double(a * b))
        }
        (Value::Double(a), Value::Double(b)) if operator == Binary::Divide => {
            Ok(Value::Double(a / b))
        }
        _ => Err(EvalError::no_overload()),
    }
}

pub(crate) fn negate<'a>(operand: &Value<'a>) -> Outcome<'a> {
    match operand {
        Value::Int(value) => int(value.checked_neg()),
        Value::Double(value) => Ok(Value::Double(-value)),
        Value::Duration(value) => duration(value.checked_neg()),
        _ => Err(EvalError::no_overload()),
    }
}

/// The size of what has one.
pub(crate) fn size(value: &Value<'_>) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.chars().count()),
        Value::Bytes(bytes) => Some(bytes.len()),
        Value::List(list) => Some(list.len()),
        Value::Map(Map::Message(..)) => None,
        Value::Map(map) => Some(map.len()),
        _ => None,
    }
}
