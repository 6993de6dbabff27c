//! The store in memory: the product's own model over maps, for tests and for one-process use without durability.

use std::collections::BTreeMap;
use std::future::ready;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;

use crate::catalog::Catalog;
use crate::command::{
    Command, Compact, Entry, Lease, LeaseExpire, LeaseRevoke, Refusal, Reply, Response,
};
use crate::keys::KeyRange;
use crate::lease::lease_status;
use crate::message::{Event, KeyValue, RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use crate::range::range;
use crate::store::{
    Answer, BoxFuture, LeaseStatus, MemberStatus, Store, StoreError, StoreResult, StoreStatus,
    WatchRequest, WatchStream,
};
use crate::txn::{ReadPlan, check_txn, is_read_only};
use crate::view::{Broken, Data, EventId, Joined, Staged, Visit, Write};
use crate::watch::{EventLog, Hub, HubLimits, LogChunk, LogError};
use crate::{REQUEST_BYTES_MAX, apply};

/// Values and events in maps.
#[derive(Clone, Debug, Default)]
pub struct MemData {
    keys: BTreeMap<Bytes, KeyValue>,
    events: BTreeMap<i64, Arc<[Event]>>,
}

impl MemData {
    /// Stores a batch.
    pub fn store(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Put(kv) => {
                    self.keys.insert(kv.key.clone(), kv.clone());
                }
                Write::Delete(key) => {
                    self.keys.remove(key);
                }
                Write::Events {
                    revision, events, ..
                } => {
                    self.events.insert(*revision, events.clone());
                }
                Write::Compact(revision) => self.events = self.events.split_off(revision),
                Write::Lease(_)
                | Write::LeaseEnd(_)
                | Write::Record { .. }
                | Write::Revision(_)
                | Write::Hash(_) => {}
            }
        }
    }

    /// All live keys.
    pub fn keys(&self) -> impl Iterator<Item = &KeyValue> {
        self.keys.values()
    }

    /// All retained events by revision.
    pub fn events(&self) -> impl Iterator<Item = (i64, &Arc<[Event]>)> {
        self.events
            .iter()
            .map(|(revision, events)| (*revision, events))
    }
}

impl Data for MemData {
    fn get(&self, key: &[u8]) -> Result<Option<KeyValue>, Broken> {
        Ok(self.keys.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, visit: Visit<'_>) -> Result<(), Broken> {
        let Some(bounds) = range.bounds() else {
            return Ok(());
        };
        for kv in self.keys.range::<[u8], _>(bounds).map(|(_, kv)| kv) {
            if let ControlFlow::Break(()) = visit(kv.clone()) {
                break;
            }
        }
        Ok(())
    }

    fn event(&self, id: EventId) -> Result<Event, Broken> {
        let missing = || Broken(format!("event {}.{} is missing", id.revision, id.sub));
        self.events
            .get(&id.revision)
            .and_then(|events| events.get(id.sub as usize))
            .cloned()
            .ok_or_else(missing)
    }
}

/// Catalog and data of one in-memory state.
#[derive(Clone, Debug, Default)]
pub struct MemState {
    pub catalog: Catalog,
    pub data: MemData,
}

impl MemState {
    pub fn view(&self) -> Joined<'_, MemData> {
        Joined {
            catalog: &self.catalog,
            data: &self.data,
        }
    }

    /// Applies one entry; answers it and what it has changed.
    ///
    /// # Errors
    /// As [`apply()`](crate::apply).
    pub fn apply(&mut self, entry: &Entry, term: u64) -> Result<(Response, Vec<Write>), Broken> {
        let view = self.view();
        let mut staged = Staged::new(&view);
        let response = apply(&mut staged, entry, term)?;
        let writes = staged.into_writes();
        self.catalog.absorb(&writes);
        self.data.store(&writes);
        Ok((response, writes))
    }
}

/// Most events that one look at the log returns, so that a poll stays short.
const LOG_CHUNK_EVENTS: usize = 256;

/// A complete [`Store`] of one member without disk. Leases end only by [`MemStore::expire`]: it has no clock.
pub struct MemStore {
    inner: Arc<Mutex<Inner>>,
    hub: Arc<Hub>,
}

struct Inner {
    state: MemState,
    /// The clock as the last `expire` gave it, milliseconds.
    now_ms: i64,
    /// When each lease runs out.
    deadlines: BTreeMap<i64, i64>,
    next_lease: i64,
    applied: u64,
    /// The newest revision of each time of the clock at which something was written, in order.
    times: Vec<(i64, i64)>,
}

struct MemLog(Arc<Mutex<Inner>>);

impl MemStore {
    pub fn new() -> Arc<MemStore> {
        MemStore::with_limits(HubLimits::default())
    }

    /// With small rings a test sees what a slow watcher sees.
    pub fn with_limits(limits: HubLimits) -> Arc<MemStore> {
        let state = MemState::default();
        let hub = Hub::new(state.catalog.revision(), limits);
        let inner = Inner {
            state,
            now_ms: 0,
            deadlines: BTreeMap::new(),
            next_lease: 1,
            applied: 0,
            times: Vec::new(),
        };
        let inner = Arc::new(Mutex::new(inner));
        hub.set_log(Arc::new(MemLog(inner.clone())));
        Arc::new(MemStore { inner, hub })
    }

    /// Sets the clock (it never goes back) and ends the leases that have run out.
    pub fn expire(&self, now_ms: i64) {
        let ids: Vec<i64> = {
            let mut inner = lock(&self.inner);
            inner.now_ms = inner.now_ms.max(now_ms);
            let now = inner.now_ms;
            inner
                .deadlines
                .iter()
                .filter(|(_, deadline)| **deadline <= now)
                .map(|(id, _)| *id)
                .collect()
        };
        if !ids.is_empty() {
            // Nobody waits for the answer; the leases of the list exist or were revoked, which is the same.
            drop(self.propose(Command::LeaseExpire(LeaseExpire {
                ids,
                term: 1,
                nonces: Vec::new(),
            })));
        }
    }

    /// Ends all watches, as a store that stops does.
    pub fn close(&self) {
        self.hub.close();
    }

    /// The alarms that stand.
    pub fn alarms(&self) -> Vec<crate::Alarm> {
        crate::alarms(&lock(&self.inner).state.view())
    }

    /// Applies a command, also one for which [`Store`] has no call.
    ///
    /// # Errors
    /// Refusals, and [`StoreError::Stopped`] where the state cannot be read.
    pub fn propose(&self, command: Command) -> StoreResult<Reply> {
        self.propose_under(command, 0, "")
    }

    /// Carries a command out that was checked under users and roles of this revision; see [`Entry::under`] and
    /// [`Entry::with_leases_of`].
    pub fn propose_under(
        &self,
        command: Command,
        auth_revision: u64,
        lease_user: &str,
    ) -> StoreResult<Reply> {
        let mut inner = lock(&self.inner);
        let entry = Entry::new(inner.now_ms, command)
            .under(auth_revision)
            .with_leases_of(lease_user);
        let (response, writes) = inner
            .state
            .apply(&entry, 1)
            .map_err(|_| StoreError::Stopped)?;
        inner.applied += 1;
        inner.note_time();
        inner.follow_leases(&writes);
        let events = writes.iter().filter_map(|write| match write {
            Write::Events {
                revision, events, ..
            } => Some((*revision, events.clone())),
            _ => None,
        });
        let events: Vec<_> = events.collect();
        // Under the lock, so that revisions reach the hub in order.
        self.hub.publish(&events, inner.state.catalog.revision());
        Ok(Answer {
            revision: response.revision,
            body: response.body?,
        })
    }

    /// Watches that are open.
    pub fn watchers(&self) -> usize {
        self.hub.watchers()
    }

    /// Looks at what is in memory of every store.
    pub fn with_catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&lock(&self.inner).state.catalog)
    }

    fn answer<T>(&self, with: impl FnOnce(&mut Inner) -> Result<T, StoreError>) -> StoreResult<T> {
        let mut inner = lock(&self.inner);
        let body = with(&mut inner)?;
        Ok(Answer {
            revision: inner.state.catalog.revision(),
            body,
        })
    }

    fn range_now(&self, request: &RangeRequest) -> StoreResult<RangeResponse> {
        self.answer(|inner| {
            let view = inner.state.view();
            Ok(range(&view, request).map_err(|_| StoreError::Stopped)??)
        })
    }

    /// A transaction that cannot write: evaluated, and nothing of it kept.
    fn read_txn(&self, request: TxnRequest) -> StoreResult<TxnResponse> {
        self.answer(|inner| {
            let view = inner.state.view();
            let plan = ReadPlan::new(&view, &request).map_err(|_| StoreError::Stopped)??;
            plan.run(&view).map_err(|_| StoreError::Stopped)
        })
    }
}

impl Inner {
    fn note_time(&mut self) {
        let (now, revision) = (self.now_ms, self.state.catalog.revision());
        match self.times.last_mut() {
            Some(last) if last.0 == now => last.1 = revision,
            _ => self.times.push((now, revision)),
        }
    }

    fn follow_leases(&mut self, writes: &[Write]) {
        for write in writes {
            match write {
                Write::Lease(lease) => {
                    self.deadlines
                        .insert(lease.id, deadline(self.now_ms, lease.ttl_seconds));
                }
                Write::LeaseEnd(id) => {
                    self.deadlines.remove(id);
                }
                _ => {}
            }
        }
    }

    fn lease_left(&self, id: i64) -> i64 {
        let left_ms = self
            .deadlines
            .get(&id)
            .map_or(0, |deadline| deadline - self.now_ms);
        (left_ms + 999).div_euclid(1000).max(0)
    }
}

fn deadline(now_ms: i64, ttl_seconds: i64) -> i64 {
    now_ms.saturating_add(ttl_seconds.saturating_mul(1000))
}

impl EventLog for MemLog {
    fn read(&self, range: &KeyRange, from: i64, to: i64) -> Result<LogChunk, LogError> {
        let inner = lock(&self.0);
        let compact_revision = inner.state.catalog.compact_revision();
        if from < compact_revision {
            return Err(LogError::Compacted(compact_revision));
        }
        let mut chunk = LogChunk {
            revisions: Vec::new(),
            scanned: to,
        };
        let mut looked = 0;
        for (revision, events) in inner.state.data.events.range(from..=to) {
            if looked >= LOG_CHUNK_EVENTS {
                chunk.scanned = revision - 1;
                break;
            }
            looked += events.len();
            let matching: Arc<[Event]> = events
                .iter()
                .filter(|event| range.contains(&event.kv.key))
                .cloned()
                .collect();
            if !matching.is_empty() {
                chunk.revisions.push((*revision, matching));
            }
        }
        Ok(chunk)
    }
}

impl Store for MemStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>> {
        Box::pin(ready(self.range_now(&request)))
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, StoreResult<TxnResponse>> {
        let answer = if let Err(refusal) = check_txn(&request) {
            Err(refusal.into())
        } else if is_read_only(&request) {
            self.read_txn(request)
        } else if request.encoded_len() > REQUEST_BYTES_MAX {
            Err(Refusal::TooLarge.into())
        } else {
            self.propose(Command::Txn(request))
                .and_then(|answer| match answer.body {
                    Reply::Txn(body) => Ok(Answer {
                        revision: answer.revision,
                        body,
                    }),
                    _ => Err(StoreError::Stopped),
                })
        };
        Box::pin(ready(answer))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        let answer = if request.key.is_empty() {
            Err(Refusal::EmptyKey.into())
        } else {
            Ok(Box::pin(self.hub.watch(&request)) as WatchStream)
        };
        Box::pin(ready(answer))
    }

    fn read_index(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        let revision = lock(&self.inner).state.catalog.revision();
        self.hub.request_progress(revision);
        Box::pin(ready(Ok(revision)))
    }

    fn revision_as_of(&self, unix_ms: i64) -> Result<Option<i64>, StoreError> {
        let inner = lock(&self.inner);
        let later = inner.times.partition_point(|(time, _)| *time <= unix_ms);
        let revision = match later.checked_sub(1) {
            Some(last) => inner.times[last].1,
            None => 1,
        };
        let compact_revision = inner.state.catalog.compact_revision();
        if revision < compact_revision {
            return Err(Refusal::Compacted { compact_revision }.into());
        }
        Ok(Some(revision))
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, StoreResult<()>> {
        let answer = self.propose(Command::Compact(Compact { revision }));
        Box::pin(ready(answer.map(|answer| Answer {
            revision: answer.revision,
            body: (),
        })))
    }

    fn lease_grant(&self, id: i64, ttl_seconds: i64) -> BoxFuture<'_, StoreResult<(i64, i64)>> {
        let id = if id != 0 {
            id
        } else {
            let mut inner = lock(&self.inner);
            while inner.state.catalog.lease(inner.next_lease).is_some() {
                inner.next_lease += 1;
            }
            inner.next_lease
        };
        let answer = self
            .propose(Command::LeaseGrant(Lease {
                id,
                ttl_seconds,
                nonce: 0,
            }))
            .and_then(|answer| match answer.body {
                Reply::Lease(lease) => Ok(Answer {
                    revision: answer.revision,
                    body: (lease.id, lease.ttl_seconds),
                }),
                _ => Err(StoreError::Stopped),
            });
        Box::pin(ready(answer))
    }

    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, StoreResult<()>> {
        let answer = self.propose(Command::LeaseRevoke(LeaseRevoke { id }));
        Box::pin(ready(answer.map(|answer| Answer {
            revision: answer.revision,
            body: (),
        })))
    }

    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, StoreResult<i64>> {
        Box::pin(ready(self.answer(|inner| {
            let Some(ttl) = inner
                .state
                .catalog
                .lease(id)
                .map(|record| record.lease.ttl_seconds)
            else {
                return Ok(0);
            };
            inner.deadlines.insert(id, deadline(inner.now_ms, ttl));
            Ok(ttl)
        })))
    }

    fn lease_time_to_live(&self, id: i64, keys: bool) -> BoxFuture<'_, StoreResult<LeaseStatus>> {
        Box::pin(ready(self.answer(|inner| {
            Ok(lease_status(
                &inner.state.view(),
                id,
                keys,
                inner.lease_left(id),
            ))
        })))
    }

    fn leases(&self) -> BoxFuture<'_, StoreResult<Vec<i64>>> {
        Box::pin(ready(self.answer(|inner| {
            Ok(inner
                .state
                .catalog
                .leases()
                .map(|record| record.lease.id)
                .collect())
        })))
    }

    fn request_progress(&self, revision: i64) {
        self.hub.request_progress(revision);
    }

    fn revision(&self) -> i64 {
        lock(&self.inner).state.catalog.revision()
    }

    fn status(&self) -> StoreStatus {
        let inner = lock(&self.inner);
        let size: usize = inner.state.data.keys().map(|kv| kv.encoded_len()).sum();
        StoreStatus {
            cluster_id: 1,
            member_id: 1,
            leader_id: 1,
            raft_term: 1,
            raft_index: inner.applied,
            raft_applied_index: inner.applied,
            revision: inner.state.catalog.revision(),
            compact_revision: inner.state.catalog.compact_revision(),
            size_bytes: size as u64,
            is_learner: false,
            members: vec![MemberStatus {
                id: 1,
                name: "memory".into(),
                is_voter: true,
                ..MemberStatus::default()
            }],
        }
    }
}

/// A panic while the lock was held came from a broken invariant of the model; the state itself is whole, because a
/// batch is absorbed only after it was computed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
