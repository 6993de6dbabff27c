//! Objects of custom resources: what the schema does not know is pruned, and the metadata, of the
//! object and of every resource within it, is that of built-in kinds.

use serde_json::{Map, Value};

use super::{Checked, DecodeError, Problem, Problems, Step, Trail, Walk, go_kind};
use crate::field::{FieldError, Path};
use crate::structural::{Additional, Node, Structural};
use crate::types::{Type, type_named};

/// Checks one object; notes the fields that it loses.
pub(super) fn checked(schema: &Structural, value: &mut Value, problems: &mut Problems) -> Checked {
    if !value.is_object() {
        return Err(DecodeError::Type(format!(
            "json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            go_kind(value)
        )));
    }
    let mut unknown = schema.prune(value);
    unknown.sort();
    super::settle_numbers(value);
    let mut lost = Problems {
        muted: problems.muted,
        ..Problems::default()
    };
    walk(schema.root(), value, &Path::root(), &mut lost)?;
    let mut lost: Vec<String> = lost.list.into_iter().map(|(_, path)| path).collect();
    lost.sort();
    // Kubernetes looks at the metadata of the object first, and at that of resources within it last.
    let (first, last): (Vec<String>, Vec<String>) = lost
        .into_iter()
        .partition(|path| path.starts_with("metadata."));
    for path in first.into_iter().chain(unknown).chain(last) {
        problems.note_path(Problem::Unknown, path);
    }
    Ok(())
}

fn walk(
    node: &Node,
    value: &mut Value,
    path: &Path,
    problems: &mut Problems,
) -> Result<(), DecodeError> {
    match value {
        Value::Object(map) => {
            if node.is_resource() {
                resource(node, map, path, problems)?;
            }
            if node.properties.is_empty() && !matches!(node.additional, Additional::Of(_)) {
                return Ok(());
            }
            for (key, value) in map {
                if let Some(inner) = node.member(key).filter(|_| !node.is_meta(key))
                    && holds_resources(value)
                {
                    walk(inner, value, &path.child(key), problems)?;
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = node.items.as_deref() {
                for (i, item) in items.iter_mut().enumerate() {
                    if holds_resources(item) {
                        walk(inner, item, &path.index(i), problems)?;
                    }
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn holds_resources(value: &Value) -> bool {
    value.is_object() || value.is_array()
}

fn resource(
    node: &Node,
    map: &mut Map<String, Value>,
    path: &Path,
    problems: &mut Problems,
) -> Result<(), DecodeError> {
    if node.embedded {
        for key in ["apiVersion", "kind"] {
            if let Some(value) = map.get(key).filter(|value| !value.is_string()) {
                let error =
                    FieldError::invalid(&path.child(key), value.clone(), "must be a string");
                return Err(DecodeError::Type(error.to_string()));
            }
        }
    }
    match map.get_mut("metadata") {
        None => Ok(()),
        Some(Value::Null) => {
            map.remove("metadata");
            Ok(())
        }
        Some(Value::Object(fields)) => {
            let path = path.child("metadata");
            let trail = Trail::new(None, Step::Name(path.as_str()));
            let walked = Walk { problems }.object(object_meta(), fields, Some(&trail));
            walked.map_err(|error| match error {
                // Kubernetes decodes it for itself, and names its fields from there.
                DecodeError::Type(text) if path.as_str() == "metadata" => {
                    DecodeError::Type(text.replacen(".metadata.", ".", 1))
                }
                other => other,
            })
        }
        Some(other) => Err(DecodeError::Type(format!(
            "json: cannot unmarshal {} into Go value of type v1.ObjectMeta",
            go_kind(other)
        ))),
    }
}

fn object_meta() -> &'static Type {
    type_named("meta.ObjectMeta").expect("it is in the table")
}
