//! Proposals on their way to Raft: those that are ready at the same time go together.
//!
//! Raft makes one batch of what waits for it when it looks: one entry of the log's queue, one sync, one pass of the state. But
//! a task that is woken goes next, so Raft, woken by a proposal, would look before the client after it has had its turn to
//! propose. Here proposals wait until every task that was ready has had one, if there are other writes under way; on a member
//! with one writer, or with nothing else to do, nobody waits.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::core::Core;
use crate::raft::types::{Proposal, TypeConfig};

/// Proposals that wait at most; more of them wait for room.
pub(crate) const HAND_OVER_QUEUE: usize = 4096;

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

/// Ends when the tasks that are ready have had their turn. tokio's own way to yield comes back only when no task is ready at
/// all, or after sixty of them.
async fn others_first() {
    let mut asked = false;
    poll_fn(|context| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Core {
    /// Hands over what is proposed, for as long as this member runs.
    pub(crate) async fn run_hand_over(self: Arc<Self>, mut queue: mpsc::Receiver<HandedOver>) {
        while let Some(first) = queue.recv().await {
            if self.under_way.has_others() {
                others_first().await;
            }
            let mut next = Some(first);
            while let Some(proposal) = next {
                self.hand_over(proposal).await;
                next = queue.try_recv().ok();
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
    use std::cell::RefCell;
    use std::rc::Rc;

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

    #[tokio::test]
    async fn who_is_ready_goes_first_and_who_is_not_is_not_waited_for() {
        let local = tokio::task::LocalSet::new();
        let order = Rc::new(RefCell::new(Vec::new()));
        let said = |what: &'static str| {
            let order = order.clone();
            move || order.borrow_mut().push(what)
        };
        let (last, ready, never) = (said("last"), said("ready"), said("never"));
        local.spawn_local(async move {
            others_first().await;
            last();
        });
        local.spawn_local(async move { ready() });
        local.spawn_local(async move {
            std::future::pending::<()>().await;
            never();
        });
        local
            .run_until(async {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            })
            .await;
        assert_eq!(*order.borrow(), ["ready", "last"]);
    }
}
