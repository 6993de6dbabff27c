//! A configuration laid over an object for a policy, which owns nothing.

use serde_json::Value;

use super::atom::{Atom, Shape};
use super::check::check;
use super::merge::merge;
use super::operation::ApplyError;
use crate::structural::Schema;

/// `live` with everything that the configuration says. Values that stand as a whole must not be in it: a policy that sets one
/// would take away what others said there.
pub fn overlay<'a>(
    schema: impl Into<Schema<'a>>,
    live: &Value,
    config: &Value,
) -> Result<Value, ApplyError> {
    let schema = schema.into();
    let misfit = |why: String| {
        ApplyError::Misfit(format!(
            "failed to convert patch object to typed object: {why}"
        ))
    };
    check(schema, config).map_err(misfit)?;
    if let Some(path) = null_in(config, "") {
        return Err(misfit(format!("{path}: expected a value, got null")));
    }
    let mut wholes = Vec::new();
    find_wholes(Atom::root(schema), config, 0, "", &mut wholes);
    if !wholes.is_empty() {
        return Err(ApplyError::Misfit(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            wholes.join(", ")
        )));
    }
    Ok(merge(schema, live, config))
}

/// Where a null stands. It is no value, and takes nothing away: that is for JSON patches.
fn null_in(value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Null => Some(path.to_owned()),
        Value::Object(fields) => {
            let mut fields = fields.iter();
            fields.find_map(|(key, value)| null_in(value, &format!("{path}.{key}")))
        }
        Value::Array(items) => {
            let mut items = items.iter().enumerate();
            items.find_map(|(at, value)| null_in(value, &format!("{path}[{at}]")))
        }
        _ => None,
    }
}

/// The places of values that stand as a whole.
fn find_wholes(atom: Atom<'_>, value: &Value, depth: usize, path: &str, found: &mut Vec<String>) {
    let whole = matches!(
        atom,
        Atom::AtomicStruct(_) | Atom::AtomicMap(_) | Atom::AtomicNode(_) | Atom::AtomicList(_)
    );
    if whole && !value.is_null() {
        found.push(path.to_owned());
        return;
    }
    match (atom.shape(value, depth), value) {
        (Shape::Map(atom), Value::Object(fields)) => {
            for (key, value) in fields {
                let path = format!("{path}.{key}");
                find_wholes(atom.member(key).0, value, depth + 1, &path, found);
            }
        }
        (Shape::List(items, _), Value::Array(list)) => {
            for (index, value) in list.iter().enumerate() {
                let path = format!("{path}[{index}]");
                find_wholes(items.item(), value, depth + 1, &path, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::type_of;
    use serde_json::json;

    fn overlaid(config: Value) -> Result<Value, String> {
        let live = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "one", "image": "x"}]}});
        overlay(type_of("", "v1", "Pod"), &live, &config).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_said_is_added() {
        let object = overlaid(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"c": "d"}},
            "spec": {"containers": [{"name": "two", "image": "y"}, {"name": "one", "env": [{"name": "E"}]}]}}))
        .unwrap();
        assert_eq!(object["metadata"]["labels"], json!({"a": "b", "c": "d"}));
        let containers = object["spec"]["containers"].as_array().unwrap();
        assert_eq!(containers.len(), 2);
        let one = containers
            .iter()
            .find(|container| container["name"] == "one");
        assert_eq!(
            one.unwrap(),
            &json!({"name": "one", "image": "x", "env": [{"name": "E"}]})
        );
    }

    #[test]
    fn what_stands_as_a_whole_is_left_alone() {
        let error = overlaid(json!({"spec": {"containers": [{"name": "one", "args": ["a"]}]}}));
        assert_eq!(
            error.unwrap_err(),
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"
        );
        let error = overlaid(json!({"spec": {"nonsense": 1}})).unwrap_err();
        assert_eq!(
            error,
            "failed to convert patch object to typed object: .spec.nonsense: field not declared in schema"
        );
    }

    #[test]
    fn a_null_takes_nothing_away() {
        let error = overlaid(json!({"spec": {"containers": [{"name": "one", "image": null}]}}));
        assert_eq!(
            error.unwrap_err(),
            "failed to convert patch object to typed object: .spec.containers[0].image: expected a value, got null"
        );
    }
}
