//! All objects of a cache, found by namespace and name.

use super::objects::{Held, Named, of_namespace};
use crate::kinds::Kind;
use host::HashSet;
use std::collections::BTreeSet;
use std::sync::Arc;

/// All objects of a cache. A search among a hundred thousand names that begin alike compares some thirty of them, each of which
/// waits for memory several times; their hashes are compared once.
pub(super) enum All<T> {
    /// In order, for those that are listed often.
    Sorted(BTreeSet<Held<T>>),
    /// Those that are looked up much more often than listed.
    Hashed(HashSet<Held<T>>),
}

impl<T: Kind> All<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        match T::IS_MANY {
            true => Self::Hashed(HashSet::default()),
            false => Self::Sorted(BTreeSet::new()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Sorted(all) => all.len(),
            Self::Hashed(all) => all.len(),
        }
    }

    pub(super) fn get(&self, name: &dyn Named) -> Option<&Held<T>> {
        match self {
            Self::Sorted(all) => all.get(name),
            Self::Hashed(all) => all.get(name),
        }
    }

    /// Puts an object, and answers the one that had its name.
    pub(super) fn replace(&mut self, held: Held<T>) -> Option<Held<T>> {
        match self {
            Self::Sorted(all) => all.replace(held),
            Self::Hashed(all) => all.replace(held),
        }
    }

    /// Takes the object of a name out.
    pub(super) fn take(&mut self, name: &dyn Named) -> Option<Held<T>> {
        match self {
            Self::Sorted(all) => all.take(name),
            Self::Hashed(all) => all.take(name),
        }
    }

    /// Everything, in no order where it is hashed.
    pub(super) fn list(&self) -> Vec<Arc<T>> {
        match self {
            Self::Sorted(all) => all.iter().map(|held| held.object.clone()).collect(),
            Self::Hashed(all) => all.iter().map(|held| held.object.clone()).collect(),
        }
    }

    /// Those of a namespace, in no order where they are hashed, which takes a look at all.
    pub(super) fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        match self {
            Self::Sorted(all) => of_namespace(all, namespace).cloned().collect(),
            Self::Hashed(all) => {
                let objects = all.iter().map(|held| &held.object);
                let is_here = |object: &&Arc<T>| object.identity().namespace == namespace;
                objects.filter(is_here).cloned().collect()
            }
        }
    }

    /// Whether there is one in a namespace.
    pub(super) fn has_any_in(&self, namespace: &str) -> bool {
        match self {
            Self::Sorted(all) => of_namespace(all, namespace).next().is_some(),
            Self::Hashed(all) => {
                let mut objects = all.iter();
                objects.any(|held| held.object.identity().namespace == namespace)
            }
        }
    }
}

/// Puts what came out of a hashed set in the order of namespaces and names, in which the others are already.
pub(super) fn in_order<T: Kind>(mut objects: Vec<Arc<T>>) -> Vec<Arc<T>> {
    if T::IS_MANY {
        objects.sort_by(|one, other| {
            let (one, other) = (one.identity(), other.identity());
            (one.namespace, one.name).cmp(&(other.namespace, other.name))
        });
    }
    objects
}
