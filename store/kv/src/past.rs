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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change(revision: i64) -> Change {
        Change::new(EventId { revision, sub: 0 }, revision > 2, true)
    }

    fn after(history: &History, revision: i64) -> Vec<(i64, bool)> {
        let changed = history.changed_after(&KeyRange::all(), revision);
        let changed = changed.iter();
        changed
            .map(|(_, first, _)| (first.id().revision, first.before))
            .collect()
    }

    #[test]
    fn a_key_is_known_by_its_first_change_after_a_revision() {
        let mut history = History::default();
        for (key, revision) in [("a", 2), ("b", 3), ("a", 5), ("a", 9)] {
            history.push(key.as_bytes(), change(revision));
        }
        assert_eq!(history.len(), 4);
        assert_eq!(after(&history, 1), [(2, false), (3, true)]);
        assert_eq!(after(&history, 2), [(5, true), (3, true)]);
        assert_eq!(after(&history, 5), [(9, true)]);
        assert_eq!(after(&history, 9), []);
        history.compact(5);
        assert_eq!(after(&history, 1), [(5, true)]);
        history.compact(9);
        assert_eq!((after(&history, 1), history.len()), (vec![(9, true)], 1));
        history.push(b"a", change(12));
        assert_eq!(after(&history, 9), [(12, true)]);
        history.compact(13);
        assert_eq!(history.len(), 0);
    }

    #[test]
    fn what_was_noted_in_parts_is_the_same() {
        let changes = [("a", 2), ("b", 3), ("a", 5), ("c", 7), ("a", 9), ("b", 9)];
        let noted = |changes: &[(&str, i64)]| {
            let mut history = History::default();
            for (key, revision) in changes {
                history.push(key.as_bytes(), change(*revision));
            }
            history
        };
        let whole = noted(&changes[..]);
        for cut in 0..=changes.len() {
            let mut history = noted(&changes[..cut]);
            history.append(noted(&changes[cut..]));
            assert_eq!(history.len(), whole.len());
            for revision in 0..10 {
                let (found, expected) = (after(&history, revision), after(&whole, revision));
                assert_eq!(found, expected, "{cut} {revision}");
            }
        }
    }

    /// There is one for each key that lives.
    #[test]
    fn the_changes_of_a_key_take_little_room() {
        const KEYS: i64 = 20_000;
        // Pods as the API server names them, in no order: made, bound, and running.
        let mixed = |n: i64| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
        let mut history = History::default();
        for turn in 0..3 {
            for n in 0..KEYS {
                let key = format!(
                    "/registry/pods/default/app-{}-5d8f7b9c-{:05x}",
                    n % 20,
                    mixed(n)
                );
                history.push(key.as_bytes(), change(100_000 + turn * KEYS + n));
            }
        }
        let each = history.memory_bytes() / KEYS as usize;
        assert!(each < 60, "{each} bytes a key");
        history.compact(100_000 + 3 * KEYS);
        assert_eq!(history.len(), 0);
        assert!(history.memory_bytes() < 200);
    }

    proptest! {
        #[test]
        fn what_is_noted_comes_back(
            changes in prop::collection::vec((0..3_usize, prop_oneof![0..3_i64, 0..1_i64 << 40], any::<u32>(), any::<(bool, bool)>()), 0..60),
            compacted in prop::collection::vec(0..60_usize, 0..3),
        ) {
            let keys: [&[u8]; 3] = [b"a", b"b", b"c"];
            let mut history = History::default();
            let mut model: [Vec<Change>; 3] = Default::default();
            let mut revision = 0;
            for (turn, (key, step, sub, (before, after))) in changes.into_iter().enumerate() {
                if compacted.contains(&turn) {
                    let upto = revision - revision / 3;
                    history.compact(upto);
                    model.iter_mut().for_each(|all| all.retain(|one| one.revision >= upto));
                }
                revision += step;
                let change = Change::new(EventId { revision, sub }, before, after);
                history.push(keys[key], change);
                model[key].push(change);
                for asked in [0, revision / 2, revision - 1, revision] {
                    let expected = keys.iter().zip(&model).filter_map(|(&key, all)| {
                        let first = all.iter().find(|one| one.revision > asked)?;
                        Some((Bytes::from_static(key), *first, all.last()?.after))
                    });
                    let expected: Vec<_> = expected.collect();
                    prop_assert_eq!(history.changed_after(&KeyRange::all(), asked), expected);
                }
                prop_assert_eq!(history.len(), model.iter().map(Vec::len).sum::<usize>());
            }
        }

        /// So many keys that leaves are split and joined.
        #[test]
        fn many_keys_are_as_in_a_plain_map(
            changes in prop::collection::vec((0..600_u16, any::<(bool, bool)>()), 1..1500),
            compacted in prop::collection::vec((0..1500_usize, 0..600_i64), 0..4),
            ranges in prop::collection::vec((0..600_u16, 0..600_u16), 6),
            cut in 0..1500_usize,
        ) {
            // Of several lengths, some of which are prefixes of others.
            let key = |n: u16| Bytes::from(match n % 3 {
                0 => format!("/registry/pods/{:03}", n / 3),
                1 => format!("/registry/pods/{:03}/status", n / 3),
                _ => format!("{:03}", n / 3),
            });
            let (mut history, mut parts) = (History::default(), [History::default(), History::default()]);
            let mut model: BTreeMap<Bytes, Vec<Change>> = BTreeMap::new();
            let mut revision = 1_i64;
            for (turn, (n, (before, after))) in changes.into_iter().enumerate() {
                revision += 1;
                if let Some((_, back)) = compacted.iter().find(|(at, _)| *at == turn) {
                    let upto = revision - *back;
                    history.compact(upto);
                    parts.iter_mut().for_each(|part| part.compact(upto));
                    model.retain(|_, all| {
                        all.retain(|one| one.revision >= upto);
                        !all.is_empty()
                    });
                }
                let change = Change::new(EventId { revision, sub: 0 }, before, after);
                history.push(&key(n), change);
                parts[usize::from(turn >= cut)].push(&key(n), change);
                model.entry(key(n)).or_default().push(change);
            }
            let [mut whole, later] = parts;
            whole.append(later);
            let noted = model.values().map(Vec::len).sum::<usize>();
            prop_assert_eq!((history.len(), whole.len()), (noted, noted));
            for (from, to) in ranges {
                let (start, end) = (key(from), key(to));
                let span = KeyRange::Span { start: start.clone(), end };
                for range in [KeyRange::One(start.clone()), span, KeyRange::From(start)] {
                    for asked in [0, revision / 2, revision - 1] {
                        let inside = model.iter().filter(|(key, _)| range.contains(key));
                        let expected = inside.filter_map(|(key, all)| {
                            let first = all.iter().find(|one| one.revision > asked)?;
                            Some((key.clone(), *first, all.last()?.after))
                        });
                        let expected: Vec<_> = expected.collect();
                        prop_assert_eq!(&history.changed_after(&range, asked), &expected);
                        prop_assert_eq!(whole.changed_after(&range, asked), expected);
                    }
                }
            }
        }
    }
}
