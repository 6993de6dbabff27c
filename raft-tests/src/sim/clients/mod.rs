//! Clients: they ask members in this process, in the words of etcd's API, write down what they asked and heard, and go to
//! another member now and then. What they ask for is drawn by the seed.

mod leases;
mod lines;
mod pages;
mod requests;
mod upkeep;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::sync::Mutex;

pub use self::leases::keep;
pub use self::watch::{keep_watch, watch};
use super::schedule::Turn;
use super::world::World;
use crate::etcd::outcome::never_sent;
use crate::etcd::turns;
use crate::recording::{Outcome, Pair, Request, Response};

/// A client waits so long for an answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// Between client and member, one way.
const LATENCY_MAX: Duration = Duration::from_millis(1);

/// A client that was busy for longer does not make up for it.
const LATE_MAX: Duration = Duration::from_millis(300);

/// What a client may want in a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Put,
    /// A put, and a look elsewhere whether it is there.
    Echo,
    Get,
    GetSerializable,
    /// Of a revision of the past, or of one to come.
    GetOld,
    Range,
    /// Changes a key if it is as it was read.
    Swap,
    Delete,
    DeleteRange,
    /// A key that is there once and never goes.
    Add,
    /// Reads and writes of several keys in one transaction.
    Many,
    /// Elements for several lists in one transaction.
    Append,
    /// A list in pages, all of one revision.
    Pages,
    Lease,
    Lock,
    Election,
    Compact,
    Upkeep,
    Membership,
}

use Work::*;

/// All there are, with how much of it there is at most where there is any of it.
const WORKS: [(Work, u32); 19] = [
    (Put, 10),
    (Echo, 4),
    (Get, 8),
    (GetSerializable, 4),
    (GetOld, 4),
    (Range, 4),
    (Swap, 8),
    (Delete, 4),
    (DeleteRange, 1),
    (Add, 8),
    (Many, 5),
    (Append, 5),
    (Pages, 2),
    (Lease, 3),
    (Lock, 2),
    (Election, 2),
    (Compact, 1),
    (Upkeep, 1),
    (Membership, 1),
];

/// How much of what is asked for.
#[derive(Clone, Debug)]
pub struct Mix {
    works: Vec<(Work, u32)>,
    pub registers: u32,
    pub think_max: Duration,
}

impl Mix {
    pub fn draw(rng: &mut SmallRng) -> Mix {
        let mut weight = |(work, most): (Work, u32)| {
            let least = u32::from(matches!(work, Put | Get));
            let more = match rng.random_range(0..4) {
                0 => 0,
                _ => rng.random_range(1..=most),
            };
            (work, least + more)
        };
        Mix {
            works: WORKS.into_iter().map(&mut weight).collect(),
            registers: rng.random_range(2..12),
            think_max: Duration::from_millis(rng.random_range(10..80)),
        }
    }

    fn next(&self, rng: &mut SmallRng) -> Work {
        let mut drawn = rng.random_range(0..self.works.iter().map(|(_, weight)| weight).sum());
        let work = self.works.iter().find(|(_, weight)| {
            let here = drawn < *weight;
            drawn = drawn.saturating_sub(*weight);
            here
        });
        work.map_or(Put, |(work, _)| *work)
    }
}

/// What the clients of a run share.
pub struct Shared {
    pub world: Arc<World>,
    pub mix: Mix,
    pub stop: AtomicBool,
    /// Nothing is done to the cluster any more: who is in it stays.
    pub calm: AtomicBool,
    /// The newest revision that anybody was told.
    pub revision: AtomicI64,
    pub compacted: AtomicI64,
    /// The newest revision at which something was deleted, as far as anybody was told.
    deleted: AtomicI64,
    unique: AtomicU64,
    /// One change of the membership at a time.
    members_change: Mutex<()>,
}

impl Shared {
    pub fn new(world: Arc<World>, mix: Mix) -> Arc<Shared> {
        Arc::new(Shared {
            world,
            mix,
            stop: AtomicBool::new(false),
            calm: AtomicBool::new(false),
            revision: AtomicI64::new(1),
            compacted: AtomicI64::new(0),
            deleted: AtomicI64::new(0),
            unique: AtomicU64::new(1),
            members_change: Mutex::new(()),
        })
    }

    fn unique(&self) -> u64 {
        self.unique.fetch_add(1, Ordering::Relaxed)
    }

    fn newest(&self) -> i64 {
        self.revision.load(Ordering::Relaxed)
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
        let record = &self.world.record;
        let id = record.called(client, member, request.clone());
        tokio::time::sleep(rng.random_range(Duration::ZERO..LATENCY_MAX)).await;
        let outcome = match self.world.line(member, &format!("c{client}")) {
            Some(line) => line.perform(&request, PATIENCE).await,
            None => never_sent("connection refused".into()),
        };
        if let Outcome::Ok { revision, .. } = &outcome {
            self.revision.fetch_max(*revision, Ordering::Relaxed);
            if let Request::Delete(_) = request {
                self.deleted.fetch_max(*revision, Ordering::Relaxed);
            }
        }
        tokio::time::sleep(rng.random_range(Duration::ZERO..LATENCY_MAX)).await;
        record.returned(id, outcome.clone());
        outcome
    }
}

/// One client in one turn.
struct Client<'a> {
    shared: &'a Shared,
    number: u32,
    member: u64,
    rng: &'a mut SmallRng,
}

impl Client<'_> {
    async fn ask(&mut self, request: Request) -> Outcome {
        let Client {
            shared,
            number,
            member,
            rng,
        } = self;
        shared.ask(rng, *number, *member, request).await
    }

    /// Goes to some member.
    fn move_on(&mut self) {
        let members = self.shared.world.members();
        self.member = members[self.rng.random_range(0..members.len())];
    }

    async fn pause(&mut self, from_ms: u64, to_ms: u64) {
        let pause = self.rng.random_range(from_ms..to_ms);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

/// One that asks this and that.
pub async fn talk(shared: Arc<Shared>, client: u32, turns: Vec<Turn>) {
    // A register as it was read last.
    let mut last_seen = Pair::default();
    for turn in turns {
        let late = shared.comes(&turn).await;
        if shared.is_over() {
            return;
        }
        if late > LATE_MAX {
            continue;
        }
        let members = shared.world.members();
        let mut rng = turn.seed.rng();
        let mut client = Client {
            shared: &shared,
            number: client,
            member: members[turn.seat as usize % members.len()],
            rng: &mut rng,
        };
        match shared.mix.next(client.rng) {
            Echo => client.echo().await,
            Lease => client.use_lease().await,
            Lock => client.lock().await,
            Election => client.stand().await,
            Append => turns::append(&mut client).await,
            Pages => client.leaf_through().await,
            Compact => client.compact().await,
            Upkeep => client.keep_up().await,
            Membership => client.change_members().await,
            work => {
                let request = client.request(work, &last_seen);
                let outcome = client.ask(request).await;
                if let Some(pair) = register_in(&outcome) {
                    last_seen = pair.clone();
                }
            }
        }
    }
}

fn register_in(outcome: &Outcome) -> Option<&Pair> {
    let Outcome::Ok {
        response: Response::Range(found),
        ..
    } = outcome
    else {
        return None;
    };
    found.pairs.iter().find(|pair| pair.key.starts_with("r/"))
}
