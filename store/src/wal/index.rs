//! Where each entry of the log is. Pure.

use std::collections::VecDeque;
use std::ops::Range;

/// Where the payload of one entry is: 16 bytes an entry, of which there are some 20,000 in normal operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// The entries of the log by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index {
    /// Index of the first entry there is, or would be.
    first: u64,
    /// Of the first one whose place is known. Greater than `first` only while segments are replayed whose beginning is
    /// gone: what lies between has to be purged by what comes later.
    known: u64,
    places: VecDeque<Place>,
}

impl Index {
    /// Entries of which no place is known yet.
    pub(super) fn of_unknown(first: u64, next: u64) -> Index {
        Index {
            first,
            known: next,
            places: VecDeque::new(),
        }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// Index that the next entry must have.
    pub(super) fn next(&self) -> u64 {
        self.known + self.places.len() as u64
    }

    pub(super) fn unknown(&self) -> Range<u64> {
        self.first..self.known
    }

    /// False, and nothing done, where the entry would leave a hole. A log that never had an entry may begin anywhere.
    pub(super) fn append(&mut self, index: u64, place: Place) -> bool {
        if self.next() == 0 {
            (self.first, self.known) = (index, index);
        }
        let follows = index == self.next();
        if follows {
            self.places.push_back(place);
        }
        follows
    }

    /// Takes out the entries from this index on.
    pub(super) fn truncate(&mut self, from: u64) {
        let kept = from
            .saturating_sub(self.known)
            .min(self.places.len() as u64);
        self.places.truncate(kept as usize);
        self.known = self.known.min(from.max(self.first));
    }

    /// Takes out the entries up to and including this index.
    pub(super) fn purge(&mut self, index: u64) {
        self.first = self.first.max(index + 1);
        while self.known < self.first && self.places.pop_front().is_some() {
            self.known += 1;
        }
        self.known = self.known.max(self.first);
    }

    /// Of all entries.
    pub(super) fn bytes(&self) -> u64 {
        self.places
            .iter()
            .map(|place| u64::from(place.length))
            .sum()
    }

    pub(super) fn first_place(&self) -> Option<Place> {
        self.places.front().copied()
    }

    /// The entries of a range that there are.
    pub(super) fn range(&self, range: Range<u64>) -> Vec<(u64, Place)> {
        let start = range.start.max(self.known);
        let end = range.end.min(self.next());
        (start..end)
            .map(|index| (index, self.places[(index - self.known) as usize]))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u32) -> Place {
        Place {
            segment: 1,
            offset,
            length: 1,
        }
    }

    fn filled(indexes: Range<u64>) -> Index {
        let mut index = Index::default();
        indexes.for_each(|at| assert!(index.append(at, place(at as u32))));
        index
    }

    #[test]
    fn entries_come_and_go() {
        let mut index = filled(0..10);
        assert!(!index.append(11, place(11)));
        index.purge(2);
        index.truncate(6);
        assert_eq!((index.first(), index.next()), (3, 6));
        let read: Vec<u64> = index.range(0..100).iter().map(|(at, _)| *at).collect();
        assert_eq!(read, [3, 4, 5]);
        assert_eq!(index.bytes(), 3);
        assert_eq!(index.first_place(), Some(place(3)));
        index.truncate(2);
        assert_eq!((index.first(), index.next()), (3, 3));
        assert!(index.append(3, place(30)));
        assert_eq!(index.range(3..4), [(3, place(30))]);
        // By a snapshot, beyond what there is.
        index.purge(20);
        assert_eq!((index.first(), index.next()), (21, 21));
        assert!(!index.append(4, place(4)));
        index.purge(7);
        assert_eq!((index.first(), index.next()), (21, 21));
    }

    #[test]
    fn a_log_may_begin_anywhere_once() {
        let mut index = filled(5..7);
        assert_eq!((index.first(), index.next()), (5, 7));
        index.truncate(5);
        assert!(!index.append(8, place(8)));
    }

    #[test]
    fn what_is_unknown_is_purged_or_truncated_later_or_missing() {
        let mut index = Index::of_unknown(5, 10);
        assert!(index.append(10, place(10)));
        assert_eq!(index.unknown(), 5..10);
        assert_eq!(index.range(0..100), [(10, place(10))]);
        let mut purged = index.clone();
        purged.purge(9);
        assert!(purged.unknown().is_empty());
        assert_eq!(purged.range(0..100).len(), 1);
        let mut truncated = index.clone();
        truncated.truncate(8);
        assert_eq!((truncated.unknown(), truncated.next()), (5..8, 8));
        truncated.truncate(5);
        assert!(truncated.unknown().is_empty());
        index.purge(7);
        assert_eq!(index.unknown(), 8..10);
    }
}
