//! The compiled form of a schema.

use std::collections::HashSet;
use std::mem::size_of;
use std::sync::Arc;

use serde_json::Value;

use crate::types::{ListType, MapType};

/// A name of a field; the same name is one string in a whole schema.
pub type Name = Arc<str>;

/// `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeType {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// One schema: of the object, of a field, of an item, or what a junction (`allOf`, ..) demands.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Node {
    /// Absent where anything goes, which `int_or_string` and `preserve_unknown` allow, and in
    /// junctions.
    pub ty: Option<NodeType>,
    pub nullable: bool,
    /// `x-kubernetes-preserve-unknown-fields`
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`
    pub int_or_string: bool,
    /// The whole object of a resource, rather than a part of it.
    pub root: bool,
    /// `x-kubernetes-list-type`; absent means atomic.
    pub list_type: Option<ListType>,
    /// `x-kubernetes-map-type`; absent means granular.
    pub map_type: Option<MapType>,
    /// Sorted by name.
    pub properties: Box<[Property]>,
    pub additional: Additional,
    pub items: Option<Arc<Node>>,
    /// `x-kubernetes-list-map-keys`
    pub list_keys: Box<[Name]>,
    pub required: Box<[Name]>,
    pub default: Option<Arc<Value>>,
    /// What else is demanded of values; absent where nothing is.
    pub limits: Option<Box<Limits>>,
    /// `x-kubernetes-validations`
    pub rules: Box<[Rule]>,
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Property {
    pub name: Name,
    pub node: Arc<Node>,
}

/// `additionalProperties`.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Additional {
    #[default]
    Absent,
    Allowed,
    Forbidden,
    Of(Arc<Node>),
}

/// The demands on values that are not about their structure.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Limits {
    /// Only formats that are checked; others mean nothing.
    pub format: Option<Name>,
    pub pattern: Option<Name>,
    pub enumeration: Box<[Value]>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub exclusive_minimum: bool,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<i64>,
    pub max_length: Option<i64>,
    pub min_items: Option<i64>,
    pub max_items: Option<i64>,
    pub min_properties: Option<i64>,
    pub max_properties: Option<i64>,
    pub all_of: Box<[Arc<Node>]>,
    pub any_of: Box<[Arc<Node>]>,
    pub one_of: Box<[Arc<Node>]>,
    pub not: Option<Arc<Node>>,
}

/// One of `x-kubernetes-validations`. Absent texts are empty.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    pub rule: Name,
    pub message: Name,
    pub message_expression: Name,
    /// `FieldValueInvalid` and the like.
    pub reason: Name,
    pub field_path: Name,
    pub optional_old_self: Option<bool>,
}

impl NodeType {
    pub fn parse(text: &str) -> Option<NodeType> {
        Some(match text {
            "object" => NodeType::Object,
            "array" => NodeType::Array,
            "string" => NodeType::String,
            "integer" => NodeType::Integer,
            "number" => NodeType::Number,
            "boolean" => NodeType::Boolean,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            NodeType::Object => "object",
            NodeType::Array => "array",
            NodeType::String => "string",
            NodeType::Integer => "integer",
            NodeType::Number => "number",
            NodeType::Boolean => "boolean",
        }
    }
}

impl Node {
    /// The root of a resource without a schema.
    pub(super) fn open() -> Node {
        Node {
            ty: Some(NodeType::Object),
            preserve_unknown: true,
            root: true,
            ..Node::default()
        }
    }

    /// The schema of a field that is named.
    pub fn property(&self, name: &str) -> Option<&Node> {
        let at = self.properties.binary_search_by(|p| (*p.name).cmp(name));
        Some(&self.properties[at.ok()?].node)
    }

    /// The schema of the value under a key: of the named field, or of any.
    pub fn member(&self, key: &str) -> Option<&Node> {
        self.property(key).or(match &self.additional {
            Additional::Of(node) => Some(node),
            _ => None,
        })
    }

    /// Whether objects here are resources, with `apiVersion`, `kind` and `metadata` of their own.
    pub fn is_resource(&self) -> bool {
        self.root || self.embedded
    }

    /// Whether a key is one of those that every resource has.
    pub(crate) fn is_meta(&self, key: &str) -> bool {
        self.is_resource() && matches!(key, "apiVersion" | "kind" | "metadata")
    }

    /// The schemas directly below this one.
    pub fn children(&self) -> impl Iterator<Item = &Arc<Node>> {
        let additional = match &self.additional {
            Additional::Of(node) => Some(node),
            _ => None,
        };
        let junctions = self.limits.iter().flat_map(|limits| {
            let lists = [&limits.all_of, &limits.any_of, &limits.one_of];
            lists.into_iter().flat_map(|l| l.iter()).chain(&limits.not)
        });
        let named = self.properties.iter().map(|property| &property.node);
        named.chain(&self.items).chain(additional).chain(junctions)
    }
}

/// What a tree takes in memory, each shared part once.
pub(super) fn size_bytes(root: &Arc<Node>) -> usize {
    let mut seen = HashSet::new();
    let mut todo = vec![root];
    let mut bytes = 0;
    let mut names: HashSet<*const u8> = HashSet::new();
    let mut name = |text: &Name| match names.insert(text.as_ptr()) {
        true => text.len() + 2 * size_of::<usize>(),
        false => 0,
    };
    while let Some(node) = todo.pop() {
        if !seen.insert(Arc::as_ptr(node)) {
            continue;
        }
        bytes += size_of::<Node>() + 2 * size_of::<usize>();
        bytes += node.properties.len() * size_of::<Property>();
        bytes += node.properties.iter().map(|p| name(&p.name)).sum::<usize>();
        for list in [&node.list_keys, &node.required] {
            bytes += list.len() * size_of::<Name>() + list.iter().map(&mut name).sum::<usize>();
        }
        bytes += node.rules.len() * size_of::<Rule>();
        for rule in &node.rules {
            bytes += [&rule.rule, &rule.message, &rule.message_expression]
                .into_iter()
                .map(&mut name)
                .sum::<usize>();
        }
        // A value in memory takes a few times its text.
        bytes += node
            .default
            .iter()
            .map(|v| 4 * v.to_string().len())
            .sum::<usize>();
        if let Some(limits) = &node.limits {
            bytes += size_of::<Limits>();
            bytes += limits.pattern.iter().map(&mut name).sum::<usize>();
            let values = limits.enumeration.iter();
            bytes += values
                .map(|v| size_of::<Value>() + v.to_string().len())
                .sum::<usize>();
        }
        todo.extend(node.children());
    }
    bytes
}
