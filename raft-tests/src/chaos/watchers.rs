//! Watchers: some follow everything and go on where they were when a stream breaks, others look in for a moment, from
//! some revision near the newest one.

use super::load::prefix_end;
use super::shared::{KEYS, Shared};
use crate::etcd::message::{Empty, WATCH, WatchAnswer, WatchAsk, WatchUnion};
use crate::etcd::watches::{body, create};
use crate::recording::{Watch, WatchBody};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How often a stream is asked how far it is.
const ASK: Duration = Duration::from_millis(500);
/// A stream that says nothing for so long, though asked, is given up.
const SILENCE: Duration = Duration::from_secs(4);
/// Before a new stream after one that broke.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A watcher of everything.
pub struct Follower {
    pub client: u32,
    /// Always at this member, or at the next one each time.
    pub pinned: Option<usize>,
    /// All up to this revision has been seen. What it is at first is not asked for.
    pub seen: AtomicI64,
}

/// Watchers of everything: one at each member and one that goes round, with numbers from the first one on. They have seen
/// all up to a revision.
pub fn follow_all(
    shared: &Arc<Shared>,
    first: u32,
    seen: i64,
) -> (JoinSet<()>, Vec<Arc<Follower>>) {
    let mut watching = JoinSet::new();
    let places = (0..shared.members.len()).map(Some).chain([None]);
    let follower = |(client, pinned)| {
        let seen = AtomicI64::new(seen);
        let follower = Arc::new(Follower {
            client,
            pinned,
            seen,
        });
        watching.spawn(follow(shared.clone(), follower.clone()));
        follower
    };
    let followers = (first..).zip(places).map(follower).collect();
    (watching, followers)
}

/// How a stream came to its end.
enum End {
    /// All was seen that has to be.
    Done,
    /// Goes on from here.
    Compacted(i64),
    Broken,
}

/// Follows until it has seen all, or all ends.
async fn follow(shared: Arc<Shared>, follower: Arc<Follower>) {
    let mut member = follower.pinned.unwrap_or(0);
    let mut next = follower.seen.load(Ordering::SeqCst) + 1;
    while !shared.stop.load(Ordering::SeqCst) {
        let watch = Watch {
            client: follower.client,
            start_revision: next,
            prev: follower.client.is_multiple_of(2),
            ..everything()
        };
        let stop = |seen: i64| seen >= shared.watch_until.load(Ordering::SeqCst);
        let mut last = next - 1;
        let end = stream(&shared, member, watch, &mut last, &follower.seen, stop).await;
        next = match end {
            End::Done => return,
            End::Compacted(revision) => revision.max(next + 1),
            End::Broken => last + 1,
        };
        if follower.pinned.is_none() {
            member = (member + 1) % shared.members.len();
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Looks in again and again, each time with other wishes, until told to stop.
pub async fn visit(shared: Arc<Shared>, client: u32, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x7157 ^ u64::from(client) << 20);
    while !shared.clients_stop.load(Ordering::SeqCst) {
        let member = rng.random_range(0..shared.members.len());
        let newest = shared.newest.load(Ordering::SeqCst);
        let wishes = Watch {
            client,
            start_revision: match rng.random_range(0..4) {
                0 => 0,
                _ => (newest + rng.random_range(-100..100)).max(1),
            },
            prev: rng.random_bool(0.5),
            progress: rng.random_bool(0.5),
            no_put: rng.random_bool(0.1),
            no_delete: rng.random_bool(0.1),
            needs_leader: rng.random_bool(0.3),
            ..everything()
        };
        let wishes = match rng.random_range(0..3) {
            0 => Watch {
                key: "mix/".into(),
                end: prefix_end("mix/"),
                ..wishes
            },
            1 => Watch {
                key: format!("mix/{}", rng.random_range(0..8)),
                end: String::new(),
                ..wishes
            },
            _ => wishes,
        };
        let until = Instant::now() + Duration::from_millis(rng.random_range(200..4000));
        let stop = |_| Instant::now() >= until;
        let (mut last, seen) = (0, AtomicI64::new(0));
        stream(&shared, member, wishes, &mut last, &seen, stop).await;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn everything() -> Watch {
    Watch {
        key: KEYS.0.into(),
        end: KEYS.1.into(),
        ..Watch::default()
    }
}

/// One watch on one stream, from its creation to its end. `last` is the last revision of which there was an event.
async fn stream(
    shared: &Shared,
    member: usize,
    watch: Watch,
    last: &mut i64,
    seen: &AtomicI64,
    stop: impl Fn(i64) -> bool,
) -> End {
    let create = create(&watch, false, 0);
    let needs_leader = watch.needs_leader;
    let recorder = &shared.recorder;
    let id = recorder.watch(Watch {
        member: shared.members[member].id(),
        ..watch
    });
    let lost = |message: String| {
        recorder.message(id, 0, WatchBody::Lost { message });
        End::Broken
    };
    let connection = match shared.connect(member).await {
        Ok(connection) => connection,
        Err(error) => return lost(format!("{error:#}")),
    };
    let (say, said) = mpsc::channel(2);
    let ask = |union| WatchAsk { union: Some(union) };
    // The channel is empty and has room.
    let _ = say.try_send(ask(WatchUnion::Create(create)));
    let answers = connection.stream_with::<WatchAsk, WatchAnswer>(WATCH, said, needs_leader);
    let mut answers = match tokio::time::timeout(SILENCE, answers).await {
        Ok(Ok(answers)) => answers,
        Ok(Err(status)) => return lost(format!("{:?}: {}", status.code(), status.message())),
        Err(_) => return lost("no answer in time".into()),
    };
    let mut ticks = tokio::time::interval(ASK);
    let mut heard = Instant::now();
    loop {
        let answer = tokio::select! {
            answer = answers.message() => answer,
            _ = ticks.tick() => {
                if stop(seen.load(Ordering::SeqCst)) || shared.stop.load(Ordering::SeqCst) {
                    // What would have come afterwards is not missed.
                    lost("the client has left".into());
                    return End::Done;
                }
                if heard.elapsed() > SILENCE {
                    return lost("silence".into());
                }
                // One that is still waiting says the same.
                let _ = say.try_send(ask(WatchUnion::Progress(Empty {})));
                continue;
            }
        };
        heard = Instant::now();
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => return lost("the stream ended".into()),
            Err(status) => return lost(format!("{:?}: {}", status.code(), status.message())),
        };
        let revision = answer.header.revision;
        let compacted = answer.compact_revision;
        let canceled = answer.canceled;
        let body = body(answer);
        match &body {
            WatchBody::Events { events, .. } => {
                let newest = events.iter().map(|event| event.pair.modified).max();
                *last = newest.unwrap_or(0).max(*last);
                seen.fetch_max(*last, Ordering::SeqCst);
            }
            WatchBody::Progress => {
                seen.fetch_max(revision, Ordering::SeqCst);
            }
            _ => {}
        }
        recorder.message(id, revision, body);
        if canceled {
            return match compacted {
                0 => End::Broken,
                revision => End::Compacted(revision),
            };
        }
    }
}
