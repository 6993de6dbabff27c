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

#[cfg(test)]
mod tests {
    use super::*;
    use agent_runtime::plan::Op;
    use agent_runtime::resource_ref::NODES;
    use serde_json::{Value, json};
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn key() -> Key {
        Key::new("", "n")
    }

    fn wire(_: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
        queue.add(key());
    }

    /// A node, and a controller that looks at it once unless it wants more.
    fn woken(reconcile: fn(&Key, &World) -> Plan) -> Woken {
        let controller = Controller {
            name: "test",
            help: "",
            workers: 1,
            body: Body::Keyed { wire, reconcile },
        };
        let mut woken = Woken::new(&controller, ControllerOptions::default());
        let node = json!({"kind": "Node", "metadata": {"name": "n", "uid": "u"}});
        woken.cluster.put(node);
        woken
    }

    fn writes(key: &Key, world: &World, metadata: &Value) -> Plan {
        let node = world.caches.nodes.by_key(key).expect("the node");
        let patch = json!({ "metadata": metadata });
        Plan::of(vec![Op::merge(&NODES, &node.metadata, patch)])
    }

    fn always_writes(key: &Key, world: &World) -> Plan {
        writes(key, world, &json!({"labels": {"x": "y"}}))
    }

    fn is_always_refused(key: &Key, world: &World) -> Plan {
        writes(key, world, &json!({"uid": "another"}))
    }

    fn always_looks_again(_: &Key, _: &World) -> Plan {
        let mut plan = Plan::none();
        plan.again(Duration::from_secs(1));
        plan
    }

    /// Marks the node once when it has seen it for long enough.
    fn waits_and_marks(key: &Key, world: &World) -> Plan {
        let age = world.ages(key, &["the node".to_owned()])[0];
        let node = world.caches.nodes.by_key(key).expect("the node");
        if age < PATIENCE {
            let mut plan = Plan::none();
            plan.again(PATIENCE.saturating_sub(age));
            plan
        } else if node.metadata.labels.is_empty() {
            always_writes(key, world)
        } else {
            Plan::none()
        }
    }

    #[test]
    fn who_wants_to_look_again_does_and_who_takes_over_remembers_nothing() {
        let mut woken = woken(waits_and_marks);
        woken.settle();
        woken.cluster.seconds += 3;
        woken.settle();
        woken.take_over();
        woken.come_to_rest();
        assert_eq!(woken.cluster.seconds, 3 + PATIENCE.as_secs());
        let node = woken.cluster.get("Node", "n").expect("the node");
        assert_eq!(node["metadata"]["labels"]["x"], "y");
        woken.stays([key()]);
    }

    #[test]
    #[should_panic(expected = "seed 7: it does not come to rest")]
    fn rounds_that_are_always_busy_are_no_rest() {
        rest(&mut 0_u32, 3, "seed 7", |rounds| {
            *rounds += 1;
            true
        });
    }

    #[test]
    #[should_panic(expected = "it does not come to rest")]
    fn who_is_refused_for_ever_does_not_come_to_rest() {
        woken(is_always_refused).settle();
    }

    #[test]
    #[should_panic(expected = "a look later: it does not come to rest")]
    fn who_looks_for_ever_does_not_come_to_rest() {
        woken(always_looks_again).come_to_rest();
    }

    #[test]
    #[should_panic(expected = "it does not come to rest: ")]
    fn who_writes_at_each_look_does_not_stay() {
        let mut woken = woken(always_writes);
        woken.come_to_rest();
        woken.stays([key()]);
    }
}
