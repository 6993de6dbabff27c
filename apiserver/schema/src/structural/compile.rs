//! From the JSON of a definition to nodes: equal subtrees and equal names become one.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Number, Value};

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
        let (mut node, mut limits) = (Node::default(), Limits::default());
        // Schemas say little of what they could: it is faster to ask what is there.
        for (key, value) in map {
            match value {
                Value::Null => {}
                Value::Object(_) => self.schema(key, value, depth, &mut node, &mut limits)?,
                Value::Array(list) => self.list(key, list, depth, &mut node, &mut limits)?,
                Value::Bool(flag) => set_flag(key, *flag, &mut node, &mut limits),
                Value::Number(number) => set_number(key, number, &mut limits),
                Value::String(text) => self.text(key, text, &mut node, &mut limits),
            }
            if key == "default" && !value.is_null() {
                let mut default = value.clone();
                // As values that clients write.
                crate::decode::settle_numbers(&mut default);
                node.default = Some(Arc::new(default));
            }
        }
        // Which formats count depends on the type.
        let format = limits.format.take();
        let known = format.filter(|text| format::canonical(text, node.ty).is_some());
        limits.format = known;
        if limits != Limits::default() {
            node.limits = Some(Box::new(limits));
        }
        Some(node)
    }

    fn schema(
        &mut self,
        key: &str,
        value: &Value,
        depth: usize,
        node: &mut Node,
        limits: &mut Limits,
    ) -> Option<()> {
        match key {
            "properties" => {
                let properties = value.as_object()?.iter().map(|(name, schema)| {
                    Some(Property {
                        name: self.name(name),
                        node: self.shared(schema, depth)?,
                    })
                });
                node.properties = properties.collect::<Option<_>>()?;
                node.properties.sort_by(|a, b| a.name.cmp(&b.name));
            }
            "items" => node.items = Some(self.shared(value, depth)?),
            "additionalProperties" => node.additional = Additional::Of(self.shared(value, depth)?),
            "not" => limits.not = Some(self.shared(value, depth)?),
            _ => {}
        }
        Some(())
    }

    fn list(
        &mut self,
        key: &str,
        list: &[Value],
        depth: usize,
        node: &mut Node,
        limits: &mut Limits,
    ) -> Option<()> {
        let mut junction = || -> Option<Box<[Arc<Node>]>> {
            list.iter()
                .map(|schema| self.shared(schema, depth))
                .collect()
        };
        match key {
            "allOf" => limits.all_of = junction()?,
            "anyOf" => limits.any_of = junction()?,
            "oneOf" => limits.one_of = junction()?,
            "enum" => limits.enumeration = list.into(),
            "required" => node.required = self.names(list),
            "x-kubernetes-list-map-keys" => node.list_keys = self.names(list),
            "x-kubernetes-validations" => node.rules = self.rules(list),
            _ => {}
        }
        Some(())
    }

    fn text(&mut self, key: &str, text: &str, node: &mut Node, limits: &mut Limits) {
        match key {
            "type" => node.ty = NodeType::parse(text),
            "format" if !text.is_empty() => limits.format = Some(self.name(text)),
            "pattern" if !text.is_empty() => limits.pattern = Some(self.name(text)),
            "x-kubernetes-list-type" => {
                node.list_type = match text {
                    "atomic" => Some(ListType::Atomic),
                    "set" => Some(ListType::Set),
                    "map" => Some(ListType::Map),
                    _ => None,
                }
            }
            "x-kubernetes-map-type" => {
                node.map_type = match text {
                    "atomic" => Some(MapType::Atomic),
                    "granular" => Some(MapType::Granular),
                    _ => None,
                }
            }
            _ => {}
        }
    }

    fn shared(&mut self, schema: &Value, depth: usize) -> Option<Arc<Node>> {
        let node = self.node(schema, depth + 1)?;
        let slot = self.nodes.entry(key_of(&node));
        Some(slot.or_insert_with(|| Arc::new(node)).clone())
    }

    fn rules(&mut self, rules: &[Value]) -> Box<[Rule]> {
        let rules = rules.iter().map(|rule| {
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

    fn names(&mut self, names: &[Value]) -> Box<[Name]> {
        let names = names.iter().filter_map(Value::as_str);
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

fn set_flag(key: &str, flag: bool, node: &mut Node, limits: &mut Limits) {
    match key {
        "nullable" => node.nullable = flag,
        "x-kubernetes-preserve-unknown-fields" => node.preserve_unknown = flag,
        "x-kubernetes-embedded-resource" => node.embedded = flag,
        "x-kubernetes-int-or-string" => node.int_or_string = flag,
        "exclusiveMinimum" => limits.exclusive_minimum = flag,
        "exclusiveMaximum" => limits.exclusive_maximum = flag,
        "additionalProperties" => {
            node.additional = match flag {
                true => Additional::Allowed,
                false => Additional::Forbidden,
            }
        }
        _ => {}
    }
}

fn set_number(key: &str, number: &Number, limits: &mut Limits) {
    match key {
        "minimum" => limits.minimum = number.as_f64(),
        "maximum" => limits.maximum = number.as_f64(),
        "multipleOf" => limits.multiple_of = number.as_f64(),
        "minLength" => limits.min_length = number.as_i64(),
        "maxLength" => limits.max_length = number.as_i64(),
        "minItems" => limits.min_items = number.as_i64(),
        "maxItems" => limits.max_items = number.as_i64(),
        "minProperties" => limits.min_properties = number.as_i64(),
        "maxProperties" => limits.max_properties = number.as_i64(),
        _ => {}
    }
}

/// A text that is the same for equal nodes alone. Children are told apart by their addresses, since
/// equal ones are one already. What is not there is not written.
fn key_of(node: &Node) -> String {
    let mut key = String::with_capacity(64);
    let additional = match node.additional {
        Additional::Absent => 0,
        Additional::Allowed => 1,
        Additional::Forbidden => 2,
        Additional::Of(_) => 3,
    };
    let numbers = [
        node.ty.map_or(0, |ty| ty as u8 + 1),
        node.list_type.map_or(0, |ty| ty as u8 + 1),
        node.map_type.map_or(0, |ty| ty as u8 + 1),
        additional,
        u8::from(node.items.is_some()),
        u8::from(node.nullable),
        u8::from(node.preserve_unknown),
        u8::from(node.embedded),
        u8::from(node.int_or_string),
    ];
    key.extend(numbers.map(|number| char::from(b'0' + number)));
    for child in node.children() {
        let _ = write!(key, " {:x}", Arc::as_ptr(child) as usize);
    }
    for property in &node.properties {
        let _ = write!(key, "p{:?}", property.name);
    }
    for (tag, names) in [('k', &node.list_keys), ('r', &node.required)] {
        for name in names {
            let _ = write!(key, "{tag}{name:?}");
        }
    }
    if let Some(default) = &node.default {
        let _ = write!(key, "d{default}");
    }
    if !node.rules.is_empty() {
        let _ = write!(key, "v{:?}", node.rules);
    }
    if let Some(limits) = &node.limits {
        let mut own = (**limits).clone();
        let junctions = (
            own.all_of.len(),
            own.any_of.len(),
            own.one_of.len(),
            own.not.is_some(),
        );
        (own.all_of, own.any_of, own.one_of, own.not) = Default::default();
        let _ = write!(key, "l{junctions:?}{own:?}");
    }
    key
}
