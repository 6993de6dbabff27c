//! A set of keys made of ranges, that knows in logarithmic time whether it has a key.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::{BufMut, Bytes, BytesMut};

use crate::keys::KeyRange;

/// Starts and ends of spans that do not touch; no end is "and all after it".
#[derive(Debug, Default)]
pub(crate) struct KeySet(BTreeMap<Bytes, Option<Bytes>>);

impl KeySet {
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        let up_to = (Bound::Unbounded, Bound::Included(key));
        let span = self.0.range::<[u8], _>(up_to).next_back();
        span.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end.as_ref()))
    }

    /// Whether it has every key there can be in the range, and the start of it where there can be none.
    pub(crate) fn covers(&self, range: &KeyRange) -> bool {
        let end = match range {
            KeyRange::One(key) => return self.contains(key),
            KeyRange::From(_) => None,
            KeyRange::Span { end, .. } => Some(end),
        };
        // Spans do not touch, so one of them has all of it.
        let start: &[u8] = range.start();
        let up_to = (Bound::Unbounded, Bound::Included(start));
        let span = self.0.range::<[u8], _>(up_to).next_back();
        span.is_some_and(|(_, known_end)| match (known_end, end) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(known_end), Some(end)) => start < known_end.as_ref() && end <= known_end,
        })
    }

    pub(crate) fn insert(&mut self, range: &KeyRange) {
        match range {
            KeyRange::One(key) => self.add(key.clone(), Some(after(key))),
            KeyRange::From(start) => self.add(start.clone(), None),
            KeyRange::Span { start, end } if start < end => {
                self.add(start.clone(), Some(end.clone()));
            }
            KeyRange::Span { .. } => {}
        }
    }

    pub(crate) fn extend(&mut self, other: KeySet) {
        for (start, end) in other.0 {
            self.add(start, end);
        }
    }

    fn add(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        let before = self.0.range(..=start.clone()).next_back();
        if let Some((known, known_end)) = before
            && known_end.as_ref().is_none_or(|end| *end >= start)
        {
            start = known.clone();
        }
        // Each span that is swallowed here was added once, so all of this is a sort, taken together.
        while let Some((known, known_end)) = self.0.range(start.clone()..).next()
            && end.as_ref().is_none_or(|end| known <= end)
        {
            let known = known.clone();
            end = match (end, known_end) {
                (Some(end), Some(known_end)) => Some(end.max(known_end.clone())),
                _ => None,
            };
            self.0.remove(&known);
        }
        self.0.insert(start, end);
    }
}

/// The smallest key after this one.
fn after(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(prop_oneof![Just(0u8), Just(b'a'), Just(b'b')], 0..4)
            .prop_map(Bytes::from)
    }

    proptest! {
        #[test]
        fn as_a_list_of_ranges(
            ranges in proptest::collection::vec((bytes(), bytes()), 0..12),
            more in proptest::collection::vec((bytes(), bytes()), 0..5),
            keys in proptest::collection::vec(bytes(), 30),
            asked in proptest::collection::vec((bytes(), bytes()), 10),
        ) {
            let (mut set, mut other) = (KeySet::default(), KeySet::default());
            let mut list = Vec::new();
            for (key, end) in &ranges {
                list.push(KeyRange::new(key, end));
                set.insert(&list[list.len() - 1]);
            }
            for (key, end) in &more {
                list.push(KeyRange::new(key, end));
                other.insert(&list[list.len() - 1]);
            }
            set.extend(other);
            for key in keys {
                let want = list.iter().any(|range| range.contains(&key));
                prop_assert_eq!(set.contains(&key), want, "{:?} in {:?}", key, list);
            }
            // Ends have at most three of three letters, so these keys are on both sides of each.
            let probes: Vec<Vec<u8>> = (0u32..4u32.pow(5))
                .map(|n| {
                    let letter = |place: u32| (n / 4u32.pow(place)) % 4;
                    let letters = (0..5).map(letter).take_while(|letter| *letter > 0);
                    letters.map(|letter| [0, b'a', b'b'][letter as usize - 1]).collect()
                })
                .chain([vec![0xff]])
                .collect();
            for (key, end) in &asked {
                let range = KeyRange::new(key, end);
                let mut keys = probes.iter().filter(|key| range.contains(key));
                let want = match range.is_empty() {
                    true => continue,
                    false => keys.all(|key| list.iter().any(|range| range.contains(key))),
                };
                prop_assert_eq!(set.covers(&range), want, "{:?} by {:?}", range, list);
            }
        }
    }
}
