//! Errors about fields of an object, with the words and reasons that Kubernetes uses.
//!
//! A validator returns a list of [`FieldError`]; [`aggregate`] makes the text of the 422 answer
//! and [`causes`] its `details.causes`.

use std::fmt;

use serde_json::{Value, json};

/// The path of a field, as shown to the user: `spec.containers[0].ports[1].name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Path(String);

/// How the first indices are written.
const DIGITS: &str = "0123456789";

impl Path {
    /// A path of one step.
    pub fn new(name: &str) -> Path {
        Path(name.to_owned())
    }

    /// The empty path; its children have no leading dot.
    pub fn root() -> Path {
        Path::default()
    }

    /// The field `name` of the object here.
    #[must_use]
    pub fn child(&self, name: &str) -> Path {
        if self.0.is_empty() {
            return Path(name.to_owned());
        }
        self.joined(&[".", name])
    }

    /// The element at a position of the list here.
    #[must_use]
    pub fn index(&self, index: usize) -> Path {
        match DIGITS.get(index..=index) {
            Some(digit) => self.joined(&["[", digit, "]"]),
            None => self.joined(&["[", &index.to_string(), "]"]),
        }
    }

    /// The element with a key of the map here.
    #[must_use]
    pub fn key(&self, key: &str) -> Path {
        self.joined(&["[", key, "]"])
    }

    /// Rules make paths for every field that they look at, so they cost one allocation and no formatting.
    fn joined(&self, parts: &[&str]) -> Path {
        let more: usize = parts.iter().map(|part| part.len()).sum();
        let mut text = String::with_capacity(self.0.len() + more);
        text.push_str(&self.0);
        parts.iter().for_each(|part| text.push_str(part));
        Path(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    Internal,
    TypeInvalid,
}

impl ErrorKind {
    /// The words that open the text of the error.
    pub fn text(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::Internal => "Internal error",
        }
    }

    /// The `reason` of the cause in a Status.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::Internal => "InternalError",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    pub kind: ErrorKind,
    pub path: String,
    /// The offending value; not shown for the kinds where it would not help.
    pub value: Value,
    pub detail: String,
}

/// Stands for a value that is not shown. No text of a client is that: some checks show `<value omitted>` in so many words.
const OMITTED: &str = "\0omitted";

/// What validators return.
pub type ErrorList = Vec<FieldError>;

impl FieldError {
    fn of(kind: ErrorKind, path: &Path, value: Value, detail: impl Into<String>) -> FieldError {
        FieldError {
            kind,
            path: path.0.clone(),
            value,
            detail: detail.into(),
        }
    }

    /// The same error about another field.
    pub(crate) fn at(self, path: String) -> FieldError {
        FieldError { path, ..self }
    }

    pub fn required(path: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Required, path, "".into(), detail)
    }

    pub fn invalid(path: &Path, value: impl Into<Value>, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Invalid, path, value.into(), detail)
    }

    /// Invalid, with a value that says nothing in a text.
    pub fn invalid_part(path: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Invalid, path, OMITTED.into(), detail)
    }

    pub fn type_invalid(
        path: &Path,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) -> FieldError {
        FieldError::of(ErrorKind::TypeInvalid, path, value.into(), detail)
    }

    /// `supported` is shown in the given order.
    pub fn not_supported<S: AsRef<str>>(
        path: &Path,
        value: impl Into<Value>,
        supported: &[S],
    ) -> FieldError {
        let quoted: Vec<String> = supported.iter().map(|s| go_quote(s.as_ref())).collect();
        let detail = if quoted.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", quoted.join(", "))
        };
        FieldError::of(ErrorKind::NotSupported, path, value.into(), detail)
    }

    pub fn forbidden(path: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Forbidden, path, "".into(), detail)
    }

    pub fn duplicate(path: &Path, value: impl Into<Value>) -> FieldError {
        FieldError::of(ErrorKind::Duplicate, path, value.into(), "")
    }

    /// A duplicate, with a value that says nothing in a text.
    pub fn duplicate_part(path: &Path) -> FieldError {
        FieldError::of(ErrorKind::Duplicate, path, OMITTED.into(), "")
    }

    pub fn not_found(path: &Path, value: impl Into<Value>) -> FieldError {
        FieldError::of(ErrorKind::NotFound, path, value.into(), "")
    }

    /// The value is longer than `bytes_max`.
    pub fn too_long(path: &Path, bytes_max: usize) -> FieldError {
        let unit = if bytes_max == 1 { "byte" } else { "bytes" };
        FieldError::of(
            ErrorKind::TooLong,
            path,
            OMITTED.into(),
            format!("may not be more than {bytes_max} {unit}"),
        )
    }

    /// The list has `actual` items where `max` are allowed.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> FieldError {
        let unit = if max == 1 { "item" } else { "items" };
        FieldError::of(
            ErrorKind::TooMany,
            path,
            actual.into(),
            format!("must have at most {max} {unit}"),
        )
    }

    pub fn internal(path: &Path, detail: impl Into<String>) -> FieldError {
        FieldError::of(ErrorKind::Internal, path, Value::Null, detail)
    }

    /// The text without the path, which is the `message` of the cause in a Status.
    pub fn body(&self) -> String {
        let mut text = self.kind.text().to_owned();
        let omits_value = matches!(
            self.kind,
            ErrorKind::Required | ErrorKind::Forbidden | ErrorKind::TooLong | ErrorKind::Internal
        );
        if !omits_value && self.value != OMITTED {
            text.push_str(": ");
            text.push_str(&shown(&self.value));
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body())
    }
}

/// One text for a list of errors: the error itself, or `[a, b]` without repetitions.
pub fn aggregate(errors: &[FieldError]) -> String {
    let mut texts: Vec<String> = Vec::with_capacity(errors.len());
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.len() {
        1 => texts.swap_remove(0),
        _ => format!("[{}]", texts.join(", ")),
    }
}

/// The list as `details.causes` of a Status.
pub fn causes(errors: &[FieldError]) -> Vec<Value> {
    errors
        .iter()
        .map(|e| json!({"reason": e.kind.reason(), "message": e.body(), "field": e.path}))
        .collect()
}

/// A string in double quotes, escaped as Go's `%q` does.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if c.is_ascii() && c.is_control() => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() || c == '\u{feff}' || c == '\u{fffd}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(s) => go_quote(s),
        // Go's JSON escapes the characters that are special in HTML.
        Value::Array(_) | Value::Object(_) => value
            .to_string()
            .replace('<', "\\u003c")
            .replace('>', "\\u003e")
            .replace('&', "\\u0026"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_kubernetes() {
        let p = Path::new("spec").child("ports").index(0).child("name");
        let l = Path::new("metadata").child("labels").key("a/b");
        let cases = [
            (
                FieldError::required(&p, ""),
                "spec.ports[0].name: Required value",
            ),
            (
                FieldError::invalid(&p, "A\"", "must be lower"),
                r#"spec.ports[0].name: Invalid value: "A\"": must be lower"#,
            ),
            (
                FieldError::invalid(&p, -1, "must be greater"),
                "spec.ports[0].name: Invalid value: -1: must be greater",
            ),
            (
                FieldError::invalid(&p, json!({"a": "<"}), ""),
                r#"spec.ports[0].name: Invalid value: {"a":"\u003c"}"#,
            ),
            (
                FieldError::not_supported(&l, "x", &["TCP", "UDP"]),
                r#"metadata.labels[a/b]: Unsupported value: "x": supported values: "TCP", "UDP""#,
            ),
            (
                FieldError::forbidden(&l, "no"),
                "metadata.labels[a/b]: Forbidden: no",
            ),
            (
                FieldError::duplicate(&l, "x"),
                r#"metadata.labels[a/b]: Duplicate value: "x""#,
            ),
            (
                FieldError::not_found(&l, "x"),
                r#"metadata.labels[a/b]: Not found: "x""#,
            ),
            (
                FieldError::too_long(&l, 63),
                "metadata.labels[a/b]: Too long: may not be more than 63 bytes",
            ),
            (
                FieldError::too_many(&l, 5, 1),
                "metadata.labels[a/b]: Too many: 5: must have at most 1 item",
            ),
        ];
        for (error, text) in cases {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn paths_show_each_step() {
        let list = Path::root().child("a");
        for (path, text) in [
            (list.index(0), "a[0]"),
            (list.index(9), "a[9]"),
            (list.index(10), "a[10]"),
            (list.index(12_345).child("b"), "a[12345].b"),
            (list.child("b").key("x.y/z"), "a.b[x.y/z]"),
        ] {
            assert_eq!(path.as_str(), text);
        }
    }

    #[test]
    fn aggregate_and_causes() {
        let a = FieldError::required(&Path::new("a"), "x");
        let b = FieldError::invalid(&Path::new("b"), 1, "");
        assert_eq!(aggregate(std::slice::from_ref(&a)), "a: Required value: x");
        let all = [a.clone(), b, a];
        assert_eq!(
            aggregate(&all),
            "[a: Required value: x, b: Invalid value: 1]"
        );
        assert_eq!(
            causes(&all[..1]),
            [json!({"reason": "FieldValueRequired", "message": "Required value: x", "field": "a"})]
        );
    }
}
