//! Pods by uid. There are a hundred thousand of them, and each says itself what its uid is: it is not written down again.

use crate::object::Pod;
use host::HashSet;
use std::borrow::Borrow;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The pods of one node, in the order of their uids.
#[derive(Debug, Clone, Default)]
pub struct Occupants(Vec<Arc<Pod>>);

impl Occupants {
    /// All of them.
    pub fn values(&self) -> std::slice::Iter<'_, Arc<Pod>> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One of them.
    pub fn get(&self, uid: &str) -> Option<&Arc<Pod>> {
        let at = self.find(uid).ok()?;
        Some(&self.0[at])
    }

    /// Puts a newer state of a pod in the place of this one, if exactly this one is there. None of the pods is read to find it, of
    /// which hardly any is in the processor's cache.
    pub(super) fn renew(&mut self, known: &Arc<Pod>, newer: Arc<Pod>) -> bool {
        let mut all = self.0.iter_mut();
        let Some(place) = all.find(|pod| Arc::ptr_eq(pod, known)) else {
            return false;
        };
        *place = newer;
        true
    }

    /// One more, or a newer state of one that is there.
    pub(super) fn insert(&mut self, pod: Arc<Pod>) {
        match self.find(&pod.uid) {
            Ok(at) => self.0[at] = pod,
            Err(at) => self.0.insert(at, pod),
        }
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let at = self.find(uid).ok()?;
        Some(self.0.remove(at))
    }

    fn find(&self, uid: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|pod| pod.uid.as_str().cmp(uid))
    }
}

/// In which slot each pod is.
#[derive(Debug, Clone, Default)]
pub(super) struct Slots(HashSet<InSlot>);

/// A pod that is found by its uid.
#[derive(Debug, Clone)]
struct InSlot {
    pod: Arc<Pod>,
    slot: u32,
}

impl Borrow<str> for InSlot {
    fn borrow(&self) -> &str {
        &self.pod.uid
    }
}

impl PartialEq for InSlot {
    fn eq(&self, other: &Self) -> bool {
        self.pod.uid == other.pod.uid
    }
}

impl Eq for InSlot {}

impl Hash for InSlot {
    /// Like the text that it is looked up by.
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.pod.uid.hash(hasher);
    }
}

impl Slots {
    pub(super) fn of(&self, uid: &str) -> Option<u32> {
        self.0.get(uid).map(|known| known.slot)
    }

    /// The pod as it was set, and its slot.
    pub(super) fn get(&self, uid: &str) -> Option<(&Arc<Pod>, u32)> {
        let known = self.0.get(uid)?;
        Some((&known.pod, known.slot))
    }

    /// A pod, or a newer state of it, is in this slot.
    pub(super) fn set(&mut self, pod: Arc<Pod>, slot: u32) {
        self.0.replace(InSlot { pod, slot });
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<u32> {
        self.0.take(uid).map(|known| known.slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, priority: i32) -> Arc<Pod> {
        Arc::new(Pod {
            uid: uid.into(),
            priority,
            ..Pod::default()
        })
    }

    #[test]
    fn occupants_are_in_the_order_of_their_uids_and_only_as_they_are_now() {
        let mut there = Occupants::default();
        for uid in ["b", "c", "a"] {
            there.insert(pod(uid, 0));
        }
        there.insert(pod("c", 1));
        let all = there.values().map(|pod| (pod.uid.as_str(), pod.priority));
        assert!(all.eq([("a", 0), ("b", 0), ("c", 1)]));
        assert_eq!(there.remove("b"), Some(pod("b", 0)));
        assert_eq!((there.remove("b"), there.get("x")), (None, None));
        assert_eq!((there.len(), there.is_empty()), (2, false));
        let known = there.get("a").unwrap().clone();
        assert!(there.renew(&known, pod("a", 2)));
        assert_eq!(there.get("a").unwrap().priority, 2);
        assert!(
            !there.renew(&known, pod("a", 3)),
            "that one is there no more"
        );
        assert_eq!((there.get("a").unwrap().priority, there.len()), (2, 2));
    }

    #[test]
    fn a_slot_is_known_of_the_newest_state_and_no_older_one_is_kept() {
        // There is one for each pod: think before you give it more.
        assert_eq!(size_of::<InSlot>(), 16);
        let mut slots = Slots::default();
        let first = pod("a", 0);
        slots.set(first.clone(), 1);
        slots.set(pod("a", 1), 2);
        slots.set(pod("b", 0), 3);
        assert_eq!(Arc::strong_count(&first), 1);
        assert_eq!((slots.of("a"), slots.of("b")), (Some(2), Some(3)));
        assert_eq!((slots.remove("a"), slots.of("a")), (Some(2), None));
    }
}
