//! When each revision was made, as closely as the recording tells: not before the call that made it, where that is
//! known, and not after anybody first saw it.

use super::part::Span;
use crate::recording::{Outcome, Recording, Request, Response, RestFate, Step, Txn};
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
                called: maker.map(|(called, _)| *called),
                operation: maker.map(|(_, id)| *id),
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
    let rest = recording.rest.iter().filter_map(|call| match call.fate {
        RestFate::Done(revision) => Some((call.returned?, revision)),
        _ => None,
    });
    let answers = recording.operations.iter().filter_map(|operation| {
        let Outcome::Ok { revision, .. } = operation.outcome else {
            return None;
        };
        Some((operation.returned?, revision))
    });
    let watches = recording.all_watches();
    let messages = watches.flat_map(|(_, watch, _)| &watch.messages);
    let watched = messages.map(|message| (message.at, message.revision));
    let samples = recording.samples.iter();
    let sampled = samples.map(|sample| (sample.at, sample.revision));
    answers.chain(watched).chain(sampled).chain(rest).collect()
}

/// The calls that made revisions: when each was called, and its id. Should two claim the same one, which no sound store does,
/// and an API server only where a write changes nothing, it is the earlier call.
fn makers(recording: &Recording) -> BTreeMap<i64, (u64, u64)> {
    let operations = recording.operations.iter().filter_map(|operation| {
        let Outcome::Ok { revision, response } = &operation.outcome else {
            return None;
        };
        let made = changed(&operation.request, response);
        made.then_some((*revision, (operation.called, operation.id)))
    });
    let rest = recording
        .rest_calls()
        .filter_map(|(id, call)| match call.fate {
            RestFate::Done(revision) if writes(&call.verb) => Some((revision, (call.called, id))),
            _ => None,
        });
    let mut makers: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
    for (revision, call) in operations.chain(rest) {
        let first = makers.entry(revision).or_insert(call);
        *first = call.min(*first);
    }
    makers
}

/// Whether a successful answer shows the object as this call wrote it. One to a deletion shows it as it was before.
fn writes(verb: &str) -> bool {
    matches!(verb, "post" | "put" | "patch")
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
