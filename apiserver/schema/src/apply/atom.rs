//! What the schema says of a place: how values there are told apart, and which stand as a whole.
//!
//! A place is one of the built-in table or of the schema of a custom resource; the walks do not
//! know which.

use serde_json::Value;

use super::element;
use crate::field::go_quote;
use crate::structural::{Additional, Node, NodeType, Schema};
use crate::types::{
    Container, Element, Field, Form, ListType, MapType, Type, type_by_id, type_named,
};

/// What is nested deeper stands as a whole. No type of the API comes near, but for JSON schemas.
pub(super) const DEPTH_MAX: usize = 100;

/// A place in the schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Atom<'a> {
    /// A scalar of this kind.
    Scalar(Scalar),
    /// An object with known fields.
    Struct(&'a Type),
    /// An object with known fields that changes as a whole.
    AtomicStruct(&'a Type),
    /// An object with any keys.
    Map(Element),
    AtomicMap(Element),
    /// An object of a custom resource.
    Node(&'a Node),
    AtomicNode(&'a Node),
    /// Items that have an identity.
    List(Items<'a>, Identity),
    AtomicList(Items<'a>),
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

/// Where a list stands, which says what its items are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Items<'a> {
    /// Items of an element, without an identity.
    Element(Element),
    Field(&'a Field),
    Node(&'a Node),
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
pub(super) enum Shape<'a> {
    Leaf,
    /// The atom says what its members are.
    Map(Atom<'a>),
    List(Items<'a>, Identity),
}

impl<'a> Items<'a> {
    /// An item.
    pub(super) fn item(self) -> Atom<'a> {
        match self {
            Items::Element(element) => Atom::of_element(element),
            Items::Field(field) => Atom::of_element(field.ty.element),
            Items::Node(node) => node.items.as_deref().map_or(Atom::Deduced, Atom::of_node),
        }
    }

    /// The keys that tell items apart.
    fn keys(self) -> impl Iterator<Item = &'a str> {
        let field = match self {
            Items::Field(field) => Some(field),
            _ => None,
        };
        let node = match self {
            Items::Node(node) => Some(node),
            _ => None,
        };
        let named = field.into_iter().flat_map(|field| {
            let merged = field.patch.key.filter(|_| field.list_keys.is_empty());
            field.list_keys.iter().copied().chain(merged)
        });
        named.chain(
            node.into_iter()
                .flat_map(|node| node.list_keys.iter().map(|key| &**key)),
        )
    }

    /// What a key is where an item does not say it. A key of a built-in type that Go always writes has its zero for a default.
    fn default_of(self, key: &str) -> Option<&'a Value> {
        match self {
            Items::Element(_) => None,
            Items::Field(field) => match field.ty.element {
                Element::Message(id) => {
                    let key = type_by_id(id).field(key)?;
                    key.default.as_ref().or(key.implied.as_ref())
                }
                _ => None,
            },
            Items::Node(node) => node.items.as_deref()?.property(key)?.default.as_deref(),
        }
    }
}

impl<'a> Atom<'a> {
    /// A whole object.
    pub(super) fn root(schema: Schema<'a>) -> Atom<'a> {
        match schema {
            Schema::BuiltIn(ty) => Atom::Struct(ty),
            Schema::Custom(schema) => Atom::Node(schema.root()),
            Schema::Any => Atom::Deduced,
        }
    }

    pub(super) fn of(field: &'a Field) -> Atom<'a> {
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
            Container::List => {
                let items = Items::Field(field);
                match field.list_type {
                    Some(ListType::Map) => Atom::List(items, Identity::Keys),
                    Some(ListType::Set) => Atom::List(items, Identity::Value),
                    None if field.patch.merge && field.patch.key.is_some() => {
                        Atom::List(items, Identity::Keys)
                    }
                    None if field.patch.merge => Atom::List(items, Identity::Value),
                    Some(ListType::Atomic) | None => Atom::AtomicList(items),
                }
            }
        }
    }

    /// An item of a list or map, or a single value.
    pub(super) fn of_element(element: Element) -> Atom<'a> {
        match element {
            Element::String | Element::Bytes | Element::Duration => Atom::Scalar(Scalar::String),
            Element::Bool => Atom::Scalar(Scalar::Bool),
            Element::Int32 | Element::Int64 | Element::Double => Atom::Scalar(Scalar::Number),
            Element::StringList | Element::Verbs => {
                Atom::AtomicList(Items::Element(Element::String))
            }
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

    /// A place of a custom resource.
    pub(super) fn of_node(node: &'a Node) -> Atom<'a> {
        match node.ty {
            Some(NodeType::Object) if node.map_type == Some(MapType::Atomic) => {
                Atom::AtomicNode(node)
            }
            Some(NodeType::Object) => Atom::Node(node),
            Some(NodeType::Array) => match node.list_type {
                Some(ListType::Map) => Atom::List(Items::Node(node), Identity::Keys),
                Some(ListType::Set) => Atom::List(Items::Node(node), Identity::Value),
                Some(ListType::Atomic) | None => Atom::AtomicList(Items::Node(node)),
            },
            Some(NodeType::String) => Atom::Scalar(Scalar::String),
            Some(NodeType::Integer | NodeType::Number) => Atom::Scalar(Scalar::Number),
            Some(NodeType::Boolean) => Atom::Scalar(Scalar::Bool),
            None if node.int_or_string => Atom::Scalar(Scalar::Any),
            None => Atom::Deduced,
        }
    }

    /// How to treat a value that stands `depth` steps below the root.
    pub(super) fn shape(self, value: &Value, depth: usize) -> Shape<'a> {
        match self {
            _ if depth >= DEPTH_MAX => Shape::Leaf,
            Atom::Struct(_) | Atom::Map(_) | Atom::Node(_) => Shape::Map(self),
            Atom::List(items, identity) => Shape::List(items, identity),
            Atom::Deduced if value.is_object() => Shape::Map(self),
            _ => Shape::Leaf,
        }
    }

    /// What stands under a key of an object, and whether the schema names it.
    pub(super) fn member(self, key: &str) -> (Atom<'a>, bool) {
        match self {
            Atom::Struct(ty) | Atom::AtomicStruct(ty) => match ty.field(key) {
                Some(field) => (Atom::of(field), true),
                None => (Atom::Deduced, false),
            },
            Atom::Map(element) | Atom::AtomicMap(element) => (Atom::of_element(element), false),
            Atom::Node(node) | Atom::AtomicNode(node) => match (node.property(key), key) {
                (_, "metadata") if node.is_resource() => (object_meta(), true),
                (_, "apiVersion" | "kind") if node.is_resource() => {
                    (Atom::Scalar(Scalar::String), true)
                }
                (Some(property), _) => (Atom::of_node(property), true),
                (None, _) => match &node.additional {
                    Additional::Of(item) => (Atom::of_node(item), false),
                    _ => (Atom::Deduced, false),
                },
            },
            _ => (Atom::Deduced, false),
        }
    }

    /// Whether objects here may have a key that the schema does not name.
    pub(super) fn is_open(self) -> bool {
        match self {
            Atom::Struct(_) | Atom::AtomicStruct(_) => false,
            Atom::Node(node) | Atom::AtomicNode(node) => {
                node.preserve_unknown
                    || matches!(node.additional, Additional::Allowed | Additional::Of(_))
            }
            _ => true,
        }
    }

    /// The fields that are there as soon as their owner is, each with its value.
    pub(super) fn all_implied(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let ty = match self {
            Atom::Struct(ty) => Some(ty),
            _ => None,
        };
        ty.into_iter().flat_map(Type::implied)
    }

    /// What is under a key as soon as its owner is there.
    pub(super) fn implied(self, key: &str) -> Option<&'a Value> {
        match self {
            Atom::Struct(ty) => ty.field(key)?.implied.as_ref(),
            _ => None,
        }
    }
}

fn object_meta<'a>() -> Atom<'a> {
    type_named("meta.ObjectMeta").map_or(Atom::Deduced, Atom::Struct)
}

/// The path element of an item, or why it has none.
pub(super) fn item(items: Items<'_>, identity: Identity, item: &Value) -> Result<String, String> {
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
            "associative list with keys may not have a null element".to_owned()
        } else {
            "associative list with keys may not have non-map elements".to_owned()
        });
    };
    let mut found: Vec<(&str, &Value)> = Vec::with_capacity(2);
    for key in items.keys() {
        // An item that leaves a key out is another one than those that have it.
        if let Some(value) = map.get(key).or_else(|| items.default_of(key)) {
            found.push((key, value));
        }
    }
    if found.is_empty() && items.keys().next().is_some() {
        let keys: Vec<String> = items.keys().map(go_quote).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            keys.join(" ")
        ));
    }
    found.sort_unstable_by_key(|(name, _)| *name);
    Ok(element::keys(found))
}

/// The path elements of all items; none where one of them has none.
pub(super) fn items(of: Items<'_>, identity: Identity, list: &[Value]) -> Option<Vec<String>> {
    list.iter()
        .map(|value| item(of, identity, value).ok())
        .collect()
}
