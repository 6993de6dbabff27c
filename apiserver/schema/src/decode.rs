//! Request bodies to values: JSON and YAML, checked against the schema table.
//!
//! What Go's typed decoding does on the way is done here too, so that an object looks the same
//! whichever way it came: unknown fields are dropped (and reported), values of the wrong type are
//! refused, nulls and the zero values of `omitempty` fields vanish, fields that Go never omits are
//! there (`lastProbeTime: null`), quantities and times are written canonically.

mod custom;
mod go_types;
mod json_text;
mod yaml_text;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Number, Value};

use crate::quantity::{self, Quantity};
use crate::structural::Schema;
use crate::time::{self, Layout};
use crate::types::{Container, Element, Field, FieldType, Form, Type, type_by_id, type_named};

pub use json_text::DEPTH_MAX;

/// Problems beyond this many are not listed: nobody reads them, and a body could hold millions.
const PROBLEMS_MAX: usize = 100;

/// The query parameter `fieldValidation`: what to do about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and report them, which becomes a `Warning` header each.
    #[default]
    Warn,
    /// Refuse the body.
    Strict,
}

impl FieldValidation {
    /// Reads the query parameter; absent or empty means `Warn`. `None` for an unknown value.
    pub fn parse(text: &str) -> Option<FieldValidation> {
        match text {
            "Ignore" => Some(FieldValidation::Ignore),
            "Warn" | "" => Some(FieldValidation::Warn),
            "Strict" => Some(FieldValidation::Strict),
            _ => None,
        }
    }
}

/// A decoded body and what was wrong with it, though not enough to refuse it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decoded {
    pub value: Value,
    /// Paths of fields that the type does not have.
    pub unknown: Vec<String>,
    /// Paths of fields that occurred more than once.
    pub duplicate: Vec<String>,
    /// Both as texts, in the order of the body: `unknown field "spec.foo"`. Each is a warning. In
    /// YAML duplicates come first, and by their lines: `line 3: key "foo" already set in map`.
    pub problems: Vec<String>,
}

impl Decoded {
    /// All problems as one text, with the words of the parser that Kubernetes has for YAML.
    pub fn strict_text(&self) -> String {
        strict_text(&self.problems)
    }
}

fn strict_text(problems: &[String]) -> String {
    let (lines, others): (Vec<&str>, Vec<&str>) = problems
        .iter()
        .map(String::as_str)
        .partition(|text| text.starts_with("line "));
    let yaml = format!("yaml: unmarshal errors:\n  {}", lines.join("\n  "));
    let yaml = (!lines.is_empty()).then_some(yaml.as_str());
    yaml.into_iter()
        .chain(others)
        .collect::<Vec<_>>()
        .join(", ")
}

/// Why a body cannot be used; each is a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The text is not JSON or YAML.
    #[error("{0}")]
    Syntax(String),
    /// A value does not fit its field.
    #[error("{0}")]
    Type(String),
    /// Unknown or duplicate fields under `Strict`.
    #[error("strict decoding error: {0}")]
    Strict(String),
}

/// Decodes a JSON body. Without a type everything is kept, and only duplicates are found.
pub fn json<'a>(
    schema: impl Into<Schema<'a>>,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let schema = schema.into();
    let mut problems = Problems::new(validation);
    let value = json_text::parse(bytes, Expect::of(schema), &mut problems);
    checked(schema, value.map_err(DecodeError::Syntax)?, problems)
}

/// Decodes a YAML body (one document), of which JSON is a part.
pub fn yaml<'a>(
    schema: impl Into<Schema<'a>>,
    bytes: &[u8],
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let schema = schema.into();
    let mut problems = Problems::new(validation);
    if let Some(value) = json_text::parse_common(bytes, Expect::of(schema), &mut problems) {
        return checked(schema, value, problems);
    }
    let mut problems = Problems::new(validation);
    let value = yaml_text::parse(bytes, Expect::of(schema), &mut problems);
    checked(schema, value.map_err(DecodeError::Syntax)?, problems)
}

/// A double as Go prints it: without a fraction where it has none, so that a number is the same by whatever way it came.
pub(crate) fn double(number: Number) -> Value {
    /// Every whole number up to here is a double of its own.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() <= EXACT_MAX => {
            (double as i64).into()
        }
        _ => Value::Number(number),
    }
}

/// All numbers of an object without types as Go has them after a round trip, so that its clients can read a whole number
/// as an integer however it was written.
pub fn settle_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => *value = double(number.clone()),
        Value::Array(items) => items.iter_mut().for_each(settle_numbers),
        Value::Object(fields) => fields.values_mut().for_each(settle_numbers),
        _ => {}
    }
}

/// Checks a value that did not come as text: the result of a patch.
pub fn value<'a>(
    schema: impl Into<Schema<'a>>,
    value: Value,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    checked(schema.into(), value, Problems::new(validation))
}

fn checked(
    schema: Schema<'_>,
    mut value: Value,
    mut problems: Problems,
) -> Result<Decoded, DecodeError> {
    match schema {
        Schema::Any => {}
        Schema::BuiltIn(ty) => {
            let problems = &mut problems;
            Walk { problems }.root(ty, &mut value)?;
        }
        Schema::Custom(schema) => custom::checked(schema, &mut value, &mut problems)?,
    }
    if problems.strict && !problems.list.is_empty() {
        return Err(DecodeError::Strict(strict_text(&problems.texts())));
    }
    let texts = problems.texts();
    let (unknown, duplicate): (Vec<_>, Vec<_>) = problems
        .list
        .into_iter()
        .partition(|(kind, _)| *kind == Problem::Unknown);
    let paths = |list: Vec<(Problem, String)>| list.into_iter().map(|(_, path)| path).collect();
    Ok(Decoded {
        value,
        unknown: paths(unknown),
        duplicate: paths(duplicate),
        problems: texts,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Problem {
    Unknown,
    Duplicate,
}

/// The problems found so far, in order, each once.
#[derive(Debug, Default)]
struct Problems {
    list: Vec<(Problem, String)>,
    /// The duplicates of a YAML text, as they are told.
    lines: Vec<String>,
    muted: bool,
    strict: bool,
}

impl Problems {
    fn new(validation: FieldValidation) -> Problems {
        Problems {
            list: Vec::new(),
            lines: Vec::new(),
            muted: validation == FieldValidation::Ignore,
            strict: validation == FieldValidation::Strict,
        }
    }

    fn unknown(&mut self, trail: &Trail<'_>) {
        self.note(Problem::Unknown, trail);
    }

    fn duplicate(&mut self, trail: &Trail<'_>) {
        self.note(Problem::Duplicate, trail);
    }

    fn note(&mut self, problem: Problem, trail: &Trail<'_>) {
        if !self.muted {
            self.note_path(problem, trail.to_string());
        }
    }

    fn note_path(&mut self, problem: Problem, path: String) {
        if self.muted || self.list.len() >= PROBLEMS_MAX {
            return;
        }
        let entry = (problem, path);
        if !self.list.contains(&entry) {
            self.list.push(entry);
        }
    }

    fn texts(&self) -> Vec<String> {
        let text = |(problem, path): &(Problem, String)| match problem {
            Problem::Unknown => format!("unknown field \"{path}\""),
            Problem::Duplicate => format!("duplicate field \"{path}\""),
        };
        let told = |(problem, _): &&(Problem, String)| {
            self.lines.is_empty() || *problem == Problem::Unknown
        };
        let others = self.list.iter().filter(told).map(text);
        self.lines.iter().cloned().chain(others).collect()
    }

    fn has_duplicates(&self) -> bool {
        self.list
            .iter()
            .any(|(problem, _)| *problem == Problem::Duplicate)
    }
}

/// What the schema says about the place that a text parser is at. Only names matter here; whether
/// the values fit is seen in the walk afterwards.
#[derive(Clone, Copy)]
enum Expect<'a> {
    Any,
    Fields(&'a Type),
    /// A list or map of the element.
    Many(Element),
}

impl<'a> Expect<'a> {
    fn of(schema: Schema<'a>) -> Expect<'a> {
        match schema {
            Schema::BuiltIn(ty) => Expect::fields(ty),
            // Unknown fields of custom resources are found when they are pruned.
            Schema::Custom(_) | Schema::Any => Expect::Any,
        }
    }

    fn fields(ty: &'a Type) -> Expect<'a> {
        match ty.form {
            Form::Object => Expect::Fields(ty),
            Form::SchemaOrArray | Form::SchemaOrBool | Form::SchemaOrStringArray => {
                Expect::Fields(json_schema())
            }
            _ => Expect::Any,
        }
    }

    fn element(element: Element) -> Expect<'a> {
        match element {
            Element::Message(id) => Expect::fields(type_by_id(id)),
            _ => Expect::Any,
        }
    }

    /// What is expected of the value of this key; `None` for an unknown field.
    fn member(self, key: &str) -> Option<Expect<'a>> {
        match self {
            Expect::Any => Some(Expect::Any),
            Expect::Many(element) => Some(Expect::element(element)),
            Expect::Fields(ty) => {
                let field = ty.field(key)?;
                Some(match field.ty.container {
                    Container::One => Expect::element(field.ty.element),
                    Container::List | Container::Map => Expect::Many(field.ty.element),
                })
            }
        }
    }

    fn item(self) -> Expect<'a> {
        match self {
            Expect::Many(element) => Expect::element(element),
            // A list of JSON schemas in place of one; elsewhere a list is refused later.
            other => other,
        }
    }
}

fn json_schema() -> &'static Type {
    type_named("apiextensions.JSONSchemaProps").expect("it is in the table")
}

/// Where we are in a value: a list that lives on the stack, since it is only shown on a problem.
struct Trail<'a> {
    parent: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
    /// A key of a map; Go's errors about types leave it out.
    Key(&'a str),
}

impl<'a> Trail<'a> {
    fn new(parent: Option<&'a Trail<'a>>, step: Step<'a>) -> Trail<'a> {
        Trail { parent, step }
    }

    /// The names alone, as in Go's errors about types.
    fn names(&self) -> String {
        let mut names = Vec::new();
        let mut at = Some(self);
        while let Some(trail) = at {
            if let Step::Name(name) = trail.step {
                names.push(name);
            }
            at = trail.parent;
        }
        names.reverse();
        names.join(".")
    }
}

impl fmt::Display for Trail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Name(name) | Step::Key(name) if self.parent.is_none() => f.write_str(name),
            Step::Name(name) | Step::Key(name) => write!(f, ".{name}"),
        }
    }
}

/// The walk over a value along its type, which changes the value where Go would have it otherwise.
struct Walk<'w> {
    problems: &'w mut Problems,
}

/// A field while its value is looked at: what errors need to say.
#[derive(Clone, Copy)]
struct Place<'a> {
    owner: &'a Type,
    field: &'a Field,
    trail: &'a Trail<'a>,
}

/// What a check in place comes to.
type Checked = Result<(), DecodeError>;

impl Walk<'_> {
    fn root(&mut self, ty: &Type, value: &mut Value) -> Checked {
        match value {
            Value::Object(map) if ty.form == Form::Object => self.object(ty, map, None),
            // The forms that are not objects only occur as fields.
            other => Err(DecodeError::Type(format!(
                "json: cannot unmarshal {} into Go value of type {}",
                go_kind(other),
                go_name(ty)
            ))),
        }
    }

    fn object(
        &mut self,
        ty: &Type,
        map: &mut Map<String, Value>,
        trail: Option<&Trail<'_>>,
    ) -> Checked {
        let mut outcome = Ok(());
        map.retain(|name, value| {
            if outcome.is_err() {
                return true;
            }
            let here = Trail::new(trail, Step::Name(name));
            let Some(field) = ty.field(name) else {
                self.problems.unknown(&here);
                return false;
            };
            if value.is_null() {
                return field.unset.as_ref().is_some_and(|unset| {
                    value.clone_from(unset);
                    true
                });
            }
            let place = Place {
                owner: ty,
                field,
                trail: &here,
            };
            outcome = self.field(place, value);
            let is_unset = value.is_null() && field.unset.is_none();
            !(is_unset || field.omit_empty && is_zero(value))
        });
        write_unset(ty, map);
        outcome
    }

    fn field(&mut self, place: Place<'_>, value: &mut Value) -> Checked {
        let element = place.field.ty.element;
        match (place.field.ty.container, value) {
            (Container::One, value) => self.element(element, place, value),
            (Container::List, Value::Array(items)) => {
                for (i, item) in items.iter_mut().enumerate() {
                    let here = Trail::new(Some(place.trail), Step::Index(i));
                    let place = Place {
                        trail: &here,
                        ..place
                    };
                    self.item(element, place, item)?;
                }
                Ok(())
            }
            (Container::Map, Value::Object(items)) => {
                for (key, item) in items.iter_mut() {
                    let here = Trail::new(Some(place.trail), Step::Key(key));
                    let place = Place {
                        trail: &here,
                        ..place
                    };
                    self.item(element, place, item)?;
                }
                Ok(())
            }
            (Container::List, other) => {
                Err(place.mismatch_whole(other, &format!("[]{}", go_element(element))))
            }
            (Container::Map, other) => {
                Err(place.mismatch_whole(other, &format!("map[string]{}", go_element(element))))
            }
        }
    }

    /// An item of a list or map, where null stands for the zero value.
    fn item(&mut self, element: Element, place: Place<'_>, value: &mut Value) -> Checked {
        if value.is_null() {
            *value = zero_of(element);
            return Ok(());
        }
        self.element(element, place, value)
    }

    fn items(&mut self, element: Element, place: Place<'_>, items: &mut [Value]) -> Checked {
        items
            .iter_mut()
            .try_for_each(|item| self.item(element, place, item))
    }

    fn element(&mut self, element: Element, place: Place<'_>, value: &mut Value) -> Checked {
        match (element, value) {
            (Element::String, Value::String(_)) | (Element::Bool, Value::Bool(_)) => Ok(()),
            (Element::Int32, value @ Value::Number(_)) => match value.as_i64().map(i32::try_from) {
                Some(Ok(_)) => Ok(()),
                _ => Err(place.mismatch_number(value, "int32")),
            },
            (Element::Int64, value @ Value::Number(_)) => match value.as_i64() {
                Some(_) => Ok(()),
                None => Err(place.mismatch_number(value, "int64")),
            },
            (Element::Double, value @ Value::Number(_)) => {
                if let Value::Number(number) = value.take() {
                    *value = double(number);
                }
                Ok(())
            }
            (Element::Duration, Value::String(text)) => duration_text(text),
            (Element::Bytes, Value::String(text)) => base64_text(text),
            (Element::StringList | Element::Verbs, Value::Array(items)) => {
                self.items(Element::String, place, items)
            }
            (Element::Message(_), value) => {
                let ty = place.field.ty.message().expect("the element is a message");
                self.message(ty, place, value)
            }
            (other, value) => Err(place.mismatch(value, place.go_type(other))),
        }
    }

    fn message(&mut self, ty: &Type, place: Place<'_>, value: &mut Value) -> Checked {
        let trail = Some(place.trail);
        match (ty.form, value) {
            (Form::Object, Value::Object(map)) => self.object(ty, map, trail),
            (Form::Time, value @ Value::String(_)) => time_text(value, Layout::Seconds),
            (Form::MicroTime, value @ Value::String(_)) => time_text(value, Layout::Micros),
            // They read texts.
            (Form::Time | Form::MicroTime, value) => Err(place.mismatch(value, "string")),
            (Form::Quantity, Value::String(text)) if quantity::is_short(text) => Ok(()),
            (Form::Quantity, value) => {
                let quantity =
                    Quantity::from_json(value).map_err(|e| DecodeError::Type(e.to_string()))?;
                *value = quantity.to_string().into();
                Ok(())
            }
            (Form::IntOrString, Value::String(_)) => Ok(()),
            (Form::IntOrString, Value::Number(n)) => match n.as_i64().map(i32::try_from) {
                Some(Ok(_)) => Ok(()),
                _ => Err(place.error(&format!("number {n}"), "int32")),
            },
            (Form::IntOrString, value) => Err(place.mismatch(value, "int32")),
            (Form::RawExtension | Form::FieldsV1, Value::Object(_)) => Ok(()),
            (Form::RawExtension | Form::Json, _) => Ok(()),
            (Form::SchemaOrBool, Value::Bool(_)) => Ok(()),
            (
                Form::SchemaOrArray | Form::SchemaOrBool | Form::SchemaOrStringArray,
                Value::Object(map),
            ) => self.object(json_schema(), map, trail),
            (Form::SchemaOrArray, Value::Array(items)) => {
                for (i, item) in items.iter_mut().enumerate() {
                    let here = Trail::new(trail, Step::Index(i));
                    let Value::Object(map) = item else {
                        return Err(place.mismatch(item, "v1.JSONSchemaProps"));
                    };
                    self.object(json_schema(), map, Some(&here))?;
                }
                Ok(())
            }
            (Form::SchemaOrStringArray, Value::Array(items)) => {
                self.items(Element::String, place, items)
            }
            (_, value) => Err(place.mismatch(value, &go_name(ty))),
        }
    }
}

impl Place<'_> {
    /// What Go calls the type of a field's value, or of its items where it has some.
    fn go_type(&self, element: Element) -> &'static str {
        let FieldType {
            container,
            element: own,
        } = self.field.ty;
        // The texts in a list that is an item itself have no other name.
        let named = match element == own {
            true => go_types::of_field(self.owner, self.field),
            false => None,
        };
        let named = match container {
            Container::One => named,
            Container::List | Container::Map => named.and_then(go_types::item),
        };
        named.unwrap_or_else(|| go_element(element))
    }

    /// The same for a list or a map, which is `usual` where it has no name of its own.
    fn mismatch_whole(&self, value: &Value, usual: &str) -> DecodeError {
        let named = go_types::of_field(self.owner, self.field);
        self.mismatch(value, named.unwrap_or(usual))
    }

    fn mismatch(&self, value: &Value, go_type: &str) -> DecodeError {
        self.error(go_kind(value), go_type)
    }

    fn mismatch_number(&self, number: &Value, go_type: &str) -> DecodeError {
        self.error(&format!("number {number}"), go_type)
    }

    fn error(&self, what: &str, go_type: &str) -> DecodeError {
        let owner = self.owner.short_name.rsplit('.').next().unwrap_or("");
        DecodeError::Type(format!(
            "json: cannot unmarshal {what} into Go struct field {owner}.{} of type {go_type}",
            self.trail.names()
        ))
    }
}

fn base64_text(text: &mut String) -> Checked {
    // Go skips line breaks inside base64.
    if text.contains(['\r', '\n']) {
        *text = text.replace(['\r', '\n'], "");
    }
    match BASE64.decode(&*text) {
        Ok(_) => Ok(()),
        Err(e) => {
            let at = match e {
                base64::DecodeError::InvalidByte(at, _)
                | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                _ => text.len(),
            };
            Err(DecodeError::Type(format!(
                "illegal base64 data at input byte {at}"
            )))
        }
    }
}

/// A time in its canonical text; Go's zero time reads as null.
fn time_text(value: &mut Value, layout: Layout) -> Checked {
    let text = value.as_str().unwrap_or_default();
    // Nearly all are written like that.
    if time::settled(text, layout).is_some_and(|point| point != (time::GO_ZERO, 0)) {
        return Ok(());
    }
    *value = match time::read(text, layout).map_err(DecodeError::Type)? {
        (time::GO_ZERO, 0) => Value::Null,
        (seconds, nanos) => time::text_of(seconds, nanos, layout).into(),
    };
    Ok(())
}

/// A span of time in the one spelling in which Go writes it.
fn duration_text(text: &mut String) -> Checked {
    let Some(nanos) = time::parse_duration(text) else {
        return Err(DecodeError::Type(format!(
            "time: invalid duration {}",
            crate::field::go_quote(text)
        )));
    };
    *text = time::duration_text(nanos);
    Ok(())
}

/// Enters the fields of an object that are written even where nobody has set them. Few types have any.
pub(crate) fn write_unset(ty: &Type, map: &mut Map<String, Value>) {
    for (name, value) in ty.unset() {
        if !map.contains_key(name) {
            map.insert(name.to_owned(), value.clone());
        }
    }
}

/// What an item of a list or map is that JSON has as null.
pub(crate) fn zero_of(element: Element) -> Value {
    match element {
        Element::String | Element::Bytes => "".into(),
        Element::Duration => "0s".into(),
        Element::Bool => false.into(),
        Element::Int32 | Element::Int64 | Element::Double => 0.into(),
        Element::StringList | Element::Verbs => Value::Null,
        Element::Message(id) => match type_by_id(id).form {
            Form::Object => {
                let mut zero = Map::new();
                write_unset(type_by_id(id), &mut zero);
                Value::Object(zero)
            }
            Form::RawExtension | Form::FieldsV1 => Value::Object(Map::new()),
            Form::Quantity => "0".into(),
            Form::IntOrString => 0.into(),
            _ => Value::Null,
        },
    }
}

pub(crate) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Number(n) => n.as_i64() == Some(0) || n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

fn go_kind(value: &Value) -> &'static str {
    crate::object::kind_of(value)
}

/// The type as Go writes it: the last part of the package, then the name.
fn go_name(ty: &Type) -> String {
    let mut parts = ty.name.rsplit('.');
    let name = parts.next().unwrap_or("");
    format!("{}.{name}", parts.next().unwrap_or(""))
}

fn go_element(element: Element) -> &'static str {
    match element {
        Element::String => "string",
        Element::Bool => "bool",
        Element::Int32 => "int32",
        Element::Int64 => "int64",
        Element::Double => "float64",
        Element::Bytes => "[]uint8",
        Element::Duration => "string",
        Element::StringList | Element::Verbs => "[]string",
        Element::Message(id) => GO_NAMES
            .get(usize::from(id.index()))
            .map_or("", String::as_str),
    }
}

static GO_NAMES: std::sync::LazyLock<Vec<String>> =
    std::sync::LazyLock::new(|| crate::types::all().iter().map(go_name).collect());

#[cfg(test)]
mod tests;
