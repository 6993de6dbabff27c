//! The objects of an indexed cache by number. What finds them by their owner, their node or their labels holds their numbers, and
//! so need not be told of an object that changes in nothing that it is found by, as nearly all do.

use crate::kinds::Kind;
use std::sync::Arc;

/// Objects, each under a number that is its own from when it comes until it goes.
pub(super) struct Slots<T> {
    objects: Vec<Option<Arc<T>>>,
    /// Numbers that nobody has any more.
    free: Vec<u32>,
}

impl<T: Kind> Slots<T> {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            objects: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Gives an object a number.
    pub(super) fn add(&mut self, object: Arc<T>) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.set(slot, object);
            return slot;
        }
        self.objects.push(Some(object));
        // There is no memory for so many that this were cut off.
        (self.objects.len() - 1) as u32
    }

    /// The object under a number is now this one, which has the same name.
    pub(super) fn set(&mut self, slot: u32, object: Arc<T>) {
        if let Some(place) = self.objects.get_mut(slot as usize) {
            *place = Some(object);
        }
    }

    /// The object under a number is gone from all that held it.
    pub(super) fn free(&mut self, slot: u32) {
        if let Some(place) = self.objects.get_mut(slot as usize) {
            *place = None;
            self.free.push(slot);
        }
    }

    fn get(&self, slot: u32) -> Option<&Arc<T>> {
        self.objects.get(slot as usize)?.as_ref()
    }

    /// Namespace and name of what is under a number.
    fn place(&self, slot: u32) -> Option<(&str, &str)> {
        let id = self.get(slot)?.identity();
        Some((id.namespace, id.name))
    }
}

/// Numbers of objects, in the order of their namespaces and names. A hundred thousand pods stand in four such lists each.
#[derive(Default)]
pub(super) struct Members(Vec<u32>);

impl Members {
    /// A list of one.
    pub(super) fn of(slot: u32) -> Self {
        Self(vec![slot])
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a number in its place, if it is not there.
    pub(super) fn insert<T: Kind>(&mut self, slots: &Slots<T>, slot: u32) {
        if let Err(at) = self.find(slots, slot) {
            self.0.insert(at, slot);
        }
    }

    /// Takes a number out, whose object is still there.
    pub(super) fn remove<T: Kind>(&mut self, slots: &Slots<T>, slot: u32) {
        if let Ok(at) = self.find(slots, slot) {
            self.0.remove(at);
        }
    }

    /// The objects in order.
    pub(super) fn objects<'a, T: Kind>(
        &'a self,
        slots: &'a Slots<T>,
    ) -> impl Iterator<Item = &'a Arc<T>> {
        self.0.iter().filter_map(move |slot| slots.get(*slot))
    }

    /// Those of a namespace, by name.
    pub(super) fn in_namespace<'a, T: Kind>(
        &'a self,
        slots: &'a Slots<T>,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<T>> {
        let is_before = |slot: &u32| slots.place(*slot) < Some((namespace, ""));
        let from = self.0.partition_point(is_before);
        let found = self.0[from..].iter();
        let objects = found.filter_map(move |slot| slots.get(*slot));
        objects.take_while(move |object| object.identity().namespace == namespace)
    }

    fn find<T: Kind>(&self, slots: &Slots<T>, slot: u32) -> Result<usize, usize> {
        let place = slots.place(slot);
        self.0
            .binary_search_by(|other| slots.place(*other).cmp(&place))
    }
}
