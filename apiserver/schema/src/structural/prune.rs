//! Dropping the fields that a schema does not have.

use serde_json::Value;

use super::node::{Additional, Node};

/// Paths beyond this many are not listed.
const PATHS_MAX: usize = 100;

/// Prunes a whole object; see [`super::Structural::prune`].
pub(super) fn prune(root: &Node, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    let mut path = String::new();
    walk(Some(root), object, &mut path, &mut unknown);
    unknown.sort();
    unknown
}

/// Without a schema nothing is known of the parts.
fn walk(node: Option<&Node>, value: &mut Value, path: &mut String, unknown: &mut Vec<String>) {
    let preserve = node.is_some_and(|node| node.preserve_unknown);
    match value {
        Value::Object(map) => {
            let length = path.len();
            map.retain(|key, value| {
                if node.is_some_and(|node| node.is_meta(key)) {
                    return true;
                }
                push_name(path, key);
                let known = match node.map(|node| (node.property(key), &node.additional)) {
                    Some((Some(inner), _)) => {
                        walk(Some(inner), value, path, unknown);
                        true
                    }
                    Some((None, Additional::Of(inner))) => {
                        walk(Some(inner), value, path, unknown);
                        true
                    }
                    // Of a map of anything the values are kept, but not what is in them; and what is
                    // forbidden stays, to be complained about.
                    Some((None, Additional::Allowed | Additional::Forbidden)) if !preserve => {
                        walk(None, value, path, unknown);
                        true
                    }
                    _ => preserve,
                };
                if !known && unknown.len() < PATHS_MAX {
                    unknown.push(path.clone());
                }
                path.truncate(length);
                known
            });
        }
        Value::Array(items) => {
            let inner = node.and_then(|node| node.items.as_deref());
            if inner.is_none() && preserve {
                return;
            }
            let length = path.len();
            for (i, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{i}]"));
                match inner {
                    // Items of a list that keeps what it does not know keep it too.
                    Some(inner) if preserve && !inner.preserve_unknown => {
                        keep(inner, item, path, unknown);
                    }
                    _ => walk(inner, item, path, unknown),
                }
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// As `walk` with a node that preserves, though it does not say so itself.
fn keep(node: &Node, value: &mut Value, path: &mut String, unknown: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            let length = path.len();
            for (key, value) in map {
                if node.is_meta(key) {
                    continue;
                }
                if let Some(inner) = node.member(key) {
                    push_name(path, key);
                    walk(Some(inner), value, path, unknown);
                    path.truncate(length);
                }
            }
        }
        Value::Array(items) => {
            if let Some(inner) = node.items.as_deref() {
                let length = path.len();
                for (i, item) in items.iter_mut().enumerate() {
                    path.push_str(&format!("[{i}]"));
                    keep(inner, item, path, unknown);
                    path.truncate(length);
                }
            }
        }
        _ => {}
    }
}

fn push_name(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}
