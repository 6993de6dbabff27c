//! Values. What comes from JSON is looked at where it lies: an object of the request is never copied to be judged.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use base64::Engine;
use schema::quantity::Quantity;
use serde_json::Value as Json;

use crate::authorizer::{Check, Decision};
use crate::functions::{semver::Semver, time, url::Url};
use crate::types::{Semantics, Type};

#[derive(Debug, Clone)]
pub enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Text::Borrowed(text) => text,
            Text::Shared(text) => text,
        }
    }
}

/// Key of a map. Numbers are equal across types.
#[derive(Debug, Clone)]
pub enum Key<'a> {
    Bool(bool),
    Number { value: i128, unsigned: bool },
    String(Text<'a>),
}

impl Key<'_> {
    fn rank(&self) -> u8 {
        match self {
            Key::Bool(_) => 0,
            Key::Number { .. } => 1,
            Key::String(_) => 2,
        }
    }
}

impl Ord for Key<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Key::Bool(a), Key::Bool(b)) => a.cmp(b),
            (Key::Number { value: a, .. }, Key::Number { value: b, .. }) => a.cmp(b),
            (Key::String(a), Key::String(b)) => str::cmp(a, b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Key<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Key<'_> {}

#[derive(Debug, Clone)]
pub enum List<'a> {
    Json(&'a [Json], Type),
    Owned(Arc<Vec<Value<'a>>>),
}

#[derive(Debug, Clone)]
pub enum Map<'a> {
    Json(&'a serde_json::Map<String, Json>, Type),
    Owned(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// A map of maps, in which a key that is not there has the empty one.
    OrEmpty(Arc<BTreeMap<Key<'a>, Value<'a>>>),
    /// A message that an expression made, with the name of its type.
    Message(Arc<str>, Arc<BTreeMap<Key<'a>, Value<'a>>>),
}

#[derive(Debug, Clone)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Bytes(Arc<[u8]>),
    List(List<'a>),
    Map(Map<'a>),
    /// Nanoseconds.
    Duration(i64),
    /// Nanoseconds since 1970.
    Timestamp(i128),
    Type(Arc<str>),
    Optional(Option<Arc<Value<'a>>>),
    Url(Arc<Url>),
    Ip(IpAddr),
    Cidr(IpAddr, u8),
    Quantity(Quantity),
    Semver(Arc<Semver>),
    /// A named format.
    Format(&'static str),
    /// A question to the authorizer that is being put together.
    Check(Arc<Check>),
    Decision(Arc<Decision>),
}

impl<'a> Value<'a> {
    pub fn text(text: impl Into<Arc<str>>) -> Value<'a> {
        Value::String(Text::Shared(text.into()))
    }

    pub fn list(items: Vec<Value<'a>>) -> Value<'a> {
        Value::List(List::Owned(Arc::new(items)))
    }

    /// A map with these keys.
    pub fn map(fields: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Value<'a> {
        Value::Map(Map::Owned(keyed(fields)))
    }

    /// A map of maps with these keys, in which every other key has the empty one. Only `in` sees that it is not there.
    pub fn map_or_empty(fields: impl IntoIterator<Item = (&'a str, Value<'a>)>) -> Value<'a> {
        Value::Map(Map::OrEmpty(keyed(fields)))
    }

    /// None for what is no quantity.
    pub fn quantity(text: &str) -> Option<Value<'a>> {
        Quantity::parse(text).ok().map(Value::Quantity)
    }

    /// None for what is no version.
    pub fn semver(text: &str) -> Option<Value<'a>> {
        crate::functions::semver::parse(text).map(|version| Value::Semver(Arc::new(version)))
    }

    pub(crate) fn some(value: Value<'a>) -> Value<'a> {
        Value::Optional(Some(Arc::new(value)))
    }

    /// What a piece of JSON is, seen as a value of this type.
    pub fn json(json: &'a Json, ty: &Type) -> Value<'a> {
        match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(value) if !matches!(ty, Type::Double) => Value::Int(value),
                _ => Value::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(text) => Value::json_text(text, ty),
            Json::Array(items) => Value::List(List::Json(items, ty.clone())),
            Json::Object(fields) => Value::Map(Map::Json(fields, ty.clone())),
        }
    }

    fn json_text(text: &'a str, ty: &Type) -> Value<'a> {
        let plain = || Value::String(Text::Borrowed(text));
        match ty {
            Type::Timestamp => {
                let nanos = time::parse_timestamp(text).or_else(|| time::parse_date(text));
                nanos.map_or_else(plain, Value::Timestamp)
            }
            Type::Duration => time::parse_duration(text).map_or_else(plain, Value::Duration),
            Type::Bytes => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok();
                bytes.map_or_else(plain, |bytes| Value::Bytes(bytes.into()))
            }
            _ => plain(),
        }
    }

    /// The name of the type.
    pub fn type_name(&self) -> &str {
        match self {
            Value::Null => "null_type",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Uint(_) => "uint",
            Value::Double(_) => "double",
            Value::String(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::List(_) => "list",
            Value::Map(Map::Message(name, _)) => name,
            Value::Map(_) => "map",
            Value::Duration(_) => "google.protobuf.Duration",
            Value::Timestamp(_) => "google.protobuf.Timestamp",
            Value::Type(_) => "type",
            Value::Optional(_) => "optional_type",
            Value::Url(_) => "kubernetes.URL",
            Value::Ip(_) => "net.IP",
            Value::Cidr(..) => "net.CIDR",
            Value::Quantity(_) => "kubernetes.Quantity",
            Value::Semver(_) => "kubernetes.Semver",
            Value::Format(_) => "kubernetes.NamedFormat",
            Value::Check(_) => "kubernetes.authorization.Authorizer",
            Value::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    pub(crate) fn key(&self) -> Option<Key<'a>> {
        match self {
            Value::Bool(value) => Some(Key::Bool(*value)),
            Value::Int(value) => Some(Key::Number {
                value: i128::from(*value),
                unsigned: false,
            }),
            Value::Uint(value) => Some(Key::Number {
                value: i128::from(*value),
                unsigned: true,
            }),
            Value::Double(value) if value.fract() == 0.0 && value.abs() < 1e19 => {
                Some(Key::Number {
                    value: *value as i128,
                    unsigned: false,
                })
            }
            Value::String(text) => Some(Key::String(text.clone())),
            _ => None,
        }
    }
}

fn keyed<'a>(
    fields: impl IntoIterator<Item = (&'a str, Value<'a>)>,
) -> Arc<BTreeMap<Key<'a>, Value<'a>>> {
    let fields = fields.into_iter();
    let keyed = fields.map(|(name, value)| (Key::String(Text::Borrowed(name)), value));
    Arc::new(keyed.collect())
}

impl<'a> From<&Key<'a>> for Value<'a> {
    fn from(key: &Key<'a>) -> Value<'a> {
        match key {
            Key::Bool(value) => Value::Bool(*value),
            Key::Number {
                value,
                unsigned: true,
            } => Value::Uint(*value as u64),
            Key::Number { value, .. } => Value::Int(*value as i64),
            Key::String(text) => Value::String(text.clone()),
        }
    }
}

impl<'a> List<'a> {
    pub fn len(&self) -> usize {
        match self {
            List::Json(items, _) => items.len(),
            List::Owned(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, at: usize) -> Option<Value<'a>> {
        match self {
            List::Json(items, Type::List(list)) => Some(Value::json(items.get(at)?, &list.item)),
            List::Json(items, _) => Some(Value::json(items.get(at)?, &Type::Dyn)),
            List::Owned(items) => items.get(at).cloned(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Value<'a>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    pub(crate) fn semantics(&self) -> &Semantics {
        match self {
            List::Json(_, Type::List(list)) => &list.semantics,
            _ => &Semantics::Ordered,
        }
    }
}

impl<'a> Map<'a> {
    pub fn len(&self) -> usize {
        match self {
            Map::Json(fields, _) => fields.len(),
            Map::Owned(fields) | Map::OrEmpty(fields) | Map::Message(_, fields) => fields.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A field by the name that expressions give it.
    pub fn field(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Map::Json(fields, Type::Object(object)) => {
                let (name, ty) = object.field(name)?;
                // A field that the type names and that is null is as good as none.
                let value = fields.get(&*name).filter(|value| !value.is_null())?;
                Some(Value::json(value, &ty))
            }
            Map::Json(fields, Type::Map(types)) => Some(Value::json(fields.get(name)?, &types.1)),
            Map::Json(fields, _) => Some(Value::json(fields.get(name)?, &Type::Dyn)),
            Map::Owned(fields) | Map::Message(_, fields) => {
                fields.get(&Key::String(Text::Borrowed(name))).cloned()
            }
            Map::OrEmpty(fields) => {
                let found = fields.get(&Key::String(Text::Borrowed(name)));
                Some(found.cloned().unwrap_or_else(|| Value::map([])))
            }
        }
    }

    pub fn get(&self, key: &Key<'a>) -> Option<Value<'a>> {
        match (self, key) {
            (Map::Owned(fields) | Map::Message(_, fields), _) => fields.get(key).cloned(),
            (Map::OrEmpty(fields), _) => {
                let found = fields.get(key).cloned();
                Some(found.unwrap_or_else(|| Value::map([])))
            }
            (Map::Json(..), Key::String(name)) => self.field(name),
            (Map::Json(..), _) => None,
        }
    }

    /// Whether the key is there.
    pub(crate) fn has(&self, key: &Key<'a>) -> bool {
        match self {
            Map::OrEmpty(fields) => fields.contains_key(key),
            _ => self.get(key).is_some(),
        }
    }

    /// The keys, in order.
    pub fn keys(&self) -> Vec<Key<'a>> {
        match self {
            Map::Json(fields, Type::Object(object)) => {
                let there = fields.iter().filter(|(_, value)| !value.is_null());
                let spelled = there.filter_map(|(name, _)| object.spelled(name));
                spelled
                    .map(|name| Key::String(Text::Shared(name.into())))
                    .collect()
            }
            Map::Json(fields, _) => fields
                .keys()
                .map(|name| Key::String(Text::Borrowed(name)))
                .collect(),
            Map::Owned(fields) | Map::OrEmpty(fields) | Map::Message(_, fields) => {
                fields.keys().cloned().collect()
            }
        }
    }
}

/// The order of two numbers of any type; none for NaN and for what is no number.
pub(crate) fn numbers(a: &Value<'_>, b: &Value<'_>) -> Option<Ordering> {
    let whole = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a.partial_cmp(b),
        (Value::Double(a), b) => Some(double_and_whole(*a, whole(b)?)?),
        (a, Value::Double(b)) => Some(double_and_whole(*b, whole(a)?)?.reverse()),
        (a, b) => Some(whole(a)?.cmp(&whole(b)?)),
    }
}

fn double_and_whole(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double.abs() >= 1e20 {
        return Some(if double > 0.0 {
            Ordering::Greater
        } else {
            Ordering::Less
        });
    }
    let floor = double.floor();
    let order = (floor as i128).cmp(&whole);
    Some(if order == Ordering::Equal && double > floor {
        Ordering::Greater
    } else {
        order
    })
}

/// Counts down what a comparison may look at.
pub(crate) struct Steps {
    left: u64,
}

impl Steps {
    pub(crate) fn new(left: u64) -> Steps {
        Steps { left }
    }

    /// Whether the comparison gave up, so that its result means nothing.
    pub(crate) fn exhausted(&self) -> bool {
        self.left == 0
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn take(&mut self, count: usize) -> bool {
        self.left = self.left.saturating_sub(count as u64);
        self.left > 0
    }

    /// Whether two values are the same. What cannot be compared is not.
    pub(crate) fn equal(&mut self, a: &Value<'_>, b: &Value<'_>) -> bool {
        if !self.take(1) {
            return false;
        }
        match (a, b) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::String(a), Value::String(b)) => {
                a.len() == b.len() && self.take(a.len()) && **a == **b
            }
            (Value::Bytes(a), Value::Bytes(b)) => {
                a.len() == b.len() && self.take(a.len()) && a == b
            }
            (Value::Duration(a), Value::Duration(b)) => a == b,
            (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
            (Value::Type(a), Value::Type(b)) => a == b,
            (Value::List(a), Value::List(b)) => self.lists(a, b),
            (Value::Map(a), Value::Map(b)) => self.maps(a, b),
            (Value::Optional(a), Value::Optional(b)) => match (a, b) {
                (Some(a), Some(b)) => self.equal(a, b),
                (None, None) => true,
                _ => false,
            },
            (a, b) => special_equal(a, b),
        }
    }

    fn maps(&mut self, a: &Map<'_>, b: &Map<'_>) -> bool {
        if a.len() != b.len() || !self.take(a.len()) {
            return false;
        }
        let same = a.keys().iter().all(|key| match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => self.equal(&a, &b),
            _ => false,
        });
        same && self.hidden(a, b)
    }

    /// Whether the fields are the same that expressions cannot see: unknown ones count all the same, and a null is as good as
    /// none.
    fn hidden(&mut self, a: &Map<'_>, b: &Map<'_>) -> bool {
        let (Map::Json(fields, Type::Object(object)), Map::Json(others, _)) = (a, b) else {
            return true;
        };
        fields.iter().all(|(name, value)| {
            if object.spelled(name).is_none() {
                return self.take(1) && others.get(name) == Some(value);
            }
            !value.is_null() || others.get(name).is_none_or(|other| other.is_null())
        })
    }

    fn lists(&mut self, a: &List<'_>, b: &List<'_>) -> bool {
        if a.len() != b.len() {
            return false;
        }
        let semantics = match a.semantics() {
            Semantics::Ordered => b.semantics(),
            other => other,
        };
        match semantics {
            Semantics::Ordered => a.iter().zip(b.iter()).all(|(a, b)| self.equal(&a, &b)),
            Semantics::Set => self.holds(a, b) && self.holds(b, a),
            Semantics::Map(keys) => a.iter().all(|item| {
                let same = b
                    .iter()
                    .find(|other| self.take(1) && keyed_alike(&item, other, keys));
                same.is_some_and(|other| self.equal(&item, &other))
            }),
        }
    }

    pub(crate) fn has(&mut self, list: &List<'_>, item: &Value<'_>) -> bool {
        list.iter().any(|other| self.equal(&other, item))
    }

    /// Whether all of `b` are in `a`.
    pub(crate) fn holds(&mut self, a: &List<'_>, b: &List<'_>) -> bool {
        b.iter().all(|item| self.has(a, &item))
    }
}

fn special_equal(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Url(a), Value::Url(b)) => a == b,
        (Value::Ip(a), Value::Ip(b)) => a == b,
        (Value::Cidr(a, x), Value::Cidr(b, y)) => a == b && x == y,
        (Value::Quantity(a), Value::Quantity(b)) => a == b,
        (Value::Semver(a), Value::Semver(b)) => a.cmp(b) == Ordering::Equal,
        (Value::Format(a), Value::Format(b)) => a == b,
        (Value::Check(a), Value::Check(b)) => a == b,
        (Value::Decision(a), Value::Decision(b)) => a == b,
        (a, b) => numbers(a, b) == Some(Ordering::Equal),
    }
}

/// Keys are scalars: more than this is none.
const KEY_STEPS_MAX: u64 = 100_000;

/// Whether two items of a list with keys are the same item.
pub(crate) fn keyed_alike(a: &Value<'_>, b: &Value<'_>, keys: &[Arc<str>]) -> bool {
    let (Value::Map(a), Value::Map(b)) = (a, b) else {
        return false;
    };
    let spelled = |key: &Arc<str>| crate::escape(key).unwrap_or_else(|| key.to_string());
    keys.iter().all(|key| {
        let key = spelled(key);
        match (a.field(&key), b.field(&key)) {
            (Some(a), Some(b)) => Steps::new(KEY_STEPS_MAX).equal(&a, &b),
            (None, None) => true,
            _ => false,
        }
    })
}

/// The value as JSON; none for what JSON has no form of.
pub fn to_json(value: &Value<'_>) -> Option<Json> {
    Some(match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(value) => Json::from(*value),
        Value::Uint(value) => Json::from(*value),
        Value::Double(value) => Json::Number(serde_json::Number::from_f64(*value)?),
        Value::String(text) => Json::String(text.to_string()),
        Value::Bytes(bytes) => {
            Json::String(base64::engine::general_purpose::STANDARD.encode(bytes))
        }
        Value::Duration(nanos) => Json::String(time::format_duration(*nanos)),
        Value::Timestamp(nanos) => Json::String(time::format_timestamp(*nanos)),
        Value::List(List::Json(items, _)) => Json::Array(items.to_vec()),
        Value::List(list) => Json::Array(
            list.iter()
                .map(|item| to_json(&item))
                .collect::<Option<_>>()?,
        ),
        Value::Map(Map::Json(fields, _)) => Json::Object((*fields).clone()),
        Value::Map(map) => {
            let mut made = serde_json::Map::new();
            for key in map.keys() {
                let Key::String(name) = &key else {
                    return None;
                };
                let name = match map {
                    Map::Message(..) => crate::unescape(name).unwrap_or_else(|| name.to_string()),
                    _ => name.to_string(),
                };
                made.insert(name, to_json(&map.get(&key)?)?);
            }
            Json::Object(made)
        }
        _ => return None,
    })
}
