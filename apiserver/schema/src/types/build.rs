//! Reads the texts of `data/` into the table.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{
    Container, Element, Field, FieldType, Form, GroupVersionKind, ListType, MapType, Message,
    Patch, Places, Table, Type, TypeId,
};

const TYPES: &str = include_str!("../../data/types.txt");
const OVERLAY: &str = include_str!("../../data/overlay.txt");
const DESCRIPTIONS: &str = include_str!("../../data/descriptions.txt");

/// The whole table.
pub(super) fn table() -> Table {
    Builder::default().build()
}

/// Feeds what the table is made of into a hash, for those who make documents of it.
pub(crate) fn hash_into(hasher: &mut impl sha2::Digest) {
    for text in [TYPES, OVERLAY, DESCRIPTIONS] {
        hasher.update(text);
    }
}

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
    by_value: bool,
    written: bool,
    default: Option<&'static str>,
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
                ["value", name, fields @ ..] => self.mark(name, fields, |f| f.by_value = true),
                ["written", name, fields @ ..] => self.mark(name, fields, |f| f.written = true),
                ["absent", name, fields @ ..] => self.mark(name, fields, |f| f.absent = true),
                ["default", path, value] => {
                    let (name, field) = path.rsplit_once('.').expect("default type.field");
                    self.mark(name, &[field], |f| f.default = Some(value));
                }
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
            .map(|f| self.finish_field(draft, f, descriptions))
            .collect();
        fields.sort_by_key(|f| f.name);
        let positions = |has: fn(&Field) -> bool| -> Vec<usize> {
            let chosen = fields.iter().enumerate().filter(|(_, field)| has(field));
            chosen.map(|(i, _)| i).collect()
        };
        let implied = positions(|field| field.implied.is_some());
        let unset = positions(|field| field.unset.is_some());
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
            places: Places::of(&fields),
            fields,
            message,
            implied,
            unset,
        }
    }

    fn finish_field(
        &self,
        owner: &Draft,
        draft: &DraftField,
        descriptions: &HashMap<&str, &'static str>,
    ) -> Field {
        let owner_is_kind = !kinds_of(&owner.attributes).is_empty();
        let owner = owner.name;
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
        let is_object = is_message && form_of(draft.ty) == Form::Object;
        let of_kind = owner_is_kind && matches!(draft.name, "metadata" | "spec" | "status");
        let own_key = format!("{owner}.{}", draft.name);
        let shared_key = format!("*.{}", draft.name);
        let unset = draft.written.then(|| match draft.pointer {
            true => Value::Null,
            false => unset(ty, form_of(draft.ty)),
        });
        let never_omitted = !draft.absent && (required || draft.keep);
        let described = descriptions.get(own_key.as_str()).copied();
        Field {
            name: draft.name,
            ty,
            required,
            omit_empty: draft.absent
                || !(required || draft.pointer || draft.keep || draft.written || is_message),
            implied: unset.clone().or_else(|| match is_object {
                _ if draft.pointer => never_omitted.then_some(Value::Null),
                true => (required || of_kind || draft.by_value).then(|| Map::new().into()),
                false => never_omitted.then(|| always_written(ty)).flatten(),
            }),
            unset,
            list_type,
            list_keys,
            map_type: match attribute("map") {
                Some("atomic") => Some(MapType::Atomic),
                Some("granular") => Some(MapType::Granular),
                _ => None,
            },
            patch: attribute("patch").map(patch_of).unwrap_or_default(),
            default: attribute("default")
                .or(draft.default)
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
            "duration" => Element::Duration,
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
            by_value: false,
            written: false,
            default: None,
            enumeration: Vec::new(),
        }
    }
}

/// What Go writes for a field without `omitempty` that nobody has set.
fn always_written(ty: FieldType) -> Option<Value> {
    match (ty.container, ty.element) {
        (Container::List | Container::Map, _) => Some(Value::Null),
        (Container::One, Element::String) => Some("".into()),
        (Container::One, Element::Bytes) => Some(Value::Null),
        (Container::One, Element::Duration) => Some("0s".into()),
        (Container::One, Element::Bool) => Some(false.into()),
        (Container::One, Element::Int32 | Element::Int64) => Some(0.into()),
        (Container::One, _) => None,
    }
}

/// What Go writes for a field that it never omits, where nobody has set it.
fn unset(ty: FieldType, form: Form) -> Value {
    match (ty.container, ty.element, form) {
        (Container::One, Element::Message(_), Form::Object) => Map::new().into(),
        (Container::One, Element::Message(_), Form::Quantity) => "0".into(),
        (Container::One, Element::Message(_), _) => Value::Null,
        _ => always_written(ty).expect("a field with a zero that can be written"),
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
pub(super) fn descriptions() -> HashMap<&'static str, &'static str> {
    DESCRIPTIONS
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split_once(' '))
        .collect()
}
