//! API services.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, age, name, text};
use crate::look::{Look, spec};

pub(crate) const API_SERVICE: &[Column] = &[
    NAME,
    text("Service", "Service that serves the version, or Local."),
    text("Available", "Whether the version is served."),
    AGE,
];

pub(crate) fn api_service(object: &Object, now: i64) -> Vec<Value> {
    let service = spec(object).at("service");
    let served_by = if service.is_object() {
        format!("{}/{}", service.text("namespace"), service.text("name"))
    } else {
        "Local".to_owned()
    };
    let available = match object.condition("Available") {
        Some(condition) if condition.text("status") == "True" => "True".to_owned(),
        Some(condition) => format!(
            "{} ({})",
            condition.text("status"),
            condition.text("reason")
        ),
        None => "Unknown".to_owned(),
    };
    vec![
        name(object),
        served_by.into(),
        available.into(),
        age(object, now),
    ]
}
