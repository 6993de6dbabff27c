//! Which keys changed at which revision since the last compaction.
//!
//! Nearly every key that lives has changed lately where much is written, so that there is one here for each on every
//! member: neighbouring keys share a leaf, in which the keys are a [`KeyRun`] and most changes stand in place ([`Changes`]).

mod changes;

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::{Bytes, BytesMut};

use crate::key_run::{KeyRun, cut, make_room};
use crate::keys::KeyRange;
use crate::view::EventId;
use changes::Changes;

/// One retained change of a key. `before` and `after` say whether the key existed, which is enough to count the keys
/// of an old revision without reading one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    revision: i64,
    sub: u32,
    pub before: bool,
    pub after: bool,
}

impl Change {
    pub fn new(id: EventId, before: bool, after: bool) -> Change {
        Change {
            revision: id.revision,
            sub: id.sub,
            before,
            after,
        }
    }

    pub fn id(&self) -> EventId {
        EventId {
            revision: self.revision,
            sub: self.sub,
        }
    }
}

/// Most keys of a leaf.
const LEAF_MAX: usize = 128;

/// Some neighbouring keys and the changes of each.
#[derive(Clone, Debug, Default)]
struct Leaf {
    keys: KeyRun,
    changes: Vec<Changes>,
}

impl Leaf {
    /// Adds a key where the search says that it would be. A leaf that became too large gives away its right part, under
    /// the smallest key of it.
    fn insert(&mut self, place: usize, key: &[u8], changes: Changes) -> Option<(Box<[u8]>, Leaf)> {
        self.keys.insert(place, key);
        make_room(&mut self.changes);
        self.changes.insert(place, changes);
        if self.changes.len() <= LEAF_MAX {
            return None;
        }
        let cut = cut(self.changes.len(), place);
        let right = Leaf {
            keys: self.keys.split_off(cut),
            changes: self.changes.split_off(cut),
        };
        self.changes.shrink_to_fit();
        Some((right.keys.key(0), right))
    }

    /// Forgets what is older than a revision; answers how many changes are left.
    fn forget_before(&mut self, revision: i64) -> usize {
        let each: Vec<usize> = (self.changes.iter_mut())
            .map(|changes| changes.forget_before(revision))
            .collect();
        if each.contains(&0) {
            let kept = |place: &usize| each[*place] > 0;
            self.keys = self.keys.pick((0..each.len()).filter(kept));
            let mut left = each.iter();
            self.changes
                .retain(|_| left.next().is_some_and(|left| *left > 0));
            self.changes.shrink_to_fit();
        }
        each.iter().sum()
    }

    /// Takes over the leaf after it.
    fn join(&mut self, mut next: Leaf) {
        self.keys.join(&next.keys);
        self.changes.append(&mut next.changes);
    }
}

/// See the module head.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Each under a key that is not larger than any of its own, and larger than all of the leaf before; the first, if
    /// there is one, under the empty key.
    leaves: BTreeMap<Box<[u8]>, Leaf>,
    /// Over all keys.
    changes: usize,
}

impl History {
    /// Takes note of a change that is newer than all before it.
    pub fn push(&mut self, key: &[u8], change: Change) {
        self.changes += 1;
        let leaf = self.leaf_of(key);
        let split = match leaf.keys.search(key) {
            Ok(place) => {
                leaf.changes[place].push(change);
                None
            }
            Err(place) => leaf.insert(place, key, Changes::one(change)),
        };
        self.leaves.extend(split);
    }

    /// The leaf in which a key is or would be.
    fn leaf_of(&mut self, key: &[u8]) -> &mut Leaf {
        if self.leaves.is_empty() {
            self.leaves.insert(Box::default(), Leaf::default());
        }
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let leaf = self.leaves.range_mut::<[u8], _>(up_to).next_back();
        leaf.expect("no key is smaller than the empty one").1
    }

    /// Takes note of changes that are newer than all before them.
    pub fn append(&mut self, later: History) {
        if self.changes == 0 {
            *self = later;
            return;
        }
        self.changes += later.changes;
        for later in later.leaves.into_values() {
            for (place, changes) in later.changes.into_iter().enumerate() {
                let key = later.keys.key(place);
                let leaf = self.leaf_of(&key);
                let split = match leaf.keys.search(&key) {
                    Ok(place) => {
                        let known = &mut leaf.changes[place];
                        changes.iter().for_each(|change| known.push(change));
                        None
                    }
                    Err(place) => leaf.insert(place, &key, changes),
                };
                self.leaves.extend(split);
            }
        }
    }

    /// Forgets what is older than a revision.
    pub(crate) fn compact(&mut self, revision: i64) {
        self.changes = 0;
        let mut left: Vec<(Box<[u8]>, Leaf)> = Vec::new();
        for (low, mut leaf) in std::mem::take(&mut self.leaves) {
            self.changes += leaf.forget_before(revision);
            match left.last_mut() {
                Some(_) if leaf.keys.is_empty() => {}
                // Half full, so that the next keys do not split it again.
                Some((_, last)) if last.keys.len() + leaf.keys.len() <= LEAF_MAX / 2 => {
                    last.join(leaf);
                }
                _ => left.push((low, leaf)),
            }
        }
        self.leaves = left.into_iter().collect();
    }

    /// See [`crate::Catalog::changed_after`].
    pub(crate) fn changed_after(
        &self,
        range: &KeyRange,
        revision: i64,
    ) -> Vec<(Bytes, Change, bool)> {
        let Some((_, end)) = range.bounds() else {
            return Vec::new();
        };
        let start: &[u8] = range.start();
        let up_to = (Bound::Unbounded, Bound::Included(start));
        let Some((first, _)) = self.leaves.range::<[u8], _>(up_to).next_back() else {
            return Vec::new();
        };
        // The keys in one piece of memory: nobody keeps one for longer than the others.
        let (mut keys, mut found) = (BytesMut::new(), Vec::new());
        let leaves = (Bound::Included(&first[..]), end);
        for (_, leaf) in self.leaves.range::<[u8], _>(leaves) {
            let from = leaf.keys.search(start).unwrap_or_else(|place| place);
            let to = match end {
                Bound::Included(last) => (leaf.keys.search(last)).map_or_else(|to| to, |at| at + 1),
                Bound::Excluded(end) => leaf.keys.search(end).unwrap_or_else(|place| place),
                Bound::Unbounded => leaf.keys.len(),
            };
            for place in from..to {
                let changes = &leaf.changes[place];
                // Most keys have not changed since, which of many changes need not be read to know.
                if changes.last_revision() <= revision {
                    continue;
                }
                if let Some((first, last)) = ends_after(changes.iter(), revision) {
                    let before = keys.len();
                    (leaf.keys.parts(place).iter()).for_each(|part| keys.extend_from_slice(part));
                    found.push((keys.len() - before, first, last.after));
                }
            }
        }
        let mut keys = keys.freeze();
        let found = found.into_iter();
        found
            .map(|(len, first, after)| (keys.split_to(len), first, after))
            .collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.changes
    }

    /// Bytes of memory that are allocated, without what the allocator and the tree of leaves add.
    #[cfg(test)]
    fn memory_bytes(&self) -> usize {
        let mut bytes = 0;
        for (low, leaf) in &self.leaves {
            bytes += size_of::<(Box<[u8]>, Leaf)>() + low.len() + leaf.keys.memory_bytes();
            bytes += leaf.changes.capacity() * size_of::<Changes>();
            bytes += leaf
                .changes
                .iter()
                .map(Changes::memory_bytes)
                .sum::<usize>();
        }
        bytes
    }
}

/// The first and the last of the changes after a revision.
fn ends_after(changes: impl Iterator<Item = Change>, revision: i64) -> Option<(Change, Change)> {
    let mut later = changes.skip_while(|change| change.revision <= revision);
    let first = later.next()?;
    Some((first, later.last().unwrap_or(first)))
}

#[cfg(test)]
mod tests;
