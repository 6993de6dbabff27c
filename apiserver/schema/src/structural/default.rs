//! Static defaults, and nulls that stand for nothing.

use serde_json::Value;

use super::node::{Additional, Node};

/// See [`super::Structural::default`].
pub(super) fn default(root: &Node, object: &mut Value) {
    drop_nulls(root, object);
    set(root, object);
}

/// Whether a null is refused here and has no default that could take its place.
fn is_stray_null(node: &Node, value: &Value) -> bool {
    value.is_null() && !node.nullable && node.default.is_none()
}

fn drop_nulls(node: &Node, value: &mut Value) {
    match value {
        Value::Object(map) => map.retain(|key, value| match node.member(key) {
            Some(inner) if is_stray_null(inner, value) => false,
            Some(inner) => {
                drop_nulls(inner, value);
                true
            }
            None => true,
        }),
        Value::Array(list) => {
            if let Some(inner) = node.items.as_deref() {
                list.iter_mut().for_each(|item| drop_nulls(inner, item));
            }
        }
        _ => {}
    }
}

fn set(node: &Node, value: &mut Value) {
    let replace = |inner: &Node, value: &mut Value| {
        if value.is_null()
            && !inner.nullable
            && let Some(default) = &inner.default
        {
            *value = (**default).clone();
        }
    };
    match value {
        Value::Object(map) => {
            for property in &node.properties {
                let Some(default) = &property.node.default else {
                    continue;
                };
                if !map.contains_key(&*property.name) {
                    map.insert(property.name.to_string(), (**default).clone());
                }
            }
            if node.properties.is_empty() && !matches!(node.additional, Additional::Of(_)) {
                return;
            }
            for (key, value) in map {
                if let Some(inner) = node.member(key) {
                    replace(inner, value);
                    set(inner, value);
                }
            }
        }
        Value::Array(list) => {
            if let Some(inner) = node.items.as_deref() {
                for item in list {
                    replace(inner, item);
                    set(inner, item);
                }
            }
        }
        _ => {}
    }
}
