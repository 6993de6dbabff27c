//! etcd's messages as a client needs them, with etcd's field numbers, written from its `rpc.proto`. `kv` has the requests
//! and what stands in answers; the answers with their headers are here, and not the store's own, so that a slip there
//! is not made twice.

use bytes::Bytes;
use kv::{Event, KeyValue};

pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
pub const TXN: &str = "/etcdserverpb.KV/Txn";
pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub const GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
pub const REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
pub const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";
pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";
pub const MOVE_LEADER: &str = "/etcdserverpb.Maintenance/MoveLeader";
pub const MEMBER_LIST: &str = "/etcdserverpb.Cluster/MemberList";
pub const MEMBER_ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
pub const MEMBER_REMOVE: &str = "/etcdserverpb.Cluster/MemberRemove";
pub const MEMBER_PROMOTE: &str = "/etcdserverpb.Cluster/MemberPromote";
pub const MEMBER_UPDATE: &str = "/etcdserverpb.Cluster/MemberUpdate";
pub const LOCK: &str = "/v3lockpb.Lock/Lock";
pub const UNLOCK: &str = "/v3lockpb.Lock/Unlock";
pub const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
pub const PROCLAIM: &str = "/v3electionpb.Election/Proclaim";
pub const RESIGN: &str = "/v3electionpb.Election/Resign";
pub const LEADER: &str = "/v3electionpb.Election/Leader";

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Empty {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Header {
    #[prost(uint64, tag = "2")]
    pub member_id: u64,
    #[prost(int64, tag = "3")]
    pub revision: i64,
    #[prost(uint64, tag = "4")]
    pub raft_term: u64,
}

/// An answer of which only the header counts.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Plain {
    #[prost(message, required, tag = "1")]
    pub header: Header,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RangeAnswer {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(message, repeated, tag = "2")]
    pub kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    pub more: bool,
    #[prost(int64, tag = "4")]
    pub count: i64,
}

/// A part of a range as a stream.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RangePart {
    #[prost(message, required, tag = "1")]
    pub range: RangeAnswer,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PutAnswer {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(message, optional, tag = "2")]
    pub prev: Option<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteAnswer {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(int64, tag = "2")]
    pub deleted: i64,
    #[prost(message, repeated, tag = "3")]
    pub prev: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TxnAnswer {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(bool, tag = "2")]
    pub succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub steps: Vec<StepAnswer>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StepAnswer {
    #[prost(oneof = "StepBody", tags = "1, 2, 3, 4")]
    pub body: Option<StepBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StepBody {
    #[prost(message, tag = "1")]
    Range(RangeAnswer),
    #[prost(message, tag = "2")]
    Put(PutAnswer),
    #[prost(message, tag = "3")]
    Delete(DeleteAnswer),
    #[prost(message, tag = "4")]
    Txn(TxnAnswer),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct CompactRequest {
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct GrantRequest {
    #[prost(int64, tag = "1")]
    pub ttl: i64,
    #[prost(int64, tag = "2")]
    pub id: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct LeaseId {
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// The answer to a grant, and to a sign of life.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct LeaseAnswer {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(int64, tag = "2")]
    pub id: i64,
    #[prost(int64, tag = "3")]
    pub ttl: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchAsk {
    #[prost(oneof = "WatchUnion", tags = "1, 2, 3")]
    pub union: Option<WatchUnion>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum WatchUnion {
    #[prost(message, tag = "1")]
    Create(WatchCreate),
    #[prost(message, tag = "2")]
    Cancel(WatchCancel),
    #[prost(message, tag = "3")]
    Progress(Empty),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchCreate {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub start_revision: i64,
    #[prost(bool, tag = "4")]
    pub progress_notify: bool,
    /// 0 is no put, 1 is no deletion.
    #[prost(int32, repeated, tag = "5")]
    pub filters: Vec<i32>,
    #[prost(bool, tag = "6")]
    pub prev_kv: bool,
    /// 0 leaves it to the server.
    #[prost(int64, tag = "7")]
    pub watch_id: i64,
    #[prost(bool, tag = "8")]
    pub fragment: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct WatchCancel {
    #[prost(int64, tag = "1")]
    pub watch_id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchAnswer {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    #[prost(bool, tag = "3")]
    pub created: bool,
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<Event>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Status {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(uint64, tag = "4")]
    pub leader: u64,
    #[prost(uint64, tag = "6")]
    pub raft_term: u64,
    #[prost(uint64, tag = "7")]
    pub raft_applied_index: u64,
    #[prost(bool, tag = "10")]
    pub is_learner: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct HashKvRequest {
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct HashKv {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(uint32, tag = "2")]
    pub hash: u32,
    #[prost(int64, tag = "3")]
    pub compact_revision: i64,
    #[prost(int64, tag = "4")]
    pub hash_revision: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct MoveLeader {
    #[prost(uint64, tag = "1")]
    pub target_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Member {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, repeated, tag = "3")]
    pub peer_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    pub is_learner: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct MemberListRequest {
    #[prost(bool, tag = "1")]
    pub linearizable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Members {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(message, repeated, tag = "2")]
    pub members: Vec<Member>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberAdd {
    #[prost(string, repeated, tag = "1")]
    pub peer_urls: Vec<String>,
    #[prost(bool, tag = "2")]
    pub is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberAdded {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(message, optional, tag = "2")]
    pub member: Option<Member>,
}

/// Requests that name a member.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct MemberId {
    #[prost(uint64, tag = "1")]
    pub id: u64,
}

/// Gives a member another address.
#[derive(Clone, PartialEq, prost::Message)]
pub struct MemberUpdate {
    #[prost(uint64, tag = "1")]
    pub id: u64,
    #[prost(string, repeated, tag = "2")]
    pub peer_urls: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LockRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(int64, tag = "2")]
    pub lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Locked {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct UnlockRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Campaign {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(int64, tag = "2")]
    pub lease: i64,
    #[prost(bytes = "bytes", tag = "3")]
    pub value: Bytes,
}

/// Proof that one was elected.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaderKey {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub key: Bytes,
    /// Of the key's creation.
    #[prost(int64, tag = "3")]
    pub rev: i64,
    #[prost(int64, tag = "4")]
    pub lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Campaigned {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(message, required, tag = "2")]
    pub leader: LeaderKey,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Proclaim {
    #[prost(message, required, tag = "1")]
    pub leader: LeaderKey,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Resign {
    #[prost(message, required, tag = "1")]
    pub leader: LeaderKey,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaderRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub name: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LeaderAnswer {
    #[prost(message, required, tag = "1")]
    pub header: Header,
    #[prost(message, required, tag = "2")]
    pub kv: KeyValue,
}
