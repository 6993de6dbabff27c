//! From a key to those who watch it, without asking everybody.
//!
//! Most watch one key or all keys with a prefix, and there may be many thousands of them: both are looked up in tables,
//! prefixes once for each length that is in use. What is left, odd ranges and those of everything, is asked in turn.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::keys::KeyRange;

/// Names of what is routed to.
pub(crate) type RouteId = u64;

/// See the module head.
#[derive(Default)]
pub(crate) struct Routes {
    keys: BTreeMap<Bytes, RouteId>,
    prefixes: BTreeMap<Bytes, RouteId>,
    /// How many prefixes have this length.
    lengths: BTreeMap<usize, usize>,
    others: BTreeMap<KeyRange, RouteId>,
}

impl Routes {
    pub(crate) fn get(&self, range: &KeyRange) -> Option<RouteId> {
        let found = match range {
            KeyRange::One(key) => self.keys.get(key),
            _ => match prefix_of(range) {
                Some(prefix) => self.prefixes.get(prefix),
                None => self.others.get(range),
            },
        };
        found.copied()
    }

    /// The range must not be there yet.
    pub(crate) fn insert(&mut self, range: &KeyRange, id: RouteId) {
        let old = match range {
            // Copied: it may be a small part of a large request.
            KeyRange::One(key) => self.keys.insert(Bytes::copy_from_slice(key), id),
            _ => match prefix_of(range) {
                Some(prefix) => {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                    self.prefixes.insert(Bytes::copy_from_slice(prefix), id)
                }
                None => self.others.insert(range.clone(), id),
            },
        };
        assert!(old.is_none(), "a range has one route");
    }

    pub(crate) fn remove(&mut self, range: &KeyRange) {
        match range {
            KeyRange::One(key) => {
                self.keys.remove(key);
            }
            _ => match prefix_of(range) {
                Some(prefix) => {
                    if self.prefixes.remove(prefix).is_some()
                        && let Some(count) = self.lengths.get_mut(&prefix.len())
                    {
                        *count -= 1;
                        if *count == 0 {
                            self.lengths.remove(&prefix.len());
                        }
                    }
                }
                None => {
                    self.others.remove(range);
                }
            },
        }
    }

    /// All whose range has this key.
    pub(crate) fn of_key(&self, key: &[u8], mut visit: impl FnMut(RouteId)) {
        if let Some(id) = self.keys.get(key) {
            visit(*id);
        }
        for length in self
            .lengths
            .keys()
            .take_while(|length| **length <= key.len())
        {
            if let Some(id) = self.prefixes.get(&key[..*length]) {
                visit(*id);
            }
        }
        for (range, id) in &self.others {
            if range.contains(key) {
                visit(*id);
            }
        }
    }
}

/// What all keys of the range begin with, where the range is of all such keys.
fn prefix_of(range: &KeyRange) -> Option<&Bytes> {
    let KeyRange::Span { start, end } = range else {
        return None;
    };
    let shown = start.iter().rposition(|byte| *byte != 0xff)?;
    let (last, front) = (start[shown], &start[..shown]);
    let next = end.strip_prefix(front)?;
    (*next == [last + 1]).then_some(start)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        let byte = prop_oneof![Just(0), Just(0x61), Just(0x62), Just(0xfe), Just(0xff)];
        proptest::collection::vec(byte, 0..4).prop_map(Bytes::from)
    }

    /// The end of the keys with a prefix, as clients of etcd compute it.
    fn after_prefix(prefix: &[u8]) -> Bytes {
        let mut end = prefix.to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return end.into();
            }
        }
        Bytes::from_static(&[0])
    }

    fn range() -> impl Strategy<Value = KeyRange> {
        prop_oneof![
            (bytes(), bytes()).prop_map(|(key, end)| KeyRange::new(&key, &end)),
            bytes().prop_map(|key| KeyRange::new(&key, &after_prefix(&key))),
        ]
    }

    proptest! {
        #[test]
        fn a_key_goes_to_all_ranges_that_have_it_and_to_no_others(
            ranges in proptest::collection::btree_set(range(), 0..40),
            gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
            keys in proptest::collection::vec(bytes(), 20),
        ) {
            let ranges: Vec<KeyRange> = ranges.into_iter().collect();
            let mut routes = Routes::default();
            let mut there = BTreeSet::new();
            for (id, range) in ranges.iter().enumerate() {
                prop_assert_eq!(routes.get(range), None);
                routes.insert(range, id as RouteId);
                there.insert(id);
            }
            for index in gone.iter().filter(|_| !ranges.is_empty()) {
                let id = index.index(ranges.len());
                routes.remove(&ranges[id]);
                there.remove(&id);
            }
            for (id, range) in ranges.iter().enumerate() {
                prop_assert_eq!(routes.get(range), there.contains(&id).then_some(id as RouteId));
            }
            for key in keys {
                let mut found = Vec::new();
                routes.of_key(&key, |id| found.push(id as usize));
                found.sort_unstable();
                let want: Vec<usize> =
                    there.iter().copied().filter(|id| ranges[*id].contains(&key)).collect();
                prop_assert_eq!(found, want);
            }
        }
    }

    #[test]
    fn prefixes_are_found() {
        let of = |start: &'static [u8], end: &'static [u8]| {
            let range = KeyRange::new(&Bytes::from_static(start), &Bytes::from_static(end));
            prefix_of(&range).is_some()
        };
        assert!(of(b"/registry/pods/", b"/registry/pods0"));
        assert!(of(b"a\xff", b"b"));
        assert!(!of(b"a", b"c"));
        assert!(!of(b"a", b"bb"));
        assert!(!of(b"\xff", b"\0"));
        assert!(!of(b"a", b""));
    }
}
