//! What a recording shows of revisions: when one was first known of, and what was seen of those that no answered
//! operation says to have made.

use super::shape;
use crate::model::Wanted;
use crate::recording::{Pair, Recording, Watch, WatchBody, WatchMessage};
use std::collections::BTreeMap;

/// Where something was seen. Numbers are places in the recording's lists, the second one of a watch is a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Operation(usize),
    Watch(usize, usize),
    Dump(usize),
}

/// A change that was seen.
#[derive(Clone, Debug)]
pub(super) struct Trace<'a> {
    pub(super) deleted: bool,
    pub(super) pair: &'a Pair,
    /// The value was shown too.
    pub(super) whole: bool,
    pub(super) source: Source,
}

/// What was seen of revisions that are not `known`.
pub(super) fn traces<'a>(
    recording: &'a Recording,
    known: &dyn Fn(i64) -> bool,
) -> BTreeMap<i64, Vec<Trace<'a>>> {
    let mut all: BTreeMap<i64, Vec<Trace>> = BTreeMap::new();
    let mut add = |pair: &'a Pair, deleted: bool, whole: bool, source: Source| {
        if pair.modified < 2 || known(pair.modified) {
            return;
        }
        let traces = all.entry(pair.modified).or_default();
        let trace = Trace {
            deleted,
            pair,
            whole,
            source,
        };
        match traces.iter_mut().find(|t| t.pair.key == pair.key) {
            Some(there) if whole && !there.whole => *there = trace,
            Some(_) => {}
            None => traces.push(trace),
        }
    };
    for (place, watch) in recording.watches.iter().enumerate() {
        for (number, message) in watch.messages.iter().enumerate() {
            let WatchBody::Events { events, .. } = &message.body else {
                continue;
            };
            let source = Source::Watch(place, number);
            for event in events {
                add(&event.pair, event.deleted, true, source);
                if let Some(prev) = &event.prev {
                    add(prev, false, true, source);
                }
            }
        }
    }
    for (place, operation) in recording.operations.iter().enumerate() {
        shape::each_pair(operation, &mut |pair, whole| {
            add(pair, false, whole, Source::Operation(place));
        });
    }
    for (place, dump) in recording.dumps.iter().enumerate() {
        for pair in &dump.pairs {
            add(pair, false, true, Source::Dump(place));
        }
    }
    all
}

/// When it was first known that the cluster had come to a revision.
pub(super) struct Seen {
    /// Ascending by revision; the time is the earliest at which this or a later one was known.
    first: Vec<(i64, u64, Source)>,
    /// All of it by time.
    pub(super) by_time: Vec<(u64, i64, Source)>,
}

impl Seen {
    pub(super) fn new(recording: &Recording) -> Seen {
        let mut by_time = Vec::new();
        for (place, operation) in recording.operations.iter().enumerate() {
            if let (Some(revision), Some(returned)) =
                (shape::revision(operation), operation.returned)
            {
                by_time.push((returned, revision, Source::Operation(place)));
            }
        }
        for (place, watch) in recording.watches.iter().enumerate() {
            for (number, message) in watch.messages.iter().enumerate() {
                let events = match &message.body {
                    WatchBody::Events { events, .. } => events.as_slice(),
                    WatchBody::Lost { .. } => continue,
                    _ => &[],
                };
                let shown = events.iter().map(|event| event.pair.modified).max();
                let revision = message.revision.max(shown.unwrap_or(0));
                by_time.push((message.at, revision, Source::Watch(place, number)));
            }
        }
        for (place, dump) in recording.dumps.iter().enumerate() {
            by_time.push((recording.run.length, dump.revision, Source::Dump(place)));
        }
        by_time.sort_by_key(|(at, revision, _)| (*at, *revision));
        let mut first: Vec<(i64, u64, Source)> = Vec::new();
        let mut newest = 0;
        for (at, revision, source) in &by_time {
            if *revision > newest {
                newest = *revision;
                first.push((*revision, *at, *source));
            }
        }
        Seen { first, by_time }
    }

    /// The first time at which this revision, or a later one, was known of, and by whom.
    pub(super) fn first(&self, revision: i64) -> Option<(u64, Source)> {
        let place = self.first.partition_point(|(known, ..)| *known < revision);
        self.first.get(place).map(|(_, at, source)| (*at, *source))
    }
}

/// The revisions that a watch has gone over: had there been something for it, it had to say so.
pub(super) struct Span {
    pub(super) wanted: Wanted,
    /// First revision that it wanted.
    pub(super) from: i64,
    /// Last one that is behind it for certain.
    pub(super) to: i64,
}

impl Span {
    /// All of them. In a healed cluster also those count that have had the time to come.
    pub(super) fn all(recording: &Recording, seen: &Seen) -> Vec<Span> {
        let run = &recording.run;
        let is_due = |since: u64| since + super::watch::CAUGHT_UP_WITHIN < run.length;
        let healed = run.healed.filter(|healed| is_due(*healed));
        let due = seen.by_time.iter().filter(|(at, ..)| is_due(*at));
        let due = due.map(|(_, revision, _)| *revision).max().unwrap_or(0);
        let span = |watch: &Watch| {
            let mut span = Span::new(watch)?;
            let is_end = |message: &WatchMessage| {
                let body = &message.body;
                matches!(body, WatchBody::Canceled { .. } | WatchBody::Lost { .. })
            };
            let goes_on = !watch.messages.iter().any(is_end) && is_due(watch.called);
            if healed.is_some() && goes_on {
                span.to = span.to.max(due);
            }
            Some(span)
        };
        recording.watches.iter().filter_map(span).collect()
    }

    pub(super) fn new(watch: &Watch) -> Option<Span> {
        let mut created = None;
        let mut to = 0;
        for message in &watch.messages {
            match &message.body {
                WatchBody::Created => created = created.or(Some(message.revision)),
                WatchBody::Events {
                    events,
                    fragment: false,
                } => to = to.max(events.last().map_or(0, |event| event.pair.modified)),
                WatchBody::Progress => to = to.max(message.revision),
                _ => {}
            }
        }
        let from = match watch.start_revision {
            ..=0 => created? + 1,
            asked => asked,
        };
        Some(Span {
            wanted: wanted(watch),
            from,
            to,
        })
    }

    /// Whether a change of the key at the revision would have been shown.
    pub(super) fn shows(&self, key: &str, deleted: bool, revision: i64) -> bool {
        let filtered = if deleted {
            self.wanted.no_delete
        } else {
            self.wanted.no_put
        };
        !filtered
            && (self.from..=self.to).contains(&revision)
            && crate::model::contains(&self.wanted.key, &self.wanted.end, key)
    }
}

pub(super) fn wanted(watch: &Watch) -> Wanted {
    Wanted {
        // etcd: of no key is meant all of them.
        key: match watch.key.as_str() {
            "" => "\0".into(),
            key => key.into(),
        },
        end: watch.end.clone(),
        no_put: watch.no_put,
        no_delete: watch.no_delete,
    }
}
