//! How the model sees state: [`Data`] and [`View`] to read it, [`Staged`] to change it on paper first.
//!
//! `Staged` is a view plus an overlay. A batch of entries is applied to one `Staged`; what came out is a list of
//! [`Write`]s that the shell stores at once, together with the index of the last entry.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::Catalog;
use crate::command::Lease;
use crate::hash::StateHash;
use crate::keys::KeyRange;
use crate::message::{Event, EventKind, KeyValue};
use crate::past::Change;

/// This member cannot read its own data, or finds it wrong. It must stop; another member has the truth.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stored data cannot be read: {0}")]
pub struct Broken(pub String);

/// Where an event stands in the log: the revision, and the place within the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    pub revision: i64,
    pub sub: u32,
}

/// What a visitor of keys answers to go on or to stop.
pub type Visit<'a> = &'a mut dyn FnMut(KeyValue) -> ControlFlow<()>;

/// The half of the state that may be on disk: newest values and retained events.
pub trait Data {
    /// The pair of a key, where it is in memory and costs less than to ask the catalog whether there is one. Nothing says
    /// nothing: neither that the key is there nor that it is not.
    fn at_hand(&self, key: &[u8]) -> Option<KeyValue> {
        let _: &[u8] = key;
        None
    }
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken>;
    /// As [`Data::get`], for a key that whoever asks has seen: it is not asked first whether there is one.
    fn get_expected(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        self.get(key)
    }
    /// As [`Data::get_expected`], for several keys, in their order. Where they ascend, as they stand, whoever has them in files reads
    /// and unpacks what holds several of them once.
    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken> {
        keys.iter().map(|key| self.get_expected(key)).collect()
    }
    /// Live keys of the range, ascending, until the visitor breaks.
    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken>;
    /// A retained event. Asking for one that is not there is an error: the catalog named it.
    fn event(&self, id: EventId) -> Result<Event, Broken>;
}

/// The whole state at one moment.
pub trait View: Data {
    fn revision(&self) -> i64;
    /// Whether keys are changed already for a revision that is still to come, so that they are not as of
    /// [`View::revision`].
    fn is_changing(&self) -> bool {
        false
    }
    fn compact_revision(&self) -> i64;
    fn count(&self, range: &KeyRange) -> i64;
    /// See [`Catalog::changed_after`].
    fn changed_after(&self, range: &KeyRange, revision: i64) -> Vec<(Bytes, Change, bool)>;
    fn lease(&self, id: i64) -> Option<Lease>;
    /// Keys attached to a lease, ascending.
    fn lease_keys(&self, id: i64) -> Vec<Bytes>;
    fn lease_ids(&self) -> Vec<i64>;
    /// A named value beside the keys: alarms, users, roles.
    fn record(&self, name: &[u8]) -> Option<Bytes>;
    /// Records whose names begin so, by name.
    fn records(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)>;
    fn state_hash(&self) -> StateHash;
    /// Time of the newest revision, milliseconds since 1970; 0 where it was not recorded.
    fn now_ms(&self) -> i64;
}

/// The pairs of keys, in their order: what is known of a key, and else what is read, of all others at once.
fn known_or_read(
    keys: &[Bytes],
    known: impl Fn(&[u8]) -> Option<Option<KeyValue>>,
    read: impl FnOnce(&[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken>,
) -> Result<Vec<Option<KeyValue>>, Broken> {
    let mut found: Vec<Option<KeyValue>> = Vec::with_capacity(keys.len());
    let (mut rest, mut places) = (Vec::new(), Vec::new());
    for (place, key) in keys.iter().enumerate() {
        let pair = known(key);
        if pair.is_none() {
            rest.push(key.clone());
            places.push(place);
        }
        found.push(pair.flatten());
    }
    if !rest.is_empty() {
        for (place, pair) in places.into_iter().zip(read(&rest)?) {
            found[place] = pair;
        }
    }
    Ok(found)
}

/// A catalog and its data make a view.
pub struct Joined<'a, D: ?Sized> {
    pub catalog: &'a Catalog,
    pub data: &'a D,
}

impl<D: Data + ?Sized> Data for Joined<'_, D> {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        if let Some(kv) = self.data.at_hand(key) {
            return Ok(Some(kv));
        }
        // Most creations ask for a key that is not there: the catalog knows without a read.
        if self.catalog.contains(key) {
            self.data.get(key)
        } else {
            Ok(None)
        }
    }

    fn get_expected(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        match self.data.at_hand(key) {
            Some(kv) => Ok(Some(kv)),
            None => self.data.get(key),
        }
    }

    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken> {
        let at_hand = |key: &[u8]| self.data.at_hand(key).map(Some);
        known_or_read(keys, at_hand, |rest| self.data.get_many(rest))
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        self.data.scan(range, visit)
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        self.data.event(id)
    }
}

impl<D: Data + ?Sized> View for Joined<'_, D> {
    fn revision(&self) -> i64 {
        self.catalog.revision()
    }

    fn compact_revision(&self) -> i64 {
        self.catalog.compact_revision()
    }

    fn count(&self, range: &KeyRange) -> i64 {
        self.catalog.count(range)
    }

    fn changed_after(&self, range: &KeyRange, revision: i64) -> Vec<(Bytes, Change, bool)> {
        self.catalog.changed_after(range, revision)
    }

    fn lease(&self, id: i64) -> Option<Lease> {
        self.catalog.lease(id).map(|record| record.lease)
    }

    fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        self.catalog
            .lease(id)
            .map(|record| record.keys.iter().cloned().collect())
            .unwrap_or_default()
    }

    fn lease_ids(&self) -> Vec<i64> {
        self.catalog
            .leases()
            .map(|record| record.lease.id)
            .collect()
    }

    fn record(&self, name: &[u8]) -> Option<Bytes> {
        self.catalog.record(name).cloned()
    }

    fn records(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.catalog
            .records(prefix)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn state_hash(&self) -> StateHash {
        self.catalog.state_hash()
    }

    fn now_ms(&self) -> i64 {
        self.catalog.now_ms()
    }
}

/// One change of the stored state. A batch is stored whole or not at all.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// New value of a key.
    Put(KeyValue),
    /// The key is gone.
    Delete(Bytes),
    /// Events of one revision, in order; place in the list is `sub`.
    Events {
        revision: i64,
        /// Time of the revision, milliseconds since 1970. Never less than that of an earlier one.
        now_ms: i64,
        events: Arc<[Event]>,
    },
    Lease(Lease),
    LeaseEnd(i64),
    /// New value of a record; `None` where it is gone.
    Record {
        name: Bytes,
        value: Option<Bytes>,
    },
    /// The store's revision after the batch.
    Revision(i64),
    /// Events below this revision are dropped.
    Compact(i64),
    /// The state's hash after the batch.
    Hash(StateHash),
}

/// State with changes that are not stored yet.
pub struct Staged<'a> {
    base: &'a dyn View,
    keys: BTreeMap<Bytes, Option<KeyValue>>,
    read: RefCell<LastRead>,
    leases: BTreeMap<i64, Option<Lease>>,
    records: BTreeMap<Bytes, Option<Bytes>>,
    hash: StateHash,
    now_ms: i64,
    entry_ms: i64,
    sealed: Vec<(i64, i64, Arc<[Event]>)>,
    open: Vec<Event>,
    revision: i64,
    compact_revision: i64,
}

/// The last few keys that were read of the base. Nearly every write compares a key and then puts it, and the base may have to
/// look into files for each of the two. The base does not change meanwhile, so what was read stays true.
#[derive(Default)]
struct LastRead(Vec<(Bytes, Option<KeyValue>)>);

impl LastRead {
    const MAX: usize = 4;

    fn find(&self, key: &[u8]) -> Option<Option<KeyValue>> {
        let mut known = self.0.iter();
        let (_, kv) = known.find(|(read, _)| **read == *key)?;
        Some(kv.clone())
    }

    fn keep(&mut self, key: &[u8], kv: Option<KeyValue>) {
        if self.0.len() == Self::MAX {
            self.0.remove(0);
        }
        let key = match &kv {
            Some(kv) => kv.key.clone(),
            None => Bytes::copy_from_slice(key),
        };
        self.0.push((key, kv));
    }
}

impl<'a> Staged<'a> {
    pub fn new(base: &'a dyn View) -> Staged<'a> {
        Staged {
            base,
            keys: BTreeMap::new(),
            read: RefCell::default(),
            leases: BTreeMap::new(),
            records: BTreeMap::new(),
            hash: base.state_hash(),
            now_ms: base.now_ms(),
            entry_ms: 0,
            sealed: Vec::new(),
            open: Vec::new(),
            revision: base.revision(),
            compact_revision: base.compact_revision(),
        }
    }

    /// What is staged of a key, or what is read of the base, which is not read again soon.
    fn get_by(
        &self,
        key: &[u8],
        read: impl FnOnce(&dyn View) -> Result<Option<KeyValue>, Broken>,
    ) -> Result<Option<KeyValue>, Broken> {
        if let Some(staged) = self.keys.get(key) {
            return Ok(staged.clone());
        }
        if let Some(known) = self.read.borrow().find(key) {
            return Ok(known);
        }
        let kv = read(self.base)?;
        self.read.borrow_mut().keep(key, kv.clone());
        Ok(kv)
    }

    /// Takes over the time that an entry names, for the revision that it may make.
    pub(crate) fn set_entry_time(&mut self, now_ms: i64) {
        self.entry_ms = now_ms;
    }

    /// Puts a value within the open revision. Answers what was there.
    pub(crate) fn put(
        &mut self,
        key: &Bytes,
        value: Bytes,
        lease: i64,
    ) -> Result<Option<KeyValue>, Broken> {
        let prev = self.get(key)?;
        let revision = self.revision + 1;
        let kv = KeyValue {
            key: key.clone(),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            value,
            lease,
        };
        self.note(EventKind::Put, kv.clone(), prev.clone());
        self.keys.insert(key.clone(), Some(kv));
        Ok(prev)
    }

    /// Deletes a key within the open revision. Answers what was there; nothing changes where nothing was.
    pub(crate) fn delete(&mut self, key: &Bytes) -> Result<Option<KeyValue>, Broken> {
        let prev = self.get(key)?;
        if let Some(prev) = &prev {
            self.delete_read(prev.clone());
        }
        Ok(prev)
    }

    /// Deletes a pair as it was just read here, which is not read again for that.
    pub(crate) fn delete_read(&mut self, prev: KeyValue) {
        let key = prev.key.clone();
        let gone = KeyValue {
            key: key.clone(),
            mod_revision: self.revision + 1,
            ..KeyValue::default()
        };
        self.note(EventKind::Delete, gone, Some(prev));
        self.keys.insert(key, None);
    }

    fn note(&mut self, kind: EventKind, kv: KeyValue, prev_kv: Option<KeyValue>) {
        if let Some(prev) = &prev_kv {
            self.hash.remove_key(prev);
        }
        if kind == EventKind::Put {
            self.hash.add_key(&kv);
        }
        self.open.push(Event {
            kind: kind as i32,
            kv,
            prev_kv,
        });
    }

    /// What has happened since the base, and after a revision, in order.
    fn events_after(&self, revision: i64) -> impl Iterator<Item = (EventId, &Event)> {
        let sealed = self.sealed.iter();
        let sealed = sealed.map(|(revision, _, events)| (*revision, &events[..]));
        let open = (self.revision + 1, self.open.as_slice());
        let later = sealed.chain([open]).filter(move |(at, _)| *at > revision);
        later.flat_map(|(revision, events)| {
            let subs = (0..).zip(events);
            subs.map(move |(sub, event)| (EventId { revision, sub }, event))
        })
    }

    /// Closes the open revision: a revision that changed nothing does not exist.
    pub(crate) fn seal(&mut self) {
        if !self.open.is_empty() {
            self.revision += 1;
            // A proposer's clock behind an earlier one's counts as equal to it, so that times grow with revisions.
            self.now_ms = self.now_ms.max(self.entry_ms);
            self.sealed.push((
                self.revision,
                self.now_ms,
                std::mem::take(&mut self.open).into(),
            ));
        }
    }

    pub(crate) fn set_lease(&mut self, id: i64, lease: Option<Lease>) {
        if let Some(old) = self.lease(id) {
            self.hash.remove_lease(old);
        }
        if let Some(new) = lease {
            self.hash.add_lease(new);
        }
        self.leases.insert(id, lease);
    }

    pub(crate) fn set_record(&mut self, name: Bytes, value: Option<Bytes>) {
        if let Some(old) = self.record(&name) {
            self.hash.remove_record(&name, &old);
        }
        if let Some(new) = &value {
            self.hash.add_record(&name, new);
        }
        self.records.insert(name, value);
    }

    pub(crate) fn set_compact_revision(&mut self, revision: i64) {
        self.compact_revision = revision;
    }

    /// What has changed since the base. Empty where nothing has.
    pub fn into_writes(self) -> Vec<Write> {
        let changed = self.keys.len() + self.sealed.len() + self.leases.len() + self.records.len();
        let mut writes = Vec::with_capacity(changed + 3);
        // Leases stand before events: a catalog attaches keys to leases that it knows.
        writes.extend(
            self.leases
                .into_iter()
                .map(|(id, lease)| lease.map_or(Write::LeaseEnd(id), Write::Lease)),
        );
        writes.extend(
            self.records
                .into_iter()
                .map(|(name, value)| Write::Record { name, value }),
        );
        writes.extend(
            self.sealed
                .into_iter()
                .map(|(revision, now_ms, events)| Write::Events {
                    revision,
                    now_ms,
                    events,
                }),
        );
        writes.extend(
            self.keys
                .into_iter()
                .map(|(key, kv)| kv.map_or(Write::Delete(key), Write::Put)),
        );
        if self.revision != self.base.revision() {
            writes.push(Write::Revision(self.revision));
        }
        if self.compact_revision != self.base.compact_revision() {
            writes.push(Write::Compact(self.compact_revision));
        }
        if self.hash != self.base.state_hash() {
            writes.push(Write::Hash(self.hash));
        }
        writes
    }
}

impl Data for Staged<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        self.get_by(key, |base| base.get(key))
    }

    fn get_expected(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        self.get_by(key, |base| base.get_expected(key))
    }

    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Broken> {
        let staged = |key: &[u8]| self.keys.get(key).cloned();
        known_or_read(keys, staged, |rest| self.base.get_many(rest))
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        let Some(bounds) = range.bounds() else {
            return Ok(());
        };
        let mut staged = self.keys.range::<[u8], _>(bounds).peekable();
        let mut stopped = false;
        self.base.scan(range, &mut |kv| {
            while let Some((_, earlier)) = staged.next_if(|(key, _)| **key < kv.key) {
                if let Some(earlier) = earlier
                    && visit(earlier.clone()).is_break()
                {
                    stopped = true;
                    return ControlFlow::Break(());
                }
            }
            let flow = match staged.next_if(|(key, _)| **key == kv.key) {
                Some((_, Some(newer))) => visit(newer.clone()),
                Some((_, None)) => ControlFlow::Continue(()),
                None => visit(kv),
            };
            stopped = flow.is_break();
            flow
        })?;
        if !stopped {
            for kv in staged.filter_map(|(_, kv)| kv.as_ref()) {
                if visit(kv.clone()).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        if id.revision <= self.base.revision() {
            return self.base.event(id);
        }
        let events = match self
            .sealed
            .binary_search_by_key(&id.revision, |(revision, _, _)| *revision)
        {
            Ok(place) => self.sealed[place].2.as_ref(),
            Err(_) => self.open.as_slice(),
        };
        let missing = || Broken(format!("event {}.{} is not staged", id.revision, id.sub));
        events.get(id.sub as usize).cloned().ok_or_else(missing)
    }
}

impl View for Staged<'_> {
    fn revision(&self) -> i64 {
        self.revision
    }

    fn is_changing(&self) -> bool {
        !self.open.is_empty()
    }

    fn compact_revision(&self) -> i64 {
        self.compact_revision
    }

    fn count(&self, range: &KeyRange) -> i64 {
        let Some(bounds) = range.bounds() else {
            return 0;
        };
        let staged: i64 = self
            .keys
            .range::<[u8], _>(bounds)
            .map(|(key, kv)| i64::from(kv.is_some()) - self.base.count(&KeyRange::One(key.clone())))
            .sum();
        self.base.count(range) + staged
    }

    fn changed_after(&self, range: &KeyRange, revision: i64) -> Vec<(Bytes, Change, bool)> {
        let Some(bounds) = range.bounds() else {
            return Vec::new();
        };
        let old = self.base.changed_after(range, revision);
        if self.keys.range::<[u8], _>(bounds).next().is_none() {
            return old;
        }
        let mut changed: BTreeMap<Bytes, (Change, bool)> = old
            .into_iter()
            .map(|(key, first, alive)| (key, (first, alive)))
            .collect();
        // Found in the events when it is asked for: almost no write asks, and a list by key would cost each of them.
        for (id, event) in self.events_after(revision) {
            if range.contains(&event.kv.key) {
                let after = event.kind == EventKind::Put as i32;
                let change = Change::new(id, event.prev_kv.is_some(), after);
                let known = changed.entry(event.kv.key.clone());
                known.or_insert((change, after)).1 = after;
            }
        }
        changed
            .into_iter()
            .map(|(key, (first, alive))| (key, first, alive))
            .collect()
    }

    fn lease(&self, id: i64) -> Option<Lease> {
        match self.leases.get(&id) {
            Some(staged) => *staged,
            None => self.base.lease(id),
        }
    }

    fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        let mut keys = self.base.lease_keys(id);
        keys.retain(|key| !self.keys.contains_key(key));
        let staged = self
            .keys
            .values()
            .flatten()
            .filter(|kv| id != 0 && kv.lease == id);
        keys.extend(staged.map(|kv| kv.key.clone()));
        keys.sort();
        keys
    }

    fn lease_ids(&self) -> Vec<i64> {
        let mut ids = self.base.lease_ids();
        ids.retain(|id| !self.leases.contains_key(id));
        ids.extend(
            self.leases
                .iter()
                .filter(|(_, lease)| lease.is_some())
                .map(|(id, _)| *id),
        );
        ids.sort_unstable();
        ids
    }

    fn record(&self, name: &[u8]) -> Option<Bytes> {
        match self.records.get(name) {
            Some(staged) => staged.clone(),
            None => self.base.record(name),
        }
    }

    fn records(&self, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let mut records: BTreeMap<Bytes, Bytes> = self.base.records(prefix).into_iter().collect();
        let staged = self
            .records
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix));
        for (name, value) in staged {
            match value {
                Some(value) => records.insert(name.clone(), value.clone()),
                None => records.remove(name),
            };
        }
        records.into_iter().collect()
    }

    fn state_hash(&self) -> StateHash {
        self.hash
    }

    fn now_ms(&self) -> i64 {
        self.now_ms
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::mem::MemState;
    use crate::{
        Command, Compare, CompareOperand, CompareResult, CompareTarget, DeleteRangeRequest, Entry,
        PutRequest, RangePlan, RangeRequest, Request, RequestOp, TxnRequest, apply,
    };

    /// Counts how often a key is read.
    struct Counting<'a> {
        data: &'a dyn Data,
        reads: Cell<usize>,
    }

    impl Data for Counting<'_> {
        fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
            self.reads.set(self.reads.get() + 1);
            self.data.get(key)
        }

        fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
            self.data.scan(range, visit)
        }

        fn event(&self, id: EventId) -> Result<Event, Broken> {
            self.data.event(id)
        }
    }

    /// Puts `value` where the key is of this revision.
    fn put_at(key: &'static str, value: &'static str, mod_revision: i64) -> Entry {
        let put = PutRequest {
            key: Bytes::from_static(key.as_bytes()),
            value: Bytes::from_static(value.as_bytes()),
            ..PutRequest::default()
        };
        let compare = Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: put.key.clone(),
            operand: Some(CompareOperand::ModRevision(mod_revision)),
            range_end: Bytes::new(),
        };
        let put = RequestOp {
            request: Some(Request::Put(put)),
        };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![put],
            failure: Vec::new(),
        };
        Entry::new(0, Command::Txn(txn))
    }

    #[test]
    fn a_key_that_is_compared_and_then_put_is_read_once() {
        let mut state = MemState::default();
        state.apply(&put_at("a", "1", 0), 1).unwrap();
        let counting = Counting {
            data: &state.data,
            reads: Cell::new(0),
        };
        let base = Joined {
            catalog: &state.catalog,
            data: &counting,
        };
        let first = state.catalog.revision();
        let mut staged = Staged::new(&base);
        apply(&mut staged, &put_at("a", "2", first), 1).unwrap();
        assert_eq!(counting.reads.get(), 1);
        // What was staged since is what counts, not what was read.
        apply(&mut staged, &put_at("a", "3", first), 1).unwrap();
        apply(&mut staged, &put_at("a", "4", first + 1), 1).unwrap();
        let kv = staged.get(b"a").unwrap().unwrap();
        assert_eq!((&*kv.value, kv.version), (&b"4"[..], 3));
        assert_eq!(counting.reads.get(), 1);
    }

    #[test]
    fn a_key_that_is_not_there_is_not_read() {
        let mut state = MemState::default();
        state.apply(&put_at("a", "1", 0), 1).unwrap();
        let counting = Counting {
            data: &state.data,
            reads: Cell::new(0),
        };
        let base = Joined {
            catalog: &state.catalog,
            data: &counting,
        };
        for (key, found, reads) in [("b", 0, 0), ("a", 1, 1)] {
            let request = RangeRequest {
                key: Bytes::from_static(key.as_bytes()),
                ..RangeRequest::default()
            };
            let plan = RangePlan::new(&base, &request).unwrap();
            assert_eq!(plan.run(&counting).unwrap().kvs.len(), found);
            assert_eq!(counting.reads.get(), reads);
        }
    }

    #[test]
    fn a_key_that_is_expected_is_read_and_found_or_not_as_any() {
        let mut state = MemState::default();
        state.apply(&put_at("a", "1", 0), 1).unwrap();
        let first = state.catalog.revision();
        // The last is expected by its revision, and is not there.
        for (key, mod_revision, reads) in [("a", first, 1), ("b", 0, 0), ("b", first, 1)] {
            let counting = Counting {
                data: &state.data,
                reads: Cell::new(0),
            };
            let base = Joined {
                catalog: &state.catalog,
                data: &counting,
            };
            let is_there = base.get(key.as_bytes()).unwrap();
            assert_eq!(base.get_expected(key.as_bytes()).unwrap(), is_there);
            counting.reads.set(0);
            let mut staged = Staged::new(&base);
            apply(&mut staged, &put_at(key, "2", mod_revision), 1).unwrap();
            assert_eq!(counting.reads.get(), reads, "{key} {mod_revision}");
            let is_put = staged.revision() > first;
            let found = is_there.map_or(0, |kv| kv.mod_revision);
            assert_eq!(is_put, found == mod_revision, "{key} {mod_revision}");
        }
    }

    #[test]
    fn a_key_that_is_expected_is_not_there_once_the_batch_has_deleted_it() {
        let mut state = MemState::default();
        state.apply(&put_at("a", "1", 0), 1).unwrap();
        let first = state.catalog.revision();
        let base = state.view();
        let mut staged = Staged::new(&base);
        assert!(staged.get_expected(b"a").unwrap().is_some());
        staged.delete(&Bytes::from_static(b"a")).unwrap();
        assert_eq!(staged.get_expected(b"a"), Ok(None), "within the revision");
        staged.seal();
        apply(&mut staged, &put_at("a", "2", first), 1).unwrap();
        assert_eq!(
            staged.get_expected(b"a"),
            Ok(None),
            "it was of that revision"
        );
        apply(&mut staged, &put_at("a", "3", 0), 1).unwrap();
        let kv = staged.get_expected(b"a").unwrap().unwrap();
        assert_eq!((&*kv.value, kv.version), (&b"3"[..], 1));
        assert_eq!(
            (kv.create_revision, kv.mod_revision),
            (first + 2, first + 2)
        );
    }

    #[test]
    fn what_a_range_deletes_is_not_read_again_key_by_key() {
        let mut state = MemState::default();
        for key in ["a", "b", "c"] {
            state.apply(&put_at(key, "1", 0), 1).unwrap();
        }
        let counting = Counting {
            data: &state.data,
            reads: Cell::new(0),
        };
        let base = Joined {
            catalog: &state.catalog,
            data: &counting,
        };
        let mut staged = Staged::new(&base);
        let of_b = state.catalog.revision() - 1;
        apply(&mut staged, &put_at("b", "2", of_b), 1).unwrap();
        counting.reads.set(0);
        let delete = DeleteRangeRequest {
            key: Bytes::from_static(b"a"),
            range_end: Bytes::from_static(b"c"),
            prev_kv: true,
        };
        let request = TxnRequest {
            success: vec![RequestOp {
                request: Some(Request::DeleteRange(delete)),
            }],
            ..TxnRequest::default()
        };
        apply(&mut staged, &Entry::new(0, Command::Txn(request)), 1).unwrap();
        assert_eq!(counting.reads.get(), 0);
        let writes = staged.into_writes();
        let deleted: Vec<(Bytes, Bytes)> = writes
            .iter()
            .filter_map(|write| match write {
                Write::Events { events, .. } => Some(events),
                _ => None,
            })
            .flat_map(|events| events.iter())
            .filter(|event| event.kind == EventKind::Delete as i32)
            .filter_map(|event| event.prev_kv.clone())
            .map(|prev| (prev.key, prev.value))
            .collect();
        // What the batch has put counts, not what is stored.
        let expected = [("a", "1"), ("b", "2")];
        let expected = expected.map(|(key, value)| (Bytes::from(key), Bytes::from(value)));
        assert_eq!(deleted, expected);
        for key in ["a", "b"] {
            assert!(writes.contains(&Write::Delete(key.into())), "{key}");
        }
    }

    #[test]
    fn changes_of_a_batch_are_known_by_range_and_revision() {
        let mut state = MemState::default();
        state.apply(&put_at("a", "1", 0), 1).unwrap();
        let first = state.catalog.revision();
        let view = state.view();
        let mut staged = Staged::new(&view);
        for entry in [
            put_at("a", "2", first),
            put_at("b", "1", 0),
            put_at("a", "3", first + 1),
        ] {
            apply(&mut staged, &entry, 1).unwrap();
        }
        let changed = |range: &KeyRange, revision: i64| -> Vec<(Bytes, i64, bool)> {
            let changed = staged.changed_after(range, revision).into_iter();
            changed
                .map(|(key, change, _)| (key, change.id().revision, change.before))
                .collect()
        };
        let (a, b) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
        let all = KeyRange::all();
        let of_b = vec![(b.clone(), first + 2, false)];
        let both = vec![(a.clone(), first + 1, true), of_b[0].clone()];
        assert_eq!(changed(&all, first), both);
        // The first change of all is one of the state before.
        let both = vec![(a.clone(), first, false), of_b[0].clone()];
        assert_eq!(changed(&all, first - 1), both);
        assert_eq!(changed(&KeyRange::One(b.clone()), first), of_b);
        assert_eq!(changed(&all, first + 2), vec![(a, first + 3, true)]);
        assert_eq!(changed(&KeyRange::One(b), first + 2), vec![]);
        assert_eq!(changed(&all, first + 3), vec![]);
    }

    #[test]
    fn only_a_few_values_that_were_read_are_held() {
        let mut state = MemState::default();
        let keys = ["a", "b", "c", "d", "e"];
        for key in keys {
            state.apply(&put_at(key, "1", 0), 1).unwrap();
        }
        let view = state.view();
        let staged = Staged::new(&view);
        for key in keys.iter().chain(&keys) {
            let kv = staged.get(key.as_bytes()).unwrap().unwrap();
            assert_eq!(kv.key, *key);
            assert!(staged.read.borrow().0.len() <= LastRead::MAX);
        }
        assert_eq!(staged.get(b"z").unwrap(), None);
    }
}
