//! JSON patch (RFC 6902): `application/json-patch+json`, with Kubernetes' limits: at most 10,000
//! operations, and copies that may not grow the object by more than a request body.

use serde_json::Value;

use super::PatchError;
use crate::decode::{self, DEPTH_MAX, FieldValidation};

pub const OPERATIONS_MAX: usize = 10_000;
/// Bytes that all `copy` operations of a patch may add together.
pub const COPIED_BYTES_MAX: usize = 3 << 20;
/// How often the depth of the object is measured again before the patch is refused.
const MEASUREMENTS_MAX: usize = 100;

/// Reads and applies a patch: all operations, or none.
pub fn apply(original: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = decode::json(None, patch, FieldValidation::Ignore)
        .map_err(|e| PatchError::BadRequest(format!("error decoding patch: {e}")))?;
    // Kubernetes reads the operations with a type of its own before it applies them.
    if !patch.value.is_array() {
        return Err(PatchError::BadRequest(format!(
            "error decoding patch: json: cannot unmarshal {} into Go value of type []handlers.jsonPatchOp",
            crate::object::kind_of(&patch.value)
        )));
    }
    apply_value(original, &patch.value)
}

/// What Go says of JSON that is no list of operations.
pub fn not_a_patch(value: &Value) -> String {
    format!(
        "json: cannot unmarshal {} into Go value of type jsonpatch.Patch",
        crate::object::kind_of(value)
    )
}

/// Applies a patch that is parsed already.
pub fn apply_value(original: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::BadRequest(not_a_patch(patch)));
    };
    if operations.len() > OPERATIONS_MAX {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            operations.len()
        )));
    }
    let mut document = original.clone();
    let mut growth = Growth {
        copied_bytes: 0,
        depth: depth_of(original),
        measurements: 0,
    };
    for operation in operations {
        growth.deepen(&document, operation)?;
        apply_one(&mut document, operation, &mut growth)?;
    }
    Ok(document)
}

/// What a patch has made of the object so far: a small patch could make it huge by copies, or too
/// deep for the recursions over it by moving it into itself again and again.
struct Growth {
    copied_bytes: usize,
    /// The object is at most this deep.
    depth: usize,
    measurements: usize,
}

impl Growth {
    /// Accounts for the depth that an operation can add.
    fn deepen(&mut self, document: &Value, operation: &Value) -> Result<(), PatchError> {
        let text = |key: &str| operation.get(key).and_then(Value::as_str);
        let steps = |key: &str| text(key).unwrap_or("").matches('/').count();
        let path = steps("path");
        let added = |depth: usize| match text("op") {
            Some("move" | "copy") => path + depth.saturating_sub(steps("from")),
            _ => path + operation.get("value").map_or(0, depth_of),
        };
        if added(self.depth) > DEPTH_MAX {
            self.measurements += 1;
            self.depth = depth_of(document);
            if self.measurements > MEASUREMENTS_MAX || added(self.depth) > DEPTH_MAX {
                return Err(PatchError::Unprocessable("exceeded max depth".to_owned()));
            }
        }
        self.depth = self.depth.max(added(self.depth));
        Ok(())
    }
}

/// How deep a value is nested; a scalar is 1 deep. Not recursive, since depth is what is doubted.
fn depth_of(value: &Value) -> usize {
    let mut deepest = 0;
    let mut todo = vec![(value, 1)];
    while let Some((value, depth)) = todo.pop() {
        deepest = deepest.max(depth);
        match value {
            Value::Array(items) => todo.extend(items.iter().map(|v| (v, depth + 1))),
            Value::Object(map) => todo.extend(map.values().map(|v| (v, depth + 1))),
            _ => {}
        }
    }
    deepest
}

fn apply_one(
    document: &mut Value,
    operation: &Value,
    growth: &mut Growth,
) -> Result<(), PatchError> {
    if !operation.is_object() {
        return Err(PatchError::BadRequest(format!(
            "json: cannot unmarshal {} into Go value of type jsonpatch.Operation",
            crate::object::kind_of(operation)
        )));
    }
    let text = |key: &str| operation.get(key).and_then(Value::as_str);
    let name = text("op").unwrap_or("unknown");
    let missing = |what: &str| {
        PatchError::Unprocessable(format!(
            "{name} operation does not apply: missing {what} field"
        ))
    };
    let path = text("path").ok_or_else(|| missing("path"))?;
    let value = || {
        operation
            .get("value")
            .cloned()
            .ok_or_else(|| missing("value"))
    };
    let from = || text("from").ok_or_else(|| missing("from"));
    match name {
        "add" => add(document, path, value()?, name),
        "remove" => remove(document, path, name).map(drop),
        "replace" => {
            let slot = find(document, path)
                .ok_or_else(|| fail(name, &format!("doc is missing key: {path}: missing value")))?;
            *slot = value()?;
            Ok(())
        }
        "move" => {
            let from = from()?;
            let moves_into_itself = path
                .strip_prefix(from)
                .is_some_and(|rest| rest.starts_with('/'));
            if moves_into_itself {
                return Err(fail(name, &format!("cannot move {from} into itself")));
            }
            let moved = remove(document, from, name)?;
            add(document, path, moved, name)
        }
        "copy" => {
            let from = from()?;
            let copy = find(document, from)
                .map(|v| v.clone())
                .ok_or_else(|| fail(name, &format!("doc is missing key: {from}: missing value")))?;
            growth.copied_bytes += copy.to_string().len();
            if growth.copied_bytes > COPIED_BYTES_MAX {
                return Err(PatchError::Unprocessable(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {}, exceeding the limit {COPIED_BYTES_MAX}",
                    growth.copied_bytes
                )));
            }
            add(document, path, copy, name)
        }
        "test" => {
            // An absent value equals null, as in Go's library.
            let expected = operation.get("value").unwrap_or(&Value::Null);
            let found = find(document, path).map_or(&Value::Null, |v| v);
            if same(found, expected) {
                return Ok(());
            }
            Err(PatchError::Unprocessable(format!(
                "testing value {path} failed: test failed"
            )))
        }
        other => Err(PatchError::Unprocessable(format!(
            "Unexpected kind: {other}"
        ))),
    }
}

fn fail(operation: &str, why: &str) -> PatchError {
    PatchError::Unprocessable(format!("{operation} operation does not apply: {why}"))
}

/// There is nothing to put into, or to take from. Go's library says it in as many ways as it has operations.
fn missing_path(operation: &str, end: &str, pointer: &str) -> PatchError {
    let what = match operation {
        "add" | "remove" => format!("path: {pointer:?}"),
        _ => format!("{end} path: {pointer}"),
    };
    fail(operation, &format!("doc is missing {what}: missing value"))
}

/// The list or map is there, and does not take or give.
fn refuse(operation: &str, pointer: &str, why: &str) -> PatchError {
    PatchError::Unprocessable(match operation {
        "copy" => format!("error while adding value during copy: {why}"),
        _ => format!("error in {operation} for path: '{pointer}': {why}"),
    })
}

/// Equal as JSON: `1` is `1.0`.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, a)| b.get(k).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// The steps of a pointer, or `None` when it does not start with a slash.
fn steps(pointer: &str) -> Option<Vec<String>> {
    if pointer.is_empty() {
        return Some(Vec::new());
    }
    let tokens = pointer.strip_prefix('/')?.split('/');
    Some(tokens.map(unescape).collect())
}

/// The position that a token means in a list of `length` items; negative ones count from the end.
fn position(token: &str, length: usize) -> Option<usize> {
    let index: i64 = token.parse().ok()?;
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index + length } else { index };
    (0..length)
        .contains(&index)
        .then(|| usize::try_from(index).ok())?
}

fn step_into<'v>(value: &'v mut Value, token: &str) -> Option<&'v mut Value> {
    match value {
        Value::Object(map) => map.get_mut(token),
        Value::Array(items) => {
            let at = position(token, items.len())?;
            items.get_mut(at)
        }
        _ => None,
    }
}

fn find<'v>(document: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    steps(pointer)?
        .iter()
        .try_fold(document, |value, token| step_into(value, token))
}

/// The container that a pointer ends in, and its last token. `end` says which end of a move or copy the pointer is.
fn parent<'v>(
    document: &'v mut Value,
    pointer: &str,
    (operation, end): (&str, &str),
) -> Result<(&'v mut Value, String), PatchError> {
    let missing = || missing_path(operation, end, pointer);
    let mut tokens = steps(pointer).ok_or_else(missing)?;
    let last = tokens.pop().ok_or_else(missing)?;
    let container = tokens
        .iter()
        .try_fold(document, |value, token| step_into(value, token))
        .ok_or_else(missing)?;
    Ok((container, last))
}

fn add(
    document: &mut Value,
    pointer: &str,
    value: Value,
    operation: &str,
) -> Result<(), PatchError> {
    if pointer.is_empty() {
        *document = value;
        return Ok(());
    }
    let (container, last) = parent(document, pointer, (operation, "destination"))?;
    match container {
        Value::Object(map) => {
            map.insert(last, value);
        }
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let at = position(&last, items.len() + 1).ok_or_else(|| {
                let why =
                    format!("Unable to access invalid index: {last}: invalid index referenced");
                refuse(operation, pointer, &why)
            })?;
            items.insert(at, value);
        }
        _ => return Err(missing_path(operation, "destination", pointer)),
    }
    Ok(())
}

fn remove(document: &mut Value, pointer: &str, operation: &str) -> Result<Value, PatchError> {
    let (container, last) = parent(document, pointer, (operation, "from"))?;
    let (removed, why) = match container {
        Value::Object(map) => (
            map.remove(&last),
            format!("Unable to remove nonexistent key: {last}: missing value"),
        ),
        Value::Array(items) => (
            position(&last, items.len()).map(|at| items.remove(at)),
            format!("Unable to access invalid index: {last}: invalid index referenced"),
        ),
        _ => return Err(missing_path(operation, "from", pointer)),
    };
    removed.ok_or_else(|| refuse(operation, pointer, &why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_no_list_of_operations_is_refused() {
        for (patch, found) in [("{}", "object"), ("\"a\"", "string"), ("1", "number")] {
            let text = format!(
                "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
            );
            let refused = apply(&json!({}), patch.as_bytes());
            assert_eq!(refused, Err(PatchError::BadRequest(text)), "{patch}");
        }
    }

    #[test]
    fn operations() {
        let document = json!({"a": {"b/c": 1, "~": 2}, "l": [1, 2, 3], "n": null});
        for (patch, result) in [
            (
                json!([]),
                json!({"a": {"b/c": 1, "~": 2}, "l": [1, 2, 3], "n": null}),
            ),
            (
                json!([{"op": "add", "path": "/a/x", "value": {"y": 1}}, {"op": "add", "path": "/a/x/z", "value": null}]),
                json!({"a": {"b/c": 1, "~": 2, "x": {"y": 1, "z": null}}, "l": [1, 2, 3], "n": null}),
            ),
            (
                json!([{"op": "add", "path": "/l/-", "value": 4}, {"op": "add", "path": "/l/0", "value": 0}, {"op": "add", "path": "/l/5", "value": 5}]),
                json!({"a": {"b/c": 1, "~": 2}, "l": [0, 1, 2, 3, 4, 5], "n": null}),
            ),
            (
                json!([{"op": "remove", "path": "/a/b~1c"}, {"op": "remove", "path": "/l/1"}, {"op": "remove", "path": "/n"}]),
                json!({"a": {"~": 2}, "l": [1, 3]}),
            ),
            (
                json!([{"op": "replace", "path": "/a/~0", "value": [true]}, {"op": "replace", "path": "/l/-1", "value": 9}]),
                json!({"a": {"b/c": 1, "~": [true]}, "l": [1, 2, 9], "n": null}),
            ),
            (
                json!([{"op": "move", "from": "/l/0", "path": "/a/m"}, {"op": "copy", "from": "/a", "path": "/n"}]),
                json!({"a": {"b/c": 1, "~": 2, "m": 1}, "l": [2, 3], "n": {"b/c": 1, "~": 2, "m": 1}}),
            ),
            (
                json!([{"op": "test", "path": "/l", "value": [1, 2.0, 3]}, {"op": "test", "path": "/absent", "value": null}, {"op": "replace", "path": "", "value": {}}]),
                json!({}),
            ),
        ] {
            assert_eq!(apply_value(&document, &patch), Ok(result), "{patch}");
        }
    }

    #[test]
    fn what_does_not_fit() {
        let document = json!({"a": {"b": 1}, "l": [1]});
        for (patch, error) in [
            (
                json!([{"op": "remove", "path": "/x"}]),
                "error in remove for path: '/x': Unable to remove nonexistent key: x: missing value",
            ),
            (
                json!([{"op": "remove", "path": ""}]),
                r#"remove operation does not apply: doc is missing path: "": missing value"#,
            ),
            (
                json!([{"op": "remove", "path": "/l/1"}]),
                "error in remove for path: '/l/1': Unable to access invalid index: 1: invalid index referenced",
            ),
            (
                json!([{"op": "move", "from": "/a/b", "path": "/x/y"}]),
                "move operation does not apply: doc is missing destination path: /x/y: missing value",
            ),
            (
                json!([{"op": "replace", "path": "/a/x", "value": 1}]),
                "replace operation does not apply: doc is missing key: /a/x: missing value",
            ),
            (
                json!([{"op": "add", "path": "/x/y", "value": 1}]),
                r#"add operation does not apply: doc is missing path: "/x/y": missing value"#,
            ),
            (
                json!([{"op": "add", "path": "/l/3", "value": 1}]),
                "error in add for path: '/l/3': Unable to access invalid index: 3: invalid index referenced",
            ),
            (
                json!([{"op": "add", "path": "/a/b/c", "value": 1}]),
                r#"add operation does not apply: doc is missing path: "/a/b/c": missing value"#,
            ),
            (
                json!([{"op": "add", "path": "a", "value": 1}]),
                r#"add operation does not apply: doc is missing path: "a": missing value"#,
            ),
            (
                json!([{"op": "add", "path": "/a"}]),
                "add operation does not apply: missing value field",
            ),
            (
                json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
                "move operation does not apply: cannot move /a into itself",
            ),
            (
                json!([{"op": "test", "path": "/a/b", "value": 2}]),
                "testing value /a/b failed: test failed",
            ),
            (
                json!([{"op": "jump", "path": "/a"}]),
                "Unexpected kind: jump",
            ),
        ] {
            assert_eq!(
                apply_value(&document, &patch),
                Err(PatchError::Unprocessable(error.to_owned()))
            );
        }
        for bad in ["{}", "[1]", "x"] {
            assert!(
                matches!(
                    apply(&document, bad.as_bytes()),
                    Err(PatchError::BadRequest(_))
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn limits() {
        let many = json!(vec![
            json!({"op": "test", "path": "/a", "value": null});
            OPERATIONS_MAX + 1
        ]);
        assert_eq!(
            apply_value(&json!({}), &many),
            Err(PatchError::TooLarge(
                "The allowed maximum operations in a JSON patch is 10000, got 10001".to_owned()
            ))
        );
        // Doubling with each copy would reach gigabytes.
        let mut bomb = vec![json!({"op": "add", "path": "/a", "value": {"x": "0123456789"}})];
        bomb.extend((0..64).map(|i| json!({"op": "copy", "from": "", "path": format!("/{i}")})));
        assert!(matches!(
            apply_value(&json!({}), &json!(bomb)),
            Err(PatchError::Unprocessable(_))
        ));
    }
}
