//! Messages of etcd's services beyond those of `kv`, with etcd's field numbers. As in `kv`, field 1 of an answer is
//! left free for the header, which [`super::headed::Headed`] puts in front.

use bytes::{Buf, BufMut, Bytes};
use kv::{DeleteRangeResponse, Event, KeyValue, PutResponse, RangeResponse};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

use super::headed::Headed;

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Empty {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct CompactionRequest {
    #[prost(int64, tag = "1")]
    pub(super) revision: i64,
    /// Wait until the space is free: here it always is.
    #[prost(bool, tag = "2")]
    pub(super) physical: bool,
}

/// A part of a range; the parts put together, field by field, are the whole answer.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeStreamPart {
    #[prost(message, optional, tag = "1")]
    pub(super) range_response: Option<Headed<Preencoded<RangeResponse>>>,
}

/// A message of which some fields are encoded already, and left empty in `body`. It is only ever sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Preencoded<T> {
    pub(super) body: T,
    /// Whole fields.
    pub(super) encoded: Bytes,
}

impl<T> From<T> for Preencoded<T> {
    fn from(body: T) -> Preencoded<T> {
        let encoded = Bytes::new();
        Preencoded { body, encoded }
    }
}

impl<T: Message + Default> Message for Preencoded<T> {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        self.body.encode_raw(buffer);
        buffer.put_slice(&self.encoded);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        prost::encoding::skip_field(wire_type, tag, buffer, context)
    }

    fn encoded_len(&self) -> usize {
        self.body.encoded_len() + self.encoded.len()
    }

    fn clear(&mut self) {
        *self = Preencoded::default();
    }
}

/// The answer to a transaction as it is on the wire: the answers inside have headers of their own.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TxnBody {
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
    #[prost(message, repeated, tag = "3")]
    pub(super) responses: Vec<TxnOp>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TxnOp {
    #[prost(oneof = "TxnOpBody", tags = "1, 2, 3, 4")]
    pub(super) response: Option<TxnOpBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum TxnOpBody {
    #[prost(message, tag = "1")]
    Range(Headed<RangeResponse>),
    #[prost(message, tag = "2")]
    Put(Headed<PutResponse>),
    #[prost(message, tag = "3")]
    DeleteRange(Headed<DeleteRangeResponse>),
    #[prost(message, tag = "4")]
    Txn(Headed<TxnBody>),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchRequest {
    #[prost(oneof = "WatchUnion", tags = "1, 2, 3")]
    pub(super) union: Option<WatchUnion>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum WatchUnion {
    #[prost(message, tag = "1")]
    Create(WatchCreate),
    #[prost(message, tag = "2")]
    Cancel(WatchCancel),
    #[prost(message, tag = "3")]
    Progress(Empty),
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchCreate {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) range_end: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) start_revision: i64,
    #[prost(bool, tag = "4")]
    pub(super) progress_notify: bool,
    #[prost(enumeration = "WatchFilter", repeated, tag = "5")]
    pub(super) filters: Vec<i32>,
    #[prost(bool, tag = "6")]
    pub(super) prev_kv: bool,
    #[prost(int64, tag = "7")]
    pub(super) watch_id: i64,
    #[prost(bool, tag = "8")]
    pub(super) fragment: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum WatchFilter {
    NoPut = 0,
    NoDelete = 1,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct WatchCancel {
    #[prost(int64, tag = "1")]
    pub(super) watch_id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct WatchBody {
    #[prost(int64, tag = "2")]
    pub(super) watch_id: i64,
    #[prost(bool, tag = "3")]
    pub(super) created: bool,
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    #[prost(int64, tag = "5")]
    pub(super) compact_revision: i64,
    #[prost(string, tag = "6")]
    pub(super) cancel_reason: String,
    #[prost(bool, tag = "7")]
    pub(super) fragment: bool,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<Event>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    pub(super) ttl: i64,
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseGrantBody {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
    #[prost(string, tag = "4")]
    pub(super) error: String,
}

/// Requests that name a lease, and the entries of a list of leases.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct LeaseId {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct LeaseKeepAliveBody {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct LeaseTimeToLiveRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
    #[prost(bool, tag = "2")]
    pub(super) keys: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseTimeToLiveBody {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(int64, tag = "3")]
    pub(super) ttl: i64,
    #[prost(int64, tag = "4")]
    pub(super) granted_ttl: i64,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub(super) keys: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseLeasesBody {
    #[prost(message, repeated, tag = "2")]
    pub(super) leases: Vec<LeaseId>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Member {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, repeated, tag = "3")]
    pub(super) peer_urls: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub(super) client_urls: Vec<String>,
    #[prost(bool, tag = "5")]
    pub(super) is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberAddRequest {
    #[prost(string, repeated, tag = "1")]
    pub(super) peer_urls: Vec<String>,
    #[prost(bool, tag = "2")]
    pub(super) is_learner: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberAddBody {
    #[prost(message, optional, tag = "2")]
    pub(super) member: Option<Member>,
    #[prost(message, repeated, tag = "3")]
    pub(super) members: Vec<Member>,
}

/// Requests that name a member.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct MemberId {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberUpdateRequest {
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    #[prost(string, repeated, tag = "2")]
    pub(super) peer_urls: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct MemberListRequest {
    #[prost(bool, tag = "1")]
    pub(super) linearizable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MembersBody {
    #[prost(message, repeated, tag = "2")]
    pub(super) members: Vec<Member>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StatusBody {
    #[prost(string, tag = "2")]
    pub(super) version: String,
    #[prost(int64, tag = "3")]
    pub(super) db_size: i64,
    #[prost(uint64, tag = "4")]
    pub(super) leader: u64,
    #[prost(uint64, tag = "5")]
    pub(super) raft_index: u64,
    #[prost(uint64, tag = "6")]
    pub(super) raft_term: u64,
    #[prost(uint64, tag = "7")]
    pub(super) raft_applied_index: u64,
    #[prost(string, repeated, tag = "8")]
    pub(super) errors: Vec<String>,
    #[prost(int64, tag = "9")]
    pub(super) db_size_in_use: i64,
    #[prost(bool, tag = "10")]
    pub(super) is_learner: bool,
    #[prost(string, tag = "11")]
    pub(super) storage_version: String,
    #[prost(int64, tag = "12")]
    pub(super) db_size_quota: i64,
    #[prost(message, optional, tag = "13")]
    pub(super) downgrade_info: Option<DowngradeInfo>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DowngradeInfo {
    #[prost(bool, tag = "1")]
    pub(super) enabled: bool,
    #[prost(string, tag = "2")]
    pub(super) target_version: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct AlarmRequest {
    #[prost(enumeration = "AlarmAction", tag = "1")]
    pub(super) action: i32,
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
    #[prost(int32, tag = "3")]
    pub(super) alarm: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum AlarmAction {
    Get = 0,
    Activate = 1,
    Deactivate = 2,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct AlarmMember {
    #[prost(uint64, tag = "1")]
    pub(super) member_id: u64,
    #[prost(int32, tag = "2")]
    pub(super) alarm: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AlarmBody {
    #[prost(message, repeated, tag = "2")]
    pub(super) alarms: Vec<AlarmMember>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct HashBody {
    #[prost(uint32, tag = "2")]
    pub(super) hash: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct HashKvRequest {
    #[prost(int64, tag = "1")]
    pub(super) revision: i64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct HashKvBody {
    #[prost(uint32, tag = "2")]
    pub(super) hash: u32,
    #[prost(int64, tag = "3")]
    pub(super) compact_revision: i64,
    #[prost(int64, tag = "4")]
    pub(super) hash_revision: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct SnapshotBody {
    #[prost(uint64, tag = "2")]
    pub(super) remaining_bytes: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) blob: Bytes,
    #[prost(string, tag = "4")]
    pub(super) version: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct MoveLeaderRequest {
    #[prost(uint64, tag = "1")]
    pub(super) target_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LockRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(int64, tag = "2")]
    pub(super) lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LockBody {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct UnlockRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CampaignRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(int64, tag = "2")]
    pub(super) lease: i64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(super) value: Bytes,
}

/// Proof of leadership in an election: the leader's key and the revision of its creation.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaderKey {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) key: Bytes,
    #[prost(int64, tag = "3")]
    pub(super) rev: i64,
    #[prost(int64, tag = "4")]
    pub(super) lease: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CampaignBody {
    #[prost(message, optional, tag = "2")]
    pub(super) leader: Option<LeaderKey>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ProclaimRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) leader: Option<LeaderKey>,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaderRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub(super) name: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaderBody {
    #[prost(message, optional, tag = "2")]
    pub(super) kv: Option<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResignRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) leader: Option<LeaderKey>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DowngradeRequest {
    #[prost(enumeration = "DowngradeAction", tag = "1")]
    pub(super) action: i32,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum DowngradeAction {
    Validate = 0,
    Enable = 1,
    Cancel = 2,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct DowngradeBody {
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// Of Kontiki's own service `Members`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReportsBody {
    #[prost(message, repeated, tag = "2")]
    pub(super) reports: Vec<crate::MemberReport>,
}

/// Of Kontiki's own service `History`: which revision was the newest at a time?
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct RevisionAtRequest {
    #[prost(int64, tag = "1")]
    pub(super) unix_ms: i64,
}

/// When were revisions made?
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimesOfRequest {
    #[prost(int64, repeated, tag = "1")]
    pub(super) revisions: Vec<i64>,
}

/// In the order of the question, milliseconds since 1970; 0 where it was not recorded, or is compacted.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TimesBody {
    #[prost(int64, repeated, tag = "2")]
    pub(super) unix_ms: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct MomentBody {
    #[prost(int64, tag = "2")]
    pub(super) revision: i64,
    /// Milliseconds since 1970; 0 where it was not recorded.
    #[prost(int64, tag = "3")]
    pub(super) unix_ms: i64,
}
