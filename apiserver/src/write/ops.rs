//! What a transaction of the store consists of: compares and writes of keys.

use bytes::Bytes;
use kv::mutants::{Bug, planted};
use kv::{
    Compare, CompareOperand, CompareResult, CompareTarget, DeleteRangeRequest, PutRequest, Request,
    RequestOp,
};

/// Keys that change in the same transaction as the object (service addresses, quotas).
#[derive(Clone, Debug, Default)]
pub(crate) struct Extra {
    pub(crate) compare: Vec<Compare>,
    pub(crate) ops: Vec<RequestOp>,
}

impl Extra {
    /// Takes `key`, or loses the transaction where somebody has it.
    pub(crate) fn claim(&mut self, key: String, owner: &str) {
        if !planted(Bug::ClaimsWithoutCompare) {
            self.compare.push(created_at(&key, 0));
        }
        self.ops.push(put(&key, Bytes::from(owner.to_owned()), 0));
    }

    pub(crate) fn release(&mut self, key: String) {
        self.ops.push(delete(&key));
    }

    /// Loses the transaction where `key` is not at this revision; 0 is absent.
    pub(crate) fn expect(&mut self, key: String, revision: i64) {
        self.compare.push(match revision {
            0 => created_at(&key, 0),
            revision => modified_at(&key, revision),
        });
    }

    /// The same, and moves the key on.
    pub(crate) fn replace(&mut self, key: String, revision: i64) {
        self.ops.push(put(&key, Bytes::new(), 0));
        self.expect(key, revision);
    }

    /// Both.
    pub(crate) fn and(mut self, other: Extra) -> Extra {
        self.compare.extend(other.compare);
        self.ops.extend(other.ops);
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.compare.is_empty() && self.ops.is_empty()
    }
}

pub(super) fn created_at(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: Bytes::from(key.to_owned()),
        operand: Some(CompareOperand::CreateRevision(revision)),
        range_end: Bytes::new(),
    }
}

pub(super) fn modified_at(key: &str, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: Bytes::from(key.to_owned()),
        operand: Some(CompareOperand::ModRevision(revision)),
        range_end: Bytes::new(),
    }
}

pub(super) fn put(key: &str, value: Bytes, lease: i64) -> RequestOp {
    let request = PutRequest {
        key: Bytes::from(key.to_owned()),
        value,
        lease,
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(Request::Put(request)),
    }
}

pub(super) fn delete(key: &str) -> RequestOp {
    let request = DeleteRangeRequest {
        key: Bytes::from(key.to_owned()),
        ..DeleteRangeRequest::default()
    };
    RequestOp {
        request: Some(Request::DeleteRange(request)),
    }
}
