//! What a recording says of a request, as the store takes it, and back.

use kv::{
    CompareOperand, CompareResult, CompareTarget, RequestOp, ResponseBody, Store, StoreError,
    TxnRequest, TxnResponse,
};

use crate::recording::{
    Compare, Delete, Event, Found, Operand, Outcome, Pair, Put, Range, Relation, Request, Response,
    Step, Txn,
};

/// Carries a request out on a member.
pub async fn carry_out(
    store: &impl Store,
    request: Request,
) -> Result<(i64, Response), StoreError> {
    match request {
        Request::Range(range) => {
            let answer = store.range(range_request(range)).await?;
            Ok((answer.revision, Response::Range(found(answer.body))))
        }
        Request::Put(put) => one_step(store, Step::Put(put)).await,
        Request::Delete(delete) => one_step(store, Step::Delete(delete)).await,
        Request::Txn(txn) => {
            let answer = store.txn(txn_request(txn)).await?;
            Ok((answer.revision, txn_response(answer.body)))
        }
        Request::Grant { lease, ttl } => {
            let answer = store.lease_grant(lease, ttl).await?;
            Ok((answer.revision, Response::Lease { ttl: answer.body.1 }))
        }
        Request::Revoke { lease } => {
            let answer = store.lease_revoke(lease).await?;
            Ok((answer.revision, Response::Lease { ttl: 0 }))
        }
        Request::KeepAlive { lease } => {
            let answer = store.lease_keep_alive(lease).await?;
            Ok((answer.revision, Response::Lease { ttl: answer.body }))
        }
        Request::Compact { revision } => {
            let answer = store.compact(revision).await?;
            Ok((answer.revision, Response::Compacted))
        }
        other => unreachable!("{other:?} is no call of the store's"),
    }
}

async fn one_step(store: &impl Store, step: Step) -> Result<(i64, Response), StoreError> {
    let request = TxnRequest {
        success: vec![operation(step)],
        ..TxnRequest::default()
    };
    let answer = store.txn(request).await?;
    let response = answer.body.responses.into_iter().next();
    let response = response.and_then(|response| response.response);
    response
        .map(|response| (answer.revision, step_response(response)))
        .ok_or(StoreError::Stopped)
}

/// Whether a request cannot change anything, so that without an answer it surely had no effect.
pub fn only_reads(request: &Request) -> bool {
    match request {
        Request::Range(_) => true,
        Request::Txn(txn) => [&txn.then, &txn.otherwise]
            .into_iter()
            .flatten()
            .all(|step| matches!(step, Step::Range(_))),
        _ => false,
    }
}

/// What a failure says of whether there was an effect.
pub fn failure(error: &StoreError, only_read: bool) -> Outcome {
    const UNAVAILABLE: i32 = 14;
    const OUT_OF_RANGE: i32 = 11;
    let message = error.to_string();
    let certain = match error {
        StoreError::Refused(_) => Some(OUT_OF_RANGE),
        StoreError::NoLeader | StoreError::Overloaded | StoreError::Unreadable(_) => {
            Some(UNAVAILABLE)
        }
        StoreError::TimedOut
        | StoreError::Stopped
        | StoreError::LeaderChanged
        | StoreError::AnswerTooLarge => only_read.then_some(UNAVAILABLE),
    };
    match certain {
        Some(code) => Outcome::Failed { code, message },
        None => Outcome::Unknown { message },
    }
}

pub fn range_request(range: Range) -> kv::RangeRequest {
    kv::RangeRequest {
        key: range.key.into(),
        range_end: range.end.into(),
        limit: range.limit,
        revision: range.revision,
        serializable: range.serializable,
        keys_only: range.keys_only,
        count_only: range.count_only,
        ..kv::RangeRequest::default()
    }
}

fn put_request(put: Put) -> kv::PutRequest {
    kv::PutRequest {
        key: put.key.into(),
        value: put.value.into(),
        lease: put.lease,
        prev_kv: put.prev,
        ..kv::PutRequest::default()
    }
}

fn delete_request(delete: Delete) -> kv::DeleteRangeRequest {
    kv::DeleteRangeRequest {
        key: delete.key.into(),
        range_end: delete.end.into(),
        prev_kv: delete.prev,
    }
}

fn txn_request(txn: Txn) -> TxnRequest {
    TxnRequest {
        compare: txn.compares.into_iter().map(compare).collect(),
        success: txn.then.into_iter().map(operation).collect(),
        failure: txn.otherwise.into_iter().map(operation).collect(),
    }
}

fn compare(compare: Compare) -> kv::Compare {
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
        Relation::NotEqual => CompareResult::NotEqual,
    };
    let (target, operand) = match compare.operand {
        Operand::Version(version) => (CompareTarget::Version, CompareOperand::Version(version)),
        Operand::CreateRevision(revision) => (
            CompareTarget::Create,
            CompareOperand::CreateRevision(revision),
        ),
        Operand::ModRevision(revision) => {
            (CompareTarget::Mod, CompareOperand::ModRevision(revision))
        }
        Operand::Value(value) => (CompareTarget::Value, CompareOperand::Value(value.into())),
        Operand::Lease(lease) => (CompareTarget::Lease, CompareOperand::Lease(lease)),
    };
    kv::Compare {
        result: result as i32,
        target: target as i32,
        key: compare.key.into(),
        operand: Some(operand),
        ..kv::Compare::default()
    }
}

fn operation(step: Step) -> RequestOp {
    RequestOp {
        request: Some(match step {
            Step::Range(range) => kv::Request::Range(range_request(range)),
            Step::Put(put) => kv::Request::Put(put_request(put)),
            Step::Delete(delete) => kv::Request::DeleteRange(delete_request(delete)),
            Step::Txn(txn) => kv::Request::Txn(txn_request(txn)),
        }),
    }
}

fn txn_response(response: TxnResponse) -> Response {
    let steps = response.responses.into_iter();
    let steps = steps.filter_map(|step| step.response).map(step_response);
    Response::Txn {
        succeeded: response.succeeded,
        steps: steps.collect(),
    }
}

fn step_response(response: ResponseBody) -> Response {
    match response {
        ResponseBody::Range(range) => Response::Range(found(range)),
        ResponseBody::Put(put) => Response::Put {
            prev: put.prev_kv.as_ref().map(pair),
        },
        ResponseBody::DeleteRange(delete) => Response::Delete {
            deleted: delete.deleted,
            prev: delete.prev_kvs.iter().map(pair).collect(),
        },
        ResponseBody::Txn(txn) => txn_response(txn),
    }
}

fn found(response: kv::RangeResponse) -> Found {
    Found {
        pairs: response.kvs.iter().map(pair).collect(),
        count: response.count,
        more: response.more,
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn pair(kv: &kv::KeyValue) -> Pair {
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
    let deleted = event.kind == kv::EventKind::Delete as i32;
    let whole = pair(&event.kv);
    let of_deletion = || Pair {
        key: whole.key.clone(),
        modified: whole.modified,
        ..Pair::default()
    };
    Event {
        deleted,
        pair: if deleted { of_deletion() } else { whole },
        prev: event.prev_kv.as_ref().map(pair),
    }
}
