//! The half of the state that lives in memory on every member: which keys are live, which keys changed at which
//! revision since the last compaction, and the leases. It is derived from the data and rebuilt from it at start.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::command::Lease;
use crate::counted::{CountedKeys, PairSize, Weight};
use crate::hash::StateHash;
use crate::keys::KeyRange;
use crate::message::{Event, EventKind, StoredPair};
use crate::past::{Change, History};
use crate::view::{EventId, Write};

/// A lease and the keys that end with it.
#[derive(Clone, Debug, PartialEq)]
pub struct LeaseRecord {
    pub lease: Lease,
    pub keys: BTreeSet<Bytes>,
    /// Tells it from an earlier lease of the same id, in this process alone: members count differently.
    pub grant: u64,
}

/// See the module head.
#[derive(Clone, Debug)]
pub struct Catalog {
    live: CountedKeys,
    history: History,
    leases: BTreeMap<i64, LeaseRecord>,
    grants: u64,
    records: BTreeMap<Bytes, Bytes>,
    hash: StateHash,
    now_ms: i64,
    revision: i64,
    compact_revision: i64,
}

impl Default for Catalog {
    fn default() -> Self {
        Catalog::new()
    }
}

impl Catalog {
    /// Of an empty store, whose revision is 1: the first write gets 2, as in etcd.
    pub fn new() -> Catalog {
        Catalog {
            live: CountedKeys::default(),
            history: History::default(),
            leases: BTreeMap::new(),
            grants: 0,
            records: BTreeMap::new(),
            hash: StateHash::default(),
            now_ms: 0,
            revision: 1,
            compact_revision: 0,
        }
    }

    /// Loading at start, before any key: the two revisions as stored.
    pub fn load_revisions(&mut self, revision: i64, compact_revision: i64) {
        self.revision = revision;
        self.compact_revision = compact_revision;
    }

    /// Loading at start: the time of the newest revision.
    pub fn load_clock(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// Loading at start: a stored record.
    pub fn load_record(&mut self, name: Bytes, value: Bytes) {
        self.hash.add_record(&name, &value);
        self.records.insert(name, value);
    }

    /// Loading at start, before any key: a stored lease.
    pub fn load_lease(&mut self, lease: Lease) {
        self.hash.add_lease(lease);
        self.grants += 1;
        self.leases.insert(
            lease.id,
            LeaseRecord {
                lease,
                keys: BTreeSet::new(),
                grant: self.grants,
            },
        );
    }

    /// Loading at start: a live key.
    pub fn load_key<'a>(&mut self, pair: impl Into<StoredPair<'a>>) {
        let pair = pair.into();
        self.hash.add_pair(pair);
        self.live.insert(pair.key, PairSize::of_pair(pair));
        self.attach(pair.lease, pair.key);
    }

    /// Loading at start: a retained event, in order.
    pub fn load_event(&mut self, id: EventId, event: &Event) {
        let after = event.kind == EventKind::Put as i32;
        let change = Change::new(id, event.prev_kv.is_some(), after);
        self.history.push(&event.kv.key, change);
    }

    /// Loading at start: all retained changes, in the place of each event.
    pub fn load_history(&mut self, history: History) {
        self.history = history;
    }

    /// Takes over what a batch has changed. The caller stores the same writes in the data.
    pub fn absorb(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put(kv) => {
                    self.live.insert(&kv.key, PairSize::of(kv));
                }
                Write::Delete(key) => {
                    self.live.remove(key);
                }
                Write::Lease(lease) => {
                    self.grants += 1;
                    let new = LeaseRecord {
                        lease: *lease,
                        keys: BTreeSet::new(),
                        grant: self.grants,
                    };
                    // One that ended and was granted again within the batch loses its keys by the batch's events.
                    let record = self.leases.entry(lease.id).or_insert(new);
                    (record.lease, record.grant) = (*lease, self.grants);
                }
                Write::LeaseEnd(id) => {
                    self.leases.remove(id);
                }
                Write::Record { name, value } => match value {
                    Some(value) => drop(self.records.insert(name.clone(), value.clone())),
                    None => drop(self.records.remove(name)),
                },
                Write::Events {
                    revision,
                    now_ms,
                    events,
                } => {
                    self.now_ms = *now_ms;
                    self.absorb_events(*revision, events);
                }
                Write::Revision(revision) => self.revision = *revision,
                Write::Compact(revision) => self.compact(*revision),
                Write::Hash(hash) => self.hash = *hash,
            }
        }
    }

    fn absorb_events(&mut self, revision: i64, events: &[Event]) {
        for (sub, event) in events.iter().enumerate() {
            self.load_event(
                EventId {
                    revision,
                    sub: sub as u32,
                },
                event,
            );
            if let Some(prev) = &event.prev_kv
                && let Some(record) = self.leases.get_mut(&prev.lease)
            {
                record.keys.remove(&prev.key);
            }
            if event.kind == EventKind::Put as i32 {
                self.attach(event.kv.lease, &event.kv.key);
            }
        }
    }

    /// A lease that is not there was granted and ended within one batch.
    fn attach(&mut self, lease: i64, key: &[u8]) {
        if lease != 0
            && let Some(record) = self.leases.get_mut(&lease)
        {
            // A key as it arrived is a part of its request, and would keep all of it in memory.
            record.keys.insert(Bytes::copy_from_slice(key));
        }
    }

    fn compact(&mut self, revision: i64) {
        self.compact_revision = revision;
        self.history.compact(revision);
    }

    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// 0 where nothing was ever compacted.
    pub fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    /// Live keys in a range.
    pub fn count(&self, range: &KeyRange) -> i64 {
        self.live.weigh(range).keys as i64
    }

    /// What the live keys of a range come to in an answer, or the first so many of them.
    pub fn weigh(&self, range: &KeyRange, first: Option<u64>) -> Weight {
        match first {
            Some(keys) => self.live.weigh_first(range, keys),
            None => self.live.weigh(range),
        }
    }

    /// True where the key is live.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.live.contains(key)
    }

    /// Keys of the range that changed after a revision, in key order: the first change after it, and whether the key
    /// exists today.
    pub fn changed_after(&self, range: &KeyRange, revision: i64) -> Vec<(Bytes, Change, bool)> {
        self.history.changed_after(range, revision)
    }

    pub fn lease(&self, id: i64) -> Option<&LeaseRecord> {
        self.leases.get(&id)
    }

    pub fn leases(&self) -> impl Iterator<Item = &LeaseRecord> {
        self.leases.values()
    }

    /// See [`crate::View::record`].
    pub fn record(&self, name: &[u8]) -> Option<&Bytes> {
        self.records.get(name)
    }

    /// See [`crate::View::records`].
    pub fn records<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> {
        self.records
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(name, _)| name.starts_with(prefix))
    }

    pub fn state_hash(&self) -> StateHash {
        self.hash
    }

    /// See [`crate::View::now_ms`].
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Retained changes, over all keys.
    pub fn history_len(&self) -> usize {
        self.history.len()
    }
}
