//! Writes: to the leader, wherever it is, once.
//!
//! A write that was surely not carried out is tried again until its deadline. One that was handed to a leader and
//! whose answer did not come may have taken effect: what became of it is looked for in the log that comes after (see
//! [`crate::proposals`]). Where that cannot be told, it is said, and the write is not repeated.

use std::time::Duration;

use kv::StoreError;
use kv::mutants::{Bug, planted};
use prost::Message;
use tokio::time::{Instant, timeout_at};

use crate::core::{Asked, Core, Leadership};
use crate::metrics::METRICS;
use crate::peer::call::CallError;
use crate::peer::wire::{Failure, Lane, Request, Response};
use crate::proposals::{Fate, Proposed};

/// Between attempts while there is no leader that takes the write.
const PAUSE: Duration = Duration::from_millis(20);

tokio::task_local! {
    /// Under what this task was found to be allowed what it does. Everything that it writes is written under it; without
    /// it nobody had to be asked.
    pub(crate) static ALLOWED: Allowed;
}

/// See [`ALLOWED`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Allowed {
    /// See [`kv::Entry::under`].
    pub(crate) auth_revision: u64,
    /// See [`kv::Entry::with_leases_of`].
    pub(crate) lease_user: std::sync::Arc<str>,
}

impl Allowed {
    pub(crate) fn now() -> Allowed {
        ALLOWED.try_with(Allowed::clone).unwrap_or_default()
    }

    pub(crate) fn entry(&self, entry: kv::Entry) -> kv::Entry {
        entry
            .under(self.auth_revision)
            .with_leases_of(&self.lease_user)
    }
}

/// A write under way, as the metrics count it, whether its end is waited for or not.
struct Pending;

impl Pending {
    fn new() -> Pending {
        METRICS.proposals_pending.inc();
        Pending
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        METRICS.proposals_pending.dec();
    }
}

/// Whom an attempt is made with.
#[derive(Clone, Copy, Debug)]
struct Led {
    leader: u64,
    term: u64,
}

/// What came of one attempt.
enum Attempt<T> {
    Done(T),
    /// Surely not carried out.
    Again,
    Failed(StoreError),
}

impl Core {
    /// Replicates a command and answers what applying it answered.
    pub async fn propose(
        self: &std::sync::Arc<Self>,
        command: kv::Command,
    ) -> kv::StoreResult<kv::Reply> {
        let Ok(_permit) = self.writes.try_acquire() else {
            return Err(StoreError::Overloaded);
        };
        let pending = Pending::new();
        let mut answer = self.replicate(command).await;
        if planted(Bug::TimeoutIsARefusal) && matches!(answer, Err(StoreError::TimedOut)) {
            answer = Err(StoreError::NoLeader);
        }
        drop(pending);
        if answer.is_err() {
            METRICS.proposals_failed.inc();
        }
        let response = answer?;
        Ok(kv::Answer {
            revision: response.revision,
            body: response.body?,
        })
    }

    async fn replicate(
        self: &std::sync::Arc<Self>,
        command: kv::Command,
    ) -> Result<kv::Response, StoreError> {
        let mut entry = self.entry(command);
        let proposed = self.replica.proposals.begin();
        entry.proposal = proposed.id();
        if entry.encoded_len() > self.config.limits.request_bytes + (512 << 10) {
            return Err(kv::Refusal::TooLarge.into());
        }
        let proposed = &proposed;
        let attempt = |leadership: Led, left: Duration| {
            entry.term = leadership.term;
            let asked = Asked::surely(&entry);
            let entry = entry.encode_to_vec().into();
            async move {
                let deadline = Instant::now() + left;
                let proposal = (entry, asked);
                match self.propose_at(leadership.leader, proposal, left).await {
                    Attempt::Failed(StoreError::LeaderChanged) => {
                        self.settle(proposed, leadership, deadline).await
                    }
                    other => other,
                }
            }
        };
        self.with_leader(attempt).await
    }

    /// Hands an encoded entry to a leader, with what it asks if that is known.
    async fn propose_at(
        self: &std::sync::Arc<Self>,
        leader: u64,
        (entry, asked): (bytes::Bytes, Option<Asked>),
        left: Duration,
    ) -> Attempt<kv::Response> {
        if leader == self.config.member_id {
            return outcome(match asked {
                Some(asked) => self.propose_asked(entry, asked).await,
                None => self.propose_here(entry).await,
            });
        }
        match self
            .transport
            .call(leader, Lane::Client, Request::Propose(entry), left)
            .await
        {
            Ok(Response::Proposed(bytes)) => {
                let response = kv::Response::decode(bytes);
                response.map_or(Attempt::Failed(StoreError::LeaderChanged), Attempt::Done)
            }
            Ok(Response::Failed(Failure::Stopped)) => Attempt::Failed(StoreError::LeaderChanged),
            Ok(Response::Failed(failure)) => outcome(Err(failure)),
            Err(CallError::Broken(_)) if planted(Bug::RepeatsForwardedWrites) => Attempt::Again,
            Ok(_) | Err(CallError::Broken(_)) => Attempt::Failed(StoreError::LeaderChanged),
            Err(CallError::TimedOut) => Attempt::Failed(StoreError::TimedOut),
            Err(CallError::NotSent(_)) => Attempt::Again,
        }
    }

    /// Waits until it is known what became of a write whose leader has not said it, but not past the deadline, and not for
    /// long where that leader goes on: its next word may be long in coming then.
    async fn settle(
        &self,
        proposed: &Proposed<'_>,
        led: Led,
        deadline: Instant,
    ) -> Attempt<kv::Response> {
        let mut applied = self.replica.applied();
        let mut leadership = self.leadership.subscribe();
        let mut failed = self.failed.subscribe();
        let goes_on = |now: Leadership| now.leader == Some(led.leader) && now.term == led.term;
        let patience = deadline.min(Instant::now() + 2 * self.config.limits.election_max);
        loop {
            let log_id = applied.borrow_and_update().log_id;
            match proposed.fate(led.term, log_id) {
                Fate::Done(response) => return Attempt::Done(response),
                Fate::Never => return Attempt::Again,
                Fate::Unknowable => break,
                Fate::Open => {}
            }
            let until = match goes_on(*leadership.borrow_and_update()) {
                true => patience,
                false => deadline,
            };
            let changed = async {
                tokio::select! {
                    biased;
                    () = self.transport.stop.cancelled() => false,
                    _ = failed.wait_for(Option::is_some) => false,
                    changed = applied.changed() => changed.is_ok(),
                    changed = leadership.changed() => changed.is_ok(),
                }
            };
            if !timeout_at(until, changed).await.unwrap_or(false) {
                break;
            }
        }
        Attempt::Failed(StoreError::LeaderChanged)
    }

    /// Tries with whoever leads, again while that has surely had no effect, until the deadline.
    async fn with_leader<T, F>(
        &self,
        mut attempt: impl FnMut(Led, Duration) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Attempt<T>>,
    {
        let deadline = Instant::now() + self.config.limits.request_deadline;
        let mut leadership = self.leadership.subscribe();
        let mut stopping = self.failed.subscribe();
        loop {
            if stopping.borrow_and_update().is_some() || self.transport.stop.is_cancelled() {
                return Err(StoreError::Stopped);
            }
            let Leadership { leader, term } = *leadership.borrow_and_update();
            if let Some(leader) = leader {
                let left = deadline.saturating_duration_since(Instant::now());
                match attempt(Led { leader, term }, left).await {
                    Attempt::Done(done) => return Ok(done),
                    Attempt::Failed(error) => return Err(error),
                    Attempt::Again => {}
                }
            }
            if Instant::now() >= deadline {
                return Err(StoreError::NoLeader);
            }
            // Earlier if the leader changes.
            drop(timeout_at(deadline.min(Instant::now() + PAUSE), leadership.changed()).await);
        }
    }

    /// Renews a lease. Renewing twice does no harm, so every failure is tried again.
    pub async fn keep_alive(self: &std::sync::Arc<Self>, id: i64) -> Result<i64, StoreError> {
        let attempt = |Led { leader, .. }: Led, left: Duration| async move {
            if leader == self.config.member_id {
                return self
                    .keep_alive_here(id)
                    .map_or(Attempt::Again, Attempt::Done);
            }
            match self
                .transport
                .call(leader, Lane::Client, Request::LeaseKeepAlive(id), left)
                .await
            {
                Ok(Response::LeaseKeptAlive(ttl)) => Attempt::Done(ttl),
                _ => Attempt::Again,
            }
        };
        self.with_leader(attempt).await
    }

    /// Seconds left of a lease, which only the leader knows.
    pub async fn lease_left(self: &std::sync::Arc<Self>, id: i64) -> Result<i64, StoreError> {
        let attempt = |Led { leader, .. }: Led, left: Duration| async move {
            if leader == self.config.member_id {
                return self
                    .lease_left_here(id)
                    .map_or(Attempt::Again, Attempt::Done);
            }
            match self
                .transport
                .call(leader, Lane::Client, Request::LeaseLeft(id), left)
                .await
            {
                Ok(Response::LeaseLeft(seconds)) => Attempt::Done(seconds),
                _ => Attempt::Again,
            }
        };
        self.with_leader(attempt).await
    }

    /// Has the leader change the membership. Changes say what shall be, so they can be repeated.
    pub async fn change_member(
        self: &std::sync::Arc<Self>,
        change: crate::peer::wire::MemberChange,
    ) -> Result<(), crate::members::MemberError> {
        use crate::members::MemberError;
        let attempt = |Led { leader, .. }: Led, left: Duration| {
            let change = change.clone();
            async move {
                let changed = if leader == self.config.member_id {
                    self.change_member_here(change).await
                } else {
                    match self
                        .transport
                        .call(leader, Lane::Client, Request::Member(change), left)
                        .await
                    {
                        Ok(Response::MemberChanged) => Ok(()),
                        Ok(Response::Failed(failure)) => Err(failure),
                        _ => Err(Failure::NotLeader),
                    }
                };
                match changed {
                    Ok(()) => Attempt::Done(Ok(())),
                    Err(Failure::Refused(why)) => Attempt::Done(Err(MemberError::Refused(why))),
                    Err(_) => Attempt::Again,
                }
            }
        };
        self.with_leader(attempt)
            .await
            .map_err(MemberError::Store)?
    }
}

fn outcome(result: Result<kv::Response, Failure>) -> Attempt<kv::Response> {
    match result {
        Ok(response) => Attempt::Done(response),
        Err(Failure::NotLeader) => Attempt::Again,
        Err(Failure::Overloaded) => Attempt::Failed(StoreError::Overloaded),
        Err(Failure::Stopped) => Attempt::Failed(StoreError::Stopped),
        Err(Failure::LeaderChanged) => Attempt::Failed(StoreError::LeaderChanged),
        Err(Failure::TimedOut) => Attempt::Failed(StoreError::TimedOut),
        Err(Failure::AnswerTooLarge) => {
            tracing::warn!("a write was carried out, and its answer is too large to bring over");
            Attempt::Failed(StoreError::AnswerTooLarge)
        }
        Err(Failure::Refused(why)) => {
            tracing::warn!(why, "a write was refused by the leader");
            Attempt::Failed(StoreError::Unreadable(why))
        }
    }
}
