//! The requests of one priority level: who runs, who waits, and who is next. Pure: time comes in, and whoever waits is a
//! token of the caller's, who is told when its turn has come.
//!
//! Fairness is by virtual time, in seats by nanoseconds. Each queue has a tag: what its flows have used, or the present
//! where they used nothing for a while. The waiting queue with the lowest tag is next, so queues that always want
//! something get equal parts, whatever their requests cost; a request is charged by a guess when it starts, and by the
//! truth when it ends. Where the next request is too wide for the seats that are free, nobody overtakes it. Only a
//! request whose own flow has too many bytes on their way is passed over.

use std::collections::{BTreeMap, VecDeque};

use super::deal::deal;
use super::demand::Meter;

/// What a request takes before it is known, as in Kubernetes.
const GUESS_NS: u64 = 3_000_000;
/// The past is held against a queue for so much at most (a minute of one seat).
const DEBT_MAX: u64 = 60_000_000_000;

/// How a level treats what does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Everything runs at once.
    Exempt,
    /// It is refused.
    Reject,
    /// It waits.
    Queue {
        queues: usize,
        hand: usize,
        length_max: usize,
    },
}

/// What may run at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) seats: u32,
    /// Bytes of answers on their way, of the level and of one flow.
    pub(crate) bytes: u64,
    pub(crate) flow_bytes: u64,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) flow: u64,
    pub(crate) seats: u32,
    pub(crate) bytes: u64,
}

/// A request that runs. Its seats and its bytes are given back each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Started {
    pub(crate) want: Want,
    queue: usize,
    at_ns: u64,
}

/// Where a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    queue: usize,
    id: u64,
    /// How many wait in this queue, this one included.
    pub(crate) length: usize,
}

impl Place {
    pub(crate) fn queue(&self) -> usize {
        self.queue
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    Runs(Started),
    Waits(Place),
    Refused(Refusal),
}

/// Why a request is refused, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    ConcurrencyLimit,
    QueueFull,
    TimeOut,
}

impl Refusal {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refusal::ConcurrencyLimit => "concurrency-limit",
            Refusal::QueueFull => "queue-full",
            Refusal::TimeOut => "time-out",
        }
    }
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    want: Want,
    token: T,
}

#[derive(Debug)]
struct Queue<T> {
    tag: u64,
    waiting: VecDeque<Waiting<T>>,
    running: u32,
    seats: u32,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            tag: 0,
            waiting: VecDeque::new(),
            running: 0,
            seats: 0,
        }
    }
}

#[derive(Debug)]
pub(crate) struct QueueSet<T> {
    shape: Shape,
    room: Room,
    queues: Vec<Queue<T>>,
    /// The tag of the request that started last.
    present: u64,
    next_id: u64,
    counts: Counts,
    /// Of flows that have any.
    flow_bytes: BTreeMap<u64, u64>,
    /// Seats that a request keeps for a while after its end, and until when.
    lingering: VecDeque<(u64, u32)>,
    meter: Meter,
}

/// What a level does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) running: u32,
    /// Taken by requests that run or linger.
    pub(crate) seats: u32,
    pub(crate) waiting: u32,
    pub(crate) waiting_seats: u32,
    pub(crate) bytes: u64,
}

/// One queue, to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) waiting: usize,
    pub(crate) running: u32,
    pub(crate) seats: u32,
    /// Its virtual time in nanoseconds of one seat.
    pub(crate) tag_ns: u64,
}

impl<T> QueueSet<T> {
    pub(crate) fn new(shape: Shape, room: Room) -> QueueSet<T> {
        let mut set = QueueSet {
            shape: Shape::Reject,
            room,
            queues: Vec::new(),
            present: 0,
            next_id: 0,
            counts: Counts::default(),
            flow_bytes: BTreeMap::new(),
            lingering: VecDeque::new(),
            meter: Meter::default(),
        };
        set.reshape(shape);
        set
    }

    /// Takes another configuration. Who waits goes on waiting, also in queues that get nobody any more.
    pub(crate) fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
        let wanted = match shape {
            Shape::Queue { queues, .. } => queues.max(1),
            Shape::Reject | Shape::Exempt => 1,
        };
        if self.queues.len() < wanted {
            self.queues.resize_with(wanted, Queue::default);
        }
    }

    pub(crate) fn set_room(&mut self, room: Room) {
        self.room = room;
    }

    pub(crate) fn room(&self) -> Room {
        self.room
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    pub(crate) fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    pub(crate) fn look(&self) -> impl Iterator<Item = Look> {
        self.queues.iter().map(|queue| Look {
            waiting: queue.waiting.len(),
            running: queue.running,
            seats: queue.seats,
            tag_ns: queue.tag,
        })
    }

    /// Whether requests are in queues.
    pub(crate) fn has_queues(&self) -> bool {
        matches!(self.shape, Shape::Queue { .. }) || self.counts.waiting > 0
    }

    /// The queue of a request that runs, where there are some.
    pub(crate) fn queue_of(&self, started: &Started) -> Option<usize> {
        self.has_queues().then_some(started.queue)
    }

    /// How many stand before one that still waits.
    pub(crate) fn index_of(&self, place: Place) -> Option<usize> {
        let waiting = &self.queues.get(place.queue)?.waiting;
        waiting.iter().position(|one| one.id == place.id)
    }

    /// A request comes. Only where it has to wait a token is made; then [`QueueSet::next`] says who runs, and it may be this
    /// one.
    pub(crate) fn arrive(&mut self, now_ns: u64, want: Want, token: impl FnOnce() -> T) -> Arrival {
        self.settle(now_ns);
        let length_max = match self.shape {
            Shape::Exempt => return Arrival::Runs(self.start(now_ns, 0, want)),
            Shape::Reject if self.fits(&want) && self.flow_fits(&want) => {
                return Arrival::Runs(self.start(now_ns, 0, want));
            }
            Shape::Reject => return Arrival::Refused(Refusal::ConcurrencyLimit),
            Shape::Queue { length_max, .. } => length_max,
        };
        let queue = self.choose(want.flow);
        if self.counts.waiting == 0 && self.fits(&want) && self.flow_fits(&want) {
            return Arrival::Runs(self.start(now_ns, queue, want));
        }
        let length = self.queues[queue].waiting.len() + 1;
        if length > length_max {
            return Arrival::Refused(Refusal::QueueFull);
        }
        let id = self.next_id;
        self.next_id += 1;
        self.wake(queue);
        let token = token();
        let waiting = Waiting { id, want, token };
        self.queues[queue].waiting.push_back(waiting);
        self.counts.waiting += 1;
        self.counts.waiting_seats += want.seats;
        self.measure(now_ns);
        Arrival::Waits(Place { queue, id, length })
    }

    /// Runs at once, whatever there is.
    pub(crate) fn force(&mut self, now_ns: u64, want: Want) -> Started {
        self.settle(now_ns);
        let queue = match self.shape {
            Shape::Queue { .. } => self.choose(want.flow),
            Shape::Exempt | Shape::Reject => 0,
        };
        self.start(now_ns, queue, want)
    }

    /// The next one whose turn has come, which runs from now on. To be asked until there is none.
    pub(crate) fn next(&mut self, now_ns: u64) -> Option<(T, Started)> {
        self.settle(now_ns);
        if self.counts.waiting == 0 {
            return None;
        }
        let heads = self.queues.iter().enumerate().filter_map(|(at, queue)| {
            let head = queue.waiting.front()?;
            self.flow_fits(&head.want).then_some((queue.tag, at))
        });
        let (_, at) = heads.min()?;
        let head = self.queues[at].waiting.front()?;
        if !self.fits(&head.want) {
            return None;
        }
        let head = self.queues[at].waiting.pop_front()?;
        self.counts.waiting -= 1;
        self.counts.waiting_seats -= head.want.seats;
        let started = self.start(now_ns, at, head.want);
        Some((head.token, started))
    }

    /// Whether it was still waiting.
    pub(crate) fn cancel(&mut self, now_ns: u64, place: Place) -> bool {
        let waiting = &mut self.queues[place.queue].waiting;
        let Some(at) = waiting.iter().position(|one| one.id == place.id) else {
            return false;
        };
        let Some(gone) = waiting.remove(at) else {
            return false;
        };
        self.counts.waiting -= 1;
        self.counts.waiting_seats -= gone.want.seats;
        self.measure(now_ns);
        true
    }

    /// The work is done. `after` is how many seats it keeps for how long: what a write makes others do.
    pub(crate) fn finish(&mut self, now_ns: u64, started: &Started, after: Option<(u32, u64)>) {
        let seats = started.want.seats;
        let queue = &mut self.queues[started.queue];
        queue.running -= 1;
        queue.seats -= seats;
        let took = now_ns.saturating_sub(started.at_ns);
        let (truth, guess) = (work(seats, took), work(seats, GUESS_NS));
        queue.tag = (queue.tag + truth).saturating_sub(guess);
        self.counts.running -= 1;
        self.counts.seats -= seats;
        if let Some((seats, lasting_ns)) = after.filter(|_| self.shape != Shape::Exempt) {
            queue.tag += work(seats, lasting_ns);
            self.counts.seats += seats;
            self.lingering.push_back((now_ns + lasting_ns, seats));
        }
        queue.tag = queue.tag.min(self.present + DEBT_MAX);
        self.settle(now_ns);
        self.measure(now_ns);
    }

    /// So many bytes of an answer have left.
    pub(crate) fn free(&mut self, flow: u64, bytes: u64) {
        self.counts.bytes -= bytes;
        if let Some(held) = self.flow_bytes.get_mut(&flow) {
            *held -= bytes;
            if *held == 0 {
                self.flow_bytes.remove(&flow);
            }
        }
    }

    /// An answer turned out to be larger, by so much.
    pub(crate) fn charge(&mut self, flow: u64, bytes: u64) {
        self.counts.bytes += bytes;
        *self.flow_bytes.entry(flow).or_default() += bytes;
    }

    /// When lingering seats come free that somebody waits for.
    pub(crate) fn next_release_ns(&self) -> Option<u64> {
        let first = self.lingering.front()?;
        (self.counts.waiting > 0).then_some(first.0)
    }

    /// Gives back what has lingered long enough.
    fn settle(&mut self, now_ns: u64) {
        while let Some((until, seats)) = self.lingering.front().copied()
            && until <= now_ns
        {
            self.lingering.pop_front();
            self.counts.seats -= seats;
        }
    }

    fn measure(&mut self, now_ns: u64) {
        let wanted = self.counts.seats + self.counts.waiting_seats;
        self.meter.set(now_ns, wanted);
    }

    /// The queue of the flow's hand in which there is the least to wait for.
    fn choose(&self, flow: u64) -> usize {
        let Shape::Queue { queues, hand, .. } = self.shape else {
            return 0;
        };
        let mut best = None;
        deal(flow, queues.max(1), hand.max(1), |card| {
            let queue = &self.queues[card];
            let rank = (
                queue.waiting.len(),
                queue.tag.max(self.present),
                queue.seats,
            );
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, card));
            }
        });
        best.map_or(0, |(_, card)| card)
    }

    /// A queue that nobody used has no claim on the past.
    fn wake(&mut self, queue: usize) {
        let queue = &mut self.queues[queue];
        if queue.running == 0 && queue.waiting.is_empty() {
            queue.tag = queue.tag.max(self.present);
        }
    }

    fn start(&mut self, now_ns: u64, at: usize, want: Want) -> Started {
        self.wake(at);
        let queue = &mut self.queues[at];
        self.present = self.present.max(queue.tag);
        queue.tag += work(want.seats, GUESS_NS);
        queue.running += 1;
        queue.seats += want.seats;
        self.counts.running += 1;
        self.counts.seats += want.seats;
        if want.bytes > 0 {
            self.counts.bytes += want.bytes;
            *self.flow_bytes.entry(want.flow).or_default() += want.bytes;
        }
        self.measure(now_ns);
        Started {
            want,
            queue: at,
            at_ns: now_ns,
        }
    }

    /// Also what is wider than the level fits, alone: else it would never run.
    fn fits(&self, want: &Want) -> bool {
        let counts = &self.counts;
        let seats = counts.seats == 0 || counts.seats + want.seats <= self.room.seats;
        let bytes =
            want.bytes == 0 || counts.bytes == 0 || counts.bytes + want.bytes <= self.room.bytes;
        seats && bytes
    }

    fn flow_fits(&self, want: &Want) -> bool {
        let held = match want.bytes {
            0 => 0,
            _ => self.flow_bytes.get(&want.flow).copied().unwrap_or(0),
        };
        held == 0 || held + want.bytes <= self.room.flow_bytes
    }
}

/// What a request is charged before it is known what it takes.
pub(crate) fn work_guessed(seats: u32) -> u64 {
    work(seats, GUESS_NS)
}

fn work(seats: u32, ns: u64) -> u64 {
    u64::from(seats).saturating_mul(ns)
}

#[cfg(test)]
mod tests;
