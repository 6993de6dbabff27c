//! Namespaces, quotas, leases and the health of components.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, age, name, text};
use crate::defaults::storage::canonical;
use crate::look::{Look, spec, status};

pub(crate) const NAMESPACE: &[Column] = &[NAME, text("Status", "Active, or Terminating."), AGE];
pub(crate) const RESOURCE_QUOTA: &[Column] = &[
    NAME,
    text(
        "Request",
        "Requests and counts that are used, of those that are granted.",
    ),
    text("Limit", "Limits that are used, of those that are granted."),
    AGE,
];
pub(crate) const LEASE: &[Column] = &[NAME, text("Holder", "Who holds the lease."), AGE];
pub(crate) const COMPONENT_STATUS: &[Column] = &[
    NAME,
    text("Status", "Whether the component is healthy."),
    text("Message", "What the component says."),
    text("Error", "Why the component could not be asked."),
];

pub(crate) fn namespace(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        status(object).text("phase").into(),
        age(object, now),
    ]
}

pub(crate) fn resource_quota(object: &Object, now: i64) -> Vec<Value> {
    let status = status(object);
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in status.entries("hard") {
        let used = canonical(status.at("used").at(resource));
        let used = if used.is_empty() {
            "0".to_owned()
        } else {
            used
        };
        let text = format!("{resource}: {used}/{}", canonical(hard));
        if resource.starts_with("limits.") {
            limits.push(text)
        } else {
            requests.push(text)
        }
    }
    vec![
        name(object),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age(object, now),
    ]
}

pub(crate) fn lease(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        spec(object).text("holderIdentity").into(),
        age(object, now),
    ]
}

pub(crate) fn component_status(object: &Object, _now: i64) -> Vec<Value> {
    let healthy = object
        .at("conditions")
        .as_array()
        .into_iter()
        .flatten()
        .find(|c| c.text("type") == "Healthy");
    let (state, message, error) = match healthy {
        Some(condition) => (
            if condition.text("status") == "True" {
                "Healthy"
            } else {
                "Unhealthy"
            },
            condition.text("message"),
            condition.text("error"),
        ),
        None => ("Unknown", "", ""),
    };
    vec![name(object), state.into(), message.into(), error.into()]
}
