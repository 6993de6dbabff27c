//! What an expression may be known to be before it runs.

use std::fmt;
use std::sync::Arc;

/// The fields of an object, found when they are asked for: schemas may be recursive.
pub trait ObjectType: fmt::Debug + Send + Sync {
    /// As error texts say it.
    fn name(&self) -> &str;

    /// The name in the object, and the type, of a field as expressions spell it.
    fn field(&self, name: &str) -> Option<(Arc<str>, Type)>;

    /// How expressions spell a field of the object; none for one they cannot see.
    fn spelled(&self, name: &str) -> Option<String> {
        Some(name.to_string())
    }
}

/// When two lists are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Semantics {
    Ordered,
    Set,
    /// The fields that tell the items apart.
    Map(Vec<Arc<str>>),
}

#[derive(Debug)]
pub struct ListType {
    pub item: Type,
    pub semantics: Semantics,
    /// The most items that there can be.
    pub max_items: Option<u64>,
}

#[derive(Debug, Clone)]
pub enum Type {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// The type of types.
    Type,
    List(Arc<ListType>),
    Map(Arc<(Type, Type)>),
    Optional(Arc<Type>),
    Object(Arc<dyn ObjectType>),
    /// A type of a library, by name.
    Opaque(Arc<str>),
    /// A variable in the signature of a function.
    Param(u8),
}

impl Type {
    pub fn list(item: Type) -> Type {
        Type::List(Arc::new(ListType {
            item,
            semantics: Semantics::Ordered,
            max_items: None,
        }))
    }

    pub fn map(key: Type, value: Type) -> Type {
        Type::Map(Arc::new((key, value)))
    }

    pub fn optional(inner: Type) -> Type {
        Type::Optional(Arc::new(inner))
    }

    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn)
    }

    /// Whether a value of `other` may stand where this is wanted. Parameters are bound on the way.
    pub(crate) fn accepts(&self, other: &Type, bound: &mut Vec<(u8, Type)>) -> bool {
        if let Type::Param(param) = self {
            return match bound.iter_mut().find(|(known, _)| known == param) {
                None => {
                    bound.push((*param, other.clone()));
                    true
                }
                Some((_, known)) if known.is_dyn() || other.is_dyn() => {
                    *known = Type::Dyn;
                    true
                }
                Some((_, known)) => {
                    let known = known.clone();
                    known.accepts(other, &mut Vec::new())
                }
            };
        }
        match (self, other) {
            (Type::Dyn, _) | (_, Type::Dyn) => true,
            (Type::Null, Type::Null) => true,
            (
                Type::Object(_)
                | Type::Timestamp
                | Type::Duration
                | Type::Optional(_)
                | Type::Opaque(_),
                Type::Null,
            ) => true,
            (
                Type::Null,
                Type::Object(_)
                | Type::Timestamp
                | Type::Duration
                | Type::Optional(_)
                | Type::Opaque(_),
            ) => true,
            (Type::Bool, Type::Bool) | (Type::Int, Type::Int) | (Type::Uint, Type::Uint) => true,
            (Type::Double, Type::Double)
            | (Type::String, Type::String)
            | (Type::Bytes, Type::Bytes) => true,
            (Type::Timestamp, Type::Timestamp)
            | (Type::Duration, Type::Duration)
            | (Type::Type, Type::Type) => true,
            (Type::List(a), Type::List(b)) => a.item.accepts(&b.item, bound),
            (Type::Map(a), Type::Map(b)) => a.0.accepts(&b.0, bound) && a.1.accepts(&b.1, bound),
            (Type::Optional(a), Type::Optional(b)) => a.accepts(b, bound),
            (Type::Object(a), Type::Object(b)) => a.name() == b.name(),
            (Type::Opaque(a), Type::Opaque(b)) => a == b,
            _ => false,
        }
    }

    /// This with its parameters replaced.
    pub(crate) fn substitute(&self, bound: &[(u8, Type)]) -> Type {
        match self {
            Type::Param(param) => {
                let found = bound.iter().find(|(known, _)| known == param);
                found.map_or(Type::Dyn, |(_, ty)| ty.clone())
            }
            Type::List(list) => Type::list(list.item.substitute(bound)),
            Type::Map(map) => Type::map(map.0.substitute(bound), map.1.substitute(bound)),
            Type::Optional(inner) => Type::optional(inner.substitute(bound)),
            other => other.clone(),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::Type => f.write_str("type"),
            Type::List(list) => write!(f, "list({})", list.item),
            Type::Map(map) => write!(f, "map({}, {})", map.0, map.1),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Object(object) => f.write_str(object.name()),
            Type::Opaque(name) => f.write_str(name),
            Type::Param(param) => write!(f, "{}", (b'A' + param) as char),
        }
    }
}
