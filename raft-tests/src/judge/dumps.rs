//! The members' last states: equal to each other and to what was acknowledged; nothing refused is in them.

use super::timeline::{Maker, Timeline};
use super::{shape, violation, words};
use crate::recording::{Dump, Pair, Violation};
use std::collections::{BTreeMap, BTreeSet};

/// The violations of this family.
pub(super) fn judge(timeline: &Timeline) -> Vec<Violation> {
    let dumps = &timeline.recording.dumps;
    let mut found = Vec::new();
    if let Some((first, others)) = dumps.split_first() {
        found.extend(others.iter().filter_map(|other| differ(first, other)));
    }
    for dump in dumps {
        found.extend(wrong(timeline, dump));
    }
    found
}

fn differ(first: &Dump, other: &Dump) -> Option<Violation> {
    let story = if first.revision != other.revision || first.compacted != other.compacted {
        let state = |dump: &Dump| {
            format!(
                "member {} is at revision {}, compacted at {}",
                dump.member, dump.revision, dump.compacted
            )
        };
        format!(
            "In the end {}. Then {} as well, which is not the same.",
            state(first),
            state(other)
        )
    } else {
        let (a, b) = (by_key(first), by_key(other));
        let keys: BTreeSet<&str> = a.keys().chain(b.keys()).copied().collect();
        let key = keys.into_iter().find(|key| a.get(key) != b.get(key))?;
        let has = |pairs: &BTreeMap<&str, &Pair>| words::pair(key, pairs.get(key).copied());
        format!(
            "In the end member {} has {}. Member {} has {} at the same revision {}.",
            first.member,
            has(&a),
            other.member,
            has(&b),
            first.revision
        )
    };
    Some(violation("members differ", story, &[], &[]))
}

fn by_key(dump: &Dump) -> BTreeMap<&str, &Pair> {
    let pairs = dump.pairs.iter();
    pairs.map(|pair| (pair.key.as_str(), pair)).collect()
}

fn wrong(timeline: &Timeline, dump: &Dump) -> Vec<Violation> {
    let mut found = Vec::new();
    let there = by_key(dump);
    let expected: BTreeMap<&str, &Pair> = timeline
        .model
        .pairs_at("\0", "\0", dump.revision)
        .map(|pair| (pair.key.as_str(), pair))
        .collect();
    let keys: BTreeSet<&str> = there.keys().chain(expected.keys()).copied().collect();
    for key in keys {
        let (is, should) = (there.get(key).copied(), expected.get(key).copied());
        if is == should || timeline.judged.contains(key) {
            continue;
        }
        let changed = timeline.model.last_change(key, dump.revision);
        let maker = changed.and_then(|revision| timeline.maker(revision));
        let is_gone = is.is_none_or(|is| Some(is.modified) < changed);
        let rule = if is_gone { "lost write" } else { "wrong state" };
        let because = match changed {
            Some(revision) => format!(
                "After {} at revision {revision} it had to be {}.",
                timeline.cause(revision),
                words::pair(key, should)
            ),
            None => "Nothing was ever written there.".into(),
        };
        let story = format!(
            "In the end member {} has {} at revision {}. {because}",
            dump.member,
            words::pair(key, is),
            dump.revision
        );
        let ids: Vec<u64> = maker.map(|operation| operation.id).into_iter().collect();
        found.push(violation(rule, story, &ids, &[]));
    }
    // What was acknowledged later than the state is missing altogether.
    let later =
        timeline
            .made
            .range(dump.revision + 1..)
            .find_map(|(revision, maker)| match maker {
                // One without an answer may be done after the members were asked.
                Maker::Operation(place) => {
                    let operation = timeline.operation(*place);
                    shape::revision(operation).map(|_| (*revision, operation))
                }
                _ => None,
            });
    if let Some((revision, operation)) = later {
        let story = format!(
            "In the end member {} is at revision {}. {} was done at revision {revision}.",
            dump.member,
            dump.revision,
            words::operation(operation)
        );
        found.push(violation("lost write", story, &[operation.id], &[]));
    }
    found
}
