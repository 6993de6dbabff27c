//! What many runs have been through. A batch in which nothing was ever in the way of anything proves nothing, however
//! green it is, so a batch of many seeds fails where something is missing.
//!
//! Of one seed little can be demanded, as each draws its own few faults and may well do them to a cluster that is idle: only
//! that it served somebody. All the rest is demanded of [`BATCH`] seeds together: the rarest of it happens in one of twenty
//! seeds, and would be missing by chance in one of a hundred batches of 100.

use std::collections::BTreeMap;

use super::Ran;
use super::check::is_answered;
use super::nemesis::Kind;
use crate::recording::{Outcome, Recording, RestFate, Violation, WatchBody};

/// So many seeds have to have seen everything.
pub const BATCH: u64 = 300;

/// Something that has to happen, and how often it did in a run.
pub type Event = (&'static str, fn(&Ran) -> u64);

/// All that has to happen to clusters besides faults.
const EVENTS: [Event; 9] = [
    LEADER_CHANGES,
    SNAPSHOTS,
    ("watches ended by a compaction", |ran| {
        messages(
            &ran.recording,
            |body| matches!(body, WatchBody::Canceled { compacted, .. } if *compacted > 0),
        )
    }),
    ("watches lost", |ran| {
        messages(&ran.recording, |body| {
            matches!(body, WatchBody::Lost { .. })
        })
    }),
    ("keys that went with their lease", |ran| {
        messages(&ran.recording, |body| match body {
            WatchBody::Events { events, .. } => events.iter().any(|event| {
                let prev = event.prev.as_ref();
                event.deleted && prev.is_some_and(|prev| prev.lease != 0)
            }),
            _ => false,
        })
    }),
    ("operations without an answer", |ran| {
        outcomes(ran, |outcome| matches!(outcome, Outcome::Unknown { .. }))
    }),
    ("operations that failed", |ran| {
        outcomes(ran, |outcome| matches!(outcome, Outcome::Failed { .. }))
    }),
    ("reads of what is compacted", |ran| {
        outcomes(ran, |outcome| says(outcome, "has been compacted"))
    }),
    ("reads of what is not yet", |ran| {
        outcomes(ran, |outcome| says(outcome, "is a future revision"))
    }),
];

pub const LEADER_CHANGES: Event = ("leader changes", |ran| {
    (ran.leaders as u64).saturating_sub(1)
});

pub const SNAPSHOTS: Event = ("snapshots installed", |ran| ran.installed);

pub fn messages(recording: &Recording, wanted: impl Fn(&WatchBody) -> bool) -> u64 {
    let watches = recording.all_watches();
    let messages = watches.flat_map(|(_, watch, _)| &watch.messages);
    messages.filter(|message| wanted(&message.body)).count() as u64
}

fn outcomes(ran: &Ran, wanted: impl Fn(&Outcome) -> bool) -> u64 {
    let operations = ran.recording.operations.iter();
    operations
        .filter(|operation| wanted(&operation.outcome))
        .count() as u64
}

fn says(outcome: &Outcome, text: &str) -> bool {
    matches!(outcome, Outcome::Failed { message, .. } if message.contains(text))
}

/// See the module head.
#[derive(Debug)]
pub struct Coverage {
    /// Which faults have to be felt.
    kinds: Vec<&'static str>,
    wanted: &'static [Event],
    /// By kind: how many faults, and how many of them while somebody waited for an answer.
    faults: BTreeMap<String, (u64, u64)>,
    events: BTreeMap<&'static str, u64>,
}

/// What clusters of the store have to go through.
pub fn of_clusters() -> Coverage {
    Coverage::new(Kind::ALL.iter().map(|kind| kind.name()).collect(), &EVENTS)
}

impl Coverage {
    pub fn new(kinds: Vec<&'static str>, wanted: &'static [Event]) -> Coverage {
        Coverage {
            kinds,
            wanted,
            faults: BTreeMap::new(),
            events: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, ran: &Ran) {
        for fault in &ran.recording.faults {
            let count = self.faults.entry(fault.kind.clone()).or_default();
            count.0 += 1;
            count.1 += u64::from(ran.recording.is_felt(fault));
        }
        for (name, count) in self.wanted {
            *self.events.entry(name).or_default() += count(ran);
        }
    }

    /// What did not happen: the kinds of faults that were never felt, and the events.
    pub fn missing(&self) -> Vec<String> {
        let felt = |name: &str| self.faults.get(name).is_some_and(|(_, felt)| *felt > 0);
        let happened = |name: &str| self.events.get(name).is_some_and(|count| *count > 0);
        let kinds = self.kinds.iter().copied().filter(|name| !felt(name));
        let events = self.wanted.iter().map(|(name, _)| *name);
        let events = events.filter(|name| !happened(name));
        kinds.chain(events).map(str::to_string).collect()
    }

    /// As lines of a table.
    pub fn told(&self) -> Vec<String> {
        let faults = self.faults.iter().map(|(kind, (count, felt))| {
            format!("  {count:>8}  {kind}, {felt} of them under operations")
        });
        let events = self.events.iter();
        let events = events.map(|(name, count)| format!("  {count:>8}  {name}"));
        faults.chain(events).collect()
    }
}

/// What is demanded of every run.
pub fn demand(recording: &Recording) -> Option<Violation> {
    let operations = recording.operations.iter();
    let operations = operations.map(|operation| is_answered(&operation.outcome));
    let rest = recording.rest.iter();
    let rest = rest.map(|call| matches!(call.fate, RestFate::Done(_)));
    let asked = recording.operations.len() + recording.rest.len();
    // Nobody is asked for anything where the schedule says so.
    let served = asked == 0 || operations.chain(rest).any(|answered| answered);
    (!served).then(|| Violation {
        rule: "coverage: nothing served".into(),
        story: format!("Of {asked} requests not one was answered. Such a run proves nothing."),
        ..Violation::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Fault, Operation, Range, Request, RestCall};

    fn operation(called: u64, returned: Option<u64>, outcome: Outcome) -> Operation {
        Operation {
            id: 0,
            client: 1,
            member: 1,
            called,
            returned,
            request: Request::Range(Range::default()),
            outcome,
        }
    }

    fn unknown() -> Outcome {
        Outcome::Unknown {
            message: String::new(),
        }
    }

    fn fault(kind: &str, from: u64, until: Option<u64>) -> Fault {
        Fault {
            kind: kind.into(),
            from,
            until,
            ..Fault::default()
        }
    }

    fn ran(operations: Vec<Operation>, faults: Vec<Fault>) -> Ran {
        Ran {
            recording: Recording {
                operations,
                faults,
                ..Recording::default()
            },
            ..Ran::default()
        }
    }

    #[test]
    fn what_never_happened_is_missing() {
        let mut coverage = of_clusters();
        let all = coverage.missing();
        assert_eq!(all.len(), Kind::ALL.len() + EVENTS.len());
        coverage.add(&Ran {
            leaders: 2,
            ..ran(
                vec![operation(10, Some(20), unknown())],
                vec![fault("kill", 15, Some(16)), fault("pause", 30, Some(40))],
            )
        });
        let missing = coverage.missing();
        let gone = all.iter().filter(|name| !missing.contains(name));
        let gone: Vec<&str> = gone.map(String::as_str).collect();
        let happened = ["kill", "leader changes", "operations without an answer"];
        assert_eq!(gone, happened, "nobody felt the pause");
    }

    #[test]
    fn a_run_that_served_nobody_is_none() {
        assert_eq!(demand(&Recording::default()), None);
        let idle = ran(vec![operation(1, None, unknown())], Vec::new());
        assert!(demand(&idle.recording).is_some());
        let with = |fate| Recording {
            rest: vec![RestCall {
                fate,
                ..RestCall::default()
            }],
            ..Recording::default()
        };
        assert!(demand(&with(RestFate::Refused)).is_some());
        assert_eq!(demand(&with(RestFate::Done(3))), None);
    }
}
