//! A store whose watch can be held: then a member's caches, and whoever watches through them, see the past, while its
//! reads and writes go on. It is what a slow member looks like to its clients, at its worst.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use futures::future::BoxFuture;
use kv::{
    Answer, LeaseStatus, PageStream, RangeParts, RangeRequest, RangeResponse, Refusal, Store,
    StoreError, StoreStatus, TxnRequest, TxnResponse, WatchItem, WatchRequest, WatchStream,
};
use store::Node;
use tokio::sync::Notify;

use super::history::Horizon;
use super::scribe::Scribe;

type Answered<T> = Result<Answer<T>, StoreError>;

/// Whose watches are held.
#[derive(Default)]
pub struct Held {
    members: Mutex<BTreeSet<u64>>,
    released: Notify,
}

impl Held {
    fn members(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn hold(&self, member: u64) {
        self.members().insert(member);
    }

    pub fn release(&self, member: u64) {
        self.members().remove(&member);
        self.released.notify_waiters();
    }

    pub fn release_all(&self) {
        self.members().clear();
        self.released.notify_waiters();
    }

    async fn pass(&self, member: u64) {
        loop {
            let released = self.released.notified();
            if !self.members().contains(&member) {
                return;
            }
            released.await;
        }
    }

    /// The store of a member's process, with its watches under this.
    pub fn over(
        self: &Arc<Self>,
        member: u64,
        node: Arc<Node>,
        scribe: Arc<Scribe>,
    ) -> Arc<dyn Store> {
        Arc::new(Over {
            held: self.clone(),
            member,
            node,
            scribe,
            begins: Arc::new(Mutex::new(Some(Begins::Process))),
        })
    }
}

/// Why a server's history begins where its next watch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// It has just been started, and can have all that is not compacted.
    Process,
    /// It was told that what it wants is compacted, and has to begin with the newest.
    Compacted,
}

struct Over {
    held: Arc<Held>,
    member: u64,
    node: Arc<Node>,
    scribe: Arc<Scribe>,
    /// Nothing where a watch goes on where the one before it ended.
    begins: Arc<Mutex<Option<Begins>>>,
}

fn lock(begins: &Mutex<Option<Begins>>) -> MutexGuard<'_, Option<Begins>> {
    begins.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Over {
    /// Writes down up to where the server need not know anything, which has to have a reason.
    fn note(&self, start_revision: i64) {
        let Some(begins) = lock(&self.begins).take() else {
            return;
        };
        let horizon = Horizon {
            member: self.member,
            at: self.scribe.now(),
            revision: match begins {
                Begins::Process => self.node.status().compact_revision.max(1),
                Begins::Compacted => start_revision - 1,
            },
            fresh: begins == Begins::Process,
        };
        self.scribe
            .change(|history| history.horizons.get_or_insert_default().push(horizon));
    }
}

impl Store for Over {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Answered<RangeResponse>> {
        self.node.range(request)
    }

    fn range_parts(
        &self,
        request: RangeRequest,
        part_bytes: usize,
    ) -> BoxFuture<'_, Answered<RangeParts>> {
        self.node.range_parts(request, part_bytes)
    }

    fn range_pages(
        &self,
        request: RangeRequest,
        page_bytes: usize,
    ) -> BoxFuture<'_, Answered<PageStream>> {
        self.node.range_pages(request, page_bytes)
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Answered<TxnResponse>> {
        self.node.txn(request)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        Box::pin(async move {
            self.note(request.start_revision);
            let stream = self.node.watch(request).await.inspect_err(|error| {
                if matches!(error, StoreError::Refused(Refusal::Compacted { .. })) {
                    *lock(&self.begins) = Some(Begins::Compacted);
                }
            })?;
            let (held, member) = (self.held.clone(), self.member);
            let begins = self.begins.clone();
            let stream = stream.then(move |item| {
                let (held, begins) = (held.clone(), begins.clone());
                async move {
                    held.pass(member).await;
                    if matches!(item, WatchItem::Compacted { .. }) {
                        *lock(&begins) = Some(Begins::Compacted);
                    }
                    item
                }
            });
            Ok(stream.boxed())
        })
    }

    fn read_index(&self) -> BoxFuture<'_, Result<i64, StoreError>> {
        self.node.read_index()
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Answered<()>> {
        self.node.compact(revision)
    }

    fn lease_grant(&self, id: i64, ttl_seconds: i64) -> BoxFuture<'_, Answered<(i64, i64)>> {
        self.node.lease_grant(id, ttl_seconds)
    }

    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, Answered<()>> {
        self.node.lease_revoke(id)
    }

    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, Answered<i64>> {
        self.node.lease_keep_alive(id)
    }

    fn lease_time_to_live(&self, id: i64, keys: bool) -> BoxFuture<'_, Answered<LeaseStatus>> {
        self.node.lease_time_to_live(id, keys)
    }

    fn leases(&self) -> BoxFuture<'_, Answered<Vec<i64>>> {
        self.node.leases()
    }

    fn status(&self) -> StoreStatus {
        self.node.status()
    }

    fn raft_term(&self) -> u64 {
        self.node.raft_term()
    }

    fn revision(&self) -> i64 {
        self.node.revision()
    }

    fn request_progress(&self, revision: i64) {
        self.node.request_progress(revision);
    }
}
