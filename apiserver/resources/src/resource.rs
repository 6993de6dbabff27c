//! What a built-in kind is: one declarative [`Resource`] value. Discovery, routes, OpenAPI, storage keys, tables, RBAC
//! names and validation are all derived from these values, so adding a kind is adding an entry. Rules that data cannot
//! express are function pointers (`defaults`, `on_create`, `check`, ...) whose neutral bodies stand in [`BASE`].
//!
//! Architecture invariant: everything here is pure. There is no clock, no randomness and no I/O; time comes in as an
//! argument and uid, creationTimestamp and resourceVersion are the caller's to set.

use std::borrow::Cow;
use std::sync::Arc;

use schema::Object;
use schema::field::ErrorList;
use schema::structural::Schema;
use serde_json::Value;

use crate::builtin::SCALE;
use crate::custom::{self, Custom};
use crate::field_selector::{self, FieldForm};
use crate::{gates, meta, scale, table, validate};

/// Text of an entry: of the program, or that of a definition that came at run time.
pub type Text = Cow<'static, str>;

/// Verbs of an ordinary stored resource.
pub const STANDARD_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
/// What a write of the status alone does not change.
const STATUS_ONLY: &[&[&str]] = &[
    &["spec"],
    &["metadata", "labels"],
    &["metadata", "annotations"],
    &["metadata", "finalizers"],
    &["metadata", "ownerReferences"],
];
/// Verbs of a status-like subresource.
pub const GET_PATCH_UPDATE: &[&str] = &["get", "patch", "update"];
/// Verb of a review or of an action subresource.
pub const CREATE_ONLY: &[&str] = &["create"];

/// A subresource as discovery lists it. Empty `kind`, `group` and `version` mean those of the parent.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    /// Path segment after the object's name.
    pub name: &'static str,
    /// Kind that the subresource reads or writes.
    pub kind: &'static str,
    /// Group of that kind; empty together with `version` for the parent's.
    pub group: &'static str,
    /// Version of that kind; empty for the parent's.
    pub version: &'static str,
    /// Verbs in discovery order.
    pub verbs: &'static [&'static str],
}

/// Where objects of a kind live.
#[derive(Clone, Copy)]
pub enum Storage {
    /// Under the kind's own plural, in its own shape.
    Own,
    /// Under the key and in the shape of another resource; converted on the way in and out.
    Shared(&'static Shared),
    /// Answered by the server, never stored.
    Virtual,
}

/// A second API shape of objects that are stored in another one.
pub struct Shared {
    /// Group of the resource that owns the stored shape.
    pub group: &'static str,
    /// Version of the stored shape.
    pub version: &'static str,
    /// Plural of the stored resource.
    pub plural: &'static str,
    /// Rewrites an object of this shape into the stored shape, apiVersion included.
    pub to_storage: fn(&mut Object),
    /// Rewrites a stored object into this shape, apiVersion included.
    pub from_storage: fn(&mut Object),
}

/// Where the scale subresource finds its three facts; paths are fields joined by dots.
#[derive(Clone, Debug)]
pub struct Scale {
    /// Path of the desired count.
    pub spec_replicas: Text,
    /// Path of the observed count.
    pub status_replicas: Text,
    /// Path of the selector; empty where there is none.
    pub selector: Text,
    /// What stands there.
    pub selector_form: SelectorForm,
}

impl Scale {
    /// The fields on the way to the desired count.
    pub fn spec_fields(&self) -> Vec<&str> {
        scale::fields(&self.spec_replicas)
    }
}

/// How a kind writes down its selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorForm {
    /// A metav1.LabelSelector.
    Selector,
    /// A plain label map, as in a ReplicationController.
    Map,
    /// The text of a selector, as in custom resources.
    Text,
}

/// A column of `kubectl get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<T = Text> {
    /// Heading; kubectl shows it in capitals.
    pub name: T,
    /// OpenAPI type of the cells.
    pub r#type: T,
    /// OpenAPI format; "name" marks the column that names the object.
    pub format: T,
    /// One sentence for `kubectl explain`-like users.
    pub description: T,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
}

impl Column<&'static str> {
    /// The column as resources of any origin have it.
    pub(crate) fn of_text(&self) -> Column {
        Column {
            name: self.name.into(),
            r#type: self.r#type.into(),
            format: self.format.into(),
            description: self.description.into(),
            priority: self.priority,
        }
    }
}

/// A kind at one group and version.
#[derive(Clone)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Text,
    /// Version in the group.
    pub version: Text,
    /// Kind, in CamelCase.
    pub kind: Text,
    /// Kind of a list of these objects.
    pub list_kind: Text,
    /// Lower-case plural used in paths.
    pub plural: Text,
    /// Lower-case singular, as discovery's singularName.
    pub singular: Text,
    /// Abbreviations that kubectl accepts.
    pub short_names: Vec<Text>,
    /// Groups of resources such as "all".
    pub categories: Vec<Text>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs in discovery order.
    pub verbs: &'static [&'static str],
    /// Subresources in discovery order.
    pub subresources: &'static [Subresource],
    /// Where objects live.
    pub storage: Storage,
    /// Scale mapping, for kinds with that subresource.
    pub scale: Option<Scale>,
    /// None: objects have no generation. Some(fields): generation is 1 on create and goes up when one of these
    /// top-level fields changes.
    pub generation: Option<&'static [&'static str]>,
    /// Field selectors besides metadata.name and metadata.namespace.
    pub field_selectors: Vec<Arc<str>>,
    /// Whether an update without resourceVersion is accepted.
    pub unconditional_update: bool,
    /// Whether PUT creates a missing object.
    pub create_on_update: bool,
    /// Whether the kind supports deletion with a grace period (pods only).
    pub graceful: bool,
    /// Columns of a Table.
    pub columns: Vec<Column>,
    /// Cells of one row; as many as `columns`. Second argument: now, unix seconds.
    pub cells: fn(&Object, i64) -> Vec<Value>,
    /// Kubernetes defaulting; idempotent.
    pub defaults: fn(&mut Object),
    /// What a create does besides the generic rules; the usual body drops status.
    pub on_create: fn(&mut Object),
    /// What follows from another generated name, after `on_create`; second argument: the name before.
    pub on_rename: fn(&mut Object, &str),
    /// What an update (new, old) does besides the generic rules.
    pub on_update: fn(&mut Object, &Object),
    /// What an update through a subresource (name, new, old) does besides the generic rules.
    pub on_subresource_update: fn(&str, &mut Object, &Object),
    /// Times that an update through a subresource (new, old, now in RFC 3339) leaves to the server.
    pub stamp: Option<fn(&mut Object, &Object, &str)>,
    /// Times that a create (no old object) or an update of the object itself (new, old, now in RFC 3339) leaves to the server.
    pub times: Option<fn(&mut Object, Option<&Object>, &str)>,
    /// Rule for metadata.name; messages when broken. Second argument: the name is a generateName prefix.
    pub name_rule: fn(&str, bool) -> Vec<String>,
    /// Validation of the kind's own fields.
    pub check: fn(&Object, &mut ErrorList),
    /// Extra validation of an update (new, old); runs after `check` on the new object.
    pub check_update: fn(&Object, &Object, &mut ErrorList),
    /// Extra validation of an update through a subresource (name, new, old).
    pub check_subresource_update: fn(&str, &Object, &Object, &mut ErrorList),
    /// Texts for `Warning` headers.
    pub advise: fn(&Object) -> Vec<String>,
    /// Where the kind came at run time: the version of the definition, whose schema rules then.
    pub custom: Option<Custom>,
}

impl Resource {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone().into_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`: how error messages name the resource.
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone().into_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The kind that a subresource reads or writes.
    pub fn kind_of<'a>(&'a self, subresource: &'a Subresource) -> &'a str {
        match subresource.kind {
            "" => &self.kind,
            kind => kind,
        }
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources
            .iter()
            .find(|subresource| subresource.name == name)
    }

    /// Whether the kind has a status subresource, so that writes to the main resource leave status alone.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    /// Whether the verb is served on the main resource.
    pub fn allows(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// Whether objects are never stored.
    pub fn is_virtual(&self) -> bool {
        matches!(self.storage, Storage::Virtual)
    }

    /// What whoever uses this version of a custom resource is warned of, where it is deprecated.
    pub fn deprecation(&self) -> Option<&str> {
        self.custom.as_ref()?.deprecation()
    }

    /// What describes objects of this kind.
    pub fn schema(&self) -> Schema<'_> {
        match &self.custom {
            Some(custom) => custom.schema().into(),
            None => schema::type_of(&self.group, &self.version, &self.kind).into(),
        }
    }

    /// Kubernetes defaulting.
    pub fn default(&self, object: &mut Object) {
        if let Some(custom) = &self.custom {
            custom.schema().default(object.value_mut());
        }
        (self.defaults)(object);
    }

    /// Whether [`Resource::default`] may change anything.
    pub fn has_defaults(&self) -> bool {
        // Where two bodies of nothing have two addresses, the answer costs a copy of the object and is not wrong.
        let base = crate::builtin::no_defaults as fn(&mut Object);
        self.custom.is_some() || !std::ptr::fn_addr_eq(self.defaults, base)
    }

    /// Drops what a client may not set on create, and sets the first generation. Name, namespace and uid must be set
    /// before, since a Job puts its own into its selector.
    pub fn prepare_create(&self, object: &mut Object) {
        match self.generation {
            Some(_) => object.set_generation(1),
            None => {
                object.metadata_mut().remove("generation");
            }
        }
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            object.metadata_mut().remove(field);
        }
        self.drop_disabled(object, None);
        (self.on_create)(object);
        if self.custom.is_some() {
            if self.has_status() {
                object.remove(&["status"]);
            }
        } else if self.has_status() {
            object.set_default(&["status"], Value::Object(serde_json::Map::new()));
        }
    }

    /// Gives a prepared object that is not stored yet another name, because the one that was generated for it is taken.
    pub fn rename(&self, object: &mut Object, name: &str) {
        let before = object.name().to_owned();
        object.set_name(name);
        (self.on_rename)(object, &before);
    }

    /// Keeps status and generation from the old object and bumps generation when the intent changed.
    pub fn prepare_update(&self, new: &mut Object, old: &Object) {
        if self.has_status() {
            copy_field(new, old, "status");
        }
        self.drop_disabled(new, Some(old));
        (self.on_update)(new, old);
        meta::carry_over(new, old);
        self.carry_generation(new, old);
    }

    fn drop_disabled(&self, new: &mut Object, old: Option<&Object>) {
        if self.custom.is_none() {
            gates::drop_disabled(&self.group, &self.kind, new, old);
        }
    }

    /// An update through the status subresource: everything but status and the client-owned metadata stays.
    pub fn prepare_status_update(&self, new: &mut Object, old: &Object) {
        self.prepare_subresource_update("status", new, old);
    }

    /// An update through a subresource that carries the parent's kind (status, approval, finalize, resize,
    /// ephemeralcontainers): what belongs to other doors is taken from the old object.
    pub fn prepare_subresource_update(&self, subresource: &str, new: &mut Object, old: &Object) {
        if subresource == "status" {
            for name in changed_but_status(new, old) {
                copy_field(new, old, &name);
            }
        } else if self.has_status() && subresource != "approval" {
            // An approval is a condition in status: the kind's own rule says what else of it stays.
            copy_field(new, old, "status");
        }
        match self.custom {
            Some(_) => custom::keep_all_but_status(new, old),
            None => (self.on_subresource_update)(subresource, new, old),
        }
        meta::carry_over(new, old);
        self.carry_generation(new, old);
    }

    /// Fills in the times that an update through a subresource leaves to the server; `now` is in seconds since 1970.
    pub fn stamp_subresource_update(&self, new: &mut Object, old: &Object, now: i64) {
        if let Some(stamp) = self.stamp {
            stamp(new, old, &schema::time::now_rfc3339(now));
        }
    }

    /// Fills in the times that a create (`old` is None) or an update of the object itself leaves to the server; `now` is in
    /// seconds since 1970. Goes before [`Resource::prepare_update`]: a time that is kept is no change.
    pub fn stamp_times(&self, new: &mut Object, old: Option<&Object>, now: i64) {
        if let Some(times) = self.times {
            times(new, old, &schema::time::now_rfc3339(now));
        }
    }

    /// Every reason why the object may not be stored.
    pub fn validate(&self, object: &Object) -> ErrorList {
        // Reviews have no name.
        let mut errors = if self.is_virtual() {
            ErrorList::new()
        } else {
            meta::validate(object, self.namespaced, self.name_rule)
        };
        if self.is_strict_about_finalizers() {
            meta::own_finalizers(object, None, &mut errors);
        }
        self.check_fields(object, None, &mut errors);
        errors
    }

    /// Whether Kubernetes looks at the finalizers of this kind as it does at those of pods: not where its validation is that
    /// of the API machinery alone.
    fn is_strict_about_finalizers(&self) -> bool {
        let is_lenient = matches!(
            &*self.group,
            "admissionregistration.k8s.io"
                | "apiextensions.k8s.io"
                | "apiregistration.k8s.io"
                | "coordination.k8s.io"
        );
        self.custom.is_none() && !self.is_virtual() && !is_lenient
    }

    fn check_fields(&self, object: &Object, old: Option<&Object>, errors: &mut ErrorList) {
        match &self.custom {
            Some(custom) => errors.extend(custom.check(self, object, old)),
            None => (self.check)(object, errors),
        }
    }

    /// Every reason why the update may not be stored.
    pub fn validate_update(&self, new: &Object, old: &Object) -> ErrorList {
        self.judge_update(new, old, self.is_judged_alike(new, old))
    }

    /// The same. `is_alike`: the kind's own fields are as wrong as they were, which is no reason.
    pub(crate) fn judge_update(&self, new: &Object, old: &Object, is_alike: bool) -> ErrorList {
        let mut errors = meta::validate_update(new, old);
        if self.is_strict_about_finalizers() {
            meta::own_finalizers(new, Some(old), &mut errors);
        }
        if !is_alike {
            errors.extend(self.new_errors(new, old));
        }
        (self.check_update)(new, old, &mut errors);
        errors
    }

    /// What is wrong with the fields of an object, and was not before.
    fn new_errors(&self, new: &Object, old: &Object) -> ErrorList {
        let mut found = ErrorList::new();
        self.check_fields(new, Some(old), &mut found);
        if !found.is_empty() && self.custom.is_none() {
            // What an older server stored can still be labelled, and lose its finalizers: it is as wrong as it was.
            let mut before = ErrorList::new();
            self.check_fields(old, None, &mut before);
            found.retain(|error| !before.contains(error));
        }
        found
    }

    /// Every reason why an update through a subresource may not be stored.
    pub fn validate_subresource_update(
        &self,
        subresource: &str,
        new: &Object,
        old: &Object,
    ) -> ErrorList {
        let mut errors = meta::validate_update(new, old);
        if self.custom.is_some() {
            self.check_fields(new, Some(old), &mut errors);
        }
        (self.check_subresource_update)(subresource, new, old, &mut errors);
        errors
    }

    /// Texts for `Warning` headers of a create.
    pub fn warnings(&self, object: &Object) -> Vec<String> {
        let mut warnings = match self.custom {
            Some(_) => meta::finalizer_warnings(object, None),
            None => validate::warnings::of_creation(object),
        };
        warnings.extend((self.advise)(object));
        warnings
    }

    /// The same of an update: also what rules say of parts that did not change, which is no reason to refuse it.
    pub fn update_warnings(&self, new: &Object, old: &Object) -> Vec<String> {
        let mut warnings = match (&*self.group, &*self.kind) {
            // Agents change pods all the time, and nobody reads what they are told.
            ("", "Pod") => Vec::new(),
            ("apps" | "batch", _) | ("", "ReplicationController" | "PodTemplate")
                if new.generation() == old.generation() =>
            {
                Vec::new()
            }
            _ => (self.advise)(new),
        };
        if self.custom.is_some() {
            warnings.extend(meta::finalizer_warnings(new, Some(old)));
        }
        warnings.extend(self.rule_warnings(new, old));
        warnings
    }

    /// What rules say of parts that did not change, which is told of an update that is refused, too.
    pub fn rule_warnings(&self, new: &Object, old: &Object) -> Vec<String> {
        let custom = self.custom.as_ref();
        custom.map_or_else(Vec::new, |custom| custom.judge(new, Some(old)).warnings)
    }

    /// Whether a field selector may name this field.
    pub fn selects_by(&self, name: &str) -> bool {
        name == "metadata.name"
            || (name == "metadata.namespace" && self.namespaced)
            || self.field_selectors.iter().any(|field| **field == *name)
    }

    /// The value that a field selector compares; None for fields that the kind does not offer.
    pub fn field(&self, object: &Object, name: &str) -> Option<String> {
        self.selects_by(name)
            .then(|| self.offered_field(object, name).into_owned())
    }

    /// The same of a field that the kind offers; absent is empty.
    pub fn offered_field<'o>(&self, object: &'o Object, name: &str) -> Cow<'o, str> {
        field_selector::value(self, object, name)
    }

    /// Where the values of all selectable fields of a built-in kind come from, as paths whose names are joined by dots:
    /// with nothing else in an object, [`Resource::field`] answers the same.
    pub fn field_paths(&self) -> impl Iterator<Item = &str> {
        let names = self.field_selectors.iter();
        names.flat_map(|name| field_selector::reads(&self.kind, name))
    }

    /// How the value of a selectable field follows from those at its paths; none where that takes more to say, and for custom
    /// kinds.
    pub fn field_form(&self, name: &str) -> Option<FieldForm> {
        match self.custom {
            Some(_) => None,
            None => field_selector::form(&self.kind, name),
        }
    }

    /// The Scale object of an object; None for kinds without scale.
    pub fn scale_of(&self, object: &Object) -> Option<Value> {
        self.scale.as_ref().map(|paths| scale::read(paths, object))
    }

    /// Writes spec.replicas of a Scale into the object. False when the kind has no scale.
    pub fn apply_scale(&self, object: &mut Object, replicas: i64) -> bool {
        match &self.scale {
            Some(paths) => {
                object.set(&paths.spec_fields(), Value::from(replicas));
                true
            }
            None => false,
        }
    }

    /// The entry for Scales of this kind: what a Table of them shows, which is the same for custom kinds.
    pub fn as_scale(&self) -> Resource {
        Resource {
            group: SCALE.group.into(),
            version: SCALE.version.into(),
            kind: SCALE.kind.into(),
            columns: table::workload::SCALE.iter().map(Column::of_text).collect(),
            cells: table::workload::scale,
            // Its cells are not those of the custom resource under it.
            custom: None,
            ..self.clone()
        }
    }

    /// The fields that a write through this door (empty for the object itself) does not change, whatever it says of
    /// them: nobody comes to own them there.
    pub fn reset_fields(&self, subresource: &str) -> &'static [&'static [&'static str]] {
        match (subresource, &*self.kind) {
            ("status", _) if self.custom.is_some() => STATUS_ONLY,
            (_, _) if self.custom.is_some() && self.has_status() => &[&["status"]],
            (_, _) if self.custom.is_some() => &[],
            ("status", "Deployment") => &[&["spec"], &["metadata", "labels"]],
            ("status", "Pod") => &[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ],
            ("status", "CertificateSigningRequest") => &[&["spec"], &["status", "conditions"]],
            ("approval", _) => &[&["spec"], &["status", "certificate"]],
            (
                "status",
                "APIService"
                | "CustomResourceDefinition"
                | "ResourceClaim"
                | "ValidatingAdmissionPolicy"
                | "VolumeAttachment",
            ) => STATUS_ONLY,
            ("status", _) => &[&["spec"]],
            _ if self.has_status() => &[&["status"]],
            _ => &[],
        }
    }

    fn carry_generation(&self, new: &mut Object, old: &Object) {
        match self.generation {
            Some(fields) => {
                let changed = match &self.custom {
                    Some(_) => custom::is_changed(self, new, old),
                    None => fields
                        .iter()
                        .any(|field| !same(new.get(&[field]), old.get(&[field]))),
                };
                let generation = old.generation().max(1);
                new.set_generation(if changed {
                    generation.saturating_add(1)
                } else {
                    generation
                });
            }
            None => match old.generation() {
                0 => {
                    new.metadata_mut().remove("generation");
                }
                generation => new.set_generation(generation),
            },
        }
    }
}

/// Equality that takes an absent field, null and an empty object or list for the same.
pub(crate) fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    fn empty(value: Option<&Value>) -> bool {
        match value {
            None | Some(Value::Null) => true,
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::Array(list)) => list.is_empty(),
            _ => false,
        }
    }
    a == b || (empty(a) && empty(b))
}

/// Makes a top-level field of `new` what it is in `old`, absence included.
pub(crate) fn copy_field(new: &mut Object, old: &Object, name: &str) {
    let before = old.get(&[name]);
    if new.get(&[name]) == before {
        return;
    }
    match before.cloned() {
        Some(before) => new.set(&[name], before),
        None => {
            new.remove(&[name]);
        }
    }
}

/// The fields of two objects that an update of the status may not change; none where they are all the same, as nearly always.
fn changed_but_status(new: &Object, old: &Object) -> Vec<String> {
    fn fields(object: &Object) -> impl Iterator<Item = (&String, &Value)> {
        let fields = object.value().as_object().into_iter().flatten();
        let is_kept = |name: &str| !matches!(name, "apiVersion" | "kind" | "metadata" | "status");
        fields.filter(move |(name, _)| is_kept(name))
    }
    if fields(new).eq(fields(old)) {
        return Vec::new();
    }
    let names = fields(new).chain(fields(old));
    names.map(|(name, _)| name.clone()).collect()
}
