//! Locks and elections: one line for each name, and who is the first in it has the lock, or is elected.
//!
//! The first is the one whose key is the oldest, so who comes later to be the first has a younger key. Times are no proof,
//! for an owner whose lease has ended may not know of it; revisions are: at one revision there is one owner, and the key
//! of the owner is there.

use super::timeline::Timeline;
use super::{shape, violation, words};
use crate::recording::{Operation, Request, Response, Violation, place_key};
use std::collections::BTreeMap;

/// Somebody was the first in a line.
struct Owner<'a> {
    revision: i64,
    key: String,
    /// When its key was created; nothing where that is not known.
    created: Option<i64>,
    operation: &'a Operation,
}

/// The violations of this family.
pub(super) fn judge(timeline: &Timeline) -> Vec<Violation> {
    let mut found = Vec::new();
    for owners in owners(timeline).values() {
        for owner in owners {
            found.extend(gone(timeline, owner));
        }
        for two in owners.windows(2) {
            found.extend(both(timeline, &two[0], &two[1]));
        }
    }
    found
}

/// Who was the first in each line, by revision.
fn owners<'a>(timeline: &Timeline<'a>) -> BTreeMap<&'a str, Vec<Owner<'a>>> {
    let mut all: BTreeMap<&str, Vec<Owner>> = BTreeMap::new();
    for operation in &timeline.recording.operations {
        let (Some(revision), Some(response)) =
            (shape::revision(operation), shape::response(operation))
        else {
            continue;
        };
        let (name, key, created) = match (&operation.request, response) {
            (
                Request::Lock { name, .. } | Request::Campaign { name, .. },
                Response::Held { key, created },
            ) => (name, key, Some(*created).filter(|created| *created > 0)),
            (Request::Leader { name }, Response::Range(leader)) => match leader.pairs.as_slice() {
                [pair] => (name, &pair.key, Some(pair.created)),
                _ => continue,
            },
            _ => continue,
        };
        let as_known = || {
            timeline
                .model
                .pair_at(key, revision)
                .map(|pair| pair.created)
        };
        all.entry(name).or_default().push(Owner {
            revision,
            key: key.clone(),
            created: created.or_else(as_known),
            operation,
        });
    }
    for owners in all.values_mut() {
        owners.sort_by_key(|owner| owner.revision);
    }
    all
}

/// An owner whose key was not there.
fn gone(timeline: &Timeline, owner: &Owner) -> Option<Violation> {
    let who = words::operation(owner.operation);
    let revision = owner.revision;
    if let Request::Lock { lease, .. } | Request::Campaign { lease, .. } = owner.operation.request
        && let Some(lease) = timeline.leases.get(&lease)
        && lease.grants.len() <= 1
    {
        let before = |revoke: &&&Operation| shape::revision(revoke) <= Some(revision);
        let done = lease
            .revoked
            .iter()
            .filter(|o| shape::revision(o).is_some());
        if let Some(revoke) = done.clone().find(before) {
            let story = format!(
                "{who} succeeded at revision {revision}. {} had ended its lease by then.",
                words::operation(revoke)
            );
            let ids = [owner.operation.id, revoke.id];
            return Some(violation("lock: lease was over", story, &ids, &[]));
        }
    }
    let known = timeline.model.pair_at(&owner.key, revision);
    let same = known.is_some_and(|pair| owner.created.is_none_or(|is| is == pair.created));
    if same || !is_watched(timeline, &owner.key, 2, revision) {
        return None;
    }
    let story = format!(
        "{who} says that {} is the first at revision {revision}. Then that key was not there.",
        words::name(&owner.key)
    );
    Some(violation(
        "lock: lease was over",
        story,
        &[owner.operation.id],
        &[],
    ))
}

/// What cannot be true of two owners, the second one at the same revision as the first or later.
fn both(timeline: &Timeline, first: &Owner, second: &Owner) -> Option<Violation> {
    let ids = [first.operation.id, second.operation.id];
    let tell = |rule: &str, because: String| {
        let story = format!(
            "{} was first with {} at revision {}, and {} with {} at revision {}. {because}",
            words::operation(first.operation),
            words::name(&first.key),
            first.revision,
            words::operation(second.operation),
            words::name(&second.key),
            second.revision,
        );
        Some(violation(rule, story, &ids, &[]))
    };
    let same = first.key == second.key && first.created == second.created;
    if first.revision == second.revision && !same {
        return tell("lock: two owners", "There is one at a time.".into());
    }
    if let (Some(before), Some(after)) = (first.created, second.created)
        && after < before
    {
        let because = format!(
            "The later one has stood in line from {after} on, and the other from {before} on."
        );
        return tell("lock: back in time", because);
    }
    let still = timeline.model.pair_at(&first.key, second.revision);
    let since = still
        .map(|pair| pair.created)
        .filter(|since| first.created == Some(*since));
    if let Some(since) = since.filter(|_| !same)
        && is_watched(timeline, &first.key, since, second.revision)
    {
        let because = format!(
            "The key of the first one was still there at revision {}.",
            second.revision
        );
        return tell("lock: two owners", because);
    }
    let by = second.operation.returned?;
    if same || released(timeline, first, by) {
        return None;
    }
    let (renewal, _) = timeline.leases.get(&lease_of(first)?)?.lives_at(by)?;
    let because = format!(
        "The lease of the first one had not ended, after {}.",
        words::operation(renewal)
    );
    tell("lock: two owners", because)
}

fn lease_of(owner: &Owner) -> Option<i64> {
    match owner.operation.request {
        Request::Lock { lease, .. } | Request::Campaign { lease, .. } => Some(lease),
        _ => None,
    }
}

/// Whether somebody may have taken the key of an owner out of the line by then.
fn released(timeline: &Timeline, owner: &Owner, by: u64) -> bool {
    let mut operations = timeline.recording.operations.iter();
    operations.any(|operation| {
        let leaves = match &operation.request {
            Request::Unlock { key } | Request::Resign { key, .. } => *key == owner.key,
            // Who waits and is gone is taken out of the line.
            Request::Lock { name, lease } | Request::Campaign { name, lease, .. } => {
                shape::response(operation).is_none() && place_key(name, *lease) == owner.key
            }
            request => shape::touches(&shape::may_write(request), &owner.key),
        };
        leaves && operation.called < by
    })
}

/// Whether watches have shown all that happened to the key from one revision to another.
fn is_watched(timeline: &Timeline, key: &str, from: i64, to: i64) -> bool {
    let mut next = from;
    while next <= to {
        let spans = timeline.spans.iter();
        let here = spans.filter(|span| span.shows(key, true, next) && span.shows(key, false, next));
        match here.map(|span| span.to).max() {
            Some(last) => next = last + 1,
            None => return false,
        }
    }
    true
}
