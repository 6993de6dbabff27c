//! Who is behind: caches to which no news come any more, plans that are done only in part.

use super::Simulation;
use crate::testing::{after, world_of};
use crate::world::{Caches, World};
use agent_runtime::plan::Plan;
use serde_json::Value;
use std::sync::Arc;

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
}
