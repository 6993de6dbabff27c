//! Values that were written last, so that the next write of the same key does not look them up in the state's files.
//!
//! Most keys that are written are written again soon: a lease, a status, a pod on its way to a node. Each value here is the
//! one that the state has, so nothing is decided by whether a key is here.
//!
//! What is written again and again has a shelf of its own: thousands of leases are renewed every ten seconds, in which time
//! ten times as many pods and events may come.
//!
//! Where much is written at once, much lies between two writes of a key: thousands of pods have their nodes, and wait for
//! these to start them. What is pushed out of the first shelf before it is read is packed against a value like it, and waits
//! on a third, on which ten times as many have room.
//!
//! What is not written again, or not in time, is held for nothing, and copied and packed for that. So of a kind of writes of
//! which much goes unread only a sample is taken, until some of that is read: a pod that runs is not written again for long,
//! one that has just got its node is ([`Kinds`]).
//!
//! All of this is for times in which much is written; else little is held ([`Recent::rest`]).

mod kinds;

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::{Broken, Data, Event, EventId, KeyRange, KeyValue, Visit, Write, key_hash};

use self::kinds::{Kinds, PackedBy};

/// Places of the shelves.
const FIRST: usize = 0;
const OFTEN: usize = 1;
const PACKED: usize = 2;
/// So many bytes are held on each shelf: two thousand pods, the leases of six thousand nodes, and seventy thousand pods of a
/// few templates.
const BYTES: [usize; 3] = [8 << 20, 8 << 20, 40 << 20];
/// Of so many last writes each.
const WRITES: [usize; 3] = [32 << 10, 32 << 10, 128 << 10];
/// On the first where little is written.
const REST_BYTES: usize = 2 << 20;
/// So many at most are let go of in one go, which takes some milliseconds: nothing is applied meanwhile.
const REST_AT_ONCE: usize = 16 << 10;
/// A key with more versions is one that is written again and again: a pod has fewer in all its life, mostly.
const VERSIONS: i64 = 8;
/// A larger pair is read from the state: it would push out too many others.
const PAIR_BYTES: usize = 64 << 10;
/// What a key takes besides itself and its value.
const OVERHEAD: usize = 208;

/// See the module head.
pub(crate) struct Recent {
    /// By the hash of the key, which is found much sooner than one of many long keys that begin alike. Of two keys with
    /// the same hash only one is held.
    held: BTreeMap<u64, Held>,
    shelves: [Shelf; 3],
    /// See [`BYTES`].
    limits: [usize; 3],
    kinds: Kinds,
    turn: u64,
}

/// Some of what is held.
#[derive(Default)]
struct Shelf {
    /// Writes in order, with the hashes of their keys. What was written again, deleted or moved since stands here as well.
    turns: VecDeque<(u64, u64)>,
    bytes: usize,
}

struct Held {
    turn: u64,
    /// See [`kind_of`].
    kind: u8,
    was_read: Cell<bool>,
    /// The value is packed where `packed_by` says how.
    kv: KeyValue,
    packed_by: Option<PackedBy>,
}

impl Held {
    fn shelf(&self) -> usize {
        match self.packed_by {
            Some(_) => PACKED,
            None if self.kv.version > VERSIONS => OFTEN,
            None => FIRST,
        }
    }

    /// The pair as it was written. None where its value cannot be unpacked, which is read from the state like any other.
    fn pair(&self) -> Option<KeyValue> {
        let value = match &self.packed_by {
            Some(by) => by.unpack(&self.kv.value)?,
            None => self.kv.value.clone(),
        };
        Some(KeyValue {
            key: self.kv.key.clone(),
            value,
            ..self.kv
        })
    }
}

impl Default for Recent {
    fn default() -> Recent {
        Recent::with_limits(BYTES)
    }
}

impl Recent {
    pub(crate) fn with_limits(limits: [usize; 3]) -> Recent {
        Recent {
            held: BTreeMap::new(),
            shelves: Default::default(),
            limits,
            kinds: Kinds::default(),
            turn: 0,
        }
    }

    /// Takes over what a batch has changed in the state.
    pub(crate) fn absorb(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put(kv) => self.put(key_hash(&kv.key), kv),
                Write::Delete(key) => self.remove(key_hash(key)),
                Write::Events { .. }
                | Write::Lease(_)
                | Write::LeaseEnd(_)
                | Write::Record { .. }
                | Write::Revision(_)
                | Write::Compact(_)
                | Write::Hash(_) => {}
            }
        }
    }

    fn put(&mut self, hash: u64, kv: &KeyValue) {
        let kind = kind_of(kv);
        let known = self.held.get(&hash).filter(|held| held.kv.key == kv.key);
        // Only keys of many versions are written twice as one kind. Once held they stay, so that each is read the next time.
        let stays = known.is_some_and(|held| held.kind == kind);
        let is_large = kv.key.len() + kv.value.len() > PAIR_BYTES;
        if is_large || !(stays || self.kinds.take_another(kind)) {
            // What is held of this key is not true any more.
            return self.remove(hash);
        }
        // Copied: as they arrived, both are parts of their request, and would keep all of it in memory.
        let key = match known {
            Some(known) => known.kv.key.clone(),
            None => Bytes::copy_from_slice(&kv.key),
        };
        self.turn += 1;
        let held = Held {
            turn: self.turn,
            kind,
            was_read: Cell::new(false),
            kv: KeyValue {
                key,
                value: Bytes::copy_from_slice(&kv.value),
                ..*kv
            },
            packed_by: None,
        };
        let place = held.shelf();
        self.shelves[place].turns.push_back((self.turn, hash));
        self.shelves[place].bytes += footprint(&held.kv);
        if let Some(before) = self.held.insert(hash, held) {
            self.forget(before);
        }
        self.trim(place);
    }

    /// Lets go of what was written longest ago of a shelf.
    fn trim(&mut self, place: usize) {
        while self.is_full(place) {
            let Some((turn, hash)) = self.shelves[place].turns.pop_front() else {
                break;
            };
            match self.held.get(&hash) {
                Some(held) if held.turn == turn => self.push_out(hash),
                // It was written again, deleted or moved.
                Some(_) | None => {}
            }
        }
    }

    fn is_full(&self, place: usize) -> bool {
        let shelf = &self.shelves[place];
        let likes = match place {
            PACKED => self.kinds.bytes(),
            _ => 0,
        };
        shelf.bytes + likes > self.limits[place] || shelf.turns.len() > WRITES[place]
    }

    fn push_out(&mut self, hash: u64) {
        let Some(held) = self.held.get(&hash) else {
            return;
        };
        let place = held.shelf();
        // On the way to the third shelf it counts as unread already: else a kind that is never read would fill that first.
        if place != PACKED && !held.was_read.get() {
            self.kinds.went_unread(held.kind);
            if place == FIRST {
                return self.pack(hash);
            }
        }
        self.remove(hash);
    }

    /// Moves what stands on the first shelf, where that is worth it, to the third.
    fn pack(&mut self, hash: u64) {
        let Some(held) = self.held.get_mut(&hash) else {
            return;
        };
        let Some((packed_by, value)) = self.kinds.pack(held.kind, &held.kv.value) else {
            return self.remove(hash);
        };
        self.turn += 1;
        held.turn = self.turn;
        self.shelves[FIRST].bytes -= footprint(&held.kv);
        (held.kv.value, held.packed_by) = (value, Some(packed_by));
        self.shelves[PACKED].bytes += footprint(&held.kv);
        self.shelves[PACKED].turns.push_back((self.turn, hash));
        self.trim(PACKED);
    }

    /// To be called now and then while little is written: lets go of what is of use only in times of much, a part each time.
    pub(crate) fn rest(&mut self) {
        let mut left = REST_AT_ONCE;
        for (place, bytes) in [(PACKED, 0), (FIRST, REST_BYTES)] {
            while left > 0 && self.shelves[place].bytes > bytes {
                let Some((turn, hash)) = self.shelves[place].turns.pop_front() else {
                    break;
                };
                left -= 1;
                if self.held.get(&hash).is_some_and(|held| held.turn == turn) {
                    self.remove(hash);
                }
            }
            let shelf = &mut self.shelves[place];
            if shelf.bytes == 0 {
                // Of what is not there any more.
                shelf.turns = VecDeque::new();
            } else if shelf.turns.capacity() > 4 * shelf.turns.len() {
                shelf.turns.shrink_to_fit();
            }
        }
        self.kinds.rest();
    }

    fn remove(&mut self, hash: u64) {
        if let Some(held) = self.held.remove(&hash) {
            self.forget(held);
        }
    }

    /// Counts off what has been held.
    fn forget(&mut self, held: Held) {
        self.shelves[held.shelf()].bytes -= footprint(&held.kv);
        if let Some(by) = held.packed_by {
            self.kinds.unpacked(by);
        }
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let held = self.held.get(&key_hash(key))?;
        if held.kv.key != *key {
            return None;
        }
        let pair = held.pair()?;
        if !held.was_read.replace(true) {
            self.kinds.was_read(held.kind);
        }
        Some(pair)
    }
}

/// Directories of a key that say what it is of: `/registry/pods/`.
const KIND_DIRS: usize = 3;
/// Of a longer beginning the rest is not looked at.
const KIND_BYTES: usize = 64;

/// Writes of one kind are of keys with the same beginning and of the same version, by the hash of both: mostly what creates
/// pods, what gives them their nodes, and so on. Keys of many versions are of one kind whichever version they have.
fn kind_of(kv: &KeyValue) -> u8 {
    let bytes = kv.key.iter().take(KIND_BYTES).enumerate();
    let slashes = bytes.filter(|(_, byte)| **byte == b'/').take(KIND_DIRS);
    let end = slashes.last().map_or(0, |(at, _)| at + 1);
    let version = kv.version.clamp(0, VERSIONS + 1) as u64;
    let hash = key_hash(&kv.key[..end]).wrapping_add(version.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (hash >> 56) as u8
}

fn footprint(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len() + OVERHEAD
}

/// Data behind what was written last of it.
pub(crate) struct Fronted<'a, D: ?Sized> {
    pub(crate) recent: &'a Recent,
    pub(crate) data: &'a D,
}

impl<D: Data + ?Sized> Data for Fronted<'_, D> {
    fn at_hand(&self, key: &[u8]) -> Option<KeyValue> {
        self.recent.get(key)
    }

    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        self.data.get(key)
    }

    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken> {
        self.data.get_many(keys)
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        self.data.scan(range, visit)
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        self.data.event(id)
    }
}

#[cfg(test)]
mod tests;
