//! What is known of kinds of writes: whether it is worth to hold their values, and what these look like.
//!
//! Values of one kind are much alike, as pods of one template are: packed with LZ4 against another, one takes a tenth of
//! itself, and it is whole again in a twentieth of the time that it takes to read it from the state's files.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;
use lz4_flex::block;

/// Kinds that are told apart.
const KINDS: usize = 1 << u8::BITS;
/// A value that is read spares a look into files, which costs as much as to hold so many.
const READ_WORTH: u32 = 8;
/// So many in a row may go unread.
pub(super) const WORTH_MAX: u32 = 2048;
/// One of so many is held of what is not worth it, and packed of what is little alike.
pub(super) const SAMPLE: u32 = 16;
/// Values that are packed: smaller ones would hardly be smaller by it, and others are packed against each for a while.
const VALUE_BYTES: std::ops::RangeInclusive<usize> = (1 << 8)..=(16 << 10);
/// What is not a third of the value is not worth it.
const SHARE: usize = 3;
/// So many are packed against one value. What comes later may be more like later ones.
const LIKE_USES: u32 = 256;
/// So many in a row may be little alike.
const MISFITS: u32 = 8;

/// See the module head. Kinds are known by a hash; those with the same one are one kind.
pub(super) struct Kinds {
    each: Vec<Kind>,
    /// Of the values against which others are packed.
    bytes: usize,
    /// One piece of memory to pack in: it stays in the processor's cache.
    room: Vec<u8>,
}

struct Kind {
    /// Rises with what is read and falls with what goes unread; 0 where it is not worth to hold all.
    worth: Cell<u32>,
    offered: u32,
    like: Option<Arc<Bytes>>,
    uses: u32,
    /// In a row.
    misfits: u32,
    /// What was to be packed.
    pushed: u32,
}

/// How a value is packed.
pub(super) struct PackedBy {
    like: Arc<Bytes>,
    len: usize,
}

impl PackedBy {
    /// The value; none where it was not packed so.
    pub(super) fn unpack(&self, own: &[u8]) -> Option<Bytes> {
        let whole = block::decompress_with_dict(own, self.len, &self.like).ok()?;
        (whole.len() == self.len).then(|| Bytes::from(whole))
    }

    /// What it is packed against: where that is in memory, and how much it takes.
    #[cfg(test)]
    pub(super) fn like(&self) -> (*const Bytes, usize) {
        (Arc::as_ptr(&self.like), self.like.len())
    }
}

impl Default for Kinds {
    fn default() -> Kinds {
        let each = || Kind {
            worth: Cell::new(WORTH_MAX),
            offered: 0,
            like: None,
            uses: 0,
            misfits: 0,
            pushed: 0,
        };
        Kinds {
            each: (0..KINDS).map(|_| each()).collect(),
            bytes: 0,
            room: Vec::new(),
        }
    }
}

impl Kinds {
    /// Whether one more value shall be held.
    pub(super) fn take_another(&mut self, kind: u8) -> bool {
        let kind = &mut self.each[usize::from(kind)];
        kind.offered = kind.offered.wrapping_add(1);
        kind.worth.get() > 0 || kind.offered.is_multiple_of(SAMPLE)
    }

    pub(super) fn was_read(&self, kind: u8) {
        let worth = &self.each[usize::from(kind)].worth;
        worth.set((worth.get() + READ_WORTH).min(WORTH_MAX));
    }

    pub(super) fn went_unread(&self, kind: u8) {
        let worth = &self.each[usize::from(kind)].worth;
        worth.set(worth.get().saturating_sub(1));
    }

    #[cfg(test)]
    pub(super) fn worth(&self, kind: u8) -> u32 {
        self.each[usize::from(kind)].worth.get()
    }

    /// Packs a value against one before it of its kind; none where that is not worth it.
    pub(super) fn pack(&mut self, kind: u8, value: &Bytes) -> Option<(PackedBy, Bytes)> {
        if !VALUE_BYTES.contains(&value.len()) {
            return None;
        }
        let kind = &mut self.each[usize::from(kind)];
        kind.pushed = kind.pushed.wrapping_add(1);
        let is_alike = kind.misfits < MISFITS;
        if !is_alike && !kind.pushed.is_multiple_of(SAMPLE) {
            return None;
        }
        if kind.uses < LIKE_USES
            && let Some(like) = &kind.like
        {
            let packed = packed(value, like, &mut self.room);
            if let Some(own) = packed {
                (kind.uses, kind.misfits) = (kind.uses + 1, 0);
                let by = PackedBy {
                    like: like.clone(),
                    len: value.len(),
                };
                debug_assert_eq!(by.unpack(&own).as_ref(), Some(value));
                return Some((by, own));
            }
            kind.misfits = (kind.misfits + 1).min(MISFITS);
            if kind.misfits < MISFITS {
                return None;
            }
        }
        // The next ones are tried against this one.
        self.bytes += value.len();
        kind.uses = 0;
        let before = kind.like.replace(Arc::new(value.clone()));
        before.into_iter().for_each(|like| self.release(like));
        None
    }

    /// What was packed so is not held any more.
    pub(super) fn unpacked(&mut self, by: PackedBy) {
        self.release(by.like);
    }

    fn release(&mut self, like: Arc<Bytes>) {
        if let Some(value) = Arc::into_inner(like) {
            self.bytes -= value.len();
        }
    }

    /// Bytes of the values against which others are packed.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Lets go of what is only needed to pack.
    pub(super) fn rest(&mut self) {
        self.room = Vec::new();
        let likes = self.each.iter_mut().filter_map(|kind| kind.like.take());
        let likes: Vec<Arc<Bytes>> = likes.collect();
        likes.into_iter().for_each(|like| self.release(like));
    }

    /// What the next values are packed against, as [`PackedBy::like`].
    #[cfg(test)]
    pub(super) fn likes(&self) -> impl Iterator<Item = (*const Bytes, usize)> {
        let likes = self.each.iter().filter_map(|kind| kind.like.as_ref());
        likes.map(|like| (Arc::as_ptr(like), like.len()))
    }
}

/// None where it is not small enough.
fn packed(value: &[u8], like: &[u8], room: &mut Vec<u8>) -> Option<Bytes> {
    let most = block::get_maximum_output_size(value.len());
    if room.len() < most {
        room.resize(most, 0);
    }
    let len = block::compress_into_with_dict(value, room, like).ok()?;
    (len <= value.len() / SHARE).then(|| Bytes::copy_from_slice(&room[..len]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(n: usize) -> Bytes {
        let filler = "\"same\":\"for all of them\",".repeat(30);
        Bytes::from(format!("{{\"name\":\"pod-{n:05}\",{filler}\"node\":{n}}}"))
    }

    /// Bytes that nothing is like.
    fn noise(n: usize) -> Bytes {
        let mut state = n as u64 + 1;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005);
            state = state.wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..1000).map(next).collect()
    }

    #[test]
    fn what_is_alike_is_small_and_comes_back() {
        let mut kinds = Kinds::default();
        assert!(kinds.pack(1, &pod(0)).is_none(), "there is none like it");
        for n in 1..=LIKE_USES as usize {
            let (by, own) = kinds.pack(1, &pod(n)).unwrap();
            assert!(own.len() < 100, "{}", own.len());
            assert_eq!(by.unpack(&own), Some(pod(n)));
            kinds.unpacked(by);
        }
        assert_eq!(kinds.bytes(), pod(0).len());
        assert!(kinds.pack(1, &pod(7)).is_none(), "the next is another");
        assert!(kinds.pack(2, &pod(7)).is_none(), "of another kind");
        assert_eq!(kinds.bytes(), 2 * pod(7).len());
        let (by, own) = kinds.pack(1, &pod(8)).unwrap();
        kinds.rest();
        assert_eq!(kinds.bytes(), pod(7).len(), "it is needed to unpack");
        assert_eq!(by.unpack(&own), Some(pod(8)));
        kinds.unpacked(by);
        assert_eq!(kinds.bytes(), 0);
    }

    #[test]
    fn what_is_little_alike_is_tried_seldom() {
        let mut kinds = Kinds::default();
        for n in 0..=MISFITS as usize {
            assert!(kinds.pack(1, &noise(n)).is_none());
        }
        // The last one is what others are tried against, each time that one is.
        let tried = |kinds: &mut Kinds, n| {
            let before = kinds.likes().next();
            assert!(kinds.pack(1, &noise(n)).is_none());
            kinds.likes().next() != before
        };
        let all = (0..10 * SAMPLE as usize).filter(|n| tried(&mut kinds, 100 + n));
        assert_eq!(all.count(), 10);
        assert_eq!(kinds.bytes(), 1000);
        // Once they are alike, they are packed again.
        let packed = (0..3 * SAMPLE as usize).filter(|n| kinds.pack(1, &pod(*n)).is_some());
        assert!(packed.count() > SAMPLE as usize);
        for small in [Bytes::new(), pod(1).slice(..100)] {
            assert!(kinds.pack(1, &small).is_none());
        }
    }
}
