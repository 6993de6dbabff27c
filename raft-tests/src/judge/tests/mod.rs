//! The judges are judged: recordings in which all is well, recordings of one thing that is not, and good ones that
//! are spoilt at random.

mod lines;
mod museum;
mod perfect;
mod rules;
mod spoilt;
mod transactions;

use super::judge;
use super::simulated::{MS, created, failed, message, ok, progress, unknown};
use crate::recording::{
    Delete, Dump, Event, Found, Operation, Outcome, Pair, Put, Range, Recording, Request, Response,
    Txn, Violation, Watch, WatchBody, WatchMessage,
};

/// Writes a recording, one thing after the other, each of ten milliseconds. Operations and watches count from 1.
#[derive(Default)]
struct Story {
    recording: Recording,
    now: u64,
}

impl Story {
    fn new() -> Story {
        let mut story = Story::default();
        story.recording.run.members = vec![1, 2, 3];
        story
    }

    /// An operation from now on, for so long.
    fn lasting(&mut self, client: u32, ms: u64, request: Request, outcome: Outcome) -> &mut Self {
        let answered = !matches!(outcome, Outcome::Unknown { .. });
        self.recording.operations.push(Operation {
            id: self.recording.operations.len() as u64 + 1,
            client,
            member: u64::from(client % 3) + 1,
            called: self.now,
            returned: answered.then_some(self.now + ms * MS),
            request,
            outcome,
        });
        self.now += MS;
        self
    }

    fn op(&mut self, client: u32, request: Request, outcome: Outcome) -> &mut Self {
        self.lasting(client, 5, request, outcome).wait(9)
    }

    fn wait(&mut self, ms: u64) -> &mut Self {
        self.now += ms * MS;
        self
    }

    fn put(&mut self, client: u32, key: &str, value: &str, revision: i64) -> &mut Self {
        self.op(client, put(key, value), done(revision))
    }

    fn delete(&mut self, client: u32, key: &str, revision: i64) -> &mut Self {
        let response = Response::Delete {
            deleted: 1,
            prev: Vec::new(),
        };
        self.op(client, delete(key), ok(revision, response))
    }

    fn lost_put(&mut self, client: u32, key: &str, value: &str) -> &mut Self {
        self.op(client, put(key, value), unknown())
    }

    fn read(&mut self, client: u32, key: &str, pair: Option<Pair>, revision: i64) -> &mut Self {
        self.op(client, read(key), ok(revision, Response::Range(one(pair))))
    }

    /// A watch of everything, created now.
    fn watch(&mut self, start: i64, messages: Vec<WatchMessage>) -> &mut Self {
        self.watch_of("\0", "\0", start, messages)
    }

    fn watch_of(
        &mut self,
        key: &str,
        end: &str,
        start: i64,
        messages: Vec<WatchMessage>,
    ) -> &mut Self {
        let mut at = self.now;
        let messages = messages.into_iter().map(|message| {
            at += MS;
            WatchMessage { at, ..message }
        });
        self.recording.watches.push(Watch {
            id: self.recording.watches.len() as u64 + 1,
            client: 9,
            member: 1,
            key: key.into(),
            end: end.into(),
            start_revision: start,
            prev: true,
            called: self.now,
            messages: messages.collect(),
            ..Watch::default()
        });
        self.wait(10)
    }

    fn dump(&mut self, member: u64, revision: i64, pairs: Vec<Pair>) -> &mut Self {
        self.recording.dumps.push(Dump {
            member,
            revision,
            compacted: 0,
            pairs,
        });
        self
    }

    fn judged(&mut self) -> Vec<Violation> {
        self.recording.run.length = self.recording.run.length.max(self.now);
        judge(&self.recording)
    }

    /// All is well.
    fn good(&mut self) {
        assert_eq!(self.judged(), []);
    }

    /// This is found, and of these operations and watches.
    fn bad(&mut self, rule: &str, operations: &[u64], watches: &[u64]) {
        let found = self.judged();
        let same = |violation: &Violation| {
            violation.rule == rule
                && violation.operations == operations
                && violation.watches == watches
        };
        assert!(found.iter().any(same), "{found:#?}");
        for violation in &found {
            let sentences = violation.story.matches(". ").count() + 1;
            assert!(sentences <= 2, "more than two sentences: {violation:?}");
        }
    }
}

fn put(key: &str, value: &str) -> Request {
    Request::Put(Put {
        key: key.into(),
        value: value.into(),
        ..Put::default()
    })
}

fn leased(key: &str, value: &str, lease: i64) -> Request {
    Request::Put(Put {
        key: key.into(),
        value: value.into(),
        lease,
        prev: false,
    })
}

fn delete(key: &str) -> Request {
    Request::Delete(Delete {
        key: key.into(),
        ..Delete::default()
    })
}

fn read(key: &str) -> Request {
    Request::Range(Range {
        key: key.into(),
        ..Range::default()
    })
}

fn read_at(key: &str, revision: i64) -> Request {
    Request::Range(Range {
        key: key.into(),
        revision,
        ..Range::default()
    })
}

/// A put was done.
fn done(revision: i64) -> Outcome {
    ok(revision, Response::Put { prev: None })
}

fn pair(key: &str, value: &str, created: i64, modified: i64, version: i64) -> Pair {
    Pair {
        key: key.into(),
        value: value.into(),
        created,
        modified,
        version,
        lease: 0,
    }
}

/// A key that was put once.
fn first(key: &str, value: &str, revision: i64) -> Pair {
    pair(key, value, revision, revision, 1)
}

fn one(pair: Option<Pair>) -> Found {
    let pairs: Vec<Pair> = pair.into_iter().collect();
    Found {
        count: pairs.len() as i64,
        pairs,
        more: false,
    }
}

fn events(events: Vec<Event>) -> WatchMessage {
    let revision = events.iter().map(|event| event.pair.modified).max();
    let fragment = false;
    message(
        revision.unwrap_or(0),
        WatchBody::Events { events, fragment },
    )
}

fn event(pair: Pair, prev: Option<Pair>) -> Event {
    Event {
        deleted: false,
        pair,
        prev,
    }
}

fn deleted(revision: i64, prev: Pair) -> Event {
    Event {
        deleted: true,
        pair: Pair {
            key: prev.key.clone(),
            modified: revision,
            ..Pair::default()
        },
        prev: Some(prev),
    }
}
