//! The tree of an expression. `&&` and `||` have any number of operands, so that long chains of them are flat.

use std::sync::Arc;

use crate::functions::Native;

/// A node, with the place (in characters) that errors about it point to.
#[derive(Debug, Clone)]
pub(crate) struct Expr {
    pub(crate) at: u32,
    /// Levels below and including this node.
    pub(crate) depth: u16,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone)]
pub(crate) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
}

impl Binary {
    /// The name of the operator in CEL's list of functions.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Binary::Add => "_+_",
            Binary::Subtract => "_-_",
            Binary::Multiply => "_*_",
            Binary::Divide => "_/_",
            Binary::Modulo => "_%_",
            Binary::Equal => "_==_",
            Binary::NotEqual => "_!=_",
            Binary::Less => "_<_",
            Binary::LessEqual => "_<=_",
            Binary::Greater => "_>_",
            Binary::GreaterEqual => "_>=_",
            Binary::In => "@in",
        }
    }
}

/// What a comprehension makes of the items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    All,
    Exists,
    ExistsOne,
    /// `map`, and `transformList` with two variables.
    List,
    Filter,
    TransformMap,
    TransformMapEntry,
}

#[derive(Debug, Clone)]
pub(crate) struct Comprehension {
    pub(crate) fold: Fold,
    pub(crate) range: Expr,
    /// The item of a list or the key of a map; with two variables, the index or the key.
    pub(crate) first: Arc<str>,
    /// The value, with two variables.
    pub(crate) second: Option<Arc<str>>,
    /// Which items count, where that is said apart.
    pub(crate) condition: Option<Expr>,
    pub(crate) body: Expr,
}

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) name: Arc<str>,
    /// Whether the first argument stood before the dot.
    pub(crate) member: bool,
    pub(crate) args: Vec<Expr>,
    /// None until it is known, and for functions that do not exist.
    pub(crate) native: Option<Native>,
    /// The compiled pattern of a literal.
    pub(crate) regex: Option<Arc<regex::Regex>>,
}

/// An entry of a list, map or message; `optional` ones start with `?`.
#[derive(Debug, Clone)]
pub(crate) struct Entry<K> {
    pub(crate) key: K,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    Literal(Literal),
    Ident(Arc<str>),
    Select {
        operand: Box<Expr>,
        field: Arc<str>,
        optional: bool,
    },
    /// `has(operand.field)`
    Has {
        operand: Box<Expr>,
        field: Arc<str>,
    },
    Index {
        operand: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    Call(Box<Call>),
    List(Vec<Entry<()>>),
    Map(Vec<Entry<Expr>>),
    Message {
        name: Arc<str>,
        fields: Vec<Entry<Arc<str>>>,
    },
    Fold(Box<Comprehension>),
    /// `optMap` and, where flat, `optFlatMap`.
    OptMap {
        operand: Box<Expr>,
        name: Arc<str>,
        body: Box<Expr>,
        flat: bool,
    },
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Conditional(Box<[Expr; 3]>),
    Binary(Binary, Box<[Expr; 2]>),
}

impl Expr {
    /// The name that a chain of selections spells (`a.b.c`).
    pub(crate) fn dotted(&self) -> Option<String> {
        match &self.kind {
            Kind::Ident(name) => Some(name.to_string()),
            Kind::Select {
                operand,
                field,
                optional: false,
            } => Some(format!("{}.{field}", operand.dotted()?)),
            _ => None,
        }
    }
}
