//! Disruption budgets, priorities and flow control.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, NONE, age, boolean, count, int_or_string, integer, name, or_none, text};
use crate::look::{Look, spec, status};

pub(crate) const DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    text("Min Available", "Pods that have to stay available."),
    text("Max Unavailable", "Pods that may be unavailable."),
    integer("Allowed Disruptions", "Pods that may be evicted now."),
    AGE,
];
pub(crate) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    integer("Value", "Priority of pods of this class."),
    boolean(
        "Global-Default",
        "Whether pods without a class get this one.",
    ),
    AGE,
    text(
        "PreemptionPolicy",
        "Whether pods of this class push out others.",
    ),
];
pub(crate) const FLOW_SCHEMA: &[Column] = &[
    NAME,
    text("PriorityLevel", "Priority level of matching requests."),
    text(
        "MatchingPrecedence",
        "Order in which schemas are tried, lowest first.",
    ),
    text(
        "DistinguisherMethod",
        "How requests are told apart into flows.",
    ),
    AGE,
    text("MissingPL", "Whether the priority level is missing."),
];
pub(crate) const PRIORITY_LEVEL: &[Column] = &[
    NAME,
    text("Type", "Exempt or Limited."),
    text("NominalConcurrencyShares", "Share of the server's seats."),
    text("Queues", "Number of queues."),
    text("HandSize", "Queues that one flow may use."),
    text("QueueLengthLimit", "Requests that may wait in one queue."),
    AGE,
];

pub(crate) fn disruption_budget(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    vec![
        name(object),
        int_or_string(spec.at("minAvailable"), "N/A").into(),
        int_or_string(spec.at("maxUnavailable"), "N/A").into(),
        count(status(object), "disruptionsAllowed"),
        age(object, now),
    ]
}

pub(crate) fn priority_class(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        object.at("value").as_i64().unwrap_or(0).into(),
        object.at("globalDefault").as_bool().unwrap_or(false).into(),
        age(object, now),
        object.at("preemptionPolicy").as_str().unwrap_or("").into(),
    ]
}

pub(crate) fn flow_schema(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    vec![
        name(object),
        or_none(spec.at("priorityLevelConfiguration").text("name")),
        count(spec, "matchingPrecedence"),
        or_none(spec.at("distinguisherMethod").text("type")),
        age(object, now),
        super::or(object.condition_status("Dangling").unwrap_or(""), "?"),
    ]
}

pub(crate) fn priority_level(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let limits = if spec.has("limited") {
        spec.at("limited")
    } else {
        spec.at("exempt")
    };
    let queuing = limits.at("limitResponse").at("queuing");
    let number = |value: &Value, field: &str| -> Value {
        value
            .int(field)
            .map_or_else(|| NONE.into(), |number| number.to_string().into())
    };
    vec![
        name(object),
        spec.text("type").into(),
        number(limits, "nominalConcurrencyShares"),
        number(queuing, "queues"),
        number(queuing, "handSize"),
        number(queuing, "queueLengthLimit"),
        age(object, now),
    ]
}
