//! Role bindings and signing requests.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, NONE, age, human_duration, name, or_none, text, wide};
use crate::look::{Look, spec, status};

pub(crate) const BINDING: &[Column] = &[
    NAME,
    text("Role", "Role that the subjects get."),
    AGE,
    wide("Users", "Users that get the role."),
    wide("Groups", "Groups that get the role."),
    wide("ServiceAccounts", "Service accounts that get the role."),
];
pub(crate) const SIGNING_REQUEST: &[Column] = &[
    NAME,
    AGE,
    text("SignerName", "Who is asked to sign."),
    text("Requestor", "Who asks."),
    text(
        "RequestedDuration",
        "How long the certificate should be valid.",
    ),
    text("Condition", "What was decided."),
];

pub(crate) fn binding(object: &Object, now: i64) -> Vec<Value> {
    let role = object.at("roleRef");
    let subjects = |kind: &str| -> Value {
        let names: Vec<String> = object
            .at("subjects")
            .as_array()
            .into_iter()
            .flatten()
            .filter(|subject| subject.text("kind") == kind)
            .map(|subject| match kind {
                "ServiceAccount" => {
                    format!("{}/{}", subject.text("namespace"), subject.text("name"))
                }
                _ => subject.text("name").to_owned(),
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        name(object),
        format!("{}/{}", role.text("kind"), role.text("name")).into(),
        age(object, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

pub(crate) fn signing_request(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    vec![
        name(object),
        age(object, now),
        or_none(spec.text("signerName")),
        spec.text("username").into(),
        spec.int("expirationSeconds")
            .map_or_else(|| NONE.into(), |seconds| human_duration(seconds).into()),
        condition(object).into(),
    ]
}

fn condition(object: &Object) -> String {
    let has = |condition: &str| object.condition(condition).is_some();
    let mut text = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !status(object).text("certificate").is_empty() {
        text.push_str(",Issued");
    }
    text
}
