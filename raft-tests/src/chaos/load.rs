//! Clients: each does one thing after the other, with a deadline, through a member chosen anew each time, and has
//! recorded what it asked and what became of it.

use super::shared::Shared;
use crate::etcd::client::Connection;
use crate::etcd::outcome::{is_of_connection, never_sent, was_answered};
use crate::etcd::turns::{self, Caller, one};
use crate::recording::{
    Compare, Delete, Operand, Outcome, Pair, Put, Range, Relation, Request, Response, Step, Txn,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// For an answer. Shorter than an election takes when things go badly, so that outcomes become unknown.
const ANSWER: Duration = Duration::from_secs(3);
/// At most so long between two calls of a client.
const THINK_MS: u64 = 40;
/// After a member could not be reached.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const REGISTERS: u64 = 3;
/// So many calls on one register, so that the search for an order of them stays small.
const CALLS_PER_REGISTER: u64 = 200;
/// Elements that one list takes.
const LIST_ELEMENTS: u64 = 150;
const MIXED_KEYS: u64 = 8;
/// Compaction leaves so many revisions.
const KEPT_REVISIONS: i64 = 150;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Read, write and compare-and-set of few keys.
    Register,
    /// Elements that are added once and have to stay.
    Set,
    /// Transactions, deletions, old revisions, compaction.
    Mix,
    /// Elements that are added to several lists at once.
    Append,
    /// Leases that are kept alive, revoked, or left to end.
    Lease,
    /// Locks and elections.
    Line,
}

fn work(client: u32) -> Work {
    match client % 10 {
        0 | 5 => Work::Register,
        1 | 6 => Work::Set,
        2 | 7 => Work::Mix,
        3 => Work::Lease,
        4 => Work::Append,
        // Two, so that one waits for the other.
        _ => Work::Line,
    }
}

struct Client {
    number: u32,
    rng: StdRng,
    shared: Arc<Shared>,
    connections: Vec<Option<Connection>>,
    /// Makes values and keys unique, together with the client's number.
    counter: u64,
    /// Last revision of each register, as far as this client knows.
    known: BTreeMap<String, i64>,
}

/// Works until told to stop.
pub async fn work_on(shared: Arc<Shared>, number: u32, seed: u64) {
    let rng =
        StdRng::seed_from_u64(seed ^ u64::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let connections = shared.members.iter().map(|_| None).collect();
    let mut client = Client {
        number,
        rng,
        shared,
        connections,
        counter: 0,
        known: BTreeMap::new(),
    };
    while client.goes_on() {
        match work(number) {
            Work::Register => client.register().await,
            Work::Set => client.set().await,
            Work::Mix => client.mix().await,
            Work::Append => turns::append(&mut client).await,
            Work::Lease => client.lease().await,
            Work::Line => client.stand_in_line().await,
        }
        let pause = client.rng.random_range(0..THINK_MS);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

impl Caller for Client {
    type Dice = StdRng;

    fn dice(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    fn unique(&mut self) -> u64 {
        self.counter += 1;
        u64::from(self.number) << 32 | self.counter
    }

    fn is_over(&self) -> bool {
        !self.goes_on()
    }

    async fn ask(&mut self, request: Request) -> Outcome {
        Client::ask(self, request).await
    }

    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        let pause = self.rng.random_range(from_ms..to_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.shared.clients_stop.load(Ordering::SeqCst)
    }

    fn value(&mut self) -> String {
        self.counter += 1;
        format!("{}.{}", self.number, self.counter)
    }

    /// Through any member.
    async fn ask(&mut self, request: Request) -> Outcome {
        let member = self.rng.random_range(0..self.connections.len());
        let shared = self.shared.clone();
        let id = shared.members[member].id();
        let operation = shared.recorder.called(self.number, id, request.clone());
        let outcome = match self.connection(member).await {
            Ok(connection) => connection.perform(&request, ANSWER).await,
            Err(error) => never_sent(format!("{error:#}")),
        };
        shared
            .recorder
            .returned(operation, outcome.clone(), was_answered(&outcome));
        if let Outcome::Ok { revision, .. } = &outcome {
            shared.learn_revision(*revision);
        }
        if is_of_connection(&outcome) {
            self.connections[member] = None;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        outcome
    }

    async fn connection(&mut self, member: usize) -> anyhow::Result<Connection> {
        if let Some(open) = &self.connections[member] {
            return Ok(open.clone());
        }
        let open = self.shared.connect(member).await?;
        self.connections[member] = Some(open.clone());
        Ok(open)
    }

    async fn register(&mut self) {
        let calls = self.shared.register_calls.fetch_add(1, Ordering::SeqCst);
        let epoch = calls / (REGISTERS * CALLS_PER_REGISTER);
        let number = self.rng.random_range(0..REGISTERS);
        let key = format!("register/{epoch:04}/{number}");
        let request = match self.rng.random_range(0..10) {
            0..4 => Request::Range(one(&key)),
            4 => Request::Range(Range {
                serializable: true,
                ..one(&key)
            }),
            5 | 6 => Request::Put(Put {
                key: key.clone(),
                value: self.value(),
                prev: self.rng.random_bool(0.5),
                ..Put::default()
            }),
            _ => {
                let expected = self.known.get(&key).copied().unwrap_or(0);
                let value = self.value();
                swap(&key, Operand::ModRevision(expected), value)
            }
        };
        let outcome = self.ask(request.clone()).await;
        if let Some(revision) = last_revision(&request, &outcome) {
            self.known.insert(key, revision);
        }
    }

    async fn set(&mut self) {
        let prefix = format!("set/{}/", self.number);
        match self.rng.random_range(0..10) {
            0..6 => {
                let value = self.value();
                let key = format!("{prefix}{:06}", self.counter);
                self.ask(swap(&key, Operand::CreateRevision(0), value))
                    .await;
            }
            6..9 => self.add_to_list().await,
            _ => {
                let range = Range {
                    end: prefix_end(&prefix),
                    key: prefix,
                    limit: 50,
                    ..Range::default()
                };
                self.ask(Request::Range(range)).await;
            }
        }
    }

    /// Reads a list, and writes it with one element more if it is still the same.
    async fn add_to_list(&mut self) {
        let epoch = self.counter / LIST_ELEMENTS;
        let key = format!("set/list/{epoch:04}");
        let read = self.ask(Request::Range(one(&key))).await;
        let Outcome::Ok {
            response: Response::Range(found),
            ..
        } = read
        else {
            return;
        };
        let element = self.value();
        let request = match found.pairs.first() {
            Some(Pair { value, .. }) => swap(
                &key,
                Operand::Value(value.clone()),
                format!("{value} {element}"),
            ),
            None => swap(&key, Operand::CreateRevision(0), element),
        };
        self.ask(request).await;
    }

    async fn mix(&mut self) {
        let newest = self.shared.newest.load(Ordering::SeqCst);
        let first = self.rng.random_range(0..MIXED_KEYS);
        let key = mixed(first);
        let last = self.rng.random_range(first..MIXED_KEYS);
        let request = match self.rng.random_range(0..100) {
            0..35 => self.transaction(),
            35..50 => Request::Put(Put {
                key,
                value: self.value(),
                prev: true,
                ..Put::default()
            }),
            50..60 => Request::Delete(Delete {
                key,
                prev: true,
                ..Delete::default()
            }),
            60..65 => Request::Delete(Delete {
                key,
                end: mixed(last),
                prev: self.rng.random_bool(0.5),
            }),
            65..80 => Request::Range(Range {
                key: mixed(0),
                end: mixed(MIXED_KEYS),
                revision: (newest - self.rng.random_range(0..80)).max(0),
                limit: self.rng.random_range(0..4),
                serializable: self.rng.random_bool(0.3),
                ..turns::an_order(&mut self.rng, newest)
            }),
            80..97 => Request::Range(Range {
                key: mixed(0),
                end: mixed(MIXED_KEYS),
                count_only: self.rng.random_bool(0.2),
                keys_only: self.rng.random_bool(0.2),
                ..turns::an_order(&mut self.rng, newest)
            }),
            _ if newest > KEPT_REVISIONS => Request::Compact {
                revision: newest - KEPT_REVISIONS,
            },
            _ => Request::Range(one(&key)),
        };
        self.ask(request).await;
    }

    fn transaction(&mut self) -> Request {
        let compared = mixed(self.rng.random_range(0..MIXED_KEYS));
        let operand = match self.rng.random_range(0..3) {
            0 => Operand::CreateRevision(0),
            1 => Operand::Version(self.rng.random_range(0..4)),
            _ => Operand::ModRevision(self.shared.newest.load(Ordering::SeqCst) - 5),
        };
        let relation = match self.rng.random_range(0..4) {
            0 => Relation::Equal,
            1 => Relation::Greater,
            2 => Relation::Less,
            _ => Relation::NotEqual,
        };
        let mut steps = |count: u64| -> Vec<Step> {
            // Different keys: two writes of one in a transaction are refused.
            let first = self.rng.random_range(0..MIXED_KEYS);
            (0..count)
                .map(|number| {
                    let key = mixed((first + number) % MIXED_KEYS);
                    match self.rng.random_range(0..4) {
                        0 => Step::Range(one(&key)),
                        1 => Step::Delete(Delete {
                            key,
                            prev: true,
                            ..Delete::default()
                        }),
                        _ => {
                            self.counter += 1;
                            Step::Put(Put {
                                key,
                                value: format!("{}.{}", self.number, self.counter),
                                prev: true,
                                ..Put::default()
                            })
                        }
                    }
                })
                .collect()
        };
        let then = steps(3);
        let otherwise = steps(2);
        Request::Txn(Txn {
            compares: vec![Compare {
                key: compared,
                relation,
                operand,
            }],
            then,
            otherwise,
        })
    }

    /// A lease of a few seconds; nothing where it was not granted.
    async fn granted(&mut self) -> Option<i64> {
        self.counter += 1;
        let lease = (i64::from(self.number) + 1) << 32 | self.counter as i64;
        let ttl = self.rng.random_range(2..=5);
        let outcome = self.ask(Request::Grant { lease, ttl }).await;
        matches!(outcome, Outcome::Ok { .. }).then_some(lease)
    }

    async fn stand_in_line(&mut self) {
        if self.rng.random_bool(0.2) {
            let name = turns::election(self);
            return drop(self.ask(Request::Leader { name }).await);
        }
        let Some(lease) = self.granted().await else {
            return;
        };
        match self.rng.random_bool(0.6) {
            true => turns::lock(self, lease).await,
            false => {
                let name = turns::election(self);
                turns::stand(self, name, lease).await;
            }
        }
    }

    async fn lease(&mut self) {
        let Some(lease) = self.granted().await else {
            return;
        };
        let prefix = format!("lease/{}/{:06}/", self.number, self.counter);
        let put = |name: &str| {
            Step::Put(Put {
                key: format!("{prefix}{name}"),
                value: lease.to_string(),
                lease,
                ..Put::default()
            })
        };
        let both = Txn {
            then: vec![put("0"), put("1")],
            ..Txn::default()
        };
        self.ask(Request::Txn(both)).await;
        for _ in 0..self.rng.random_range(0..5) {
            let pause = self.rng.random_range(300..1500);
            tokio::time::sleep(Duration::from_millis(pause)).await;
            if !self.goes_on() {
                return;
            }
            self.ask(Request::KeepAlive { lease }).await;
            let keys = Range {
                key: prefix.clone(),
                end: prefix_end(&prefix),
                ..Range::default()
            };
            self.ask(Request::Range(keys)).await;
        }
        if self.rng.random_bool(0.4) {
            self.ask(Request::Revoke { lease }).await;
        }
    }
}

fn mixed(number: u64) -> String {
    format!("mix/{number}")
}

/// Writes the key if it is as expected, else reads it.
fn swap(key: &str, expected: Operand, value: String) -> Request {
    Request::Txn(Txn {
        compares: vec![Compare {
            key: key.into(),
            relation: Relation::Equal,
            operand: expected,
        }],
        then: vec![Step::Put(Put {
            key: key.into(),
            value,
            ..Put::default()
        })],
        otherwise: vec![Step::Range(one(key))],
    })
}

/// The end of the range of all keys that begin so.
pub fn prefix_end(prefix: &str) -> String {
    // Prefixes here end with a character of which the next one is one of ASCII, too.
    let mut end = prefix.to_string();
    if let Some(last) = end.pop() {
        end.push(char::from(last as u8 + 1));
    }
    end
}

/// The revision of the one key that this is about, where the answer has it.
fn last_revision(request: &Request, outcome: &Outcome) -> Option<i64> {
    let Outcome::Ok { revision, response } = outcome else {
        return None;
    };
    let of_found = |response: &Response| match response {
        Response::Range(found) => Some(found.pairs.first().map_or(0, |pair| pair.modified)),
        _ => None,
    };
    match (request, response) {
        (Request::Put(_), _) => Some(*revision),
        (
            _,
            Response::Txn {
                succeeded: true, ..
            },
        ) => Some(*revision),
        (_, Response::Txn { steps, .. }) => steps.first().and_then(of_found),
        (_, response) => of_found(response),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Found;

    #[test]
    fn a_prefix_ends_before_the_next_one() {
        assert_eq!(prefix_end("set/1/"), "set/10");
        assert!("set/1/999" < prefix_end("set/1/").as_str());
    }

    #[test]
    fn every_workload_has_its_clients() {
        let works: Vec<Work> = (0..10).map(work).collect();
        for wanted in [
            Work::Register,
            Work::Set,
            Work::Mix,
            Work::Append,
            Work::Lease,
            Work::Line,
        ] {
            assert!(works.contains(&wanted));
        }
    }

    #[test]
    fn what_a_swap_should_expect_next_is_learnt_from_any_answer() {
        let request = swap("k", Operand::ModRevision(0), "v".into());
        let found = |modified| {
            Response::Range(Found {
                pairs: vec![Pair {
                    modified,
                    ..Pair::default()
                }],
                ..Found::default()
            })
        };
        let ok = |response| Outcome::Ok {
            revision: 9,
            response,
        };
        let txn = |succeeded, steps| ok(Response::Txn { succeeded, steps });
        let done = txn(true, vec![Response::Put { prev: None }]);
        assert_eq!(last_revision(&request, &done), Some(9));
        let conflict = txn(false, vec![found(4)]);
        assert_eq!(last_revision(&request, &conflict), Some(4));
        let read = Request::Range(one("k"));
        assert_eq!(last_revision(&read, &ok(found(5))), Some(5));
        let nothing = ok(Response::Range(Found::default()));
        assert_eq!(last_revision(&read, &nothing), Some(0));
        assert_eq!(last_revision(&read, &never_sent("".into())), None);
    }
}
