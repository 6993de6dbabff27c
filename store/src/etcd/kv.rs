//! etcd's KV service: range, put, delete, transaction, compaction, and a range as a stream.

use bytes::{BufMut, Bytes, BytesMut};
use kv::{
    Answer, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Request as Operation, RequestOp, ResponseBody, ResponseOp, SortOrder,
    SortTarget, Store, StoreError, TxnRequest, TxnResponse,
};
use prost::Message;

use super::errors::Fault;
use super::headed::{Headed, Header};
use super::message::{CompactionRequest, Empty, RangeStreamResponse, TxnBody, TxnOp, TxnOpBody};
use super::rpc::{Answers, Call};

pub(super) async fn range(
    call: Call,
    request: RangeRequest,
) -> Result<Headed<RangeResponse>, Fault> {
    check_learner(&call, &request)?;
    let answer = call.front.backend.range(request).await?;
    Ok(call.front.headed(answer))
}

/// A learner reads what it has itself, and asks nobody.
fn check_learner(call: &Call, request: &RangeRequest) -> Result<(), Fault> {
    match !request.serializable && call.front.backend.is_learner() {
        true => Err(Fault::NotForLearner),
        false => Ok(()),
    }
}

/// A put is a transaction of one operation: the store has one way to write.
pub(super) async fn put(call: Call, request: PutRequest) -> Result<Headed<PutResponse>, Fault> {
    let answer = call
        .front
        .backend
        .txn(single(Operation::Put(request)))
        .await?;
    let body = match first(answer.body.responses) {
        Some(ResponseBody::Put(body)) => body,
        _ => PutResponse::default(),
    };
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body,
    }))
}

pub(super) async fn delete_range(
    call: Call,
    request: DeleteRangeRequest,
) -> Result<Headed<DeleteRangeResponse>, Fault> {
    let answer = call
        .front
        .backend
        .txn(single(Operation::DeleteRange(request)))
        .await?;
    let body = match first(answer.body.responses) {
        Some(ResponseBody::DeleteRange(body)) => body,
        _ => DeleteRangeResponse::default(),
    };
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body,
    }))
}

pub(super) async fn txn(call: Call, request: TxnRequest) -> Result<Headed<TxnBody>, Fault> {
    let answer = call.front.backend.txn(request).await?;
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body: with_headers(answer.revision, answer.body),
    }))
}

pub(super) async fn compact(
    call: Call,
    request: CompactionRequest,
) -> Result<Headed<Empty>, Fault> {
    let answer = call.front.backend.compact(request.revision).await?;
    Ok(call.front.headed(Answer {
        revision: answer.revision,
        body: Empty {},
    }))
}

pub(super) fn single(operation: Operation) -> TxnRequest {
    TxnRequest {
        success: vec![RequestOp {
            request: Some(operation),
        }],
        ..Default::default()
    }
}

pub(super) fn first(responses: Vec<ResponseOp>) -> Option<ResponseBody> {
    responses.into_iter().next()?.response
}

/// The answers inside a transaction have headers with a revision alone: what the store's revision was for that
/// operation, which is one more from the first change on. Nested transactions have an empty header, as in etcd.
fn with_headers(revision: i64, response: TxnResponse) -> TxnBody {
    let before = if changes(&response) {
        revision - 1
    } else {
        revision
    };
    let mut now = before;
    stamp(before + 1, &mut now, response)
}

fn changes(response: &TxnResponse) -> bool {
    response.responses.iter().any(|op| match &op.response {
        Some(ResponseBody::Put(_)) => true,
        Some(ResponseBody::DeleteRange(body)) => body.deleted > 0,
        Some(ResponseBody::Txn(nested)) => changes(nested),
        Some(ResponseBody::Range(_)) | None => false,
    })
}

fn stamp(changed: i64, now: &mut i64, response: TxnResponse) -> TxnBody {
    let responses = response.responses.into_iter().map(|op| {
        let response = op.response.map(|body| match body {
            ResponseBody::Range(body) => TxnOpBody::Range(at(*now, body)),
            ResponseBody::Put(body) => {
                *now = changed;
                TxnOpBody::Put(at(*now, body))
            }
            ResponseBody::DeleteRange(body) => {
                if body.deleted > 0 {
                    *now = changed;
                }
                TxnOpBody::DeleteRange(at(*now, body))
            }
            ResponseBody::Txn(nested) => TxnOpBody::Txn(at(0, stamp(changed, now, nested))),
        });
        TxnOp { response }
    });
    TxnBody {
        responses: responses.collect(),
        succeeded: response.succeeded,
    }
}

fn at<T>(revision: i64, body: T) -> Headed<T> {
    let header = Header {
        revision,
        ..Header::default()
    };
    Headed { header, body }
}

/// First part of a stream, in keys: values may be as large as a request.
const FIRST_KEYS: i64 = 8;
const KEYS_MAX: i64 = 10_000;

/// A range in parts of about the size of a request, all of the revision of the first; merged they are the answer that
/// `Range` gives. At most one part is in memory.
pub(super) async fn range_stream(
    call: Call,
    request: RangeRequest,
) -> Result<Answers<RangeStreamResponse>, Fault> {
    if !in_key_order(&request) || has_filter(&request) {
        return Err(Fault::Unimplemented(
            "etcdserver: a stream is in key order and without filters",
        ));
    }
    kv::check_range(&request)?;
    check_learner(&call, &request)?;
    let parts = Parts {
        left: request.limit.max(0),
        limited: request.limit > 0,
        next: request.clone(),
        keys: FIRST_KEYS,
        count: 0,
        pinned: None,
    };
    let state = Some((call, parts));
    Ok(Box::pin(futures::stream::unfold(state, |state| async {
        let (call, mut parts) = state?;
        Some(match parts.part(&call).await {
            Ok((part, true)) => (Ok(part), None),
            Ok((part, false)) => (Ok(part), Some((call, parts))),
            Err(fault) => (Err(fault), None),
        })
    })))
}

fn in_key_order(request: &RangeRequest) -> bool {
    request.sort_target == SortTarget::Key as i32 && request.sort_order != SortOrder::Descend as i32
}

fn has_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

/// How far a streamed range has got.
struct Parts {
    next: RangeRequest,
    limited: bool,
    /// Pairs that the client's limit still lets through.
    left: i64,
    /// Pairs to ask for next.
    keys: i64,
    /// Keys in the whole range, known from the first part on.
    count: i64,
    pinned: Option<i64>,
}

impl Parts {
    /// The next part, and whether it is the last.
    async fn part(&mut self, call: &Call) -> Result<(RangeStreamResponse, bool), Fault> {
        let front = &call.front;
        let mut request = self.next.clone();
        request.limit = if self.limited {
            self.keys.min(self.left)
        } else {
            self.keys
        };
        let answer = front.backend.range(request).await?;
        let first = self.pinned.is_none();
        let revision = *self.pinned.get_or_insert(answer.revision);
        let mut body = answer.body;
        if first {
            self.count = body.count;
            if self.next.revision <= 0 {
                self.next.revision = revision;
            }
            // The first part has waited for what is acknowledged; the others are of the same revision.
            self.next.serializable = true;
        }
        let got = body.kvs.len() as i64;
        self.left -= got;
        let last = !body.more || (self.limited && self.left <= 0);
        self.keys = more_keys(
            self.keys,
            got,
            body.encoded_len(),
            front.backend.request_bytes_max(),
        );
        if let Some(kv) = body.kvs.last() {
            self.next.key = after(&kv.key);
        }
        body.count = if last { self.count } else { 0 };
        body.more = last && body.more;
        let header = if first || last {
            front.header(revision)
        } else {
            Header::default()
        };
        let part = RangeStreamResponse {
            range_response: Some(Headed { header, body }),
        };
        Ok((part, last))
    }
}

/// How many pairs make up the wanted size, going by the last part; never many times more than in that.
fn more_keys(asked: i64, got: i64, bytes: usize, wanted: usize) -> i64 {
    if got == 0 {
        return asked;
    }
    let each = (bytes as i64 / got).max(1);
    (wanted as i64 / each).clamp(1, asked.saturating_mul(8).min(KEYS_MAX))
}

/// The smallest key after this one.
fn after(key: &Bytes) -> Bytes {
    let mut next = BytesMut::with_capacity(key.len() + 1);
    next.put_slice(key);
    next.put_u8(0);
    next.freeze()
}

/// Reads one key as it is acknowledged now.
pub(super) async fn get(
    store: &(impl Store + ?Sized),
    key: &Bytes,
) -> Result<Answer<Option<kv::KeyValue>>, StoreError> {
    let request = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    let answer = store.range(request).await?;
    Ok(Answer {
        revision: answer.revision,
        body: answer.body.kvs.into_iter().next(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(response: ResponseBody) -> ResponseOp {
        ResponseOp {
            response: Some(response),
        }
    }

    fn revisions(body: &TxnBody) -> Vec<i64> {
        let of = |op: &TxnOp| match op.response.as_ref().unwrap() {
            TxnOpBody::Range(answer) => vec![answer.header.revision],
            TxnOpBody::Put(answer) => vec![answer.header.revision],
            TxnOpBody::DeleteRange(answer) => vec![answer.header.revision],
            TxnOpBody::Txn(answer) => {
                let mut all = vec![answer.header.revision];
                all.extend(revisions(&answer.body));
                all
            }
        };
        body.responses.iter().flat_map(of).collect()
    }

    #[test]
    fn operations_show_the_revision_that_they_saw() {
        let range = || op(ResponseBody::Range(RangeResponse::default()));
        let delete = |deleted| {
            op(ResponseBody::DeleteRange(DeleteRangeResponse {
                deleted,
                ..Default::default()
            }))
        };
        let put = || op(ResponseBody::Put(PutResponse::default()));
        let txn = |responses| TxnResponse {
            succeeded: true,
            responses,
        };
        let writing = txn(vec![range(), delete(0), put(), range()]);
        assert_eq!(revisions(&with_headers(9, writing)), [8, 8, 9, 9]);
        let reading = txn(vec![range(), delete(0)]);
        assert_eq!(revisions(&with_headers(9, reading)), [9, 9]);
        let nested = txn(vec![
            range(),
            op(ResponseBody::Txn(txn(vec![delete(1)]))),
            range(),
        ]);
        assert_eq!(revisions(&with_headers(9, nested)), [8, 0, 9, 9]);
    }

    #[test]
    fn parts_grow_towards_the_wanted_size_and_shrink_below_it() {
        assert_eq!(more_keys(8, 8, 800, 1 << 20), 64);
        assert_eq!(more_keys(4096, 4096, 4096 * 100, 1 << 20), 10_000);
        assert_eq!(more_keys(64, 64, 64 << 20, 1 << 20), 1);
        assert_eq!(more_keys(64, 0, 0, 1 << 20), 64);
    }
}
