//! The schema table: every type of the API with its fields, parsed once from `data/`.
//!
//! Everything that must know types walks this one table: decoding with unknown-field detection,
//! strategic merge patch, the protobuf transcoder, OpenAPI. The facts come as two texts:
//! `types.txt`, generated (see `examples/make_types.rs`), and `overlay.txt`, written by hand.
//!
//! Both texts are compiled in, so a mistake in them is a bug of this crate and stops the program
//! at the first use of the table; the tests below make that impossible in a release.

use std::collections::HashMap;
use std::sync::LazyLock;

use serde_json::Value;

mod build;
#[cfg(test)]
pub(crate) mod maker;
mod places;

use places::Places;

/// The position of a type in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(u16);

impl TypeId {
    pub(crate) fn index(self) -> u16 {
        self.0
    }
}

/// A group, version and kind that an object of a type may carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GroupVersionKind {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
}

/// How values of a type look in JSON, where that is not an object with the listed fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An object with fields.
    Object,
    /// RFC 3339 to the second.
    Time,
    /// RFC 3339 to the microsecond.
    MicroTime,
    Quantity,
    IntOrString,
    /// Any JSON object: an embedded object of another kind.
    RawExtension,
    /// Any JSON object: the fields that a manager owns.
    FieldsV1,
    /// Any JSON value.
    Json,
    /// A JSON schema, or a list of them.
    SchemaOrArray,
    /// A JSON schema, or a boolean.
    SchemaOrBool,
    /// A JSON schema, or a list of strings.
    SchemaOrStringArray,
}

/// One type of the API.
#[derive(Debug)]
pub struct Type {
    pub id: TypeId,
    /// The full name, as OpenAPI says it: `io.k8s.api.core.v1.Pod`.
    pub name: String,
    /// The name in the data files: `core.Pod`.
    pub short_name: &'static str,
    pub form: Form,
    pub kinds: Vec<GroupVersionKind>,
    /// Merged as a whole by server-side apply.
    pub atomic: bool,
    pub description: &'static str,
    /// Sorted by name.
    pub fields: Vec<Field>,
    places: Places,
    /// The protobuf message.
    pub(crate) message: Message,
    /// Which of `fields` have something [`Field::implied`].
    implied: Vec<usize>,
    /// Which of `fields` have something [`Field::unset`].
    unset: Vec<usize>,
}

/// Around an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    One,
    List,
    /// Keys are strings.
    Map,
}

/// What a field, or an item of its list or map, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 in JSON.
    Bytes,
    /// A span of time as Go writes it; protobuf wraps its nanoseconds in a message.
    Duration,
    /// A list of strings, as item of a map; protobuf wraps it in a message.
    StringList,
    /// A list of strings that protobuf wraps in a message.
    Verbs,
    Message(TypeId),
}

/// The type of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldType {
    pub container: Container,
    pub element: Element,
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    /// Items are told apart by [`Field::list_keys`].
    Map,
}

/// `x-kubernetes-map-type` of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapType {
    Atomic,
    Granular,
}

/// `x-kubernetes-patch-strategy` and `x-kubernetes-patch-merge-key`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patch {
    pub merge: bool,
    pub retain_keys: bool,
    pub replace: bool,
    /// The field that tells the items of a list apart.
    pub key: Option<&'static str>,
}

/// One field of a type.
#[derive(Debug)]
pub struct Field {
    /// The JSON name.
    pub name: &'static str,
    pub ty: FieldType,
    pub required: bool,
    /// Whether a zero or empty value is dropped, as Go's `omitempty` does.
    pub omit_empty: bool,
    /// What Go has there whenever it has the owner, though nobody has set it: an empty object that
    /// is not behind a pointer, or the zero of a field that is always written. Server-side apply
    /// does not count it as added when it is set.
    pub implied: Option<Value>,
    /// What is written where nobody has set the field, since Go does not omit it: null for a time that is in its owner. `None`
    /// for all others, which are absent then.
    pub unset: Option<Value>,
    pub list_type: Option<ListType>,
    pub list_keys: Vec<&'static str>,
    pub map_type: Option<MapType>,
    pub patch: Patch,
    /// The static default.
    pub default: Option<Value>,
    /// The closed set of values; empty for an open one.
    pub enumeration: Vec<&'static str>,
    pub description: &'static str,
    /// Tags from the outside in: more than one where protobuf nests what JSON inlines. Empty for
    /// a field that protobuf does not carry (`apiVersion`, `kind`).
    pub(crate) tags: Vec<u32>,
}

/// The protobuf side of a type: fields and nested messages by tag, sorted.
#[derive(Debug, Default)]
pub(crate) struct Message(pub(crate) Vec<(u32, Member)>);

#[derive(Debug)]
pub(crate) enum Member {
    /// Index into `Type::fields`.
    Field(usize),
    Embedded(Message),
}

impl Type {
    /// The field of this JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.places.find(&self.fields, name)
    }

    /// The fields that are there as soon as their owner is, each with its value.
    pub(crate) fn implied(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.implied.iter().map(|i| {
            let field = &self.fields[*i];
            let value = field.implied.as_ref();
            (field.name, value.expect("it was chosen for that"))
        })
    }

    /// The fields that are written even where nobody has set them, each with what is written then.
    pub(crate) fn unset(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.unset.iter().filter_map(|i| {
            let field = &self.fields[*i];
            Some((field.name, field.unset.as_ref()?))
        })
    }

    /// Whether objects of this type carry `apiVersion` and `kind`.
    pub fn is_top_level(&self) -> bool {
        !self.kinds.is_empty()
    }

    /// The type of the items of a list kind.
    pub fn list_item(&self) -> Option<&'static Type> {
        let field = self.field("items")?;
        match field.ty {
            FieldType {
                container: Container::List,
                element: Element::Message(id),
            } if self.is_top_level() => Some(type_by_id(id)),
            _ => None,
        }
    }
}

impl FieldType {
    /// The type of the element, when it is one of the table.
    pub fn message(self) -> Option<&'static Type> {
        match self.element {
            Element::Message(id) => Some(type_by_id(id)),
            _ => None,
        }
    }

    /// What the element is called in the data files.
    pub fn element_name(self) -> &'static str {
        match self.element {
            Element::String => "string",
            Element::Bool => "bool",
            Element::Int32 => "int32",
            Element::Int64 => "int64",
            Element::Double => "double",
            Element::Bytes => "bytes",
            Element::Duration => "duration",
            Element::StringList | Element::Verbs => "[]string",
            Element::Message(id) => type_by_id(id).short_name,
        }
    }
}

impl Message {
    pub(crate) fn member(&self, tag: u32) -> Option<&Member> {
        let i = self.0.binary_search_by_key(&tag, |(t, _)| *t).ok()?;
        Some(&self.0[i].1)
    }

    fn insert(&mut self, tags: &[u32], field: usize) {
        let (tag, inner) = tags.split_first().expect("a field of a message has a tag");
        let at = self.0.binary_search_by_key(tag, |(t, _)| *t);
        if inner.is_empty() {
            let at = at.expect_err("each tag is used once");
            self.0.insert(at, (*tag, Member::Field(field)));
            return;
        }
        let at = at.unwrap_or_else(|at| {
            self.0
                .insert(at, (*tag, Member::Embedded(Message::default())));
            at
        });
        match &mut self.0[at].1 {
            Member::Embedded(message) => message.insert(inner, field),
            Member::Field(_) => panic!("tag {tag} is both a field and a message"),
        }
    }
}

/// All types.
pub fn all() -> &'static [Type] {
    &TABLE.types
}

/// The type of objects with this group, version and kind. The kinds that are the same in every
/// group (`DeleteOptions`, `Status`, ..) are found under any of them.
pub fn type_of(group: &str, version: &str, kind: &str) -> Option<&'static Type> {
    let id = TABLE.by_kind.get(&(group, version, kind)).or_else(|| {
        let everywhere = matches!(kind, "DeleteOptions" | "WatchEvent" | "Status");
        let id = TABLE.by_kind.get(&("", "v1", kind))?;
        everywhere.then_some(id)
    })?;
    Some(type_by_id(*id))
}

/// The type that an `apiVersion` and `kind` name.
pub fn type_of_api_version(api_version: &str, kind: &str) -> Option<&'static Type> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    type_of(group, version, kind)
}

/// The type with a full (`io.k8s.api.core.v1.Pod`) or short (`core.Pod`) name.
pub fn type_named(name: &str) -> Option<&'static Type> {
    TABLE.by_name.get(name).map(|id| type_by_id(*id))
}

pub fn type_by_id(id: TypeId) -> &'static Type {
    &TABLE.types[usize::from(id.0)]
}

pub(crate) use build::hash_into;

struct Table {
    types: Vec<Type>,
    by_name: HashMap<&'static str, TypeId>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), TypeId>,
}

static TABLE: LazyLock<Table> = LazyLock::new(build::table);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_table_is_consistent() {
        // Building it already checks that each named type, package and field exists and that no
        // tag is used twice in a message.
        assert!(all().len() > 580, "{}", all().len());
        for ty in all() {
            assert!(type_named(ty.short_name).is_some_and(|t| std::ptr::eq(t, ty)));
            assert!(type_named(&ty.name).is_some_and(|t| std::ptr::eq(t, ty)));
            let implied = ty.fields.iter().filter(|field| field.implied.is_some());
            assert!(
                implied
                    .map(|f| f.name)
                    .eq(ty.implied().map(|(name, _)| name))
            );
            assert!(
                ty.fields.windows(2).all(|w| w[0].name < w[1].name),
                "{}",
                ty.name
            );
            for field in &ty.fields {
                let at = format!("{}.{}", ty.short_name, field.name);
                assert!(
                    ty.field(field.name).is_some_and(|f| std::ptr::eq(f, field)),
                    "{at}"
                );
                // What is there by itself has no parts of its own.
                let parts = |value: &Value| value.as_object().map_or(0, serde_json::Map::len);
                assert!(
                    field
                        .implied
                        .as_ref()
                        .is_none_or(|v| parts(v) == 0 && !v.is_array()),
                    "{at}"
                );
                // What is written of it is what it counts as, so that nobody comes to own it by writing it.
                assert!(
                    field.unset.is_none() || field.unset == field.implied && !field.omit_empty,
                    "{at}"
                );
                let shorter = &field.name[..field.name.len() - 1];
                let there = ty.fields.iter().any(|f| f.name == shorter);
                assert_eq!(ty.field(shorter).is_some(), there, "{at}");
                let type_meta = matches!(field.name, "apiVersion" | "kind") && ty.is_top_level();
                let no_protobuf = ty.short_name == "version.Info" || type_meta;
                assert_eq!(field.tags.is_empty(), no_protobuf, "{at}: tags");
                if field.list_type.is_some()
                    && !matches!(field.ty.element, Element::Bytes | Element::Verbs)
                {
                    assert_eq!(field.ty.container, Container::List, "{at}");
                }
                let keys = field.list_keys.iter().chain(&field.patch.key);
                for key in keys {
                    let item = field
                        .ty
                        .message()
                        .unwrap_or_else(|| panic!("{at}: items with keys"));
                    assert!(item.field(key).is_some(), "{at}: key {key}");
                }
            }
        }
    }

    #[test]
    fn every_description_is_of_something() {
        for name in build::descriptions().keys() {
            let known = type_named(name).is_some()
                || name.rsplit_once('.').is_some_and(|(owner, field)| {
                    type_named(owner).is_some_and(|t| t.field(field).is_some())
                        || owner == "*" && all().iter().any(|t| t.field(field).is_some())
                });
            assert!(known, "{name} does not exist");
        }
    }

    #[test]
    fn finds_types_by_kind_and_name() {
        let pod = type_of("", "v1", "Pod").unwrap();
        assert_eq!(pod.name, "io.k8s.api.core.v1.Pod");
        assert_eq!(
            type_of_api_version("apps/v1", "Deployment")
                .unwrap()
                .short_name,
            "apps.Deployment"
        );
        assert_eq!(
            type_of("apps", "v1", "DeleteOptions").unwrap().short_name,
            "meta.DeleteOptions"
        );
        assert!(type_of("apps", "v1", "Pod").is_none());
        assert_eq!(
            type_named("core.PodList")
                .unwrap()
                .list_item()
                .unwrap()
                .short_name,
            "core.Pod"
        );
    }

    #[test]
    fn knows_the_facts_of_fields() {
        let spec = type_named("core.PodSpec").unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!(
            containers.patch,
            Patch {
                merge: true,
                key: Some("name"),
                ..Patch::default()
            }
        );
        assert_eq!(containers.list_keys, ["name"]);
        assert!(containers.required && !containers.omit_empty);
        assert!(spec.field("hostNetwork").unwrap().omit_empty);
        assert!(
            !spec
                .field("terminationGracePeriodSeconds")
                .unwrap()
                .omit_empty
        );
        assert_eq!(spec.field("restartPolicy").unwrap().enumeration.len(), 3);
        let volume = type_named("core.Volume").unwrap();
        assert_eq!(volume.field("emptyDir").unwrap().tags, [2, 2]);
        let ephemeral = type_named("core.EphemeralContainer").unwrap();
        assert_eq!(ephemeral.field("image").unwrap().tags, [1, 2]);
        let port = type_named("core.ContainerPort").unwrap();
        assert_eq!(port.field("protocol").unwrap().default, Some("TCP".into()));
    }
}
