//! Lists as sets.

use super::Function;
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::{List, Steps, Value};

const TWO: &[&str] = &["(list<A>, list<A>) bool"];

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "sets.contains",
        signatures: TWO,
        native: |meter, args| judge(meter, args, |steps, a, b| steps.holds(a, b)),
    },
    Function {
        name: "sets.equivalent",
        signatures: TWO,
        native: |meter, args| {
            judge(meter, args, |steps, a, b| {
                steps.holds(a, b) && steps.holds(b, a)
            })
        },
    },
    Function {
        name: "sets.intersects",
        signatures: TWO,
        native: |meter, args| {
            judge(meter, args, |steps, a, b| {
                a.iter().any(|item| steps.has(b, &item))
            })
        },
    },
];

type Judge<'a> = fn(&mut Steps, &List<'a>, &List<'a>) -> bool;

fn judge<'a>(meter: &mut Meter<'_>, args: &[Value<'a>], judge: Judge<'a>) -> Outcome<'a> {
    let [Value::List(a), Value::List(b)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.charge((a.len() as u64).saturating_mul(b.len() as u64))?;
    Ok(Value::Bool(meter.compare(|steps| judge(steps, a, b))?))
}
