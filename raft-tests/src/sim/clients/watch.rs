//! Watchers. Each sits at one stream for a while, with one watch that it goes on with elsewhere, and some others, with other
//! wishes, that come and go on the same stream.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::codec::Streaming;

use super::{PATIENCE, Shared};
use crate::etcd::message::{Empty, WATCH, WatchAnswer, WatchAsk, WatchCancel, WatchUnion};
use crate::etcd::watches::{Told, Watches, create};
use crate::recording::{Watch, WatchBody};
use crate::sim::schedule::Watcher;

/// Of one stream at once.
const WATCHES_MAX: usize = 6;
/// Requests on their way.
const ROOM: usize = 16;

/// One that watches, and goes on elsewhere where it has to. With `everything` it does so from the first revision on: what
/// no client asked for, the end of a lease, is seen by nobody else.
pub async fn watch(shared: Arc<Shared>, watcher: Watcher) {
    let mut rng = watcher.seed.rng();
    let Watcher {
        client, everything, ..
    } = watcher;
    let (key, end) = match everything {
        true => all(),
        false => keys(&shared, &mut rng),
    };
    // Of which revision all has been seen.
    let mut seen = 0;
    while !shared.is_over() {
        let members = shared.world.members();
        let member = members[rng.random_range(0..members.len())];
        let start_revision = match seen {
            0 if everything => shared.compacted.load(Ordering::Relaxed).max(1),
            0 => somewhere(&shared, &mut rng),
            seen => seen + 1,
        };
        let main = Watch {
            client,
            member,
            key: key.clone(),
            end: end.clone(),
            start_revision,
            prev: true,
            progress: true,
            ..Watch::default()
        };
        // Now and then it leaves by itself.
        let leaves = Instant::now() + Duration::from_millis(rng.random_range(500..6000));
        let busy = rng.random_bool(0.5);
        seen = match (Visit {
            shared: &shared,
            rng: &mut rng,
            leaves,
            busy,
        })
        .sit(main)
        .await
        {
            Reached::To(revision) => revision.max(seen),
            Reached::Compacted => 0,
        };
        let pause = Duration::from_millis(rng.random_range(1..50));
        tokio::time::sleep(pause).await;
    }
}

/// Watches everything on one member from now to the end of the run, so that nothing happens at the end that nobody saw.
pub async fn keep_watch(shared: Arc<Shared>, member: u64) {
    let (key, end) = all();
    let main = Watch {
        client: 901,
        member,
        key,
        end,
        prev: true,
        progress: true,
        ..Watch::default()
    };
    let visit = Visit {
        shared: &shared,
        rng: &mut SmallRng::seed_from_u64(member),
        leaves: Instant::now() + Duration::from_secs(600),
        busy: false,
    };
    visit.sit(main).await;
}

fn all() -> (String, String) {
    ("\0".to_string(), "\0".to_string())
}

fn keys(shared: &Shared, rng: &mut SmallRng) -> (String, String) {
    let of = |key: &str, end: &str| (key.to_string(), end.to_string());
    match rng.random_range(0..6) {
        0 => of("r/", "r0"),
        1 => {
            let number = rng.random_range(0..shared.mix.registers);
            (format!("r/{number:02}"), String::new())
        }
        2 => of("set/", "set0"),
        3 => of("u/", "y"),
        4 => of("l", "m"),
        _ => all(),
    }
}

/// From now on, or from a revision around the newest one.
fn somewhere(shared: &Shared, rng: &mut SmallRng) -> i64 {
    match rng.random_range(0..4) {
        0 => 0,
        1 => (shared.newest() + rng.random_range(-10..10)).max(1),
        // The oldest that is left.
        2 => shared.compacted.load(Ordering::Relaxed).max(1),
        _ => (shared.newest() + rng.random_range(-100..=100)).max(1),
    }
}

enum Reached {
    To(i64),
    Compacted,
}

/// How long, and how.
struct Visit<'a> {
    shared: &'a Shared,
    rng: &'a mut SmallRng,
    leaves: Instant,
    /// Other watches come and go meanwhile.
    busy: bool,
}

/// One stream.
struct Sitting<'a> {
    visit: Visit<'a>,
    client: u32,
    member: u64,
    say: mpsc::Sender<WatchAsk>,
    watches: Watches,
    /// The one that is gone on with, in the recording.
    main: u64,
    /// That one has been told all up to this revision.
    reached: i64,
    ended: Option<Reached>,
}

impl Visit<'_> {
    /// Sits at a stream of the member until it is time to leave, or no more comes of the main watch.
    async fn sit(self, main: Watch) -> Reached {
        let record = &self.shared.world.record;
        let reached = main.start_revision - 1;
        let (client, member) = (main.client, main.member);
        let request = create(&main, self.busy, 0);
        let main = record.watch(main);
        let lost = |why: String| {
            record.watched(main, 0, WatchBody::Lost { message: why });
            Reached::To(reached)
        };
        let Some(line) = self.shared.world.line(member, &format!("c{client}")) else {
            return lost("not running".into());
        };
        let (say, said) = mpsc::channel(ROOM);
        let mut sitting = Sitting {
            client,
            member,
            say,
            watches: Watches::default(),
            main,
            reached,
            ended: None,
            visit: self,
        };
        sitting.watches.ask(main);
        sitting.tell(WatchUnion::Create(request));
        let opened = timeout(PATIENCE, line.stream::<WatchAsk, WatchAnswer>(WATCH, said));
        match opened.await {
            Ok(Ok(answers)) => sitting.listen(answers).await,
            Ok(Err(status)) => lost(status.message().into()),
            Err(_) => lost("no answer in time".into()),
        }
    }
}

impl Sitting<'_> {
    /// Without room it is not said.
    fn tell(&self, union: WatchUnion) -> bool {
        let ask = WatchAsk { union: Some(union) };
        self.say.try_send(ask).is_ok()
    }

    async fn listen(mut self, mut answers: Streaming<WatchAnswer>) -> Reached {
        let why = loop {
            let next = Duration::from_millis(self.visit.rng.random_range(50..900));
            let next = (Instant::now() + next).min(self.visit.leaves);
            match self.hear_until(next, &mut answers).await {
                Ok(()) if Instant::now() >= self.visit.leaves => break "the client left".into(),
                Ok(()) if self.visit.busy => self.fidget(),
                Ok(()) => {}
                Err(why) => break why,
            }
            if self.ended.is_some() {
                break "the client left".into();
            }
        };
        let record = &self.visit.shared.world.record;
        for watch in self.watches.open() {
            let message: String = String::clone(&why);
            record.watched(watch, 0, WatchBody::Lost { message });
        }
        if self.watches.strays > 0 {
            let story = format!(
                "Member {} has told client {} of watches that it had not asked for.",
                self.member, self.client
            );
            record.violation("watch: of nobody", story);
        }
        self.ended.unwrap_or(Reached::To(self.reached))
    }

    /// Writes down what comes until then, or until the main watch ends.
    async fn hear_until(
        &mut self,
        then: Instant,
        answers: &mut Streaming<WatchAnswer>,
    ) -> Result<(), String> {
        while self.ended.is_none() {
            let answer = tokio::select! {
                biased;
                answer = answers.message() => answer,
                () = sleep_until(then) => return Ok(()),
            };
            match answer {
                Ok(Some(answer)) => {
                    for told in self.watches.hear(answer) {
                        self.take(told);
                    }
                }
                Ok(None) => return Err("the stream ended".into()),
                Err(status) => return Err(status.message().into()),
            }
        }
        Ok(())
    }

    fn take(&mut self, told: Told) {
        let Told {
            watch,
            revision,
            body,
        } = told;
        if watch == self.main {
            match &body {
                // In the middle of a revision there is no place to go on from.
                WatchBody::Events {
                    events,
                    fragment: false,
                } => {
                    let newest = events.iter().map(|event| event.pair.modified).max();
                    self.reached = self.reached.max(newest.unwrap_or(0));
                }
                WatchBody::Progress => self.reached = self.reached.max(revision),
                WatchBody::Canceled { compacted: 0, .. } => {
                    self.ended = Some(Reached::To(self.reached));
                }
                WatchBody::Canceled { .. } => self.ended = Some(Reached::Compacted),
                _ => {}
            }
        }
        self.visit
            .shared
            .world
            .record
            .watched(watch, revision, body);
    }

    /// Asks how far the stream is, begins another watch, or leaves one.
    fn fidget(&mut self) {
        let open = self.watches.open();
        match self.visit.rng.random_range(0..4) {
            0 | 1 => drop(self.tell(WatchUnion::Progress(Empty {}))),
            2 if open.len() < WATCHES_MAX => self.begin_another(),
            _ => {
                let others: Vec<u64> = open.into_iter().filter(|id| *id != self.main).collect();
                if others.is_empty() {
                    return;
                }
                let which = others[self.visit.rng.random_range(0..others.len())];
                if let Some(watch_id) = self.watches.leave(which) {
                    self.tell(WatchUnion::Cancel(WatchCancel { watch_id }));
                }
            }
        }
    }

    fn begin_another(&mut self) {
        if self.say.capacity() == 0 {
            return;
        }
        let Visit { shared, rng, .. } = &mut self.visit;
        let (key, end) = keys(shared, rng);
        let wishes = Watch {
            client: self.client,
            member: self.member,
            key,
            end,
            start_revision: somewhere(shared, rng),
            prev: rng.random_bool(0.5),
            progress: rng.random_bool(0.5),
            no_put: rng.random_bool(0.2),
            no_delete: rng.random_bool(0.2),
            ..Watch::default()
        };
        // Numbers of its own, which are not used twice, and those of the server, which are small.
        let number = match rng.random_bool(0.5) {
            true => 1000 + shared.unique() as i64,
            false => 0,
        };
        let request = create(&wishes, rng.random_bool(0.5), number);
        let watch = shared.world.record.watch(wishes);
        self.watches.ask(watch);
        self.tell(WatchUnion::Create(request));
    }
}
