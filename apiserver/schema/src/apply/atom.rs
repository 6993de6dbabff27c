//! What the schema says of a place: how values there are told apart, and which stand as a whole.

use serde_json::Value;

use super::element;
use crate::types::{Container, Element, Field, Form, ListType, MapType, Type, type_by_id};

/// What is nested deeper stands as a whole. No type of the API comes near, but for JSON schemas.
pub(super) const DEPTH_MAX: usize = 100;

/// A place in the schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Atom {
    /// A scalar of this kind.
    Scalar(Scalar),
    /// An object with known fields.
    Struct(&'static Type),
    /// An object with known fields that changes as a whole.
    AtomicStruct(&'static Type),
    /// An object with any keys.
    Map(Element),
    AtomicMap(Element),
    /// Items that have an identity.
    List(&'static Field, Identity),
    AtomicList(Element),
    /// Whatever the value looks like: objects field by field, lists as a whole.
    Deduced,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scalar {
    String,
    Number,
    Bool,
    Any,
}

/// How the items of a list are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    /// By their keys.
    Keys,
    /// By their value.
    Value,
}

/// How the walks treat a value at a place.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Leaf,
    /// The atom says what its members are.
    Map(Atom),
    List(&'static Field, Identity),
}

impl Atom {
    pub(super) fn of(field: &'static Field) -> Atom {
        let element = field.ty.element;
        match field.ty.container {
            Container::One => match Atom::of_element(element) {
                Atom::Struct(ty) if field.map_type == Some(MapType::Atomic) => {
                    Atom::AtomicStruct(ty)
                }
                Atom::AtomicStruct(ty) if field.map_type == Some(MapType::Granular) => {
                    Atom::Struct(ty)
                }
                other => other,
            },
            Container::Map if field.map_type == Some(MapType::Atomic) => Atom::AtomicMap(element),
            Container::Map => Atom::Map(element),
            Container::List => match field.list_type {
                Some(ListType::Map) => Atom::List(field, Identity::Keys),
                Some(ListType::Set) => Atom::List(field, Identity::Value),
                None if field.patch.merge && field.patch.key.is_some() => {
                    Atom::List(field, Identity::Keys)
                }
                None if field.patch.merge => Atom::List(field, Identity::Value),
                Some(ListType::Atomic) | None => Atom::AtomicList(element),
            },
        }
    }

    /// An item of a list or map, or a single value.
    pub(super) fn of_element(element: Element) -> Atom {
        match element {
            Element::String | Element::Bytes => Atom::Scalar(Scalar::String),
            Element::Bool => Atom::Scalar(Scalar::Bool),
            Element::Int32 | Element::Int64 | Element::Double => Atom::Scalar(Scalar::Number),
            Element::StringList | Element::Verbs => Atom::AtomicList(Element::String),
            Element::Message(id) => {
                let ty = type_by_id(id);
                match ty.form {
                    Form::Object if ty.atomic => Atom::AtomicStruct(ty),
                    Form::Object => Atom::Struct(ty),
                    Form::Time | Form::MicroTime | Form::Quantity | Form::IntOrString => {
                        Atom::Scalar(Scalar::Any)
                    }
                    Form::RawExtension
                    | Form::FieldsV1
                    | Form::Json
                    | Form::SchemaOrArray
                    | Form::SchemaOrBool
                    | Form::SchemaOrStringArray => Atom::Deduced,
                }
            }
        }
    }

    /// How to treat a value that stands `depth` steps below the root.
    pub(super) fn shape(self, value: &Value, depth: usize) -> Shape {
        match self {
            _ if depth >= DEPTH_MAX => Shape::Leaf,
            Atom::Struct(_) | Atom::Map(_) => Shape::Map(self),
            Atom::List(field, identity) => Shape::List(field, identity),
            Atom::Deduced if value.is_object() => Shape::Map(self),
            _ => Shape::Leaf,
        }
    }

    /// What stands under a key of an object, and whether the schema names it.
    pub(super) fn member(self, key: &str) -> (Atom, bool) {
        match self {
            Atom::Struct(ty) | Atom::AtomicStruct(ty) => match ty.field(key) {
                Some(field) => (Atom::of(field), true),
                None => (Atom::Deduced, false),
            },
            Atom::Map(element) | Atom::AtomicMap(element) => (Atom::of_element(element), false),
            _ => (Atom::Deduced, false),
        }
    }

    /// The fields that are there as soon as their owner is, each with its value.
    pub(super) fn all_implied(self) -> impl Iterator<Item = (&'static str, &'static Value)> {
        let fields: &'static [Field] = match self {
            Atom::Struct(ty) => &ty.fields,
            _ => &[],
        };
        let implied = |field: &'static Field| Some((field.name, field.implied.as_ref()?));
        fields.iter().filter_map(implied)
    }

    /// What is under a key as soon as its owner is there.
    pub(super) fn implied(self, key: &str) -> Option<&'static Value> {
        match self {
            Atom::Struct(ty) => ty.field(key)?.implied.as_ref(),
            _ => None,
        }
    }
}

/// The path element of an item, or why it has none.
pub(super) fn item(
    field: &'static Field,
    identity: Identity,
    item: &Value,
) -> Result<String, String> {
    if identity == Identity::Value {
        return match item {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => {
                Err("not supported: associative list with lists as elements".to_owned())
            }
            Value::Null => Err(
                "associative list without keys has an element that's an explicit null".to_owned(),
            ),
            item => Ok(element::value(item)),
        };
    }
    let Value::Object(map) = item else {
        return Err(if item.is_null() {
            "associative list with keys may not have null element".to_owned()
        } else {
            "associative list with keys may not have non-map elements".to_owned()
        });
    };
    let mut found: Vec<(&str, &Value)> = Vec::with_capacity(2);
    let keys = field
        .list_keys
        .iter()
        .chain(match field.list_keys.is_empty() {
            true => field.patch.key.iter(),
            false => None.iter(),
        });
    for key in keys {
        let of_type = || field.ty.message()?.field(key)?.default.as_ref();
        let Some(value) = map.get(*key).or_else(of_type) else {
            return Err(format!(
                "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
            ));
        };
        found.push((key, value));
    }
    found.sort_unstable_by_key(|(name, _)| *name);
    Ok(element::keys(found))
}

/// The path elements of all items; none where one of them has none.
pub(super) fn items(
    field: &'static Field,
    identity: Identity,
    list: &[Value],
) -> Option<Vec<String>> {
    list.iter()
        .map(|value| item(field, identity, value).ok())
        .collect()
}
