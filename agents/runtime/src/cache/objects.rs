//! The objects of a cache and their indexes.

use super::Key;
use super::all::All;
use crate::kinds::{Kind, Labels, Mention};
use host::HashMap;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::ops::Bound;
use std::sync::Arc;

/// An object in a set of them, by namespace and name. The set asks the object itself, so that a place in one of the indexes
/// takes no more than a pointer; a hundred thousand pods stand in five of them.
pub(super) struct Held<T>(pub(super) Arc<T>);

/// Something with a place among [`Held`] objects: one of them, or whatever names it.
pub(super) trait Named {
    /// Namespace (empty for none) and name.
    fn place(&self) -> (&str, &str);
}

impl<T: Kind> Named for Held<T> {
    fn place(&self) -> (&str, &str) {
        let id = self.0.identity();
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
        .map(|held| &held.0)
        .take_while(move |object| object.identity().namespace == namespace)
}

/// Objects by a value that several have. They are in it, not only their keys: who asks for thousands would otherwise look up each.
type Index<V, T> = HashMap<V, BTreeSet<Held<T>>>;

pub(super) struct Objects<T> {
    pub(super) all: All<T>,
    pub(super) by_owner: Index<String, T>,
    pub(super) by_node: Index<String, T>,
    pub(super) by_mention: Index<Mention, T>,
    /// By namespace, those that nobody controls.
    pub(super) uncontrolled: Index<String, T>,
    /// By namespace and by their labels as a whole: all that were made of one template are together, and a selector is asked
    /// once for them.
    pub(super) classes: HashMap<String, BTreeMap<Labels, BTreeSet<Held<T>>>>,
}

impl<T: Kind> Objects<T> {
    pub(super) fn index(&mut self, object: &Arc<T>) {
        if !T::IS_INDEXED {
            return;
        }
        let meta = object.meta();
        for owner in &meta.owner_references {
            add_to(&mut self.by_owner, &owner.uid, object);
        }
        if !object.node_name().is_empty() {
            add_to(&mut self.by_node, object.node_name(), object);
        }
        for mention in object.mentions() {
            let found = self.by_mention.entry(mention).or_default();
            found.replace(Held(object.clone()));
        }
        if meta.controller().is_none() {
            add_to(&mut self.uncontrolled, &meta.namespace, object);
        }
        let held = Held(object.clone());
        match self.classes.get_mut(&meta.namespace) {
            Some(classes) => {
                let members = classes.entry(meta.labels.clone()).or_default();
                members.replace(held);
            }
            None => {
                let first = BTreeMap::from([(meta.labels.clone(), BTreeSet::from([held]))]);
                self.classes.insert(meta.namespace.clone(), first);
            }
        }
    }

    /// Takes an object out of where it is found; of that in whose place another one is put, only where that one is not found. A
    /// pod that is bound stays with its owner and with its like.
    pub(super) fn unindex(&mut self, old: &Arc<T>, new: Option<&T>) {
        if !T::IS_INDEXED {
            return;
        }
        let (held, meta) = (Held(old.clone()), old.meta());
        let next = new.map(Kind::meta);
        if next.is_none_or(|next| next.owner_references != meta.owner_references) {
            let owners = next.map(|next| &*next.owner_references).unwrap_or_default();
            for owner in &meta.owner_references {
                if owners.iter().all(|other| other.uid != owner.uid) {
                    remove_from(&mut self.by_owner, &owner.uid, &held);
                }
            }
            if next.is_none_or(|next| next.controller().is_some()) {
                remove_from(&mut self.uncontrolled, &meta.namespace, &held);
            }
        }
        if new.is_none_or(|new| new.node_name() != old.node_name()) {
            remove_from(&mut self.by_node, old.node_name(), &held);
        }
        self.forget_mentions(&held, new);
        if next.is_none_or(|next| next.labels != meta.labels) {
            self.leave_class(&held);
        }
    }

    fn forget_mentions(&mut self, old: &Held<T>, new: Option<&T>) {
        let mentions = old.0.mentions();
        if mentions.is_empty() {
            return;
        }
        let next = new.map(Kind::mentions).unwrap_or_default();
        for mention in mentions.iter().filter(|mention| !next.contains(mention)) {
            if let Some(found) = self.by_mention.get_mut(mention) {
                found.remove(old);
                if found.is_empty() {
                    self.by_mention.remove(mention);
                }
            }
        }
    }

    fn leave_class(&mut self, old: &Held<T>) {
        let meta = old.0.meta();
        let Some(classes) = self.classes.get_mut(&meta.namespace) else {
            return;
        };
        if let Some(members) = classes.get_mut(&meta.labels) {
            members.remove(old);
            if members.is_empty() {
                classes.remove(&meta.labels);
            }
        }
        if classes.is_empty() {
            self.classes.remove(&meta.namespace);
        }
    }
}

fn add_to<T: Kind>(index: &mut Index<String, T>, value: &str, object: &Arc<T>) {
    let held = Held(object.clone());
    match index.get_mut(value) {
        Some(found) => drop(found.replace(held)),
        None => {
            index.insert(value.to_owned(), BTreeSet::from([held]));
        }
    }
}

fn remove_from<T: Kind>(index: &mut Index<String, T>, value: &str, held: &Held<T>) {
    if let Some(found) = index.get_mut(value) {
        found.remove(held);
        if found.is_empty() {
            index.remove(value);
        }
    }
}
