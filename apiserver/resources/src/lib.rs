//! The list of built-in kinds and the pure rules of each: defaults, preparation, validation, tables, field selectors.
//!
//! One entry a kind in `groups/<group>.rs`; [`ALL`] is the list, everything else asks it. The API server is generic over
//! it and knows no kind by name except where a subresource is an action (binding, eviction, log, exec).

mod builtin;
mod handle;
mod resource;

pub mod bootstrap;
pub mod meta;
pub mod quota;

mod convert;
mod defaults;
mod field_selector;
mod groups;
mod look;
mod pod;
mod scale;
mod table;
mod validate;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod reference;

use std::sync::LazyLock;

pub use handle::Handle;
pub use pod::qos_class;
pub use resource::{
    CREATE_ONLY, Column, GET_PATCH_UPDATE, Resource, STANDARD_VERBS, Scale, SelectorForm, Shared,
    Storage, Subresource, Text,
};
use schema::Object;
use serde_json::Value;
pub use table::human_duration;

/// Every built-in kind, in discovery order.
pub static ALL: LazyLock<Vec<Resource>> = LazyLock::new(|| {
    groups::LISTS
        .iter()
        .flat_map(|list| list.iter().map(Resource::from))
        .collect()
});

/// The resource served at `/apis/<group>/<version>/<plural>`.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    ALL.iter()
        .find(|r| r.plural == plural && r.version == version && r.group == group)
}

/// The resource of a kind.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    ALL.iter()
        .find(|r| r.kind == kind && r.version == version && r.group == group)
}

/// A group and its versions, preferred first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Group name; empty for the core group.
    pub name: &'static str,
    /// Versions in order of preference.
    pub versions: Vec<&'static str>,
}

/// All groups in discovery order, the core group first.
pub fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for resource in ALL.iter() {
        let at = match groups.iter().position(|group| group.name == resource.group) {
            Some(at) => at,
            None => {
                groups.push(Group {
                    name: &resource.group,
                    versions: Vec::new(),
                });
                groups.len() - 1
            }
        };
        if !groups[at].versions.contains(&&*resource.version) {
            groups[at].versions.push(&resource.version);
        }
    }
    groups
}

/// The resource in whose shape and under whose key objects are stored: itself, except for shared kinds.
pub fn storage_resource(resource: &Resource) -> &Resource {
    match resource.storage {
        Storage::Shared(shared) => {
            find(shared.group, shared.version, shared.plural).unwrap_or(resource)
        }
        Storage::Own | Storage::Virtual => resource,
    }
}

/// Every key of a resource starts with this; it ends with a slash.
pub fn storage_prefix(resource: &Resource) -> String {
    let plural = match resource.storage {
        Storage::Shared(shared) => shared.plural,
        Storage::Own | Storage::Virtual => &resource.plural,
    };
    format!("/registry/{plural}/")
}

/// Key of one object. The namespace is ignored for cluster-scoped kinds.
pub fn storage_key(resource: &Resource, namespace: &str, name: &str) -> String {
    let prefix = storage_prefix(resource);
    if resource.namespaced {
        format!("{prefix}{namespace}/{name}")
    } else {
        format!("{prefix}{name}")
    }
}

/// Cells of one row of a Table. `now` in unix seconds.
pub fn table(resource: &Resource, object: &Object, now: i64) -> Vec<Value> {
    (resource.cells)(object, now)
}
