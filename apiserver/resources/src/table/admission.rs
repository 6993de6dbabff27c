//! Webhook configurations and admission policies.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, UNSET, age, integer, name, text};
use crate::look::{Look, spec};

pub(crate) const WEBHOOK: &[Column] = &[NAME, integer("Webhooks", "Number of webhooks."), AGE];
pub(crate) const VALIDATING_POLICY: &[Column] = &[
    NAME,
    integer("Validations", "Number of validations."),
    text("ParamKind", "Kind of the parameters."),
    AGE,
];
pub(crate) const MUTATING_POLICY: &[Column] = &[
    NAME,
    integer("Mutations", "Number of mutations."),
    text("ParamKind", "Kind of the parameters."),
    AGE,
];
pub(crate) const POLICY_BINDING: &[Column] = &[
    NAME,
    text("PolicyName", "Policy that is bound."),
    text("ParamRef", "Parameters with which it is bound."),
    AGE,
];

pub(crate) fn webhook(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        object.at("webhooks").as_array().map_or(0, Vec::len).into(),
        age(object, now),
    ]
}

fn param_kind(object: &Object) -> Value {
    let kind = spec(object).at("paramKind");
    if kind.is_object() {
        format!("{}/{}", kind.text("apiVersion"), kind.text("kind")).into()
    } else {
        UNSET.into()
    }
}

pub(crate) fn validating_policy(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        spec(object).list("validations").len().into(),
        param_kind(object),
        age(object, now),
    ]
}

pub(crate) fn mutating_policy(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        spec(object).list("mutations").len().into(),
        param_kind(object),
        age(object, now),
    ]
}

pub(crate) fn policy_binding(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let reference = spec.at("paramRef");
    let text = if !reference.is_object() {
        UNSET.to_owned()
    } else if !reference.text("name").is_empty() {
        match reference.text("namespace") {
            "" => format!("*/{}", reference.text("name")),
            namespace => format!("{namespace}/{}", reference.text("name")),
        }
    } else {
        super::selector(reference.at("selector"))
    };
    vec![
        name(object),
        spec.text("policyName").into(),
        text.into(),
        age(object, now),
    ]
}
