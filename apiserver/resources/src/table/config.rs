//! Configuration that pods read.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, age, name, text};
use crate::look::Look;

const DATA: Column = text("Data", "Number of keys.");
pub(crate) const CONFIG_MAP: &[Column] = &[NAME, DATA, AGE];
pub(crate) const SECRET: &[Column] = &[NAME, text("Type", "What the secret is for."), DATA, AGE];

fn keys(object: &Object, field: &str) -> usize {
    object.at(field).as_object().map_or(0, serde_json::Map::len)
}

pub(crate) fn config_map(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        (keys(object, "data") + keys(object, "binaryData")).into(),
        age(object, now),
    ]
}

pub(crate) fn secret(object: &Object, now: i64) -> Vec<Value> {
    let kind = object.at("type").as_str().unwrap_or("");
    vec![
        name(object),
        kind.into(),
        keys(object, "data").into(),
        age(object, now),
    ]
}
