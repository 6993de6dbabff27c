//! Quantities, and the comparisons that they share with versions.

use std::cmp::Ordering;

use schema::quantity::{Format, Quantity};

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::Value;

const NANO: i128 = 1_000_000_000;

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "quantity",
        signatures: &["(string) quantity"],
        native: quantity,
    },
    Function {
        name: "isQuantity",
        signatures: &["(string) bool"],
        native: is_quantity,
    },
    Function {
        name: "sign",
        signatures: &["quantity.() int"],
        native: |_, args| of(args, |q| Ok(Value::Int(i64::from(q.sign())))),
    },
    Function {
        name: "isInteger",
        signatures: &["quantity.() bool"],
        native: |_, args| of(args, |q| Ok(Value::Bool(whole(q).is_some()))),
    },
    Function {
        name: "asInteger",
        signatures: &["quantity.() int"],
        native: |_, args| of(args, as_integer),
    },
    Function {
        name: "asApproximateFloat",
        signatures: &["quantity.() double"],
        native: |_, args| of(args, |q| Ok(Value::Double(q.as_f64()))),
    },
    Function {
        name: "isGreaterThan",
        signatures: &["quantity.(quantity) bool", "semver.(semver) bool"],
        native: |_, args| Ok(Value::Bool(order(args)?.is_gt())),
    },
    Function {
        name: "isLessThan",
        signatures: &["quantity.(quantity) bool", "semver.(semver) bool"],
        native: |_, args| Ok(Value::Bool(order(args)?.is_lt())),
    },
    Function {
        name: "compareTo",
        signatures: &["quantity.(quantity) int", "semver.(semver) int"],
        native: |_, args| Ok(Value::Int(order(args)? as i64)),
    },
    Function {
        name: "add",
        signatures: &["quantity.(quantity) quantity", "quantity.(int) quantity"],
        native: |_, args| combine(args, |a, b| a + b),
    },
    Function {
        name: "sub",
        signatures: &["quantity.(quantity) quantity", "quantity.(int) quantity"],
        native: |_, args| combine(args, |a, b| a - b),
    },
];

fn quantity<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(text.len())?;
    Quantity::parse(text)
        .map(Value::Quantity)
        .map_err(|error| EvalError::new(error.to_string()))
}

fn is_quantity<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.walk(text.len())?;
    Ok(Value::Bool(Quantity::parse(text).is_ok()))
}

fn of<'a>(args: &[Value<'a>], make: fn(Quantity) -> Outcome<'a>) -> Outcome<'a> {
    match args {
        [Value::Quantity(quantity)] => make(*quantity),
        _ => Err(EvalError::no_overload()),
    }
}

fn whole(quantity: Quantity) -> Option<i64> {
    let nanos = quantity.nanos();
    if nanos % NANO == 0 {
        i64::try_from(nanos / NANO).ok()
    } else {
        None
    }
}

fn as_integer<'a>(quantity: Quantity) -> Outcome<'a> {
    whole(quantity)
        .map(Value::Int)
        .ok_or_else(|| EvalError::new("cannot convert value to integer"))
}

fn order(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(a.cmp(b)),
        [Value::Semver(a), Value::Semver(b)] => Ok(a.cmp(b)),
        _ => Err(EvalError::no_overload()),
    }
}

fn combine<'a>(args: &[Value<'a>], combine: fn(Quantity, Quantity) -> Quantity) -> Outcome<'a> {
    match args {
        [Value::Quantity(a), Value::Quantity(b)] => Ok(Value::Quantity(combine(*a, *b))),
        [Value::Quantity(a), Value::Int(b)] => Ok(Value::Quantity(combine(
            *a,
            Quantity::from_units(*b, Format::DecimalSi),
        ))),
        _ => Err(EvalError::no_overload()),
    }
}
