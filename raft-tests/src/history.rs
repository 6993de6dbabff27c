//! What the clients saw, and the judgement on it. Pure.
//!
//! Every key but the counters is written once, so that an acknowledged write can be looked up by its key. Nothing is
//! deleted, so that each revision is exactly one put and a watch from the start must show every revision.

use crate::wire::{Event, Pair};
use std::collections::{BTreeMap, BTreeSet};

/// Keys with this prefix are counters: swapped from n to n + 1 by many writers.
pub const COUNTER_PREFIX: &str = "counter/";

/// A write that was acknowledged. The ticks come from one counter, so they order what clients did.
#[derive(Debug, Clone)]
pub struct Ack {
    pub key: String,
    pub value: String,
    pub revision: i64,
    /// Tick before the request was sent.
    pub started: u64,
    /// Tick after the answer came.
    pub ended: u64,
}

/// Everything the writers saw.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub acks: Vec<Ack>,
    /// Writes (key and value) that failed for certain.
    pub refused: Vec<(String, String)>,
    /// Writes whose fate is not known.
    pub unknown: usize,
    /// What a client noticed on the spot, such as a stale read.
    pub noticed: Vec<String>,
}

/// What one watch delivered, over all its reconnections.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    pub name: String,
    pub revisions: Vec<(i64, Vec<Event>)>,
}

/// The whole state as one member reads it.
#[derive(Debug, Clone, Default)]
pub struct Dump {
    pub member: String,
    pub revision: i64,
    pub pairs: Vec<Pair>,
}

/// At most so many violations of one kind are told.
const TOLD_MAX: usize = 5;

/// Everything that is wrong, in words; empty when all is well.
pub fn violations(history: &History, dumps: &[Dump], watches: &[Watched]) -> Vec<String> {
    let mut found: Vec<String> = history.noticed.iter().take(TOLD_MAX).cloned().collect();
    found.extend(members_differ(dumps));
    for dump in dumps {
        found.extend(lost_or_altered(history, dump).take(TOLD_MAX));
        found.extend(refused_but_there(history, dump).take(TOLD_MAX));
    }
    found.extend(revisions_given_twice(history).into_iter().take(TOLD_MAX));
    found.extend(against_real_time(history).into_iter().take(TOLD_MAX));
    for watch in watches {
        found.extend(gaps(watch, dumps).into_iter().take(TOLD_MAX));
        found.extend(not_watched(history, watch).into_iter().take(TOLD_MAX));
        found.extend(wrong_previous(watch).into_iter().take(TOLD_MAX));
    }
    found
}

fn members_differ(dumps: &[Dump]) -> Vec<String> {
    let Some((first, others)) = dumps.split_first() else {
        return Vec::new();
    };
    let differs = |other: &&Dump| other.revision != first.revision || other.pairs != first.pairs;
    let words = |other: &Dump| {
        let (a, b) = (first.pairs.iter(), other.pairs.iter());
        let pair = a.zip(b).find(|(a, b)| a != b);
        format!(
            "members differ: {} has {} pairs at revision {}, {} has {} at {}; first difference: {pair:?}",
            first.member,
            first.pairs.len(),
            first.revision,
            other.member,
            other.pairs.len(),
            other.revision,
        )
    };
    others.iter().filter(differs).map(words).collect()
}

fn lost_or_altered<'a>(history: &'a History, dump: &'a Dump) -> impl Iterator<Item = String> + 'a {
    let by_key: BTreeMap<&str, &Pair> = dump
        .pairs
        .iter()
        .map(|pair| (pair.key.as_str(), pair))
        .collect();
    history.acks.iter().filter_map(move |ack| {
        let pair = by_key.get(ack.key.as_str());
        let kept = pair.is_some_and(|pair| match ack.key.starts_with(COUNTER_PREFIX) {
            true => pair.modified >= ack.revision && number(&pair.value) >= number(&ack.value),
            false => {
                pair.value == ack.value
                    && pair.modified == ack.revision
                    && pair.created == ack.revision
            }
        });
        (!kept).then(|| {
            format!(
                "lost on {}: {ack:?} was acknowledged, there is {pair:?}",
                dump.member
            )
        })
    })
}

fn refused_but_there<'a>(
    history: &'a History,
    dump: &'a Dump,
) -> impl Iterator<Item = String> + 'a {
    let by_key: BTreeMap<&str, &Pair> = dump
        .pairs
        .iter()
        .map(|pair| (pair.key.as_str(), pair))
        .collect();
    history.refused.iter().filter_map(move |(key, value)| {
        let pair = by_key
            .get(key.as_str())
            .filter(|pair| pair.value == *value)?;
        Some(format!(
            "on {}: {pair:?} is there although the write was answered as not done",
            dump.member
        ))
    })
}

fn revisions_given_twice(history: &History) -> Vec<String> {
    let mut by_revision = BTreeMap::new();
    let mut found = Vec::new();
    for ack in &history.acks {
        if let Some(other) = by_revision.insert(ack.revision, ack) {
            found.push(format!(
                "two writes were acknowledged with one revision: {other:?} and {ack:?}"
            ));
        }
    }
    found
}

/// A write that began after another was acknowledged must have the larger revision.
fn against_real_time(history: &History) -> Vec<String> {
    let mut by_end: Vec<&Ack> = history.acks.iter().collect();
    by_end.sort_by_key(|ack| ack.ended);
    let mut by_start = by_end.clone();
    by_start.sort_by_key(|ack| ack.started);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<&Ack> = None;
    let mut found = Vec::new();
    for ack in by_start {
        while let Some(before) = ended.next_if(|before| before.ended < ack.started) {
            newest = newest
                .filter(|n| n.revision > before.revision)
                .or(Some(before));
        }
        if let Some(newest) = newest.filter(|newest| newest.revision > ack.revision) {
            found.push(format!(
                "{ack:?} began after {newest:?} was acknowledged, but is older"
            ));
        }
    }
    found
}

/// Each revision exactly once, in order, up to where the members are.
fn gaps(watch: &Watched, dumps: &[Dump]) -> Vec<String> {
    let mut found = Vec::new();
    let mut last = None;
    for (revision, _) in &watch.revisions {
        if last.is_some_and(|last| *revision != last + 1) {
            found.push(format!(
                "watch {}: revision {revision} came after {last:?}",
                watch.name
            ));
        }
        last = Some(*revision);
    }
    let first = watch.revisions.first().map(|(revision, _)| *revision);
    let oldest = dumps
        .iter()
        .flat_map(|dump| &dump.pairs)
        .map(|pair| pair.created)
        .min();
    if let (Some(first), Some(oldest)) = (first, oldest)
        && first > oldest
    {
        found.push(format!(
            "watch {}: began at revision {first}, but {oldest} was there",
            watch.name
        ));
    }
    for dump in dumps
        .iter()
        .filter(|dump| last.is_none_or(|last| last < dump.revision))
    {
        found.push(format!(
            "watch {}: ends at {last:?}, {} is at {}",
            watch.name, dump.member, dump.revision
        ));
    }
    found
}

fn not_watched(history: &History, watch: &Watched) -> Vec<String> {
    let by_revision: BTreeMap<i64, &[Event]> = watch
        .revisions
        .iter()
        .map(|(r, events)| (*r, &events[..]))
        .collect();
    let shown = |ack: &&Ack| {
        by_revision.get(&ack.revision).is_some_and(|events| {
            events
                .iter()
                .any(|event| event.key == ack.key && event.value == ack.value)
        })
    };
    history
        .acks
        .iter()
        .filter(|ack| !shown(ack))
        .map(|ack| {
            let there = by_revision.get(&ack.revision);
            format!(
                "watch {}: {ack:?} was acknowledged, the watch shows {there:?}",
                watch.name
            )
        })
        .collect()
}

/// The previous value of each event is the value of the key's last event; a counter goes up by one.
fn wrong_previous(watch: &Watched) -> Vec<String> {
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    let mut once: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for (revision, event) in watch
        .revisions
        .iter()
        .flat_map(|(r, events)| events.iter().map(move |event| (r, event)))
    {
        let before = values.insert(&event.key, &event.value);
        if before != event.previous.as_deref() {
            found.push(format!(
                "watch {}: at {revision} {event:?}, but before it was {before:?}",
                watch.name
            ));
        }
        if event.key.starts_with(COUNTER_PREFIX) {
            if number(&event.value) != before.map_or(0, number) + 1 {
                found.push(format!(
                    "watch {}: at {revision} the counter jumps: {event:?}",
                    watch.name
                ));
            }
        } else if !once.insert(&event.key) {
            found.push(format!(
                "watch {}: at {revision} {} is written a second time",
                watch.name, event.key
            ));
        }
    }
    found
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(key: &str, value: &str, revision: i64, started: u64, ended: u64) -> Ack {
        Ack {
            key: key.into(),
            value: value.into(),
            revision,
            started,
            ended,
        }
    }

    fn pair(key: &str, value: &str, created: i64, modified: i64) -> Pair {
        Pair {
            key: key.into(),
            value: value.into(),
            created,
            modified,
            version: 1,
        }
    }

    fn event(key: &str, value: &str, previous: Option<&str>) -> Event {
        Event {
            key: key.into(),
            value: value.into(),
            previous: previous.map(str::to_string),
        }
    }

    /// Two keys and a counter that went to 2, all acknowledged, all there, all watched.
    fn good() -> (History, Vec<Dump>, Vec<Watched>) {
        let acks = vec![
            ack("a", "x", 2, 1, 4),
            ack("counter/0", "1", 3, 2, 5),
            ack("b", "y", 4, 6, 7),
            ack("counter/0", "2", 5, 8, 9),
        ];
        let history = History {
            acks,
            refused: vec![("c".into(), "z".into())],
            ..History::default()
        };
        let pairs = vec![
            pair("a", "x", 2, 2),
            pair("b", "y", 4, 4),
            pair("counter/0", "2", 3, 5),
        ];
        let dump = |member: &str| Dump {
            member: member.into(),
            revision: 5,
            pairs: pairs.clone(),
        };
        let revisions = vec![
            (2, vec![event("a", "x", None)]),
            (3, vec![event("counter/0", "1", None)]),
            (4, vec![event("b", "y", None)]),
            (5, vec![event("counter/0", "2", Some("1"))]),
        ];
        (
            history,
            vec![dump("m1"), dump("m2")],
            vec![Watched {
                name: "w".into(),
                revisions,
            }],
        )
    }

    /// What the judge says after the story was spoiled; it must say something with this word in it.
    fn spoiled(word: &str, spoil: impl FnOnce(&mut History, &mut Vec<Dump>, &mut Vec<Watched>)) {
        let (mut history, mut dumps, mut watches) = good();
        spoil(&mut history, &mut dumps, &mut watches);
        let found = violations(&history, &dumps, &watches);
        assert!(
            found.iter().any(|text| text.contains(word)),
            "{word}: {found:?}"
        );
    }

    #[test]
    fn a_good_story_is_accepted() {
        let (history, dumps, watches) = good();
        assert_eq!(violations(&history, &dumps, &watches), Vec::<String>::new());
    }

    #[test]
    fn every_kind_of_violation_is_found() {
        spoiled("lost on", |_, dumps, _| {
            dumps.iter_mut().for_each(|dump| drop(dump.pairs.remove(1)))
        });
        spoiled("lost on", |_, dumps, _| {
            dumps.iter_mut().for_each(|dump| dump.pairs[0].modified = 9)
        });
        spoiled("lost on", |_, dumps, _| {
            dumps
                .iter_mut()
                .for_each(|dump| dump.pairs[2].value = "1".into())
        });
        spoiled("members differ", |_, dumps, _| {
            dumps[1].pairs[0].value = "other".into()
        });
        spoiled("answered as not done", |_, dumps, _| {
            dumps
                .iter_mut()
                .for_each(|d| d.pairs.push(pair("c", "z", 6, 6)))
        });
        spoiled("one revision", |history, _, _| history.acks[2].revision = 2);
        spoiled("but is older", |history, _, _| history.acks[2].revision = 1);
        spoiled("came after", |_, _, watches| {
            drop(watches[0].revisions.remove(1))
        });
        spoiled("came after", |_, _, watches| {
            watches[0].revisions.insert(1, (2, vec![]))
        });
        spoiled("ends at", |_, _, watches| drop(watches[0].revisions.pop()));
        spoiled("began at", |_, _, watches| {
            drop(watches[0].revisions.remove(0))
        });
        spoiled("the watch shows", |_, _, watches| {
            watches[0].revisions[0].1.clear()
        });
        spoiled("but before it was", |_, _, watches| {
            watches[0].revisions[3].1[0].previous = None
        });
        spoiled("jumps", |_, _, watches| {
            watches[0].revisions[3].1[0].value = "3".into()
        });
        spoiled("a stale read", |history, _, _| {
            history.noticed.push("a stale read".into())
        });
    }
}
