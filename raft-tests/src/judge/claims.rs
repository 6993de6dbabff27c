//! What watches, last states, and reads of the past inside transactions show of single keys at single revisions.

use super::shape::{self, may_put, may_write};
use super::timeline::{Maker, Timeline};
use super::traces::{Source, Span};
use super::words;
use crate::model::contains;
use crate::recording::{Pair, WatchBody};
use std::collections::{BTreeMap, BTreeSet};

/// Somebody has shown the key to be so at the revision.
#[derive(Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) source: Source,
    pub(super) revision: i64,
    pub(super) key: &'a str,
    pub(super) state: State<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum State<'a> {
    Pair(&'a Pair),
    /// Without its value, which was not asked for.
    Key(&'a Pair),
    Gone,
    /// Somehow: what is deleted was there.
    There,
}

impl State<'_> {
    pub(super) fn is(self, pair: Option<&Pair>) -> bool {
        match self {
            State::Pair(shown) => pair == Some(shown),
            State::Key(shown) => pair.is_some_and(|pair| {
                let of = |pair: &Pair| (pair.created, pair.modified, pair.version, pair.lease);
                of(pair) == of(shown)
            }),
            State::Gone => pair.is_none(),
            State::There => pair.is_some(),
        }
    }
}

impl<'a> From<Option<&'a Pair>> for State<'a> {
    fn from(pair: Option<&'a Pair>) -> State<'a> {
        pair.map_or(State::Gone, State::Pair)
    }
}

impl Claim<'_> {
    pub(super) fn words(&self) -> String {
        match self.state {
            State::Pair(pair) | State::Key(pair) => words::pair(self.key, Some(pair)),
            State::Gone => words::pair(self.key, None),
            State::There => format!("some {}", words::name(self.key)),
        }
    }
}

pub(super) fn each_claim<'a>(timeline: &Timeline<'a>, visit: &mut dyn FnMut(Claim<'a>)) {
    let operations = timeline.recording.operations.iter();
    let names = operations.flat_map(|operation| may_put(&operation.request));
    let names: BTreeSet<&'a str> = names.map(|(key, _)| key).collect();
    in_transactions(timeline, &names, visit);
    in_watches(timeline, visit);
    not_in_watches(timeline, &names, visit);
    in_dumps(timeline, visit);
}

fn in_transactions<'a>(
    timeline: &Timeline<'a>,
    names: &BTreeSet<&'a str>,
    visit: &mut dyn FnMut(Claim<'a>),
) {
    for (place, operation) in timeline.recording.operations.iter().enumerate() {
        shape::each_past(operation, &mut |range, found| {
            let mut claim = |key, state| {
                visit(Claim {
                    source: Source::Operation(place),
                    revision: range.revision,
                    key,
                    state,
                });
            };
            for pair in &found.pairs {
                let state = match range.keys_only {
                    true => State::Key(pair),
                    false => State::Pair(pair),
                };
                claim(&pair.key, state);
            }
            // What is not shown may have been left out.
            if found.more || range.is_filtered() {
                return;
            }
            let shown: BTreeSet<&str> = found.pairs.iter().map(|pair| pair.key.as_str()).collect();
            if range.end.is_empty() && !shown.contains(range.key.as_str()) {
                claim(&range.key, State::Gone);
            } else if !range.end.is_empty() {
                let inside = names.range(range.key.as_str()..);
                let inside = inside.take_while(|key| contains(&range.key, &range.end, key));
                for key in inside.filter(|key| !shown.contains(*key)) {
                    claim(key, State::Gone);
                }
            }
        });
    }
}

fn in_watches<'a>(timeline: &Timeline<'a>, visit: &mut dyn FnMut(Claim<'a>)) {
    for (place, watch) in timeline.recording.watches.iter().enumerate() {
        for (number, message) in watch.messages.iter().enumerate() {
            let WatchBody::Events { events, .. } = &message.body else {
                continue;
            };
            // Of a key that changes twice in a revision only the last is its state, and the first has what was before.
            let mut shown: BTreeMap<(i64, &str), State> = BTreeMap::new();
            for event in events {
                let revision = event.pair.modified;
                let key = event.pair.key.as_str();
                let state = Some(&event.pair).filter(|_| !event.deleted).into();
                let again = shown.insert((revision, key), state).is_some();
                let before = match &event.prev {
                    Some(prev) => Some(State::Pair(prev)),
                    None if event.deleted => Some(State::There),
                    None => watch.prev.then_some(State::Gone),
                };
                if let Some(before) = before.filter(|_| !again) {
                    shown.entry((revision - 1, key)).or_insert(before);
                }
            }
            for ((revision, key), state) in shown {
                visit(Claim {
                    source: Source::Watch(place, number),
                    revision,
                    key,
                    state,
                });
            }
        }
    }
}

/// What an answered deletion would have deleted, and a watch does not show, was not there.
fn not_in_watches<'a>(
    timeline: &Timeline<'a>,
    names: &BTreeSet<&'a str>,
    visit: &mut dyn FnMut(Claim<'a>),
) {
    let deletions = deletions(timeline, names);
    for (place, watch) in timeline.recording.watches.iter().enumerate() {
        let Some(span) = Span::new(watch) else {
            continue;
        };
        let mut shown: BTreeSet<(i64, &str)> = BTreeSet::new();
        for message in &watch.messages {
            if let WatchBody::Events { events, .. } = &message.body {
                let deleted = events.iter().filter(|event| event.deleted);
                shown.extend(deleted.map(|e| (e.pair.modified, e.pair.key.as_str())));
            }
        }
        let from = deletions.partition_point(|(revision, _)| *revision < span.from);
        let due = deletions[from..].iter();
        for (revision, key) in due.take_while(|(revision, _)| *revision <= span.to) {
            if span.shows(key, true, *revision) && !shown.contains(&(*revision, key)) {
                visit(Claim {
                    source: Source::Watch(place, 0),
                    revision: revision - 1,
                    key,
                    state: State::Gone,
                });
            }
        }
    }
}

/// What answered operations have deleted, as the model has it; ascending.
fn deletions<'a>(timeline: &Timeline<'a>, names: &BTreeSet<&'a str>) -> Vec<(i64, &'a str)> {
    let mut all = Vec::new();
    for (revision, maker) in &timeline.made {
        if let Maker::Operation(place) = maker
            && shape::written(timeline.operation(*place)).is_some()
        {
            let events = timeline.model.events_at(*revision).iter();
            let deleted = events.filter(|event| event.deleted);
            let keys = deleted.filter_map(|event| names.get(event.pair.key.as_str()));
            all.extend(keys.map(|key| (*revision, *key)));
        }
    }
    all
}

fn in_dumps<'a>(timeline: &Timeline<'a>, visit: &mut dyn FnMut(Claim<'a>)) {
    let places = shown_places(timeline);
    for (place, dump) in timeline.recording.dumps.iter().enumerate() {
        let claim = |key, state| Claim {
            source: Source::Dump(place),
            revision: dump.revision,
            key,
            state,
        };
        let there: BTreeMap<&str, &Pair> = dump.pairs.iter().map(|p| (p.key.as_str(), p)).collect();
        for (key, pair) in &there {
            visit(claim(*key, State::Pair(pair)));
        }
        for operation in &timeline.recording.operations {
            for (key, end) in may_write(&operation.request) {
                if end.is_empty() && !there.contains_key(key) {
                    visit(claim(key, State::Gone));
                }
            }
        }
        for key in &places {
            if !there.contains_key(key) {
                visit(claim(key, State::Gone));
            }
        }
    }
}

/// Keys of places in lines that somebody has shown. Their ends are seldom in an answer: that a lease takes them along is in
/// none.
fn shown_places<'a>(timeline: &Timeline<'a>) -> BTreeSet<&'a str> {
    let recording = timeline.recording;
    let mut shown: BTreeSet<&'a str> = BTreeSet::new();
    for operation in &recording.operations {
        shape::each_pair(operation, &mut |pair, _| {
            shown.insert(&pair.key);
        });
    }
    let messages = recording.watches.iter().flat_map(|watch| &watch.messages);
    for message in messages {
        if let WatchBody::Events { events, .. } = &message.body {
            shown.extend(events.iter().map(|event| event.pair.key.as_str()));
        }
    }
    shown.retain(|key| timeline.lines.contains_key(*key));
    shown
}
