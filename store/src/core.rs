//! The running member: what its own clients and the other members ask of it, and who the leader is.

use std::sync::Arc;
use std::time::Duration;

use kv::mutants::{Bug, planted, remember, remembered};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::{Instant, ReadPolicy, ServerState};
use prost::Message;
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::Config;
use crate::contact::Heard;
use crate::disk_space::{is_full, needs_room};
use crate::hand_over::{HandedOver, UnderWay};
use crate::host;
use crate::lease_clock::{Granted, Leases};
use crate::metrics::METRICS;
use crate::peer::transport::Transport;
use crate::peer::wire::{Failure, Request, Response};
use crate::raft::machine::{Machine, Replica};
use crate::raft::types::TypeConfig;
use crate::watch;
use crate::write::Allowed;

pub(crate) type Raft = openraft::Raft<TypeConfig, Machine>;

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    pub leader: Option<u64>,
    pub term: u64,
}

/// See the module head.
pub struct Core {
    pub config: Config,
    pub raft: Raft,
    pub replica: Arc<Replica>,
    pub transport: Arc<Transport>,
    pub leadership: watch::Sender<Leadership>,
    /// Set once, with the reason, when this member can no longer serve.
    pub failed: watch::Sender<Option<String>>,
    pub read_queue: mpsc::Sender<oneshot::Sender<Result<u64, Failure>>>,
    pub hand_over_queue: mpsc::Sender<HandedOver>,
    pub under_way: UnderWay,
    pub writes: Semaphore,
    /// Large ranges being read.
    pub scans: Arc<Semaphore>,
    /// Room for what is read before it is sent.
    pub held: Arc<Semaphore>,
    pub incoming_snapshot: Semaphore,
    pub heard: Heard,
    leases: Leases,
}

/// What waits for a read index at most.
pub(crate) const READ_QUEUE: usize = 16_384;

impl Core {
    pub fn new(
        config: Config,
        raft: Raft,
        replica: Arc<Replica>,
        transport: Arc<Transport>,
        read_queue: mpsc::Sender<oneshot::Sender<Result<u64, Failure>>>,
        hand_over_queue: mpsc::Sender<HandedOver>,
    ) -> Arc<Core> {
        let writes = Semaphore::new(config.limits.writes_under_way);
        let scans = Arc::new(Semaphore::new(config.limits.large_ranges));
        let held = Arc::new(crate::scan::room_to_hold(&config.limits));
        Arc::new(Core {
            config,
            raft,
            replica,
            transport,
            leadership: watch::Sender::default(),
            failed: watch::Sender::default(),
            read_queue,
            hand_over_queue,
            under_way: UnderWay::default(),
            writes,
            scans,
            held,
            incoming_snapshot: Semaphore::new(1),
            heard: Heard::default(),
            leases: Leases::default(),
        })
    }

    /// Answers another member. What is asked seldom is done on the heap: the task of each write that comes from a member
    /// would have room for the largest of it, and is moved as it is made.
    pub async fn answer(self: Arc<Self>, from: u64, request: Request) -> Response {
        let stopped = |error: &dyn std::fmt::Display| {
            tracing::debug!(%error, from = %format!("{from:016x}"), "a call cannot be answered");
            Response::Failed(Failure::Stopped)
        };
        match request {
            Request::Append(rpc) => match Box::pin(self.raft.append_entries(rpc)).await {
                Ok(response) => {
                    self.hear();
                    Response::Append(response)
                }
                Err(error) => stopped(&error),
            },
            Request::Vote(rpc) => match Box::pin(self.raft.vote(rpc)).await {
                Ok(response) => Response::Vote(response),
                Err(error) => stopped(&error),
            },
            Request::PreVote(rpc) => match Box::pin(self.raft.pre_vote(rpc)).await {
                Ok(response) => Response::Vote(response),
                Err(error) => stopped(&error),
            },
            Request::TransferLeader(request) => {
                match Box::pin(self.raft.handle_transfer_leader(request)).await {
                    Ok(response) => Response::TransferLeader(response),
                    Err(error) => stopped(&error),
                }
            }
            Request::Propose(entry) => match self.propose_here(entry).await {
                Ok(response) => Response::Proposed(response.encode().into()),
                Err(failure) => Response::Failed(failure),
            },
            // Not passed on: two members that each take the other for the leader would wait for each other.
            Request::ReadIndex if !self.is_leader() => Response::Failed(Failure::NotLeader),
            Request::ReadIndex => match self.ask_read_index().await {
                Ok(index) => Response::ReadIndex(index),
                Err(failure) => Response::Failed(failure),
            },
            Request::LeaseKeepAlive(id) => match self.keep_alive_here(id) {
                Ok(ttl) => Response::LeaseKeptAlive(ttl),
                Err(failure) => Response::Failed(failure),
            },
            Request::LeaseLeft(id) => match self.lease_left_here(id) {
                Ok(left) => Response::LeaseLeft(left),
                Err(failure) => Response::Failed(failure),
            },
            Request::Greet => match Box::pin(self.raft.is_initialized()).await {
                Ok(formed) => Response::Greeting(self.greeting(formed)),
                Err(error) => stopped(&error),
            },
            Request::StateDigest(index) => {
                Response::StateDigest(Box::pin(self.digest_here(index)).await)
            }
            Request::Report => Response::Report(self.report_here().encode_to_vec().into()),
            Request::Member(change) => match Box::pin(self.change_member_here(change)).await {
                Ok(()) => Response::MemberChanged,
                Err(failure) => Response::Failed(failure),
            },
        }
    }

    /// Writes an encoded entry, as the leader, and waits until it is applied here.
    pub async fn propose_here(&self, entry: bytes::Bytes) -> Result<kv::Response, Failure> {
        if !self.is_leader() {
            return Err(Failure::NotLeader);
        }
        let asked = Asked::in_bytes(entry.clone()).map_err(Failure::Refused)?;
        self.propose_asked(entry, asked).await
    }

    /// As [`Core::propose_here`], of an entry of which is known what it asks.
    pub(crate) async fn propose_asked(
        &self,
        entry: bytes::Bytes,
        asked: Asked,
    ) -> Result<kv::Response, Failure> {
        if !self.is_leader() {
            return Err(Failure::NotLeader);
        }
        if asked.needs_room && self.is_full() {
            return Ok(kv::Response {
                revision: self.replica.applied().borrow().revision,
                body: Err(kv::Refusal::NoSpace),
            });
        }
        let written = self.write_here(entry, asked.term);
        tokio::time::timeout(self.config.limits.request_deadline, written)
            .await
            .unwrap_or(Err(Failure::TimedOut))
    }

    fn is_full(&self) -> bool {
        let alarms = self.replica.alarms();
        if alarms.is_empty() {
            return false;
        }
        let metrics = self.raft.metrics();
        let voters = metrics
            .borrow_watched()
            .membership_config
            .voter_ids()
            .collect();
        is_full(self.config.member_id, &voters, &alarms)
    }

    /// Writes an encoded entry, as the leader of `term` or of any. Ends when its fate is known here: applied, never
    /// appended, or taken out of the log.
    async fn write_here(
        &self,
        entry: bytes::Bytes,
        term: Option<u64>,
    ) -> Result<kv::Response, Failure> {
        let (responder, written) = ProgressResponder::complete_only();
        let proposal = HandedOver {
            entry,
            term,
            responder,
        };
        let on_its_way = self.under_way.one_more();
        if self.hand_over_queue.send(proposal).await.is_err() {
            // Unless this member is stopping anyway.
            self.fail("proposals are not handed to Raft any more");
            return Err(Failure::Stopped);
        }
        let written = written.await;
        drop(on_its_way);
        match written {
            Ok(Ok(written)) => written.data.0.ok_or(Failure::Stopped),
            Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(Failure::NotLeader),
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => Err(Failure::LeaderChanged),
            Ok(Err(other)) => Err(Failure::Refused(other.to_string())),
            // Raft has stopped. Whoever follows its metrics learns why.
            Err(_) => Err(Failure::Stopped),
        }
    }

    /// Makes sure, as the leader, that it still leads; answers up to where the log has to be applied for a read.
    /// One round serves all who wait: see `read.rs`.
    pub async fn confirm_here(&self) -> Result<u64, Failure> {
        if let Some(index) = self.read_index_unasked() {
            return Ok(index);
        }
        METRICS.read_index_rounds.inc();
        let began_ms = match planted(Bug::LeaseReadOnWallClock) {
            true => self.config.clock.unix_ms(),
            false => 0,
        };
        match self.raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
            Ok(linearizer) => {
                self.trust_round(began_ms);
                Ok(linearizer.read_log_id().index())
            }
            Err(RaftError::APIError(_)) => Err(Failure::NotLeader),
            Err(RaftError::Fatal(fatal)) => {
                self.fail(&fatal.to_string());
                Err(Failure::Stopped)
            }
        }
    }

    /// Of [`Bug::ReadIndexWithoutQuorum`] and [`Bug::LeaseReadOnWallClock`].
    fn read_index_unasked(&self) -> Option<u64> {
        let within = |until: i64| self.config.clock.unix_ms() < until;
        let trusts = planted(Bug::LeaseReadOnWallClock)
            && remembered(self.place_of_term()).is_some_and(within);
        if !trusts && !planted(Bug::ReadIndexWithoutQuorum) || !self.is_leader() {
            return None;
        }
        self.replica.position().applied.map(|id| id.index)
    }

    /// Of [`Bug::LeaseReadOnWallClock`].
    fn trust_round(&self, began_ms: i64) {
        if planted(Bug::LeaseReadOnWallClock) {
            let lease_ms = self.config.limits.leader_lease().as_millis() as i64;
            remember(self.place_of_term(), began_ms + lease_ms);
        }
    }

    /// Where a bug remembers something of this member's term.
    fn place_of_term(&self) -> u64 {
        (self.leadership.borrow().term << 16) + self.config.member_id
    }

    /// Where this member's log ends.
    pub fn last_log_index(&self) -> u64 {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.last_log_index.unwrap_or(0)
    }

    pub fn is_leader(&self) -> bool {
        self.leadership.borrow().leader == Some(self.config.member_id)
    }

    /// This member cannot go on: whoever runs it has to end the process.
    pub fn fail(&self, reason: &str) {
        if self.transport.stop.is_cancelled() {
            return;
        }
        let first = self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert_with(|| reason.to_string());
            first
        });
        if first {
            tracing::error!(reason, "the store has stopped");
            self.replica.hub().close();
        }
    }

    /// The term in which this member leads with a quorum behind it and everything before its term applied.
    fn firm_term(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.voter_ids().count();
        let heard = metrics
            .last_quorum_acked
            .as_ref()
            .is_some_and(|acked| acked.elapsed() < self.config.limits.leader_lease());
        let caught_up = metrics
            .last_applied
            .is_some_and(|id| id.leader_id.term == metrics.current_term);
        let firm = metrics.state == ServerState::Leader && caught_up && (heard || voters == 1);
        firm.then_some(metrics.current_term)
    }

    fn lease(&self, id: i64) -> Option<Granted> {
        self.replica.catalog().lease(id).map(granted)
    }

    /// Renews a lease.
    pub fn keep_alive_here(&self, id: i64) -> Result<i64, Failure> {
        let leads = || self.is_leader().then(|| self.leadership.borrow().term);
        let term = match planted(Bug::DeposedLeaderRenews) {
            true => leads(),
            false => self.firm_term(),
        };
        let Some(term) = term else {
            return Err(Failure::NotLeader);
        };
        let now = self.config.clock.monotonic();
        let renewed = self.leases.keep_alive(term, now, || self.lease(id));
        renewed.ok_or(Failure::NotLeader)
    }

    pub fn lease_left_here(&self, id: i64) -> Result<i64, Failure> {
        if self.firm_term().is_none() {
            return Err(Failure::NotLeader);
        }
        let now = self.config.clock.monotonic();
        Ok(self.leases.left(now, || self.lease(id)))
    }

    /// Ends leases that have run out, for as long as this member runs.
    pub async fn run_lease_clock(self: Arc<Self>) {
        const TICK: Duration = Duration::from_millis(250);
        const AT_ONCE: usize = 500;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let term = match planted(Bug::FollowerExpires) {
                true => Some(self.leadership.borrow().term),
                false => self.firm_term(),
            };
            let Some(term) = term else {
                continue;
            };
            let list = || self.replica.catalog().leases().map(granted).collect();
            let now = self.config.clock.monotonic();
            let due = self.leases.tick(term, now, list, AT_ONCE);
            if due.is_empty() {
                continue;
            }
            let (core, stop) = (self.clone(), self.transport.stop.clone());
            self.transport.tasks.spawn(host::here(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = core.end_leases(term, due) => {}
                }
            }));
        }
    }

    /// Proposes the end of leases that ran out in this term, and waits, without a deadline, until it is known what
    /// became of it: as long as the proposal is in the log and undecided, they cannot be renewed.
    async fn end_leases(self: &Arc<Self>, term: u64, ids: Vec<i64>) {
        // One that is not there any more has no nonce, and then none that comes after it is meant.
        let nonces = {
            let catalog = self.replica.catalog();
            let nonce = |id: &i64| catalog.lease(*id).map_or(0, |record| record.lease.nonce);
            ids.iter().map(nonce).collect()
        };
        let command = kv::Command::LeaseExpire(kv::LeaseExpire {
            ids: ids.clone(),
            term,
            nonces,
        });
        if planted(Bug::FollowerExpires) && !self.is_leader() {
            drop(self.propose(command).await);
            return self.leases.settled(term, &ids);
        }
        // Never forwarded: another leader decides for itself.
        let entry = self.entry(command).encode_to_vec().into();
        match self.write_here(entry, Some(term)).await {
            Ok(_) => METRICS.leases_expired.inc_by(ids.len() as u64),
            Err(failure) => tracing::debug!(?failure, "expired leases could not be ended yet"),
        }
        self.leases.settled(term, &ids);
    }

    /// A command of this moment.
    pub fn entry(&self, command: kv::Command) -> kv::Entry {
        let entry = kv::Entry::new(self.config.clock.unix_ms(), command);
        Allowed::now().entry(entry)
    }
}

fn granted(record: &kv::LeaseRecord) -> Granted {
    Granted {
        id: record.lease.id,
        ttl_seconds: record.lease.ttl_seconds,
        grant: record.grant,
    }
}

/// Whether every member will be able to decode and apply an entry. What is in the log is there for good: an entry that
/// only its sender understands (nested deeper than the decoder goes, or of a newer version) would stop them all.
fn readable(entry: bytes::Bytes) -> Result<kv::Entry, String> {
    let entry = kv::Entry::decode(entry)
        .map_err(|error| format!("the request is not readable: {error}"))?;
    if !is_of_this_version(&entry) {
        return Err("the request is of a newer version than the leader".into());
    }
    Ok(entry)
}

fn is_of_this_version(entry: &kv::Entry) -> bool {
    entry.version <= kv::ENTRY_VERSION && entry.is_known()
}

/// What the leader looks at in an entry before it takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    needs_room: bool,
    /// Only as the leader of this term.
    term: Option<u64>,
}

impl Asked {
    fn of(entry: &kv::Entry) -> Asked {
        Asked {
            needs_room: entry.command.as_ref().is_some_and(needs_room),
            term: Some(entry.term).filter(|term| *term != 0),
        }
    }

    fn in_bytes(entry: bytes::Bytes) -> Result<Asked, String> {
        readable(entry).map(|entry| Asked::of(&entry))
    }

    /// Of an entry of which every member can read what this one makes of it. Nothing where its bytes have to be looked at
    /// to know that.
    pub(crate) fn surely(entry: &kv::Entry) -> Option<Asked> {
        (is_of_this_version(entry) && entry.is_flat()).then(|| Asked::of(entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn an_entry_that_members_could_not_decode_is_refused_before_the_log() {
        let mut txn = kv::TxnRequest::default();
        for _ in 0..60 {
            let nested = kv::RequestOp {
                request: Some(kv::Request::Txn(txn)),
            };
            txn = kv::TxnRequest {
                success: vec![nested],
                ..Default::default()
            };
        }
        let in_bytes = |entry: &kv::Entry| Asked::in_bytes(entry.encode_to_vec().into());
        let deep = kv::Entry::new(1, kv::Command::Txn(txn));
        assert!(in_bytes(&deep).is_err());
        assert_eq!(Asked::surely(&deep), None, "its bytes have to be looked at");
        let plain = kv::Entry::new(1, kv::Command::Txn(kv::TxnRequest::default()));
        let asked = in_bytes(&plain).unwrap();
        assert_eq!(Asked::surely(&plain), Some(asked));
        let newer = kv::Entry {
            version: kv::ENTRY_VERSION + 1,
            ..plain
        };
        assert!(in_bytes(&newer).is_err());
        assert_eq!(Asked::surely(&newer), None);
    }

    /// The bytes of the future that answers a call.
    fn future_bytes<Made>(_: impl Fn(Arc<Core>, u64, Request) -> Made) -> usize {
        size_of::<Made>()
    }

    #[test]
    fn a_call_moves_no_more_than_a_write_needs() {
        let bytes = future_bytes(Core::answer);
        assert!(bytes <= 2 << 10, "{bytes} bytes");
    }

    #[test]
    fn what_an_entry_asks_is_the_same_with_and_without_its_bytes() {
        let put = kv::RequestOp {
            request: Some(kv::Request::Put(kv::PutRequest::default())),
        };
        let txn = kv::TxnRequest {
            success: vec![put],
            ..Default::default()
        };
        let commands = [
            (kv::Command::Txn(txn), true),
            (kv::Command::Txn(kv::TxnRequest::default()), false),
            (kv::Command::Compact(kv::Compact { revision: 3 }), false),
        ];
        for (command, needs_room) in commands {
            let mut entry = kv::Entry::new(1, command);
            for term in [0, 7] {
                entry.term = term;
                let asked = Asked::surely(&entry).unwrap();
                assert_eq!(asked.needs_room, needs_room);
                assert_eq!(asked.term, (term != 0).then_some(term));
                assert_eq!(Asked::in_bytes(entry.encode_to_vec().into()), Ok(asked));
            }
        }
    }
}
