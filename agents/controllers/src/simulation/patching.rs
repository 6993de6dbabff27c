//! What patches do to objects.

use serde_json::{Value, json};

/// Merges a JSON merge patch into an object.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in fields {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key.as_str()], value);
        }
    }
}

/// Makes a strategic merge patch one that replaces lists: conditions go by their types.
pub(super) fn by_type(patch: &mut Value, object: &Value) {
    let said = patch.pointer_mut("/status/conditions");
    let Some(said) = said.and_then(Value::as_array_mut) else {
        return;
    };
    let present = object["status"]["conditions"].as_array();
    let mut all = present.cloned().unwrap_or_default();
    for condition in std::mem::take(said) {
        let found = all
            .iter()
            .position(|other| other["type"] == condition["type"]);
        match (found, condition["$patch"] == "delete") {
            (Some(at), true) => {
                all.remove(at);
            }
            (Some(at), false) => merge(&mut all[at], &condition),
            (None, true) => {}
            (None, false) => all.push(condition),
        }
    }
    *said = all;
}
