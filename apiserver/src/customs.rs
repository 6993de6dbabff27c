//! The custom resources: which are served, what is cached of them, and who holds which name.
//!
//! All of it follows from the definitions in the store, in the order of their revisions. The objects of a custom resource
//! are cached from the first one on, whether its definition is known or not: so there is no moment between a definition
//! and its cache in which something could be missed. A change of a definition costs what that one definition costs, never
//! a look at the others.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use resources::definition::{self, Sort};
use resources::{Handle, Resource, custom};
use schema::Object;
use serde_json::Value;

use crate::cache::Cache;
use crate::encryption::Opened;
use crate::entry::Entry;

/// What is under `/registry/<group>/<plural>/`, where groups of definitions have a dot: key, value, revision.
pub(crate) type Stored = (String, Opened, i64);

#[derive(Default)]
pub(crate) struct Customs {
    state: RwLock<State>,
    /// Definitions that were read since the start: what a change costs.
    read: AtomicU64,
}

#[derive(Default)]
struct State {
    /// Objects by storage prefix.
    caches: BTreeMap<String, Arc<Cache>>,
    /// Definitions by name.
    kinds: BTreeMap<String, Kind>,
    groups: BTreeMap<String, Group>,
    /// Goes up with every change of what is served.
    changes: u64,
}

#[derive(Default)]
struct Group {
    /// Definitions of the group.
    members: BTreeSet<String>,
    /// Those whose names were refused.
    refused: BTreeSet<String>,
    /// Who holds a name.
    names: BTreeMap<(Sort, String), String>,
    /// `State::changes` at the last change in the group.
    changed: u64,
}

/// One definition as it is served.
struct Kind {
    group: String,
    /// By version, the preferred one first; empty where it is not established.
    resources: Vec<Handle>,
    marks: Marks,
    held: Vec<(Sort, String)>,
    revision: i64,
}

/// A definition that was read.
struct Defined<'e> {
    object: Object,
    entry: &'e Arc<Entry>,
}

impl Defined<'_> {
    fn new(entry: &Arc<Entry>) -> Defined<'_> {
        let object = entry.object();
        Defined { object, entry }
    }

    /// The prefix of its objects.
    fn prefix(&self) -> String {
        let of = |path: &[&str]| self.object.get_str(path).unwrap_or_default();
        let (group, plural) = (of(&["spec", "group"]), of(&["spec", "names", "plural"]));
        format!("{}{group}/{plural}/", crate::world::REGISTRY)
    }
}

/// What a definition is served as from now on.
struct Made {
    marks: Marks,
    resources: Vec<Handle>,
    /// In the place of the one that is there.
    cache: Option<Cache>,
}

/// The prefix of a key of a custom resource.
pub(crate) fn prefix_of(key: &str) -> Option<&str> {
    let rest = key.strip_prefix(crate::world::REGISTRY)?;
    let group = rest.find('/')?;
    let plural = rest[group + 1..].find('/')?;
    rest[..group]
        .contains('.')
        .then(|| &key[..key.len() - rest.len() + group + 1 + plural + 1])
}

/// Group and plural of the custom resource that a key is of.
pub(crate) fn resource_of(key: &str) -> Option<(&str, &str)> {
    let prefix = prefix_of(key)?.strip_prefix(crate::world::REGISTRY)?;
    prefix.trim_end_matches('/').split_once('/')
}

/// By what a change of a definition is judged: hashes of parts of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    /// What objects look like, and how they are selected.
    objects: u64,
    /// How they are shown, that included.
    shown: u64,
    /// Everything that serving depends on.
    served: u64,
}

impl Marks {
    fn of(object: &Object) -> Marks {
        let part = |path: &[&str]| object.get(path).map(Value::to_string).unwrap_or_default();
        let is = |ty: &str| object.condition_status(ty).unwrap_or_default().to_owned();
        let versions = object.get_array(&["spec", "versions"]);
        let versions = versions.into_iter().flatten().map(|version| {
            let of = |key: &str| version.get(key).map(Value::to_string).unwrap_or_default();
            ["name", "served", "storage", "schema", "selectableFields"].map(of)
        });
        let established = is(definition::ESTABLISHED);
        let conversion = part(&["spec", "conversion"]);
        let objects = mark(&(versions.collect::<Vec<_>>(), conversion, established));
        let names = part(&["status", "acceptedNames"]);
        let shown = mark(&(objects, part(&["spec"]), names));
        Marks {
            objects,
            shown,
            served: mark(&(shown, is(definition::TERMINATING))),
        }
    }
}

fn mark(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Customs {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The resource served at `/apis/<group>/<version>/<plural>`.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Handle> {
        let state = self.read();
        let kind = state.kinds.get(&format!("{plural}.{group}"))?;
        let mut versions = kind.resources.iter();
        versions.find(|one| one.version == version).cloned()
    }

    /// What is served now of the definition and version of a custom resource, and the revision of the definition; none
    /// where it is gone, though another of its name may be there.
    pub(crate) fn present(&self, resource: &Resource) -> Option<(Handle, i64)> {
        let definition = &resource.custom.as_ref()?.definition;
        let state = self.read();
        let kind = state.kinds.get(&definition.name)?;
        let mut versions = kind.resources.iter();
        let found = versions.find(|one| {
            let custom = one.custom.as_ref();
            one.version == resource.version
                && custom.is_some_and(|custom| custom.definition.uid == definition.uid)
        })?;
        Some((found.clone(), kind.revision))
    }

    pub(crate) fn cache(&self, resource: &Resource) -> Option<Arc<Cache>> {
        let prefix = resources::storage_prefix(resource);
        self.read().caches.get(&prefix).cloned()
    }

    /// Goes up with every change of what is served.
    pub(crate) fn changes(&self) -> u64 {
        self.read().changes
    }

    #[cfg(test)]
    /// How many definitions have been read; a change of one reads one.
    pub(crate) fn definitions_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The groups that serve something, in order, each with the mark of its last change.
    pub(crate) fn groups(&self) -> Vec<(String, u64)> {
        let state = self.read();
        let serves = |group: &Group| {
            let mut members = group.members.iter();
            members.any(|name| {
                state
                    .kinds
                    .get(name)
                    .is_some_and(|k| !k.resources.is_empty())
            })
        };
        let groups = state.groups.iter().filter(|(_, group)| serves(group));
        groups
            .map(|(name, group)| (name.clone(), group.changed))
            .collect()
    }

    /// The mark of a group's last change; 0 where it has no definitions.
    pub(crate) fn changed(&self, group: &str) -> u64 {
        self.read()
            .groups
            .get(group)
            .map_or(0, |group| group.changed)
    }

    /// What a group serves, in all versions.
    pub(crate) fn of_group(&self, group: &str) -> Vec<Handle> {
        let state = self.read();
        let members = state.groups.get(group).map(|group| &group.members);
        members
            .into_iter()
            .flatten()
            .filter_map(|name| state.kinds.get(name))
            .flat_map(|kind| kind.resources.iter().cloned())
            .collect()
    }

    /// Whether another definition than `own` holds a name.
    pub(crate) fn is_taken(&self, group: &str, own: &str, sort: Sort, name: &str) -> bool {
        let state = self.read();
        let holder = state
            .groups
            .get(group)
            .and_then(|group| group.names.get(&(sort, name.to_owned())));
        holder.is_some_and(|holder| holder != own)
    }

    /// Definitions of a group that wait for names.
    pub(crate) fn refused(&self, group: &str) -> Vec<String> {
        let state = self.read();
        let group = state.groups.get(group);
        group.map_or_else(Vec::new, |group| group.refused.iter().cloned().collect())
    }

    pub(crate) fn caches(&self) -> Vec<Arc<Cache>> {
        self.read().caches.values().cloned().collect()
    }

    /// The cache of a prefix, made where it is not there: complete from `revision` on.
    pub(crate) fn cache_at(&self, prefix: &str, revision: i64) -> Arc<Cache> {
        if let Some(cache) = self.read().caches.get(prefix) {
            return cache.clone();
        }
        self.write().cache_at(prefix, revision)
    }

    /// Takes in a definition as it is at `revision`; none where it was deleted.
    pub(crate) fn apply(&self, name: &str, definition: Option<&Arc<Entry>>, revision: i64) {
        self.read.fetch_add(1, Ordering::Relaxed);
        let definition = definition.map(|entry| Defined::new(entry));
        // Objects are read again before the lock that every request needs: this is the only writer.
        let made = definition
            .as_ref()
            .and_then(|definition| self.read().made(name, definition, revision));
        self.write()
            .apply(name, definition.as_ref(), made, revision);
    }

    /// Begins anew with these definitions and objects: at once, so that nobody finds a part of them.
    pub(crate) fn reload(&self, definitions: &[Arc<Entry>], objects: Vec<Stored>, revision: i64) {
        let mut new = State {
            changes: self.changes() + 1,
            ..State::default()
        };
        for entry in definitions {
            self.read.fetch_add(1, Ordering::Relaxed);
            let definition = Defined::new(entry);
            let made = new.made(entry.name(), &definition, revision);
            new.apply(entry.name(), Some(&definition), made, revision);
        }
        let mut by_prefix: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
        for stored in objects {
            if let Some(prefix) = prefix_of(&stored.0) {
                let list = by_prefix.entry(prefix.to_owned()).or_default();
                list.push(stored);
            }
        }
        for (prefix, list) in by_prefix {
            let cache = new.cache_at(&prefix, revision);
            let entries = list
                .iter()
                .filter_map(|(key, value, revision)| cache.entry(key, value, *revision));
            cache.reset(entries.collect(), revision);
        }
        let old = std::mem::replace(&mut *self.write(), new);
        // Whoever finds its cache closed finds the one in its place.
        for cache in old.caches.into_values() {
            cache.close();
        }
    }
}

impl State {
    fn cache_at(&mut self, prefix: &str, revision: i64) -> Arc<Cache> {
        let cache = self.caches.entry(prefix.to_owned()).or_insert_with(|| {
            let cache = Cache::since(Vec::new(), prefix.to_owned(), revision);
            Arc::new(cache)
        });
        cache.clone()
    }

    fn apply(
        &mut self,
        name: &str,
        definition: Option<&Defined<'_>>,
        made: Option<Made>,
        revision: i64,
    ) {
        self.hold(name, definition.map(|definition| &definition.object));
        match definition {
            Some(definition) => self.define(name, definition, made),
            None => self.drop_kind(name, revision),
        }
    }

    /// What a definition is served as; none where nothing of that changes.
    fn made(&self, name: &str, definition: &Defined<'_>, revision: i64) -> Option<Made> {
        let object = &definition.object;
        let marks = Marks::of(object);
        let before = self.kinds.get(name).map(|kind| kind.marks);
        if before == Some(marks) {
            return None;
        }
        let before = before.unwrap_or_default();
        let served = custom::served(object, definition.entry.source());
        let resources: Vec<Handle> = served.into_iter().map(Handle::from).collect();
        let (shapes, prefix) = (resources.clone(), definition.prefix());
        let cache = match self.caches.get(&prefix) {
            // Its watches go on: only whether more may come has changed.
            Some(_) if before.shown == marks.shown => None,
            Some(old) => Some(old.reshaped(shapes, before.objects == marks.objects, revision)),
            None => Some(Cache::since(shapes, prefix, revision)),
        };
        Some(Made {
            marks,
            resources,
            cache,
        })
    }

    /// Enters the names that a definition holds, in place of those that it held.
    fn hold(&mut self, name: &str, object: Option<&Object>) {
        if let Some(kind) = self.kinds.get_mut(name)
            && let Some(group) = self.groups.get_mut(&kind.group)
        {
            for held in std::mem::take(&mut kind.held) {
                if group.names.get(&held).is_some_and(|holder| holder == name) {
                    group.names.remove(&held);
                }
            }
            group.refused.remove(name);
        }
        let Some(object) = object else { return };
        let group_name = object.get_str(&["spec", "group"]).unwrap_or_default();
        let group = self.groups.entry(group_name.to_owned()).or_default();
        group.members.insert(name.to_owned());
        if definition::is_refused(object) {
            group.refused.insert(name.to_owned());
        }
        let held = definition::accepted(object);
        for held in &held {
            let holder = group.names.entry(held.clone());
            holder.or_insert_with(|| name.to_owned());
        }
        let kind = self.kinds.entry(name.to_owned()).or_insert_with(|| Kind {
            group: group_name.to_owned(),
            resources: Vec::new(),
            marks: Marks::default(),
            held: Vec::new(),
            revision: 0,
        });
        kind.held = held;
    }

    fn define(&mut self, name: &str, definition: &Defined<'_>, made: Option<Made>) {
        let Some(kind) = self.kinds.get_mut(name) else {
            return;
        };
        kind.revision = definition.entry.revision;
        let Some(made) = made else { return };
        kind.marks = made.marks;
        kind.resources = made.resources;
        let group = kind.group.clone();
        self.touch(&group);
        let Some(cache) = made.cache else { return };
        let old = self.caches.insert(definition.prefix(), Arc::new(cache));
        if let Some(old) = old {
            old.close();
        }
    }

    fn drop_kind(&mut self, name: &str, revision: i64) {
        let Some(kind) = self.kinds.remove(name) else {
            return;
        };
        self.touch(&kind.group);
        if let Some(group) = self.groups.get_mut(&kind.group) {
            group.members.remove(name);
        }
        let plural = name.strip_suffix(&kind.group).unwrap_or_default();
        let plural = plural.trim_end_matches('.');
        let prefix = format!("{}{}/{plural}/", crate::world::REGISTRY, kind.group);
        if let Some(old) = self.caches.remove(&prefix) {
            // What somebody wrote past the API server is still there when the definition comes back.
            if old.len() > 0 {
                let cache = old.reshaped(Vec::new(), false, revision);
                self.caches.insert(prefix, Arc::new(cache));
            }
            old.close();
        }
    }

    fn touch(&mut self, group: &str) {
        self.changes += 1;
        if let Some(group) = self.groups.get_mut(group) {
            group.changed = self.changes;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use serde_json::json;

    fn definition(name: &str, revision: i64) -> Arc<Entry> {
        let value = json!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"name": format!("{name}s.example.com")},
            "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": format!("{name}s")},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}}]},
            "status": {"acceptedNames": {"plural": format!("{name}s"), "singular": name, "kind": name},
                "conditions": [{"type": "Established", "status": "True"}, {"type": "NamesAccepted", "status": "True"}]}});
        let stored = crate::codec::encode(&value);
        let key = format!("/registry/customresourcedefinitions/{name}s.example.com");
        let at = "/registry/customresourcedefinitions/".len();
        Arc::new(Entry::new(&key, at, &stored.into(), revision, &[], None).unwrap())
    }

    #[test]
    fn keys_of_custom_resources_have_a_group() {
        for (key, prefix) in [
            (
                "/registry/example.com/widgets/n/x",
                Some("/registry/example.com/widgets/"),
            ),
            ("/registry/pods/n/x.y", None),
            (
                "/registry/customresourcedefinitions/widgets.example.com",
                None,
            ),
            ("/kontiki/example.com/widgets/x", None),
        ] {
            assert_eq!(prefix_of(key), prefix, "{key}");
        }
    }

    #[test]
    fn objects_are_there_before_their_definition_is() {
        let customs = Customs::default();
        let prefix = "/registry/example.com/widgets/";
        let cache = customs.cache_at(prefix, 4);
        let key = format!("{prefix}n/x");
        let value =
            Bytes::from_static(br#"{"kind":"widget","apiVersion":"example.com/v1","metadata":{}}"#);
        let entry = cache.entry(&key, &value.into(), 5);
        cache.apply(5, vec![(key.clone(), entry)]);
        customs.apply("widgets.example.com", Some(&definition("widget", 6)), 6);
        let widgets = customs.find("example.com", "v1", "widgets").unwrap();
        let served = customs.cache(&widgets).unwrap();
        assert_eq!(served.get(&key).map(|entry| entry.revision), Some(5));
        assert!(cache.is_closed() && !served.is_closed());
        // Nothing changed but its revision: nobody is disturbed.
        customs.apply("widgets.example.com", Some(&definition("widget", 7)), 7);
        assert!(Arc::ptr_eq(&customs.cache(&widgets).unwrap(), &served));
        customs.apply("widgets.example.com", None, 8);
        assert!(customs.find("example.com", "v1", "widgets").is_none() && served.is_closed());
        customs.apply("widgets.example.com", Some(&definition("widget", 9)), 9);
        assert_eq!(customs.cache(&widgets).unwrap().len(), 1);
    }

    #[test]
    fn another_definition_of_the_same_name_is_another() {
        let customs = Customs::default();
        let name = "widgets.example.com";
        let first = definition("widget", 1);
        customs.apply(name, Some(&first), 1);
        let widgets = customs.find("example.com", "v1", "widgets").unwrap();
        // A change of something else.
        customs.apply(name, Some(&definition("widget", 2)), 2);
        let revision = || customs.present(&widgets).map(|(_, revision)| revision);
        assert_eq!(revision(), Some(2));
        customs.apply(name, None, 3);
        assert_eq!(revision(), None);
        let mut second = first.object();
        second.set_uid("another");
        let stored = crate::codec::encode(second.value());
        let second = Entry::new(
            first.key(),
            first.key().len() - name.len(),
            &stored.into(),
            4,
            &[],
            None,
        );
        customs.apply(name, second.map(Arc::new).as_ref(), 4);
        assert!(customs.find("example.com", "v1", "widgets").is_some());
        assert_eq!(revision(), None);
    }

    #[test]
    fn names_are_held_by_one() {
        let customs = Customs::default();
        customs.apply("widgets.example.com", Some(&definition("widget", 1)), 1);
        let taken =
            |own: &str, name: &str| customs.is_taken("example.com", own, Sort::Resource, name);
        assert!(taken("others.example.com", "widget") && !taken("widgets.example.com", "widget"));
        assert!(!customs.is_taken("else.com", "x", Sort::Resource, "widget"));
        customs.apply("widgets.example.com", None, 2);
        assert!(!taken("others.example.com", "widget"));
    }

    #[test]
    fn a_reload_takes_place_at_once() {
        let customs = Customs::default();
        let definitions: Vec<_> = (0..100)
            .map(|n| definition(&format!("kind{n}"), n + 1))
            .collect();
        let key = "/registry/example.com/kind99s/n/x";
        let value =
            Bytes::from_static(br#"{"kind":"kind99","apiVersion":"example.com/v1","metadata":{}}"#);
        let reload = || {
            customs.reload(
                &definitions,
                vec![(key.into(), value.clone().into(), 90)],
                100,
            )
        };
        reload();
        let found = || {
            let last = customs.find("example.com", "v1", "kind99s")?;
            Some(customs.cache(&last)?.len())
        };
        let is_done = std::sync::atomic::AtomicBool::new(false);
        let (before, seen) = (customs.caches(), customs.changes());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    assert_eq!(found(), Some(1));
                }
            });
            for _ in 0..5 {
                reload();
            }
            is_done.store(true, Ordering::Relaxed);
        });
        assert!(before.iter().all(|cache| cache.is_closed()));
        assert!(!customs.caches().iter().any(|cache| cache.is_closed()));
        assert!(customs.changes() > seen);
    }

    #[test]
    fn a_change_costs_one_definition_however_many_there_are() {
        let customs = Customs::default();
        for n in 0..1_000 {
            let name = format!("kind{n}");
            customs.apply(
                &format!("{name}s.example.com"),
                Some(&definition(&name, n + 1)),
                n + 1,
            );
        }
        assert_eq!(customs.definitions_read(), 1_000);
        let (before, seen) = (
            customs.find("example.com", "v1", "kind7s").unwrap(),
            customs.changes(),
        );
        customs.apply("kind8s.example.com", None, 2_000);
        assert_eq!(
            (customs.definitions_read(), customs.changes()),
            (1_001, seen + 1)
        );
        let after = customs.find("example.com", "v1", "kind7s").unwrap();
        assert!(std::ptr::eq(&*before, &*after), "others are left alone");
        assert_eq!(customs.of_group("example.com").len(), 999);
    }
}
