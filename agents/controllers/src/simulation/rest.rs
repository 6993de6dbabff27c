//! Coming to rest: rounds until one finds nothing to do, and a controller that looks only at what wakes it.

use super::Simulation;
use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::plan::Plan;
use agent_runtime::{ControllerOptions, Key, Queue};
use futures::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whoever looks more often than that at one time does not come to rest.
const LOOKS_MAX: usize = 2000;
/// Nor does who has to wait more often than that.
const WAITS_MAX: usize = 200;

/// Goes through rounds until one says that it was not busy.
///
/// # Panics
/// If that many rounds are not enough; `told` says whose they are.
pub(crate) fn rest<T>(
    state: &mut T,
    rounds: usize,
    told: &str,
    mut round: impl FnMut(&mut T) -> bool,
) {
    let is_at_rest = (0..rounds).any(|_| !round(state));
    assert!(is_at_rest, "{told}: it does not come to rest");
}

/// Who leads for one look; after that another one takes over, who remembers nothing.
#[derive(Clone, Copy)]
pub(crate) enum Leader {
    /// One who has seen nothing new since [`Woken::fall_behind`].
    Behind,
    /// One who is cut off after so many writes.
    CutOff(u64),
}

/// A cluster, and a controller in it that looks only at what wakes it, or what it wanted to look at again.
pub(crate) struct Woken {
    pub(crate) cluster: Simulation,
    wire: fn(&Arc<Caches>, &Arc<Queue<Key>>),
    reconcile: fn(&Key, &World) -> Plan,
    queue: Arc<Queue<Key>>,
    /// What is looked at again without being woken, and when, in seconds since the beginning.
    later: BTreeMap<Key, u64>,
    /// Caches of somebody to whom no news come.
    old: Arc<Caches>,
    made: u64,
}

impl Woken {
    /// An empty cluster, and a controller with a queue whose operator has chosen this.
    pub(crate) fn new(controller: &Controller, options: ControllerOptions) -> Self {
        let Body::Keyed { wire, reconcile } = controller.body else {
            panic!("{} has no queue", controller.name);
        };
        let mut cluster = Simulation::new("");
        cluster.options = Arc::new(options);
        let mut woken = Self {
            old: cluster.frozen(),
            cluster,
            wire,
            reconcile,
            queue: Arc::new(Queue::new()),
            later: BTreeMap::new(),
            made: 0,
        };
        woken.take_over();
        woken
    }

    /// A uid that nobody has had.
    pub(crate) fn uid(&mut self) -> String {
        self.made += 1;
        format!("u{}", self.made)
    }

    /// Who is [`Leader::Behind`] sees the cluster as it is now from now on.
    pub(crate) fn fall_behind(&mut self) {
        self.old = self.cluster.frozen();
    }

    /// Somebody begins to lead who remembers nothing.
    pub(crate) fn take_over(&mut self) {
        self.cluster.sightings = Arc::default();
        self.later.clear();
        self.queue = Arc::new(Queue::new());
        (self.wire)(&self.cluster.caches, &self.queue);
    }

    /// One looks at the key who is behind or cut off, and another one takes over.
    pub(crate) fn led_by(&mut self, leader: Leader, key: &Key) {
        let (caches, writes) = match leader {
            Leader::Behind => (self.old.clone(), None),
            Leader::CutOff(writes) => (self.cluster.frozen(), Some(writes)),
        };
        let plan = (self.reconcile)(key, &self.cluster.world_by(caches));
        self.cluster.attempt(plan, writes);
        self.take_over();
    }

    /// Looks at what was woken and what is due, until nothing is any more; what could not be done is looked at again. No time
    /// passes.
    pub(crate) fn settle(&mut self) {
        for _ in 0..LOOKS_MAX {
            self.add_due();
            let Some(Some(key)) = self.queue.next().now_or_never() else {
                return;
            };
            self.look(&key);
        }
        panic!("it does not come to rest");
    }

    fn add_due(&mut self) {
        let (now, queue) = (self.cluster.seconds, &self.queue);
        self.later.retain(|key, at| {
            let is_due = *at <= now;
            if is_due {
                queue.add(key.clone());
            }
            !is_due
        });
    }

    fn look(&mut self, key: &Key) {
        let plan = (self.reconcile)(key, &self.cluster.world());
        // Only the last word counts, so that no former wish helps.
        self.later.remove(key);
        if let Some(again) = plan.again_in {
            let seconds = again.as_secs() + u64::from(again.subsec_nanos() > 0);
            let at = self.cluster.seconds + seconds;
            self.later.insert(key.clone(), at);
        }
        let is_done = self.cluster.attempt(plan, None);
        self.queue.done(key);
        if !is_done {
            self.queue.add(key.clone());
        }
    }

    /// Lets time pass until something is due; whether anything ever is.
    pub(crate) fn wait(&mut self) -> bool {
        let Some(at) = self.later.values().min().copied() else {
            return false;
        };
        self.cluster.seconds = self.cluster.seconds.max(at);
        true
    }

    /// Looks and waits until nothing is woken or due any more.
    pub(crate) fn come_to_rest(&mut self) {
        rest(self, WAITS_MAX, "a look later", |woken| {
            woken.settle();
            woken.wait()
        });
    }

    /// Whoever looks at these once more writes nothing.
    pub(crate) fn stays(&mut self, keys: impl IntoIterator<Item = Key>) {
        let before = self.cluster.objects.clone();
        for key in keys {
            self.cluster.step(&key, self.reconcile);
        }
        let is_at_rest = self.cluster.objects == before;
        let after = self.cluster.objects.values();
        assert!(is_at_rest, "it does not come to rest: {after:#?}");
    }
}
