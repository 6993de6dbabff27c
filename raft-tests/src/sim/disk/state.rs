//! The state on a simulated disk: what is flushed, and batches that are not.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use kv::mem::MemData;
use kv::{Broken, Catalog, Data, Event, EventId, KeyRange, KeyValue, StateHash, Visit, Write};
use prost::Message;
use rand::RngExt;
use rand::rngs::SmallRng;
use store::Moment;
use store::disk::{Position, damaged};
use store::env::tempdir::StagingDir;
use store::env::{Files, ShowState, StateCheck, StateDb, StateDisk};

use super::Life;

/// A whole state.
#[derive(Clone, Debug)]
struct Held {
    data: MemData,
    /// When revisions were made.
    times: BTreeMap<i64, i64>,
    leases: BTreeMap<i64, kv::Lease>,
    records: BTreeMap<Bytes, Bytes>,
    position: Position,
}

impl Default for Held {
    fn default() -> Held {
        Held {
            data: MemData::default(),
            times: BTreeMap::new(),
            leases: BTreeMap::new(),
            records: BTreeMap::new(),
            position: Position {
                revision: 1,
                ..Position::default()
            },
        }
    }
}

type Batch = Arc<(Vec<Write>, Position)>;

/// What is on the disk.
#[derive(Debug, Default)]
pub(super) struct StoredState {
    made: bool,
    flushed: Held,
    /// Written and not flushed, oldest first.
    unflushed: Vec<Batch>,
    staged: u64,
}

impl StoredState {
    /// What makes an empty state into the one that a process would find; nothing where none was ever made.
    pub(super) fn stored(&self) -> Option<(Vec<Write>, Position)> {
        self.flushed
            .snapshot()
            .into_batch()
            .ok()
            .filter(|_| self.made)
    }

    /// Some first ones of the batches may have been flushed on the way. The product's state has no log of its own: what is
    /// in memory goes with the process.
    pub(super) fn draw_kept(&self, rng: &mut SmallRng) -> usize {
        rng.random_range(0..=self.unflushed.len())
    }

    pub(super) fn crash(&mut self, kept: usize) {
        for batch in std::mem::take(&mut self.unflushed).iter().take(kept) {
            self.flushed.store(batch);
        }
    }

    fn flush(&mut self) {
        for batch in std::mem::take(&mut self.unflushed) {
            self.flushed.store(&batch);
        }
    }
}

impl Held {
    fn store(&mut self, batch: &(Vec<Write>, Position)) {
        let (writes, position) = batch;
        self.data.store(writes);
        for write in writes {
            match write {
                Write::Events {
                    revision, now_ms, ..
                } => {
                    self.times.insert(*revision, *now_ms);
                }
                Write::Compact(revision) => self.times = self.times.split_off(revision),
                Write::Lease(lease) => {
                    self.leases.insert(lease.id, *lease);
                }
                Write::LeaseEnd(id) => {
                    self.leases.remove(id);
                }
                Write::Record {
                    name,
                    value: Some(value),
                } => {
                    self.records.insert(name.clone(), value.clone());
                }
                Write::Record { name, value: None } => {
                    self.records.remove(name);
                }
                Write::Put(_) | Write::Delete(_) | Write::Revision(_) | Write::Hash(_) => {}
            }
        }
        self.position = position.clone();
    }

    fn encode(&self) -> Vec<u8> {
        self.snapshot().encode_to_vec()
    }

    fn snapshot(&self) -> Snapshot {
        let time = |revision| self.times.get(&revision).copied().unwrap_or(0);
        let revision = |(revision, events): (i64, &Arc<[Event]>)| StoredRevision {
            revision,
            now_ms: time(revision),
            events: events.to_vec(),
        };
        let record = |(name, value): (&Bytes, &Bytes)| StoredRecord {
            name: name.clone(),
            value: value.clone(),
        };
        Snapshot {
            position: Some(self.position.clone()),
            keys: self.data.keys().cloned().collect(),
            revisions: self.data.events().map(revision).collect(),
            leases: self.leases.values().copied().collect(),
            records: self.records.iter().map(record).collect(),
        }
    }

    fn decode(bytes: &[u8]) -> io::Result<Held> {
        let snapshot = Snapshot::decode(bytes).map_err(damaged)?;
        let mut held = Held::default();
        held.store(&snapshot.into_batch()?);
        Ok(held)
    }
}

impl Snapshot {
    /// What makes an empty state into it.
    fn into_batch(self) -> io::Result<(Vec<Write>, Position)> {
        let position = self.position.ok_or_else(|| damaged("no position"))?;
        let mut writes: Vec<Write> = self.keys.into_iter().map(Write::Put).collect();
        writes.extend(self.revisions.into_iter().map(|stored| Write::Events {
            revision: stored.revision,
            now_ms: stored.now_ms,
            events: stored.events.into(),
        }));
        writes.extend(self.leases.into_iter().map(Write::Lease));
        writes.extend(self.records.into_iter().map(|record| Write::Record {
            name: record.name,
            value: Some(record.value),
        }));
        Ok((writes, position))
    }
}

/// A state as a file.
#[derive(Clone, PartialEq, Message)]
struct Snapshot {
    #[prost(message, optional, tag = "1")]
    position: Option<Position>,
    #[prost(message, repeated, tag = "2")]
    keys: Vec<KeyValue>,
    #[prost(message, repeated, tag = "3")]
    revisions: Vec<StoredRevision>,
    #[prost(message, repeated, tag = "4")]
    leases: Vec<kv::Lease>,
    #[prost(message, repeated, tag = "5")]
    records: Vec<StoredRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRevision {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(int64, tag = "2")]
    now_ms: i64,
    #[prost(message, repeated, tag = "3")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRecord {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// The file in the directory of a checkpoint.
const FILE: &str = "state";

/// The state of one process.
pub(super) struct State {
    life: Life,
    staging: PathBuf,
    opened: RwLock<Arc<Opened>>,
}

impl State {
    pub(super) fn open(life: Life, dir: &Path, create: bool) -> io::Result<State> {
        let staging = dir.join("staging");
        let mut inner = life.lock()?;
        let state = &mut inner.state;
        if create {
            *state = StoredState::default();
            state.made = true;
        } else if !state.made {
            return Err(damaged("the state is missing"));
        }
        let held = state.flushed.clone();
        drop(inner);
        Files::remove(&life, &staging)?;
        let opened = Arc::new(Opened::new(life.clone(), held));
        Ok(State {
            life,
            staging,
            opened: RwLock::new(opened),
        })
    }
}

impl StateDisk for State {
    fn opened(&self) -> Arc<dyn StateDb> {
        let opened = self.opened.read();
        opened.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn staging(&self) -> io::Result<StagingDir> {
        let mut inner = self.life.lock()?;
        inner.state.staged += 1;
        let path = self.staging.join(inner.state.staged.to_string());
        drop(inner);
        StagingDir::create_in(Arc::new(self.life.clone()), path)
    }

    fn install(&self, from: &Path, check: &mut StateCheck<'_>) -> io::Result<ShowState<'_>> {
        let mut bytes = Vec::new();
        Files::open(&self.life, &from.join(FILE))?.read_to_end(&mut bytes)?;
        let held = Held::decode(&bytes)?;
        let new = Arc::new(Opened::new(self.life.clone(), held.clone()));
        check(&*new)?;
        let mut inner = self.life.lock()?;
        inner.sync()?;
        inner.state.flushed = held;
        inner.state.unflushed.clear();
        inner.installed += 1;
        drop(inner);
        Ok(Box::new(move || {
            let mut opened = self.opened.write().unwrap_or_else(PoisonError::into_inner);
            *opened = new;
        }))
    }
}

/// One opened state, as its process sees it.
struct Opened {
    life: Life,
    held: RwLock<Held>,
}

impl Opened {
    fn new(life: Life, held: Held) -> Opened {
        Opened {
            life,
            held: RwLock::new(held),
        }
    }

    fn held(&self) -> RwLockReadGuard<'_, Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Data for Opened {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        self.held().data.get(key)
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        self.held().data.scan(range, visit)
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        self.held().data.event(id)
    }
}

/// Of this moment: on one thread nothing is written while it is read.
struct Now<'a>(&'a Opened);

impl Data for Now<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        self.0.get(key)
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        self.0.scan(range, visit)
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        self.0.event(id)
    }
}

impl StateDb for Opened {
    fn load(&self) -> io::Result<(Position, Catalog)> {
        let held = self.held();
        let position = held.position.clone();
        let mut catalog = Catalog::new();
        catalog.load_revisions(position.revision, position.compact_revision);
        catalog.load_clock(position.now_ms);
        for (name, value) in &held.records {
            catalog.load_record(name.clone(), value.clone());
        }
        held.leases
            .values()
            .for_each(|lease| catalog.load_lease(*lease));
        held.data.keys().for_each(|kv| catalog.load_key(kv));
        for (revision, events) in held.data.events() {
            for (sub, event) in (0..).zip(events.iter()) {
                catalog.load_event(EventId { revision, sub }, event);
            }
        }
        match StateHash::from_bytes(&position.state_hash) {
            Some(stored) if stored != catalog.state_hash() => {
                Err(damaged("what is stored is not what was written"))
            }
            _ => Ok((position, catalog)),
        }
    }

    fn write(&self, writes: &[Write], position: &Position) -> io::Result<()> {
        let batch: Batch = Arc::new((writes.to_vec(), position.clone()));
        self.life.lock()?.state.unflushed.push(batch.clone());
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        held.store(&batch);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let mut inner = self.life.lock()?;
        inner.sync()?;
        inner.state.flush();
        Ok(())
    }

    fn checkpoint(&self, to: &Path) -> io::Result<Position> {
        self.flush()?;
        let held = self.held();
        Files::write(&self.life, &to.join(FILE), &held.encode())?;
        Files::sync_dir(&self.life, to)?;
        Ok(held.position.clone())
    }

    fn snapshot(&self) -> Box<dyn Data + '_> {
        Box::new(Now(self))
    }

    fn next_moment(&self, from: i64) -> Result<Option<Moment>, Broken> {
        let held = self.held();
        let next = held.times.range(from..).next();
        Ok(next.map(|(revision, unix_ms)| Moment {
            revision: *revision,
            unix_ms: *unix_ms,
        }))
    }

    fn scan_snapshot(&self) -> Box<dyn Data + '_> {
        Box::new(Now(self))
    }

    fn events(
        &self,
        from: i64,
        to: i64,
        visit: &mut dyn FnMut(EventId, Event) -> bool,
    ) -> Result<(), Broken> {
        let held = self.held();
        let events = held.data.events();
        for (revision, events) in events.filter(|(revision, _)| (from..=to).contains(revision)) {
            for (sub, event) in (0..).zip(events.iter()) {
                if !visit(EventId { revision, sub }, event.clone()) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.held().data.keys().count() as u64 * 128
    }
}
