//! The schemas of types, with Kubernetes' extensions.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Edition, Served, custom};
use crate::types::{
    Container, Element, Field, FieldType, Form, ListType, MapType, Type, TypeId, type_by_id,
    type_named, type_of,
};

/// The types that the operations on resources name, and those that every document has.
pub(super) fn roots(resources: &[&Served<'_>]) -> Vec<&'static Type> {
    let common = [
        "meta.Status",
        "meta.DeleteOptions",
        "meta.Patch",
        "meta.APIResourceList",
        "meta.WatchEvent",
    ];
    let mut found: Vec<&'static Type> = common.iter().filter_map(|n| type_named(n)).collect();
    for resource in resources {
        if resource.custom.is_some() {
            let metadata = ["meta.ObjectMeta", "meta.ListMeta"];
            found.extend(metadata.iter().filter_map(|name| type_named(name)));
        } else {
            let list = format!("{}List", resource.kind);
            found.extend(type_of(resource.group, resource.version, resource.kind));
            found.extend(type_of(resource.group, resource.version, &list));
        }
        for sub in resource.subresources {
            found.extend(subresource_type(resource, sub));
        }
    }
    found
}

/// The name of the schema of a resource.
pub(super) fn name_of(resource: &Served<'_>) -> Option<String> {
    match resource.custom {
        Some(_) => Some(custom::name(resource, resource.kind)),
        None => {
            let ty = type_of(resource.group, resource.version, resource.kind)?;
            Some(ty.name.clone())
        }
    }
}

/// The name of the schema of lists of a resource.
pub(super) fn list_name_of(resource: &Served<'_>) -> Option<String> {
    match resource.custom {
        Some(of_custom) => Some(custom::name(resource, of_custom.list_kind)),
        None => {
            let list = format!("{}List", resource.kind);
            Some(
                type_of(resource.group, resource.version, &list)?
                    .name
                    .clone(),
            )
        }
    }
}

/// The name of the schema of a subresource.
pub(super) fn subresource_name(
    resource: &Served<'_>,
    sub: &super::ServedSubresource<'_>,
) -> Option<String> {
    let own_group = sub.group.is_empty() && sub.version.is_empty();
    if own_group && sub.kind == resource.kind {
        return name_of(resource);
    }
    Some(subresource_type(resource, sub)?.name.clone())
}

fn subresource_type(
    resource: &Served<'_>,
    sub: &super::ServedSubresource<'_>,
) -> Option<&'static Type> {
    if sub.group.is_empty() && sub.version.is_empty() {
        if resource.custom.is_some() {
            return None;
        }
        return type_of(resource.group, resource.version, sub.kind);
    }
    type_of(sub.group, sub.version, sub.kind)
}

/// The schemas of these types, of all that they refer to, and of the custom resources, by name.
pub(super) fn all(
    edition: Edition,
    roots: &[&'static Type],
    resources: &[&Served<'_>],
) -> Map<String, Value> {
    let mut schemas = reachable(edition, roots);
    for resource in resources {
        if let Some(of_custom) = &resource.custom {
            schemas.extend(custom::schemas(edition, resource, of_custom));
        }
    }
    schemas
}

fn reachable(edition: Edition, roots: &[&'static Type]) -> Map<String, Value> {
    let mut seen: BTreeSet<TypeId> = roots.iter().map(|t| t.id).collect();
    let mut todo: Vec<TypeId> = seen.iter().copied().collect();
    let mut schemas = Map::new();
    while let Some(id) = todo.pop() {
        let ty = type_by_id(id);
        schemas.insert(ty.name.clone(), schema(edition, ty));
        for field in &ty.fields {
            if let Element::Message(inner) = field.ty.element
                && seen.insert(inner)
            {
                todo.push(inner);
            }
        }
    }
    schemas
}

fn schema(edition: Edition, ty: &Type) -> Value {
    let mut schema = match ty.form {
        Form::Object | Form::RawExtension | Form::FieldsV1 => object(edition, ty),
        Form::Time | Form::MicroTime => json!({"type": "string", "format": "date-time"}),
        Form::Quantity => match edition {
            Edition::V2 => json!({"type": "string"}),
            Edition::V3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        },
        Form::IntOrString => match edition {
            Edition::V2 => json!({"type": "string", "format": "int-or-string"}),
            Edition::V3 => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
        },
        Form::Json | Form::SchemaOrArray | Form::SchemaOrBool | Form::SchemaOrStringArray => {
            json!({})
        }
    };
    if !ty.description.is_empty() {
        schema["description"] = ty.description.into();
    }
    schema
}

fn object(edition: Edition, ty: &Type) -> Value {
    let mut schema = json!({"type": "object"});
    let properties: Map<String, Value> = ty
        .fields
        .iter()
        .map(|f| (f.name.to_owned(), property(edition, f)))
        .collect();
    if !properties.is_empty() {
        schema["properties"] = properties.into();
    }
    let required: Vec<&str> = ty
        .fields
        .iter()
        .filter(|f| f.required)
        .map(|f| f.name)
        .collect();
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    if ty.atomic {
        schema["x-kubernetes-map-type"] = "atomic".into();
    }
    if ty.is_top_level() {
        let kinds = ty
            .kinds
            .iter()
            .map(|k| json!({"group": k.group, "version": k.version, "kind": k.kind}));
        schema["x-kubernetes-group-version-kind"] = kinds.collect();
    }
    schema
}

pub(super) fn property(edition: Edition, field: &Field) -> Value {
    let mut schema = match field.ty.container {
        Container::One => element(edition, field.ty),
        Container::List => json!({"type": "array", "items": item(edition, field.ty)}),
        Container::Map => {
            json!({"type": "object", "additionalProperties": item(edition, field.ty)})
        }
    };
    let is_reference = schema.get("$ref").is_some();
    // Beside a reference nothing else counts in version 3, hence the wrapping.
    if is_reference && edition == Edition::V3 {
        schema = json!({"allOf": [schema]});
    }
    if !field.description.is_empty() {
        schema["description"] = field.description.into();
    }
    if let Some(default) = default(edition, field) {
        schema["default"] = default.clone();
    }
    if !field.enumeration.is_empty() && edition == Edition::V3 {
        schema["enum"] = field.enumeration.clone().into();
    }
    extensions(field, &mut schema);
    schema
}

/// What a field is where nobody says it. In version 3 that includes the zero of what Go always writes.
fn default(edition: Edition, field: &Field) -> Option<&Value> {
    let of_scalar = |ty: &Type| ty.form != Form::Object;
    let has_zero = edition == Edition::V3 && !field.ty.message().is_some_and(of_scalar);
    let zero = field
        .implied
        .as_ref()
        .filter(|zero| has_zero && !zero.is_null());
    field.default.as_ref().or(zero)
}

fn extensions(field: &Field, schema: &mut Value) {
    if let Some(list_type) = field.list_type {
        schema["x-kubernetes-list-type"] = match list_type {
            ListType::Atomic => "atomic",
            ListType::Set => "set",
            ListType::Map => "map",
        }
        .into();
    }
    if !field.list_keys.is_empty() {
        schema["x-kubernetes-list-map-keys"] = field.list_keys.clone().into();
    }
    if let Some(map_type) = field.map_type {
        schema["x-kubernetes-map-type"] = match map_type {
            MapType::Atomic => "atomic",
            MapType::Granular => "granular",
        }
        .into();
    }
    let patch = field.patch;
    let strategies: Vec<&str> = [
        (patch.merge, "merge"),
        (patch.replace, "replace"),
        (patch.retain_keys, "retainKeys"),
    ]
    .into_iter()
    .filter_map(|(is_set, name)| is_set.then_some(name))
    .collect();
    if !strategies.is_empty() {
        schema["x-kubernetes-patch-strategy"] = strategies.join(",").into();
    }
    if let Some(key) = patch.key {
        schema["x-kubernetes-patch-merge-key"] = key.into();
    }
}

/// An item of a list or map, where Kubernetes names the zero value as default.
fn item(edition: Edition, ty: FieldType) -> Value {
    let schema = element(edition, ty);
    if edition == Edition::V2 {
        return schema;
    }
    match ty.element {
        Element::Message(_) if ty.message().is_some_and(|t| t.form == Form::Object) => {
            json!({"allOf": [schema], "default": {}})
        }
        Element::Message(_) => schema,
        Element::String | Element::Duration => json!({"type": "string", "default": ""}),
        _ => schema,
    }
}

fn element(edition: Edition, ty: FieldType) -> Value {
    match ty.element {
        Element::String | Element::Duration => json!({"type": "string"}),
        Element::Bool => json!({"type": "boolean"}),
        Element::Int32 => json!({"type": "integer", "format": "int32"}),
        Element::Int64 => json!({"type": "integer", "format": "int64"}),
        Element::Double => json!({"type": "number", "format": "double"}),
        Element::Bytes => json!({"type": "string", "format": "byte"}),
        Element::StringList | Element::Verbs => {
            json!({"type": "array", "items": {"type": "string"}})
        }
        Element::Message(id) => json!({"$ref": edition.reference(&type_by_id(id).name)}),
    }
}
