//! Values that were written last, so that the next write of the same key does not look them up in the state's files.
//!
//! Most keys that are written are written again soon: a lease, a status, a pod on its way to a node. Each value here is the
//! one that the state has, so nothing is decided by whether a key is here.
//!
//! What is written again and again has a shelf of its own: thousands of leases are renewed every ten seconds, in which time
//! ten times as many pods and events may come.
//!
//! Where so much is written that it is pushed out before it is written again, holding it is for nothing, and it is copied
//! for that. So a shelf from which much goes unread takes only a sample, until some of that is read.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use kv::{Broken, Data, Event, EventId, KeyRange, KeyValue, Visit, Write, key_hash};

/// So many bytes are held on each shelf: two thousand pods, and the leases of six thousand nodes.
const BYTES: [usize; 2] = [6 << 20, 8 << 20];
/// Of so many last writes each.
const WRITES: usize = 32 << 10;
/// A key with more versions is one that is written again and again: a pod has fewer in all its life, mostly.
const VERSIONS: i64 = 8;
/// A larger pair is read from the state: it would push out too many others.
const PAIR_BYTES: usize = 64 << 10;
/// A value that is read spares a look into files, which costs as much as to hold so many.
const READ_WORTH: u32 = 8;
/// So many in a row may go unread.
const WORTH_MAX: u32 = 4096;
/// One of so many is held of what is not worth it.
const SAMPLE: u64 = 8;
/// What a key takes besides itself and its value.
const OVERHEAD: usize = 192;

/// See the module head.
#[derive(Default)]
pub(crate) struct Recent {
    /// By the hash of the key, which is found much sooner than one of many long keys that begin alike. Of two keys with
    /// the same hash only one is held.
    held: BTreeMap<u64, Held>,
    /// See [`shelf_of`].
    shelves: [Shelf; 2],
    turn: u64,
}

/// Some of what is held.
struct Shelf {
    /// Writes in order, with the hashes of their keys. What was written again or deleted since stands here as well.
    turns: VecDeque<(u64, u64)>,
    bytes: usize,
    /// Rises with what is read and falls with what goes unread; 0 where it is not worth to hold all.
    worth: Cell<u32>,
    /// What might have been held, and is not held already.
    offered: u64,
}

impl Default for Shelf {
    fn default() -> Shelf {
        Shelf {
            turns: VecDeque::new(),
            bytes: 0,
            worth: Cell::new(WORTH_MAX),
            offered: 0,
        }
    }
}

impl Shelf {
    fn takes_another(&mut self) -> bool {
        self.offered += 1;
        self.worth.get() > 0 || self.offered.is_multiple_of(SAMPLE)
    }

    fn was_read(&self) {
        let worth = self.worth.get() + READ_WORTH;
        self.worth.set(worth.min(WORTH_MAX));
    }

    fn went_unread(&self) {
        self.worth.set(self.worth.get().saturating_sub(1));
    }
}

struct Held {
    turn: u64,
    kv: KeyValue,
    was_read: Cell<bool>,
}

impl Recent {
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
        if kv.key.len() + kv.value.len() > PAIR_BYTES {
            return self.remove(hash);
        }
        let place = shelf_of(kv);
        // Copied: as they arrived, both are parts of their request, and would keep all of it in memory.
        let known = self.held.get(&hash).map(|held| &held.kv.key);
        let key = match known.filter(|known| **known == kv.key) {
            Some(known) => known.clone(),
            // Nothing of this key is held that would not be true any more.
            None if !self.shelves[place].takes_another() => return,
            None => Bytes::copy_from_slice(&kv.key),
        };
        let kv = KeyValue {
            key,
            value: Bytes::copy_from_slice(&kv.value),
            ..*kv
        };
        self.turn += 1;
        let turn = self.turn;
        let shelf = &mut self.shelves[place];
        shelf.turns.push_back((turn, hash));
        shelf.bytes += footprint(&kv);
        let held = Held {
            turn,
            kv,
            was_read: Cell::new(false),
        };
        if let Some(before) = self.held.insert(hash, held) {
            self.shelves[shelf_of(&before.kv)].bytes -= footprint(&before.kv);
        }
        self.trim(place);
    }

    /// Lets go of what was written longest ago of a shelf.
    fn trim(&mut self, place: usize) {
        while self.shelves[place].bytes > BYTES[place] || self.shelves[place].turns.len() > WRITES {
            let Some((turn, hash)) = self.shelves[place].turns.pop_front() else {
                break;
            };
            if let Some(held) = self.held.get(&hash)
                && held.turn == turn
            {
                if !held.was_read.get() {
                    self.shelves[place].went_unread();
                }
                self.remove(hash);
            }
        }
    }

    fn remove(&mut self, hash: u64) {
        if let Some(held) = self.held.remove(&hash) {
            self.shelves[shelf_of(&held.kv)].bytes -= footprint(&held.kv);
        }
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let held = self.held.get(&key_hash(key))?;
        if held.kv.key != *key {
            return None;
        }
        if !held.was_read.replace(true) {
            self.shelves[shelf_of(&held.kv)].was_read();
        }
        Some(held.kv.clone())
    }
}

fn shelf_of(kv: &KeyValue) -> usize {
    usize::from(kv.version > VERSIONS)
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
mod tests {
    use kv::{Catalog, Joined};

    use super::*;

    fn kv(key: &str, mod_revision: i64, value_bytes: usize) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            create_revision: 2,
            mod_revision,
            version: 3,
            value: vec![7; value_bytes].into(),
            lease: 4,
        }
    }

    fn put(key: &str, mod_revision: i64, value_bytes: usize) -> Write {
        Write::Put(kv(key, mod_revision, value_bytes))
    }

    fn bytes(recent: &Recent) -> [usize; 2] {
        [recent.shelves[0].bytes, recent.shelves[1].bytes]
    }

    #[test]
    fn what_is_held_is_what_was_written_last() {
        let mut recent = Recent::default();
        recent.absorb(&[put("a", 5, 10), put("b", 5, 10), put("a", 6, 20)]);
        assert_eq!(recent.get(b"a"), Some(kv("a", 6, 20)));
        assert_eq!(recent.get(b"b"), Some(kv("b", 5, 10)));
        recent.absorb(&[Write::Delete("a".into()), put("b", 7, PAIR_BYTES)]);
        assert_eq!(recent.get(b"a"), None);
        assert_eq!(recent.get(b"b"), None, "too large");
        assert_eq!(bytes(&recent), [0, 0]);
        let long = "k".repeat(PAIR_BYTES);
        recent.absorb(&[put(&long, 8, 1), put(&long, 9, 1)]);
        assert_eq!(recent.get(long.as_bytes()), None);
        assert!(recent.held.is_empty());
    }

    #[test]
    fn of_keys_with_one_hash_the_last_is_held() {
        let mut recent = Recent::default();
        let hash = key_hash(b"b");
        recent.put(hash, &kv("a", 5, 10));
        // Nobody is given the value of another key.
        assert_eq!(recent.get(b"b"), None);
        recent.put(hash, &kv("b", 6, 20));
        assert_eq!(recent.get(b"b"), Some(kv("b", 6, 20)));
        recent.put(hash, &kv("a", 7, 10));
        assert_eq!(recent.get(b"b"), None);
        assert_eq!(bytes(&recent), [footprint(&kv("a", 7, 10)), 0]);
    }

    #[test]
    fn only_so_much_is_held() {
        let mut recent = Recent::default();
        let large = PAIR_BYTES / 2;
        for revision in 0..300 {
            recent.absorb(&[put(&revision.to_string(), revision, large)]);
            assert!(bytes(&recent)[0] <= BYTES[0]);
        }
        assert_eq!(recent.get(b"299"), Some(kv("299", 299, large)));
        assert_eq!(recent.get(b"0"), None);
        // One key that is written all the time pushes out others, and stays itself.
        for revision in 300..300 + 2 * WRITES as i64 {
            recent.absorb(&[put("one", revision, 1)]);
            assert!(recent.shelves[0].turns.len() <= WRITES);
        }
        assert_eq!(recent.held.len(), 1);
        assert_eq!(bytes(&recent), [footprint(&kv("one", 0, 1)), 0]);
        assert!(recent.get(b"one").is_some());
    }

    #[test]
    fn what_is_written_again_and_again_is_not_pushed_out_by_what_comes_once() {
        let mut recent = Recent::default();
        let renewed = |key, mod_revision| KeyValue {
            version: VERSIONS + 1,
            ..kv(key, mod_revision, 100)
        };
        recent.absorb(&[put("lease", 1, 100)]);
        recent.absorb(&[Write::Put(renewed("lease", 2))]);
        assert_eq!(bytes(&recent), [0, footprint(&renewed("lease", 2))]);
        for revision in 3..1000 {
            recent.absorb(&[put(&revision.to_string(), revision, PAIR_BYTES / 2)]);
        }
        assert_eq!(recent.get(b"lease"), Some(renewed("lease", 2)));
        // Made anew, it is a key like others.
        recent.absorb(&[Write::Delete("lease".into()), put("lease", 1001, 100)]);
        assert_eq!(recent.get(b"lease"), Some(kv("lease", 1001, 100)));
        assert_eq!(bytes(&recent)[1], 0);
    }

    #[test]
    fn a_shelf_that_is_not_read_takes_a_sample() {
        let mut recent = Recent::default();
        let large = PAIR_BYTES / 2;
        // How many of so many new keys are held, or were.
        let held_of = |recent: &mut Recent, revisions: std::ops::Range<i64>| {
            let before = recent.turn;
            for revision in revisions {
                recent.absorb(&[put(&revision.to_string(), revision, large)]);
            }
            recent.turn - before
        };
        assert_eq!(held_of(&mut recent, 0..4000), 4000);
        held_of(&mut recent, 4000..5000);
        assert_eq!(recent.shelves[0].worth.get(), 0);
        assert_eq!(held_of(&mut recent, 5000..5080), 10);
        // What is held and written again is never the value of before.
        let key = recent.held.values().next().map(|held| held.kv.key.clone());
        let key = String::from_utf8(key.unwrap().to_vec()).unwrap();
        recent.absorb(&[put(&key, 6000, 10)]);
        assert_eq!(recent.get(key.as_bytes()), Some(kv(&key, 6000, 10)));
        // One was read: others may be.
        assert_eq!(held_of(&mut recent, 7000..7005), 5);
        assert!(recent.get(b"7000").is_some());
        assert!(recent.get(b"7001").is_some());
        assert!(recent.get(b"7001").is_some());
        let worth = recent.shelves[0].worth.get();
        assert!(worth > READ_WORTH && worth <= 3 * READ_WORTH, "{worth}");
    }

    proptest::proptest! {
        /// In whatever order keys come and go that share a hash, and move from one shelf to the other.
        #[test]
        fn what_is_held_is_true_and_counted_on_its_shelf(
            ops in proptest::collection::vec(
                (0..4_u8, 0..3_usize, proptest::option::of(1..2 * VERSIONS)),
                1..80,
            ),
        ) {
            let mut recent = Recent::default();
            let mut state: BTreeMap<Bytes, KeyValue> = BTreeMap::new();
            for (mod_revision, (key, size, version)) in (1..).zip(ops) {
                let hash = u64::from(key % 2);
                let name = key.to_string();
                match version {
                    None => {
                        recent.remove(hash);
                        state.remove(name.as_bytes());
                    }
                    Some(version) => {
                        // The last is too large to be held.
                        let kv = KeyValue {
                            version,
                            ..kv(&name, mod_revision, [10, 1000, PAIR_BYTES][size])
                        };
                        recent.put(hash, &kv);
                        state.insert(kv.key.clone(), kv);
                    }
                }
                let mut counted = [0, 0];
                for held in recent.held.values() {
                    proptest::prop_assert_eq!(state.get(&held.kv.key), Some(&held.kv));
                    counted[shelf_of(&held.kv)] += footprint(&held.kv);
                }
                proptest::prop_assert_eq!(bytes(&recent), counted);
            }
        }
    }

    /// Says that nothing can be read.
    struct Unreadable;

    impl Data for Unreadable {
        fn get(&self, _: &[u8]) -> Result<Option<KeyValue>, Broken> {
            Err(Broken("read".into()))
        }

        fn scan(&self, _: &KeyRange, _: Visit<'_>) -> Result<(), Broken> {
            Err(Broken("scanned".into()))
        }

        fn event(&self, _: EventId) -> Result<Event, Broken> {
            Err(Broken("an event was read".into()))
        }
    }

    #[test]
    fn what_is_held_is_not_read() {
        let mut recent = Recent::default();
        recent.absorb(&[put("a", 5, 10)]);
        let fronted = Fronted {
            recent: &recent,
            data: &Unreadable,
        };
        let mut catalog = Catalog::new();
        for key in ["a", "b"] {
            catalog.load_key(&kv(key, 5, 10));
        }
        let joined = Joined {
            catalog: &catalog,
            data: &fronted,
        };
        assert_eq!(joined.get(b"a"), Ok(Some(kv("a", 5, 10))));
        assert!(joined.get(b"b").is_err());
        assert_eq!(joined.get(b"c"), Ok(None));
    }
}
