//! The declarative form of the built-in kinds: constant values, from which [`Resource`]s are made once.

use schema::Object;
use schema::field::ErrorList;
use serde_json::Value;

use crate::resource::{
    CREATE_ONLY, Column, GET_PATCH_UPDATE, Resource, STANDARD_VERBS, Scale, Storage, Subresource,
};
use crate::{defaults, meta, table};

/// A built-in kind at one group and version.
pub(crate) struct BuiltIn {
    /// API group; empty for the core group.
    pub(crate) group: &'static str,
    /// Version in the group.
    pub(crate) version: &'static str,
    /// Kind, in CamelCase.
    pub(crate) kind: &'static str,
    /// Lower-case plural used in paths.
    pub(crate) plural: &'static str,
    /// Abbreviations that kubectl accepts.
    pub(crate) short_names: &'static [&'static str],
    /// Groups of resources such as "all".
    pub(crate) categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub(crate) namespaced: bool,
    /// Verbs in discovery order.
    pub(crate) verbs: &'static [&'static str],
    /// Subresources in discovery order.
    pub(crate) subresources: &'static [Subresource],
    /// Where objects live.
    pub(crate) storage: Storage,
    /// Scale mapping, for kinds with that subresource.
    pub(crate) scale: Option<Scale>,
    /// None: objects have no generation. Some(fields): generation is 1 on create and goes up when one of these
    /// top-level fields changes.
    pub(crate) generation: Option<&'static [&'static str]>,
    /// Field selectors besides metadata.name and metadata.namespace.
    pub(crate) field_selectors: &'static [&'static str],
    /// Whether an update without resourceVersion is accepted.
    pub(crate) unconditional_update: bool,
    /// Whether PUT creates a missing object.
    pub(crate) create_on_update: bool,
    /// Whether the kind supports deletion with a grace period (pods only).
    pub(crate) graceful: bool,
    /// Columns of a Table.
    pub(crate) columns: &'static [Column<&'static str>],
    /// Cells of one row; as many as `columns`. Second argument: now, unix seconds.
    pub(crate) cells: fn(&Object, i64) -> Vec<Value>,
    /// Kubernetes defaulting; idempotent.
    pub(crate) defaults: fn(&mut Object),
    /// What a create does besides the generic rules; the usual body drops status.
    pub(crate) on_create: fn(&mut Object),
    /// What follows from another generated name, after `on_create`; second argument: the name before.
    pub(crate) on_rename: fn(&mut Object, &str),
    /// What an update (new, old) does besides the generic rules.
    pub(crate) on_update: fn(&mut Object, &Object),
    /// What an update through a subresource (name, new, old) does besides the generic rules.
    pub(crate) on_subresource_update: fn(&str, &mut Object, &Object),
    /// Times that an update through a subresource leaves to the server (new, old, now in RFC 3339).
    pub(crate) stamp: Option<fn(&mut Object, &Object, &str)>,
    /// Times that a create (no old object) or an update of the object itself leaves to the server (new, old, now in RFC 3339).
    pub(crate) times: Option<fn(&mut Object, Option<&Object>, &str)>,
    /// Rule for metadata.name; messages when broken. Second argument: the name is a generateName prefix.
    pub(crate) name_rule: fn(&str, bool) -> Vec<String>,
    /// Validation of the kind's own fields.
    pub(crate) check: fn(&Object, &mut ErrorList),
    /// Extra validation of an update (new, old); runs after `check` on the new object.
    pub(crate) check_update: fn(&Object, &Object, &mut ErrorList),
    /// Extra validation of an update through a subresource (name, new, old).
    pub(crate) check_subresource_update: fn(&str, &Object, &Object, &mut ErrorList),
    /// Texts for `Warning` headers.
    pub(crate) advise: fn(&Object) -> Vec<String>,
}

/// Of kinds whose fields have none. It is known by its address, so there is to be one of it.
#[inline(never)]
pub(crate) fn no_defaults(_: &mut Object) {}

/// The neutral entry of a namespaced kind.
pub(crate) const NAMESPACED: BuiltIn = BuiltIn {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    verbs: STANDARD_VERBS,
    subresources: &[],
    storage: Storage::Own,
    scale: None,
    generation: None,
    field_selectors: &[],
    unconditional_update: true,
    create_on_update: false,
    graceful: false,
    columns: table::NAME_CREATED,
    cells: table::name_created,
    defaults: no_defaults,
    on_create: defaults::prepare::drop_status,
    on_rename: |_, _| {},
    on_update: |_, _| {},
    on_subresource_update: |_, _, _| {},
    stamp: None,
    times: None,
    name_rule: meta::subdomain,
    check: |_, _| {},
    check_update: |_, _, _| {},
    check_subresource_update: |_, _, _, _| {},
    advise: |_| Vec::new(),
};

/// The neutral entry of a cluster-scoped kind.
pub(crate) const CLUSTER: BuiltIn = BuiltIn {
    namespaced: false,
    ..NAMESPACED
};

/// The neutral entry of a review: created, answered, forgotten.
pub(crate) const REVIEW: BuiltIn = BuiltIn {
    namespaced: false,
    verbs: CREATE_ONLY,
    storage: Storage::Virtual,
    ..NAMESPACED
};

/// `status` with get, patch and update for a kind.
pub(crate) const fn status(kind: &'static str) -> Subresource {
    Subresource {
        name: "status",
        kind,
        group: "",
        version: "",
        verbs: GET_PATCH_UPDATE,
    }
}

/// `scale` as autoscaling/v1 Scale.
pub(crate) const SCALE: Subresource = Subresource {
    name: "scale",
    kind: "Scale",
    group: "autoscaling",
    version: "v1",
    verbs: GET_PATCH_UPDATE,
};

impl From<&BuiltIn> for Resource {
    fn from(entry: &BuiltIn) -> Resource {
        Resource {
            group: entry.group.into(),
            version: entry.version.into(),
            kind: entry.kind.into(),
            list_kind: format!("{}List", entry.kind).into(),
            plural: entry.plural.into(),
            singular: entry.kind.to_lowercase().into(),
            short_names: entry
                .short_names
                .iter()
                .map(|name| (*name).into())
                .collect(),
            categories: entry.categories.iter().map(|name| (*name).into()).collect(),
            namespaced: entry.namespaced,
            verbs: entry.verbs,
            subresources: entry.subresources,
            storage: entry.storage,
            scale: entry.scale.clone(),
            generation: entry.generation,
            field_selectors: entry
                .field_selectors
                .iter()
                .map(|name| (*name).into())
                .collect(),
            unconditional_update: entry.unconditional_update,
            create_on_update: entry.create_on_update,
            graceful: entry.graceful,
            columns: entry.columns.iter().map(Column::of_text).collect(),
            cells: entry.cells,
            defaults: entry.defaults,
            on_create: entry.on_create,
            on_rename: entry.on_rename,
            on_update: entry.on_update,
            on_subresource_update: entry.on_subresource_update,
            stamp: entry.stamp,
            times: entry.times,
            name_rule: entry.name_rule,
            check: entry.check,
            check_update: entry.check_update,
            check_subresource_update: entry.check_subresource_update,
            advise: entry.advise,
            custom: None,
        }
    }
}
