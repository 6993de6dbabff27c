//! Transactions: checks, compares, and operations that see each other's effects, all in one revision.
//!
//! As in etcd everything that can be refused is found before the first operation runs: shape and overlaps from the
//! request alone, then, on the path that the compares choose, revisions, leases and keys that must exist. All
//! compares, nested ones too, see the state before the transaction.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::catalog::Catalog;
use crate::command::Refusal;
use crate::key_set::KeySet;
use crate::keys::KeyRange;
use crate::message::{
    Compare, CompareOperand, CompareResult, CompareTarget, DeleteRangeRequest, DeleteRangeResponse,
    KeyValue, PutRequest, PutResponse, Request, RequestOp, ResponseBody, ResponseOp, TxnRequest,
    TxnResponse,
};
use crate::mutants::{Bug, planted};
use crate::range::{self, RangePlan};
use crate::view::{Broken, Data, Staged, View};

/// Most compares, or operations of one branch, in one transaction; nested ones get what their parents leave.
pub const TXN_OPS_MAX: usize = 128;

/// Refuses what is wrong in itself, whatever the state is.
pub fn check_txn(request: &TxnRequest) -> Result<(), Refusal> {
    check_shape(request, TXN_OPS_MAX)?;
    check_branch(&request.success)?;
    check_branch(&request.failure)
}

/// One operation alone has none that it could contradict: most branches have no more.
fn check_branch(ops: &[RequestOp]) -> Result<(), Refusal> {
    match ops {
        [] => Ok(()),
        [op] if !matches!(op.request, Some(Request::Txn(_))) => Ok(()),
        ops => Branch::of(ops).map(drop),
    }
}

/// True where no branch can write: such a transaction is a read and needs no log entry.
pub fn is_read_only(request: &TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| match &op.request {
            Some(Request::Range(_)) | None => true,
            Some(Request::Txn(nested)) => is_read_only(nested),
            Some(Request::Put(_) | Request::DeleteRange(_)) => false,
        })
}

/// True where every operation is a range that is content with what this member has, as in etcd.
pub fn is_serializable(request: &TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure);
    ops.all(|op| matches!(&op.request, Some(Request::Range(range)) if range.serializable))
}

/// Bytes of what a transaction reads at most, roughly: what its compares look at, and the larger of its answers. All of
/// it is read in one go, on every member if it writes, and the answer is held.
pub fn bytes_read(catalog: &Catalog, request: &TxnRequest) -> u64 {
    let compares = request.compare.iter().map(|compare| {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        catalog.weigh(&range, None).whole
    });
    let branch = |ops: &[RequestOp]| ops.iter().map(|op| op_bytes(catalog, op)).sum();
    let larger = u64::max(branch(&request.success), branch(&request.failure));
    compares.sum::<u64>().saturating_add(larger)
}

fn op_bytes(catalog: &Catalog, op: &RequestOp) -> u64 {
    let whole = |key, range_end| catalog.weigh(&KeyRange::new(key, range_end), None).whole;
    match &op.request {
        Some(Request::Range(request)) if request.count_only => 0,
        Some(Request::Range(request)) => {
            let range = KeyRange::new(&request.key, &request.range_end);
            catalog.weigh(&range, request.read_at_most()).whole
        }
        Some(Request::DeleteRange(request)) if request.prev_kv => {
            whole(&request.key, &request.range_end)
        }
        Some(Request::Put(request)) if request.prev_kv => whole(&request.key, &Bytes::new()),
        Some(Request::Txn(request)) => bytes_read(catalog, request),
        Some(Request::DeleteRange(_) | Request::Put(_)) | None => 0,
    }
}

/// Whether a transaction can read much: ranges of keys, or many keys.
pub fn reads_many(request: &TxnRequest) -> bool {
    reads(request) > FEW_READS
}

/// Single keys that a transaction may read without further ado.
const FEW_READS: usize = 32;

fn reads(request: &TxnRequest) -> usize {
    let of = |range_end: &Bytes| {
        if range_end.is_empty() {
            1
        } else {
            FEW_READS + 1
        }
    };
    let compares = request.compare.iter().map(|compare| of(&compare.range_end));
    let ops = request.success.iter().chain(&request.failure);
    let ops = ops.map(|op| match &op.request {
        Some(Request::Range(request)) => of(&request.range_end),
        Some(Request::DeleteRange(request)) if request.prev_kv => of(&request.range_end),
        Some(Request::Put(request)) if request.prev_kv => 1,
        Some(Request::Txn(request)) => reads(request),
        Some(Request::DeleteRange(_) | Request::Put(_)) | None => 0,
    });
    compares.chain(ops).sum()
}

/// A transaction that cannot write, like [`range::RangePlan`] in two halves: the first needs the catalog, and finds out
/// which ranges there are to read.
pub struct ReadPlan {
    succeeded: bool,
    ops: Vec<ReadOp>,
}

enum ReadOp {
    Range(RangePlan),
    Txn(ReadPlan),
}

impl ReadPlan {
    /// # Errors
    /// Where the data cannot be read. Inside of it is what the client can get wrong.
    pub fn new(view: &dyn View, request: &TxnRequest) -> Result<Result<ReadPlan, Refusal>, Broken> {
        if let Err(refusal) = check_txn(request) {
            return Ok(Err(refusal));
        }
        let path = choose(view, request)?;
        Ok(ReadPlan::of(view, request, &path))
    }

    fn of(view: &dyn View, request: &TxnRequest, path: &Path) -> Result<ReadPlan, Refusal> {
        let mut nested = path.nested.iter();
        let mut ops = Vec::new();
        for op in branch(request, path.succeeded) {
            match &op.request {
                Some(Request::Range(request)) => {
                    ops.push(ReadOp::Range(RangePlan::new(view, request)?));
                }
                Some(Request::Txn(request)) => {
                    if let Some(path) = nested.next() {
                        ops.push(ReadOp::Txn(ReadPlan::of(view, request, path)?));
                    }
                }
                Some(Request::Put(_) | Request::DeleteRange(_)) | None => {}
            }
        }
        Ok(ReadPlan {
            succeeded: path.succeeded,
            ops,
        })
    }

    /// `data` must be of the moment at which the plan was made.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn run<D: Data + ?Sized>(&self, data: &D) -> Result<TxnResponse, Broken> {
        let mut responses = Vec::new();
        for op in &self.ops {
            let body = match op {
                ReadOp::Range(plan) => ResponseBody::Range(plan.run(data)?),
                ReadOp::Txn(plan) => ResponseBody::Txn(plan.run(data)?),
            };
            responses.push(ResponseOp {
                response: Some(body),
            });
        }
        Ok(TxnResponse {
            succeeded: self.succeeded,
            responses,
        })
    }
}

/// Runs a transaction and closes its revision.
pub(crate) fn apply(
    staged: &mut Staged<'_>,
    request: &TxnRequest,
) -> Result<Result<TxnResponse, Refusal>, Broken> {
    if let Err(refusal) = check_txn(request) {
        return Ok(Err(refusal));
    }
    let path = choose(staged, request)?;
    if let Err(refusal) = check_state(staged, request, &path)? {
        return Ok(Err(refusal));
    }
    let response = run(staged, request, &path)?;
    staged.seal();
    Ok(Ok(response))
}

fn check_shape(request: &TxnRequest, ops_max: usize) -> Result<(), Refusal> {
    let ops = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let Some(left) = ops_max.checked_sub(ops) else {
        return Err(Refusal::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Refusal::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::Range(range)) => range::check_range(range)?,
            Some(Request::Put(put)) => check_put(put)?,
            Some(Request::DeleteRange(delete)) if delete.key.is_empty() => {
                return Err(Refusal::EmptyKey);
            }
            Some(Request::DeleteRange(_)) => {}
            Some(Request::Txn(nested)) => check_shape(nested, left)?,
            // An operation of a kind that this version does not know: etcd answers the same.
            None => return Err(Refusal::KeyNotFound),
        }
    }
    Ok(())
}

fn check_put(put: &PutRequest) -> Result<(), Refusal> {
    if put.key.is_empty() {
        Err(Refusal::EmptyKey)
    } else if put.ignore_value && !put.value.is_empty() {
        Err(Refusal::ValueProvided)
    } else if put.ignore_lease && put.lease != 0 {
        Err(Refusal::LeaseProvided)
    } else {
        Ok(())
    }
}

/// What one branch may write: no key twice, and none that the branch also deletes. To etcd that does not hold of
/// deletions of all from a key on: they go before or after a put as they stand.
#[derive(Default)]
struct Branch {
    puts: BTreeSet<Bytes>,
    /// Those of them that keep a value or a lease, so that the key has to be there.
    keeping: BTreeSet<Bytes>,
    deletes: KeySet,
    /// From here on everything is deleted.
    rest: Option<Bytes>,
}

impl Branch {
    fn of(ops: &[RequestOp]) -> Result<Branch, Refusal> {
        let mut branch = Branch::default();
        for op in ops {
            if let Some(Request::DeleteRange(delete)) = &op.request {
                match KeyRange::new(&delete.key, &delete.range_end) {
                    KeyRange::From(start) => branch.delete_rest(start),
                    range => branch.deletes.insert(&range),
                }
            }
        }
        for op in ops {
            if let Some(Request::Txn(nested)) = &op.request {
                // Only one of the two branches will run, so both may put the same key.
                let mut either = Branch::of(&nested.success)?;
                let other = Branch::of(&nested.failure)?;
                either.puts.extend(other.puts);
                either.keeping.extend(other.keeping);
                either.deletes.extend(other.deletes);
                for key in either.puts {
                    let keeps = either.keeping.contains(&key);
                    branch.add_put(key, keeps)?;
                }
                branch.deletes.extend(either.deletes);
                let rests = [either.rest, other.rest];
                rests
                    .into_iter()
                    .flatten()
                    .for_each(|start| branch.delete_rest(start));
            }
        }
        for op in ops {
            if let Some(Request::Put(put)) = &op.request {
                branch.add_put(put.key.clone(), put.ignore_value || put.ignore_lease)?;
            }
        }
        Ok(branch)
    }

    fn delete_rest(&mut self, start: Bytes) {
        let least = self
            .rest
            .take()
            .map_or(start.clone(), |known| known.min(start));
        self.rest = Some(least);
    }

    fn add_put(&mut self, key: Bytes, keeps: bool) -> Result<(), Refusal> {
        // What is kept must not be gone by then. Here etcd would go on, and come to a panic.
        let is_gone = keeps && self.rest.as_ref().is_some_and(|start| *start <= key);
        if keeps {
            self.keeping.insert(key.clone());
        }
        if is_gone || self.deletes.contains(&key) || !self.puts.insert(key) {
            return Err(Refusal::DuplicateKey);
        }
        Ok(())
    }
}

/// Which branch runs, here and in each nested transaction of it, in order.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

fn branch(request: &TxnRequest, succeeded: bool) -> &[RequestOp] {
    if succeeded {
        &request.success
    } else {
        &request.failure
    }
}

fn choose(view: &dyn View, request: &TxnRequest) -> Result<Path, Broken> {
    let mut succeeded = true;
    for compare in &request.compare {
        if !holds(view, compare)? {
            succeeded = false;
            break;
        }
    }
    let mut nested = Vec::new();
    for op in branch(request, succeeded) {
        if let Some(Request::Txn(request)) = &op.request {
            nested.push(choose(view, request)?);
        }
    }
    Ok(Path { succeeded, nested })
}

fn holds(view: &dyn View, compare: &Compare) -> Result<bool, Broken> {
    if compare.range_end.is_empty() {
        let kv = match expects_a_key(compare) {
            true => view.get_expected(&compare.key)?,
            false => view.get(&compare.key)?,
        };
        return Ok(holds_for(compare, kv.as_ref()));
    }
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let (mut all, mut any) = (true, false);
    view.scan(&range, &mut |kv| {
        any = true;
        all = holds_for(compare, Some(&kv));
        if all {
            std::ops::ControlFlow::Continue(())
        } else {
            std::ops::ControlFlow::Break(())
        }
    })?;
    // An empty range compares like a key that is not there.
    Ok(if any { all } else { holds_for(compare, None) })
}

/// Whether the compare names something that only a key has that is there. Most writes name the revision that they change.
fn expects_a_key(compare: &Compare) -> bool {
    match &compare.operand {
        Some(
            CompareOperand::Version(number)
            | CompareOperand::CreateRevision(number)
            | CompareOperand::ModRevision(number),
        ) => *number != 0,
        Some(CompareOperand::Value(_)) => true,
        Some(CompareOperand::Lease(_)) | None => false,
    }
}

/// A key that is not there has version, revisions and lease 0. It has no value: a compare of it never holds.
fn holds_for(compare: &Compare, kv: Option<&KeyValue>) -> bool {
    let number = |have: fn(&KeyValue) -> i64| kv.map_or(0, have);
    let wanted = |pick: fn(&CompareOperand) -> Option<i64>| {
        compare.operand.as_ref().and_then(pick).unwrap_or(0)
    };
    let order = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => {
            number(|kv| kv.version).cmp(&wanted(|operand| match operand {
                CompareOperand::Version(version) => Some(*version),
                _ => None,
            }))
        }
        Ok(CompareTarget::Create) => {
            number(|kv| kv.create_revision).cmp(&wanted(|operand| match operand {
                CompareOperand::CreateRevision(revision) => Some(*revision),
                _ => None,
            }))
        }
        Ok(CompareTarget::Mod) => {
            number(|kv| kv.mod_revision).cmp(&wanted(|operand| match operand {
                CompareOperand::ModRevision(revision) => Some(*revision),
                _ => None,
            }))
        }
        Ok(CompareTarget::Lease) => number(|kv| kv.lease).cmp(&wanted(|operand| match operand {
            CompareOperand::Lease(lease) => Some(*lease),
            _ => None,
        })),
        Ok(CompareTarget::Value) => {
            let Some(kv) = kv else { return false };
            match &compare.operand {
                Some(CompareOperand::Value(value)) => kv.value.cmp(value),
                _ => kv.value.as_ref().cmp(&[]),
            }
        }
        Err(_) => return false,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => false,
    }
}

/// Refuses, before anything is written, what the state does not allow on the chosen path.
fn check_state(
    view: &dyn View,
    request: &TxnRequest,
    path: &Path,
) -> Result<Result<(), Refusal>, Broken> {
    let mut nested = path.nested.iter();
    for op in branch(request, path.succeeded) {
        let checked = match &op.request {
            Some(Request::Range(_)) if planted(Bug::TxnReadsCompacted) => Ok(()),
            Some(Request::Range(range)) => range::check_revision(view, range.revision),
            Some(Request::Put(_)) if planted(Bug::PutUnderNoLease) => Ok(()),
            Some(Request::Put(put)) => {
                let needs_key = put.ignore_value || put.ignore_lease;
                if needs_key && view.get(&put.key)?.is_none() {
                    Err(Refusal::KeyNotFound)
                } else if put.lease != 0 && view.lease(put.lease).is_none() {
                    Err(Refusal::LeaseNotFound)
                } else {
                    Ok(())
                }
            }
            Some(Request::Txn(request)) => match nested.next() {
                Some(path) => check_state(view, request, path)?,
                None => Ok(()),
            },
            Some(Request::DeleteRange(_)) | None => Ok(()),
        };
        if checked.is_err() {
            return Ok(checked);
        }
    }
    Ok(Ok(()))
}

fn run(staged: &mut Staged<'_>, request: &TxnRequest, path: &Path) -> Result<TxnResponse, Broken> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::new();
    for op in branch(request, path.succeeded) {
        let body = match &op.request {
            Some(Request::Range(request)) => match range::range(staged, request)? {
                Ok(response) => ResponseBody::Range(response),
                Err(refusal) => {
                    return Err(Broken(format!("a checked range was refused: {refusal}")));
                }
            },
            Some(Request::Put(request)) => ResponseBody::Put(put(staged, request)?),
            Some(Request::DeleteRange(request)) => {
                ResponseBody::DeleteRange(delete_range(staged, request)?)
            }
            Some(Request::Txn(request)) => {
                let Some(path) = nested.next() else { continue };
                ResponseBody::Txn(run(staged, request, path)?)
            }
            None => continue,
        };
        responses.push(ResponseOp {
            response: Some(body),
        });
    }
    Ok(TxnResponse {
        succeeded: path.succeeded,
        responses,
    })
}

fn put(staged: &mut Staged<'_>, request: &PutRequest) -> Result<PutResponse, Broken> {
    let (mut value, mut lease) = (request.value.clone(), request.lease);
    if request.ignore_value || request.ignore_lease {
        let missing = || Broken("a key that was checked to exist is gone".into());
        let old = staged.get(&request.key)?.ok_or_else(missing)?;
        if request.ignore_value {
            value = old.value;
        }
        if request.ignore_lease {
            lease = old.lease;
        }
    }
    let prev = staged.put(&request.key, value, lease)?;
    Ok(PutResponse {
        prev_kv: prev.filter(|_| request.prev_kv),
    })
}

fn delete_range(
    staged: &mut Staged<'_>,
    request: &DeleteRangeRequest,
) -> Result<DeleteRangeResponse, Broken> {
    let range = KeyRange::new(&request.key, &request.range_end);
    let mut pairs = Vec::new();
    if let KeyRange::One(key) = &range {
        pairs.extend(staged.delete(key)?);
    } else {
        staged.scan(&range, &mut |kv| {
            pairs.push(kv);
            std::ops::ControlFlow::Continue(())
        })?;
        // Their events hold them anyway, so that to hold them until then takes no more memory.
        for kv in &pairs {
            staged.delete_read(kv.clone());
        }
    }
    let mut response = DeleteRangeResponse::default();
    for kv in pairs {
        response.deleted += 1;
        if request.prev_kv {
            response.prev_kvs.push(kv);
        }
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::RangeRequest;

    #[test]
    fn an_operation_alone_contradicts_nothing() {
        let key = Bytes::from_static(b"k");
        let put = PutRequest {
            key: key.clone(),
            ignore_value: true,
            ..PutRequest::default()
        };
        let rest = DeleteRangeRequest {
            key: key.clone(),
            range_end: Bytes::from_static(b"\0"),
            ..DeleteRangeRequest::default()
        };
        let range = RangeRequest {
            key,
            ..RangeRequest::default()
        };
        let requests = [
            Request::Put(put),
            Request::DeleteRange(rest),
            Request::Range(range),
        ];
        let op = |request: &Request| RequestOp {
            request: Some(request.clone()),
        };
        for request in &requests {
            let alone = [op(request)];
            assert_eq!(Branch::of(&alone).map(drop), Ok(()));
            assert_eq!(check_branch(&alone), Ok(()));
        }
        // Two are looked at, and so is one that has others in it.
        let twice = vec![op(&requests[0]), op(&requests[0])];
        assert_eq!(check_branch(&twice), Err(Refusal::DuplicateKey));
        let nested = Request::Txn(TxnRequest {
            success: twice,
            ..TxnRequest::default()
        });
        assert_eq!(check_branch(&[op(&nested)]), Err(Refusal::DuplicateKey));
    }
}
