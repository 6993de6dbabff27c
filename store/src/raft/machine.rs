//! Raft's state machine: the model of `kv` over a [`StateDisk`].
//!
//! Committed entries that are ready together are applied to one overlay and stored as one batch with the index of the
//! last of them. Then, in this order: the catalog takes the batch over, watchers get the events, clients their
//! answers. The state is not synced per batch: a snapshot, for Raft, is "the state up to this index is flushed", after
//! which the log below may go.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use futures::{Stream, StreamExt};
use kv::mutants::{Bug, planted};
use kv::{
    Catalog, EventLog, Hub, HubLimits, Joined, KeyRange, LogChunk, LogError, RangePlan, Staged,
    Write,
};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use prost::Message;
use rand::RngExt;

use crate::backlog::{Backlog, footprint};
use crate::disk::{self, MembershipRecord, Position};
use crate::divergence::{Digest, Trail};
use crate::env::tempdir::StagingDir;
use crate::env::{StateDb, StateDisk};
use crate::history::{Moment, Retained};
use crate::host;
use crate::metrics::METRICS;
use crate::proposals::Proposals;
use crate::raft::types::{Entry, LogId, Outcome, SnapshotMeta, StoredMembership, TypeConfig};
use crate::recent::{Fronted, Recent};
use crate::watch;

/// Most entries in one batch.
const BATCH_ENTRIES: usize = 512;
/// A look at the log by a watcher that catches up ends after this many events or bytes.
const LOG_CHUNK_EVENTS: usize = 512;
const LOG_CHUNK_BYTES: usize = 256 << 10;
/// Ranges with more keys than this are read on a thread that may block.
const INLINE_KEYS: i64 = 256;

/// How far this member has got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub log_id: Option<LogId>,
    pub revision: i64,
}

impl Applied {
    pub fn covers(&self, index: u64) -> bool {
        self.log_id.is_some_and(|id| id.index >= index)
    }
}

/// The replicated state of this member, as its clients read it.
pub struct Replica {
    cluster_id: u64,
    disk: Arc<dyn StateDisk>,
    /// Together with the data: whoever holds this for writing may change both.
    catalog: RwLock<Catalog>,
    /// Of the catalog: changed with it, and read without waiting for it.
    auth_revision: AtomicU64,
    position: Mutex<Position>,
    /// Of the data, for what is applied.
    recent: Mutex<Recent>,
    /// What of it survives a crash. It is what Raft takes for the snapshot, below which the log may go.
    flushed: Mutex<Position>,
    hub: Arc<Hub>,
    applied: watch::Sender<Applied>,
    /// The membership as applied, so committed.
    membership: watch::Sender<Option<Arc<MembershipRecord>>>,
    alarms: watch::Sender<Arc<Vec<kv::Alarm>>>,
    trail: Mutex<Trail>,
    backlog: Mutex<Backlog>,
    /// Bytes that the disk of the state has not got.
    unflushed: watch::Sender<u64>,
    pub(crate) proposals: Proposals,
}

impl Replica {
    /// Loads the state.
    pub fn load(cluster_id: u64, disk: Arc<dyn StateDisk>) -> io::Result<Arc<Replica>> {
        Replica::load_with(cluster_id, disk, HubLimits::default())
    }

    /// As [`Replica::load`]; `watches` says how much is held for them.
    pub fn load_with(
        cluster_id: u64,
        disk: Arc<dyn StateDisk>,
        watches: HubLimits,
    ) -> io::Result<Arc<Replica>> {
        let (mut position, mut catalog) = disk.opened().load()?;
        if planted(Bug::RevisionFromKeys) {
            position.revision = newest_of_keys(disk.opened().as_ref());
            catalog.load_revisions(position.revision, position.compact_revision);
        }
        if position.applied.is_some() && position.cluster_id != cluster_id {
            return Err(disk::damaged(format!(
                "the state is of cluster {:016x}",
                position.cluster_id
            )));
        }
        position.cluster_id = cluster_id;
        let hub = Hub::new(catalog.revision(), watches);
        let alarms = alarms_of(&catalog, disk.opened().as_ref());
        let mut trail = Trail::default();
        if let Some(applied) = &position.applied {
            // Of what was read: who wrote it may have known nothing of digests.
            let digest = digest_of(&catalog, disk.opened().as_ref());
            trail.push(applied.index, digest);
        }
        let applied = Applied {
            log_id: position.applied.map(LogId::from),
            revision: position.revision,
        };
        let replica = Arc::new(Replica {
            cluster_id,
            disk,
            auth_revision: AtomicU64::new(kv::auth_revision_in(&catalog)),
            catalog: RwLock::new(catalog),
            membership: watch::Sender::new(position.membership.clone().map(Arc::new)),
            flushed: Mutex::new(position.clone()),
            position: Mutex::new(position),
            recent: Mutex::default(),
            hub: hub.clone(),
            applied: watch::Sender::new(applied),
            alarms: watch::Sender::new(Arc::new(alarms)),
            trail: Mutex::new(trail),
            backlog: Mutex::default(),
            unflushed: watch::Sender::default(),
            proposals: Proposals::from(host::rng().random()),
        });
        hub.set_log(Arc::new(StoredLog(Arc::downgrade(&replica))));
        // Nothing may be applied for long: without a leader.
        show_figures(&replica.position());
        replica.show_size();
        Ok(replica)
    }

    /// As a metric; it changes by itself.
    pub fn show_size(&self) {
        let bytes = i64::try_from(self.disk.opened().size_bytes()).unwrap_or(i64::MAX);
        METRICS.db_size.set(bytes);
        METRICS.db_size_in_use.set(bytes);
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub fn disk(&self) -> &Arc<dyn StateDisk> {
        &self.disk
    }

    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// The revision, where the log is applied up to this entry.
    pub fn reached(&self, index: u64) -> Option<i64> {
        let applied = self.applied.borrow();
        applied.covers(index).then_some(applied.revision)
    }

    pub fn membership(&self) -> watch::Receiver<Option<Arc<MembershipRecord>>> {
        self.membership.subscribe()
    }

    /// The newest revision at a time, of those that are here.
    pub fn revision_at(&self, unix_ms: i64) -> Result<Moment, kv::StoreError> {
        self.with_retained(|retained| retained.at(unix_ms))
    }

    /// When a revision was made.
    pub fn time_of(&self, revision: i64) -> Result<Moment, kv::StoreError> {
        self.with_retained(|retained| retained.time_of(revision))
    }

    fn with_retained(
        &self,
        find: impl FnOnce(&Retained<'_>) -> Result<Result<Moment, kv::Refusal>, kv::Broken>,
    ) -> Result<Moment, kv::StoreError> {
        // The lock is held, so that compaction cannot take the events away meanwhile.
        let catalog = self.catalog();
        let db = self.disk.opened();
        let retained = Retained {
            compact_revision: catalog.compact_revision(),
            revision: catalog.revision(),
            next: &|from| db.next_moment(from),
        };
        Ok(find(&retained).map_err(unreadable)??)
    }

    /// The alarms that stand.
    pub fn alarms(&self) -> Arc<Vec<kv::Alarm>> {
        self.alarms.borrow().clone()
    }

    /// Tells when they change.
    pub fn alarm_changes(&self) -> watch::Receiver<Arc<Vec<kv::Alarm>>> {
        self.alarms.subscribe()
    }

    /// What the state was after an entry; nothing where that is not known (any more).
    pub fn digest_at(&self, index: u64) -> Option<Digest> {
        self.trail().at(index)
    }

    /// Of the last entry that was applied.
    pub fn last_digest(&self) -> Option<(u64, Digest)> {
        self.trail().last()
    }

    /// Bytes that the disk of the state has not got; see [`Backlog`].
    pub(crate) fn unflushed(&self) -> watch::Receiver<u64> {
        self.unflushed.subscribe()
    }

    /// See [`Backlog::dispensable`].
    pub(crate) fn dispensable(&self, kept: u64) -> Option<u64> {
        self.backlog().dispensable(kept)
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // A panic under the lock came while it was read, or the member stops anyway.
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called now and then while little is written: see [`Recent::rest`].
    pub(crate) fn rest(&self) {
        self.recent().rest();
    }

    fn trail(&self) -> MutexGuard<'_, Trail> {
        self.trail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        // A panic under the lock came before anything was changed, or the member stops anyway.
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which users and roles there are, see [`kv::auth_revision`].
    pub fn auth_revision(&self) -> u64 {
        self.auth_revision.load(Ordering::Acquire)
    }

    fn follow_auth(&self, catalog: &Catalog) {
        let revision = kv::auth_revision_in(catalog);
        self.auth_revision.store(revision, Ordering::Release);
    }

    pub fn position(&self) -> Position {
        self.position
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Up to which entry the state survives a crash.
    pub fn flushed(&self) -> Option<LogId> {
        self.lock_flushed().applied.map(LogId::from)
    }

    fn lock_flushed(&self) -> MutexGuard<'_, Position> {
        self.flushed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the state durable; answers up to where it surely is. Blocks.
    fn flush(&self) -> io::Result<Position> {
        // First what is covered, then the flush: more may get durable, never less.
        let (position, place) = (self.position(), self.backlog().place());
        if !planted(Bug::PurgesUnflushed) {
            self.disk.opened().flush()?;
        }
        let mut flushed = self.lock_flushed();
        // A snapshot may have been installed meanwhile.
        if flushed.applied.map(LogId::from) < position.applied.map(LogId::from) {
            *flushed = position.clone();
        }
        drop(flushed);
        let unflushed = self.backlog().flushed(place);
        self.unflushed.send_replace(unflushed);
        Ok(position)
    }

    /// What can be read of this member now, without regard to other members.
    pub async fn range(
        self: &Arc<Self>,
        request: kv::RangeRequest,
    ) -> kv::StoreResult<kv::RangeResponse> {
        kv::check_range(&request)?;
        let range = KeyRange::new(&request.key, &request.range_end);
        let many = !request.count_only && self.catalog().count(&range) > INLINE_KEYS;
        if !many {
            return self.range_now(&request);
        }
        let replica = self.clone();
        let read = host::blocking(move || {
            let catalog = replica.catalog();
            let db = replica.disk.opened();
            let data = match request.limit > 0 && request.limit <= INLINE_KEYS {
                true => db.snapshot(),
                // So many are read once.
                false => db.scan_snapshot(),
            };
            range_of(catalog, data.as_ref(), &request)
        });
        read.await.map_err(|_| kv::StoreError::Stopped)?
    }

    /// Reads on this thread, and holds all of the answer.
    pub(crate) fn range_now(
        &self,
        request: &kv::RangeRequest,
    ) -> kv::StoreResult<kv::RangeResponse> {
        let catalog = self.catalog();
        let db = self.disk.opened();
        let data = db.snapshot();
        range_of(catalog, data.as_ref(), request)
    }

    /// Evaluates a transaction that cannot write. What it reads is read when its catalog has been let go.
    pub fn read_txn(&self, request: &kv::TxnRequest) -> kv::StoreResult<kv::TxnResponse> {
        let catalog = self.catalog();
        let db = self.disk.opened();
        let data = db.snapshot();
        let revision = catalog.revision();
        let view = Joined {
            catalog: &catalog,
            data: data.as_ref(),
        };
        let plan = kv::ReadPlan::new(&view, request).map_err(unreadable)??;
        drop(catalog);
        let body = plan.run(data.as_ref()).map_err(unreadable)?;
        Ok(kv::Answer { revision, body })
    }

    pub fn lease_status(
        &self,
        id: i64,
        keys: bool,
        left_seconds: i64,
    ) -> kv::Answer<kv::LeaseStatus> {
        let catalog = self.catalog();
        let db = self.disk.opened();
        let view = Joined {
            catalog: &catalog,
            data: db.as_ref() as &dyn StateDb,
        };
        kv::Answer {
            revision: catalog.revision(),
            body: kv::lease_status(&view, id, keys, left_seconds),
        }
    }

    /// Stores a batch, then shows it to readers and watchers.
    fn commit(
        &self,
        writes: Vec<Write>,
        position: Position,
        digests: Vec<(u64, Digest)>,
    ) -> io::Result<()> {
        let timer = METRICS.backend_commit.start_timer();
        {
            let mut catalog = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
            let db = self.disk.opened();
            if planted(Bug::ApplyNotAtomic) {
                let applied = self.position().applied;
                let position = position.clone();
                db.write(
                    &writes,
                    &Position {
                        applied,
                        ..position
                    },
                )?;
            }
            db.write(&writes, &position)?;
            catalog.absorb(&writes);
            self.recent().absorb(&writes);
            self.follow_auth(&catalog);
        }
        timer.observe_duration();
        {
            let mut trail = self.trail();
            for (index, digest) in digests {
                trail.push(index, digest);
            }
        }
        if writes
            .iter()
            .any(|write| matches!(write, Write::Record { .. }))
        {
            self.show_alarms();
        }
        if let Some(applied) = &position.applied {
            let unflushed = self.backlog().applied(applied.index, footprint(&writes));
            self.unflushed.send_replace(unflushed);
        }
        let events: Vec<_> = writes
            .iter()
            .filter_map(|write| match write {
                Write::Events {
                    revision, events, ..
                } => Some((*revision, events.clone())),
                _ => None,
            })
            .collect();
        self.hub.publish(&events, position.revision);
        self.show(position);
        Ok(())
    }

    fn show_alarms(&self) {
        let alarms = alarms_of(&self.catalog(), self.disk.opened().as_ref());
        self.alarms.send_if_modified(|known| {
            let changed = **known != alarms;
            if changed {
                *known = Arc::new(alarms);
            }
            changed
        });
    }

    fn show(&self, position: Position) {
        let applied = Applied {
            log_id: position.applied.map(LogId::from),
            revision: position.revision,
        };
        show_figures(&position);
        self.membership.send_if_modified(|known| {
            let place = |record: Option<&MembershipRecord>| record.map(|record| record.log_id);
            let changed = place(known.as_deref()) != place(position.membership.as_ref());
            if changed {
                *known = position.membership.clone().map(Arc::new);
            }
            changed
        });
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = position;
        self.applied.send_replace(applied);
    }

    /// Makes a durable copy of the state in `to`; answers what it is of. Blocks.
    pub fn checkpoint(&self, to: &Path) -> io::Result<SnapshotMeta> {
        snapshot_meta(&self.disk.opened().checkpoint(to)?)
    }

    fn install(&self, meta: &SnapshotMeta, from: &Path) -> io::Result<()> {
        let mut loaded = None;
        let mut check = |db: &dyn StateDb| {
            let (position, catalog) = db.load()?;
            let applied = position.applied.map(LogId::from);
            if position.cluster_id != self.cluster_id {
                return Err(disk::damaged(format!(
                    "the snapshot is of cluster {:016x}",
                    position.cluster_id
                )));
            }
            if applied != meta.last_log_id {
                return Err(disk::damaged(format!(
                    "the snapshot is of {applied:?}, not of {:?}",
                    meta.last_log_id
                )));
            }
            let digest = digest_of(&catalog, db);
            loaded = Some((position, catalog, digest));
            Ok(())
        };
        // Opening and reading a whole state takes minutes where it is large. Readers go on with the old one meanwhile,
        // and nothing is applied: Raft applies and installs one after the other.
        let show = self.disk.install(from, &mut check)?;
        let (position, mut catalog, digest) =
            loaded.ok_or_else(|| disk::damaged("the snapshot was not checked"))?;
        if planted(Bug::SnapshotDropsLeases) {
            let leases = catalog.leases();
            let ends: Vec<_> = leases
                .map(|record| Write::LeaseEnd(record.lease.id))
                .collect();
            catalog.absorb(&ends);
        }
        self.proposals.pass();
        let old = {
            let mut current = self.catalog.write().unwrap_or_else(PoisonError::into_inner);
            show();
            let recent = std::mem::take(&mut *self.recent());
            self.follow_auth(&catalog);
            (std::mem::replace(&mut *current, catalog), recent)
        };
        // Freed outside the lock: there is an entry for each key, and for a hundred thousand of the last writes.
        drop(old);
        METRICS.snapshots_installed.inc();
        self.backlog().replaced();
        self.unflushed.send_replace(0);
        self.hub.jump(position.revision);
        if let Some(applied) = &position.applied {
            self.trail().push(applied.index, digest);
        }
        *self.lock_flushed() = position.clone();
        self.show_alarms();
        self.show(position);
        Ok(())
    }
}

/// Reads from data that are of the same moment as the catalog, which is let go before that.
fn range_of(
    catalog: RwLockReadGuard<'_, Catalog>,
    data: &dyn kv::Data,
    request: &kv::RangeRequest,
) -> kv::StoreResult<kv::RangeResponse> {
    let revision = catalog.revision();
    let view = Joined {
        catalog: &catalog,
        data,
    };
    let plan = RangePlan::new(&view, request)?;
    drop(catalog);
    let body = plan.run(data).map_err(unreadable)?;
    Ok(kv::Answer { revision, body })
}

/// Of [`Bug::RevisionFromKeys`].
fn newest_of_keys(data: &dyn StateDb) -> i64 {
    let mut newest = 1;
    let scanned = data.scan(&KeyRange::all(), &mut |kv| {
        newest = kv.mod_revision.max(newest);
        std::ops::ControlFlow::Continue(())
    });
    scanned.map_or(1, |()| newest)
}

fn digest_of(catalog: &Catalog, data: &dyn StateDb) -> Digest {
    Digest::of(&Joined { catalog, data })
}

fn alarms_of(catalog: &Catalog, data: &dyn StateDb) -> Vec<kv::Alarm> {
    kv::alarms(&Joined { catalog, data })
}

pub(crate) fn unreadable(broken: kv::Broken) -> kv::StoreError {
    tracing::error!(error = %broken, "the state cannot be read");
    kv::StoreError::Stopped
}

fn snapshot_meta(position: &Position) -> io::Result<SnapshotMeta> {
    let membership = position
        .membership
        .as_ref()
        .map(MembershipRecord::stored)
        .transpose()?;
    let last_membership: StoredMembership = membership.unwrap_or_default();
    Ok(SnapshotMeta {
        last_log_id: position.applied.map(LogId::from),
        last_membership,
    })
}

/// The event log, for watchers that catch up. Weak, because the hub belongs to the replica.
struct StoredLog(std::sync::Weak<Replica>);

impl EventLog for StoredLog {
    fn read(&self, range: &KeyRange, from: i64, to: i64) -> Result<LogChunk, LogError> {
        let replica = self.0.upgrade().ok_or(LogError::Broken)?;
        let catalog = replica.catalog();
        let compact_revision = catalog.compact_revision();
        if from < compact_revision {
            return Err(LogError::Compacted(compact_revision));
        }
        let db = replica.disk.opened();
        let mut chunk = LogChunk {
            revisions: Vec::new(),
            scanned: to,
        };
        let (mut events, mut bytes) = (0, 0);
        let mut open: Vec<kv::Event> = Vec::new();
        let mut open_revision = from;
        let mut close = |revision: i64, open: &mut Vec<kv::Event>| {
            if !open.is_empty() {
                chunk
                    .revisions
                    .push((revision, std::mem::take(open).into()));
            }
        };
        let mut stopped_before = None;
        // The lock is held while reading a chunk, so that compaction cannot take the events away meanwhile.
        let read = db.events(from, to, &mut |id, event| {
            if id.revision != open_revision {
                close(open_revision, &mut open);
                if events >= LOG_CHUNK_EVENTS || bytes >= LOG_CHUNK_BYTES {
                    stopped_before = Some(id.revision);
                    return false;
                }
                open_revision = id.revision;
            }
            events += 1;
            let is_lost = planted(Bug::CompactionLosesDeletes)
                && id.revision == compact_revision
                && event.kind == kv::EventKind::Delete as i32;
            if range.contains(&event.kv.key) && !is_lost {
                bytes += event.kv.value.len()
                    + event.prev_kv.as_ref().map_or(0, |prev| prev.value.len());
                open.push(event);
            }
            true
        });
        read.map_err(|broken| {
            tracing::error!(error = %broken, "the event log cannot be read");
            LogError::Broken
        })?;
        match stopped_before {
            Some(revision) => chunk.scanned = revision - 1,
            None => close(open_revision, &mut open),
        }
        Ok(chunk)
    }
}

/// Raft's handle of the replica.
pub struct Machine {
    replica: Arc<Replica>,
}

impl Machine {
    pub fn new(replica: Arc<Replica>) -> Machine {
        Machine { replica }
    }

    /// Applies entries that nobody waits for.
    pub fn replay(&self, entries: Vec<Entry>) -> io::Result<()> {
        self.apply_batch(entries.into_iter().map(|entry| (entry, None)).collect())
    }

    fn apply_batch(&self, batch: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        let at = Cell::new(0);
        told(&at, || self.apply_entries(batch, &at))
    }

    /// Says in `at` which entry it is at.
    fn apply_entries(
        &self,
        batch: Vec<EntryResponder<TypeConfig>>,
        at: &Cell<u64>,
    ) -> io::Result<()> {
        let mut position = self.replica.position();
        let mut answers = Vec::with_capacity(batch.len());
        let mut digests = Vec::with_capacity(batch.len());
        let writes = {
            let catalog = self.replica.catalog();
            let db = self.replica.disk.opened();
            let recent = self.replica.recent();
            let data = Fronted {
                recent: &recent,
                data: db.as_ref() as &dyn StateDb,
            };
            let view = Joined {
                catalog: &catalog,
                data: &data,
            };
            let mut staged = Staged::new(&view);
            for (entry, responder) in batch {
                let index = entry.log_id.index;
                at.set(index);
                position.applied = Some(entry.log_id.into());
                let outcome = match entry.payload {
                    EntryPayload::Blank => Outcome(None),
                    EntryPayload::Membership(membership) => {
                        position.membership =
                            Some(MembershipRecord::new(Some(entry.log_id), &membership));
                        Outcome(None)
                    }
                    EntryPayload::Normal(proposal) => {
                        let command = kv::Entry::decode(proposal.0).map_err(disk::damaged)?;
                        let response =
                            kv::apply(&mut staged, &command, entry.log_id.leader_id.term)
                                .map_err(disk::damaged)?;
                        if responder.is_none() {
                            let proposals = &self.replica.proposals;
                            proposals.apply(command.proposal, index, &response);
                        }
                        Outcome(Some(response))
                    }
                };
                digests.push((index, Digest::of(&staged)));
                answers.push((responder, outcome));
            }
            position = position.of(&staged);
            staged.into_writes()
        };
        self.replica.commit(writes, position, digests)?;
        for (responder, outcome) in answers {
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }
}

/// Names the entry that cannot be applied. A panic is an error like any other: else nobody would hear of it before the
/// next entry, and then without a reason.
fn told<T>(at: &Cell<u64>, apply: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let applied = catch_unwind(AssertUnwindSafe(apply));
    let (kind, why) = match applied {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) => (error.kind(), error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = format!("it has panicked: {}", text.unwrap_or("no reason is given"));
            (io::ErrorKind::Other, text)
        }
    };
    let text = format!("log entry {} cannot be applied: {why}", at.get());
    Err(io::Error::new(kind, text))
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let meta = snapshot_meta(&self.replica.position())?;
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(BATCH_ENTRIES);
        while let Some(batch) = batches.next().await {
            self.apply_batch(batch.into_iter().collect::<Result<_, _>>()?)?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            replica: self.replica.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let (replica, meta) = (self.replica.clone(), meta.clone());
        let install = move || match snapshot {
            SnapshotData::Received { dir, path } => {
                let installed = replica.install(&meta, &path);
                drop(dir);
                installed
            }
            SnapshotData::Live(source) => {
                let dir = replica.disk.staging()?;
                let path = dir.path().join("state");
                source.checkpoint(&path)?;
                replica.install(&meta, &path)
            }
        };
        host::blocking(install).await.map_err(io::Error::other)?
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        // Not of all that is applied: Raft would think that there was no need to flush it for a long time.
        let meta = snapshot_meta(&self.replica.lock_flushed())?;
        let snapshot = SnapshotData::Live(self.replica.clone());
        Ok(meta
            .last_log_id
            .is_some()
            .then_some(Snapshot { meta, snapshot }))
    }
}

/// Where the state stands, as metrics.
fn show_figures(position: &Position) {
    METRICS.current_revision.set(position.revision);
    METRICS.compact_revision.set(position.compact_revision);
    let applied = position.applied.map(LogId::from);
    METRICS
        .proposals_applied
        .set(applied.map_or(0, |id| id.index as i64));
}

pub type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// A snapshot on its way.
pub enum SnapshotData {
    /// This member's own state. The copy is made when it is sent, and may be newer than when it was asked for.
    Live(Arc<Replica>),
    /// Received from another member: the state database in `path`, within `dir`.
    Received {
        dir: StagingDir,
        path: std::path::PathBuf,
    },
}

/// "Builds" a snapshot by making the state durable.
pub struct SnapshotBuilder {
    replica: Arc<Replica>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let replica = self.replica.clone();
        let meta = host::blocking(move || {
            let flushed = replica.flush()?;
            snapshot_meta(&flushed)
        });
        let meta = meta.await.map_err(io::Error::other)??;
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Live(self.replica.clone()),
        })
    }
}

#[cfg(test)]
mod tests;
