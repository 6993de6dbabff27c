//! A good recording with one thing wrong in it: the judge objects, whatever it is and wherever.

use super::perfect::config;
use super::*;
use crate::judge::shape;
use crate::judge::simulated::perfect;
use crate::recording::Recording;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;

/// Spoils a recording, or says that there is nothing in it to be spoilt in this way.
type Spoil = fn(&mut Recording, &mut StdRng) -> bool;

const WAYS: &[(&str, Spoil)] = &[
    ("drop a message of events", drop_message),
    ("drop an event of a revision", drop_event),
    ("swap two messages", swap_messages),
    ("deliver twice", deliver_twice),
    ("split a revision", split_revision),
    ("wrong previous value", wrong_previous),
    ("wrong value", wrong_value),
    ("progress too early", early_progress),
    ("event of before", event_of_before),
    ("stale read", stale_read),
    ("old value at a new revision", old_value),
    ("wrong version", wrong_version),
    ("lost write", lost_write),
    ("member differs", member_differs),
    ("done though refused", done_though_refused),
    ("later than seen", later_than_seen),
    ("revision given twice", given_twice),
];

fn check(name: &str, spoil: Spoil, count: u32) {
    let mut spoilt = 0;
    let mut seed = 0;
    let wanted = config(count).cases;
    while spoilt < wanted {
        seed += 1;
        assert!(seed < 50 * u64::from(wanted), "{name}: seldom possible");
        let mut recording = perfect(seed, 120);
        let mut rng = StdRng::seed_from_u64(seed);
        if spoil(&mut recording, &mut rng) {
            spoilt += 1;
            let found = judge(&recording);
            assert!(!found.is_empty(), "{name} was not found, seed {seed}");
        }
    }
}

#[test]
fn whatever_is_spoilt_is_found() {
    for (name, spoil) in WAYS {
        check(name, *spoil, 15);
    }
}

proptest! {
    #![proptest_config(config(100))]

    #[test]
    fn a_judge_never_panics(seed in any::<u64>(), times in 1_usize..6) {
        let mut recording = perfect(seed, 60);
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..times {
            let (_, spoil) = WAYS.choose(&mut rng).expect("there are ways");
            spoil(&mut recording, &mut rng);
        }
        judge(&recording);
    }
}

/// Revisions that answered writes have made, so that it is known what they did.
fn answered(recording: &Recording) -> BTreeSet<i64> {
    let all = recording.operations.iter();
    all.filter_map(shape::written).collect()
}

/// Places of messages with events, all whole, of watches that stay to the end: (watch, message).
fn messages(recording: &Recording) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    for (place, watch) in recording.watches.iter().enumerate() {
        let ended = |message: &WatchMessage| {
            matches!(
                message.body,
                WatchBody::Lost { .. } | WatchBody::Canceled { .. }
            )
        };
        let in_parts = |message: &WatchMessage| {
            matches!(message.body, WatchBody::Events { fragment: true, .. })
        };
        if watch.messages.iter().any(|m| ended(m) || in_parts(m)) {
            continue;
        }
        for (number, message) in watch.messages.iter().enumerate() {
            if matches!(message.body, WatchBody::Events { .. }) {
                all.push((place, number));
            }
        }
    }
    all
}

fn events_of(recording: &mut Recording, (watch, message): (usize, usize)) -> &mut Vec<Event> {
    match &mut recording.watches[watch].messages[message].body {
        WatchBody::Events { events, .. } => events,
        other => panic!("not of events: {other:?}"),
    }
}

/// One of the messages all of whose events were made by answered writes.
fn known_message(
    recording: &mut Recording,
    rng: &mut StdRng,
    fits: impl Fn(&[Event]) -> bool,
) -> Option<(usize, usize)> {
    let known = answered(recording);
    let all = messages(recording);
    let fitting = all.into_iter().filter(|place| {
        let events = events_of(recording, *place);
        events.iter().all(|e| known.contains(&e.pair.modified)) && fits(events)
    });
    fitting.collect::<Vec<_>>().choose(rng).copied()
}

fn drop_message(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let Some((watch, message)) = known_message(recording, rng, |_| true) else {
        return false;
    };
    recording.watches[watch].messages.remove(message);
    true
}

fn drop_event(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let Some(place) = known_message(recording, rng, |events| events.len() > 1) else {
        return false;
    };
    let events = events_of(recording, place);
    let dropped = rng.random_range(0..events.len());
    events.remove(dropped);
    true
}

fn swap_messages(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let all = messages(recording);
    let pairs = all.windows(2).filter(|two| two[0].0 == two[1].0);
    let Some(two) = pairs.choose(rng) else {
        return false;
    };
    let (watch, first, second) = (two[0].0, two[0].1, two[1].1);
    let messages = &mut recording.watches[watch].messages;
    let (early, late) = (messages[first].at, messages[second].at);
    messages.swap(first, second);
    messages[first].at = early;
    messages[second].at = late;
    true
}

fn deliver_twice(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let all = messages(recording);
    let Some((watch, message)) = all.choose(rng).copied() else {
        return false;
    };
    let messages = &mut recording.watches[watch].messages;
    let again = messages[message].clone();
    messages.insert(message + 1, again);
    true
}

fn split_revision(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let of_one = |events: &[Event]| {
        let last = &events[events.len() - 1];
        events.len() > 1 && events[events.len() - 2].pair.modified == last.pair.modified
    };
    let Some((watch, message)) = known_message(recording, rng, of_one) else {
        return false;
    };
    let last = events_of(recording, (watch, message)).pop();
    let messages = &mut recording.watches[watch].messages;
    let mut rest = messages[message].clone();
    rest.body = WatchBody::Events {
        events: last.into_iter().collect(),
        fragment: false,
    };
    messages.insert(message + 1, rest);
    true
}

fn wrong_previous(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let known = answered(recording);
    let has = |events: &[Event]| {
        let prev = |event: &Event| event.prev.as_ref().map(|prev| prev.modified);
        events.iter().filter_map(prev).any(|r| known.contains(&r))
    };
    let Some(place) = known_message(recording, rng, has) else {
        return false;
    };
    let events = events_of(recording, place);
    let prev = events.iter_mut().filter_map(|event| event.prev.as_mut());
    let mut prev = prev.filter(|prev| known.contains(&prev.modified));
    prev.next().expect("there is one").value.push('?');
    true
}

fn wrong_value(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let put = |events: &[Event]| !events[0].deleted;
    let Some(place) = known_message(recording, rng, put) else {
        return false;
    };
    events_of(recording, place)[0].pair.value.push('?');
    true
}

fn early_progress(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let Some((watch, message)) = messages(recording).choose(rng).copied() else {
        return false;
    };
    let messages = &mut recording.watches[watch].messages;
    let early = WatchMessage {
        body: WatchBody::Progress,
        ..messages[message].clone()
    };
    messages.insert(message, early);
    true
}

fn event_of_before(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let starts = |place: &(usize, usize)| recording.watches[place.0].start_revision;
    let all = messages(recording);
    let Some(from) = all
        .iter()
        .filter(|place| starts(place) > 2)
        .copied()
        .collect::<Vec<_>>()
        .choose(rng)
        .copied()
    else {
        return false;
    };
    let start = starts(&from);
    let mut earlier = events_of(recording, from)[0].clone();
    earlier.pair.modified = start - 1;
    events_of(recording, from).insert(0, earlier);
    true
}

/// Places of answered reads of the newest state that show a pair.
fn reads(recording: &Recording) -> Vec<usize> {
    let shows = |operation: &Operation| {
        let Request::Range(range) = &operation.request else {
            return false;
        };
        let plain = !range.serializable && range.revision == 0 && !range.keys_only;
        let found = match shape::response(operation) {
            Some(Response::Range(found)) => !found.pairs.is_empty(),
            _ => false,
        };
        plain && found
    };
    let all = 0..recording.operations.len();
    all.filter(|place| shows(&recording.operations[*place]))
        .collect()
}

fn read_of(recording: &mut Recording, place: usize) -> (&mut i64, &mut Found) {
    match &mut recording.operations[place].outcome {
        Outcome::Ok {
            revision,
            response: Response::Range(found),
        } => (revision, found),
        other => panic!("not a read: {other:?}"),
    }
}

fn stale_read(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let known_before = |place: usize| {
        let called = recording.operations[place].called;
        let known = recording.operations.iter().filter(|operation| {
            let returned = operation.returned.unwrap_or(u64::MAX);
            returned < called
        });
        known.filter_map(shape::revision).max().unwrap_or(1)
    };
    let all = reads(recording);
    let Some(place) = all
        .into_iter()
        .filter(|place| known_before(*place) > 1)
        .choose(rng)
    else {
        return false;
    };
    let old = known_before(place) - 1;
    *read_of(recording, place).0 = old;
    true
}

fn old_value(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let known = answered(recording);
    let all = reads(recording);
    let overwritten = |place: &usize| {
        let Some(Response::Range(found)) = shape::response(&recording.operations[*place]) else {
            return false;
        };
        let pair = &found.pairs[0];
        pair.version > 1 && known.contains(&pair.modified)
    };
    let Some(place) = all.into_iter().filter(overwritten).choose(rng) else {
        return false;
    };
    let pair = &mut read_of(recording, place).1.pairs[0];
    pair.modified = pair.created;
    pair.version = 1;
    true
}

fn wrong_version(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let Some(place) = reads(recording).choose(rng).copied() else {
        return false;
    };
    read_of(recording, place).1.pairs[0].version += 1000;
    true
}

/// All members go back to what was before an acknowledged write.
fn lost_write(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let known = answered(recording);
    let pairs = recording.dumps[0].pairs.iter().enumerate();
    let last = pairs.filter(|(_, pair)| known.contains(&pair.modified) && pair.version > 1);
    let Some((place, _)) = last.choose(rng) else {
        return false;
    };
    for dump in &mut recording.dumps {
        let pair = &mut dump.pairs[place];
        pair.version -= 1;
        pair.modified = pair.created;
        pair.value = "before".into();
    }
    true
}

fn member_differs(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let dump = rng.random_range(0..recording.dumps.len());
    let Some(pair) = recording.dumps[dump].pairs.iter_mut().choose(rng) else {
        return false;
    };
    pair.value.push('?');
    true
}

/// A write that a watch has shown is said to have been refused.
fn done_though_refused(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let mut shown = BTreeSet::new();
    for place in messages(recording) {
        let events = events_of(recording, place);
        shown.extend(
            events
                .iter()
                .filter(|e| !e.deleted)
                .map(|e| e.pair.modified),
        );
    }
    let puts = recording.operations.iter_mut().filter(|operation| {
        let revision = shape::written(operation);
        matches!(operation.request, Request::Put(_))
            && revision.is_some_and(|revision| shown.contains(&revision))
    });
    let Some(put) = puts.choose(rng) else {
        return false;
    };
    put.outcome = failed("etcdserver: no leader");
    true
}

/// A write is asked for when somebody has seen it already.
fn later_than_seen(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let length = recording.run.length;
    let newest = recording
        .operations
        .iter()
        .filter_map(shape::revision)
        .max();
    let writes = recording.operations.iter_mut().filter(|operation| {
        let revision = shape::written(operation);
        revision.is_some() && revision < newest
    });
    let Some(write) = writes.choose(rng) else {
        return false;
    };
    write.called = length;
    write.returned = Some(length + 1);
    true
}

fn given_twice(recording: &mut Recording, rng: &mut StdRng) -> bool {
    let known: Vec<i64> = answered(recording).into_iter().collect();
    let writes = recording
        .operations
        .iter_mut()
        .filter(|operation| shape::written(operation).is_some());
    let Some(write) = writes.choose(rng) else {
        return false;
    };
    let own = shape::written(write);
    let Some(other) = known.iter().filter(|r| Some(**r) != own).choose(rng) else {
        return false;
    };
    if let Outcome::Ok { revision, .. } = &mut write.outcome {
        *revision = *other;
    }
    true
}
