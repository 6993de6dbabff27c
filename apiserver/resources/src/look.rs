//! Reading JSON of any shape without a panic: a field that is absent, or of another type than asked for, reads as
//! absent. Rules look at objects that a client wrote by hand, so nothing may be taken for granted.

use schema::Object;
use serde_json::{Map, Value};

static NULL: Value = Value::Null;

/// Typed reads of a field of a JSON value.
pub(crate) trait Look {
    /// The field, or null.
    fn at(&self, key: &str) -> &Value;

    /// The field as text; empty when absent.
    fn text(&self, key: &str) -> &str {
        self.at(key).as_str().unwrap_or("")
    }

    /// The field as an integer.
    fn int(&self, key: &str) -> Option<i64> {
        whole(self.at(key))
    }

    /// The field as a boolean; false when absent.
    fn flag(&self, key: &str) -> bool {
        self.at(key).as_bool().unwrap_or(false)
    }

    /// The field as a list; empty when absent.
    fn list(&self, key: &str) -> &[Value] {
        self.at(key).as_array().map_or(&[], Vec::as_slice)
    }

    /// The texts of a list of strings.
    fn texts(&self, key: &str) -> Vec<&str> {
        self.list(key).iter().filter_map(Value::as_str).collect()
    }

    /// The entries of a map field.
    fn entries(&self, key: &str) -> impl Iterator<Item = (&str, &Value)> {
        let entries = self.at(key).as_object().into_iter().flatten();
        entries.map(|(key, value)| (key.as_str(), value))
    }

    /// Whether the field is there and not null.
    fn has(&self, key: &str) -> bool {
        !self.at(key).is_null()
    }
}

impl Look for Value {
    fn at(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }
}

impl Look for Map<String, Value> {
    fn at(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }
}

impl Look for Object {
    fn at(&self, key: &str) -> &Value {
        self.get(&[key]).unwrap_or(&NULL)
    }
}

/// An integer, whether it was written as 1 or as 1.0.
pub(crate) fn whole(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| match value.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 9.0e15 => Some(float as i64),
        _ => None,
    })
}

/// `spec` of an object, or null.
pub(crate) fn spec(object: &Object) -> &Value {
    object.at("spec")
}

/// `status` of an object, or null.
pub(crate) fn status(object: &Object) -> &Value {
    object.at("status")
}

/// Calls the function on the map at a path, when there is one.
pub(crate) fn with_map(
    object: &mut Object,
    path: &[&str],
    change: impl FnOnce(&mut Map<String, Value>),
) {
    if let Some(map) = object.get_mut(path).and_then(Value::as_object_mut) {
        change(map);
    }
}

/// Calls the function on `spec`, which an object has even where nobody wrote it: its defaults are those of the object.
pub(crate) fn with_spec(object: &mut Object, change: impl FnOnce(&mut Map<String, Value>)) {
    if let Some(spec) = make_map(object.fields_mut(), "spec") {
        change(spec);
    }
}

/// The map at a key, made when absent or null; None when something else is there.
pub(crate) fn make_map<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), Value::Object(Map::new()));
    }
    map_in(map, key)
}

/// The map at a key, when there is one.
pub(crate) fn map_in<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key).and_then(Value::as_object_mut)
}

/// Calls the function on every map in the list at a key.
pub(crate) fn each_map(
    map: &mut Map<String, Value>,
    key: &str,
    mut change: impl FnMut(&mut Map<String, Value>),
) {
    if let Some(list) = map.get_mut(key).and_then(Value::as_array_mut) {
        for item in list {
            if let Some(item) = item.as_object_mut() {
                change(item);
            }
        }
    }
}

/// Sets a field that is absent or null: the default of a pointer field.
pub(crate) fn fill(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value.into());
    }
}

/// Sets a field that is absent, null, "" or 0: the default of a plain field.
pub(crate) fn fill_zero(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    let empty = match map.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Number(number)) => number.as_i64() == Some(0),
        Some(_) => false,
    };
    if empty {
        map.insert(key.to_owned(), value.into());
    }
}
