//! Sets that only grow: no element is lost, none appears late, none comes from nowhere.
//!
//! A set is what is under keys that begin with `set/`. An element is a word of a value, together with its key; so both
//! a set in one value, that is read and swapped, and a set of one key for each element are judged. Nothing of revisions
//! is used, so that this stands beside the rest. What may have been deleted by then, or gone with a lease, need not be there.

use super::shape::{self, may_put};
use super::{violation, words};
use crate::model::contains;
use crate::recording::{Operation, Outcome, Recording, Request, Response, Violation};
use std::collections::{BTreeMap, BTreeSet};

const PREFIX: &str = "set/";

type Element<'a> = (&'a str, &'a str);

/// The violations of this family.
pub(super) fn judge(recording: &Recording) -> Vec<Violation> {
    let reads: Vec<(&Operation, BTreeSet<Element>)> = reads(recording);
    let endings = endings(recording);
    let mut found = Vec::new();
    for (element, adds) in additions(recording) {
        found.extend(lost(element, &adds, &reads, &endings));
    }
    found.extend(phantoms(recording, &reads));
    found
}

/// What may take keys away.
struct Ending<'a> {
    keys: (&'a str, &'a str),
    called: u64,
    /// When it was over: it takes nothing away that comes later. A lease may end at any time.
    over: Option<u64>,
}

impl Ending<'_> {
    /// Whether it may be why an element of this key is missing that was there while `first` was under way.
    fn excuses(&self, key: &str, first: &Operation, missing: &Operation) -> bool {
        contains(self.keys.0, self.keys.1, key)
            && self.called < missing.returned.unwrap_or(u64::MAX)
            && self.over.is_none_or(|over| over > first.called)
    }
}

/// All deletions, and all leases that keys are given.
fn endings(recording: &Recording) -> Vec<Ending<'_>> {
    let operations = recording.operations.iter();
    let done = operations.filter(|it| !matches!(it.outcome, Outcome::Failed { .. }));
    let endings = done.flat_map(|operation| {
        let answered = matches!(operation.outcome, Outcome::Ok { .. });
        let over = operation.returned.filter(|_| answered);
        let ending = move |keys, over| Ending {
            keys,
            called: operation.called,
            over,
        };
        let deletions = shape::may_delete(&operation.request).into_iter();
        let leased = shape::may_lease(&operation.request).into_iter();
        deletions
            .map(move |keys| ending(keys, over))
            .chain(leased.map(move |key| ending((key, ""), None)))
    });
    endings.collect()
}

/// Who may have added each element.
fn additions(recording: &Recording) -> BTreeMap<Element<'_>, Vec<&Operation>> {
    let mut all: BTreeMap<Element, Vec<&Operation>> = BTreeMap::new();
    for operation in &recording.operations {
        for (key, value) in may_put(&operation.request) {
            if key.starts_with(PREFIX) {
                for word in value.split_whitespace() {
                    all.entry((key, word)).or_default().push(operation);
                }
            }
        }
    }
    all
}

/// Linearizable reads of the newest state, in the order in which they were asked for.
fn reads(recording: &Recording) -> Vec<(&Operation, BTreeSet<Element<'_>>)> {
    let mut reads = Vec::new();
    for operation in &recording.operations {
        let (Request::Range(range), Some(Response::Range(found))) =
            (&operation.request, shape::response(operation))
        else {
            continue;
        };
        let whole =
            !range.count_only && !range.keys_only && range.limit == 0 && !range.is_filtered();
        if whole && !range.serializable && range.revision <= 0 {
            let elements = found.pairs.iter().flat_map(|pair| {
                let words = pair.value.split_whitespace();
                words.map(|word| (pair.key.as_str(), word))
            });
            let own = elements.filter(|(key, _)| key.starts_with(PREFIX));
            reads.push((operation, own.collect()));
        }
    }
    reads
}

/// An element that was acknowledged, or read, and is missing in what was read later.
fn lost(
    element: Element,
    adds: &[&Operation],
    reads: &[(&Operation, BTreeSet<Element>)],
    endings: &[Ending],
) -> Option<Violation> {
    let acknowledged = adds.iter().copied().filter(|add| has_put(add, element));
    let shown = reads.iter().filter(|(_, has)| has.contains(&element));
    let known = acknowledged.chain(shown.clone().map(|(read, _)| *read));
    let first = known.min_by_key(|operation| operation.returned.unwrap_or(u64::MAX))?;
    let since = first.returned?;
    let covers = |read: &Operation| match &read.request {
        Request::Range(range) => contains(&range.key, &range.end, element.0),
        _ => false,
    };
    let without = |(read, has): &&(&Operation, BTreeSet<Element>)| {
        read.called > since
            && covers(read)
            && !has.contains(&element)
            && !endings.iter().any(|it| it.excuses(element.0, first, read))
    };
    let (missing, _) = reads.iter().find(without)?;
    let again = shown.clone().any(|(read, _)| read.called > missing.called);
    let (rule, then) = match again {
        true => ("set: stale read", "It was there again later."),
        false => ("set: lost element", "No later read has it."),
    };
    let story = format!(
        "{} does not have element {:?} of {}, which {} had shown to be there before. {then}",
        words::operation(missing),
        element.1,
        words::name(element.0),
        words::operation(first),
    );
    Some(violation(rule, story, &[first.id, missing.id], &[]))
}

/// Whether the operation was acknowledged as having put the element.
fn has_put(operation: &Operation, element: Element) -> bool {
    let Some(response) = shape::response(operation) else {
        return false;
    };
    let (Request::Txn(txn), Response::Txn { succeeded, .. }) = (&operation.request, response)
    else {
        return matches!(response, Response::Put { .. });
    };
    let branch = if *succeeded {
        &txn.then
    } else {
        &txn.otherwise
    };
    branch.iter().any(|step| match step {
        crate::recording::Step::Put(put) => {
            put.key == element.0 && put.value.split_whitespace().any(|word| word == element.1)
        }
        _ => false,
    })
}

/// An element that nobody had added before it was read.
fn phantoms(recording: &Recording, reads: &[(&Operation, BTreeSet<Element>)]) -> Vec<Violation> {
    let adds = additions(recording);
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for (read, has) in reads {
        for element in has {
            let before = read.returned.unwrap_or(u64::MAX);
            let own = adds.get(element).map_or(&[][..], Vec::as_slice);
            let may = |add: &&Operation| {
                add.called < before && !matches!(add.outcome, Outcome::Failed { .. })
            };
            if own.iter().any(may) || !told.insert(*element) {
                continue;
            }
            let mut ids = vec![read.id];
            let because = match own.first() {
                None => "Nobody has added it.".to_string(),
                Some(add) => {
                    ids.push(add.id);
                    format!("{} was refused, or asked for later.", words::operation(add))
                }
            };
            let story = format!(
                "{} has element {:?} of {}. {because}",
                words::operation(read),
                element.1,
                words::name(element.0),
            );
            found.push(violation("set: phantom element", story, &ids, &[]));
        }
    }
    found
}
