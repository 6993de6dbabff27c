//! How the objects of a cache are found.

use super::all::in_order;
use super::objects::{Named, Objects};
use super::slots::Members;
use super::{Cache, Key};
use crate::kinds::{Kind, LabelSelector, Labels, Mention, ObjectMeta};
use crate::selector::contains_all;
use std::sync::Arc;

impl<T: Kind> Cache<T> {
    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.named(&(namespace, name))
    }

    /// One object by key.
    pub fn by_key(&self, key: &Key) -> Option<Arc<T>> {
        self.named(key)
    }

    fn named(&self, name: &dyn Named) -> Option<Arc<T>> {
        let objects = self.read();
        objects.all.get(name).map(|held| held.object.clone())
    }

    /// Everything, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<T>> {
        if !(T::IS_MANY && T::IS_INDEXED) {
            return in_order(self.list_unsorted());
        }
        // Each controller begins with a list of a hundred thousand pods: to sort them from nothing each time would take seconds.
        let objects = self.read();
        let mut namespaces: Vec<&String> = objects.classes.keys().collect();
        namespaces.sort_unstable();
        let mut found = Vec::with_capacity(objects.all.len());
        for namespace in namespaces {
            found.extend(objects.of_classes(namespace, |_| true));
        }
        found
    }

    /// Everything in no certain order, for whoever looks at all of very many and keeps few.
    pub fn list_unsorted(&self) -> Vec<Arc<T>> {
        self.read().all.list()
    }

    /// Number of objects.
    pub fn len(&self) -> usize {
        self.read().all.len()
    }

    /// Whether there is no object.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The objects of a namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        if T::IS_MANY && T::IS_INDEXED {
            return self.read().of_classes(namespace, |_| true);
        }
        let found = self.read().all.in_namespace(namespace);
        in_order(found)
    }

    /// The objects of a namespace that a selector matches, by name.
    pub fn select(&self, namespace: &str, selector: &LabelSelector) -> Vec<Arc<T>> {
        self.filter(namespace, |labels| selector.matches(labels))
    }

    /// The objects of a namespace that have all these labels, by name.
    pub fn with_labels(&self, namespace: &str, labels: &Labels) -> Vec<Arc<T>> {
        self.filter(namespace, |has| contains_all(has, labels))
    }

    fn filter(&self, namespace: &str, wanted: impl Fn(&Labels) -> bool) -> Vec<Arc<T>> {
        if !T::IS_INDEXED {
            let mut all = self.in_namespace(namespace);
            all.retain(|object| wanted(&object.meta().labels));
            return all;
        }
        self.read().of_classes(namespace, wanted)
    }

    /// Whether a namespace has any.
    pub fn has_any_in(&self, namespace: &str) -> bool {
        let objects = self.read();
        match T::IS_INDEXED {
            true => objects.classes.contains_key(namespace),
            false => objects.all.has_any_in(namespace),
        }
    }

    /// The objects that name `uid` as an owner, controlling or not.
    pub fn owned_by(&self, uid: &str) -> Vec<Arc<T>> {
        self.indexed(|objects| objects.by_owner.get(uid))
    }

    /// The number of objects, of all namespaces, that name `uid` as an owner.
    pub fn count_owned_by(&self, uid: &str) -> usize {
        let objects = self.read();
        objects.by_owner.get(uid).map_or(0, Members::len)
    }

    /// Those that name `uid` as an owner in one namespace, by name.
    pub fn owned_in(&self, namespace: &str, uid: &str) -> Vec<Arc<T>> {
        let objects = self.read();
        let Some(found) = objects.by_owner.get(uid) else {
            return Vec::new();
        };
        let found = found.in_namespace(&objects.slots, namespace);
        found.cloned().collect()
    }

    /// The objects on a node.
    pub fn on_node(&self, node: &str) -> Vec<Arc<T>> {
        self.indexed(|objects| objects.by_node.get(node))
    }

    /// The nodes that objects are on, in no order.
    pub fn nodes(&self) -> Vec<String> {
        self.read().by_node.keys().cloned().collect()
    }

    /// The objects that mention this, by namespace and name.
    pub fn mentioning(&self, what: &Mention) -> Vec<Arc<T>> {
        self.indexed(|objects| objects.by_mention.get(what))
    }

    /// The objects of a namespace whose selector may match these labels, by name: not those whose selector begins with a pair
    /// that is not among them. Whoever asks has to look at the whole selector.
    pub fn might_select(&self, namespace: &str, labels: &Labels) -> Vec<Arc<T>> {
        let by_pair = labels.iter().map(|(key, value)| Mention::Selected {
            namespace: namespace.to_owned(),
            key: key.clone(),
            value: value.clone(),
        });
        let otherwise = Mention::SelectedOtherwise(namespace.to_owned());
        let mut found: Vec<Arc<T>> = by_pair
            .chain([otherwise])
            .flat_map(|mention| self.mentioning(&mention))
            .collect();
        found.sort_by(|a, b| a.meta().name.cmp(&b.meta().name));
        found
    }

    /// The objects of a namespace that nobody controls, so that whoever adopts need not look at all the others.
    pub fn uncontrolled_in(&self, namespace: &str) -> Vec<Arc<T>> {
        self.uncontrolled_where(namespace, |_| true)
    }

    /// Those of them that are wanted. `wanted` is asked under the cache's lock and has to be quick.
    pub fn uncontrolled_where(
        &self,
        namespace: &str,
        wanted: impl Fn(&ObjectMeta) -> bool,
    ) -> Vec<Arc<T>> {
        let objects = self.read();
        let Some(found) = objects.uncontrolled.get(namespace) else {
            return Vec::new();
        };
        let found = found.objects(&objects.slots);
        found
            .filter(|object| wanted(object.meta()))
            .cloned()
            .collect()
    }

    /// Whether there is one of them that is wanted.
    pub fn has_uncontrolled(&self, namespace: &str, wanted: impl Fn(&ObjectMeta) -> bool) -> bool {
        let objects = self.read();
        let Some(found) = objects.uncontrolled.get(namespace) else {
            return false;
        };
        let mut found = found.objects(&objects.slots);
        found.any(|object| wanted(object.meta()))
    }

    fn indexed(&self, of: impl Fn(&Objects<T>) -> Option<&Members>) -> Vec<Arc<T>> {
        let objects = self.read();
        let Some(found) = of(&objects) else {
            return Vec::new();
        };
        found.objects(&objects.slots).cloned().collect()
    }
}

impl<T: Kind> Objects<T> {
    /// Those of a namespace whose labels are wanted, by name.
    fn of_classes(&self, namespace: &str, wanted: impl Fn(&Labels) -> bool) -> Vec<Arc<T>> {
        let Some(classes) = self.classes.get(namespace) else {
            return Vec::new();
        };
        let slots = &self.slots;
        let wanted = classes.iter().filter(|(labels, _)| wanted(labels));
        let found = wanted.flat_map(|(_, members)| members.objects(slots));
        let mut found: Vec<Arc<T>> = found.cloned().collect();
        // Each class is in order already, which a sort finds out quickly.
        found.sort_by(|one, other| one.meta().name.cmp(&other.meta().name));
        found
    }
}
