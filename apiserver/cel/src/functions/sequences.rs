//! Functions that make lists of lists: parts of them, and their items in another order (cel-go's library of lists).

use std::cmp::Ordering;

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::operators::compare;
use crate::value::{List, Value};

/// What `sortBy` becomes: the items, and beside them what each is sorted by.
pub(crate) const SORT_BY_KEYS: &str = "@sortByAssociatedKeys";

const ITEM: &[&str] = &["list<A>.() optional<A>"];

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "lists.range",
        signatures: &["(int) list<int>"],
        native: range,
    },
    Function {
        name: "slice",
        signatures: &["list<A>.(int, int) list<A>"],
        native: slice,
    },
    Function {
        name: "flatten",
        signatures: &["list<list<A>>.() list<A>", "list<dyn>.(int) list<dyn>"],
        native: flatten,
    },
    Function {
        name: "distinct",
        signatures: &["list<A>.() list<A>"],
        native: distinct,
    },
    Function {
        name: "reverse",
        signatures: &["list<A>.() list<A>"],
        native: |meter, args| {
            let mut items = items(meter, args)?;
            items.reverse();
            Ok(Value::list(items))
        },
    },
    Function {
        name: "first",
        signatures: ITEM,
        native: |_, args| one(args, |_| 0),
    },
    Function {
        name: "last",
        signatures: ITEM,
        native: |_, args| one(args, |list| list.len().wrapping_sub(1)),
    },
    Function {
        name: "sort",
        signatures: &[
            "list<int>.() list<int>",
            "list<uint>.() list<uint>",
            "list<double>.() list<double>",
            "list<bool>.() list<bool>",
            "list<duration>.() list<duration>",
            "list<timestamp>.() list<timestamp>",
            "list<string>.() list<string>",
            "list<bytes>.() list<bytes>",
        ],
        native: |meter, args| {
            let items = items(meter, args)?;
            sorted(meter, &items, &items)
        },
    },
    Function {
        name: SORT_BY_KEYS,
        signatures: &[
            "list<A>.(list<int>) list<A>",
            "list<A>.(list<uint>) list<A>",
            "list<A>.(list<double>) list<A>",
            "list<A>.(list<bool>) list<A>",
            "list<A>.(list<duration>) list<A>",
            "list<A>.(list<timestamp>) list<A>",
            "list<A>.(list<string>) list<A>",
            "list<A>.(list<bytes>) list<A>",
        ],
        native: |meter, args| {
            let [whole, keys] = args else {
                return Err(EvalError::no_overload());
            };
            let whole = items(meter, std::slice::from_ref(whole))?;
            let keys = items(meter, std::slice::from_ref(keys))?;
            sorted(meter, &whole, &keys)
        },
    },
];

/// The items of the only argument.
fn items<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Result<Vec<Value<'a>>, EvalError> {
    let [Value::List(list)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.charge(list.len() as u64)?;
    Ok(list.iter().collect())
}

fn range<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Int(size)] = args else {
        return Err(EvalError::no_overload());
    };
    let most = u64::try_from(*size).map_err(|_| {
        let text = format!("lists.range: size must be non-negative, got {size}");
        EvalError::new(text)
    })?;
    meter.charge(most)?;
    Ok(Value::list((0..*size).map(Value::Int).collect()))
}

fn slice<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return Err(EvalError::no_overload());
    };
    let refuse = |why: String| {
        Err(EvalError::new(format!(
            "cannot slice({start}, {end}), {why}"
        )))
    };
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return refuse("negative indexes not supported".to_owned());
    };
    if from > to {
        return refuse("start index must be less than or equal to end index".to_owned());
    }
    if to > list.len() {
        return refuse(format!("list is length {}", list.len()));
    }
    meter.charge((to - from) as u64)?;
    Ok(Value::list(
        (from..to).filter_map(|at| list.get(at)).collect(),
    ))
}

fn flatten<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, levels) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(levels)] => (list, *levels),
        _ => return Err(EvalError::no_overload()),
    };
    if levels < 0 {
        return Err(EvalError::new("level must be non-negative"));
    }
    let mut made = Vec::new();
    unpack(meter, list, levels, &mut made)?;
    Ok(Value::list(made))
}

fn unpack<'a>(
    meter: &mut Meter<'_>,
    list: &List<'a>,
    levels: i64,
    made: &mut Vec<Value<'a>>,
) -> Result<(), EvalError> {
    meter.charge(list.len() as u64)?;
    for item in list.iter() {
        match item {
            Value::List(inner) if levels > 0 => unpack(meter, &inner, levels - 1, made)?,
            other => made.push(other),
        }
    }
    Ok(())
}

fn distinct<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let items = items(meter, args)?;
    let found = meter.compare(|steps| {
        let mut found: Vec<Value<'a>> = Vec::new();
        for item in items {
            // Nothing is found any more, and to look on would take as long as if it were.
            if steps.exhausted() {
                break;
            }
            if !found.iter().any(|other| steps.equal(other, &item)) {
                found.push(item);
            }
        }
        found
    })?;
    Ok(Value::list(found))
}

fn one<'a>(args: &[Value<'a>], at: fn(&List<'a>) -> usize) -> Outcome<'a> {
    let [Value::List(list)] = args else {
        return Err(EvalError::no_overload());
    };
    Ok(Value::Optional(list.get(at(list)).map(std::sync::Arc::new)))
}

/// The items in the order of their keys; those with equal ones stay as they are.
fn sorted<'a>(meter: &mut Meter<'_>, items: &[Value<'a>], keys: &[Value<'a>]) -> Outcome<'a> {
    let Some(first) = keys.first() else {
        return Ok(Value::list(Vec::new()));
    };
    if keys.len() != items.len() {
        return Err(EvalError::no_overload());
    }
    if compare(first, first).is_err() {
        return Err(EvalError::new("list elements must be comparable"));
    }
    let one_type = |key: &Value<'a>| key.type_name() == first.type_name();
    if !keys.iter().all(one_type) {
        return Err(EvalError::new("list elements must have the same type"));
    }
    let rounds = u64::from(u64::BITS - (keys.len() as u64).leading_zeros());
    meter.charge((keys.len() as u64).saturating_mul(rounds))?;
    for key in keys {
        if let Value::String(text) = key {
            meter.walk(text.len().saturating_mul(rounds as usize))?;
        }
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| total(&keys[*a], &keys[*b]));
    let made = order.into_iter().map(|at| items[at].clone());
    Ok(Value::list(made.collect()))
}

/// What is no number comes last, so that the order is one.
fn total(a: &Value<'_>, b: &Value<'_>) -> Ordering {
    let odd = |value: &Value<'_>| matches!(value, Value::Double(value) if value.is_nan());
    let known = compare(a, b).ok().flatten();
    known.unwrap_or_else(|| odd(a).cmp(&odd(b)))
}
