//! Hashes of all keys: one revision, with the same compacted before, is one hash on whatever member and at whatever time.

use super::{shape, violation, words};
use crate::recording::{Operation, Recording, Request, Response, Violation};
use std::collections::BTreeMap;

/// The violations of this family.
pub(super) fn judge(recording: &Recording) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut first: BTreeMap<(i64, i64), (u32, &Operation)> = BTreeMap::new();
    for operation in &recording.operations {
        let Some(Response::Hash {
            hash,
            revision,
            compacted,
        }) = shape::response(operation)
        else {
            continue;
        };
        found.extend(of_another(operation, *revision));
        let (known, other) = first
            .entry((*revision, *compacted))
            .or_insert((*hash, operation));
        if known != hash {
            found.push(differ(other, operation, *revision, *compacted));
        }
    }
    found
}

/// The hash of a revision that was not asked for, or is still to come by what the answer itself says.
fn of_another(operation: &Operation, revision: i64) -> Option<Violation> {
    let Request::HashKv { revision: asked } = operation.request else {
        return None;
    };
    let newest = shape::revision(operation).unwrap_or(i64::MAX);
    let is_asked_for = asked == 0 || asked == revision;
    if is_asked_for && revision <= newest {
        return None;
    }
    let story = format!(
        "{} was answered with the hash of revision {revision}. The member was at revision {newest}.",
        words::operation(operation)
    );
    Some(violation("wrong answer", story, &[operation.id], &[]))
}

fn differ(one: &Operation, other: &Operation, revision: i64, compacted: i64) -> Violation {
    let story = format!(
        "{} by member {} and {} by member {} are of the same revision {revision}, compacted at {compacted}. The hashes are not the same.",
        words::operation(one),
        one.member,
        words::operation(other),
        other.member
    );
    violation("members differ", story, &[one.id, other.id], &[])
}
