//! What is replicated: an entry, its commands, and the answers that are the same on every member.
//!
//! Entries and answers are protobuf with fixed field numbers, because entries stay on disk in the log and answers
//! travel from the leader to the member that a client asked. Members of different versions read each other's
//! entries, so a number is never used again and a new command is a new number.

use prost::Message;

use crate::message::{TxnRequest, TxnResponse};

/// Version of the replicated format. A member refuses to apply what is newer than itself.
pub const ENTRY_VERSION: u32 = 1;

/// One replicated entry.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// [`ENTRY_VERSION`] of the member that proposed it.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Wall clock of the proposer, milliseconds since 1970. For information: nothing is decided by it.
    #[prost(int64, tag = "2")]
    pub now_ms: i64,
    #[prost(oneof = "Command", tags = "3, 4, 5, 6, 7")]
    pub command: Option<Command>,
}

/// What can happen to the state.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Command {
    #[prost(message, tag = "3")]
    Txn(TxnRequest),
    #[prost(message, tag = "4")]
    Compact(Compact),
    #[prost(message, tag = "5")]
    LeaseGrant(Lease),
    #[prost(message, tag = "6")]
    LeaseRevoke(LeaseRevoke),
    #[prost(message, tag = "7")]
    LeaseExpire(LeaseExpire),
}

/// Drop history below a revision.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Compact {
    #[prost(int64, tag = "1")]
    pub revision: i64,
}

/// A lease: as a command, the grant of it; as state, the lease itself. The proposer has chosen the id.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Lease {
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(int64, tag = "2")]
    pub ttl_seconds: i64,
}

/// A client ends a lease.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct LeaseRevoke {
    #[prost(int64, tag = "1")]
    pub id: i64,
}

/// The leader found that leases have run out.
#[derive(Clone, PartialEq, Message)]
pub struct LeaseExpire {
    #[prost(int64, repeated, tag = "1")]
    pub ids: Vec<i64>,
    /// Term in which the leader decided it. A leader that lost its place and won it again has renewed all leases in
    /// between, so a decision only counts in the log of its own term.
    #[prost(uint64, tag = "2")]
    pub term: u64,
}

impl Entry {
    pub fn new(now_ms: i64, command: Command) -> Entry {
        Entry {
            version: ENTRY_VERSION,
            now_ms,
            command: Some(command),
        }
    }
}

/// What applying an entry answered: the store's revision after it, and the body or the refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    pub revision: i64,
    pub body: Result<Reply, Refusal>,
}

/// The answer to a command that was carried out.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Reply {
    #[prost(message, tag = "3")]
    Txn(TxnResponse),
    /// Nothing to say beyond that it is done.
    #[prost(message, tag = "4")]
    Done(Done),
    #[prost(message, tag = "5")]
    Lease(Lease),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Done {}

/// A request that the state machine refuses, with etcd's texts (clients match on them).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: request is too large")]
    TooLarge,
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted { compact_revision: i64 },
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("etcdserver: invalid sort option")]
    InvalidSortOption,
}

/// Refusals on the wire: place in this list plus one is the number. Only ever appended to.
const REFUSALS: [Refusal; 13] = [
    Refusal::EmptyKey,
    Refusal::KeyNotFound,
    Refusal::ValueProvided,
    Refusal::LeaseProvided,
    Refusal::TooManyOps,
    Refusal::DuplicateKey,
    Refusal::TooLarge,
    Refusal::Compacted {
        compact_revision: 0,
    },
    Refusal::FutureRevision,
    Refusal::LeaseNotFound,
    Refusal::LeaseExists,
    Refusal::LeaseTtlTooLarge,
    Refusal::InvalidSortOption,
];

#[derive(Clone, PartialEq, Message)]
struct ResponseMessage {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(message, optional, tag = "2")]
    refusal: Option<RefusalMessage>,
    #[prost(oneof = "Reply", tags = "3, 4, 5")]
    reply: Option<Reply>,
}

#[derive(Clone, PartialEq, Message)]
struct RefusalMessage {
    #[prost(uint32, tag = "1")]
    number: u32,
    #[prost(int64, tag = "2")]
    compact_revision: i64,
}

impl Refusal {
    fn to_message(&self) -> RefusalMessage {
        let same =
            |listed: &Refusal| std::mem::discriminant(listed) == std::mem::discriminant(self);
        let number = REFUSALS
            .iter()
            .position(same)
            .map_or(0, |place| place as u32 + 1);
        let compact_revision = match self {
            Refusal::Compacted { compact_revision } => *compact_revision,
            _ => 0,
        };
        RefusalMessage {
            number,
            compact_revision,
        }
    }

    fn from_message(message: &RefusalMessage) -> Option<Refusal> {
        let listed = REFUSALS.get((message.number as usize).checked_sub(1)?)?;
        Some(match listed {
            Refusal::Compacted { .. } => Refusal::Compacted {
                compact_revision: message.compact_revision,
            },
            other => other.clone(),
        })
    }
}

impl Response {
    pub fn encode(&self) -> Vec<u8> {
        let (refusal, reply) = match &self.body {
            Ok(reply) => (None, Some(reply.clone())),
            Err(refusal) => (Some(refusal.to_message()), None),
        };
        ResponseMessage {
            revision: self.revision,
            refusal,
            reply,
        }
        .encode_to_vec()
    }

    /// `None` where the bytes are not an answer that this version knows.
    pub fn decode(bytes: bytes::Bytes) -> Option<Response> {
        let message = ResponseMessage::decode(bytes).ok()?;
        let body = match (&message.refusal, message.reply) {
            (Some(refusal), _) => Err(Refusal::from_message(refusal)?),
            (None, reply) => Ok(reply?),
        };
        Some(Response {
            revision: message.revision,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{
        Compare, CompareOperand, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest,
        RangeRequest, Request, RequestOp,
    };

    #[test]
    fn every_refusal_survives_the_wire() {
        for refusal in REFUSALS {
            let response = Response {
                revision: 7,
                body: Err(refusal),
            };
            assert_eq!(Response::decode(response.encode().into()), Some(response));
        }
        let compacted = Response {
            revision: 9,
            body: Err(Refusal::Compacted {
                compact_revision: 5,
            }),
        };
        assert_eq!(Response::decode(compacted.encode().into()), Some(compacted));
    }

    #[test]
    fn replies_survive_the_wire() {
        let txn = TxnResponse {
            succeeded: true,
            responses: Vec::new(),
        };
        for reply in [
            Reply::Txn(txn),
            Reply::Done(Done {}),
            Reply::Lease(Lease {
                id: 1,
                ttl_seconds: 2,
            }),
        ] {
            let response = Response {
                revision: 7,
                body: Ok(reply),
            };
            assert_eq!(Response::decode(response.encode().into()), Some(response));
        }
        assert_eq!(Response::decode(bytes::Bytes::from_static(&[0xff])), None);
        assert_eq!(Response::decode(bytes::Bytes::new()), None);
    }

    /// Entries stay in logs on disk: these bytes must decode for ever.
    #[test]
    fn golden_entry_bytes() {
        let op = |request| RequestOp {
            request: Some(request),
        };
        let put = PutRequest {
            key: "k".into(),
            value: "v".into(),
            lease: 7,
            prev_kv: true,
            ..PutRequest::default()
        };
        let delete = DeleteRangeRequest {
            key: "a".into(),
            range_end: "b".into(),
            prev_kv: true,
        };
        let range = RangeRequest {
            key: "k".into(),
            limit: 1,
            revision: 9,
            ..RangeRequest::default()
        };
        let nested = TxnRequest {
            success: vec![op(Request::Put(PutRequest {
                key: "n".into(),
                ..PutRequest::default()
            }))],
            ..TxnRequest::default()
        };
        let compare = Compare {
            result: CompareResult::Greater as i32,
            target: CompareTarget::Mod as i32,
            key: "k".into(),
            operand: Some(CompareOperand::ModRevision(300)),
            range_end: "z".into(),
        };
        let txn = TxnRequest {
            compare: vec![compare],
            success: vec![op(Request::Put(put)), op(Request::DeleteRange(delete))],
            failure: vec![op(Request::Range(range)), op(Request::Txn(nested))],
        };
        let golden: &[(Command, &str)] = &[
            (
                Command::Txn(txn),
                "0801102a1a400a0e080110021a016b30ac028204017a120c120a0a016b12017618072001\
                 120a1a080a016112016218011a090a070a016b180120091a092207120512030a016e",
            ),
            (
                Command::Compact(Compact { revision: 5 }),
                "0801102a22020805",
            ),
            (
                Command::LeaseGrant(Lease {
                    id: 7,
                    ttl_seconds: 60,
                }),
                "0801102a2a040807103c",
            ),
            (
                Command::LeaseRevoke(LeaseRevoke { id: 7 }),
                "0801102a32020807",
            ),
            (
                Command::LeaseExpire(LeaseExpire {
                    ids: vec![7, 8],
                    term: 3,
                }),
                "0801102a3a060a0207081003",
            ),
        ];
        for (command, hex) in golden {
            let entry = Entry::new(42, command.clone());
            let text: String = entry
                .encode_to_vec()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(&text, hex);
            assert_eq!(
                Entry::decode(entry.encode_to_vec().as_slice()).unwrap(),
                entry
            );
        }
    }
}
