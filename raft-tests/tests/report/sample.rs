//! A made-up run to draw: clients of a three-member store that is cut, killed and paused, as one keyspace answers them.
//! Where a lie is planted, the member that is cut off and no longer leads answers one read from its own past.

use raft_tests::recording::{
    Event, Fault, Found, Operation, Outcome, Pair, Put, Range, Recording, Request, Response, Role,
    Sample, Violation, Watch, WatchBody, WatchMessage,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;

pub(crate) struct Options {
    pub(crate) clients: u32,
    pub(crate) seconds: u64,
    /// Between an answer and the next call, at the most.
    pub(crate) pause_ms: u64,
    pub(crate) lie: bool,
}

struct Run {
    options: Options,
    random: SmallRng,
    recording: Recording,
    pairs: BTreeMap<String, Pair>,
    /// As member 1 had them when it was cut off.
    past: Option<(i64, BTreeMap<String, Pair>)>,
    revision: i64,
    violation: Option<Violation>,
}

pub(crate) fn run(options: Options) -> (Recording, Vec<Violation>) {
    let mut run = Run {
        random: SmallRng::seed_from_u64(7),
        recording: Recording::default(),
        pairs: BTreeMap::new(),
        past: None,
        revision: 1,
        violation: None,
        options,
    };
    run.head();
    run.serve();
    run.sample();
    (run.recording, run.violation.into_iter().collect())
}

impl Run {
    fn length(&self) -> u64 {
        self.options.seconds * SECOND
    }

    /// A share of the run, in thousandths.
    fn at(&self, thousandth: u64) -> u64 {
        self.length() / 1000 * thousandth
    }

    fn head(&mut self) {
        let (length, healed) = (self.length(), self.at(840));
        let fault = |kind: &str, what: &str, members: &[u64], from, until| Fault {
            kind: kind.into(),
            what: what.into(),
            members: members.to_vec(),
            from,
            until: Some(until),
        };
        self.recording.faults = vec![
            fault(
                "partition",
                "member 1 alone",
                &[1],
                self.at(200),
                self.at(430),
            ),
            fault(
                "loss",
                "a tenth of all packets",
                &[],
                self.at(380),
                self.at(520),
            ),
            fault(
                "kill",
                "member 3, started again",
                &[3],
                self.at(560),
                self.at(640),
            ),
            fault("pause", "member 2", &[2], self.at(700), self.at(765)),
            fault(
                "compact",
                "to the newest revision",
                &[],
                self.at(800),
                self.at(800),
            ),
        ];
        let run = &mut self.recording.run;
        run.level = "sim".into();
        run.seed = 0x7f3a;
        run.replay = "cargo run --release -p raft-tests -- replay --seed 32570".into();
        run.members = vec![1, 2, 3];
        run.began_unix_ms = 1_795_662_062_000;
        run.length = length;
        run.healed = Some(healed);
        let watch = |id, client, member, end: &str| Watch {
            id,
            client,
            member,
            key: if end.is_empty() { "k2" } else { "k" }.into(),
            end: end.into(),
            called: id * 20 * MS,
            messages: vec![WatchMessage {
                at: (id * 20 + 4) * MS,
                revision: 1,
                body: WatchBody::Created,
            }],
            ..Watch::default()
        };
        self.recording.watches = vec![watch(1, 1, 2, "l"), watch(2, 2, 3, "l"), watch(3, 2, 2, "")];
    }

    /// Always the client that is free first, so that calls take effect in the order in which they are made.
    fn serve(&mut self) {
        let clients = self.options.clients;
        let mut free: Vec<u64> = (0..clients)
            .map(|client| u64::from(client) * 9 * MS)
            .collect();
        loop {
            let client = (0..clients as usize)
                .min_by_key(|client| free[*client])
                .unwrap();
            let called = free[client];
            if called > self.length() - 60 * MS {
                break;
            }
            let returned = self.call(client as u32 + 1, called);
            free[client] = returned + self.random.random_range(1..=self.options.pause_ms) * MS;
        }
    }

    fn call(&mut self, client: u32, called: u64) -> u64 {
        if self.past.is_none() && called > self.at(200) {
            self.past = Some((self.revision, self.pairs.clone()));
        }
        let key = format!("k{}", self.random.random_range(0..5));
        let request = match self.random.random_range(0..10) {
            0..4 => Request::Range(Range {
                key: key.clone(),
                ..Range::default()
            }),
            _ => Request::Put(Put {
                key: key.clone(),
                value: format!("v{}", self.revision + 1),
                ..Put::default()
            }),
        };
        let member = self.random.random_range(1..=3);
        let latency = self.random.random_range(2..24) * MS + self.random.random_range(0..MS);
        let (returned, outcome) = match self.trouble(member, called) {
            None => (Some(called + latency), self.apply(&request, called + MS)),
            Some((returned, outcome)) => (returned.map(|took| called + took), outcome),
        };
        let mut operation = Operation {
            id: self.recording.operations.len() as u64 + 1,
            client,
            member,
            called,
            returned,
            request,
            outcome,
        };
        if self.options.lie && self.violation.is_none() && called > self.at(300) {
            self.lie(&mut operation);
        }
        self.recording.operations.push(operation);
        returned.unwrap_or(called + 300 * MS)
    }

    /// What comes in between, if anything: when there is an answer, and which.
    fn trouble(&mut self, member: u64, at: u64) -> Option<(Option<u64>, Outcome)> {
        let hit = |fault: &Fault| {
            let long = fault
                .until
                .is_some_and(|until| until > fault.from && at < until);
            at >= fault.from && long && fault.members.contains(&member)
        };
        let kind = self
            .recording
            .faults
            .iter()
            .find(|fault| hit(fault))?
            .kind
            .clone();
        let refused = Outcome::Failed {
            code: 14,
            message: "etcdserver: no leader".into(),
        };
        let unknown = |message: &str| Outcome::Unknown {
            message: message.into(),
        };
        Some(match (kind.as_str(), self.random.random_range(0..3)) {
            ("partition", 0) => (Some(400 * MS), unknown("deadline of 400 ms exceeded")),
            ("pause", _) => (Some(200 * MS), unknown("deadline of 200 ms exceeded")),
            ("kill", 0) => (None, unknown("connection reset")),
            _ => (Some(3 * MS), refused),
        })
    }

    fn apply(&mut self, request: &Request, at: u64) -> Outcome {
        let response = match request {
            Request::Put(put) => {
                self.revision += 1;
                let before = self.pairs.get(&put.key);
                let pair = Pair {
                    key: put.key.clone(),
                    value: put.value.clone(),
                    created: before.map_or(self.revision, |before| before.created),
                    modified: self.revision,
                    version: before.map_or(1, |before| before.version + 1),
                    lease: 0,
                };
                self.deliver(&pair, at);
                self.pairs.insert(put.key.clone(), pair);
                Response::Put { prev: None }
            }
            Request::Range(range) => found(self.pairs.get(&range.key)),
            _ => unreachable!("only these are asked"),
        };
        Outcome::Ok {
            revision: self.revision,
            response,
        }
    }

    fn deliver(&mut self, pair: &Pair, at: u64) {
        let lost = self.at(560);
        for watch in &mut self.recording.watches {
            let over = watch
                .messages
                .iter()
                .any(|message| matches!(message.body, WatchBody::Lost { .. }));
            let other = watch.end.is_empty() && watch.key != pair.key;
            if over || other {
                continue;
            }
            let (late, body) = match watch.member == 3 && at > lost {
                true => (
                    0,
                    WatchBody::Lost {
                        message: "connection reset".into(),
                    },
                ),
                false => (
                    2 * MS + watch.id * MS / 3,
                    WatchBody::Events {
                        events: vec![Event {
                            deleted: false,
                            pair: pair.clone(),
                            prev: None,
                        }],
                        fragment: false,
                    },
                ),
            };
            watch.messages.push(WatchMessage {
                at: at + late,
                revision: pair.modified,
                body,
            });
        }
    }

    /// Turns a read into one from the past, where there is something newer that somebody was told of before.
    fn lie(&mut self, operation: &mut Operation) {
        let (Request::Range(range), Some((revision, past))) = (&operation.request, &self.past)
        else {
            return;
        };
        let Some(old) = past.get(&range.key) else {
            return;
        };
        let wrote = |modified: i64| {
            let operations = self.recording.operations.iter();
            operations
                .filter(move |one| matches!(one.outcome, Outcome::Ok { revision, response: Response::Put { .. } } if revision == modified))
                .map(|one| (one.id, one.client, one.returned))
                .next()
        };
        let newest = &self.pairs[&range.key];
        let (Some((first, writer, _)), Some((second, witness, Some(told)))) =
            (wrote(old.modified), wrote(newest.modified))
        else {
            return;
        };
        if newest.modified == old.modified
            || told >= operation.called
            || writer == operation.client
            || witness == operation.client
        {
            return;
        }
        self.violation = Some(Violation {
            rule: "stale read".into(),
            story: format!(
                "Client {} read {} = {} from member 1, which was cut off and no longer led. Client {witness} had been told {} ms before that {} = {} is written, at revision {}.",
                operation.client,
                old.key,
                old.value,
                (operation.called - told) / MS,
                newest.key,
                newest.value,
                newest.modified,
            ),
            operations: vec![first, second, operation.id],
            watches: Vec::new(),
        });
        operation.member = 1;
        operation.returned = Some(operation.called + 6 * MS);
        operation.outcome = Outcome::Ok {
            revision: *revision,
            response: found(Some(old)),
        };
    }

    fn sample(&mut self) {
        let mut samples = Vec::new();
        let every = (self.length() / 500).max(20 * MS);
        for at in (0..self.length()).step_by(usize::try_from(every).unwrap()) {
            let thousandth = at * 1000 / self.length();
            let answered = self
                .recording
                .operations
                .iter()
                .filter(|one| one.called < at)
                .count() as u64;
            for member in 1..=3 {
                let (role, term) = role(member, thousandth);
                let cut = self
                    .recording
                    .operations
                    .iter()
                    .filter(|one| one.called < self.at(200))
                    .count() as u64;
                let applied = if member == 1 && (200..430).contains(&thousandth) {
                    cut
                } else {
                    answered
                };
                samples.push(Sample {
                    at,
                    member,
                    role,
                    term,
                    applied,
                    revision: 0,
                });
            }
        }
        self.recording.samples = samples;
    }
}

fn role(member: u64, thousandth: u64) -> (Role, u64) {
    let (leader, term) = match thousandth {
        0..310 if member == 1 => (1, 2),
        0..290 => (1, 2),
        290..310 => {
            return (
                if member == 2 {
                    Role::Candidate
                } else {
                    Role::Follower
                },
                3,
            );
        }
        310..430 if member == 1 => return (Role::Candidate, 3),
        310..720 => (2, 3),
        720..765 if member == 2 => (2, 3),
        720..740 => {
            return (
                if member == 3 {
                    Role::Candidate
                } else {
                    Role::Follower
                },
                4,
            );
        }
        _ => (3, 4),
    };
    match member == 3 && (560..640).contains(&thousandth) {
        true => (Role::Down, term),
        false if member == leader => (Role::Leader, term),
        false => (Role::Follower, term),
    }
}

fn found(pair: Option<&Pair>) -> Response {
    let pairs: Vec<Pair> = pair.cloned().into_iter().collect();
    Response::Range(Found {
        count: pairs.len() as i64,
        more: false,
        pairs,
    })
}
