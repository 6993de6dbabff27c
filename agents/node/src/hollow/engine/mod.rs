//! The one loop of all hollow nodes: what was seen, what is due and what was written goes in; writes go out, a bounded number
//! at a time.
//!
//! A pod or node stands in the queue at most once, and what is to be written of it is decided when its turn comes: changes
//! that come faster than they can be written become one write.

mod answers;
mod notes;
mod seen;
mod turns;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_runtime::resource_ref::{NODES, PODS};
use agent_runtime::watch::Lean;
use agent_runtime::{Client, EventRecorder};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::follow::Sink;
use super::nodes::{Names, Template};
use super::told::PodTold;
use super::wheel::Wheel;
use super::world::{Uid, World};
use super::writes::Answer;
use super::{HollowNodes, WATCHES_A_CLIENT, Watches};
use crate::clock;
use crate::follow::{Followed, Step};
use seen::{Seen, node_seen, pod_seen};

/// What was seen and waits to be taken in; watches wait when there is more.
const SEEN_MAX: usize = 1024;
const SEEN_AT_ONCE: usize = 256;
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(20);
/// A deleted node comes back after this.
const RETURN: Duration = Duration::from_secs(1);
const LISTS_MAX: usize = 64;
/// Leases and nodes go before pods, but leave them this share of the places.
const PODS_SHARE: usize = 2;
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Pods that are due within this time have their turn together.
const TOGETHER: Duration = Duration::from_millis(10);

/// The time since the process began, and the time of day, which goes on evenly from the beginning.
#[derive(Debug, Clone, Copy)]
pub(in crate::hollow) struct Clock {
    began: Instant,
    at: OffsetDateTime,
}

impl Clock {
    pub(in crate::hollow) fn start() -> Clock {
        Clock {
            began: Instant::now(),
            at: clock::now(),
        }
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(in crate::hollow) fn now(&self) -> OffsetDateTime {
        self.at + self.elapsed()
    }

    /// The time since the beginning of a time of day; now, if it is past.
    fn until(&self, at: OffsetDateTime, elapsed: Duration) -> Duration {
        let since = Duration::try_from(at - self.at).unwrap_or_default();
        since.max(elapsed)
    }
}

/// What has its turn.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pod(Uid),
    Node(u32),
    Lease(u32),
}

pub(in crate::hollow) struct Engine {
    config: HollowNodes,
    names: Names,
    template: Template,
    host_ip: String,
    world: Arc<Mutex<World>>,
    clients: Vec<Client>,
    clock: Clock,
    wheel: Wheel<Key>,
    /// Nodes and leases.
    urgent: VecDeque<Key>,
    pods: VecDeque<Uid>,
    writes: JoinSet<(Key, Answer)>,
    urgent_writes: usize,
    events: EventRecorder,
    /// Events that may be told now, and since when that is so.
    budget: (f64, Duration),
    told: (usize, Duration),
}

impl Engine {
    pub(in crate::hollow) fn new(
        config: HollowNodes,
        names: Names,
        template: Template,
        world: Arc<Mutex<World>>,
        clients: Vec<Client>,
        clock: Clock,
        stop: &CancellationToken,
    ) -> Engine {
        Engine {
            events: EventRecorder::start(clients[0].clone(), "kubelet", "", stop),
            host_ip: config.node_ip.to_string(),
            budget: (f64::from(config.events_per_second), Duration::ZERO),
            config,
            names,
            template,
            world,
            clients,
            clock,
            wheel: Wheel::default(),
            urgent: VecDeque::new(),
            pods: VecDeque::new(),
            writes: JoinSet::new(),
            urgent_writes: 0,
            told: (usize::MAX, Duration::ZERO),
        }
    }

    /// Runs until dropped.
    pub(in crate::hollow) async fn run(mut self) {
        let (sender, mut seen) = mpsc::channel(SEEN_MAX);
        let mut watches = self.watch(sender);
        for number in 0..self.config.count {
            self.queue(Key::Node(number));
            self.wait_for_lease(number);
        }
        let mut batch = Vec::with_capacity(SEEN_AT_ONCE);
        loop {
            self.take_due();
            self.start_writes();
            self.tell_progress();
            let next = self.wheel.next().unwrap_or(Duration::MAX);
            let next = next.min(self.clock.elapsed() + TELL_EVERY);
            tokio::select! {
                biased;
                Some(_) = watches.join_next() => return,
                Some(done) = self.writes.join_next(), if !self.writes.is_empty() => self.finish(done),
                count = seen.recv_many(&mut batch, SEEN_AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    batch.drain(..).for_each(|one| self.see(one));
                }
                () = tokio::time::sleep_until(self.clock.began + next) => {}
            }
            // Whichever it was, neither may keep the other waiting: writes that end one after the other would hide what was
            // seen, and what is always seen the ends of writes.
            while let Some(done) = self.writes.try_join_next() {
                self.finish(done);
            }
            for _ in 0..SEEN_AT_ONCE {
                let Ok(one) = seen.try_recv() else { break };
                self.see(one);
            }
        }
    }

    /// The tasks that follow the API.
    fn watch(&self, sender: mpsc::Sender<Seen>) -> JoinSet<()> {
        let lists = Arc::new(Semaphore::new(LISTS_MAX));
        let followed = |client: &Client, resource, labels: &str, fields: String| Followed {
            client: client.clone(),
            resource,
            namespace: String::new(),
            label_selector: labels.to_owned(),
            field_selector: fields,
            cached: false,
            lists: lists.clone(),
        };
        let mut tasks = JoinSet::new();
        let names = self.names.clone();
        let nodes = followed(&self.clients[0], NODES, "type=hollow", String::new());
        let sink: Sink<Seen, Lean> = Sink {
            sender: sender.clone(),
            convert: Box::new(move |step: Step<Lean>| node_seen(&names, step)),
        };
        tasks.spawn(nodes.run(sink));
        let ours = Arc::new((self.names.clone(), self.config.stages.clone()));
        let mut follow_pods = |followed: Followed, node| {
            let ours = ours.clone();
            let sink: Sink<Seen, PodTold> = Sink {
                sender: sender.clone(),
                convert: Box::new(move |step: Step<PodTold>| {
                    pod_seen(&ours.0, &ours.1, node, step)
                }),
            };
            tasks.spawn(followed.run(sink));
        };
        match self.config.watches {
            Watches::Shared => {
                let bound = "spec.nodeName!=".to_owned();
                follow_pods(followed(&self.clients[0], PODS, "", bound), None);
            }
            Watches::PerNode => {
                for number in 0..self.config.count {
                    let others = self.clients.len() - 1;
                    let turn = usize::try_from(number / WATCHES_A_CLIENT).unwrap_or(0);
                    let client = turn.checked_rem(others).map_or(0, |turn| turn + 1);
                    let fields = format!("spec.nodeName={}", self.names.of(number));
                    let one = Followed {
                        cached: true,
                        ..followed(&self.clients[client], PODS, "", fields)
                    };
                    follow_pods(one, Some(number));
                }
            }
        }
        tasks
    }

    fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.world)
    }

    fn queue(&mut self, key: Key) {
        let world = self.world.clone();
        let mut world = lock(&world);
        match key {
            Key::Pod(uid) => {
                if let Some(entry) = world.pods.get_mut(&uid)
                    && !std::mem::replace(&mut entry.queued, true)
                {
                    self.pods.push_back(uid);
                }
            }
            Key::Node(number) => {
                if let Some(place) = world.place(number)
                    && !std::mem::replace(&mut place.queued, true)
                {
                    self.urgent.push_back(key);
                }
            }
            Key::Lease(number) => {
                if let Some(place) = world.place(number)
                    && !std::mem::replace(&mut place.lease.queued, true)
                {
                    self.urgent.push_back(key);
                }
            }
        }
    }

    /// Notes that something wants its turn at a time.
    fn schedule(&mut self, key: Key, at: Duration) {
        let world = self.world.clone();
        let mut world = lock(&world);
        let due = match &key {
            Key::Pod(uid) => world.pods.get_mut(uid).map(|entry| &mut entry.due),
            Key::Node(number) => world.place(*number).map(|place| &mut place.due),
            Key::Lease(number) => world.place(*number).map(|place| &mut place.lease.due),
        };
        let Some(due) = due else { return };
        if due.is_none_or(|earlier| at < earlier) {
            *due = Some(at);
            self.wheel.at(at, key);
        }
    }

    /// Puts into the queue what is due.
    fn take_due(&mut self) {
        let now = self.clock.elapsed();
        while let Some((at, key)) = self.wheel.pop(now) {
            let wanted = {
                let mut world = self.world();
                let due = match &key {
                    Key::Pod(uid) => world.pods.get_mut(uid).map(|entry| &mut entry.due),
                    Key::Node(number) => world.place(*number).map(|place| &mut place.due),
                    Key::Lease(number) => world.place(*number).map(|place| &mut place.lease.due),
                };
                due.is_some_and(|due| due.take_if(|due| *due == at).is_some())
            };
            if wanted {
                self.queue(key);
            }
        }
    }

    /// The next renewal of a lease: each node has its own moment within the period. Those of the same [`tick`] renew at once, so that
    /// the store can write them down together: members send, write and apply fifty renewals as they would one.
    fn wait_for_lease(&mut self, number: u32) {
        let now = self.clock.elapsed();
        let (period, count) = (self.config.periods.lease, self.config.count);
        let phase = match self.world().place(number) {
            Some(place) => in_step(place.node.phase(period, count), tick(period, count)),
            None => return,
        };
        let period = period.max(Duration::from_millis(1));
        let turns = now.saturating_sub(phase).as_nanos() / period.as_nanos();
        let next = period.saturating_mul(u32::try_from(turns).unwrap_or(0)) + phase;
        let next = if next <= now { next + period } else { next };
        self.schedule(Key::Lease(number), next);
    }
}

/// So many leases are renewed at once: fewer would be more work for the store, and more keep others waiting.
const AT_ONCE: u32 = 50;
const TICK_MIN: Duration = Duration::from_millis(100);
const TICK_MAX: Duration = Duration::from_secs(1);

/// Moments of the leases of so many nodes are told apart when they are this far from each other.
fn tick(period: Duration, count: u32) -> Duration {
    let tick = period.saturating_mul(AT_ONCE) / count.max(1);
    tick.clamp(TICK_MIN, TICK_MAX)
}

/// The beginning of the tick that a moment is in.
fn in_step(moment: Duration, tick: Duration) -> Duration {
    let before = moment.as_nanos() / tick.as_nanos().max(1);
    tick.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX))
}

/// The end of the tick that a moment is in, so that what is due within it has its turn, and is written, at once.
fn at_end(moment: Duration, tick: Duration) -> Duration {
    let begun = in_step(moment, tick);
    match begun == moment {
        true => moment,
        false => begun.saturating_add(tick).max(moment),
    }
}

pub(in crate::hollow) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_a_tick_renew_at_once() {
        let tick = Duration::from_millis(100);
        let moments = [0, 99, 100, 199, 9_999].map(Duration::from_millis);
        let ticks = [0, 0, 100, 100, 9_900].map(Duration::from_millis);
        assert_eq!(moments.map(|moment| in_step(moment, tick)), ticks);
    }

    #[test]
    fn what_is_due_within_a_tick_is_due_at_its_end() {
        let moments = [0, 1, 9, 10, 11].map(Duration::from_millis);
        let ends = moments.map(|moment| at_end(moment, TOGETHER).as_millis());
        assert_eq!(ends, [0, 10, 10, 10, 20]);
        // So far away, ticks are not counted any more.
        let years = Duration::from_secs(1_000_000_000) + Duration::from_nanos(1);
        assert_eq!(at_end(years, TOGETHER), years);
    }

    #[test]
    fn a_tick_has_some_fifty_renewals_and_is_a_second_at_the_most() {
        let ticks = [10, 500, 1000, 5000, 16_000, 0];
        let ticks = ticks.map(|count| tick(Duration::from_secs(10), count).as_millis());
        assert_eq!(ticks, [1000, 1000, 500, 100, 100, 1000]);
    }
}
