//! The schemas of custom resources: what stands in `openAPIV3Schema`, compiled once, and what is
//! done with objects of it.
//!
//! A [`Structural`] is a tree of [`Node`]s in which equal subtrees and names are one. Descriptions
//! are not in it: the OpenAPI documents are made from the text of the definition.
//!
//! - `node`: the compiled form; `compile`: how it comes to be
//! - `definition`: whether a schema may be served, with Kubernetes' texts
//! - `prune`, `default`, `validate`: what happens to an object, in this order
//! - `format`, `pattern`: single strings
//! - `publish`: the OpenAPI schemas of a kind
//!
//! The depth of a schema is bounded, as is that of a body, so that no walk can exhaust a stack.

mod compile;
mod default;
pub mod definition;
mod embedded;
mod format;
mod node;
pub mod pattern;
mod prune;
mod unique;
mod validate;

#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use crate::field::{ErrorList, Path};
use crate::types::Type;

pub use compile::DEPTH_MAX;
pub use node::{Additional, Limits, Name, Node, NodeType, Property, Rule};

/// The compiled schema of one version of a custom resource. Cloning it is cheap.
#[derive(Debug, Clone, PartialEq)]
pub struct Structural(Arc<Node>);

static OPEN: LazyLock<Structural> = LazyLock::new(|| Structural(Arc::new(Node::open())));

impl Structural {
    /// Compiles an `openAPIV3Schema` that was checked when it was stored. Whatever is malformed in
    /// it is left out; None where it is no schema at all or nested too deep.
    pub fn compile(schema: &Value) -> Option<Structural> {
        compile::compile(schema).map(Structural::of)
    }

    fn of(root: Node) -> Structural {
        Structural(Arc::new(root))
    }

    /// The schema of a resource that has none: every field is kept.
    pub fn open() -> &'static Structural {
        &OPEN
    }

    /// The schema of the whole object. `apiVersion`, `kind` and `metadata` are there whether it
    /// names them or not.
    pub fn root(&self) -> &Node {
        &self.0
    }

    /// Drops the fields that the schema does not have, and says where: `spec.foo`, sorted.
    /// What stands in `metadata` of the object itself is not looked at.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune::prune(&self.0, object)
    }

    /// Drops nulls that may not be there and sets what is absent and has a default. To be done with
    /// objects of requests and with stored ones, which may be older than the default.
    pub fn default(&self, object: &mut Value) {
        default::default(&self.0, object);
    }

    /// What is wrong with an object, which was pruned and has its defaults; rules in CEL are not
    /// looked at. What did not change since `old` may be wrong.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> ErrorList {
        self.validate_at(object, old, None)
    }

    fn validate_at(&self, value: &Value, old: Option<&Value>, path: Option<&Path>) -> ErrorList {
        let mut errors = validate::values(&self.0, value, old, path);
        let root = Path::root();
        let path = path.unwrap_or(&root);
        embedded::resources(&self.0, value, path, &mut errors);
        let twice = |value: &Value| {
            let mut errors = ErrorList::new();
            unique::lists(&self.0, value, path, &mut errors);
            errors
        };
        let duplicates = twice(value);
        if duplicates.is_empty() || old.is_none_or(|old| twice(old).is_empty()) {
            errors.extend(duplicates);
        }
        errors
    }

    /// What is wrong with the status of an object, when only that is written. As `validate`, for
    /// this part.
    pub fn validate_status(&self, object: &Value, old: Option<&Value>) -> ErrorList {
        let (Some(node), Some(status)) = (self.0.property("status"), object.get("status")) else {
            return ErrorList::new();
        };
        let part = Structural(Arc::new(Node {
            root: false,
            ..node.clone()
        }));
        let old = old.and_then(|old| old.get("status"));
        part.validate_at(status, old, Some(&Path::new("status")))
    }

    /// About how many bytes the compiled form takes, shared parts counted once.
    pub fn size_bytes(&self) -> usize {
        node::size_bytes(&self.0)
    }
}

/// What describes an object: the table of built-in types, or the schema of a custom resource.
#[derive(Debug, Clone, Copy)]
pub enum Schema<'a> {
    BuiltIn(&'a Type),
    Custom(&'a Structural),
    /// Nothing is known: every field is kept, and nothing is checked.
    Any,
}

impl<'a> From<&'a Type> for Schema<'a> {
    fn from(ty: &'a Type) -> Self {
        Schema::BuiltIn(ty)
    }
}

impl<'a> From<Option<&'a Type>> for Schema<'a> {
    fn from(ty: Option<&'a Type>) -> Self {
        ty.map_or(Schema::Any, Schema::BuiltIn)
    }
}

impl<'a> From<&'a Structural> for Schema<'a> {
    fn from(schema: &'a Structural) -> Self {
        Schema::Custom(schema)
    }
}
