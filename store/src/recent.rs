//! Values that were written last, so that the next write of the same key does not look them up in the state's files.
//!
//! Most keys that are written are written again soon: a lease, a status, a pod on its way to a node. Each value here is the
//! one that the state has, so nothing is decided by whether a key is here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use kv::{Broken, Data, Event, EventId, KeyRange, KeyValue, Visit, Write};

/// So many bytes are held: a thousand pods, or the leases of ten thousand nodes.
const BYTES: usize = 4 << 20;
/// Of so many last writes.
const WRITES: usize = 8192;
/// A larger value is read from the state: it would push out too many others.
const VALUE_BYTES: usize = 64 << 10;
/// So is one with a longer key: a key stands here as often as it was written, and counts once.
const KEY_BYTES: usize = 1 << 10;
/// What a key takes besides itself and its value.
const OVERHEAD: usize = 192;

/// See the module head.
#[derive(Default)]
pub(crate) struct Recent {
    held: BTreeMap<Arc<[u8]>, Held>,
    /// Writes in order, with their keys. What was written again or deleted since stands here as well.
    turns: VecDeque<(u64, Arc<[u8]>)>,
    turn: u64,
    bytes: usize,
}

struct Held {
    turn: u64,
    /// Without its key.
    kv: KeyValue,
}

impl Recent {
    /// Takes over what a batch has changed in the state.
    pub(crate) fn absorb(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put(kv) => self.put(kv),
                Write::Delete(key) => self.remove(key),
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

    fn put(&mut self, kv: &KeyValue) {
        self.remove(&kv.key);
        if kv.value.len() > VALUE_BYTES || kv.key.len() > KEY_BYTES {
            return;
        }
        self.turn += 1;
        // Copied: as they arrived, both are parts of their request, and would keep all of it in memory.
        let key: Arc<[u8]> = Arc::from(&kv.key[..]);
        let value = Bytes::copy_from_slice(&kv.value);
        self.bytes += footprint(&key, &value);
        self.turns.push_back((self.turn, key.clone()));
        let kv = KeyValue {
            key: Bytes::new(),
            value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
            lease: kv.lease,
        };
        let turn = self.turn;
        self.held.insert(key, Held { turn, kv });
        self.trim();
    }

    /// Lets go of what was written longest ago.
    fn trim(&mut self) {
        while self.bytes > BYTES || self.turns.len() > WRITES {
            let Some((turn, key)) = self.turns.pop_front() else {
                break;
            };
            if self
                .held
                .get(&key[..])
                .is_some_and(|held| held.turn == turn)
            {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(held) = self.held.remove(key) {
            self.bytes -= footprint(key, &held.kv.value);
        }
    }

    fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let mut kv = self.held.get(key)?.kv.clone();
        kv.key = Bytes::copy_from_slice(key);
        Some(kv)
    }
}

fn footprint(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD
}

/// Data behind what was written last of it.
pub(crate) struct Fronted<'a, D: ?Sized> {
    pub(crate) recent: &'a Recent,
    pub(crate) data: &'a D,
}

impl<D: Data + ?Sized> Data for Fronted<'_, D> {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        match self.recent.get(key) {
            Some(kv) => Ok(Some(kv)),
            None => self.data.get(key),
        }
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

    #[test]
    fn what_is_held_is_what_was_written_last() {
        let mut recent = Recent::default();
        recent.absorb(&[put("a", 5, 10), put("b", 5, 10), put("a", 6, 20)]);
        assert_eq!(recent.get(b"a"), Some(kv("a", 6, 20)));
        assert_eq!(recent.get(b"b"), Some(kv("b", 5, 10)));
        recent.absorb(&[Write::Delete("a".into()), put("b", 7, VALUE_BYTES + 1)]);
        assert_eq!(recent.get(b"a"), None);
        assert_eq!(recent.get(b"b"), None, "too large");
        assert_eq!(recent.bytes, 0);
        let long = "k".repeat(KEY_BYTES + 1);
        recent.absorb(&[put(&long, 8, 1), put(&long, 9, 1)]);
        assert!(recent.turns.iter().all(|(_, key)| key.len() <= KEY_BYTES));
        assert_eq!(recent.get(long.as_bytes()), None);
    }

    #[test]
    fn only_so_much_is_held() {
        let mut recent = Recent::default();
        let large = BYTES / 100;
        for revision in 0..300 {
            recent.absorb(&[put(&revision.to_string(), revision, large)]);
            assert!(recent.bytes <= BYTES);
        }
        assert_eq!(recent.get(b"299"), Some(kv("299", 299, large)));
        assert_eq!(recent.get(b"0"), None);
        // One key that is written all the time pushes out others, and stays itself.
        for revision in 300..300 + 2 * WRITES as i64 {
            recent.absorb(&[put("one", revision, 1)]);
            assert!(recent.turns.len() <= WRITES);
        }
        assert_eq!(recent.held.len(), 1);
        assert_eq!(recent.bytes, footprint(b"one", &[7]));
        assert!(recent.get(b"one").is_some());
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
        assert_eq!(fronted.get(b"a"), Ok(Some(kv("a", 5, 10))));
        assert!(fronted.get(b"b").is_err());
    }
}
