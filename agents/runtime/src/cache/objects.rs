//! The objects of a cache and their indexes.

use super::Key;
use super::all::All;
use super::slots::{Members, Slots};
use crate::kinds::{Kind, Labels, Mention, ObjectMeta, OwnerReference};
use host::HashMap;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

/// An object in a set of them, by namespace and name: the set asks the object itself.
pub(super) struct Held<T> {
    pub(super) object: Arc<T>,
    /// Its number, where it is indexed.
    pub(super) slot: u32,
}

impl<T> Held<T> {
    /// An object without a number.
    pub(super) fn of(object: Arc<T>) -> Self {
        Self { object, slot: 0 }
    }
}

/// Something with a place among [`Held`] objects: one of them, or whatever names it.
pub(super) trait Named {
    /// Namespace (empty for none) and name.
    fn place(&self) -> (&str, &str);
}

impl<T: Kind> Named for Held<T> {
    fn place(&self) -> (&str, &str) {
        let id = self.object.identity();
        (id.namespace, id.name)
    }
}

impl Named for Key {
    fn place(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }
}

impl Named for (&str, &str) {
    fn place(&self) -> (&str, &str) {
        *self
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl Eq for dyn Named + '_ {}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.place().hash(hasher);
    }
}

impl<'a, T: Kind> Borrow<dyn Named + 'a> for Held<T> {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl<T: Kind> PartialEq for Held<T> {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}

impl<T: Kind> Eq for Held<T> {}

impl<T: Kind> PartialOrd for Held<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Kind> Ord for Held<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}

impl<T: Kind> Hash for Held<T> {
    /// Like the name that it is looked up by.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.place().hash(hasher);
    }
}

/// Those of a namespace, by name.
pub(super) fn of_namespace<'a, T: Kind>(
    all: &'a BTreeSet<Held<T>>,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Arc<T>> {
    let first = (namespace, "");
    let from: Bound<&dyn Named> = Bound::Included(&first);
    all.range::<dyn Named + '_, _>((from, Bound::Unbounded))
        .map(|held| &held.object)
        .take_while(move |object| object.identity().namespace == namespace)
}

/// Objects by a value that several have.
type Index<V> = HashMap<V, Members>;

pub(super) struct Objects<T> {
    pub(super) all: All<T>,
    pub(super) slots: Slots<T>,
    pub(super) by_owner: Index<String>,
    pub(super) by_node: Index<String>,
    pub(super) by_mention: Index<Mention>,
    /// By namespace, those that nobody controls.
    pub(super) uncontrolled: Index<String>,
    /// By namespace and by their labels as a whole: all that were made of one template are together, and a selector is asked
    /// once for them.
    pub(super) classes: HashMap<String, BTreeMap<Labels, Members>>,
}

impl<T: Kind> Objects<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            all: All::new(),
            slots: Slots::new(),
            by_owner: HashMap::default(),
            by_node: HashMap::default(),
            by_mention: HashMap::default(),
            uncontrolled: HashMap::default(),
            classes: HashMap::default(),
        }
    }

    /// Puts an object, and answers the one that had its name.
    pub(super) fn put(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        let mut held = Held::of(object.clone());
        if !T::IS_INDEXED {
            return self.all.replace(held).map(|old| old.object);
        }
        let known = self.all.get(&held).map(|known| known.slot);
        held.slot = match known {
            Some(slot) => {
                self.slots.set(slot, object.clone());
                slot
            }
            None => self.slots.add(object.clone()),
        };
        let slot = held.slot;
        let old = self.all.replace(held).map(|old| old.object);
        self.index(slot, old.as_deref(), Some(&*object));
        old
    }

    /// Takes the object of a name out.
    pub(super) fn take(&mut self, name: &dyn Named) -> Option<Arc<T>> {
        let Held { object, slot } = self.all.take(name)?;
        if T::IS_INDEXED {
            self.index(slot, Some(&*object), None);
            self.slots.free(slot);
        }
        Some(object)
    }

    /// Puts the number of an object where it is found now, and takes it out of where it was found before and is not any more: a
    /// pod that is bound stays with its owner and with its like.
    fn index(&mut self, slot: u32, old: Option<&T>, new: Option<&T>) {
        let slots = &self.slots;
        let (before, now) = (owners(old), owners(new));
        for owner in before.iter().filter(|owner| !names(now, owner)) {
            leave(&mut self.by_owner, owner.uid.as_str(), slots, slot);
        }
        for owner in now.iter().filter(|owner| !names(before, owner)) {
            join(&mut self.by_owner, &owner.uid, slots, slot);
        }
        let (before, now) = (node(old), node(new));
        if before != now {
            if let Some(node) = before {
                leave(&mut self.by_node, node, slots, slot);
            }
            if let Some(node) = now {
                join(&mut self.by_node, node, slots, slot);
            }
        }
        let (before, now) = (free_in(old), free_in(new));
        if before != now {
            if let Some(namespace) = before {
                leave(&mut self.uncontrolled, namespace, slots, slot);
            }
            if let Some(namespace) = now {
                join(&mut self.uncontrolled, namespace, slots, slot);
            }
        }
        let before = old.map(Kind::mentions).unwrap_or_default();
        let now = new.map(Kind::mentions).unwrap_or_default();
        for mention in before.iter().filter(|mention| !now.contains(mention)) {
            leave(&mut self.by_mention, mention, slots, slot);
        }
        for mention in now.into_iter().filter(|mention| !before.contains(mention)) {
            let found = self.by_mention.entry(mention).or_default();
            found.insert(slots, slot);
        }
        let (before, now) = (old.map(Kind::meta), new.map(Kind::meta));
        let is_alike =
            matches!((before, now), (Some(before), Some(now)) if before.labels == now.labels);
        if is_alike {
            return;
        }
        if let Some(meta) = before {
            self.leave_class(meta, slot);
        }
        if let Some(meta) = now {
            self.join_class(meta, slot);
        }
    }

    fn join_class(&mut self, meta: &ObjectMeta, slot: u32) {
        match self.classes.get_mut(&meta.namespace) {
            Some(classes) => {
                let members = classes.entry(meta.labels.clone()).or_default();
                members.insert(&self.slots, slot);
            }
            None => {
                let first = BTreeMap::from([(meta.labels.clone(), Members::of(slot))]);
                self.classes.insert(meta.namespace.clone(), first);
            }
        }
    }

    fn leave_class(&mut self, meta: &ObjectMeta, slot: u32) {
        let Some(classes) = self.classes.get_mut(&meta.namespace) else {
            return;
        };
        if let Some(members) = classes.get_mut(&meta.labels) {
            members.remove(&self.slots, slot);
            if members.is_empty() {
                classes.remove(&meta.labels);
            }
        }
        if classes.is_empty() {
            self.classes.remove(&meta.namespace);
        }
    }
}

fn owners<T: Kind>(object: Option<&T>) -> &[OwnerReference] {
    object
        .map(|object| &*object.meta().owner_references)
        .unwrap_or_default()
}

fn names(owners: &[OwnerReference], owner: &OwnerReference) -> bool {
    owners.iter().any(|other| other.uid == owner.uid)
}

/// The node that an object belongs to.
fn node<T: Kind>(object: Option<&T>) -> Option<&str> {
    object.map(T::node_name).filter(|node| !node.is_empty())
}

/// The namespace in which nobody controls an object.
fn free_in<T: Kind>(object: Option<&T>) -> Option<&str> {
    let meta = object.map(T::meta);
    let free = meta.filter(|meta| meta.controller().is_none());
    free.map(|meta| meta.namespace.as_str())
}

fn join<T: Kind>(index: &mut Index<String>, value: &str, slots: &Slots<T>, slot: u32) {
    match index.get_mut(value) {
        Some(found) => found.insert(slots, slot),
        None => {
            index.insert(value.to_owned(), Members::of(slot));
        }
    }
}

fn leave<V, Q, T>(index: &mut Index<V>, value: &Q, slots: &Slots<T>, slot: u32)
where
    V: Borrow<Q> + Eq + Hash,
    Q: Eq + Hash + ?Sized,
    T: Kind,
{
    if let Some(found) = index.get_mut(value) {
        found.remove(slots, slot);
        if found.is_empty() {
            index.remove(value);
        }
    }
}
