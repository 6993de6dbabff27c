//! Clients: they ask members in this process, write down what they asked and heard, and go to another member now and
//! then. What they ask for is drawn by the seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use kv::{Store, WatchItem};
use rand::RngExt;
use rand::rngs::SmallRng;

use super::calls::{carry_out, event, failure, only_reads};
use super::schedule::{Turn, Watcher};
use super::world::{NoAnswer, World};
use crate::recording::{
    Compare, Delete, Operand, Outcome, Put, Range, Relation, Request, Response, Step, Txn, Watch,
    WatchBody,
};

/// A client waits so long for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between client and member, one way.
const LATENCY_MAX: Duration = Duration::from_millis(1);

/// A client that was busy for longer does not make up for it.
const LATE_MAX: Duration = Duration::from_millis(300);

/// How much of what is asked for.
#[derive(Clone, Debug)]
pub struct Mix {
    pub registers: u32,
    pub put: u32,
    pub get: u32,
    pub get_serializable: u32,
    pub get_old: u32,
    pub range: u32,
    pub swap: u32,
    pub delete: u32,
    pub delete_range: u32,
    pub add: u32,
    pub many: u32,
    pub lease: u32,
    pub compact: u32,
    pub think_max: Duration,
}

impl Mix {
    pub fn draw(rng: &mut SmallRng) -> Mix {
        let mut weight = |most: u32| match rng.random_range(0..4) {
            0 => 0,
            _ => rng.random_range(1..=most),
        };
        Mix {
            put: 1 + weight(10),
            get: 1 + weight(8),
            get_serializable: weight(4),
            get_old: weight(3),
            range: weight(4),
            swap: weight(8),
            delete: weight(4),
            delete_range: weight(1),
            add: weight(8),
            many: weight(4),
            lease: weight(3),
            compact: weight(1),
            registers: rng.random_range(2..12),
            think_max: Duration::from_millis(rng.random_range(10..80)),
        }
    }
}

/// What the clients of a run share.
pub struct Shared {
    pub world: Arc<World>,
    pub mix: Mix,
    pub stop: AtomicBool,
    /// The newest revision that anybody was told.
    pub revision: AtomicI64,
    pub compacted: AtomicI64,
    unique: AtomicU64,
}

impl Shared {
    pub fn new(world: Arc<World>, mix: Mix) -> Arc<Shared> {
        Arc::new(Shared {
            world,
            mix,
            stop: AtomicBool::new(false),
            revision: AtomicI64::new(1),
            compacted: AtomicI64::new(0),
            unique: AtomicU64::new(1),
        })
    }

    fn unique(&self) -> u64 {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for a turn; answers how late it is, where the client was busy.
    async fn comes(&self, turn: &Turn) -> Duration {
        let at = self.world.at(turn.at_ms);
        tokio::time::sleep_until(at).await;
        at.elapsed()
    }

    /// Asks, and writes it down.
    pub async fn ask(
        &self,
        rng: &mut SmallRng,
        client: u32,
        member: u64,
        request: Request,
    ) -> Outcome {
        let only_read = only_reads(&request);
        let record = &self.world.record;
        let id = record.called(client, member, request.clone());
        tokio::time::sleep(rng.random_range(Duration::ZERO..LATENCY_MAX)).await;
        let asking = self.world.ask(member, PATIENCE, |node| async move {
            carry_out(&*node, request).await
        });
        let outcome = match asking.await {
            Ok(Ok((revision, response))) => {
                self.revision.fetch_max(revision, Ordering::Relaxed);
                Outcome::Ok { revision, response }
            }
            Ok(Err(error)) => failure(&error, only_read),
            Err(NoAnswer::NotRunning) => Outcome::Failed {
                code: 14,
                message: "connection refused".into(),
            },
            Err(NoAnswer::Died) => Outcome::Unknown {
                message: "connection lost".into(),
            },
            Err(NoAnswer::TimedOut) => Outcome::Unknown {
                message: "deadline exceeded".into(),
            },
        };
        tokio::time::sleep(rng.random_range(Duration::ZERO..LATENCY_MAX)).await;
        record.returned(id, outcome.clone());
        outcome
    }
}

fn register(shared: &Shared, rng: &mut SmallRng) -> String {
    format!("r/{:02}", rng.random_range(0..shared.mix.registers))
}

/// One that asks this and that.
pub async fn talk(shared: Arc<Shared>, client: u32, turns: Vec<Turn>) {
    let mut last_seen: (String, i64) = (String::new(), 0);
    for turn in turns {
        let late = shared.comes(&turn).await;
        if shared.is_over() {
            return;
        }
        if late > LATE_MAX {
            continue;
        }
        let members = shared.world.members();
        let member = members[turn.seat as usize % members.len()];
        let mut rng = turn.rng();
        let request = draw(&shared, &mut rng, &last_seen);
        if let Request::Grant { .. } = request {
            use_lease(&shared, &mut rng, client, member, request).await;
            continue;
        }
        let outcome = shared.ask(&mut rng, client, member, request.clone()).await;
        match &outcome {
            Outcome::Ok {
                response: Response::Range(found),
                ..
            } => {
                let own = found.pairs.iter().find(|pair| pair.key.starts_with("r/"));
                if let Some(pair) = own {
                    last_seen = (pair.key.clone(), pair.modified);
                }
            }
            Outcome::Ok {
                response: Response::Compacted,
                ..
            } => {
                if let Request::Compact { revision } = request {
                    shared.compacted.fetch_max(revision, Ordering::Relaxed);
                }
            }
            Outcome::Ok { .. } | Outcome::Failed { .. } | Outcome::Unknown { .. } => {}
        }
    }
}

fn draw(shared: &Shared, rng: &mut SmallRng, last_seen: &(String, i64)) -> Request {
    let mix = &shared.mix;
    let kinds = [
        mix.put,
        mix.get,
        mix.get_serializable,
        mix.get_old,
        mix.range,
        mix.swap,
        mix.delete,
        mix.delete_range,
        mix.add,
        mix.many,
        mix.lease,
        mix.compact,
    ];
    let mut drawn = rng.random_range(0..kinds.iter().sum());
    let kind = kinds.iter().position(|weight| {
        let here = drawn < *weight;
        drawn = drawn.saturating_sub(*weight);
        here
    });
    let key = register(shared, rng);
    let newest = shared.revision.load(Ordering::Relaxed);
    match kind.unwrap_or(0) {
        1 => Request::Range(Range {
            key,
            ..Range::default()
        }),
        2 => Request::Range(Range {
            key,
            serializable: true,
            ..Range::default()
        }),
        3 => Request::Range(Range {
            key: "r/".into(),
            end: "r0".into(),
            revision: (newest - rng.random_range(-1..30)).max(1),
            ..Range::default()
        }),
        4 => Request::Range(Range {
            key: "r/".into(),
            end: "t".into(),
            limit: rng.random_range(0..4),
            serializable: rng.random_bool(0.2),
            count_only: rng.random_bool(0.2),
            ..Range::default()
        }),
        5 => swap(shared, key, last_seen),
        6 => Request::Delete(Delete {
            key,
            prev: rng.random_bool(0.5),
            ..Delete::default()
        }),
        7 => Request::Delete(Delete {
            key: "r/".into(),
            end: register(shared, rng),
            prev: true,
        }),
        8 => add(shared),
        9 => many(shared, rng),
        10 => Request::Grant {
            lease: shared.unique() as i64 + 1000,
            ttl: rng.random_range(1..4),
        },
        11 => Request::Compact {
            revision: (newest - rng.random_range(1..60)).max(1),
        },
        _ => Request::Put(put(shared, key, rng.random_bool(0.3))),
    }
}

fn put(shared: &Shared, key: String, prev: bool) -> Put {
    Put {
        key,
        value: format!("v{}", shared.unique()),
        lease: 0,
        prev,
    }
}

fn compare(key: &str, operand: Operand) -> Compare {
    Compare {
        key: key.into(),
        relation: Relation::Equal,
        operand,
    }
}

/// Changes a key that has not changed since it was read, or reads it.
fn swap(shared: &Shared, other: String, (key, modified): &(String, i64)) -> Request {
    let (key, modified) = match key.is_empty() {
        true => (other, 0),
        false => (key.clone(), *modified),
    };
    let read = Range {
        key: key.clone(),
        ..Range::default()
    };
    Request::Txn(Txn {
        compares: vec![compare(&key, Operand::ModRevision(modified))],
        then: vec![Step::Put(put(shared, key, false))],
        otherwise: vec![Step::Range(read)],
    })
}

/// A key that is there once and never goes.
fn add(shared: &Shared) -> Request {
    let key = format!("set/{:05}", shared.unique());
    Request::Txn(Txn {
        compares: vec![compare(&key, Operand::CreateRevision(0))],
        then: vec![Step::Put(put(shared, key, false))],
        otherwise: Vec::new(),
    })
}

/// Several keys in one transaction, with a look at others.
fn many(shared: &Shared, rng: &mut SmallRng) -> Request {
    let (one, two) = (register(shared, rng), register(shared, rng));
    let mut then = vec![
        Step::Range(Range {
            key: two.clone(),
            ..Range::default()
        }),
        Step::Put(put(shared, one.clone(), true)),
    ];
    if one != two {
        then.push(Step::Put(put(shared, two, true)));
    }
    Request::Txn(Txn {
        compares: Vec::new(),
        then,
        otherwise: Vec::new(),
    })
}

/// Grants a lease, puts keys under it, keeps it alive for a while, and revokes it or lets it run out.
async fn use_lease(
    shared: &Arc<Shared>,
    rng: &mut SmallRng,
    client: u32,
    member: u64,
    grant: Request,
) {
    let Request::Grant { lease, .. } = grant else {
        return;
    };
    if !matches!(
        shared.ask(rng, client, member, grant).await,
        Outcome::Ok { .. }
    ) {
        return;
    }
    for number in 0..rng.random_range(1..3) {
        let put = Put {
            key: format!("l/{lease}/{number}"),
            value: format!("v{}", shared.unique()),
            lease,
            prev: false,
        };
        shared.ask(rng, client, member, Request::Put(put)).await;
    }
    for _ in 0..rng.random_range(0..4) {
        if shared.is_over() {
            return;
        }
        let pause = Duration::from_millis(rng.random_range(100..800));
        tokio::time::sleep(pause).await;
        let members = shared.world.members();
        let other = members[rng.random_range(0..members.len())];
        let renew = Request::KeepAlive { lease };
        shared.ask(rng, client, other, renew).await;
    }
    if rng.random_bool(0.4) {
        let revoke = Request::Revoke { lease };
        shared.ask(rng, client, member, revoke).await;
    }
}

/// One that watches, and goes on elsewhere where it has to. With `everything` it does so from the first revision on: what
/// no client asked for, the end of a lease, is seen by nobody else.
pub async fn watch(shared: Arc<Shared>, watcher: Watcher) {
    let mut rng = watcher.rng();
    let Watcher {
        client, everything, ..
    } = watcher;
    let (key, end) = match rng.random_range(0..4) {
        _ if everything => ("\0".to_string(), "\0".to_string()),
        0 => ("r/".to_string(), "r0".to_string()),
        1 => (register(&shared, &mut rng), String::new()),
        2 => ("set/".to_string(), "set0".to_string()),
        _ => ("\0".to_string(), "\0".to_string()),
    };
    // Of which revision all has been seen.
    let mut seen = 0;
    while !shared.is_over() {
        let members = shared.world.members();
        let member = members[rng.random_range(0..members.len())];
        let newest = shared.revision.load(Ordering::Relaxed);
        let start_revision = match seen {
            0 if everything => shared.compacted.load(Ordering::Relaxed).max(1),
            0 => match rng.random_range(0..3) {
                0 => 0,
                _ => (newest + rng.random_range(-100..20)).max(1),
            },
            seen => seen + 1,
        };
        let id = shared.world.record.watch(Watch {
            client,
            member,
            key: key.clone(),
            end: end.clone(),
            start_revision,
            prev: true,
            progress: true,
            ..Watch::default()
        });
        let request = kv::WatchRequest {
            key: key.clone().into(),
            range_end: end.clone().into(),
            start_revision,
        };
        // Now and then it leaves by itself.
        let stay = Duration::from_millis(rng.random_range(500..6000));
        let reached = follow(&shared, id, member, request, stay).await;
        seen = match reached {
            Followed::To(revision) => revision.max(seen),
            Followed::Compacted => 0,
        };
        let pause = Duration::from_millis(rng.random_range(1..50));
        tokio::time::sleep(pause).await;
    }
}

/// Watches everything on one member from now to the end of the run, so that nothing happens at the end that nobody saw.
pub async fn keep_watch(shared: Arc<Shared>, member: u64) {
    let everything = || "\0".to_string();
    let id = shared.world.record.watch(Watch {
        client: 901,
        member,
        key: everything(),
        end: everything(),
        prev: true,
        progress: true,
        ..Watch::default()
    });
    let request = kv::WatchRequest {
        key: everything().into(),
        range_end: everything().into(),
        start_revision: 0,
    };
    follow(&shared, id, member, request, Duration::from_secs(600)).await;
}

enum Followed {
    To(i64),
    Compacted,
}

async fn follow(
    shared: &Arc<Shared>,
    id: u64,
    member: u64,
    request: kv::WatchRequest,
    stay: Duration,
) -> Followed {
    let world = &shared.world;
    let record = &world.record;
    let lost = |message: &str| WatchBody::Lost {
        message: message.into(),
    };
    let reached = &AtomicI64::new(request.start_revision - 1);
    let following = world.ask(member, stay, |node| async move {
        let Ok(mut stream) = node.watch(request).await else {
            record.watched(id, 0, lost("refused"));
            return false;
        };
        record.watched(id, node.revision(), WatchBody::Created);
        while let Some(item) = stream.next().await {
            let (revision, body) = match item {
                WatchItem::Events { revision, events } => {
                    let events = events.iter().map(event).collect();
                    let fragment = false;
                    (revision, WatchBody::Events { events, fragment })
                }
                WatchItem::Progress { revision } => (revision, WatchBody::Progress),
                WatchItem::Compacted { compact_revision } => {
                    let body = WatchBody::Canceled {
                        compacted: compact_revision,
                        reason: "compacted".into(),
                    };
                    record.watched(id, node.revision(), body);
                    return true;
                }
            };
            record.watched(id, revision, body);
            reached.fetch_max(revision, Ordering::Relaxed);
        }
        record.watched(id, 0, lost("the stream ended"));
        false
    });
    match following.await {
        Ok(true) => return Followed::Compacted,
        Ok(false) => {}
        Err(why) => {
            let text = match why {
                NoAnswer::NotRunning => "not running",
                NoAnswer::Died => "the member died",
                NoAnswer::TimedOut => "the client left",
            };
            record.watched(id, 0, lost(text));
        }
    }
    Followed::To(reached.load(Ordering::Relaxed))
}
