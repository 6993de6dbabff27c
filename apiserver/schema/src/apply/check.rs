//! Whether a configuration fits its type. Apply refuses unknown fields whatever `fieldValidation`
//! says, since nobody could own them.

use std::collections::HashSet;

use serde_json::Value;

use super::atom::{self, Atom, DEPTH_MAX, Identity, Items, Scalar};
use super::element;
use crate::structural::Schema;

/// Errors beyond this many are not listed.
const ERRORS_MAX: usize = 100;

/// Kubernetes' text of what is wrong with a configuration.
pub(super) fn check(schema: Schema<'_>, config: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(Atom::root(schema), config, ("", 0), &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        several => Err(format!("errors:\n  {}", several.join("\n  "))),
    }
}

/// `path` comes with its depth; what is deeper stands as a whole, and is checked when it is decoded.
fn walk(atom: Atom<'_>, value: &Value, (path, depth): (&str, usize), errors: &mut Vec<String>) {
    if value.is_null() || errors.len() >= ERRORS_MAX || depth > DEPTH_MAX {
        return;
    }
    let mut refuse = |text: String| {
        errors.push(if path.is_empty() {
            text
        } else {
            format!("{path}: {text}")
        });
    };
    match (atom, value) {
        (Atom::Scalar(scalar), value) => {
            if let Some(text) = misfit(scalar, value) {
                refuse(text);
            }
        }
        (Atom::Deduced, _) => {}
        (Atom::List(of, identity), Value::Array(items)) => {
            list((of, identity), items, (path, depth), errors);
        }
        (Atom::AtomicList(of), Value::Array(items)) => {
            for (i, value) in items.iter().enumerate() {
                let path = format!("{path}[{i}]");
                walk(of.item(), value, (&path, depth + 1), errors);
            }
        }
        (Atom::List(..) | Atom::AtomicList(_), other) => {
            refuse(format!("expected list, got &{{{}}}", shown(other)));
        }
        (_, Value::Object(map)) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                match atom.member(key) {
                    (_, false) if !atom.is_open() => {
                        errors.push(format!("{path}: field not declared in schema"));
                    }
                    (member, _) => walk(member, value, (&path, depth + 1), errors),
                }
            }
        }
        (_, other) => refuse(format!("expected map, got &{{{}}}", shown(other))),
    }
}

fn list(
    (of, identity): (Items<'_>, Identity),
    items: &[Value],
    (path, depth): (&str, usize),
    errors: &mut Vec<String>,
) {
    let mut seen = HashSet::new();
    for (i, value) in items.iter().enumerate() {
        match atom::item(of, identity, value) {
            Err(text) => {
                errors.push(format!("{path}: element {i}: {text}"));
                return;
            }
            Ok(element) => {
                let shown = element::shown(&element);
                if seen.insert(element) {
                    let path = format!("{path}{shown}");
                    walk(of.item(), value, (&path, depth + 1), errors);
                } else {
                    errors.push(format!("{path}: duplicate entries for key {shown}"));
                }
            }
        }
    }
}

fn misfit(scalar: Scalar, value: &Value) -> Option<String> {
    let expected = match scalar {
        Scalar::Number if value.is_number() => return None,
        Scalar::Number => {
            return Some(format!(
                "expected numeric (int or float), got {}",
                go_type(value)
            ));
        }
        Scalar::String if value.is_string() => return None,
        Scalar::String => "string",
        Scalar::Bool if value.is_boolean() => return None,
        Scalar::Bool => "boolean",
        Scalar::Any if !value.is_object() && !value.is_array() => return None,
        Scalar::Any => return Some(format!("expected any scalar, got &{{{}}}", shown(value))),
    };
    Some(format!(
        "expected {expected}, got &value.valueUnstructured{{Value:{value}}}"
    ))
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
        Value::Number(_) | Value::Null => "<nil>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_are_those_of_kubernetes() {
        let ty = crate::type_of("apps", "v1", "Deployment").unwrap();
        let spec = |spec: Value| check(ty.into(), &json!({ "spec": spec })).unwrap_err();
        let pod = |pod: Value| spec(json!({"template": {"spec": pod}}));
        for (error, expected) in [
            (
                spec(json!({"foo": 1})),
                ".spec.foo: field not declared in schema",
            ),
            (
                spec(json!({"replicas": "3"})),
                ".spec.replicas: expected numeric (int or float), got string",
            ),
            (
                pod(json!({"containers": [{"name": "a", "env": [{"name": "X", "value": 8080}]}]})),
                ".spec.template.spec.containers[name=\"a\"].env[name=\"X\"].value: expected string, got &value.valueUnstructured{Value:8080}",
            ),
            (
                pod(json!({"containers": [{"name": "a"}, {"name": "a"}]})),
                ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
            ),
            (
                pod(json!({"containers": [{"image": "a"}]})),
                ".spec.template.spec.containers: element 0: associative list with keys has an element that omits key field \"name\" (and doesn't have default value)",
            ),
            (
                pod(json!({"containers": {}, "hostNetwork": "x"})),
                "errors:\n  .spec.template.spec.containers: expected list, got &{{}}\n  .spec.template.spec.hostNetwork: expected boolean, got &value.valueUnstructured{Value:\"x\"}",
            ),
            (spec(json!("x")), ".spec: expected map, got &{x}"),
        ] {
            assert_eq!(error, expected);
        }
        let fine = json!({"spec": {"replicas": null, "selector": {"matchLabels": {"a": "b"}}}});
        assert_eq!(check(ty.into(), &fine), Ok(()));
    }
}
