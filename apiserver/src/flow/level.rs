//! One priority level: its queues under a lock, and the requests that wait for their turn in them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::demand::Seen;
use super::metrics::OfSchema;
use super::present::{Entered, Present, Presents, State};
use super::queues::{Arrival, Counts, Look, Place, QueueSet, Refusal, Room, Shape, Started, Want};
use super::retry::RetryAfter;

type Turn = oneshot::Sender<Started>;

pub(crate) struct Level {
    pub(crate) name: String,
    epoch: Instant,
    inner: Mutex<Inner>,
    present: Arc<Presents>,
    /// Wakes the task that gives back lingering seats.
    poke: Arc<Notify>,
}

struct Inner {
    set: QueueSet<Turn>,
    retry: RetryAfter,
    totals: Totals,
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) dispatched: u64,
    pub(crate) rejected: u64,
    pub(crate) timed_out: u64,
    pub(crate) cancelled: u64,
}

/// A level as a person looks at it.
pub(crate) struct Picture {
    pub(crate) counts: Counts,
    pub(crate) room: Room,
    pub(crate) totals: Totals,
    pub(crate) queues: Vec<Look>,
}

impl Inner {
    /// Lets everybody run whose turn has come.
    fn pump(&mut self, now_ns: u64) {
        while let Some((turn, started)) = self.set.next(now_ns) {
            self.totals.dispatched += 1;
            if turn.send(started).is_err() {
                self.give_back(now_ns, &started);
            }
        }
    }

    fn give_back(&mut self, now_ns: u64, started: &Started) {
        self.set.finish(now_ns, started, None);
        self.set.free(started.want.flow, started.want.bytes);
    }
}

impl Level {
    pub(crate) fn new(
        name: &str,
        shape: Shape,
        room: Room,
        epoch: Instant,
        poke: Arc<Notify>,
    ) -> Level {
        Level {
            name: name.to_owned(),
            epoch,
            inner: Mutex::new(Inner {
                set: QueueSet::new(shape, room),
                retry: RetryAfter::default(),
                totals: Totals::default(),
            }),
            present: Arc::default(),
            poke,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn reshape(&self, shape: Shape, room: Room) {
        let now = self.now_ns();
        let mut inner = self.lock();
        inner.set.reshape(shape);
        inner.set.set_room(room);
        inner.pump(now);
    }

    pub(crate) fn set_seats(&self, seats: u32) {
        let now = self.now_ns();
        let mut inner = self.lock();
        let room = Room {
            seats,
            ..inner.set.room()
        };
        inner.set.set_room(room);
        inner.pump(now);
    }

    /// What was wanted since the last call.
    pub(crate) fn turn_meter(&self) -> Seen {
        let now = self.now_ns();
        self.lock().set.meter().turn(now)
    }

    /// How many seconds a client stays away that is refused now.
    pub(crate) fn retry_after(&self) -> u32 {
        let now = self.now_ns() / 1_000_000_000;
        self.lock().retry.refuse(now)
    }

    pub(crate) fn picture(&self) -> Picture {
        let inner = self.lock();
        Picture {
            counts: inner.set.counts(),
            room: inner.set.room(),
            totals: inner.totals,
            queues: match inner.set.has_queues() {
                true => inner.set.look().collect(),
                false => Vec::new(),
            },
        }
    }

    /// Its requests, and how many stand before those that wait.
    pub(crate) fn present(&self) -> Vec<(Present, Option<usize>)> {
        let present = self.present.all();
        let inner = self.lock();
        let index = |present: &Present| match present.state {
            State::Waits(place) => inner.set.index_of(place),
            State::Arrives | State::Runs(..) => None,
        };
        let with_index = present.into_iter().map(|one| {
            let index = index(&one);
            (one, index)
        });
        with_index.collect()
    }

    /// Shows a request to those who look, from now until what is answered is dropped.
    pub(crate) fn show(&self, present: Present) -> Entered {
        self.present.enter(present)
    }

    pub(crate) fn queue_of(&self, started: &Started) -> Option<usize> {
        self.lock().set.queue_of(started)
    }

    /// Waits for a turn until `deadline` at most.
    pub(crate) async fn enter(
        &self,
        want: Want,
        metrics: &OfSchema,
        deadline: Instant,
        entered: &Entered,
    ) -> Result<Started, Refusal> {
        let now = self.now_ns();
        let seats = i64::from(want.seats);
        let mut turn = None;
        let (place, turn) = {
            let mut inner = self.lock();
            let arrival = inner.set.arrive(now, want, || {
                let (sender, receiver) = oneshot::channel();
                turn = Some(receiver);
                sender
            });
            match (arrival, turn) {
                (Arrival::Runs(started), _) => {
                    inner.totals.dispatched += 1;
                    return Ok(started);
                }
                (Arrival::Waits(place), Some(turn)) => {
                    inner.pump(now);
                    if inner.set.next_release_ns().is_some() {
                        self.poke.notify_one();
                    }
                    (place, turn)
                }
                (Arrival::Refused(refusal), _) => {
                    inner.totals.rejected += 1;
                    return Err(refusal);
                }
                (Arrival::Waits(_), None) => unreachable!("who waits has a token"),
            }
        };
        let begun = Instant::now();
        entered.waits(place);
        metrics.queue_length.observe(place.length as f64);
        metrics.in_queue.inc();
        metrics.in_queue_seats.add(seats);
        let mut waiting = Waiting {
            level: self,
            place,
            seats,
            turn,
            metrics,
            ended: false,
        };
        let came = tokio::time::timeout_at(deadline, &mut waiting.turn).await;
        waiting.ended = true;
        let started = match came {
            Ok(Ok(started)) => Some(started),
            Ok(Err(_)) | Err(_) => waiting.leave(),
        };
        let waited = begun.elapsed().as_secs_f64();
        match started {
            Some(started) => {
                metrics.waited.observe(waited);
                Ok(started)
            }
            None => {
                metrics.waited_in_vain.observe(waited);
                self.lock().totals.timed_out += 1;
                Err(Refusal::TimeOut)
            }
        }
    }

    /// Runs at once.
    pub(crate) fn force(&self, want: Want) -> Started {
        let now = self.now_ns();
        let mut inner = self.lock();
        inner.totals.dispatched += 1;
        inner.set.force(now, want)
    }

    pub(crate) fn finish(&self, started: &Started, after: Option<(u32, u64)>) {
        let now = self.now_ns();
        let mut inner = self.lock();
        inner.set.finish(now, started, after);
        inner.pump(now);
        if inner.set.next_release_ns().is_some() {
            self.poke.notify_one();
        }
    }

    pub(crate) fn free(&self, flow: u64, bytes: u64) {
        let now = self.now_ns();
        let mut inner = self.lock();
        inner.set.free(flow, bytes);
        inner.pump(now);
    }

    pub(crate) fn charge(&self, flow: u64, bytes: u64) {
        self.lock().set.charge(flow, bytes);
    }

    /// Gives back what lingered; answers when there is more to give back that somebody waits for.
    pub(crate) fn release(&self) -> Option<Instant> {
        let now = self.now_ns();
        let mut inner = self.lock();
        inner.pump(now);
        let next = inner.set.next_release_ns()?;
        Some(self.epoch + std::time::Duration::from_nanos(next))
    }
}

/// A request in a queue. Dropped with its client, it leaves.
struct Waiting<'a> {
    level: &'a Level,
    place: Place,
    seats: i64,
    turn: oneshot::Receiver<Started>,
    metrics: &'a OfSchema,
    ended: bool,
}

impl Waiting<'_> {
    /// Leaves the queue, unless the turn has come meanwhile.
    fn leave(&mut self) -> Option<Started> {
        let now = self.level.now_ns();
        let mut inner = self.level.lock();
        if inner.set.cancel(now, self.place) {
            // It may have stood in the way of others.
            inner.pump(now);
            return None;
        }
        self.turn.try_recv().ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.metrics.in_queue.dec();
        self.metrics.in_queue_seats.sub(self.seats);
        if self.ended {
            return;
        }
        self.metrics.cancelled.inc();
        let started = self.leave();
        let now = self.level.now_ns();
        let mut inner = self.level.lock();
        inner.totals.cancelled += 1;
        if let Some(started) = started {
            inner.give_back(now, &started);
            inner.pump(now);
        }
    }
}
