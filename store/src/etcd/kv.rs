//! etcd's KV service: range, put, delete, transaction, compaction, and a range as a stream.

use bytes::Bytes;
use futures::StreamExt;
use kv::{
    Answer, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeParts,
    RangeRequest, RangeResponse, Request as Operation, RequestOp, ResponseBody, ResponseOp, Store,
    StoreError, TxnRequest, TxnResponse,
};

use super::errors::Fault;
use super::headed::{Headed, Header};
use super::message::{
    CompactionRequest, Empty, Preencoded, RangeStreamPart, TxnBody, TxnOp, TxnOpBody,
};
use super::rpc::{Answers, Call};
use super::sized::SizedAnswer;

pub(super) async fn range(call: Call, request: RangeRequest) -> Result<SizedAnswer, Fault> {
    check_learner(&call, &request)?;
    let answer = parts_of(&call, request, call.front.options.part_bytes).await?;
    let header = call.front.header(answer.revision);
    Ok(SizedAnswer::of_range(&header, answer.body))
}

/// A large range keeps one of its client's places until it is sent or given up.
async fn parts_of(
    call: &Call,
    request: RangeRequest,
    part_bytes: usize,
) -> Result<Answer<RangeParts>, StoreError> {
    let place = match call.front.backend.is_large(&request, part_bytes) {
        true => Some(call.client.wait_for_large_range().await?),
        false => None,
    };
    let mut answer = call.front.backend.range_parts(request, part_bytes).await?;
    if let Some(place) = place {
        let parts = answer.body.parts.map(move |part| {
            let _kept = &place;
            part
        });
        answer.body.parts = Box::pin(parts);
    }
    Ok(answer)
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

/// A range in parts of at most the size of a request, all of one moment; merged they are the answer that `Range` gives.
pub(super) async fn range_stream(
    call: Call,
    request: RangeRequest,
) -> Result<Answers<RangeStreamPart>, Fault> {
    if !request.is_in_key_order() || request.has_filter() {
        return Err(Fault::Unimplemented(
            "etcdserver: a stream is in key order and without filters".into(),
        ));
    }
    check_learner(&call, &request)?;
    let options = &call.front.options;
    let most = call.front.backend.request_bytes_max();
    let part_bytes = options.stream_part_bytes.min(most);
    let answer = parts_of(&call, request, part_bytes).await?;
    let parts = Parts {
        header: call.front.header(answer.revision),
        first: true,
        left: answer.body.bytes,
        range: answer.body,
    };
    Ok(Box::pin(futures::stream::unfold(
        Some(parts),
        |parts| async {
            let mut parts = parts?;
            Some(match parts.part().await {
                Ok((part, true)) => (Ok(part), None),
                Ok((part, false)) => (Ok(part), Some(parts)),
                Err(error) => (Err(error.into()), None),
            })
        },
    )))
}

/// How far a streamed range has got.
struct Parts {
    header: Header,
    range: RangeParts,
    first: bool,
    /// Bytes that are still to come.
    left: u64,
}

impl Parts {
    /// The next part, and whether it is the last. The first and the last have a header, the last has the rest.
    async fn part(&mut self) -> Result<(RangeStreamPart, bool), StoreError> {
        let kvs = match self.range.parts.next().await {
            Some(part) => part?,
            None => Bytes::new(),
        };
        self.left = self.left.saturating_sub(kvs.len() as u64);
        let last = self.left == 0 || kvs.is_empty();
        let header = match self.first || last {
            true => self.header.clone(),
            false => Header::default(),
        };
        self.first = false;
        let body = Preencoded {
            body: RangeResponse {
                kvs: Vec::new(),
                more: last && self.range.more,
                count: if last { self.range.count } else { 0 },
            },
            encoded: kvs,
        };
        let range_response = Some(Headed { header, body });
        Ok((RangeStreamPart { range_response }, last))
    }
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
}
