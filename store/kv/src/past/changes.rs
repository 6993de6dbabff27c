//! The changes of one key, packed: there are as many of these as there are keys.

use super::Change;

/// Most bytes of changes that stand in place: two or three of them, mostly.
const FEW_BYTES: usize = 14;

/// The changes of one key, in order, each as what it differs by from the one before: some four bytes. Most keys have
/// few, which stand in place: there are as many as there are keys.
#[derive(Clone, Debug)]
pub(super) enum Changes {
    Few { len: u8, bytes: [u8; FEW_BYTES] },
    Many(Box<Many>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Many {
    /// The revision of the last one.
    last: i64,
    bytes: Vec<u8>,
}

impl Many {
    fn push(&mut self, change: Change) {
        let encoded = Encoded::new(change, self.last);
        self.bytes.extend_from_slice(encoded.bytes());
        self.last = change.revision;
    }
}

/// A change as it is held.
struct Encoded {
    len: usize,
    /// Of a number of 64 bits and one of 34.
    bytes: [u8; 15],
}

impl Encoded {
    /// `last` is the revision of the change before; 0 for the first.
    fn new(change: Change, last: i64) -> Encoded {
        let mut encoded = Encoded {
            len: 0,
            bytes: [0; 15],
        };
        encoded.put(change.revision.wrapping_sub(last) as u64);
        let (before, after) = (u64::from(change.before), u64::from(change.after));
        encoded.put((u64::from(change.sub) << 2) | (before << 1) | after);
        encoded
    }

    /// Appends a number, seven bits to a byte, the lowest first; all but the last have the eighth bit.
    fn put(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes[self.len] = (number as u8) | 0x80;
            self.len += 1;
            number >>= 7;
        }
        self.bytes[self.len] = number as u8;
        self.len += 1;
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// The changes that were put one after the other.
pub(super) struct Read<'a> {
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
    fn of(all: impl Iterator<Item = Change>) -> Option<Changes> {
        let mut many = Many::default();
        all.for_each(|one| many.push(one));
        if many.bytes.is_empty() {
            return None;
        }
        if let Some(few) = Changes::few(&many.bytes) {
            return Some(few);
        }
        many.bytes.shrink_to_fit();
        Some(Changes::Many(Box::new(many)))
    }

    pub(super) fn one(change: Change) -> Changes {
        let encoded = Encoded::new(change, 0);
        Changes::few(encoded.bytes()).unwrap_or_else(|| {
            Changes::Many(Box::new(Many {
                last: change.revision,
                bytes: encoded.bytes().to_vec(),
            }))
        })
    }

    /// None where so much does not stand in place.
    fn few(changes: &[u8]) -> Option<Changes> {
        let mut bytes = [0; FEW_BYTES];
        bytes.get_mut(..changes.len())?.copy_from_slice(changes);
        Some(Changes::Few {
            len: changes.len() as u8,
            bytes,
        })
    }

    pub(super) fn iter(&self) -> Read<'_> {
        let bytes = match self {
            Changes::Few { len, bytes } => &bytes[..usize::from(*len)],
            Changes::Many(many) => &many.bytes[..],
        };
        Read { last: 0, bytes }
    }

    pub(super) fn push(&mut self, change: Change) {
        let last = self.last_revision();
        match self {
            Changes::Many(many) => many.push(change),
            Changes::Few { len, bytes } => {
                let encoded = Encoded::new(change, last);
                let start = usize::from(*len);
                let end = start + encoded.len;
                if let Some(room) = bytes.get_mut(start..end) {
                    room.copy_from_slice(encoded.bytes());
                    *len = end as u8;
                    return;
                }
                let many = Many {
                    last: change.revision,
                    bytes: [&bytes[..start], encoded.bytes()].concat(),
                };
                *self = Changes::Many(Box::new(many));
            }
        }
    }

    pub(super) fn last_revision(&self) -> i64 {
        match self {
            Changes::Few { .. } => self.iter().last().map_or(0, |change| change.revision),
            Changes::Many(many) => many.last,
        }
    }

    /// Forgets what is older than a revision; answers how many are left.
    pub(super) fn forget_before(&mut self, revision: i64) -> usize {
        if self.last_revision() < revision {
            return 0;
        }
        let is_old = |change: &Change| change.revision < revision;
        if self.iter().next().is_some_and(|first| is_old(&first))
            && let Some(left) = Changes::of(self.iter().skip_while(is_old))
        {
            *self = left;
        }
        self.iter().count()
    }

    /// Bytes of memory that are allocated beside the place where they stand.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        match self {
            Changes::Few { .. } => 0,
            Changes::Many(many) => size_of::<Many>() + many.bytes.capacity(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::EventId;

    #[test]
    fn one_change_of_many_takes_four_bytes() {
        assert_eq!(size_of::<Changes>(), 16);
        let mut many = Many::default();
        for number in 0..100 {
            let id = EventId {
                revision: 1_000_000_000 + 500 * number,
                sub: 0,
            };
            many.push(Change::new(id, true, true));
        }
        assert!(many.bytes.len() < 400, "{}", many.bytes.len());
    }
}
