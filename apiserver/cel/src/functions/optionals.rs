//! Optional values. `or` and `orValue` are run by the evaluator, since their second argument may not be looked at.

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::operators::size;
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "optional.of",
        signatures: &["(A) optional<A>"],
        native: of,
    },
    Function {
        name: "optional.ofNonZeroValue",
        signatures: &["(A) optional<A>"],
        native: of_non_zero,
    },
    Function {
        name: "optional.none",
        signatures: &["() optional<A>"],
        native: |_, _| Ok(Value::Optional(None)),
    },
    Function {
        name: "hasValue",
        signatures: &["optional<A>.() bool"],
        native: has_value,
    },
    Function {
        name: "value",
        signatures: &["optional<A>.() A"],
        native: value,
    },
    Function {
        name: "or",
        signatures: &["optional<A>.(optional<A>) optional<A>"],
        native: |_, _| Err(EvalError::no_overload()),
    },
    Function {
        name: "orValue",
        signatures: &["optional<A>.(A) A"],
        native: |_, _| Err(EvalError::no_overload()),
    },
];

fn of<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value] => Ok(Value::some(value.clone())),
        _ => Err(EvalError::no_overload()),
    }
}

fn of_non_zero<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [value] = args else {
        return Err(EvalError::no_overload());
    };
    let zero = match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => {
            true
        }
        Value::Double(value) => *value == 0.0,
        Value::Optional(inner) => inner.is_none(),
        other => size(other) == Some(0),
    };
    Ok(if zero {
        Value::Optional(None)
    } else {
        Value::some(value.clone())
    })
}

fn has_value<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => Err(EvalError::no_overload()),
    }
}

fn value<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(Some(inner))] => Ok((**inner).clone()),
        [Value::Optional(None)] => Err(EvalError::new("optional.none() dereference")),
        _ => Err(EvalError::no_overload()),
    }
}
