//! Strict reading of a tree: every field is asked for once, what nobody asks for is unknown, and every mistake is told
//! with its path, all at once.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The mistakes found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// Fields that are not there in Kubernetes, or of the wrong type.
    pub(super) decoding: Vec<String>,
    /// Values that are not allowed.
    pub(super) invalid: Vec<String>,
}

impl Problems {
    /// `path: Invalid value: value: why`
    pub(super) fn invalid(&mut self, path: &str, value: &str, why: &str) {
        let text = format!("{path}: Invalid value: {value}: {why}");
        self.invalid.push(text);
    }

    pub(super) fn required(&mut self, path: &str, why: &str) {
        let why = match why.is_empty() {
            true => String::new(),
            false => format!(": {why}"),
        };
        self.invalid.push(format!("{path}: Required value{why}"));
    }

    pub(super) fn unsupported(&mut self, path: &str, value: &str, supported: &[&str]) {
        let all: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.invalid.push(format!(
            "{path}: Unsupported value: {value:?}: supported values: {}",
            all.join(", ")
        ));
    }

    pub(super) fn duplicate(&mut self, path: &str, value: &str) {
        self.invalid
            .push(format!("{path}: Duplicate value: {value:?}"));
    }

    pub(super) fn forbidden(&mut self, path: &str, why: &str) {
        self.invalid.push(format!("{path}: Forbidden: {why}"));
    }

    /// A number that has to be in a range; the words name the range as Kubernetes does.
    pub(super) fn in_range(
        &mut self,
        path: &str,
        value: i64,
        range: std::ops::RangeInclusive<i64>,
        words: &str,
    ) {
        if !range.contains(&value) {
            self.invalid(path, &value.to_string(), words);
        }
    }

    /// Everything in one text; `None` when there is nothing to say.
    pub(super) fn text(&self) -> Option<String> {
        if !self.decoding.is_empty() {
            return Some(format!(
                "strict decoding error: {}",
                self.decoding.join(", ")
            ));
        }
        match self.invalid.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            more => Some(format!("[{}]", more.join(", "))),
        }
    }
}

/// An object whose fields are being asked for.
pub(super) struct Fields<'a> {
    pub(super) path: String,
    map: Option<&'a Map<String, Value>>,
    asked: BTreeSet<&'static str>,
}

/// The path of a field below another.
pub(super) fn below(path: &str, field: &str) -> String {
    match path.is_empty() {
        true => field.to_owned(),
        false => format!("{path}.{field}"),
    }
}

impl<'a> Fields<'a> {
    /// An absent object has no fields.
    pub(super) fn of(value: Option<&'a Value>, path: &str, problems: &mut Problems) -> Fields<'a> {
        let map = match value {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(other) => {
                wrong(path, other, "object", problems);
                None
            }
        };
        Fields {
            path: path.to_owned(),
            map,
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn path_of(&self, field: &str) -> String {
        below(&self.path, field)
    }

    /// The field as it stands; null is as good as absent.
    pub(super) fn value(&mut self, field: &'static str) -> Option<&'a Value> {
        self.asked.insert(field);
        self.map?.get(field).filter(|value| !value.is_null())
    }

    pub(super) fn text(&mut self, field: &'static str, problems: &mut Problems) -> Option<&'a str> {
        let value = self.value(field)?;
        if value.as_str().is_none() {
            wrong(&self.path_of(field), value, "string", problems);
        }
        value.as_str()
    }

    pub(super) fn number(&mut self, field: &'static str, problems: &mut Problems) -> Option<i64> {
        let value = self.value(field)?;
        let number = value.as_i64();
        if number.is_none() {
            wrong(&self.path_of(field), value, "integer", problems);
        }
        number
    }

    pub(super) fn flag(&mut self, field: &'static str, problems: &mut Problems) -> Option<bool> {
        let value = self.value(field)?;
        if value.as_bool().is_none() {
            wrong(&self.path_of(field), value, "boolean", problems);
        }
        value.as_bool()
    }

    pub(super) fn object(&mut self, field: &'static str, problems: &mut Problems) -> Fields<'a> {
        let path = self.path_of(field);
        Fields::of(self.value(field), &path, problems)
    }

    /// The elements of a list, each with its path.
    pub(super) fn list(
        &mut self,
        field: &'static str,
        problems: &mut Problems,
    ) -> Vec<(String, &'a Value)> {
        let path = self.path_of(field);
        match self.value(field) {
            None => Vec::new(),
            Some(Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(at, item)| (format!("{path}[{at}]"), item))
                .collect(),
            Some(other) => {
                wrong(&path, other, "array", problems);
                Vec::new()
            }
        }
    }

    /// The elements of a list of strings, each with its path.
    pub(super) fn texts(
        &mut self,
        field: &'static str,
        problems: &mut Problems,
    ) -> Vec<(String, &'a str)> {
        let mut texts = Vec::new();
        for (path, item) in self.list(field, problems) {
            match item.as_str() {
                Some(text) => texts.push((path, text)),
                None => wrong(&path, item, "string", problems),
            }
        }
        texts
    }

    pub(super) fn is_absent(&self) -> bool {
        self.map.is_none()
    }

    /// Tells which fields nobody has asked for.
    pub(super) fn end(self, problems: &mut Problems) {
        for field in self.map.into_iter().flat_map(Map::keys) {
            if !self.asked.contains(field.as_str()) {
                let path = below(&self.path, field);
                problems.decoding.push(format!("unknown field {path:?}"));
            }
        }
    }
}

fn wrong(path: &str, value: &Value, wanted: &str, problems: &mut Problems) {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    problems.decoding.push(format!(
        "field {path:?}: {found} where {wanted} is expected"
    ));
}
