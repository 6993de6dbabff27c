//! Lists of the types `set` and `map`: no item, or no key, may occur twice.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::node::Node;
use crate::field::{ErrorList, FieldError, Path};
use crate::types::ListType;

/// Errors beyond this many are not listed.
const ERRORS_MAX: usize = 200;

/// What occurs twice in a value. Each is told once, at its second place.
pub(super) fn lists(node: &Node, value: &Value, path: &Path, errors: &mut ErrorList) {
    if errors.len() >= ERRORS_MAX {
        return;
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map.iter().filter(|(_, value)| has_parts(value)) {
                if let Some(inner) = node.property(key) {
                    lists(inner, value, &path.child(key), errors);
                } else if let Some(inner) = node.member(key) {
                    lists(inner, value, &path.key(key), errors);
                }
            }
        }
        Value::Array(items) => {
            match node.list_type {
                Some(ListType::Set) => set(items, path, errors),
                Some(ListType::Map) => map(node, items, path, errors),
                _ => {}
            }
            if let Some(inner) = node.items.as_deref() {
                for (i, item) in items.iter().enumerate().filter(|(_, v)| has_parts(v)) {
                    lists(inner, item, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn has_parts(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn set(items: &[Value], path: &Path, errors: &mut ErrorList) {
    let seconds = second_times(items.iter().map(Value::to_string));
    for i in seconds {
        errors.push(FieldError::duplicate(&path.index(i), items[i].clone()));
    }
}

fn map(node: &Node, items: &[Value], path: &Path, errors: &mut ErrorList) {
    for (i, item) in items.iter().enumerate() {
        if !item.is_object() && !item.is_null() {
            let detail = "must be an object for an array of list-type map";
            errors.push(FieldError::invalid(&path.index(i), item.clone(), detail));
            return;
        }
    }
    let seconds = second_times(items.iter().map(|item| key_text(node, item)));
    for i in seconds {
        errors.push(FieldError::duplicate(&path.index(i), keys(node, &items[i])));
    }
}

/// The positions at which a text occurs for the second time.
fn second_times(texts: impl Iterator<Item = String>) -> Vec<usize> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut seconds = Vec::new();
    for (i, text) in texts.enumerate() {
        let times = seen.entry(text).or_default();
        *times += 1;
        if *times == 2 {
            seconds.push(i);
        }
    }
    seconds
}

fn keys(node: &Node, item: &Value) -> Value {
    let present = node.list_keys.iter().filter_map(|key| {
        let value = item.get(&**key)?;
        Some((key.to_string(), value.clone()))
    });
    Value::Object(present.collect::<Map<_, _>>())
}

/// What tells an item of a list with keys from the others.
pub(super) fn key_text(node: &Node, item: &Value) -> String {
    keys(node, item).to_string()
}
