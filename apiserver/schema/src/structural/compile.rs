//! From the JSON of a definition to nodes: equal subtrees and equal names become one.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::format;
use super::node::{Additional, Limits, Name, Node, NodeType, Property, Rule};
use crate::types::{ListType, MapType};

/// Schemas that are nested deeper are refused: far beyond any real one, far below what a stack
/// holds.
pub const DEPTH_MAX: usize = 128;

/// None where the schema is no object, or too deep.
pub(super) fn compile(schema: &Value) -> Option<Node> {
    let mut root = Compiler::default().node(schema, 0)?;
    root.root = true;
    Some(root)
}

#[derive(Default)]
struct Compiler {
    names: HashSet<Name>,
    /// By everything that tells a node from others; see `key_of`.
    nodes: HashMap<String, Arc<Node>>,
}

impl Compiler {
    fn node(&mut self, schema: &Value, depth: usize) -> Option<Node> {
        let map = schema.as_object()?;
        if depth > DEPTH_MAX {
            return None;
        }
        let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
        let text = |key: &str| map.get(key).and_then(Value::as_str);
        let mut properties = Vec::new();
        for (name, schema) in object(map, "properties") {
            properties.push(Property {
                name: self.name(name),
                node: self.shared(schema, depth)?,
            });
        }
        properties.sort_by(|a, b| a.name.cmp(&b.name));
        let ty = text("type").and_then(NodeType::parse);
        let limits = self.limits(map, ty, depth)?;
        Some(Node {
            ty,
            nullable: flag("nullable"),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            int_or_string: flag("x-kubernetes-int-or-string"),
            root: false,
            list_type: match text("x-kubernetes-list-type") {
                Some("atomic") => Some(ListType::Atomic),
                Some("set") => Some(ListType::Set),
                Some("map") => Some(ListType::Map),
                _ => None,
            },
            map_type: match text("x-kubernetes-map-type") {
                Some("atomic") => Some(MapType::Atomic),
                Some("granular") => Some(MapType::Granular),
                _ => None,
            },
            properties: properties.into(),
            additional: match map.get("additionalProperties") {
                Some(Value::Bool(true)) => Additional::Allowed,
                Some(Value::Bool(false)) => Additional::Forbidden,
                Some(schema @ Value::Object(_)) => Additional::Of(self.shared(schema, depth)?),
                _ => Additional::Absent,
            },
            items: match map.get("items") {
                Some(schema @ Value::Object(_)) => Some(self.shared(schema, depth)?),
                _ => None,
            },
            list_keys: self.names(map, "x-kubernetes-list-map-keys"),
            required: self.names(map, "required"),
            default: map
                .get("default")
                .filter(|value| !value.is_null())
                .map(|value| Arc::new(value.clone())),
            limits: (limits != Limits::default()).then(|| Box::new(limits)),
            rules: self.rules(map),
        })
    }

    fn shared(&mut self, schema: &Value, depth: usize) -> Option<Arc<Node>> {
        let node = self.node(schema, depth + 1)?;
        let slot = self.nodes.entry(key_of(&node));
        Some(slot.or_insert_with(|| Arc::new(node)).clone())
    }

    fn limits(
        &mut self,
        map: &Map<String, Value>,
        ty: Option<NodeType>,
        depth: usize,
    ) -> Option<Limits> {
        let text = |key: &str| {
            map.get(key)
                .and_then(Value::as_str)
                .filter(|t| !t.is_empty())
        };
        let flag = |key: &str| map.get(key).and_then(Value::as_bool).unwrap_or(false);
        let float = |key: &str| map.get(key).and_then(Value::as_f64);
        let integer = |key: &str| map.get(key).and_then(Value::as_i64);
        let mut junction = |key: &str| -> Option<Box<[Arc<Node>]>> {
            let schemas = map.get(key).and_then(Value::as_array);
            let schemas = schemas.into_iter().flatten();
            schemas.map(|schema| self.shared(schema, depth)).collect()
        };
        let (all_of, any_of, one_of) = (junction("allOf")?, junction("anyOf")?, junction("oneOf")?);
        let not = match map.get("not") {
            Some(schema @ Value::Object(_)) => Some(self.shared(schema, depth)?),
            _ => None,
        };
        let format = text("format").and_then(|text| format::canonical(text, ty));
        Some(Limits {
            format: format.map(|format| self.name(&format)),
            pattern: text("pattern").map(|pattern| self.name(pattern)),
            enumeration: match map.get("enum").and_then(Value::as_array) {
                Some(values) => values.clone().into(),
                None => Box::default(),
            },
            minimum: float("minimum"),
            maximum: float("maximum"),
            exclusive_minimum: flag("exclusiveMinimum"),
            exclusive_maximum: flag("exclusiveMaximum"),
            multiple_of: float("multipleOf"),
            min_length: integer("minLength"),
            max_length: integer("maxLength"),
            min_items: integer("minItems"),
            max_items: integer("maxItems"),
            min_properties: integer("minProperties"),
            max_properties: integer("maxProperties"),
            all_of,
            any_of,
            one_of,
            not,
        })
    }

    fn rules(&mut self, map: &Map<String, Value>) -> Box<[Rule]> {
        let rules = map
            .get("x-kubernetes-validations")
            .and_then(Value::as_array);
        let rules = rules.into_iter().flatten().map(|rule| {
            let mut text =
                |key: &str| self.name(rule.get(key).and_then(Value::as_str).unwrap_or(""));
            Rule {
                rule: text("rule"),
                message: text("message"),
                message_expression: text("messageExpression"),
                reason: text("reason"),
                field_path: text("fieldPath"),
                optional_old_self: rule.get("optionalOldSelf").and_then(Value::as_bool),
            }
        });
        rules.collect()
    }

    fn names(&mut self, map: &Map<String, Value>, key: &str) -> Box<[Name]> {
        let names = map.get(key).and_then(Value::as_array);
        let names = names.into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| self.name(name)).collect()
    }

    fn name(&mut self, text: &str) -> Name {
        if let Some(name) = self.names.get(text) {
            return name.clone();
        }
        let name: Name = text.into();
        self.names.insert(name.clone());
        name
    }
}

fn object<'a>(
    map: &'a Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    map.get(key)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// A text that is the same for equal nodes alone. Children are told apart by their addresses, since
/// equal ones are one already.
fn key_of(node: &Node) -> String {
    let mut key = String::with_capacity(96);
    for child in node.children() {
        let _ = write!(key, "{:x} ", Arc::as_ptr(child) as usize);
    }
    for property in &node.properties {
        let _ = write!(key, "{:?}", property.name);
    }
    let additional = match node.additional {
        Additional::Absent => 0,
        Additional::Allowed => 1,
        Additional::Forbidden => 2,
        Additional::Of(_) => 3,
    };
    let _ = write!(
        key,
        "|{:?} {} {} {} {} {:?} {:?} {additional} {} {:?} {:?} {:?} {:?}",
        node.ty,
        node.nullable,
        node.preserve_unknown,
        node.embedded,
        node.int_or_string,
        node.list_type,
        node.map_type,
        node.items.is_some(),
        node.list_keys,
        node.required,
        node.default.as_deref().map(Value::to_string),
        node.rules,
    );
    if let Some(limits) = &node.limits {
        let mut own = (**limits).clone();
        let junctions = (
            own.all_of.len(),
            own.any_of.len(),
            own.one_of.len(),
            own.not.is_some(),
        );
        (own.all_of, own.any_of, own.one_of, own.not) = Default::default();
        let _ = write!(key, "|{junctions:?} {own:?}");
    }
    key
}
