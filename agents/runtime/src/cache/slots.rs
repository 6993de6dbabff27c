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

/// So many numbers stand in a block at most: what comes or goes moves no more than those behind it in its block.
const BLOCK_MAX: usize = if cfg!(test) { 4 } else { 1024 };

/// Numbers of objects, in the order of their namespaces and names. A hundred thousand pods stand in four such lists each. It is
/// made of blocks in order, none of which is empty: there is one but for the longest lists.
#[derive(Default)]
pub(super) struct Members(Vec<Vec<u32>>);

impl Members {
    /// A list of one.
    pub(super) fn of(slot: u32) -> Self {
        Self(vec![vec![slot]])
    }

    pub(super) fn len(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a number in its place, if it is not there.
    pub(super) fn insert<T: Kind>(&mut self, slots: &Slots<T>, slot: u32) {
        let (at, Err(within)) = self.find(slots, slot) else {
            return;
        };
        let Some(block) = self.0.get_mut(at) else {
            // Nothing was here. A push would leave room for four blocks, and most lists are of one object.
            *self = Self::of(slot);
            return;
        };
        if block.len() < BLOCK_MAX {
            block.insert(within, slot);
            return;
        }
        // What comes in order, as all do when they are listed, leaves full blocks behind.
        let middle = match within == block.len() {
            true => within,
            false => BLOCK_MAX / 2,
        };
        let mut next = block.split_off(middle);
        match within.checked_sub(middle) {
            Some(within) => next.insert(within, slot),
            None => block.insert(within, slot),
        }
        self.0.insert(at + 1, next);
    }

    /// Takes a number out, whose object is still there.
    pub(super) fn remove<T: Kind>(&mut self, slots: &Slots<T>, slot: u32) {
        let (at, Ok(within)) = self.find(slots, slot) else {
            return;
        };
        let Some(block) = self.0.get_mut(at) else {
            return;
        };
        block.remove(within);
        if block.is_empty() {
            self.0.remove(at);
        } else if block.len() < block.capacity() / 4 {
            block.shrink_to(block.capacity() / 2);
        }
    }

    /// The objects in order.
    pub(super) fn objects<'a, T: Kind>(
        &'a self,
        slots: &'a Slots<T>,
    ) -> impl Iterator<Item = &'a Arc<T>> {
        let members = self.0.iter().flatten();
        members.filter_map(move |slot| slots.get(*slot))
    }

    /// Those of a namespace, by name.
    pub(super) fn in_namespace<'a, T: Kind>(
        &'a self,
        slots: &'a Slots<T>,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<T>> {
        let is_before = |slot: &u32| slots.place(*slot) < Some((namespace, ""));
        let ends_before = |block: &Vec<u32>| block.last().is_some_and(is_before);
        let from = self.0.partition_point(ends_before);
        let first = self.0.get(from);
        let within = first.map_or(0, |block| block.partition_point(is_before));
        let found = self.0[from..].iter().flatten().skip(within);
        let objects = found.filter_map(move |slot| slots.get(*slot));
        objects.take_while(move |object| object.identity().namespace == namespace)
    }

    /// The block in which a number belongs, and where it stands in there or would.
    fn find<T: Kind>(&self, slots: &Slots<T>, slot: u32) -> (usize, Result<usize, usize>) {
        let place = slots.place(slot);
        let begins_before = |block: &Vec<u32>| {
            let first = block.first();
            first.is_some_and(|first| slots.place(*first) <= place)
        };
        let at = self.0.partition_point(begins_before).saturating_sub(1);
        let block = self.0.get(at).map(Vec::as_slice).unwrap_or_default();
        let within = block.binary_search_by(|other| slots.place(*other).cmp(&place));
        (at, within)
    }
}
