//! What an operation is, apart from what became of it: which keys it touches, whether it has written, what it shows.

use crate::model::{self, contains};
use crate::recording::{
    Found, Operand, Operation, Outcome, Pair, Range, Request, Response, Step, Txn, place_key,
};

/// The revision in the header of an answer.
pub(super) fn revision(operation: &Operation) -> Option<i64> {
    match &operation.outcome {
        Outcome::Ok { revision, .. } => Some(*revision),
        _ => None,
    }
}

/// The answer to an answered operation.
pub(super) fn response(operation: &Operation) -> Option<&Response> {
    match &operation.outcome {
        Outcome::Ok { response, .. } => Some(response),
        _ => None,
    }
}

pub(super) fn is_unknown(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Unknown { .. })
}

/// The revision that an answered operation says it has made; a revocation does not say whether it has.
pub(super) fn written(operation: &Operation) -> Option<i64> {
    let wrote = response(operation).is_some_and(has_written);
    revision(operation).filter(|_| wrote)
}

fn has_written(response: &Response) -> bool {
    match response {
        Response::Put { .. } => true,
        Response::Delete { deleted, .. } => *deleted > 0,
        Response::Txn { steps, .. } => steps.iter().any(has_written),
        Response::Range(_) | Response::Lease { .. } | Response::Compacted => false,
        Response::Held { .. } | Response::Done | Response::Hash { .. } => false,
    }
}

/// The request as the model takes it, where it is about keys.
pub(super) fn as_txn(request: &Request) -> Option<model::Txn> {
    let step = match request {
        Request::Range(range) => model::Step::Range(range.into()),
        Request::Put(put) => model::Step::Put(put.into()),
        Request::Delete(delete) => model::Step::Delete(delete.clone()),
        Request::Txn(txn) => return Some(txn.into()),
        _ => return None,
    };
    Some(model::Txn {
        then: vec![step],
        ..model::Txn::default()
    })
}

/// The model's answer in the form of the request.
pub(super) fn as_response(request: &Request, answered: model::Answered) -> Option<Response> {
    match request {
        Request::Txn(_) => Some(Response::Txn {
            succeeded: answered.succeeded,
            steps: answered.steps,
        }),
        _ => answered.steps.into_iter().next(),
    }
}

/// A transaction that does what was answered, whatever its comparisons say now.
pub(super) fn as_answered(request: &Request, response: &Response) -> Option<model::Txn> {
    let mut txn = as_txn(request)?;
    if let Response::Txn { succeeded, steps } = response {
        choose(&mut txn, *succeeded, steps);
    }
    Some(txn)
}

fn choose(txn: &mut model::Txn, succeeded: bool, answers: &[Response]) {
    txn.compares.clear();
    if !succeeded {
        txn.then = std::mem::take(&mut txn.otherwise);
    }
    txn.otherwise.clear();
    for (step, answer) in txn.then.iter_mut().zip(answers) {
        if let (model::Step::Txn(nested), Response::Txn { succeeded, steps }) = (step, answer) {
            choose(nested, *succeeded, steps);
        }
    }
}

/// Whether the answer has to be of the newest state.
pub(super) fn is_linearizable(operation: &Operation) -> bool {
    match &operation.request {
        Request::Range(range) => !range.serializable,
        Request::Txn(txn) => !is_serializable(txn),
        // The header of a renewal is the renewing member's own, and may be of before.
        Request::KeepAlive { .. } => false,
        // What the member has of it.
        Request::HashKv { .. } => false,
        _ => true,
    }
}

/// A transaction of nothing but serializable reads.
fn is_serializable(txn: &Txn) -> bool {
    let mut steps = txn.then.iter().chain(&txn.otherwise).peekable();
    steps.peek().is_some()
        && steps.all(|step| matches!(step, Step::Range(range) if range.serializable))
}

/// The key of the place in a line that the operation may write.
pub(super) fn line_key(request: &Request) -> Option<String> {
    match request {
        Request::Lock { name, lease } | Request::Campaign { name, lease, .. } => {
            Some(place_key(name, *lease))
        }
        Request::Proclaim { key, .. } => Some(key.clone()),
        _ => None,
    }
}

/// The key of the place in a line that is left by this.
pub(super) fn leaves(request: &Request) -> Option<&str> {
    match request {
        Request::Unlock { key } | Request::Resign { key, .. } => Some(key),
        _ => None,
    }
}

/// The lease that the place in a line is of.
pub(super) fn line_lease(request: &Request) -> Option<i64> {
    match request {
        Request::Lock { lease, .. } | Request::Campaign { lease, .. } => Some(*lease),
        _ => None,
    }
}

/// Whether who asks for this may have put the value, or have left the line again.
pub(super) fn may_stand(request: &Request, left: bool, value: &str) -> bool {
    match request {
        Request::Lock { .. } => left || value.is_empty(),
        Request::Campaign { value: own, .. } => left || own == value,
        Request::Proclaim { value: own, .. } => !left && own == value,
        _ => false,
    }
}

/// What takes the place of a lock or a campaign out of its line.
pub(super) fn leaving_line(request: &Request) -> Option<model::Txn> {
    let delete = model::Delete {
        key: line_key(request)?,
        ..model::Delete::default()
    };
    Some(model::Txn {
        then: vec![model::Step::Delete(delete)],
        ..model::Txn::default()
    })
}

/// Leases that the operation gives keys to.
pub(super) fn leases(request: &Request) -> Vec<i64> {
    let mut found = Vec::new();
    match request {
        Request::Put(put) => found.push(put.lease),
        Request::Txn(txn) => each_step(txn, &mut |step| {
            if let Step::Put(put) = step {
                found.push(put.lease);
            }
        }),
        _ => {}
    }
    found.retain(|lease| *lease != 0);
    found
}

/// All steps of all branches and levels but the nested transactions themselves.
pub(super) fn each_step<'a>(txn: &'a Txn, visit: &mut dyn FnMut(&'a Step)) {
    for step in txn.then.iter().chain(&txn.otherwise) {
        match step {
            Step::Txn(nested) => each_step(nested, visit),
            step => visit(step),
        }
    }
}

/// Ranges of keys that the operation may change: (key, end).
pub(super) fn may_write(request: &Request) -> Vec<(&str, &str)> {
    let mut ranges = Vec::new();
    match request {
        Request::Put(put) => ranges.push((put.key.as_str(), "")),
        Request::Delete(delete) => ranges.push((delete.key.as_str(), delete.end.as_str())),
        Request::Txn(txn) => each_step(txn, &mut |step| match step {
            Step::Put(put) => ranges.push((put.key.as_str(), "")),
            Step::Delete(delete) => ranges.push((delete.key.as_str(), delete.end.as_str())),
            Step::Range(_) | Step::Txn(_) => {}
        }),
        _ => {}
    }
    ranges
}

/// Ranges of keys that the operation may delete: (key, end).
pub(super) fn may_delete(request: &Request) -> Vec<(&str, &str)> {
    let mut ranges = Vec::new();
    match request {
        Request::Delete(delete) => ranges.push((delete.key.as_str(), delete.end.as_str())),
        Request::Txn(txn) => each_step(txn, &mut |step| {
            if let Step::Delete(delete) = step {
                ranges.push((delete.key.as_str(), delete.end.as_str()));
            }
        }),
        Request::Unlock { key } | Request::Resign { key, .. } => ranges.push((key, "")),
        _ => {}
    }
    ranges
}

/// Keys that the operation may give a lease.
pub(super) fn may_lease(request: &Request) -> Vec<&str> {
    let mut keys = Vec::new();
    match request {
        Request::Put(put) if put.lease != 0 => keys.push(put.key.as_str()),
        Request::Txn(txn) => each_step(txn, &mut |step| match step {
            Step::Put(put) if put.lease != 0 => keys.push(&put.key),
            _ => {}
        }),
        _ => {}
    }
    keys
}

/// Puts that the operation may make: (key, value).
pub(super) fn may_put(request: &Request) -> Vec<(&str, &str)> {
    let mut puts = Vec::new();
    match request {
        Request::Put(put) => puts.push((put.key.as_str(), put.value.as_str())),
        Request::Txn(txn) => each_step(txn, &mut |step| {
            if let Step::Put(put) = step {
                puts.push((put.key.as_str(), put.value.as_str()));
            }
        }),
        _ => {}
    }
    puts
}

/// Ranges of keys on which the answer depends: (key, end).
pub(super) fn depends_on(request: &Request) -> Vec<(&str, &str)> {
    fn compares<'a>(txn: &'a Txn, ranges: &mut Vec<(&'a str, &'a str)>) {
        ranges.extend(txn.compares.iter().map(|c| (c.key.as_str(), "")));
        for step in txn.then.iter().chain(&txn.otherwise) {
            if let Step::Txn(nested) = step {
                compares(nested, ranges);
            }
        }
    }
    let mut ranges = may_write(request);
    match request {
        Request::Range(range) => ranges.push((range.key.as_str(), range.end.as_str())),
        Request::Txn(txn) => {
            compares(txn, &mut ranges);
            each_step(txn, &mut |step| {
                if let Step::Range(range) = step {
                    ranges.push((range.key.as_str(), range.end.as_str()));
                }
            });
        }
        _ => {}
    }
    ranges
}

/// Revisions with which the operation compares.
pub(super) fn named_revisions(operation: &Operation) -> Vec<i64> {
    fn compares(txn: &Txn, found: &mut Vec<i64>) {
        found.extend(txn.compares.iter().filter_map(|c| match c.operand {
            Operand::ModRevision(revision) | Operand::CreateRevision(revision) => Some(revision),
            _ => None,
        }));
        for step in txn.then.iter().chain(&txn.otherwise) {
            if let Step::Txn(nested) = step {
                compares(nested, found);
            }
        }
    }
    let mut found = Vec::new();
    if let Request::Txn(txn) = &operation.request {
        compares(txn, &mut found);
    }
    found
}

/// Whether one of the ranges has the key.
pub(super) fn touches(ranges: &[(&str, &str)], wanted: &str) -> bool {
    ranges.iter().any(|(key, end)| contains(key, end, wanted))
}

/// Every pair that an answer shows, and whether it shows the value too.
pub(super) fn each_pair<'a>(operation: &'a Operation, visit: &mut dyn FnMut(&'a Pair, bool)) {
    match (&operation.request, response(operation)) {
        (Request::Range(range), Some(Response::Range(found))) => pairs(range, found, visit),
        (Request::Txn(txn), Some(Response::Txn { succeeded, steps })) => {
            branch_pairs(txn, *succeeded, steps, visit);
        }
        (_, Some(response)) => previous(response, visit),
        (_, None) => {}
    }
}

fn branch_pairs<'a>(
    txn: &'a Txn,
    succeeded: bool,
    answers: &'a [Response],
    visit: &mut dyn FnMut(&'a Pair, bool),
) {
    let steps = if succeeded { &txn.then } else { &txn.otherwise };
    for (step, answer) in steps.iter().zip(answers) {
        match (step, answer) {
            (Step::Range(range), Response::Range(found)) => pairs(range, found, visit),
            (Step::Txn(nested), Response::Txn { succeeded, steps }) => {
                branch_pairs(nested, *succeeded, steps, visit);
            }
            (_, answer) => previous(answer, visit),
        }
    }
}

/// Whether a transaction counts keys of the past without saying which.
pub(super) fn counts_past(operation: &Operation) -> bool {
    let mut found = false;
    if let Request::Txn(txn) = &operation.request {
        each_step(txn, &mut |step| {
            if let Step::Range(range) = step {
                let partly = range.count_only || range.limit > 0 || range.is_filtered();
                found |= range.revision > 0 && partly;
            }
        });
    }
    found
}

/// What transactions have read of revisions of the past, where they say of which keys.
pub(super) fn each_past<'a>(operation: &'a Operation, visit: &mut dyn FnMut(&'a Range, &'a Found)) {
    fn branch<'a>(
        txn: &'a Txn,
        succeeded: bool,
        answers: &'a [Response],
        visit: &mut dyn FnMut(&'a Range, &'a Found),
    ) {
        let steps = if succeeded { &txn.then } else { &txn.otherwise };
        for (step, answer) in steps.iter().zip(answers) {
            match (step, answer) {
                (Step::Range(range), Response::Range(found))
                    if range.revision > 0 && !range.count_only =>
                {
                    visit(range, found);
                }
                (Step::Txn(nested), Response::Txn { succeeded, steps }) => {
                    branch(nested, *succeeded, steps, visit);
                }
                _ => {}
            }
        }
    }
    if let (Request::Txn(txn), Some(Response::Txn { succeeded, steps })) =
        (&operation.request, response(operation))
    {
        branch(txn, *succeeded, steps, visit);
    }
}

fn pairs<'a>(range: &Range, found: &'a Found, visit: &mut dyn FnMut(&'a Pair, bool)) {
    found
        .pairs
        .iter()
        .for_each(|pair| visit(pair, !range.keys_only));
}

fn previous<'a>(response: &'a Response, visit: &mut dyn FnMut(&'a Pair, bool)) {
    match response {
        Response::Put { prev: Some(pair) } => visit(pair, true),
        Response::Delete { prev, .. } => prev.iter().for_each(|pair| visit(pair, true)),
        _ => {}
    }
}
