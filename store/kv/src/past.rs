//! Which keys changed at which revision since the last compaction.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::{Bytes, BytesMut};

use crate::keys::KeyRange;
use crate::view::EventId;

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

/// The changes of one key, in order. Many keys have one, which stands in place: there are as many as there are keys.
#[derive(Clone, Debug)]
enum Changes {
    One(Change),
    Many(Box<Many>),
}

/// Several changes, each as what it differs by from the one before: some three bytes instead of sixteen.
#[derive(Clone, Debug, Default)]
struct Many {
    /// The revision of the last one.
    last: i64,
    bytes: Vec<u8>,
}

impl Many {
    fn push(&mut self, change: Change) {
        put(
            &mut self.bytes,
            change.revision.wrapping_sub(self.last) as u64,
        );
        let (before, after) = (u64::from(change.before), u64::from(change.after));
        put(
            &mut self.bytes,
            (u64::from(change.sub) << 2) | (before << 1) | after,
        );
        self.last = change.revision;
    }
}

/// Appends a number, seven bits to a byte, the lowest first; all but the last have the eighth bit.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number as u8) | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The changes of [`Many`].
struct Read<'a> {
    last: i64,
    bytes: &'a [u8],
}

impl Read<'_> {
    fn number(&mut self) -> Option<u64> {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (byte, rest) = self.bytes.split_first()?;
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some(number);
            }
            shift += 7;
        }
    }
}

impl Iterator for Read<'_> {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        self.last = self.last.wrapping_add(self.number()? as i64);
        let rest = self.number()?;
        Some(Change {
            revision: self.last,
            sub: (rest >> 2) as u32,
            before: rest & 2 != 0,
            after: rest & 1 != 0,
        })
    }
}

impl Changes {
    /// None where there is none.
    fn of(mut all: impl Iterator<Item = Change>) -> Option<Changes> {
        let first = all.next()?;
        let Some(second) = all.next() else {
            return Some(Changes::One(first));
        };
        let mut many = Many::default();
        [first, second]
            .into_iter()
            .chain(all)
            .for_each(|one| many.push(one));
        many.bytes.shrink_to_fit();
        Some(Changes::Many(Box::new(many)))
    }

    fn iter(&self) -> impl Iterator<Item = Change> {
        let (one, bytes) = match self {
            Changes::One(change) => (Some(*change), &[][..]),
            Changes::Many(many) => (None, &many.bytes[..]),
        };
        one.into_iter().chain(Read { last: 0, bytes })
    }

    fn push(&mut self, change: Change) {
        match self {
            Changes::One(first) => {
                let mut many = Many::default();
                many.push(*first);
                many.push(change);
                *self = Changes::Many(Box::new(many));
            }
            Changes::Many(many) => many.push(change),
        }
    }

    fn last_revision(&self) -> i64 {
        match self {
            Changes::One(change) => change.revision,
            Changes::Many(many) => many.last,
        }
    }

    /// Forgets what is older than a revision; false where nothing is left.
    fn forget_before(&mut self, revision: i64) -> bool {
        if self.last_revision() < revision {
            return false;
        }
        let is_old = |change: &Change| change.revision < revision;
        if self.iter().next().is_none_or(|first| !is_old(&first)) {
            return true;
        }
        if let Some(left) = Changes::of(self.iter().skip_while(is_old)) {
            *self = left;
        }
        true
    }
}

/// See the module head.
#[derive(Clone, Debug, Default)]
pub struct History {
    by_key: BTreeMap<Box<[u8]>, Changes>,
    /// Over all keys.
    changes: usize,
}

impl History {
    /// Takes note of a change that is newer than all before it.
    pub fn push(&mut self, key: &[u8], change: Change) {
        self.changes += 1;
        // A key that was there before has its place, if that was not compacted, and needs no copy to be found.
        if change.before
            && let Some(changes) = self.by_key.get_mut(key)
        {
            changes.push(change);
            return;
        }
        // One way down the tree: most keys have one change, and to go down costs more than a key.
        match self.by_key.entry(key.into()) {
            Entry::Occupied(mut changes) => changes.get_mut().push(change),
            Entry::Vacant(place) => {
                place.insert(Changes::One(change));
            }
        }
    }

    /// Takes note of changes that are newer than all before them.
    pub fn append(&mut self, later: History) {
        if self.by_key.is_empty() {
            *self = later;
            return;
        }
        self.changes += later.changes;
        for (key, changes) in later.by_key {
            match self.by_key.entry(key) {
                Entry::Occupied(mut place) => {
                    let place = place.get_mut();
                    changes.iter().for_each(|change| place.push(change));
                }
                Entry::Vacant(place) => {
                    place.insert(changes);
                }
            }
        }
    }

    /// Forgets what is older than a revision.
    pub(crate) fn compact(&mut self, revision: i64) {
        let mut left = 0;
        self.by_key.retain(|_, changes| {
            let is_any_left = changes.forget_before(revision);
            if is_any_left {
                left += changes.iter().count();
            }
            is_any_left
        });
        self.changes = left;
    }

    /// See [`crate::Catalog::changed_after`].
    pub(crate) fn changed_after(
        &self,
        range: &KeyRange,
        revision: i64,
    ) -> Vec<(Bytes, Change, bool)> {
        let Some(bounds) = range.bounds() else {
            return Vec::new();
        };
        // The keys in one piece of memory: nobody keeps one for longer than the others.
        let (mut keys, mut found) = (BytesMut::new(), Vec::new());
        for (key, changes) in self.by_key.range::<[u8], _>(bounds) {
            // Most keys have not changed since, and their changes need not be read to know that.
            if changes.last_revision() <= revision {
                continue;
            }
            if let Some((first, last)) = ends_after(changes.iter(), revision) {
                keys.extend_from_slice(key);
                found.push((key.len(), first, last.after));
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
        assert_eq!(size_of::<(Box<[u8]>, Changes)>(), 32);
        let mut many = Many::default();
        for number in 0..100 {
            many.push(change(1_000_000_000 + 500 * number));
        }
        assert!(many.bytes.len() < 400, "{}", many.bytes.len());
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
    }
}
