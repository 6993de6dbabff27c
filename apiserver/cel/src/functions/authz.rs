//! What the user of the request may do.

use std::sync::Arc;

use super::Function;
use crate::authorizer::{Check, Decision};
use crate::meter::{EvalError, Meter, Outcome};
use crate::value::Value;

/// What a question costs, as Kubernetes has it.
const CHECK_COST: u64 = 350_000;

pub(crate) const FUNCTIONS: &[Function] = &[
    Function {
        name: "path",
        signatures: &["authorizer.(string) path_check"],
        native: |_, args| change_to(args, "path", |check, text| check.path = text),
    },
    Function {
        name: "group",
        signatures: &["authorizer.(string) group_check"],
        native: |_, args| change(args, |check, text| check.group = text),
    },
    Function {
        name: "resource",
        signatures: &["group_check.(string) resource_check"],
        native: |_, args| change_to(args, "resource", |check, text| check.resource = text),
    },
    Function {
        name: "subresource",
        signatures: &["resource_check.(string) resource_check"],
        native: |_, args| change(args, |check, text| check.subresource = text),
    },
    Function {
        name: "namespace",
        signatures: &["resource_check.(string) resource_check"],
        native: |_, args| change(args, |check, text| check.namespace = text),
    },
    Function {
        name: "name",
        signatures: &["resource_check.(string) resource_check"],
        native: |_, args| change(args, |check, text| check.name = text),
    },
    Function {
        name: "fieldSelector",
        signatures: &["resource_check.(string) resource_check"],
        native: |_, args| change(args, |check, text| check.field_selector = text),
    },
    Function {
        name: "labelSelector",
        signatures: &["resource_check.(string) resource_check"],
        native: |_, args| change(args, |check, text| check.label_selector = text),
    },
    Function {
        name: "serviceAccount",
        signatures: &["authorizer.(string, string) authorizer"],
        native: service_account,
    },
    Function {
        name: "check",
        signatures: &[
            "path_check.(string) decision",
            "resource_check.(string) decision",
        ],
        native: check,
    },
    Function {
        name: "allowed",
        signatures: &["decision.() bool"],
        native: |_, args| of(args, |decision| Value::Bool(decision.allowed)),
    },
    Function {
        name: "reason",
        signatures: &["decision.() string"],
        native: |_, args| of(args, |decision| Value::text(&*decision.reason)),
    },
    Function {
        name: "error",
        signatures: &["decision.() string"],
        native: |_, args| of(args, |decision| Value::text(&*decision.error)),
    },
    Function {
        name: "errored",
        signatures: &["decision.() bool"],
        native: |_, args| of(args, |decision| Value::Bool(!decision.error.is_empty())),
    },
];

fn change<'a>(args: &[Value<'a>], change: fn(&mut Check, String)) -> Outcome<'a> {
    let [Value::Check(check), Value::String(text)] = args else {
        return Err(EvalError::no_overload());
    };
    let mut check = (**check).clone();
    change(&mut check, text.to_string());
    Ok(Value::Check(Arc::new(check)))
}

/// The same with a text that has to say something.
fn change_to<'a>(args: &[Value<'a>], what: &str, make: fn(&mut Check, String)) -> Outcome<'a> {
    if let [_, Value::String(text)] = args
        && text.trim().is_empty()
    {
        return Err(EvalError::new(format!("{what} must not be empty")));
    }
    change(args, make)
}

fn service_account<'a>(_: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [
        Value::Check(check),
        Value::String(namespace),
        Value::String(name),
    ] = args
    else {
        return Err(EvalError::no_overload());
    };
    if !schema::names::is_dns1123_subdomain(name).is_empty() {
        return Err(EvalError::new("Invalid service account name"));
    }
    if !schema::names::is_dns1123_label(namespace).is_empty() {
        return Err(EvalError::new("Invalid service account namespace"));
    }
    let mut check = (**check).clone();
    check.service_account = Some((namespace.to_string(), name.to_string()));
    Ok(Value::Check(Arc::new(check)))
}

fn check<'a>(meter: &mut Meter<'_>, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Check(check), Value::String(verb)] = args else {
        return Err(EvalError::no_overload());
    };
    meter.charge(CHECK_COST)?;
    let check = Check {
        verb: verb.to_string(),
        ..(**check).clone()
    };
    let decision = match meter.authorizer {
        Some(authorizer) => authorizer.decide(&check),
        None => Decision {
            allowed: false,
            reason: String::new(),
            error: "no authorizer".into(),
        },
    };
    Ok(Value::Decision(Arc::new(decision)))
}

fn of<'a>(args: &[Value<'a>], make: fn(&Decision) -> Value<'static>) -> Outcome<'a> {
    match args {
        [Value::Decision(decision)] => Ok(make(decision)),
        _ => Err(EvalError::no_overload()),
    }
}
