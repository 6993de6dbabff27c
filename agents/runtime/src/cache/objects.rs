//! The objects of a cache and their indexes.

use super::Key;
use crate::kinds::{Kind, Labels, Mention};
use host::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Objects by a value that several have. They are in it, not only their keys: who asks for thousands would otherwise look up each.
type Index<T> = HashMap<String, BTreeMap<Key, Arc<T>>>;

pub(super) struct Objects<T> {
    pub(super) map: BTreeMap<Key, Arc<T>>,
    pub(super) by_owner: Index<T>,
    pub(super) by_node: Index<T>,
    pub(super) by_mention: HashMap<Mention, BTreeMap<Key, Arc<T>>>,
    /// By namespace, those that nobody controls.
    pub(super) uncontrolled: Index<T>,
    /// By their labels as a whole: all that were made of one template are together, and a selector is asked once for them.
    pub(super) by_labels: BTreeMap<(Labels, Key), Arc<T>>,
    /// By namespace, how many have the same labels.
    pub(super) classes: HashMap<String, BTreeMap<Labels, usize>>,
}

impl<T: Kind> Objects<T> {
    /// The same key in the texts of one that is there: each name stands in memory once, and a namespace for all that is in it.
    pub(super) fn known(&self, key: Key) -> Key {
        if let Some((known, _)) = self.map.get_key_value(&key) {
            return known.clone();
        }
        let before = self.map.range::<Key, _>(..&key).next_back();
        match before.filter(|(before, _)| before.namespace == key.namespace) {
            Some((before, _)) => Key {
                namespace: before.namespace.clone(),
                name: key.name,
            },
            None => key,
        }
    }

    pub(super) fn index(&mut self, key: &Key, object: &Arc<T>) {
        if !T::IS_INDEXED {
            return;
        }
        for owner in &object.meta().owner_references {
            add_to(&mut self.by_owner, &owner.uid, key, object);
        }
        if !object.node_name().is_empty() {
            add_to(&mut self.by_node, object.node_name(), key, object);
        }
        for mention in object.mentions() {
            let found = self.by_mention.entry(mention).or_default();
            found.insert(key.clone(), object.clone());
        }
        if object.meta().controller().is_none() {
            let namespace = &object.meta().namespace;
            add_to(&mut self.uncontrolled, namespace, key, object);
        }
        let member = (object.meta().labels.clone(), key.clone());
        if self.by_labels.insert(member, object.clone()).is_none() {
            let namespace = object.meta().namespace.clone();
            let classes = self.classes.entry(namespace).or_default();
            *classes.entry(object.meta().labels.clone()).or_default() += 1;
        }
    }

    pub(super) fn unindex(&mut self, key: &Key, object: &T) {
        if !T::IS_INDEXED {
            return;
        }
        for owner in &object.meta().owner_references {
            remove_from(&mut self.by_owner, &owner.uid, key);
        }
        remove_from(&mut self.by_node, object.node_name(), key);
        for mention in object.mentions() {
            if let Some(found) = self.by_mention.get_mut(&mention) {
                found.remove(key);
                if found.is_empty() {
                    self.by_mention.remove(&mention);
                }
            }
        }
        let meta = object.meta();
        remove_from(&mut self.uncontrolled, &meta.namespace, key);
        let member = (meta.labels.clone(), key.clone());
        if self.by_labels.remove(&member).is_none() {
            return;
        }
        let Some(classes) = self.classes.get_mut(&meta.namespace) else {
            return;
        };
        if let Some(count) = classes.get_mut(&meta.labels) {
            *count -= 1;
            if *count == 0 {
                classes.remove(&meta.labels);
            }
        }
        if classes.is_empty() {
            self.classes.remove(&meta.namespace);
        }
    }
}

/// Whether an object was found by other owners, by other labels, on another node or by something else before it changed.
pub(super) fn is_elsewhere<T: Kind>(old: &T, new: &T) -> bool {
    old.meta().owner_references != new.meta().owner_references
        || old.meta().labels != new.meta().labels
        || old.node_name() != new.node_name()
        || old.mentions() != new.mentions()
}

fn add_to<T>(index: &mut Index<T>, value: &str, key: &Key, object: &Arc<T>) {
    match index.get_mut(value) {
        Some(found) => drop(found.insert(key.clone(), object.clone())),
        None => {
            let first = BTreeMap::from([(key.clone(), object.clone())]);
            index.insert(value.to_owned(), first);
        }
    }
}

fn remove_from<T>(index: &mut Index<T>, value: &str, key: &Key) {
    if let Some(found) = index.get_mut(value) {
        found.remove(key);
        if found.is_empty() {
            index.remove(value);
        }
    }
}
