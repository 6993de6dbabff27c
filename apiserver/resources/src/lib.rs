//! The list of built-in kinds, those that definitions bring, and the pure rules of each: defaults, preparation,
//! validation, tables, field selectors.
//!
//! One entry a kind in `groups/<group>.rs`; [`ALL`] is the list, everything else asks it. The API server is generic over
//! it and knows no kind by name except where a subresource is an action (binding, eviction, log, exec).

mod alike;
mod around_spec;
mod builtin;
pub mod custom;
pub mod definition;
mod handle;
mod resource;

pub mod bootstrap;
pub mod meta;
pub mod quota;

mod convert;
mod defaults;
mod field_selector;
mod gates;
mod groups;
mod look;
mod pod;
mod priorities;
mod scale;
mod table;
mod validate;

#[cfg(test)]
mod laws;
#[cfg(test)]
mod reference;

use std::cmp::Ordering;
use std::sync::LazyLock;

pub use around_spec::needed_to_bind;
pub use field_selector::FieldForm;
pub use handle::Handle;
pub use pod::qos_class;
pub use priorities::of as priorities;
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
    let wanted = (plural, version, group);
    let found = BY_NAME.binary_search_by(|one| name(one).cmp(&wanted));
    found.ok().map(|at| BY_NAME[at])
}

/// The same kinds in the order of their names: each request looks for one.
static BY_NAME: LazyLock<Vec<&'static Resource>> = LazyLock::new(|| {
    let mut all: Vec<&'static Resource> = ALL.iter().collect();
    all.sort_by(|a, b| name(a).cmp(&name(b)));
    all
});

fn name(resource: &Resource) -> (&str, &str, &str) {
    (&resource.plural, &resource.version, &resource.group)
}

/// The resource of a kind.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    ALL.iter()
        .find(|r| r.kind == kind && r.version == version && r.group == group)
}

/// The group of what pods and nodes use.
pub const METRICS: &str = "metrics.k8s.io";

/// Whether an APIService may give a built-in group to another server. Clusters bring a metrics-server or their own source
/// of figures; without all other groups this server could not do its work.
pub fn may_be_taken_over(group: &str) -> bool {
    group == METRICS
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
    let plural = stored_plural(resource);
    match resource.custom {
        // Groups of definitions have a dot, and plurals of built-in kinds have none.
        Some(_) => format!("/registry/{}/{plural}/", resource.group),
        None => ["/registry/", plural, "/"].concat(),
    }
}

fn stored_plural(resource: &Resource) -> &str {
    match resource.storage {
        Storage::Shared(shared) => shared.plural,
        Storage::Own | Storage::Virtual => &resource.plural,
    }
}

/// Key of one object. The namespace is ignored for cluster-scoped kinds.
pub fn storage_key(resource: &Resource, namespace: &str, name: &str) -> String {
    let (namespace, slash) = match resource.namespaced {
        true => (namespace, "/"),
        false => ("", ""),
    };
    match resource.custom {
        Some(_) => [storage_prefix(resource).as_str(), namespace, slash, name].concat(),
        // Most keys: in one piece, which does not grow.
        None => {
            let plural = stored_plural(resource);
            ["/registry/", plural, "/", namespace, slash, name].concat()
        }
    }
}

/// Cells of one row of a Table. `now` in unix seconds.
pub fn table(resource: &Resource, object: &Object, now: i64) -> Vec<Value> {
    match &resource.custom {
        Some(custom) => custom.cells(object, now),
        None => (resource.cells)(object, now),
    }
}

/// The order of versions: the most stable first, then the newest (`v2`, `v1`, `v2beta1`, `v1alpha3`); other names come
/// last, in the order of their letters.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    fn rank(name: &str) -> Option<(u8, u64, u64)> {
        let rest = name.strip_prefix('v')?;
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        let major = rest[..end].parse().ok()?;
        let (stability, minor) = match &rest[end..] {
            "" => (2, ""),
            other => match other.strip_prefix("beta") {
                Some(minor) => (1, minor),
                None => (0, other.strip_prefix("alpha")?),
            },
        };
        let minor = match (stability, minor) {
            (2, _) => 0,
            (_, minor) => minor.parse().ok()?,
        };
        Some((stability, major, minor))
    }
    match (rank(a), rank(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::compare_versions;

    #[test]
    fn versions_stand_in_the_order_of_kubernetes() {
        let sorted = [
            "v10",
            "v2",
            "v1",
            "v11beta2",
            "v10beta3",
            "v3beta1",
            "v12alpha1",
            "v11alpha2",
            "foo1",
            "foo10",
        ];
        let mut shuffled = sorted;
        shuffled.reverse();
        shuffled.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(shuffled, sorted);
    }
}
