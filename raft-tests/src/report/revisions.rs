//! When each revision was made, as closely as the recording tells: not before the call that made it, where that is
//! known, and not after anybody first saw it.

use super::part::Span;
use crate::recording::{Operation, Outcome, Recording, Request, Response, Step, Txn};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// One revision. It is written as a list, in the order of the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    pub revision: i64,
    /// The call that made it, and its id; nothing where no answer tells.
    pub called: Option<u64>,
    pub operation: Option<u64>,
    /// When an answer, a watch or a member first had it or a later one.
    pub seen: u64,
}

impl Serialize for Made {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.revision, self.called, self.operation, self.seen).serialize(serializer)
    }
}

/// Where revisions are lost, an answer may name one that is far off: a jump wider than this is drawn as its end only.
const JUMP_MAX: i64 = 10_000;

/// All of them, or those first seen within `part`, ascending.
pub(super) fn paint(recording: &Recording, part: Option<Span>) -> Vec<Made> {
    let makers = makers(recording);
    let mut seen = sightings(recording);
    seen.sort_unstable();
    let mut newest = 0;
    let mut all = Vec::new();
    for (at, revision) in seen {
        if revision <= newest {
            continue;
        }
        // What is there before the first answer was made before the run.
        let before = if newest == 0 { revision - 1 } else { newest };
        for each in before.max(revision - JUMP_MAX) + 1..=revision {
            let maker = makers.get(&each);
            all.push(Made {
                revision: each,
                called: maker.map(|operation| operation.called),
                operation: maker.map(|operation| operation.id),
                seen: at,
            });
        }
        newest = revision;
    }
    all.retain(|made| part.is_none_or(|part| part.contains(made.seen)));
    all
}

pub(super) fn newest(recording: &Recording) -> i64 {
    let revisions = sightings(recording).into_iter();
    revisions.map(|(_, revision)| revision).max().unwrap_or(0)
}

/// Who had which revision when.
fn sightings(recording: &Recording) -> Vec<(u64, i64)> {
    let answers = recording.operations.iter().filter_map(|operation| {
        let Outcome::Ok { revision, .. } = operation.outcome else {
            return None;
        };
        Some((operation.returned?, revision))
    });
    let messages = recording.watches.iter().flat_map(|watch| &watch.messages);
    let watched = messages.map(|message| (message.at, message.revision));
    let samples = recording.samples.iter();
    let sampled = samples.map(|sample| (sample.at, sample.revision));
    answers.chain(watched).chain(sampled).collect()
}

/// The call that made a revision. Should two claim the same one, which no sound store does, it is the earlier call.
fn makers(recording: &Recording) -> BTreeMap<i64, &Operation> {
    let mut makers: BTreeMap<i64, &Operation> = BTreeMap::new();
    for operation in &recording.operations {
        let Outcome::Ok { revision, response } = &operation.outcome else {
            continue;
        };
        if changed(&operation.request, response) {
            let first = makers.entry(*revision).or_insert(operation);
            if operation.called < first.called {
                *first = operation;
            }
        }
    }
    makers
}

/// Whether the answer says that keys were changed. A revoked lease may have had none, and says nothing about it.
fn changed(request: &Request, response: &Response) -> bool {
    match (request, response) {
        (_, Response::Put { .. }) => true,
        (_, Response::Delete { deleted, .. }) => *deleted > 0,
        (Request::Txn(txn), Response::Txn { succeeded, steps }) => {
            steps_changed(txn, *succeeded, steps)
        }
        _ => false,
    }
}

fn steps_changed(txn: &Txn, succeeded: bool, answers: &[Response]) -> bool {
    let steps = if succeeded { &txn.then } else { &txn.otherwise };
    steps
        .iter()
        .zip(answers)
        .any(|(step, answer)| match (step, answer) {
            (Step::Put(_), _) => true,
            (Step::Delete(_), Response::Delete { deleted, .. }) => *deleted > 0,
            (Step::Txn(inner), Response::Txn { succeeded, steps }) => {
                steps_changed(inner, *succeeded, steps)
            }
            _ => false,
        })
}
