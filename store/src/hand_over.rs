//! Proposals on their way to Raft: those that are ready at the same time go together.
//!
//! Raft makes one batch of what waits for it when it looks: one entry of the log's queue, one message to each member, one sync
//! on each, one pass of the state. But a task that is woken goes next, so Raft, woken by a proposal, would look before the
//! client after it has had its turn to propose. Here proposals wait until every task that was ready has had one, and again if
//! others have proposed meanwhile, if there are other writes under way; on a member with one writer, or with nothing else to
//! do, nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::core::Core;
use crate::raft::types::{Proposal, TypeConfig};
use crate::turns::gather;

/// Proposals that wait at most; more of them wait for room.
pub(crate) const HAND_OVER_QUEUE: usize = 4096;
/// Turns that all others have before a batch is handed over, at most. What a batch costs does not depend on its size, and where
/// there is much to do, a round brings about ten.
const ROUNDS: usize = 3;
/// A batch of so many costs little for each.
const BATCH: usize = 64;

type Responder = openraft::alias::WriteResponderOf<TypeConfig>;

/// A proposal for Raft.
pub struct HandedOver {
    pub(crate) entry: Bytes,
    /// Only as the leader of this term.
    pub(crate) term: Option<u64>,
    pub(crate) responder: Responder,
}

/// Writes that were handed over here and have no answer yet.
#[derive(Debug, Default)]
pub struct UnderWay(AtomicUsize);

/// One of them.
pub(crate) struct OnItsWay<'a>(&'a UnderWay);

impl UnderWay {
    pub(crate) fn one_more(&self) -> OnItsWay<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        OnItsWay(self)
    }

    fn has_others(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Core {
    /// Hands over what is proposed, for as long as this member runs.
    pub(crate) async fn run_hand_over(self: Arc<Self>, mut queue: mpsc::Receiver<HandedOver>) {
        while let Some(first) = queue.recv().await {
            let rounds = match self.under_way.has_others() {
                true => ROUNDS,
                false => 0,
            };
            for proposal in gather(first, &mut queue, rounds, BATCH).await {
                self.hand_over(proposal).await;
            }
        }
    }

    /// Whoever waits for the answer learns from the responder's end that there will be none.
    async fn hand_over(&self, proposal: HandedOver) {
        let HandedOver {
            entry,
            term,
            responder,
        } = proposal;
        let mut request = self.raft.write(Proposal(entry)).responder(responder);
        if let Some(term) = term {
            request = request.with_leader(term);
        }
        if let Err(fatal) = request.await {
            self.fail(&fatal.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_alone_has_no_others() {
        let under_way = UnderWay::default();
        let first = under_way.one_more();
        assert!(!under_way.has_others());
        let second = under_way.one_more();
        assert!(under_way.has_others());
        drop(first);
        assert!(!under_way.has_others());
        drop(second);
    }
}
