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

const TYPES: &str = include_str!("../data/types.txt");
const OVERLAY: &str = include_str!("../data/overlay.txt");
const DESCRIPTIONS: &str = include_str!("../data/descriptions.txt");

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
    /// The protobuf message.
    pub(crate) message: Message,
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
        let i = self.fields.binary_search_by(|f| f.name.cmp(name)).ok()?;
        Some(&self.fields[i])
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

/// Feeds what the table is made of into a hash, for those who make documents of it.
pub(crate) fn hash_into(hasher: &mut impl sha2::Digest) {
    for text in [TYPES, OVERLAY, DESCRIPTIONS] {
        hasher.update(text);
    }
}

struct Table {
    types: Vec<Type>,
    by_name: HashMap<&'static str, TypeId>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), TypeId>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Builder::default().build());

/// A type while it is being read: fields in the order of the text, types of fields by name.
struct Draft {
    name: &'static str,
    attributes: Vec<&'static str>,
    fields: Vec<DraftField>,
}

struct DraftField {
    name: &'static str,
    ty: &'static str,
    tags: Vec<u32>,
    attributes: Vec<&'static str>,
    pointer: bool,
    keep: bool,
    absent: bool,
    enumeration: Vec<&'static str>,
}

#[derive(Default)]
struct Builder {
    packages: HashMap<&'static str, &'static str>,
    drafts: Vec<Draft>,
    by_name: HashMap<&'static str, TypeId>,
}

impl Builder {
    fn build(mut self) -> Table {
        self.read(TYPES);
        self.read(OVERLAY);
        let descriptions = descriptions();
        let types: Vec<Type> = (0..self.drafts.len())
            .map(|i| self.finish(i, &descriptions))
            .collect();
        let mut by_kind = HashMap::new();
        for ty in &types {
            for k in &ty.kinds {
                by_kind.insert((k.group, k.version, k.kind), ty.id);
            }
        }
        let mut by_name = self.by_name;
        for ty in &types {
            // The table lives as long as the program, and so may its full names.
            by_name.insert(Box::leak(ty.name.clone().into_boxed_str()), ty.id);
        }
        Table {
            types,
            by_name,
            by_kind,
        }
    }

    fn read(&mut self, text: &'static str) {
        for line in text.lines() {
            let words: Vec<&'static str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["package", alias, name] => {
                    self.packages.insert(alias, name);
                }
                [name, ty, tag, attributes @ ..] if line.starts_with(' ') => {
                    let draft = self.drafts.last_mut().expect("a field follows a type");
                    draft
                        .fields
                        .push(DraftField::new(name, ty, tag, attributes));
                }
                ["type", name, attributes @ ..] => self.add(name, attributes),
                ["embed", name, outer, "like", other] => self.embed_like(name, outer, other),
                ["embed", name, outer, pairs @ ..] => self.embed(name, outer, pairs),
                ["tag", name, pairs @ ..] => self.embed(name, "", pairs),
                ["pointer", name, fields @ ..] => self.mark(name, fields, |f| f.pointer = true),
                ["keep", name, fields @ ..] => self.mark(name, fields, |f| f.keep = true),
                ["absent", name, fields @ ..] => self.mark(name, fields, |f| f.absent = true),
                ["enum", path, values @ ..] => {
                    let (name, field) = path.rsplit_once('.').expect("enum type.field");
                    self.mark(name, &[field], |f| f.enumeration = values.to_vec());
                }
                [name, attributes @ ..] => self.add(name, attributes),
            }
        }
    }

    fn add(&mut self, name: &'static str, attributes: &[&'static str]) {
        let id = u16::try_from(self.drafts.len()).expect("fewer than 65536 types");
        assert!(
            self.by_name.insert(name, TypeId(id)).is_none(),
            "{name} twice"
        );
        self.drafts.push(Draft {
            name,
            attributes: attributes.to_vec(),
            fields: Vec::new(),
        });
    }

    fn draft(&mut self, name: &str) -> &mut Draft {
        let id = self.by_name.get(name);
        let id = id.unwrap_or_else(|| panic!("the type {name} exists"));
        &mut self.drafts[usize::from(id.0)]
    }

    fn mark(&mut self, name: &str, fields: &[&str], change: impl Fn(&mut DraftField)) {
        let draft = self.draft(name);
        for field in fields {
            let found = draft.fields.iter_mut().find(|f| f.name == *field);
            change(found.unwrap_or_else(|| panic!("{name} has the field {field}")));
        }
    }

    fn embed(&mut self, name: &str, outer: &str, pairs: &[&'static str]) {
        for pair in pairs {
            let (field, tag) = pair.split_once('=').expect("field=tag");
            let tags = tag_path(outer).chain(tag_path(tag)).collect::<Vec<_>>();
            self.mark(name, &[field], |f| f.tags = tags.clone());
        }
    }

    fn embed_like(&mut self, name: &str, outer: &str, other: &str) {
        let pattern: HashMap<&str, Vec<u32>> = self
            .draft(other)
            .fields
            .iter()
            .map(|f| (f.name, f.tags.clone()))
            .collect();
        for field in &mut self.draft(name).fields {
            if let (true, Some(tags)) = (field.tags.is_empty(), pattern.get(field.name)) {
                field.tags = tag_path(outer).chain(tags.iter().copied()).collect();
            }
        }
    }

    fn finish(&self, index: usize, descriptions: &HashMap<&str, &'static str>) -> Type {
        let draft = &self.drafts[index];
        let (alias, local) = draft.name.split_once('.').expect("types are package.Name");
        let package = self.packages.get(alias).expect("the package is declared");
        let mut fields: Vec<Field> = draft
            .fields
            .iter()
            .map(|f| self.finish_field(draft.name, f, descriptions))
            .collect();
        fields.sort_by_key(|f| f.name);
        let mut message = Message::default();
        for (i, field) in fields
            .iter()
            .enumerate()
            .filter(|(_, f)| !f.tags.is_empty())
        {
            message.insert(&field.tags, i);
        }
        Type {
            id: TypeId(u16::try_from(index).expect("counted when added")),
            name: format!("{package}.{local}"),
            short_name: draft.name,
            form: form_of(draft.name),
            kinds: kinds_of(&draft.attributes),
            atomic: draft.attributes.contains(&"map=atomic"),
            description: descriptions.get(draft.name).copied().unwrap_or(""),
            fields,
            message,
        }
    }

    fn finish_field(
        &self,
        owner: &str,
        draft: &DraftField,
        descriptions: &HashMap<&str, &'static str>,
    ) -> Field {
        let attribute = |name: &str| {
            let mut all = draft.attributes.iter();
            all.find_map(|a| a.strip_prefix(name)?.strip_prefix('='))
        };
        let required = draft.attributes.contains(&"required");
        let (list_type, list_keys) = match attribute("list") {
            Some("atomic") => (Some(ListType::Atomic), Vec::new()),
            Some("set") => (Some(ListType::Set), Vec::new()),
            Some(map) => {
                let keys = map.strip_prefix("map:").expect("atomic, set or map");
                (Some(ListType::Map), keys.split(',').collect())
            }
            None => (None, Vec::new()),
        };
        let ty = self.field_type(owner, draft);
        let is_message =
            matches!(ty.element, Element::Message(_)) && ty.container == Container::One;
        let own_key = format!("{owner}.{}", draft.name);
        let shared_key = format!("*.{}", draft.name);
        let described = descriptions.get(own_key.as_str()).copied();
        Field {
            name: draft.name,
            ty,
            required,
            omit_empty: draft.absent || !(required || draft.pointer || draft.keep || is_message),
            list_type,
            list_keys,
            map_type: match attribute("map") {
                Some("atomic") => Some(MapType::Atomic),
                Some("granular") => Some(MapType::Granular),
                _ => None,
            },
            patch: attribute("patch").map(patch_of).unwrap_or_default(),
            default: attribute("default")
                .map(|d| serde_json::from_str(d).expect("defaults are JSON")),
            enumeration: draft.enumeration.clone(),
            description: described
                .or_else(|| descriptions.get(shared_key.as_str()).copied())
                .unwrap_or(""),
            tags: draft.tags.clone(),
        }
    }

    fn field_type(&self, owner: &str, draft: &DraftField) -> FieldType {
        let (container, element) = if let Some(rest) = draft.ty.strip_prefix("map:") {
            (Container::Map, rest)
        } else if let Some(rest) = draft.ty.strip_prefix("[]") {
            (Container::List, rest)
        } else {
            (Container::One, draft.ty)
        };
        let is_verbs = owner == "meta.APIResource" && draft.name == "verbs";
        let element = match element {
            "string" if is_verbs => {
                return FieldType {
                    container: Container::One,
                    element: Element::Verbs,
                };
            }
            "string" => Element::String,
            "bool" => Element::Bool,
            "int32" => Element::Int32,
            "int64" => Element::Int64,
            "double" => Element::Double,
            "bytes" => Element::Bytes,
            "[]string" => Element::StringList,
            name => {
                let id = self.by_name.get(name);
                Element::Message(*id.unwrap_or_else(|| panic!("{owner}: no type {name}")))
            }
        };
        FieldType { container, element }
    }
}

impl DraftField {
    fn new(
        name: &'static str,
        ty: &'static str,
        tag: &'static str,
        attributes: &[&'static str],
    ) -> DraftField {
        DraftField {
            name,
            ty,
            tags: tag_path(tag).collect(),
            attributes: attributes.to_vec(),
            pointer: false,
            keep: false,
            absent: false,
            enumeration: Vec::new(),
        }
    }
}

/// `2.1` as numbers; `-` and nothing as none.
fn tag_path(text: &str) -> impl Iterator<Item = u32> {
    text.split('.')
        .filter(|t| !matches!(*t, "" | "-"))
        .map(|t| t.parse().expect("tags are numbers"))
}

fn form_of(name: &str) -> Form {
    match name {
        "meta.Time" => Form::Time,
        "meta.MicroTime" => Form::MicroTime,
        "quantity.Quantity" => Form::Quantity,
        "intstr.IntOrString" => Form::IntOrString,
        "runtime.RawExtension" => Form::RawExtension,
        "meta.FieldsV1" => Form::FieldsV1,
        "apiextensions.JSON" => Form::Json,
        "apiextensions.JSONSchemaPropsOrArray" => Form::SchemaOrArray,
        "apiextensions.JSONSchemaPropsOrBool" => Form::SchemaOrBool,
        "apiextensions.JSONSchemaPropsOrStringArray" => Form::SchemaOrStringArray,
        _ => Form::Object,
    }
}

fn kinds_of(attributes: &[&'static str]) -> Vec<GroupVersionKind> {
    attributes
        .iter()
        .filter_map(|a| a.strip_prefix("kind="))
        .map(|kind| {
            let mut parts = kind.splitn(3, '/');
            let mut next = || parts.next().expect("kinds are group/version/Kind");
            GroupVersionKind {
                group: next(),
                version: next(),
                kind: next(),
            }
        })
        .collect()
}

fn patch_of(text: &'static str) -> Patch {
    let (strategies, key) = match text.split_once(':') {
        Some((strategies, key)) => (strategies, Some(key)),
        None => (text, None),
    };
    let has = |s| strategies.split(',').any(|t| t == s);
    Patch {
        merge: has("merge"),
        retain_keys: has("retainKeys"),
        replace: has("replace"),
        key,
    }
}

/// `name<space>text` lines: a type (`core.Pod`), a field (`core.PodSpec.nodeName`) or a field of
/// any type (`*.metadata`).
fn descriptions() -> HashMap<&'static str, &'static str> {
    DESCRIPTIONS
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once(' '))
        .collect()
}

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
            assert!(
                ty.fields.windows(2).all(|w| w[0].name < w[1].name),
                "{}",
                ty.name
            );
            for field in &ty.fields {
                let at = format!("{}.{}", ty.short_name, field.name);
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
        for name in descriptions().keys() {
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
