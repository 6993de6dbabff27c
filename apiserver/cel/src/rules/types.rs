//! Schemas as types. What a schema does not name, rules cannot see.

use std::collections::HashMap;
use std::sync::Arc;

use schema::structural::{Additional, Node, NodeType};
use schema::types;

use crate::types::{ListType, ObjectType, Semantics, Type};

/// Types are made once for each part of a schema.
#[derive(Default)]
pub(super) struct Types {
    made: HashMap<(*const Node, bool), Option<Type>>,
}

#[derive(Debug)]
struct SchemaObject {
    /// As expressions spell them, sorted; with the names in the object.
    fields: Vec<(Box<str>, Arc<str>, Type)>,
}

impl ObjectType for SchemaObject {
    fn name(&self) -> &str {
        "object"
    }

    fn field(&self, name: &str) -> Option<(Arc<str>, Type)> {
        let find = |spelled: &str| {
            let found = self
                .fields
                .binary_search_by(|(known, ..)| (**known).cmp(spelled));
            found.ok()
        };
        // After a dot, words that are reserved may be spelled as they are, too.
        let at = find(name).or_else(|| {
            let spelled = crate::escape(name).filter(|_| crate::escape::is_keyword(name))?;
            find(&spelled)
        })?;
        let (_, name, ty) = &self.fields[at];
        Some((name.clone(), ty.clone()))
    }

    fn spelled(&self, name: &str) -> Option<String> {
        let spelled = crate::escape(name)?;
        self.field(&spelled).is_some().then_some(spelled)
    }
}

impl Types {
    /// The type of the values here; none where rules cannot see them. `resource` tells whether they are whole objects.
    pub(super) fn of(&mut self, node: &Node) -> Option<Type> {
        let key = (std::ptr::from_ref(node), node.is_resource());
        if let Some(made) = self.made.get(&key) {
            return made.clone();
        }
        let made = self.make(node);
        self.made.insert(key, made.clone());
        made
    }

    fn make(&mut self, node: &Node) -> Option<Type> {
        if node.int_or_string {
            return Some(Type::Dyn);
        }
        if node.is_resource() {
            return Some(self.object(node));
        }
        let limits = node.limits.as_deref();
        match node.ty? {
            NodeType::Boolean => Some(Type::Bool),
            NodeType::Integer => Some(Type::Int),
            NodeType::Number => Some(Type::Double),
            NodeType::String => Some(match limits.and_then(|limits| limits.format.as_deref()) {
                Some("byte") => Type::Bytes,
                Some("duration") => Type::Duration,
                Some("date" | "date-time") => Type::Timestamp,
                _ => Type::String,
            }),
            NodeType::Array => {
                let item = self.of(node.items.as_deref()?)?;
                let max_items = limits.and_then(|limits| limits.max_items);
                let list = ListType {
                    item,
                    semantics: semantics(node),
                    max_items: max_items.and_then(|max| u64::try_from(max).ok()),
                };
                Some(Type::List(Arc::new(list)))
            }
            NodeType::Object => match &node.additional {
                Additional::Of(value) if node.properties.is_empty() => {
                    Some(Type::map(Type::String, self.of(value)?))
                }
                _ => Some(self.object(node)),
            },
        }
    }

    fn object(&mut self, node: &Node) -> Type {
        let mut fields = Vec::new();
        for property in &node.properties {
            if let (Some(spelled), Some(ty)) =
                (crate::escape(&property.name), self.of(&property.node))
            {
                fields.push((spelled.into_boxed_str(), property.name.clone(), ty));
            }
        }
        if node.is_resource() {
            fields.retain(|(_, name, _)| !matches!(&**name, "apiVersion" | "kind" | "metadata"));
            for name in ["apiVersion", "kind"] {
                fields.push((name.into(), name.into(), Type::String));
            }
            fields.push(("metadata".into(), "metadata".into(), self.metadata(node)));
        }
        fields.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        Type::Object(Arc::new(SchemaObject { fields }))
    }

    /// Of the metadata, rules see the names and what the schema itself says.
    fn metadata(&mut self, node: &Node) -> Type {
        let mut fields = Vec::new();
        let own = node
            .property("metadata")
            .into_iter()
            .flat_map(|metadata| metadata.properties.iter());
        for property in own {
            if let (Some(spelled), Some(ty)) =
                (crate::escape(&property.name), self.of(&property.node))
            {
                fields.push((spelled.into_boxed_str(), property.name.clone(), ty));
            }
        }
        for name in ["name", "generateName"] {
            if !fields.iter().any(|(_, known, _)| &**known == name) {
                fields.push((name.into(), name.into(), Type::String));
            }
        }
        fields.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        Type::Object(Arc::new(SchemaObject { fields }))
    }
}

fn semantics(node: &Node) -> Semantics {
    match node.list_type {
        Some(types::ListType::Set) => Semantics::Set,
        Some(types::ListType::Map) => Semantics::Map(node.list_keys.to_vec()),
        _ => Semantics::Ordered,
    }
}
