//! Recordings of clients of a perfect cluster: the reference model answers, now or a little ago as a follower would,
//! some answers are lost, leases run out, history is compacted, and watches get what they are to get. What is said
//! against one of them is a false alarm.

use crate::etcd::turns;
use crate::judge::shape;
use crate::model::{self, Model, Wanted};
use crate::recording::{
    Compare, Delete, Dump, Event, Operand, Operation, Outcome, Put, Range, Recording, Relation,
    Request, Response, Step, Txn, Watch, WatchBody, WatchMessage,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

pub(super) const MS: u64 = 1_000_000;
const KEYS: [&str; 6] = ["a", "a/1", "a/2", "b", "b/1", "c"];
const CLIENTS: usize = 5;
const TTL: i64 = 2;
const WATCHES_MAX: usize = 60;
/// Steps of a run that is long.
const LONG: usize = 10_000;

/// The recording of this seed, of so many steps.
pub fn perfect(seed: u64, steps: usize) -> Recording {
    Simulated::run(seed, steps)
}

struct Simulated {
    rng: StdRng,
    /// For orders and bounds of ranges.
    orders: StdRng,
    model: Model,
    now: u64,
    /// When each client is free again.
    free: [u64; CLIENTS],
    /// When each revision was made.
    made_at: BTreeMap<i64, u64>,
    /// The same by time.
    by_time: Vec<(u64, i64)>,
    /// When each lease runs out.
    leases: BTreeMap<i64, u64>,
    number: u64,
    /// Watches that are to be filled in at the end.
    watches: Vec<Watch>,
    operations: Vec<Operation>,
}

impl Simulated {
    fn run(seed: u64, steps: usize) -> Recording {
        let mut simulated = Simulated {
            rng: StdRng::seed_from_u64(seed),
            orders: StdRng::seed_from_u64(seed ^ 0x6f72_6465),
            model: Model::default(),
            now: 1_000 * MS,
            free: [0; CLIENTS],
            made_at: BTreeMap::new(),
            by_time: Vec::new(),
            leases: BTreeMap::new(),
            number: 0,
            watches: Vec::new(),
            operations: Vec::new(),
        };
        if steps > LONG {
            // As in a real run: somebody watches everything, so that little stays in the dark.
            simulated.watch_all();
        }
        for _ in 0..steps {
            simulated.step();
        }
        simulated.finish(seed)
    }

    fn chance(&mut self, of_100: u32) -> bool {
        self.rng.random_range(0..100) < of_100
    }

    fn step(&mut self) {
        self.now += self.rng.random_range(1..40) * MS;
        self.expire();
        if self.watches.len() < WATCHES_MAX && self.chance(12) {
            self.watch();
            return;
        }
        let client = self.rng.random_range(0..CLIENTS);
        if self.free[client] >= self.now {
            return;
        }
        let early = self.rng.random_range(1..30) * MS;
        let called = self.now.saturating_sub(early).max(self.free[client]);
        let returned = self.now + self.rng.random_range(1..30) * MS;
        let request = self.request();
        let (outcome, returned) = match self.rng.random_range(0..100) {
            0..4 => (failed("etcdserver: no leader"), Some(returned)),
            4..7 => (unknown(), None),
            7..13 => {
                self.answer(&request);
                (
                    unknown(),
                    Some(returned).filter(|_| self.number.is_multiple_of(2)),
                )
            }
            _ => (self.answer(&request), Some(returned)),
        };
        self.free[client] = returned.unwrap_or(self.now) + 1;
        self.operations.push(Operation {
            id: 0,
            client: client as u32,
            member: self.rng.random_range(1..=3),
            called,
            returned,
            request,
            outcome,
        });
    }

    fn expire(&mut self) {
        let now = self.now;
        let over: Vec<i64> = self
            .leases
            .iter()
            .filter(|(_, deadline)| **deadline < now)
            .map(|(lease, _)| *lease)
            .collect();
        for lease in over {
            self.leases.remove(&lease);
            self.model.revoke(lease).expect("the lease is there");
            self.note();
        }
    }

    /// Remembers when the newest revision was made.
    fn note(&mut self) {
        let revision = self.model.revision();
        if let Entry::Vacant(vacant) = self.made_at.entry(revision) {
            vacant.insert(self.now);
            self.by_time.push((self.now, revision));
        }
    }

    fn key(&mut self) -> String {
        (*KEYS.choose(&mut self.rng).expect("there are keys")).into()
    }

    fn range(&mut self) -> (String, String) {
        let ends = ["", "", "\0", "a0", "b0", "c"];
        let end = ends.choose(&mut self.rng).expect("there are ends");
        (self.key(), (*end).into())
    }

    fn some_lease(&mut self) -> i64 {
        let all: Vec<i64> = self.leases.keys().copied().collect();
        all.choose(&mut self.rng).copied().unwrap_or(0)
    }

    fn a_put(&mut self) -> Put {
        self.number += 1;
        Put {
            key: self.key(),
            value: format!("v{}", self.number),
            lease: if self.chance(20) {
                self.some_lease()
            } else {
                0
            },
            prev: self.chance(50),
        }
    }

    fn a_delete(&mut self) -> Delete {
        let (key, end) = self.range();
        let prev = self.chance(50);
        Delete { key, end, prev }
    }

    /// As clients of real clusters ask, who ask for an order and for bounds in no transaction.
    fn an_ordered_range(&mut self) -> Range {
        let plain = self.a_range();
        let order = turns::an_order(&mut self.orders, self.model.revision());
        Range {
            key: plain.key,
            end: plain.end,
            revision: plain.revision,
            limit: plain.limit,
            serializable: plain.serializable,
            count_only: plain.count_only,
            keys_only: plain.keys_only,
            ..order
        }
    }

    fn a_range(&mut self) -> Range {
        let (key, end) = self.range();
        let newest = self.model.revision();
        let oldest = self.model.compacted().max(1);
        Range {
            key,
            end,
            revision: if self.chance(20) {
                self.rng.random_range(oldest..=newest)
            } else {
                0
            },
            limit: if self.chance(20) { 2 } else { 0 },
            serializable: self.chance(30),
            count_only: self.chance(10),
            keys_only: self.chance(10),
            ..Range::default()
        }
    }

    fn a_txn(&mut self) -> Txn {
        let key = self.key();
        let there = self.model.pair_at(&key, self.model.revision());
        let modified = there.map_or(0, |pair| pair.modified);
        let put = Step::Put(Put {
            key: key.clone(),
            ..self.a_put()
        });
        let read = Step::Range(self.a_range());
        let second = match self.rng.random_range(0..3) {
            0 => Step::Range(self.a_range()),
            1 => Step::Delete(Delete {
                key: "c".into(),
                ..Delete::default()
            }),
            _ => Step::Txn(Txn {
                then: vec![Step::Range(self.a_range())],
                ..Txn::default()
            }),
        };
        let then = if key == "c" {
            vec![put]
        } else {
            vec![put, second]
        };
        Txn {
            compares: vec![Compare {
                key,
                relation: Relation::Equal,
                operand: Operand::ModRevision(if self.chance(80) { modified } else { 1 }),
            }],
            then,
            otherwise: vec![read],
        }
    }

    fn request(&mut self) -> Request {
        match self.rng.random_range(0..100) {
            0..30 => Request::Put(self.a_put()),
            30..40 => Request::Delete(self.a_delete()),
            40..60 => Request::Txn(self.a_txn()),
            60..85 => Request::Range(self.an_ordered_range()),
            85..90 => {
                self.number += 1;
                Request::Grant {
                    lease: self.number as i64,
                    ttl: TTL,
                }
            }
            90..94 => Request::KeepAlive {
                lease: self.some_lease(),
            },
            94..97 => Request::Revoke {
                lease: self.some_lease(),
            },
            _ => Request::Compact {
                revision: self.model.revision() - 3,
            },
        }
    }

    /// Does it, and says what the client would be answered.
    fn answer(&mut self, request: &Request) -> Outcome {
        let before = self.model.revision();
        let deadline = self.now + TTL as u64 * 1000 * MS;
        let answer = match request {
            Request::Range(range) if range.serializable => return self.answer_of_before(range),
            Request::Grant { lease, ttl } => self.model.grant(*lease, *ttl).map(|ttl| {
                self.leases.insert(*lease, deadline);
                Response::Lease { ttl }
            }),
            Request::KeepAlive { lease } => Ok(match self.leases.get_mut(lease) {
                Some(until) => {
                    *until = deadline;
                    Response::Lease { ttl: TTL }
                }
                None => Response::Lease { ttl: 0 },
            }),
            Request::Revoke { lease } => self.model.revoke(*lease).map(|()| {
                self.leases.remove(lease);
                Response::Lease { ttl: 0 }
            }),
            Request::Compact { revision } => {
                self.model.compact(*revision).map(|()| Response::Compacted)
            }
            request => {
                let txn = shape::as_txn(request).expect("it is about keys");
                self.model
                    .txn(&txn)
                    .map(|answered| shape::as_response(request, answered).expect("it is answered"))
            }
        };
        if self.model.revision() > before {
            self.note();
        }
        match answer {
            Ok(response) => ok(self.model.revision(), response),
            Err(refusal) => failed(refusal),
        }
    }

    /// As a follower that lags.
    fn answer_of_before(&mut self, range: &Range) -> Outcome {
        let newest = self.model.revision();
        let oldest = (newest - 5).max(range.revision).max(1);
        let revision = self.rng.random_range(oldest..=newest);
        let found = self.model.found(&model::Range::from(range), revision);
        ok(revision, Response::Range(found))
    }

    fn watch_all(&mut self) {
        self.watches.push(Watch {
            id: 1,
            client: 90,
            member: 1,
            key: "\0".into(),
            end: "\0".into(),
            prev: true,
            called: self.now,
            messages: vec![WatchMessage {
                at: self.now,
                ..created(1)
            }],
            ..Watch::default()
        });
    }

    fn watch(&mut self) {
        let (key, end) = self.range();
        let revision = self.model.revision();
        let start = match self.rng.random_range(0..4) {
            0 => 0,
            1 => revision + self.rng.random_range(0..5),
            _ => self.rng.random_range(1..=revision),
        };
        let mut messages = vec![WatchMessage {
            at: self.now + MS,
            ..created(revision)
        }];
        let compacted = self.model.compacted();
        if start != 0 && start < compacted {
            let reason = "etcdserver: mvcc: required revision has been compacted".into();
            messages.push(WatchMessage {
                at: self.now + 2 * MS,
                ..message(revision, WatchBody::Canceled { compacted, reason })
            });
        }
        let watch = Watch {
            id: self.watches.len() as u64 + 1,
            client: 90,
            member: 1,
            key,
            end,
            start_revision: start,
            prev: self.chance(70),
            progress: true,
            no_put: self.chance(10),
            no_delete: self.chance(10),
            needs_leader: false,
            called: self.now,
            messages,
        };
        self.watches.push(watch);
    }

    /// What the watch gets in the run, in messages of one or some revisions, whole or in fragments.
    fn fill(&mut self, watch: &mut Watch) {
        if watch.messages.len() > 1 {
            return;
        }
        let wanted = Wanted {
            key: watch.key.clone(),
            end: watch.end.clone(),
            no_put: watch.no_put,
            no_delete: watch.no_delete,
        };
        let from = match watch.start_revision {
            0 => watch.messages[0].revision + 1,
            start => start,
        };
        let due = self.model.history(&wanted, from);
        let mut at = watch.messages[0].at;
        let mut waiting: Vec<Event> = Vec::new();
        for (place, (revision, mut events)) in due.iter().cloned().enumerate() {
            if !watch.prev {
                events.iter_mut().for_each(|event| event.prev = None);
            }
            waiting.extend(events);
            let next = due.get(place + 1).map_or(i64::MAX, |(next, _)| *next);
            if next < i64::MAX && self.chance(30) {
                continue;
            }
            at = at.max(self.made_at[&revision]) + MS;
            let all = std::mem::take(&mut waiting);
            let parts = if self.chance(20) { 1 } else { all.len() };
            let count = all.len().div_ceil(parts);
            for (number, part) in all.chunks(parts).enumerate() {
                let fragment = number + 1 < count;
                let events = part.to_vec();
                let body = WatchBody::Events { events, fragment };
                watch.messages.push(WatchMessage { at, revision, body });
            }
            if self.chance(20) {
                // Up to what was there at the time, and nothing of it to come.
                let known = self.by_time.partition_point(|(made, _)| *made <= at);
                let known = known
                    .checked_sub(1)
                    .map_or(1, |place| self.by_time[place].1);
                let mark = known.min(next - 1);
                watch.messages.push(WatchMessage {
                    at: at + 1,
                    ..progress(mark)
                });
            }
        }
        if watch.key != "\0" && self.chance(20) {
            let message = "reset".into();
            watch.messages.push(WatchMessage {
                at: at + 2,
                revision: 0,
                body: WatchBody::Lost { message },
            });
        }
    }

    fn finish(mut self, seed: u64) -> Recording {
        let mut watches = std::mem::take(&mut self.watches);
        for watch in &mut watches {
            self.fill(watch);
        }
        self.operations.sort_by_key(|operation| operation.called);
        for (place, operation) in self.operations.iter_mut().enumerate() {
            operation.id = place as u64 + 1;
        }
        let revision = self.model.revision();
        let dump = |member| Dump {
            member,
            revision,
            compacted: self.model.compacted(),
            pairs: self.model.pairs_at("\0", "\0", revision).cloned().collect(),
        };
        let mut recording = Recording {
            operations: self.operations,
            watches,
            dumps: (1..=3).map(dump).collect(),
            ..Recording::default()
        };
        recording.run.seed = seed;
        recording.run.members = vec![1, 2, 3];
        recording.run.healed = Some(self.now);
        // Leases that still run have their time.
        recording.run.length = self.now + 6_000 * MS;
        recording
    }
}

pub(super) fn ok(revision: i64, response: Response) -> Outcome {
    Outcome::Ok { revision, response }
}

pub(super) fn unknown() -> Outcome {
    Outcome::Unknown {
        message: "the connection broke".into(),
    }
}

pub(super) fn failed(message: &str) -> Outcome {
    Outcome::Failed {
        code: 14,
        message: message.into(),
    }
}

pub(super) fn message(revision: i64, body: WatchBody) -> WatchMessage {
    WatchMessage {
        at: 0,
        revision,
        body,
    }
}

pub(super) fn created(revision: i64) -> WatchMessage {
    message(revision, WatchBody::Created)
}

pub(super) fn progress(revision: i64) -> WatchMessage {
    message(revision, WatchBody::Progress)
}
