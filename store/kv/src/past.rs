//! Which keys changed at which revision since the last compaction.

use std::collections::BTreeMap;

use bytes::Bytes;

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

/// The changes of one key, in order. Most keys have one, which stands in place: there are as many as there are keys.
#[derive(Clone, Debug)]
enum Changes {
    One(Change),
    Many(Vec<Change>),
}

impl Changes {
    fn as_slice(&self) -> &[Change] {
        match self {
            Changes::One(change) => std::slice::from_ref(change),
            Changes::Many(changes) => changes,
        }
    }

    fn push(&mut self, change: Change) {
        match self {
            Changes::One(first) => *self = Changes::Many(vec![*first, change]),
            Changes::Many(changes) => changes.push(change),
        }
    }

    /// Forgets what is older than a revision; false where nothing is left.
    fn forget_before(&mut self, revision: i64) -> bool {
        let gone = first_from(self.as_slice(), revision);
        match self {
            Changes::One(_) => gone == 0,
            Changes::Many(changes) if gone == changes.len() => false,
            Changes::Many(changes) => {
                changes.drain(..gone);
                if let [only] = changes[..] {
                    *self = Changes::One(only);
                }
                true
            }
        }
    }
}

fn first_from(changes: &[Change], revision: i64) -> usize {
    changes.partition_point(|change| change.revision < revision)
}

/// See the module head.
#[derive(Clone, Debug, Default)]
pub struct History(BTreeMap<Box<[u8]>, Changes>);

impl History {
    /// Takes note of a change that is newer than all before it.
    pub fn push(&mut self, key: &[u8], change: Change) {
        match self.0.get_mut(key) {
            Some(changes) => changes.push(change),
            None => drop(self.0.insert(key.into(), Changes::One(change))),
        }
    }

    /// Forgets what is older than a revision.
    pub(crate) fn compact(&mut self, revision: i64) {
        self.0.retain(|_, changes| changes.forget_before(revision));
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
        let changed = self.0.range::<[u8], _>(bounds);
        let changed = changed.filter_map(|(key, changes)| {
            let (first, last) = ends_after(changes.as_slice(), revision)?;
            Some((Bytes::copy_from_slice(key), first, last.after))
        });
        changed.collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0
            .values()
            .map(|changes| changes.as_slice().len())
            .sum()
    }
}

/// The first and the last of the changes after a revision.
pub(crate) fn ends_after(changes: &[Change], revision: i64) -> Option<(Change, Change)> {
    match &changes[first_from(changes, revision + 1)..] {
        [] => None,
        [only] => Some((*only, *only)),
        [first, .., last] => Some((*first, *last)),
    }
}

#[cfg(test)]
mod tests {
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

    /// There is one for each key that lives.
    #[test]
    fn the_changes_of_a_key_take_little_room() {
        assert_eq!(size_of::<(Box<[u8]>, Changes)>(), 40);
    }
}
