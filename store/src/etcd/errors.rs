//! Store errors as gRPC statuses, in this one place: etcd's codes, and its texts (which clients match on).

use kv::{Refusal, StoreError};
use tonic::{Code, Status};

pub(super) fn status(error: &StoreError) -> Status {
    Status::new(code(error), error.to_string())
}

fn code(error: &StoreError) -> Code {
    match error {
        StoreError::Refused(refusal) => match refusal {
            Refusal::Compacted { .. } | Refusal::FutureRevision | Refusal::LeaseTtlTooLarge => {
                Code::OutOfRange
            }
            Refusal::LeaseNotFound => Code::NotFound,
            Refusal::LeaseExists => Code::FailedPrecondition,
            _ => Code::InvalidArgument,
        },
        StoreError::Overloaded => Code::ResourceExhausted,
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
        let compacted = status(&StoreError::Refused(Refusal::Compacted {
            compact_revision: 7,
        }));
        assert_eq!(compacted.code(), Code::OutOfRange);
        assert_eq!(
            compacted.message(),
            "etcdserver: mvcc: required revision has been compacted"
        );
        assert_eq!(status(&StoreError::NoLeader).code(), Code::Unavailable);
        assert_eq!(
            status(&StoreError::Refused(Refusal::EmptyKey)).code(),
            Code::InvalidArgument
        );
    }
}
