//! What a gRPC status says about the call: whether it surely had no effect, and what went to and fro in the words of a
//! recording.

use super::message::{RangeAnswer, RangePart, StepBody, TxnAnswer};
use crate::recording::{
    Compare, Event, Found, Operand, Outcome, Pair, Range, Relation, Request, Response, Step, Txn,
};
use bytes::Bytes;
use kv::{CompareOperand, CompareResult, CompareTarget, KeyValue, RequestOp};
use tonic::{Code, Status};

/// Whether the server has refused before anything came of it. What the client's own library says never counts as that:
/// it may have sent the request.
pub fn surely_without_effect(code: Code, message: &str) -> bool {
    // Of a proclamation or a resignation: it was not done.
    if message.starts_with("election: ") {
        return true;
    }
    if !message.starts_with("etcdserver: ") {
        return false;
    }
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unauthenticated
        | Code::Unimplemented => true,
        // An answer that grew too large has the same code, and had its effect.
        Code::ResourceExhausted => {
            message.ends_with("too many requests") || message.ends_with("database space exceeded")
        }
        Code::Unavailable => message == "etcdserver: no leader",
        _ => false,
    }
}

/// Whether the call cannot change anything, whatever becomes of it.
pub fn only_reads(request: &Request) -> bool {
    match request {
        Request::Range(_) | Request::Leader { .. } | Request::HashKv { .. } => true,
        Request::Txn(txn) => steps_only_read(&txn.then) && steps_only_read(&txn.otherwise),
        _ => false,
    }
}

/// Whether it is more than one call of the store: what is refused then may have been done in part.
fn has_steps(request: &Request) -> bool {
    matches!(request, Request::Lock { .. } | Request::Campaign { .. })
}

fn steps_only_read(steps: &[Step]) -> bool {
    steps.iter().all(|step| match step {
        Step::Range(_) => true,
        Step::Txn(txn) => steps_only_read(&txn.then) && steps_only_read(&txn.otherwise),
        Step::Put(_) | Step::Delete(_) => false,
    })
}

/// What became of a call that was sent and was not answered well.
pub fn of_status(request: &Request, status: &Status) -> Outcome {
    let message = status.message().to_string();
    let refused = !has_steps(request) && surely_without_effect(status.code(), &message);
    match only_reads(request) || refused {
        true => Outcome::Failed {
            code: status.code() as i32,
            message,
        },
        false => Outcome::Unknown {
            message: format!("{:?}: {message}", status.code()),
        },
    }
}

/// What became of a call that was never sent.
pub fn never_sent(message: String) -> Outcome {
    Outcome::Failed {
        code: Code::Unavailable as i32,
        message,
    }
}

/// What a call says to which no answer came in time.
pub const NO_ANSWER: &str = "no answer in time";

/// Whether an answer ever came.
pub fn was_answered(outcome: &Outcome) -> bool {
    !matches!(outcome, Outcome::Unknown { message } if message.ends_with(NO_ANSWER))
}

/// Whether the connection may be of no use any more.
pub fn is_of_connection(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Ok { .. } => false,
        Outcome::Failed { message, .. } => {
            !message.starts_with("etcdserver: ") && !message.starts_with("election: ")
        }
        Outcome::Unknown { .. } => true,
    }
}

pub fn range_request(range: &Range) -> kv::RangeRequest {
    kv::RangeRequest {
        key: bytes(&range.key),
        range_end: bytes(&range.end),
        limit: range.limit,
        revision: range.revision,
        serializable: range.serializable,
        keys_only: range.keys_only,
        count_only: range.count_only,
        sort_order: range.order as i32,
        sort_target: range.target as i32,
        min_mod_revision: range.min_mod,
        max_mod_revision: range.max_mod,
        min_create_revision: range.min_create,
        max_create_revision: range.max_create,
    }
}

pub fn put_request(put: &crate::recording::Put) -> kv::PutRequest {
    kv::PutRequest {
        key: bytes(&put.key),
        value: bytes(&put.value),
        lease: put.lease,
        prev_kv: put.prev,
        ..kv::PutRequest::default()
    }
}

pub fn delete_request(delete: &crate::recording::Delete) -> kv::DeleteRangeRequest {
    kv::DeleteRangeRequest {
        key: bytes(&delete.key),
        range_end: bytes(&delete.end),
        prev_kv: delete.prev,
    }
}

pub fn txn_request(txn: &Txn) -> kv::TxnRequest {
    kv::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.then.iter().map(operation).collect(),
        failure: txn.otherwise.iter().map(operation).collect(),
    }
}

fn operation(step: &Step) -> RequestOp {
    let request = match step {
        Step::Range(range) => kv::Request::Range(range_request(range)),
        Step::Put(put) => kv::Request::Put(put_request(put)),
        Step::Delete(delete) => kv::Request::DeleteRange(delete_request(delete)),
        Step::Txn(txn) => kv::Request::Txn(txn_request(txn)),
    };
    RequestOp {
        request: Some(request),
    }
}

fn compare(compare: &Compare) -> kv::Compare {
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
        Relation::NotEqual => CompareResult::NotEqual,
    };
    let (target, operand) = match &compare.operand {
        Operand::Version(version) => (CompareTarget::Version, CompareOperand::Version(*version)),
        Operand::CreateRevision(revision) => (
            CompareTarget::Create,
            CompareOperand::CreateRevision(*revision),
        ),
        Operand::ModRevision(revision) => {
            (CompareTarget::Mod, CompareOperand::ModRevision(*revision))
        }
        Operand::Value(value) => (CompareTarget::Value, CompareOperand::Value(bytes(value))),
        Operand::Lease(lease) => (CompareTarget::Lease, CompareOperand::Lease(*lease)),
    };
    kv::Compare {
        result: result as i32,
        target: target as i32,
        key: bytes(&compare.key),
        operand: Some(operand),
        range_end: Bytes::new(),
    }
}

pub fn found(answer: RangeAnswer) -> Found {
    Found {
        pairs: answer.kvs.iter().map(pair).collect(),
        count: answer.count,
        more: answer.more,
    }
}

/// The answer of which these are the parts; `None` where there are none. The last has what is of the whole.
pub fn joined(parts: Vec<RangePart>) -> Option<RangeAnswer> {
    let mut parts = parts.into_iter();
    let mut whole = parts.next()?.range;
    for part in parts {
        whole.kvs.extend(part.range.kvs);
        whole.count = part.range.count;
        whole.more = part.range.more;
    }
    Some(whole)
}

pub fn txn_response(answer: TxnAnswer) -> Response {
    let step = |body| match body {
        StepBody::Range(range) => Response::Range(found(range)),
        StepBody::Put(put) => Response::Put {
            prev: put.prev.as_ref().map(pair),
        },
        StepBody::Delete(delete) => Response::Delete {
            deleted: delete.deleted,
            prev: delete.prev.iter().map(pair).collect(),
        },
        StepBody::Txn(txn) => txn_response(txn),
    };
    let bodies = answer.steps.into_iter().filter_map(|step| step.body);
    Response::Txn {
        succeeded: answer.succeeded,
        steps: bodies.map(step).collect(),
    }
}

pub fn pair(kv: &KeyValue) -> Pair {
    Pair {
        key: text(&kv.key),
        value: text(&kv.value),
        created: kv.create_revision,
        modified: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub fn event(event: &kv::Event) -> Event {
    Event {
        deleted: event.kind == kv::EventKind::Delete as i32,
        pair: pair(&event.kv),
        prev: event.prev_kv.as_ref().map(pair),
    }
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Delete, Put};

    fn put() -> Request {
        Request::Put(Put::default())
    }

    fn is_unknown(outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Unknown { .. })
    }

    #[test]
    fn only_what_the_server_refused_at_once_surely_had_no_effect() {
        let cases = [
            (Code::Unavailable, "etcdserver: no leader", true),
            (Code::Unavailable, "etcdserver: request timed out", false),
            (Code::Unavailable, "etcdserver: leader changed", false),
            (Code::Unavailable, "transport error", false),
            (Code::DeadlineExceeded, "context deadline exceeded", false),
            (Code::Cancelled, "h2 protocol error: stream reset", false),
            (Code::Internal, "etcdserver: whatever", false),
            (Code::Unknown, "etcdserver: whatever", false),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                true,
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                true,
            ),
            (
                Code::ResourceExhausted,
                "grpc: trying to send message larger than max (9 vs. 1)",
                false,
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                true,
            ),
            // tonic's own, after the answer had come.
            (
                Code::OutOfRange,
                "Error, decoded message length too large",
                false,
            ),
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                true,
            ),
        ];
        for (code, message, expected) in cases {
            assert_eq!(surely_without_effect(code, message), expected, "{message}");
            let outcome = of_status(&put(), &Status::new(code, message));
            assert_eq!(is_unknown(&outcome), !expected, "{message}");
        }
    }

    #[test]
    fn an_answer_that_never_came_is_told_from_one_that_says_nothing() {
        let of = |code, text: &str| of_status(&put(), &Status::new(code, text));
        let silent = of(Code::DeadlineExceeded, NO_ANSWER);
        assert!(is_unknown(&silent) && !was_answered(&silent) && is_of_connection(&silent));
        let said = of(Code::Unavailable, "etcdserver: request timed out");
        assert!(is_unknown(&said) && was_answered(&said));
        let refused = of(Code::Unavailable, "etcdserver: no leader");
        assert!(was_answered(&refused) && !is_of_connection(&refused));
    }

    #[test]
    fn who_stood_in_line_may_have_left_something_behind() {
        let expired = Status::unknown("etcdserver: mvcc: session expired");
        let gone = Status::not_found("etcdserver: requested lease not found");
        let not_elected = Status::unknown("election: not leader");
        let campaign = Request::Campaign {
            name: "e".into(),
            lease: 1,
            value: "v".into(),
        };
        for status in [&expired, &gone, &not_elected] {
            assert!(is_unknown(&of_status(&campaign, status)));
        }
        let resign = Request::Resign {
            key: "e/1".into(),
            created: 2,
        };
        assert!(!is_unknown(&of_status(&resign, &not_elected)));
    }

    #[test]
    fn parts_are_one_answer() {
        let part = |key: &'static str, count, more| RangePart {
            range: RangeAnswer {
                kvs: vec![KeyValue {
                    key: Bytes::from_static(key.as_bytes()),
                    ..KeyValue::default()
                }],
                count,
                more,
                ..RangeAnswer::default()
            },
        };
        let whole = joined(vec![part("a", 0, false), part("b", 5, true)]).unwrap();
        let keys: Vec<&[u8]> = whole.kvs.iter().map(|kv| &kv.key[..]).collect();
        assert_eq!(keys, [b"a", b"b"]);
        assert!(whole.more && whole.count == 5);
        assert!(joined(Vec::new()).is_none());
    }

    #[test]
    fn a_read_never_has_an_effect() {
        let lost = Status::unavailable("transport error");
        let range = Request::Range(Range::default());
        assert!(!is_unknown(&of_status(&range, &lost)));
        let txn = |step| {
            Request::Txn(Txn {
                then: vec![Step::Range(Range::default())],
                otherwise: vec![step],
                ..Txn::default()
            })
        };
        let inner = Step::Txn(Txn {
            then: vec![Step::Delete(Delete::default())],
            ..Txn::default()
        });
        assert!(is_unknown(&of_status(&txn(inner), &lost)));
        let reads = txn(Step::Range(Range::default()));
        assert!(!is_unknown(&of_status(&reads, &lost)));
    }
}
