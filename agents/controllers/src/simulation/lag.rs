//! Who is behind: caches to which no news come any more, plans that are done only in part, keys that wait for their turn.

use super::Simulation;
use crate::testing::{after, world_of};
use crate::world::{Caches, World};
use agent_runtime::plan::Plan;
use agent_runtime::{Key, Queue};
use futures::FutureExt;
use serde_json::Value;
use std::sync::Arc;

/// Whoever looks more often than that does not come to rest.
const LOOKS_MAX: usize = 2000;

impl Simulation {
    /// The caches as they are now, for somebody to whom no news come any more.
    pub(crate) fn frozen(&self) -> Arc<Caches> {
        let objects: Vec<Value> = self.objects.values().cloned().collect();
        world_of(&objects).caches
    }

    /// What somebody sees who has these caches.
    pub(crate) fn world_by(&self, caches: Arc<Caches>) -> World {
        World::new(
            caches,
            self.sightings.clone(),
            after(self.seconds),
            None,
            "CA".into(),
            self.version,
        )
        .with_options(self.options.clone())
    }

    /// Does what a plan wants, or only so many writes of it; whether all of it was done.
    pub(crate) fn attempt(&mut self, plan: Plan, writes: Option<u64>) -> bool {
        self.left = writes;
        let is_done = plan.ops.into_iter().all(|op| self.perform(op).is_ok());
        self.left = None;
        is_done
    }

    /// Looks at what was woken, until nothing is any more; what could not be done is looked at again.
    pub(crate) fn settle(&mut self, queue: &Queue<Key>, reconcile: fn(&Key, &World) -> Plan) {
        for _ in 0..LOOKS_MAX {
            let Some(Some(key)) = queue.next().now_or_never() else {
                return;
            };
            let plan = reconcile(&key, &self.world());
            let is_done = self.attempt(plan, None);
            queue.done(&key);
            if !is_done {
                queue.add(key);
            }
        }
        panic!("it does not come to rest");
    }
}
