//! An ordered set of keys that knows how many of them stand before any key.
//!
//! Two levels: sorted runs of at most [`RUN_MAX`] keys, and an array of the runs' lengths. A count is two binary
//! searches and a sum over the small array between them; a million keys are some four thousand lengths, that is, a
//! few cache lines. A balanced tree with counts would save that sum and cost a pointer chase per level instead.

use bytes::Bytes;

use crate::keys::KeyRange;

const RUN_MAX: usize = 512;

/// The live keys.
#[derive(Clone, Debug, Default)]
pub(crate) struct CountedKeys {
    runs: Vec<Vec<Bytes>>,
    lengths: Vec<u32>,
    len: usize,
}

impl CountedKeys {
    /// Adds a key; false where it was there.
    pub(crate) fn insert(&mut self, key: Bytes) -> bool {
        if self.runs.is_empty() {
            self.runs.push(vec![key]);
            self.lengths.push(1);
            self.len = 1;
            return true;
        }
        let at = self.run_of(&key);
        let run = &mut self.runs[at];
        let Err(place) = run.binary_search(&key) else {
            return false;
        };
        run.insert(place, key);
        self.len += 1;
        if run.len() > RUN_MAX {
            // Keys often arrive in order: leave the full half behind when the last run grows at its end.
            let cut = if place + 1 == run.len() {
                run.len() - 1
            } else {
                run.len() / 2
            };
            let tail = run.split_off(cut);
            self.lengths.insert(at + 1, tail.len() as u32);
            self.runs.insert(at + 1, tail);
        }
        self.lengths[at] = self.runs[at].len() as u32;
        true
    }

    /// Takes a key out; false where it was not there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        if self.runs.is_empty() {
            return false;
        }
        let at = self.run_of(key);
        let run = &mut self.runs[at];
        let Ok(place) = run.binary_search_by(|have| have.as_ref().cmp(key)) else {
            return false;
        };
        run.remove(place);
        self.len -= 1;
        self.lengths[at] = run.len() as u32;
        if run.is_empty() {
            self.runs.remove(at);
            self.lengths.remove(at);
        }
        true
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        !self.runs.is_empty()
            && self.runs[self.run_of(key)]
                .binary_search_by(|have| have.as_ref().cmp(key))
                .is_ok()
    }

    /// How many keys a range holds.
    pub(crate) fn count(&self, range: &KeyRange) -> usize {
        match range {
            KeyRange::One(key) => usize::from(self.contains(key)),
            KeyRange::From(start) => self.len - self.rank(start),
            KeyRange::Span { start, end } if start < end => self.rank(end) - self.rank(start),
            KeyRange::Span { .. } => 0,
        }
    }

    /// How many keys are smaller than this one.
    fn rank(&self, key: &[u8]) -> usize {
        if self.runs.is_empty() {
            return 0;
        }
        let at = self.run_of(key);
        let before: usize = self.lengths[..at].iter().map(|n| *n as usize).sum();
        before + self.runs[at].partition_point(|have| have.as_ref() < key)
    }

    /// The run in which the key is or would be. The set must not be empty.
    fn run_of(&self, key: &[u8]) -> usize {
        self.runs
            .partition_point(|run| run[0].as_ref() <= key)
            .saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_as_a_plain_set(
            ops in proptest::collection::vec((any::<bool>(), 0u16..900), 1..2500),
            ranges in proptest::collection::vec((0u16..900, 0u16..900), 20),
        ) {
            let key = |n: u16| Bytes::from(format!("{n:04}"));
            let mut counted = CountedKeys::default();
            let mut plain = BTreeSet::new();
            for (add, n) in ops {
                if add {
                    prop_assert_eq!(counted.insert(key(n)), plain.insert(key(n)));
                } else {
                    prop_assert_eq!(counted.remove(&key(n)), plain.remove(&key(n)));
                }
            }
            for (from, to) in ranges {
                let span = KeyRange::Span { start: key(from), end: key(to) };
                let want = span.bounds().map_or(0, |b| plain.range::<[u8], _>(b).count());
                prop_assert_eq!(counted.count(&span), want);
                prop_assert_eq!(counted.count(&KeyRange::From(key(from))), plain.range(key(from)..).count());
                prop_assert_eq!(counted.count(&KeyRange::One(key(from))), usize::from(plain.contains(&key(from))));
            }
        }
    }

    #[test]
    fn ascending_inserts_fill_the_runs() {
        let mut counted = CountedKeys::default();
        for n in 0..5000 {
            counted.insert(Bytes::from(format!("{n:05}")));
        }
        assert_eq!(counted.count(&KeyRange::all()), 5000);
        assert!(counted.runs.len() <= 11, "{} runs", counted.runs.len());
    }
}
