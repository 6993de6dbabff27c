//! JSON merge patch (RFC 7396): `application/merge-patch+json`.

use serde_json::{Map, Value};

use super::PatchError;
use crate::decode::{self, FieldValidation};

/// Reads and applies a patch; at the root it must be a JSON object.
pub fn apply_bytes(original: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = decode::json(None, patch, FieldValidation::Ignore)
        .map_err(|e| PatchError::BadRequest(format!("error decoding patch: {e}")))?;
    apply_to(original.clone(), patch.value)
}

/// Applies a patch; at the root it must be a JSON object.
pub fn apply(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    apply_to(original.clone(), patch.clone())
}

/// The same on an object that nobody else needs, with a patch that is not needed any more.
pub fn apply_to(mut original: Value, patch: Value) -> Result<Value, PatchError> {
    if !patch.is_object() {
        return Err(PatchError::BadRequest("Invalid JSON Patch".to_owned()));
    }
    merge(&mut original, patch);
    Ok(original)
}

fn merge(target: &mut Value, patch: Value) {
    let fields = match patch {
        Value::Object(fields) => fields,
        other => {
            *target = other;
            return;
        }
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else {
        return;
    };
    for (key, value) in fields {
        if value.is_null() {
            object.remove(&key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_examples_of_the_rfc() {
        for (original, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!([1, 2]),
                json!({"a": "b", "c": null}),
                json!({"a": "b"}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            assert_eq!(apply(&original, &patch), Ok(result));
        }
    }

    #[test]
    fn what_kubectl_sends() {
        let object = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1, "unschedulable": true}});
        for (patch, result) in [
            (
                json!({"metadata": {"labels": {"b": "2"}}}),
                json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"replicas": 1, "unschedulable": true}}),
            ),
            (
                json!({"metadata": {"labels": {"a": null}}}),
                json!({"metadata": {"labels": {}}, "spec": {"replicas": 1, "unschedulable": true}}),
            ),
            (
                json!({"spec": {"replicas": 3}}),
                json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 3, "unschedulable": true}}),
            ),
            (
                json!({"spec": {"unschedulable": null}}),
                json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1}}),
            ),
        ] {
            assert_eq!(apply(&object, &patch), Ok(result));
        }
    }

    #[test]
    fn refuses() {
        for patch in ["[]", "1", "null"] {
            assert!(matches!(
                apply_bytes(&json!({}), patch.as_bytes()),
                Err(PatchError::BadRequest(_))
            ));
        }
        assert_eq!(
            apply_bytes(&json!({}), b"{"),
            Err(PatchError::BadRequest(
                "error decoding patch: unexpected end of JSON input".to_owned()
            ))
        );
    }
}
