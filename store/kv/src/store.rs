//! What the API server, and any other client inside the process, sees of the store.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;

use crate::command::Refusal;
use crate::events::Events;
use crate::message::{KeyValue, RangeRequest, RangeResponse, TxnRequest, TxnResponse};
use crate::range::PartWriter;

/// A boxed future: the trait has to be usable as `dyn Store`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An answer and the revision of the store when it was computed (etcd's `header.revision`).
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<T> {
    pub revision: i64,
    pub body: T,
}

/// Why the store did not do what was asked. `Refused` is final and the same on every member; the others may pass.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StoreError {
    /// The request itself cannot be carried out. Not changed by a retry.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No leader is known, or the leader lost its quorum: nothing was written. Retry, perhaps elsewhere.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The deadline passed. A write may still take effect later.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// Bounded queues are full: nothing was written. Retry after a pause.
    #[error("etcdserver: too many requests")]
    Overloaded,
    /// This member is stopping, or its disk failed. A write may still take effect.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// Connection to the leader broke while a write was under way: it may have taken effect.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// Not every member could read the request (it is nested too deeply, or newer than the leader): nothing was written.
    /// Not changed by a retry.
    #[error("grpc: error unmarshalling request: {0}")]
    Unreadable(String),
    /// The write was carried out, and its answer is too large to be brought to this member.
    #[error("grpc: trying to send message larger than max")]
    AnswerTooLarge,
}

pub type StoreResult<T> = Result<Answer<T>, StoreError>;

/// Encoded pairs of an answer; see [`RangeParts`].
pub type PartStream = Pin<Box<dyn Stream<Item = Result<Bytes, StoreError>> + Send>>;

/// An answer to a range that is handed out as it is read.
pub struct RangeParts {
    /// Sum of the parts' lengths.
    pub bytes: u64,
    pub more: bool,
    pub count: i64,
    /// The field `kvs` of the encoded [`RangeResponse`]; each part is of whole pairs. Ends early only with an error.
    /// Whoever does not take the next part for long gets [`StoreError::TimedOut`] instead.
    pub parts: PartStream,
}

impl RangeParts {
    /// An answer that is in memory already.
    pub fn of(response: &RangeResponse, part_bytes: usize) -> RangeParts {
        let mut writer = PartWriter::new(part_bytes);
        let mut parts: VecDeque<Bytes> = response
            .kvs
            .iter()
            .filter_map(|kv| writer.push(kv))
            .collect();
        parts.extend(Some(writer.finish()).filter(|last| !last.is_empty()));
        RangeParts {
            bytes: parts.iter().map(|part| part.len() as u64).sum(),
            more: response.more,
            count: response.count,
            parts: Box::pin(Ready(parts)),
        }
    }
}

struct Ready<T>(VecDeque<T>);

impl<T: Unpin> Stream for Ready<T> {
    type Item = Result<T, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Pairs of an answer, none of the pages being empty; see [`Store::range_pages`]. Ends early only with an error, which is
/// [`StoreError::TimedOut`] for whoever does not take the next page for long.
pub type PageStream = Pin<Box<dyn Stream<Item = Result<Vec<KeyValue>, StoreError>> + Send>>;

/// What to watch: keys as in [`RangeRequest`], from a revision on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchRequest {
    pub key: Bytes,
    pub range_end: Bytes,
    /// First revision to deliver; 0 is "from now on".
    pub start_revision: i64,
}

/// One delivery of a watch. Revisions of `Events` grow strictly; all events of one revision come together.
#[derive(Clone, Debug)]
pub enum WatchItem {
    /// Changes of one revision, in order, already filtered to the watched keys. Shared, never copied per watcher.
    Events { revision: i64, events: Events },
    /// All events up to and including this revision have been delivered on this stream.
    Progress { revision: i64 },
    /// `start_revision` (or where a slow watcher had got to) is below the compacted revision. The stream ends.
    Compacted { compact_revision: i64 },
}

/// Ends when the store stops or after `Compacted`; dropping it cancels the watch.
pub type WatchStream = Pin<Box<dyn Stream<Item = WatchItem> + Send>>;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaseStatus {
    pub id: i64,
    /// Seconds left; -1 where the lease is unknown.
    pub ttl_seconds: i64,
    pub granted_ttl_seconds: i64,
    pub keys: Vec<Bytes>,
}

/// How this member is; served without a quorum.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoreStatus {
    pub cluster_id: u64,
    pub member_id: u64,
    /// 0 is none known.
    pub leader_id: u64,
    pub raft_term: u64,
    pub raft_index: u64,
    pub raft_applied_index: u64,
    pub revision: i64,
    pub compact_revision: i64,
    pub size_bytes: u64,
    pub is_learner: bool,
    /// Members as (id, name, peer address, is voter).
    pub members: Vec<MemberStatus>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberStatus {
    pub id: u64,
    pub name: String,
    pub peer_address: String,
    /// Where this member's API server can be reached, `host:port`.
    pub client_address: String,
    pub is_voter: bool,
}

/// The store as its clients in this process see it. Every call has a deadline inside: none waits for ever.
pub trait Store: Send + Sync + 'static {
    /// Reads keys. Linearizable (read index) unless `serializable` is set.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, StoreResult<RangeResponse>>;
    /// As [`Store::range`], for answers of any size: it is in memory only in parts of about `part_bytes`, which are read
    /// when they are asked for. All of them are of one moment, that of the answer's revision.
    fn range_parts(
        &self,
        request: RangeRequest,
        part_bytes: usize,
    ) -> BoxFuture<'_, StoreResult<RangeParts>> {
        Box::pin(async move {
            let answer = self.range(request).await?;
            Ok(Answer {
                revision: answer.revision,
                body: RangeParts::of(&answer.body, part_bytes),
            })
        })
    }
    /// As [`Store::range`], for whoever reads very much in this process: pairs come as they are read, in pages that end with
    /// the pair at which they have `page_bytes`. All of them are of one moment, that of the answer's revision, and to go back
    /// to an older revision is prepared once for all of them. A store that has everything in memory gives one page.
    fn range_pages(
        &self,
        request: RangeRequest,
        page_bytes: usize,
    ) -> BoxFuture<'_, StoreResult<PageStream>> {
        let _: usize = page_bytes;
        Box::pin(async move {
            let answer = self.range(request).await?;
            let page = Some(answer.body.kvs).filter(|pairs| !pairs.is_empty());
            let pages: VecDeque<Vec<KeyValue>> = page.into_iter().collect();
            let pages: PageStream = Box::pin(Ready(pages));
            Ok(Answer {
                revision: answer.revision,
                body: pages,
            })
        })
    }
    /// Compares and writes atomically. Acknowledged means durable on a quorum.
    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, StoreResult<TxnResponse>>;
    /// Watches keys. Waits until this member has applied `start_revision - 1`, so a watch never travels back in time.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, StoreError>>;
    /// The newest revision acknowledged anywhere, once this member has applied it: what a linearizable read waits for.
    fn read_index(&self) -> BoxFuture<'_, Result<i64, StoreError>>;
    /// Drops history below `revision`. Reads at exactly `revision` stay possible.
    fn compact(&self, revision: i64) -> BoxFuture<'_, StoreResult<()>>;
    /// Grants a lease; id 0 lets the store choose one. Answers (id, ttl in seconds).
    fn lease_grant(&self, id: i64, ttl_seconds: i64) -> BoxFuture<'_, StoreResult<(i64, i64)>>;
    /// Ends a lease and deletes its keys in one revision.
    fn lease_revoke(&self, id: i64) -> BoxFuture<'_, StoreResult<()>>;
    /// Renews a lease; answers its TTL in seconds, 0 where it is unknown.
    fn lease_keep_alive(&self, id: i64) -> BoxFuture<'_, StoreResult<i64>>;
    fn lease_time_to_live(&self, id: i64, keys: bool) -> BoxFuture<'_, StoreResult<LeaseStatus>>;
    fn leases(&self) -> BoxFuture<'_, StoreResult<Vec<i64>>>;
    fn status(&self) -> StoreStatus;
    /// The term in [`Store::status`], for those who need nothing else, and often.
    fn raft_term(&self) -> u64 {
        self.status().raft_term
    }
    /// The newest revision of which this member has handed out all events, for those who need nothing else.
    fn revision(&self) -> i64 {
        self.status().revision
    }
    /// The newest revision at a time (milliseconds since 1970), by the clocks of those who proposed, as far as this member
    /// has applied; none of a store that does not know its times. An error where that is compacted.
    fn revision_as_of(&self, unix_ms: i64) -> Result<Option<i64>, StoreError> {
        let _: i64 = unix_ms;
        Ok(None)
    }
    /// Has every watch say, by a [`WatchItem::Progress`], when it has delivered everything up to `revision`, unless it
    /// has said so by an event. Nothing is waited for, and no quorum is needed.
    fn request_progress(&self, revision: i64) {
        // A store without watches of its own has nobody to ask.
        let _: i64 = revision;
    }
}
