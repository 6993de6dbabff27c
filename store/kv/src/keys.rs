//! Key ranges in etcd's three forms, as one ordered type.

use std::ops::Bound;

use bytes::Bytes;

/// As `BTreeMap::range` takes them.
pub type KeyBounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// A set of neighbouring keys. Order is plain unsigned byte order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeyRange {
    /// This key alone.
    One(Bytes),
    /// `start <= key < end`; empty where `end <= start`.
    Span { start: Bytes, end: Bytes },
    /// This key and all after it.
    From(Bytes),
}

impl KeyRange {
    /// From a request's `key` and `range_end`.
    pub fn new(key: &Bytes, range_end: &Bytes) -> KeyRange {
        match range_end.as_ref() {
            [] => KeyRange::One(key.clone()),
            [0] => KeyRange::From(key.clone()),
            _ => KeyRange::Span {
                start: key.clone(),
                end: range_end.clone(),
            },
        }
    }

    /// Every key there can be.
    pub fn all() -> KeyRange {
        KeyRange::From(Bytes::new())
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => one.as_ref() == key,
            KeyRange::Span { start, end } => start.as_ref() <= key && key < end.as_ref(),
            KeyRange::From(start) => start.as_ref() <= key,
        }
    }

    pub fn start(&self) -> &Bytes {
        match self {
            KeyRange::One(start) | KeyRange::From(start) | KeyRange::Span { start, .. } => start,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Span { start, end } if end <= start)
    }

    /// As bounds for `BTreeMap::range`; `None` for an empty span, on which that would panic.
    pub fn bounds(&self) -> Option<KeyBounds<'_>> {
        match self {
            KeyRange::One(key) => {
                Some((Bound::Included(key.as_ref()), Bound::Included(key.as_ref())))
            }
            KeyRange::From(start) => Some((Bound::Included(start.as_ref()), Bound::Unbounded)),
            KeyRange::Span { start, end } if start < end => Some((
                Bound::Included(start.as_ref()),
                Bound::Excluded(end.as_ref()),
            )),
            KeyRange::Span { .. } => None,
        }
    }

    /// True where both share a key.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.starts_before_end_of(other)
            && other.starts_before_end_of(self)
    }

    fn starts_before_end_of(&self, other: &KeyRange) -> bool {
        match other {
            KeyRange::One(key) => self.start() <= key,
            KeyRange::From(_) => true,
            KeyRange::Span { end, .. } => self.start() < end,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(
            &Bytes::from_static(key.as_bytes()),
            &Bytes::from_static(end.as_bytes()),
        )
    }

    #[test]
    fn etcd_forms() {
        assert!(range("a", "").contains(b"a"));
        assert!(!range("a", "").contains(b"ab"));
        assert!(range("a", "\0").contains(b"\xff\xff"));
        assert!(!range("a", "c").contains(b"c"));
        assert!(range("c", "a").is_empty());
        assert!(range("c", "a").bounds().is_none());
    }

    #[test]
    fn overlap_is_symmetric_and_exact() {
        let cases = [
            ("a", "", "a", "", true),
            ("a", "", "b", "", false),
            ("a", "c", "c", "", false),
        ];
        let more = [
            ("a", "c", "b", "\0", true),
            ("d", "\0", "a", "d", false),
            ("d", "a", "a", "z", false),
        ];
        for (k1, e1, k2, e2, want) in cases.into_iter().chain(more) {
            assert_eq!(
                range(k1, e1).overlaps(&range(k2, e2)),
                want,
                "{k1} {e1} {k2} {e2}"
            );
            assert_eq!(
                range(k2, e2).overlaps(&range(k1, e1)),
                want,
                "{k2} {e2} {k1} {e1}"
            );
        }
    }
}
