//! Linearizable reads: who waits for a read index is served in batches, one round to the leader and one of the leader
//! to a quorum for all that came while the last round was under way.

use std::sync::Arc;
use std::time::Duration;

use kv::mutants::{Bug, planted};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::core::Core;
use crate::metrics::METRICS;
use crate::peer::wire::{Failure, Lane, Request, Response};

/// One round to a leader; a leader without a quorum does not answer in that time.
const ROUND: Duration = Duration::from_secs(2);
/// Between attempts while there is no leader that answers.
const PAUSE: Duration = Duration::from_millis(20);

impl Core {
    /// Serves waiting reads, for as long as this member runs.
    pub async fn run_reads(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<oneshot::Sender<Result<u64, Failure>>>,
    ) {
        while let Some(first) = queue.recv().await {
            let mut waiting = vec![first];
            while let Ok(next) = queue.try_recv() {
                waiting.push(next);
            }
            METRICS.read_indexes.inc_by(waiting.len() as u64);
            let answer = self.confirm().await;
            while planted(Bug::LateReadsShareARound)
                && let Ok(late) = queue.try_recv()
            {
                waiting.push(late);
            }
            if answer.is_err() {
                METRICS.read_indexes_failed.inc_by(waiting.len() as u64);
            }
            for reply in waiting {
                // Whoever gave up waiting does not need it.
                drop(reply.send(answer.clone()));
            }
        }
    }

    async fn confirm(self: &Arc<Self>) -> Result<u64, Failure> {
        let deadline = Instant::now() + self.config.limits.request_deadline;
        let mut leadership = self.leadership.subscribe();
        loop {
            let leader = leadership.borrow_and_update().leader;
            let answer = match leader {
                Some(leader) if leader == self.config.member_id => {
                    tokio::time::timeout(ROUND, self.confirm_here())
                        .await
                        .unwrap_or(Err(Failure::NotLeader))
                }
                Some(leader) => match self
                    .transport
                    .call(leader, Lane::Client, Request::ReadIndex, ROUND)
                    .await
                {
                    Ok(Response::ReadIndex(index)) => Ok(index),
                    Ok(Response::Failed(failure)) => Err(failure),
                    // A read has no effect: it is simply asked again.
                    _ => Err(Failure::NotLeader),
                },
                None => Err(Failure::NotLeader),
            };
            match answer {
                Ok(index) => return Ok(index),
                Err(Failure::Stopped) if self.failed.borrow().is_some() => {
                    return Err(Failure::Stopped);
                }
                Err(_) if Instant::now() >= deadline => return Err(Failure::NotLeader),
                Err(_) => {
                    let retry_at = deadline.min(Instant::now() + PAUSE);
                    // Earlier if the leader changes.
                    drop(timeout_at(retry_at, leadership.changed()).await);
                }
            }
        }
    }

    /// Up to which index must be applied what is read now. At the leader this also serves other members.
    pub async fn ask_read_index(&self) -> Result<u64, Failure> {
        let (reply, answer) = oneshot::channel();
        self.read_queue
            .try_send(reply)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Failure::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Failure::Stopped,
            })?;
        answer.await.map_err(|_| Failure::Stopped)?
    }

    /// Waits until this member has applied everything that was acknowledged anywhere before the call. Answers the
    /// revision it then has.
    pub async fn catch_up(&self) -> Result<i64, kv::StoreError> {
        if planted(Bug::FollowerReadsLocally) && !self.is_leader() {
            return Ok(self.replica.position().revision);
        }
        let deadline = Instant::now() + self.config.limits.request_deadline;
        let index = match timeout_at(deadline + PAUSE, self.ask_read_index()).await {
            Ok(Ok(index)) => index,
            Ok(Err(Failure::Overloaded)) => return Err(kv::StoreError::Overloaded),
            Ok(Err(Failure::Stopped)) => return Err(kv::StoreError::Stopped),
            Ok(Err(_)) => return Err(kv::StoreError::NoLeader),
            Err(_) => return Err(kv::StoreError::TimedOut),
        };
        // Nearly always it is applied, and there is nothing to wait for.
        if let Some(revision) = self.replica.reached(index) {
            return Ok(revision);
        }
        let mut applied = self.replica.applied();
        let mut failed = self.failed.subscribe();
        tokio::select! {
            biased;
            reached = timeout_at(deadline, applied.wait_for(|applied| applied.covers(index))) => match reached {
                Ok(Ok(applied)) => Ok(applied.revision),
                Ok(Err(_)) => Err(kv::StoreError::Stopped),
                Err(_) => Err(kv::StoreError::TimedOut),
            },
            _ = failed.wait_for(Option::is_some) => Err(kv::StoreError::Stopped),
        }
    }
}
