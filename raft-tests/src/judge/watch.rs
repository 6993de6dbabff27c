//! Watches against the history: only what was asked for, in order, once, whole revisions, no gap, marks of progress
//! that hold, the right values before, and an end only for a reason.

use super::timeline::{Maker, Timeline};
use super::traces;
use super::{violation, words};
use crate::model::Wanted;
use crate::recording::{Event, Outcome, Request, Violation, Watch, WatchBody, WatchMessage};
use std::collections::BTreeSet;

/// When the last fault is over, a watch has so long to deliver what happened, in nanoseconds.
pub(super) const CAUGHT_UP_WITHIN: u64 = 5_000_000_000;

/// The violations of this family.
pub(super) fn judge(timeline: &Timeline) -> Vec<Violation> {
    let watches = timeline.recording.watches.iter();
    watches
        .flat_map(|watch| Watching::judge(timeline, watch))
        .collect()
}

/// One watch, as far as its messages were looked at.
struct Watching<'t, 'a> {
    timeline: &'t Timeline<'a>,
    watch: &'a Watch,
    wanted: Wanted,
    created: bool,
    /// First revision that it wants, once that is known.
    from: Option<i64>,
    /// Last revision that it got.
    last: i64,
    /// What it got of that: key, and whether deleted.
    of_last: BTreeSet<(&'a str, bool)>,
    progress: i64,
    ended: bool,
    found: Vec<Violation>,
}

impl<'t, 'a> Watching<'t, 'a> {
    fn judge(timeline: &'t Timeline<'a>, watch: &'a Watch) -> Vec<Violation> {
        let mut watching = Watching {
            timeline,
            watch,
            wanted: traces::wanted(watch),
            created: false,
            from: Some(watch.start_revision).filter(|start| *start > 0),
            last: 0,
            of_last: BTreeSet::new(),
            progress: 0,
            ended: false,
            found: Vec::new(),
        };
        let mut pending: Vec<&Event> = Vec::new();
        for message in &watch.messages {
            if watching.ended {
                watching.tell("watch: after its end", "It goes on after its end.", None);
                break;
            }
            match &message.body {
                WatchBody::Created => watching.created(message),
                WatchBody::Events { events, fragment } => {
                    pending.extend(events);
                    if !fragment {
                        watching.events(message, &std::mem::take(&mut pending));
                    }
                }
                WatchBody::Progress => watching.progress(message),
                WatchBody::Canceled { compacted, .. } => {
                    watching.ended = true;
                    if *compacted > 0 {
                        watching.compacted(message, *compacted);
                    }
                }
                WatchBody::Lost { .. } => watching.ended = true,
            }
        }
        watching.caught_up();
        watching.found
    }

    /// `about` is the revision in question: its maker is named.
    fn tell(&mut self, rule: &str, what: &str, about: Option<i64>) {
        let maker = about.and_then(|revision| self.timeline.maker(revision));
        let cause = match about {
            Some(revision) if self.timeline.made.contains_key(&revision) => format!(
                " Revision {revision} was made by {}.",
                self.timeline.cause(revision)
            ),
            _ => String::new(),
        };
        let story = format!("{}: {what}{cause}", words::watch(self.watch));
        let ids: Vec<u64> = maker.map(|operation| operation.id).into_iter().collect();
        self.found
            .push(violation(rule, story, &ids, &[self.watch.id]));
    }

    fn created(&mut self, message: &WatchMessage) {
        if self.last > 0 {
            self.tell(
                "watch: events before its creation",
                "It got events before it was said to be created.",
                Some(self.last),
            );
        }
        self.created = true;
        self.from = self.from.or(Some(message.revision + 1));
    }

    fn events(&mut self, message: &WatchMessage, events: &[&'a Event]) {
        for group in events.chunk_by(|a, b| a.pair.modified == b.pair.modified) {
            let revision = group[0].pair.modified;
            if self.may_come(revision, group) {
                self.gap(revision);
                self.revision(revision, group);
                self.last = revision;
                self.of_last = group.iter().map(|event| name(event)).collect();
            }
        }
        let newest = events.iter().map(|event| event.pair.modified).max();
        if let Some(newest) = newest.filter(|newest| message.revision < *newest) {
            let what = format!(
                "the header of its message says revision {}, and an event in it is of {newest}.",
                message.revision
            );
            self.tell("watch: header behind its events", &what, Some(newest));
        }
    }

    fn may_come(&mut self, revision: i64, group: &[&'a Event]) -> bool {
        let from = *self.from.get_or_insert(revision);
        if revision < from {
            let what = format!("it wants revisions from {from} on, and got {revision}.");
            self.tell("watch: before its start", &what, Some(revision));
            return false;
        }
        if revision > self.last && revision > self.progress {
            return true;
        }
        if revision == self.last {
            let again = group
                .iter()
                .any(|event| self.of_last.contains(&name(event)));
            let (rule, how) = match again {
                true => ("watch: delivered twice", "twice"),
                false => ("watch: revision split", "in two messages"),
            };
            let what = format!("it got revision {revision} {how}.");
            self.tell(rule, &what, Some(revision));
        } else if revision < self.last {
            let what = format!("it got revision {revision} after {}.", self.last);
            self.tell("watch: out of order", &what, Some(revision));
        } else {
            let what = format!(
                "it got revision {revision} after it was told that there is nothing up to {}.",
                self.progress
            );
            self.tell("watch: progress ahead of events", &what, Some(revision));
        }
        false
    }

    /// The first revision for it after those that it got, and not after this one.
    fn missing(&self, until: i64) -> Option<i64> {
        let from = self.from?.max(self.last + 1).max(self.progress + 1);
        let mut due = self.timeline.model.events_between(from, until);
        let for_it = |event: &Event| {
            self.wanted.wants(event) && !self.timeline.judged.contains(&event.pair.key)
        };
        due.find(|(_, events)| events.iter().any(for_it))
            .map(|(revision, _)| revision)
    }

    fn gap(&mut self, revision: i64) {
        if let Some(missing) = self.missing(revision - 1) {
            let before = match self.last {
                0 => format!("from {}", self.from.unwrap_or(0)),
                last => format!("after {last}"),
            };
            let what =
                format!("{before} it got {revision}, and nothing of {missing}, which was for it.");
            self.tell("watch: gap", &what, Some(missing));
        }
    }

    /// Everything of one revision against what it was.
    fn revision(&mut self, revision: i64, group: &[&'a Event]) {
        let timeline = self.timeline;
        if timeline.made.get(&revision) == Some(&Maker::Nobody) {
            return;
        }
        let all = timeline.model.events_at(revision);
        let due: Vec<&Event> = all
            .iter()
            .filter(|event| self.wanted.wants(event))
            .collect();
        for event in group {
            if !self.wanted.wants(event) {
                let what = format!(
                    "it got {} of revision {revision}, which it did not ask for.",
                    words::name(&event.pair.key)
                );
                self.tell("watch: not asked for", &what, Some(revision));
                continue;
            }
            match due.iter().find(|due| name(due) == name(event)) {
                Some(due) => self.event(event, due),
                None => {
                    let what = format!(
                        "it got {} of revision {revision}, which did not touch it.",
                        words::name(&event.pair.key)
                    );
                    self.tell("watch: phantom event", &what, Some(revision));
                }
            }
        }
        let got: Vec<_> = group.iter().map(|event| name(event)).collect();
        let expected: Vec<_> = due.iter().map(|event| name(event)).collect();
        if let Some(missing) = expected.iter().find(|name| !got.contains(name)) {
            let what = format!(
                "of revision {revision} it got {} of {} events, and not that of {}.",
                got.len(),
                expected.len(),
                words::name(missing.0)
            );
            self.tell("watch: part of a revision", &what, Some(revision));
        } else if got.len() > expected.len() {
            let what = format!("it got an event of revision {revision} twice.");
            self.tell("watch: delivered twice", &what, Some(revision));
        } else if got != expected {
            let what = format!("the events of revision {revision} came in another order.");
            self.tell("watch: out of order", &what, Some(revision));
        }
    }

    fn event(&mut self, event: &Event, due: &Event) {
        let key = &event.pair.key;
        if self.timeline.judged.contains(key) {
            return;
        }
        let revision = due.pair.modified;
        if event.pair != due.pair {
            let was_created = |event: &Event| event.pair.created == event.pair.modified;
            let rule = match event.deleted || was_created(event) == was_created(due) {
                true => "watch: wrong event",
                false => "watch: wrong creation",
            };
            let what = format!(
                "it got {}, and revision {revision} made {}.",
                words::pair(key, Some(&event.pair)),
                words::pair(key, Some(&due.pair))
            );
            self.tell(rule, &what, Some(revision));
        }
        let prev = due.prev.as_ref().filter(|_| self.watch.prev);
        if event.prev.as_ref() != prev {
            let what = format!(
                "at revision {revision} it got {} as what was before, which was {}.",
                words::pair(key, event.prev.as_ref()),
                words::pair(key, prev)
            );
            let about = due.prev.as_ref().map_or(revision, |prev| prev.modified);
            self.tell("watch: wrong previous value", &what, Some(about));
        }
    }

    fn progress(&mut self, message: &WatchMessage) {
        let revision = message.revision;
        if let Some(missing) = self.missing(revision) {
            let what = format!(
                "it was told that there is nothing up to {revision}, and had not got {missing}."
            );
            self.tell("watch: progress ahead of events", &what, Some(missing));
        }
        if revision < self.last.max(self.progress) {
            let what = format!(
                "its mark of progress is {revision}, after {} before.",
                self.last.max(self.progress)
            );
            self.tell("watch: out of order", &what, None);
        }
        self.progress = self.progress.max(revision);
    }

    fn compacted(&mut self, message: &WatchMessage, compacted: i64) {
        let next = self
            .from
            .unwrap_or(0)
            .max(self.last + 1)
            .max(self.progress + 1);
        if next >= compacted {
            let what = format!(
                "it was ended because of a compaction at {compacted}, and needs revisions from {next} on."
            );
            self.tell("watch: ended for nothing", &what, None);
        }
        let asked = self.timeline.recording.operations.iter().any(|operation| {
            let same =
                matches!(operation.request, Request::Compact { revision } if revision == compacted);
            let refused = matches!(operation.outcome, Outcome::Failed { .. });
            same && !refused && operation.called < message.at
        });
        if !asked {
            let what =
                format!("it was ended because of a compaction at {compacted}, which nobody did.");
            self.tell("watch: ended for nothing", &what, None);
        }
    }

    /// In a healed cluster what happened comes in time.
    fn caught_up(&mut self) {
        let run = &self.timeline.recording.run;
        let Some(healed) = run.healed.filter(|_| !self.ended) else {
            return;
        };
        let is_due = |since: u64| since + CAUGHT_UP_WITHIN < run.length;
        let Some(missing) = self.missing(i64::MAX) else {
            return;
        };
        let known = self.timeline.seen.first(missing);
        if let Some((at, _)) = known
            && is_due(at.max(healed).max(self.watch.called))
        {
            let what = format!(
                "revision {missing} was known at {} and had not come when the run ended at {}.",
                words::time(at),
                words::time(run.length)
            );
            self.tell("watch: not caught up", &what, Some(missing));
        }
    }
}

fn name(event: &Event) -> (&str, bool) {
    (&event.pair.key, event.deleted)
}
