//! The newest entries of the log, kept in memory, so that replication and apply do not read the disk in steady state. Pure.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use openraft::EntryPayload;
use tokio::time::Instant;

use crate::raft::types::Entry;

/// Entries kept in memory after they were stored. Members that keep up are a fraction of a second behind; for others the
/// files are read, which the kernel has in its memory as well.
const BYTES: usize = 4 << 20;
const ENTRIES: usize = 8192;
/// An entry that is twice as old is not kept: where little comes, a few megabytes would be the last minute.
const AGE: Duration = Duration::from_secs(1);
/// There is room for so many at least.
const ROOM: usize = 1024;

/// See the module head. Without a hole; all entries below are on disk only.
pub(super) struct Kept {
    entries: VecDeque<Entry>,
    bytes: usize,
    ages: Ages,
}

/// Which entries are old.
struct Ages {
    looked: Instant,
    /// The index after the last entry at that time, and at the look before, which was [`AGE`] earlier or more.
    then: u64,
    before: u64,
}

impl Kept {
    pub(super) fn new(now: Instant) -> Kept {
        Kept {
            entries: VecDeque::new(),
            bytes: 0,
            ages: Ages {
                looked: now,
                then: 0,
                before: 0,
            },
        }
    }

    /// Index of the first one.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index)
    }

    /// Those of a range that ends no later than the log.
    pub(super) fn range(&self, range: Range<u64>) -> Vec<Entry> {
        match self.first() {
            Some(first) if range.end > first => {
                let skip = range.start.saturating_sub(first) as usize;
                let until = (range.end - first) as usize;
                self.entries.range(skip..until).cloned().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The one after the last.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
    }

    /// Takes out the entries from this index on.
    pub(super) fn truncate(&mut self, from: u64) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.log_id.index >= from) {
            self.bytes -= entry_bytes(&entry);
        }
        self.ages.then = self.ages.then.min(from);
        self.ages.before = self.ages.before.min(from);
    }

    /// Takes out the entries up to this index.
    pub(super) fn purge(&mut self, upto: u64) {
        while let Some(entry) = self
            .entries
            .pop_front_if(|entry| entry.log_id.index <= upto)
        {
            self.bytes -= entry_bytes(&entry);
        }
    }

    /// Takes out what is too much or too old, of the entries below `stored`: others are nowhere else yet.
    pub(super) fn trim(&mut self, stored: u64, now: Instant) {
        if now.saturating_duration_since(self.ages.looked) >= AGE {
            let next = self
                .entries
                .back()
                .map_or(0, |entry| entry.log_id.index + 1);
            self.ages = Ages {
                looked: now,
                then: next,
                before: self.ages.then,
            };
            self.entries.shrink_to(2 * self.entries.len().max(ROOM));
        }
        while let Some(first) = self.entries.front() {
            let index = first.log_id.index;
            let too_much = self.bytes > BYTES || self.entries.len() > ENTRIES;
            if index >= stored || !too_much && index >= self.ages.before {
                break;
            }
            self.bytes -= entry_bytes(first);
            self.entries.pop_front();
        }
    }
}

/// What an entry takes in memory, nearly.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.0.len() + 64,
        _ => 256,
    }
}

#[cfg(test)]
mod tests {
    use openraft::entry::RaftEntry;

    use super::*;
    use crate::disk::log_id;
    use crate::raft::types::Proposal;

    fn entry(index: u64, bytes: usize) -> Entry {
        let payload = EntryPayload::Normal(Proposal(vec![7; bytes].into()));
        Entry::new(log_id(1, index), payload)
    }

    fn indexes(kept: &Kept, range: Range<u64>) -> Vec<u64> {
        let found = kept.range(range);
        found.iter().map(|entry| entry.log_id.index).collect()
    }

    fn kept(indexes: Range<u64>, bytes: usize, now: Instant) -> Kept {
        let mut kept = Kept::new(now);
        indexes.for_each(|index| kept.push(entry(index, bytes)));
        kept
    }

    #[test]
    fn what_is_not_stored_is_kept_and_of_the_rest_no_more_than_fits() {
        let now = Instant::now();
        let mut large = kept(5..15, BYTES / 4, now);
        large.trim(5, now);
        assert_eq!(large.first(), Some(5));
        large.trim(9, now);
        assert_eq!(large.first(), Some(9));
        large.trim(15, now);
        assert_eq!(indexes(&large, 5..15), [12, 13, 14]);
        let mut many = kept(0..ENTRIES as u64 + 3, 1, now);
        many.trim(u64::MAX, now);
        assert_eq!(many.first(), Some(3));
    }

    #[test]
    fn what_is_old_goes_though_there_is_room() {
        let start = Instant::now();
        let mut few = kept(5..10, 1, start);
        few.trim(10, start + AGE / 2);
        few.trim(10, start + AGE);
        assert_eq!(few.first(), Some(5), "none was known to be old");
        few.push(entry(10, 1));
        few.trim(11, start + 2 * AGE - AGE / 10);
        assert_eq!(few.first(), Some(5));
        few.trim(7, start + 2 * AGE);
        assert_eq!(few.first(), Some(7), "it is not stored");
        few.trim(11, start + 2 * AGE);
        assert_eq!(indexes(&few, 5..11), [10], "it came later");
        few.trim(11, start + 3 * AGE);
        assert_eq!(few.first(), None);
        few.push(entry(11, 1));
        assert_eq!(indexes(&few, 3..12), [11]);
    }

    #[test]
    fn a_number_that_is_given_again_is_young() {
        let start = Instant::now();
        let mut again = kept(5..10, 1, start);
        again.trim(10, start + AGE);
        again.truncate(7);
        assert_eq!(indexes(&again, 0..7), [5, 6]);
        (7..10).for_each(|index| again.push(entry(index, 1)));
        again.trim(10, start + 2 * AGE);
        assert_eq!(indexes(&again, 0..10), [7, 8, 9]);
        again.purge(8);
        assert_eq!(indexes(&again, 0..10), [9]);
        again.truncate(0);
        assert_eq!((again.first(), again.bytes), (None, 0));
    }
}
