//! Whether a configuration fits its type. Apply refuses unknown fields whatever `fieldValidation`
//! says, since nobody could own them.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::Value;

use super::atom::{self, Atom, DEPTH_MAX, Identity, Items, Scalar};
use super::element;
use crate::structural::Schema;

/// Errors beyond this many are not listed.
const ERRORS_MAX: usize = 100;

/// Kubernetes' text of what is wrong with a configuration.
pub(super) fn check(schema: Schema<'_>, config: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    walk(Atom::root(schema), config, (&Trail::ROOT, 0), &mut errors);
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        several => Err(format!("errors:\n  {}", several.join("\n  "))),
    }
}

/// Where a value stands: a list that lives on the stack, since it is only shown with an error.
#[derive(Clone, Copy)]
struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    /// An item, by its path element.
    Item(&'a str),
}

impl<'a> Trail<'a> {
    const ROOT: Trail<'static> = Trail {
        parent: None,
        step: Step::Root,
    };

    fn to(&'a self, step: Step<'a>) -> Trail<'a> {
        let parent = Some(self);
        Trail { parent, step }
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Item(element) => f.write_str(&element::shown(element)),
        }
    }
}

/// `trail` comes with its depth; what is deeper stands as a whole, and is checked when it is decoded.
fn walk(
    atom: Atom<'_>,
    value: &Value,
    (trail, depth): (&Trail<'_>, usize),
    errors: &mut Vec<String>,
) {
    if value.is_null() || errors.len() >= ERRORS_MAX || depth > DEPTH_MAX {
        return;
    }
    let mut refuse = |text: String| {
        errors.push(match trail.step {
            Step::Root => text,
            _ => format!("{trail}: {text}"),
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
            list((of, identity), items, (trail, depth), errors);
        }
        (Atom::AtomicList(of), Value::Array(items)) => {
            for (i, value) in items.iter().enumerate() {
                let here = trail.to(Step::Index(i));
                walk(of.item(), value, (&here, depth + 1), errors);
            }
        }
        (Atom::List(..) | Atom::AtomicList(_), other) => {
            refuse(format!("expected list, got &{{{}}}", shown(other)));
        }
        (_, Value::Object(map)) => {
            for (key, value) in map {
                let here = trail.to(Step::Field(key));
                match atom.member(key) {
                    (_, false) if !atom.is_open() => {
                        errors.push(format!("{here}: field not declared in schema"));
                    }
                    (member, _) => walk(member, value, (&here, depth + 1), errors),
                }
            }
        }
        (_, other) => refuse(format!("expected map, got &{{{}}}", shown(other))),
    }
}

fn list(
    (of, identity): (Items<'_>, Identity),
    items: &[Value],
    (trail, depth): (&Trail<'_>, usize),
    errors: &mut Vec<String>,
) {
    let mut seen = BTreeSet::new();
    for (i, value) in items.iter().enumerate() {
        match atom::item(of, identity, value) {
            Err(text) => {
                errors.push(format!("{trail}: element {i}: {text}"));
                return;
            }
            Ok(element) if seen.contains(&element) => {
                let shown = element::shown(&element);
                errors.push(format!("{trail}: duplicate entries for key {shown}"));
            }
            Ok(element) => {
                let here = trail.to(Step::Item(&element));
                walk(of.item(), value, (&here, depth + 1), errors);
                seen.insert(element);
            }
        }
    }
}

fn misfit(scalar: Scalar, value: &Value) -> Option<String> {
    let text = match scalar {
        Scalar::Number if value.is_number() => return None,
        Scalar::String if value.is_string() => return None,
        Scalar::Bool if value.is_boolean() => return None,
        Scalar::Any if !value.is_object() && !value.is_array() => return None,
        Scalar::Number => format!("expected numeric (int or float), got {}", go_type(value)),
        Scalar::String => format!(
            "expected string, got &value.valueUnstructured{{Value:{}}}",
            literal(value)
        ),
        Scalar::Bool => format!("expected boolean, got &{{{}}}", shown(value)),
        Scalar::Any => format!("expected any scalar, got &{{{}}}", shown(value)),
    };
    Some(text)
}

/// A value as Go's `%#v` prints it.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::String(text) => crate::field::go_quote(text),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(literal).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| {
                format!("{}:{}", crate::field::go_quote(name), literal(value))
            });
            let fields = fields.collect::<Vec<_>>().join(", ");
            format!("map[string]interface {{}}{{{fields}}}")
        }
    }
}

/// A value as Go's `%v` prints it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let fields = fields.iter();
            let fields = fields.map(|(name, value)| format!("{name}:{}", shown(value)));
            format!("map[{}]", fields.collect::<Vec<_>>().join(" "))
        }
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
                pod(json!({"containers": [{"image": "a"}, {"image": "b"}]})),
                ".spec.template.spec.containers: duplicate entries for key [name=\"\"]",
            ),
            (
                pod(json!({"containers": {}, "hostNetwork": "x"})),
                "errors:\n  .spec.template.spec.containers: expected list, got &{map[]}\n  .spec.template.spec.hostNetwork: expected boolean, got &{x}",
            ),
            (spec(json!("x")), ".spec: expected map, got &{x}"),
            (
                pod(json!({"restartPolicy": {"b": [1, null], "a": "x"}})),
                ".spec.template.spec.restartPolicy: expected string, got &value.valueUnstructured{Value:map[string]interface {}{\"a\":\"x\", \"b\":[]interface {}{1, interface {}(nil)}}}",
            ),
            (
                spec(json!([{"b": 1, "a": "x"}, null])),
                ".spec: expected map, got &{[map[a:x b:1] <nil>]}",
            ),
        ] {
            assert_eq!(error, expected);
        }
        let fine = json!({"spec": {"replicas": null, "selector": {"matchLabels": {"a": "b"}}}});
        assert_eq!(check(ty.into(), &fine), Ok(()));
        let ty = crate::type_of("flowcontrol.apiserver.k8s.io", "v1", "FlowSchema").unwrap();
        let keyless = json!({"status": {"conditions": [{"reason": "a"}]}});
        assert_eq!(
            check(ty.into(), &keyless).unwrap_err(),
            ".status.conditions: element 0: associative list with keys has an element that omits all key fields [\"type\"] (and doesn't have default values for any key fields)"
        );
    }

    /// One of the keys of a device is optional, so a device without it is another than one with it.
    #[test]
    fn a_key_that_is_left_out_is_none_of_the_item() {
        let ty = crate::type_of("resource.k8s.io", "v1", "ResourceClaim").unwrap();
        let device = json!({"driver": "d", "pool": "p", "device": "x"});
        let mut shared = device.clone();
        shared["shareID"] = "s".into();
        let status = |devices: Value| check(ty.into(), &json!({"status": {"devices": devices}}));
        assert_eq!(status(json!([device, shared])), Ok(()));
        assert_eq!(
            status(json!([device, device])).unwrap_err(),
            ".status.devices: duplicate entries for key [device=\"x\",driver=\"d\",pool=\"p\"]"
        );
    }
}
