//! Kubernetes' functions on lists. `indexOf` stands with that of strings.

use std::cmp::Ordering;

use super::Function;
use crate::ast::Binary;
use crate::meter::{EvalError, Meter, Outcome};
use crate::operators::{binary, compare};
use crate::types::Type;
use crate::value::{List, Value};

const COMPARABLE: &[&str] = &[
    "list<int>.() bool",
    "list<uint>.() bool",
    "list<double>.() bool",
    "list<bool>.() bool",
    "list<duration>.() bool",
    "list<timestamp>.() bool",
    "list<string>.() bool",
    "list<bytes>.() bool",
];
const LEAST: &[&str] = &[
    "list<int>.() int",
    "list<uint>.() uint",
    "list<double>.() double",
    "list<bool>.() bool",
    "list<duration>.() duration",
    "list<timestamp>.() timestamp",
    "list<string>.() string",
    "list<bytes>.() bytes",
];

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "isSorted",
        signatures: COMPARABLE,
        native: is_sorted,
    },
    Function {
        name: "sum",
        signatures: &[
            "list<int>.() int",
            "list<uint>.() uint",
            "list<double>.() double",
            "list<duration>.() duration",
        ],
        native: sum,
    },
    Function {
        name: "min",
        signatures: LEAST,
        native: |meter, args| extreme(meter, args, Ordering::Less),
    },
    Function {
        name: "max",
        signatures: LEAST,
        native: |meter, args| extreme(meter, args, Ordering::Greater),
    },
];

fn list<'x, 'a>(meter: &mut Meter<'_>, args: &'x [Value<'a>]) -> Result<&'x List<'a>, EvalError> {
    let [Value::List(list)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.charge(list.len() as u64)?;
    for item in list.iter() {
        if let Value::String(text) = item {
            meter.walk(text.len())?;
        }
    }
    Ok(list)
}

fn is_sorted<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let list = list(meter, args)?;
    let mut last: Option<Value<'a>> = None;
    for item in list.iter() {
        if let Some(last) = &last
            && compare(last, &item)? == Some(Ordering::Greater)
        {
            return Ok(Value::Bool(false));
        }
        last = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let list = list(meter, args)?;
    let mut items = list.iter();
    let Some(mut total) = items.next() else {
        return Ok(zero(list));
    };
    for item in items {
        total = binary(meter, Binary::Add, &total, &item)?;
    }
    Ok(total)
}

/// The sum of no items: what the list could have had says of which type it is.
fn zero<'a>(list: &List<'_>) -> Value<'a> {
    let List::Json(_, Type::List(types)) = list else {
        return Value::Int(0);
    };
    match types.item {
        Type::Duration => Value::Duration(0),
        Type::Double => Value::Double(0.0),
        Type::Uint => Value::Uint(0),
        _ => Value::Int(0),
    }
}

fn extreme<'a>(meter: &mut Meter<'_>, args: &[Value<'a>], wanted: Ordering) -> Outcome<'a> {
    let list = list(meter, args)?;
    let what = if wanted == Ordering::Less {
        "min"
    } else {
        "max"
    };
    let mut items = list.iter();
    let mut best = items
        .next()
        .ok_or_else(|| EvalError::new(format!("{what} called on empty list")))?;
    for item in items {
        if compare(&item, &best)? == Some(wanted) {
            best = item;
        }
    }
    Ok(best)
}
