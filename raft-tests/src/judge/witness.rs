//! Revisions as witnesses: each answer has to be what the state of its revision gives, and real time must not
//! contradict the order of the revisions, in either direction.
//!
//! A linearizable answer is not older than anything that was known when it was asked for, and a write's revision is
//! newer than that. A serializable answer may be of any revision that was there, and has to be right for it.

use super::linear;
use super::shape::{self, as_response, as_txn};
use super::timeline::{Maker, Mismatch, Timeline};
use super::traces::Source;
use super::{violation, words};
use crate::model::{COMPACTED, FUTURE_REVISION};
use crate::recording::{Operation, Outcome, Request, Response, Violation};

/// The violations of this family.
pub(super) fn judge(timeline: &Timeline) -> Vec<Violation> {
    let mut found = timeline.found.clone();
    found.extend(against_time(timeline));
    let told = |mismatch: &&Mismatch| !linear::is_judged(timeline, mismatch);
    let mismatches = timeline.mismatches.iter().filter(told);
    found.extend(mismatches.map(|mismatch| tell(timeline, mismatch)));
    found.extend(compactions(timeline));
    found
}

/// The revision from whose state something that has not written was answered.
pub(super) fn answered_from(operation: &Operation) -> Option<i64> {
    let revision = shape::revision(operation)?;
    match &operation.request {
        Request::Range(range) if range.revision > 0 => Some(range.revision),
        Request::Range(_) => Some(revision),
        Request::Put(_) | Request::Delete(_) | Request::Txn(_) => {
            shape::written(operation).is_none().then_some(revision)
        }
        _ => None,
    }
}

/// What was answered, without a write, that the state of the revision does not give.
pub(super) fn answers(timeline: &Timeline) -> Vec<Mismatch> {
    let mut found = Vec::new();
    for (place, operation) in timeline.recording.operations.iter().enumerate() {
        let Some(revision) = answered_from(operation) else {
            continue;
        };
        let (Some(txn), Some(answered), Some(header)) = (
            as_txn(&operation.request),
            shape::response(operation),
            shape::revision(operation),
        ) else {
            continue;
        };
        if revision > header {
            found.push(Mismatch {
                source: Source::Operation(place),
                revision,
                key: String::new(),
                expected: "a refusal, for that revision was still to come".into(),
                answered: format!("an answer of revision {header}"),
                told: None,
            });
            continue;
        }
        let expected = timeline.model.answer_at(&txn, header);
        let expected = expected.and_then(|answer| as_response(&operation.request, answer));
        let (key, expected, answered) = match &expected {
            Some(expected) if expected == answered => continue,
            Some(expected) => words::difference(expected, answered),
            None => (
                String::new(),
                "a write".into(),
                "that there is none to be done".into(),
            ),
        };
        found.push(Mismatch {
            source: Source::Operation(place),
            revision,
            key,
            expected,
            answered,
            told: None,
        });
    }
    found
}

fn tell(timeline: &Timeline, mismatch: &Mismatch) -> Violation {
    if let Some(told) = &mismatch.told {
        return (**told).clone();
    }
    let (who, mut ids, watches) = timeline.who(mismatch.source);
    let Mismatch {
        revision,
        key,
        expected,
        answered,
        ..
    } = mismatch;
    let expected = match expected.as_str() {
        "" => "a refusal",
        expected => expected,
    };
    let said = match answered.as_str() {
        "" => format!("{who} was carried out at revision {revision}."),
        answered => format!("{who} was answered with {answered} at revision {revision}."),
    };
    let before = match timeline.made.get(revision) {
        Some(Maker::Operation(place)) if mismatch.source == Source::Operation(*place) => {
            revision - 1
        }
        _ => *revision,
    };
    let cause = timeline.model.last_change(key, before);
    let because = match cause {
        Some(changed) => {
            ids.extend(timeline.maker(changed).map(|operation| operation.id));
            format!(
                "It had to be {expected}, after {} at revision {changed}.",
                timeline.cause(changed)
            )
        }
        None => format!("It had to be {expected}."),
    };
    violation("wrong answer", format!("{said} {because}"), &ids, &watches)
}

/// An answer that is older than what was known before it was asked for.
fn against_time(timeline: &Timeline) -> Vec<Violation> {
    let mut asked: Vec<(u64, i64, usize, bool)> = Vec::new();
    let operations = &timeline.recording.operations;
    for (place, operation) in operations.iter().enumerate() {
        if let Some(revision) = shape::revision(operation)
            && shape::is_linearizable(operation)
        {
            let wrote = shape::written(operation).is_some();
            asked.push((operation.called, revision, place, wrote));
        }
    }
    for (revision, maker) in &timeline.made {
        if let Maker::Operation(place) = maker
            && shape::written(&operations[*place]).is_none()
        {
            asked.push((operations[*place].called, *revision, *place, true));
        }
    }
    asked.sort_by_key(|(called, ..)| *called);
    let mut known = timeline.seen.by_time.iter().peekable();
    let mut newest: Option<(i64, Source, u64)> = None;
    let mut found = Vec::new();
    for (called, revision, place, wrote) in asked {
        while let Some((at, seen, source)) = known.next_if(|(at, ..)| *at < called) {
            if newest.is_none_or(|(newest, ..)| *seen > newest) {
                newest = Some((*seen, *source, *at));
            }
        }
        let Some((seen, source, at)) = newest else {
            continue;
        };
        if revision < seen || (wrote && revision == seen) {
            let (who, mut ids, watches) = timeline.who(source);
            let operation = &operations[place];
            ids.push(operation.id);
            let (rule, verb) = match wrote {
                true => ("against real time", "took effect"),
                false => ("stale read", "was answered"),
            };
            let story = format!(
                "{} {verb} at revision {revision}. {who} had come to revision {seen} already at {}, before that was asked for at {}.",
                words::operation(operation),
                words::time(at),
                words::time(called),
            );
            found.push(violation(rule, story, &ids, &watches));
        }
    }
    found
}

/// Answers and refusals for revisions of the past: compacted only what was, future only what is.
fn compactions(timeline: &Timeline) -> Vec<Violation> {
    let operations = &timeline.recording.operations;
    let asked = Compactions::new(operations, |compact| {
        let refused = matches!(compact.outcome, Outcome::Failed { .. });
        (!refused).then_some(compact.called)
    });
    let done = Compactions::new(operations, |compact| {
        compact
            .returned
            .filter(|_| shape::revision(compact).is_some())
    });
    let mut found = Vec::new();
    for operation in operations {
        let Request::Range(range) = &operation.request else {
            continue;
        };
        if range.revision <= 0 {
            continue;
        }
        match &operation.outcome {
            Outcome::Failed { message, .. } if message.contains(COMPACTED) => {
                let before = operation.returned.unwrap_or(u64::MAX);
                if asked
                    .first_beyond(range.revision)
                    .is_none_or(|(at, _)| at >= before)
                {
                    let story = format!(
                        "{} was refused because the revision had been compacted. Nobody had asked for a compaction beyond revision {}.",
                        words::operation(operation),
                        range.revision,
                    );
                    found.push(violation(
                        "compacted for nothing",
                        story,
                        &[operation.id],
                        &[],
                    ));
                }
            }
            Outcome::Failed { message, .. } if message.contains(FUTURE_REVISION) => {
                let known = timeline.seen.first(range.revision);
                let known = known.filter(|(at, _)| *at < operation.called && !range.serializable);
                if let Some((_, source)) = known {
                    let (who, mut ids, watches) = timeline.who(source);
                    ids.push(operation.id);
                    let story = format!(
                        "{} was refused because the revision was still to come. {who} had come that far before it was asked for.",
                        words::operation(operation),
                    );
                    found.push(violation("stale read", story, &ids, &watches));
                }
            }
            Outcome::Ok {
                response: Response::Range(_),
                ..
            } if !range.serializable => {
                let gone = done.first_beyond(range.revision);
                if let Some((_, compact)) = gone.filter(|(at, _)| *at < operation.called) {
                    let Request::Compact { revision } = compact.request else {
                        continue;
                    };
                    let story = format!(
                        "{} was answered. {} had been acknowledged before, so that revisions below {revision} were gone.",
                        words::operation(operation),
                        words::operation(compact),
                    );
                    let ids = [operation.id, compact.id];
                    found.push(violation("read of what is compacted", story, &ids, &[]));
                }
            }
            _ => {}
        }
    }
    found
}

/// Compactions by their revisions, ascending: each with the earliest one of this or a later revision, and its time.
struct Compactions<'a>(Vec<(i64, u64, &'a Operation)>);

impl<'a> Compactions<'a> {
    fn new(
        operations: &'a [Operation],
        time: impl Fn(&Operation) -> Option<u64>,
    ) -> Compactions<'a> {
        let compact = |operation: &'a Operation| match operation.request {
            Request::Compact { revision } => Some((revision, time(operation)?, operation)),
            _ => None,
        };
        let mut all: Vec<_> = operations.iter().filter_map(compact).collect();
        all.sort_by_key(|(revision, at, _)| (*revision, *at));
        for place in (1..all.len()).rev() {
            let (_, at, operation) = all[place];
            let before = &mut all[place - 1];
            if at < before.1 {
                (before.1, before.2) = (at, operation);
            }
        }
        Compactions(all)
    }

    /// The earliest one of a later revision.
    fn first_beyond(&self, revision: i64) -> Option<(u64, &'a Operation)> {
        let place = self.0.partition_point(|(other, ..)| *other <= revision);
        self.0
            .get(place)
            .map(|(_, at, operation)| (*at, *operation))
    }
}
