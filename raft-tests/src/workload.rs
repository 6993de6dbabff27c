//! Clients of the cluster: writers that remember every acknowledgement, watchers that remember every event.

use crate::history::{Ack, COUNTER_PREFIX, History, Watched};
use crate::wire::{Connection, Reply, Request};
use anyhow::Result;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Different counters, so that swaps collide now and then but not always.
const COUNTERS: u32 = 3;
/// Pause after a member could not be reached, so that clients of a dead cluster do not spin.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Pause between the writes of one writer: the test is about crashes, not about throughput.
const THINK_TIME: Duration = Duration::from_millis(2);

/// What all clients share.
pub struct Shared {
    /// Client ports of the members.
    pub ports: Vec<u16>,
    /// Set when writers shall stop.
    pub writers_stop: AtomicBool,
    /// Watchers stop when they have seen this revision.
    pub watch_until: AtomicI64,
    /// Number of acknowledged writes so far.
    pub acknowledged: AtomicU64,
    history: Mutex<History>,
    ticks: AtomicU64,
}

impl Shared {
    /// Clients of the members on these ports.
    pub fn new(ports: Vec<u16>) -> Arc<Shared> {
        Arc::new(Shared {
            ports,
            writers_stop: AtomicBool::new(false),
            watch_until: AtomicI64::new(i64::MAX),
            acknowledged: AtomicU64::new(0),
            history: Mutex::default(),
            ticks: AtomicU64::new(0),
        })
    }

    /// What the writers saw so far.
    pub fn history(&self) -> History {
        self.history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn record(&self, change: impl FnOnce(&mut History)) {
        change(&mut self.history.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::SeqCst)
    }
}

/// Writes until told to stop, each time through a member chosen at random: mostly keys of its own, each once; sometimes
/// a counter. Now and then reads what was just acknowledged through another member.
pub async fn write(shared: Arc<Shared>, writer: u32, seed: u64) {
    let mut rng =
        StdRng::seed_from_u64(seed ^ u64::from(writer).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut connections: Vec<Option<Connection>> = shared.ports.iter().map(|_| None).collect();
    let mut number = 0;
    while !shared.writers_stop.load(Ordering::SeqCst) {
        number += 1;
        let member = rng.random_range(0..shared.ports.len());
        let counter = format!("{COUNTER_PREFIX}{}", rng.random_range(0..COUNTERS));
        let written = match rng.random_range(0..5) {
            0 => increment(&shared, &mut connections[member], member, counter).await,
            _ => {
                put(
                    &shared,
                    &mut connections[member],
                    member,
                    format!("w{writer}/{number:06}"),
                )
                .await
            }
        };
        let Some(ack) = written else {
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        };
        if rng.random_range(0..10) == 0 {
            let reader = rng.random_range(0..shared.ports.len());
            read_back(&shared, &mut connections[reader], reader, &ack).await;
        }
        tokio::time::sleep(THINK_TIME).await;
    }
}

async fn put(
    shared: &Shared,
    connection: &mut Option<Connection>,
    member: usize,
    key: String,
) -> Option<Ack> {
    let value = format!("value of {key}");
    let request = Request::Put {
        key: key.clone(),
        value: value.clone(),
    };
    send_write(shared, connection, member, &request, key, value).await
}

async fn increment(
    shared: &Shared,
    connection: &mut Option<Connection>,
    member: usize,
    key: String,
) -> Option<Ack> {
    let read = call(
        connection,
        shared.ports[member],
        &Request::Read { key: key.clone() },
    )
    .await
    .ok()?;
    let Reply::Pairs { pairs, .. } = read else {
        return None;
    };
    let (expected, now) = pairs.first().map_or((0, 0), |pair| {
        (pair.modified, pair.value.parse().unwrap_or(0))
    });
    let value = (now + 1_i64).to_string();
    let request = Request::Swap {
        key: key.clone(),
        expected,
        value: value.clone(),
    };
    send_write(shared, connection, member, &request, key, value).await
}

async fn send_write(
    shared: &Shared,
    connection: &mut Option<Connection>,
    member: usize,
    request: &Request,
    key: String,
    value: String,
) -> Option<Ack> {
    let started = shared.tick();
    match call(connection, shared.ports[member], request).await {
        Ok(Reply::Written { revision }) => {
            let ack = Ack {
                key,
                value,
                revision,
                started,
                ended: shared.tick(),
            };
            shared.record(|history| history.acks.push(ack.clone()));
            shared.acknowledged.fetch_add(1, Ordering::SeqCst);
            Some(ack)
        }
        Ok(Reply::Conflict) => None,
        // Somebody else's swap may write the same number to a counter, so only keys written once can be judged.
        Ok(Reply::Refused { .. }) => {
            if !key.starts_with(COUNTER_PREFIX) {
                shared.record(|history| history.refused.push((key, value)));
            }
            None
        }
        Ok(_) | Err(_) => {
            shared.record(|history| history.unknown += 1);
            None
        }
    }
}

/// An acknowledged write must be seen by a linearizable read through any member.
async fn read_back(shared: &Shared, connection: &mut Option<Connection>, member: usize, ack: &Ack) {
    let request = Request::Read {
        key: ack.key.clone(),
    };
    let Ok(Reply::Pairs { revision, pairs }) =
        call(connection, shared.ports[member], &request).await
    else {
        return;
    };
    let seen = pairs
        .first()
        .is_some_and(|pair| pair.modified >= ack.revision);
    if !seen {
        let words = format!(
            "a stale read through member {}: {ack:?}, but at {revision} there is {pairs:?}",
            member + 1
        );
        shared.record(|history| history.noticed.push(words));
    }
}

/// Asks over the kept connection, or a new one. After an error the connection is given up.
async fn call(connection: &mut Option<Connection>, port: u16, request: &Request) -> Result<Reply> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => Connection::open(port).await?,
    };
    let reply = open.call(request).await?;
    *connection = Some(open);
    Ok(reply)
}

/// Watches everything from the first revision on. When the connection breaks it goes on where it was, at the same
/// member (`Some`) or at the next one (`None`).
pub async fn watch(shared: Arc<Shared>, name: String, pinned: Option<usize>) -> Watched {
    let mut watched = Watched {
        name,
        revisions: Vec::new(),
    };
    let mut member = pinned.unwrap_or(0);
    loop {
        let seen = watched
            .revisions
            .last()
            .map_or(0, |(revision, _)| *revision);
        if seen >= shared.watch_until.load(Ordering::SeqCst) {
            return watched;
        }
        // Errors are how a watch ends when its member dies.
        let _ = follow(&shared, shared.ports[member], &mut watched).await;
        if pinned.is_none() {
            member = (member + 1) % shared.ports.len();
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

async fn follow(shared: &Shared, port: u16, watched: &mut Watched) -> Result<()> {
    let mut connection = Connection::open(port).await?;
    let from = watched
        .revisions
        .last()
        .map_or(1, |(revision, _)| revision + 1);
    connection.send(&Request::Watch { from }).await?;
    loop {
        let next = tokio::time::timeout(Duration::from_millis(500), connection.receive());
        match next.await {
            Ok(Ok(Reply::Events { revision, events })) => {
                watched.revisions.push((revision, events))
            }
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            // Nothing new: look whether that was all. `receive` was cut off, so a half-read line must not go on.
            Err(_) => return Ok(()),
        }
        if watched
            .revisions
            .last()
            .is_some_and(|(r, _)| *r >= shared.watch_until.load(Ordering::SeqCst))
        {
            return Ok(());
        }
    }
}
