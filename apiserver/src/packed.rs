//! The bytes of an object in the cache: as they are sent, or, of one at rest, what differs from another object.
//!
//! Objects of one kind are much alike, and neighbours by name mostly come from one template. Packed against a neighbour
//! ([`alike`]), a pod takes a thirtieth of its JSON, and is whole again in the time in which a memory of that size is copied a
//! few times. The neighbour itself is kept as it is sent, so that nothing is unpacked but what is asked for. Large objects say
//! the same again and again: each of them is packed by itself, with LZ4, and so is, against its neighbour, what is little like
//! it member by member.

use std::sync::Arc;

use bytes::Bytes;
use lz4_flex::block;

/// Smaller objects are hardly worth it, and LZ4 sees no further than the larger number.
const BYTES_MIN: usize = 1 << 9;
const BYTES_MAX: usize = 64 << 10;
/// What any two objects of a kind have to say for themselves: identities and times.
const OWN_FEW: usize = 400;
/// Where more than this share of an object would be its own, LZ4 may find in the neighbour what stands elsewhere there.
const OWN_SHARE: usize = 4;
/// Where more than this share of it would be, and so much, it may be more like what others lately were packed against.
const OWN_SHARE_TRIED: usize = 8;
const OWN_TRIED_MIN: usize = 160;
/// Of those so many are tried.
const OTHERS: usize = 3;
/// An object that is packed by itself says something twice from this size on.
const ALONE_BYTES_MIN: usize = 16 << 10;
/// Bytes of the number of bytes that something was packed from.
const HEAD: usize = size_of::<u32>();
/// Set in that number where it was packed with [`alike`].
const IS_ALIKE: u32 = 1 << 31;
/// With so much room behind the last byte, LZ4 need not look where it ends before each step.
const SPARE: usize = 64;

/// JSON of one object. Cloning shares it.
#[derive(Clone, Debug)]
pub(crate) enum Json {
    Plain(Bytes),
    Packed(Packed),
}

/// See the module head.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    /// The bytes of the object that it was packed against; none where it was packed by itself. They stay as they were when
    /// that object changes. One block has them for all that were packed against it.
    like: Option<Arc<Bytes>>,
    /// How many bytes there were, in [`HEAD`] bytes with how they were packed, and then what they were packed to. A number
    /// beside it would make every [`Json`] larger than its [`Bytes`] are.
    own: Arc<[u8]>,
}

/// How something was packed, and to what.
enum Own {
    Alike(Vec<u8>),
    Lz4(Vec<u8>),
}

impl Own {
    fn bytes(&self) -> &[u8] {
        match self {
            Own::Alike(own) | Own::Lz4(own) => own,
        }
    }
}

impl Json {
    /// The bytes as they are sent.
    pub(crate) fn bytes(&self) -> Bytes {
        match self {
            Json::Plain(bytes) => bytes.clone(),
            Json::Packed(packed) => packed.bytes(),
        }
    }

    /// The same, for whoever copies them on at once: what is packed is unpacked into `room`, which serves for many.
    pub(crate) fn read<'a>(&'a self, room: &'a mut Room) -> &'a [u8] {
        match self {
            Json::Plain(bytes) => bytes,
            Json::Packed(packed) => packed.read(room),
        }
    }

    /// The bytes packed by themselves; none where they stay as they are.
    pub(crate) fn alone(&self) -> Option<Json> {
        match self {
            Json::Plain(bytes) if bytes.len() >= ALONE_BYTES_MIN => {
                Json::packed(bytes, None, &Own::Lz4(block::compress(bytes)))
            }
            Json::Plain(_) | Json::Packed(_) => None,
        }
    }

    /// None where it is not worth it.
    fn packed(bytes: &Bytes, like: Option<Arc<Bytes>>, own: &Own) -> Option<Json> {
        let len = u32::try_from(bytes.len()).ok()?;
        let len = (len < IS_ALIKE).then_some(len)?;
        let head = match own {
            Own::Alike(_) => len | IS_ALIKE,
            Own::Lz4(_) => len,
        };
        let own = own.bytes();
        (HEAD + own.len() <= bytes.len() / 2).then(|| {
            let own = [&head.to_le_bytes()[..], own].concat();
            let own = Arc::from(own);
            Json::Packed(Packed { like, own })
        })
    }

    /// Whether they are kept as what differs from others, or packed by themselves.
    pub(crate) fn is_packed(&self) -> bool {
        matches!(self, Json::Packed(_))
    }

    /// Their number.
    pub(crate) fn len(&self) -> usize {
        match self {
            Json::Plain(bytes) => bytes.len(),
            Json::Packed(packed) => packed.parts().len,
        }
    }

    /// The bytes that it takes by itself.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        match self {
            Json::Plain(bytes) => bytes.len(),
            Json::Packed(packed) => packed.own.len(),
        }
    }
}

/// Where objects are unpacked one after the other, each in the place of the one before.
#[derive(Default)]
pub(crate) struct Room(Vec<u8>);

const UNDAMAGED: &str = "packed by this module, in this memory";

impl Packed {
    fn like(&self) -> &[u8] {
        match &self.like {
            Some(like) => &like[..],
            None => &[],
        }
    }

    fn parts(&self) -> Parts<'_> {
        let (head, own) = self.own.split_first_chunk::<HEAD>().expect(UNDAMAGED);
        let head = u32::from_le_bytes(*head);
        Parts {
            len: (head & !IS_ALIKE) as usize,
            is_alike: head & IS_ALIKE != 0,
            own,
        }
    }

    fn bytes(&self) -> Bytes {
        let parts = self.parts();
        if !parts.is_alike {
            let whole = block::decompress_with_dict(parts.own, parts.len, self.like());
            return Bytes::from(whole.expect(UNDAMAGED));
        }
        let mut whole = vec![0; parts.len];
        alike::unpack(parts.own, self.like(), &mut whole).expect(UNDAMAGED);
        Bytes::from(whole)
    }

    fn read<'a>(&self, room: &'a mut Room) -> &'a [u8] {
        let parts = self.parts();
        let needed = parts.len + SPARE;
        if room.0.len() < needed {
            room.0.resize(needed, 0);
        }
        if !parts.is_alike {
            let len = block::decompress_into_with_dict(parts.own, &mut room.0, self.like());
            return &room.0[..len.expect(UNDAMAGED)];
        }
        let whole = &mut room.0[..parts.len];
        alike::unpack(parts.own, self.like(), whole).expect(UNDAMAGED);
        whole
    }
}

/// How many bytes there were, how they were packed, and to what.
struct Parts<'a> {
    len: usize,
    is_alike: bool,
    own: &'a [u8],
}

fn fits(bytes: &Bytes) -> bool {
    (BYTES_MIN..=BYTES_MAX).contains(&bytes.len())
}

/// Packs objects one after the other, each against one before it.
#[derive(Default)]
pub(crate) struct Packer {
    like: Option<Arc<Bytes>>,
    /// What that was lately, the latest first.
    others: Vec<Arc<Bytes>>,
    /// The fewest bytes that an object took against it.
    least: Option<usize>,
    /// What others took more than that. When it is as much as an object, the next ones are packed against another: they
    /// have come to be of another template.
    excess: usize,
}

impl Packer {
    /// Takes note of a neighbour that is not to be packed: others may be packed against what it is packed against, or itself.
    pub(crate) fn pass(&mut self, json: &Json) {
        match json {
            Json::Packed(Packed {
                like: Some(like), ..
            }) => {
                self.turn_to(like);
            }
            Json::Plain(bytes) if self.like.is_none() && fits(bytes) => {
                self.turn_to(&Arc::new(bytes.clone()));
            }
            Json::Plain(_) | Json::Packed(_) => {}
        }
    }

    fn turn_to(&mut self, like: &Arc<Bytes>) {
        if self.like.as_ref().is_some_and(|now| Arc::ptr_eq(now, like)) {
            return;
        }
        self.turn_away();
        self.others.retain(|one| !Arc::ptr_eq(one, like));
        self.like = Some(like.clone());
    }

    fn turn_away(&mut self) {
        if let Some(like) = self.like.take() {
            self.others.insert(0, like);
            self.others.truncate(OTHERS);
        }
        self.least = None;
        self.excess = 0;
    }

    /// Takes note of how an object was packed.
    fn weigh(&mut self, bytes: &Bytes, own: usize) {
        let most = (bytes.len() / OWN_SHARE).max(OWN_FEW).min(bytes.len() / 2);
        if own > most {
            // Not much alike: the next is tried against another.
            self.turn_away();
            return;
        }
        let least = self.least.map_or(own, |least| least.min(own));
        self.least = Some(least);
        // Names and times differ by more or less from one to the next.
        self.excess += own.saturating_sub(least + least / 4);
        if self.excess > bytes.len() {
            self.turn_to(&Arc::new(bytes.clone()));
        }
    }

    /// What the bytes are packed to in the shortest way, and against what; none where there is nothing yet.
    fn shortest(&self, bytes: &Bytes) -> Option<(Arc<Bytes>, Own)> {
        let few = (bytes.len() / OWN_SHARE_TRIED).max(OWN_TRIED_MIN);
        let mut shortest: Option<(&Arc<Bytes>, Vec<u8>)> = None;
        for like in self.like.iter().chain(&self.others) {
            let Some(own) = alike::pack(bytes, like) else {
                continue;
            };
            let is_enough = own.len() <= few;
            let least = shortest.as_ref().map(|(_, shortest)| shortest.len());
            if least.is_none_or(|least| own.len() < least) {
                shortest = Some((like, own));
            }
            if is_enough {
                break;
            }
        }
        match shortest {
            Some((like, own)) if own.len() <= bytes.len() / OWN_SHARE => {
                Some((like.clone(), Own::Alike(own)))
            }
            long => {
                let like = self.like.as_ref()?;
                let other = block::compress_with_dict(bytes, like);
                Some(match long {
                    Some((like, own)) if own.len() <= other.len() => {
                        (like.clone(), Own::Alike(own))
                    }
                    Some(_) | None => (like.clone(), Own::Lz4(other)),
                })
            }
        }
    }

    /// The bytes, packed; none where they stay as they are, be it that others are packed against them.
    pub(crate) fn pack(&mut self, json: &Json) -> Option<Json> {
        let Json::Plain(bytes) = json else {
            self.pass(json);
            return None;
        };
        if bytes.len() > BYTES_MAX {
            return json.alone();
        }
        if !fits(bytes) {
            return None;
        }
        if self.like.is_none() {
            self.turn_to(&Arc::new(bytes.clone()));
            return None;
        }
        let (like, own) = self.shortest(bytes)?;
        self.turn_to(&like);
        self.weigh(bytes, own.bytes().len());
        Json::packed(bytes, Some(like), &own)
    }
}

#[cfg(test)]
mod tests;
