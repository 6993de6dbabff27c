//! What went wrong as gRPC statuses, in this one place: etcd's codes, and its texts (which clients match on).

use kv::{Refusal, StoreError};
use tonic::{Code, Status};

/// Why a call is not answered. Beyond the store's own reasons these are the front's, with etcd's texts.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("etcdserver: request is too large")]
    TooLarge,
    #[error("etcdserver: not leader")]
    NotLeader,
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimedOut,
    #[error("etcdserver: member not found")]
    MemberNotFound,
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    #[error("etcdserver: given member URLs are invalid")]
    BadMemberUrls,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    #[error("etcdserver: can only promote a learner member")]
    NotLearner,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    #[error("etcdserver: wrong downgrade target version format")]
    BadVersionFormat,
    #[error("etcdserver: invalid downgrade target version")]
    BadDowngrade,
    #[error("etcdserver: no inflight downgrade job")]
    NoDowngrade,
    #[error("etcdserver: rpc not supported for learner")]
    NotForLearner,
    #[error("etcdserver: invalid auth token")]
    InvalidToken,
    #[error("etcdserver: authentication is not enabled")]
    AuthNotEnabled,
    #[error("etcdserver: authentication failed, invalid user ID or password")]
    AuthFailed,
    #[error("auth: authentication failed, password was given for no password user")]
    NoPasswordUser,
    #[error("bcrypt: password length exceeds 72 bytes")]
    PasswordTooLong,
    #[error("mutex: session is expired")]
    SessionExpired,
    #[error("\"leader\" field must be provided")]
    LeaderMissing,
    #[error("election: not leader")]
    NotElected,
    #[error("election: no leader")]
    NobodyElected,
    /// In the words of gRPC in Go.
    #[error("grpc: trying to send message larger than max ({0} vs. 2147483647)")]
    AnswerTooLarge(u64),
    /// The client's own deadline, from its `grpc-timeout`.
    #[error("context deadline exceeded")]
    DeadlineExceeded,
    #[error("{0}")]
    Unimplemented(String),
    /// Nothing of etcd's corresponds.
    #[error("{0}")]
    Internal(String),
    /// What a client was sending broke off, with this status.
    #[error("{1}")]
    BrokenOff(Code, String),
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault::Store(refusal.into())
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Status {
        Status::new(fault.code(), fault.to_string())
    }
}

impl Fault {
    pub(super) fn code(&self) -> Code {
        match self {
            Fault::Store(error) => store_code(error),
            Fault::TooLarge
            | Fault::BadMemberUrls
            | Fault::BadVersionFormat
            | Fault::BadDowngrade
            | Fault::AuthFailed => Code::InvalidArgument,
            Fault::NotLeader
            | Fault::BadTransferee
            | Fault::PeerUrlExists
            | Fault::TooManyLearners
            | Fault::NotLearner
            | Fault::LearnerNotReady
            | Fault::NotEnoughStarted
            | Fault::NoDowngrade
            | Fault::NotForLearner
            | Fault::AuthNotEnabled => Code::FailedPrecondition,
            Fault::InvalidToken => Code::Unauthenticated,
            Fault::MemberNotFound => Code::NotFound,
            Fault::TransferTimedOut => Code::Unavailable,
            // Plain errors in etcd, without a code of gRPC.
            Fault::NoPasswordUser
            | Fault::PasswordTooLong
            | Fault::SessionExpired
            | Fault::NotElected
            | Fault::NobodyElected
            | Fault::LeaderMissing => Code::Unknown,
            Fault::AnswerTooLarge(_) => Code::ResourceExhausted,
            Fault::DeadlineExceeded => Code::DeadlineExceeded,
            Fault::Unimplemented(_) => Code::Unimplemented,
            Fault::Internal(_) => Code::Internal,
            Fault::BrokenOff(code, _) => *code,
        }
    }
}

fn store_code(error: &StoreError) -> Code {
    match error {
        StoreError::Refused(refusal) => match refusal {
            Refusal::Compacted { .. } | Refusal::FutureRevision | Refusal::LeaseTtlTooLarge => {
                Code::OutOfRange
            }
            Refusal::LeaseNotFound => Code::NotFound,
            Refusal::PermissionDenied => Code::PermissionDenied,
            Refusal::NoSpace => Code::ResourceExhausted,
            Refusal::LeaseExists
            | Refusal::RootUserMissing
            | Refusal::RootRoleMissing
            | Refusal::UserExists
            | Refusal::UserNotFound
            | Refusal::RoleExists
            | Refusal::RoleNotFound
            | Refusal::RoleNotGranted
            | Refusal::PermissionNotGranted => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        },
        StoreError::Overloaded | StoreError::AnswerTooLarge => Code::ResourceExhausted,
        StoreError::Unreadable(_) => Code::Internal,
        StoreError::NoLeader
        | StoreError::TimedOut
        | StoreError::Stopped
        | StoreError::LeaderChanged => Code::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_texts_are_etcds() {
        let all = [
            (
                Fault::from(Refusal::Compacted {
                    compact_revision: 7,
                }),
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            (
                Refusal::FutureRevision.into(),
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                Refusal::EmptyKey.into(),
                Code::InvalidArgument,
                "etcdserver: key is not provided",
            ),
            (
                Refusal::TooManyOps.into(),
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            (
                Refusal::DuplicateKey.into(),
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            (
                Refusal::TooLarge.into(),
                Code::InvalidArgument,
                "etcdserver: request is too large",
            ),
            (
                Refusal::LeaseNotFound.into(),
                Code::NotFound,
                "etcdserver: requested lease not found",
            ),
            (
                Refusal::LeaseExists.into(),
                Code::FailedPrecondition,
                "etcdserver: lease already exists",
            ),
            (
                StoreError::NoLeader.into(),
                Code::Unavailable,
                "etcdserver: no leader",
            ),
            (
                StoreError::TimedOut.into(),
                Code::Unavailable,
                "etcdserver: request timed out",
            ),
            (
                StoreError::Overloaded.into(),
                Code::ResourceExhausted,
                "etcdserver: too many requests",
            ),
            (
                Refusal::UserEmpty.into(),
                Code::InvalidArgument,
                "etcdserver: user name is empty",
            ),
            (
                Refusal::RoleNotFound.into(),
                Code::FailedPrecondition,
                "etcdserver: role name not found",
            ),
            (
                Refusal::AuthOldRevision.into(),
                Code::InvalidArgument,
                "etcdserver: revision of auth store is old",
            ),
            (
                Refusal::PermissionDenied.into(),
                Code::PermissionDenied,
                "etcdserver: permission denied",
            ),
            (
                Fault::InvalidToken,
                Code::Unauthenticated,
                "etcdserver: invalid auth token",
            ),
            (
                Fault::NotLeader,
                Code::FailedPrecondition,
                "etcdserver: not leader",
            ),
        ];
        for (fault, code, text) in all {
            let status = Status::from(fault);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }
}
