//! What is replicated: an entry, its commands, and the answers that are the same on every member.
//!
//! Entries and answers are protobuf with fixed field numbers, because entries stay on disk in the log and answers
//! travel from the leader to the member that a client asked. Members of different versions read each other's
//! entries, so a number is never used again and a new command is a new number.

use prost::Message;

use crate::auth::AuthCommand;
use crate::message::{Request, TxnRequest, TxnResponse};

/// Newest version of the replicated format. A member refuses to apply what is newer than itself; an entry says the
/// oldest version that understands it, so that members can be upgraded one after the other.
pub const ENTRY_VERSION: u32 = 3;

/// One replicated entry.
#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    /// The oldest [`ENTRY_VERSION`] that understands it.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// Wall clock of the proposer, milliseconds since 1970. For information: nothing is decided by it but which revision
    /// a time means.
    #[prost(int64, tag = "2")]
    pub now_ms: i64,
    #[prost(oneof = "Command", tags = "3, 4, 5, 6, 7, 8, 9")]
    pub command: Option<Command>,
    /// Revision of the users and roles under which the proposer has found that its client may do this; 0 where nobody
    /// had to be asked. Refused where they have changed since.
    #[prost(uint64, tag = "16")]
    pub auth_revision: u64,
    /// Who must be allowed to write all keys of the leases that the command gives keys to, or ends: which keys those are
    /// is known when it is applied. Empty where nobody has to be asked, or there is no such lease.
    #[prost(string, tag = "17")]
    pub lease_user: String,
    /// By which the proposer knows it again when it is applied; 0 where it does not look out for it. Nothing is decided by
    /// it.
    #[prost(fixed64, tag = "18")]
    pub proposal: u64,
    /// Only a leader of this term may append it; 0 for any. Asked by the leader, so nothing is decided by it later.
    #[prost(uint64, tag = "19")]
    pub term: u64,
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
    #[prost(message, tag = "8")]
    Alarm(AlarmChange),
    #[prost(message, tag = "9")]
    Auth(AuthCommand),
}

impl Command {
    /// The oldest version of the format in which this can be said.
    fn version(&self) -> u32 {
        match self {
            Command::Txn(_) | Command::Compact(_) | Command::LeaseRevoke(_) => 1,
            Command::LeaseGrant(lease) if lease.nonce == 0 => 1,
            Command::LeaseExpire(expire) if expire.nonces.is_empty() => 1,
            Command::LeaseGrant(_)
            | Command::LeaseExpire(_)
            | Command::Alarm(_)
            | Command::Auth(_) => 2,
        }
    }

    /// Leases that it gives keys to, or ends, as a client asks for it.
    pub(crate) fn leases(&self) -> Vec<i64> {
        match self {
            Command::Txn(request) => {
                let mut leases = Vec::new();
                add_leases(request, &mut leases);
                leases
            }
            Command::LeaseRevoke(request) => vec![request.id],
            Command::Compact(_)
            | Command::LeaseGrant(_)
            | Command::LeaseExpire(_)
            | Command::Alarm(_)
            | Command::Auth(_) => Vec::new(),
        }
    }
}

/// Of both branches, and all that is nested in them.
fn add_leases(request: &TxnRequest, leases: &mut Vec<i64>) {
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::Put(put)) if put.lease != 0 => leases.push(put.lease),
            Some(Request::Txn(nested)) => add_leases(nested, leases),
            _ => {}
        }
    }
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
    /// Drawn by the proposer: tells this lease from an earlier one of the same id. 0 in leases of before there was one.
    #[prost(fixed64, tag = "3")]
    pub nonce: u64,
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
    /// For each id the lease that was meant: one that was revoked and granted anew meanwhile goes on. Empty in entries
    /// of before there were nonces, where any lease of the id is meant.
    #[prost(fixed64, repeated, tag = "3")]
    pub nonces: Vec<u64>,
}

/// Something is wrong with a member, or no longer so.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct AlarmChange {
    #[prost(message, required, tag = "1")]
    pub alarm: Alarm,
    /// False ends it.
    #[prost(bool, tag = "2")]
    pub raised: bool,
}

/// What is wrong, with etcd's field numbers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Message)]
pub struct Alarm {
    /// 0 stands for every member when an alarm is ended.
    #[prost(uint64, tag = "1")]
    pub member: u64,
    #[prost(enumeration = "AlarmKind", tag = "2")]
    pub kind: i32,
}

/// Kinds of [`Alarm`], numbered as in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AlarmKind {
    /// Any kind, in questions; of an alarm that is there never.
    None = 0,
    /// The disk of the member is nearly full.
    NoSpace = 1,
    /// The state of the member is not that of the others.
    Corrupt = 2,
}

/// The alarms that a command raised or ended.
#[derive(Clone, PartialEq, Message)]
pub struct Alarms {
    #[prost(message, repeated, tag = "1")]
    pub alarms: Vec<Alarm>,
}

impl Entry {
    /// Whether this version knows everything that it says: what a newer one has added decodes to nothing.
    pub fn is_known(&self) -> bool {
        match &self.command {
            None => false,
            Some(Command::Auth(command)) => command.change.is_some(),
            Some(_) => true,
        }
    }

    /// Whether no transaction stands in another one: then every decoder goes deep enough.
    pub fn is_flat(&self) -> bool {
        let Some(Command::Txn(request)) = &self.command else {
            return true;
        };
        let mut ops = request.success.iter().chain(&request.failure);
        ops.all(|op| !matches!(op.request, Some(Request::Txn(_))))
    }

    pub fn new(now_ms: i64, command: Command) -> Entry {
        Entry {
            version: command.version(),
            now_ms,
            command: Some(command),
            auth_revision: 0,
            lease_user: String::new(),
            proposal: 0,
            term: 0,
        }
    }

    /// An entry that holds as long as users and roles are of this revision.
    #[must_use]
    pub fn under(self, auth_revision: u64) -> Entry {
        let version = if auth_revision == 0 {
            self.version
        } else {
            self.version.max(2)
        };
        Entry {
            version,
            auth_revision,
            ..self
        }
    }

    /// An entry whose leases are to be those of this user; see [`Entry::lease_user`].
    #[must_use]
    pub fn with_leases_of(self, lease_user: &str) -> Entry {
        let names_leases = |command: &Command| !command.leases().is_empty();
        if lease_user.is_empty() || !self.command.as_ref().is_some_and(names_leases) {
            return self;
        }
        Entry {
            version: self.version.max(3),
            lease_user: lease_user.into(),
            ..self
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
    #[prost(message, tag = "6")]
    Alarms(Alarms),
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
    #[error("etcdserver: revision of auth store is old")]
    AuthOldRevision,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: root user does not exist")]
    RootUserMissing,
    #[error("etcdserver: root user does not have root role")]
    RootRoleMissing,
    #[error("etcdserver: user name is empty")]
    UserEmpty,
    #[error("etcdserver: user name already exists")]
    UserExists,
    #[error("etcdserver: user name not found")]
    UserNotFound,
    #[error("etcdserver: role name is empty")]
    RoleEmpty,
    #[error("etcdserver: role name already exists")]
    RoleExists,
    #[error("etcdserver: role name not found")]
    RoleNotFound,
    #[error("etcdserver: role is not granted to the user")]
    RoleNotGranted,
    #[error("etcdserver: permission not given")]
    PermissionNotGiven,
    #[error("etcdserver: permission is not granted to the role")]
    PermissionNotGranted,
    #[error("etcdserver: invalid auth management")]
    InvalidAuthManagement,
    #[error("etcdserver: permission denied")]
    PermissionDenied,
}

/// Refusals on the wire: place in this list plus one is the number. Only ever appended to.
const REFUSALS: [Refusal; 28] = [
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
    Refusal::AuthOldRevision,
    Refusal::NoSpace,
    Refusal::RootUserMissing,
    Refusal::RootRoleMissing,
    Refusal::UserEmpty,
    Refusal::UserExists,
    Refusal::UserNotFound,
    Refusal::RoleEmpty,
    Refusal::RoleExists,
    Refusal::RoleNotFound,
    Refusal::RoleNotGranted,
    Refusal::PermissionNotGiven,
    Refusal::PermissionNotGranted,
    Refusal::InvalidAuthManagement,
    Refusal::PermissionDenied,
];

#[derive(Clone, PartialEq, Message)]
struct ResponseMessage {
    #[prost(int64, tag = "1")]
    revision: i64,
    #[prost(message, optional, tag = "2")]
    refusal: Option<RefusalMessage>,
    #[prost(oneof = "Reply", tags = "3, 4, 5, 6")]
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
    use crate::auth::{AuthChange, Permission, PermissionKind, RoleGrant, UserAdd};
    use crate::message::{
        Compare, CompareOperand, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest,
        RangeRequest, Request, RequestOp,
    };

    const NO_SPACE: Alarm = Alarm {
        member: 0x1f,
        kind: AlarmKind::NoSpace as i32,
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
                nonce: 3,
            }),
            Reply::Alarms(Alarms {
                alarms: vec![NO_SPACE],
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
                    nonce: 0,
                }),
                "0801102a2a040807103c",
            ),
            (
                Command::LeaseGrant(Lease {
                    id: 7,
                    ttl_seconds: 60,
                    nonce: 5,
                }),
                "0802102a2a0d0807103c190500000000000000",
            ),
            (
                Command::LeaseRevoke(LeaseRevoke { id: 7 }),
                "0801102a32020807",
            ),
            (
                Command::LeaseExpire(LeaseExpire {
                    ids: vec![7, 8],
                    term: 3,
                    nonces: Vec::new(),
                }),
                "0801102a3a060a0207081003",
            ),
            (
                Command::LeaseExpire(LeaseExpire {
                    ids: vec![7],
                    term: 3,
                    nonces: vec![5],
                }),
                "0802102a3a0f0a010710031a080500000000000000",
            ),
            (
                Command::Alarm(AlarmChange {
                    alarm: NO_SPACE,
                    raised: true,
                }),
                "0802102a42080a04081f10011001",
            ),
            (
                Command::Auth(AuthCommand {
                    change: Some(AuthChange::RoleGrant(RoleGrant {
                        role: "r".into(),
                        permission: Some(Permission {
                            kind: PermissionKind::ReadWrite as i32,
                            key: "a".into(),
                            range_end: "b".into(),
                        }),
                    })),
                }),
                "0802102a4a0f520d0a0172120808021201611a0162",
            ),
            (
                Command::Auth(AuthCommand {
                    change: Some(AuthChange::UserAdd(UserAdd {
                        name: "u".into(),
                        password_hash: "h".into(),
                        no_password: true,
                    })),
                }),
                "0802102a4a0a1a080a01751201681801",
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
        let checked = Entry::new(42, Command::Compact(Compact { revision: 5 })).under(9);
        let bytes = checked.encode_to_vec();
        assert_eq!(bytes, [8, 2, 16, 42, 34, 2, 8, 5, 0x80, 1, 9]);
        assert_eq!(Entry::decode(bytes.as_slice()).unwrap(), checked);
        let revoke = || Entry::new(42, Command::LeaseRevoke(LeaseRevoke { id: 7 }));
        let checked = revoke().under(9).with_leases_of("u");
        let bytes = checked.encode_to_vec();
        let golden = [8, 3, 16, 42, 50, 2, 8, 7, 0x80, 1, 9, 0x8a, 1, 1, b'u'];
        assert_eq!(bytes, golden);
        assert_eq!(Entry::decode(bytes.as_slice()).unwrap(), checked);
        // Older members understand what names no lease, and what nobody has to be asked for.
        let plain = Entry::new(42, Command::Compact(Compact { revision: 5 }));
        assert_eq!(plain.clone().with_leases_of("u"), plain);
        assert_eq!(revoke().with_leases_of(""), revoke());
    }
}
