//! How many pods a Job runs, and which.

use super::backoff::{Backoff, finished_at};
use super::finalizer;
use super::indexes::completion_index;
use super::pods::absolute_failures;
use super::run::{Indexes, Run, is_terminating, length};
use super::{BATCH, BURST};
use crate::pod_control::delete_pod;
use crate::ranking::{Ranked, compare};
use crate::world::World;
use agent_runtime::kinds::Pod;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::JOBS;
use std::sync::Arc;
use std::time::Duration;

impl Run<'_> {
    /// Ends all pods of a Job that is over. They keep the finalizer for the moment: they are counted by it.
    pub(super) fn stop(&self, plan: &mut Plan) {
        self.delete(&self.active, plan);
    }

    /// Makes or removes pods, whichever is needed first.
    pub(super) fn manage(&self, backoff: &Backoff, world: &World, plan: &mut Plan) {
        let active = length(self.active.len());
        let wanted = if self.job.spec.suspend {
            0
        } else {
            self.wanted()
        };
        let surplus = usize::try_from(active - wanted).unwrap_or(0);
        let mut victims = self.victims(surplus);
        victims.truncate(BURST);
        if !victims.is_empty() {
            // Without the finalizer first: it is no failure of theirs.
            plan.ops.extend(finalizer::release_all(&victims));
            self.delete(&victims, plan);
            return;
        }
        let going = if self.waits_for_the_end() {
            length(self.terminating)
        } else {
            0
        };
        let missing = usize::try_from(wanted - active - going)
            .unwrap_or(0)
            .min(BURST);
        if missing == 0 || self.job.spec.suspend {
            return;
        }
        match self.indexes_to_start(missing, backoff) {
            Ok(indexes) => {
                let creates: Vec<Op> = indexes.into_iter().map(|i| self.create(i, world)).collect();
                if !creates.is_empty() {
                    plan.push(Op::SlowStart(creates));
                }
            }
            Err(delay) => plan.again(delay.max(BATCH)),
        }
    }

    fn wanted(&self) -> i64 {
        let parallelism = i64::from(self.job.spec.parallelism.unwrap_or(1));
        match self.job.spec.completions {
            // Whatever runs after the first success may end in peace, but nothing is added.
            None if self.succeeded > 0 => length(self.active.len()),
            None => parallelism,
            Some(completions) => {
                (i64::from(completions) - self.succeeded).clamp(0, parallelism.max(0))
            }
        }
    }

    /// What to start now (with an index each, if the Job has them), or how long to wait.
    fn indexes_to_start(
        &self,
        missing: usize,
        backoff: &Backoff,
    ) -> Result<Vec<Option<i64>>, Duration> {
        let per_index = self.job.spec.backoff_limit_per_index.is_some();
        if !per_index && let Some(delay) = backoff.remaining() {
            return Err(delay);
        }
        let Some(indexes) = &self.indexes else {
            return Ok(vec![None; missing]);
        };
        let pending = self
            .taken(indexes)
            .first_missing(missing, indexes.completions);
        let mut waiting: Vec<Duration> = Vec::new();
        let mut now = Vec::new();
        for index in pending {
            let failed = indexes.replaced.get(&index);
            let delay = failed
                .and_then(|pod| backoff.remaining_of(absolute_failures(pod) + 1, finished_at(pod)));
            match delay {
                Some(delay) => waiting.push(delay),
                None => now.push(Some(index)),
            }
        }
        match waiting.into_iter().min() {
            Some(delay) if now.is_empty() => Err(delay),
            _ => Ok(now),
        }
    }

    /// Indexes that need no pod, or have one.
    fn taken(&self, indexes: &Indexes) -> super::indexes::Intervals {
        let going = self
            .pods
            .iter()
            .filter(|pod| self.waits_for_the_end() && is_terminating(pod));
        let there = self
            .active
            .iter()
            .chain(going)
            .filter_map(|pod| completion_index(pod));
        let taken = indexes.succeeded.with(there);
        indexes
            .failed
            .as_ref()
            .map_or(taken.clone(), |failed| taken.union(failed))
    }

    /// Pods that must go: those without a place of their own in any case, then the least useful.
    fn victims(&self, at_least: usize) -> Vec<Arc<Pod>> {
        let (mut victims, mut left) = match &self.indexes {
            None => (Vec::new(), self.active.clone()),
            Some(indexes) => self.misplaced(indexes),
        };
        if victims.len() < at_least {
            let more = at_least - victims.len();
            self.rank(&mut left);
            victims.extend(left.into_iter().take(more));
        }
        victims
    }

    /// Pods without a valid index and all but the best of each index; and the rest.
    fn misplaced(&self, indexes: &Indexes) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let (placed, mut misplaced): (Vec<_>, Vec<_>) = self
            .active
            .iter()
            .cloned()
            .partition(|pod| indexes.of(pod).is_some());
        let mut left = Vec::new();
        for same in placed.chunk_by(|a, b| indexes.of(a) == indexes.of(b)) {
            let mut same = same.to_vec();
            self.rank(&mut same);
            left.extend(same.pop());
            misplaced.extend(same);
        }
        (misplaced, left)
    }

    /// The least useful first.
    fn rank(&self, pods: &mut Vec<Arc<Pod>>) {
        let mut ranked: Vec<Ranked> = pods
            .drain(..)
            .map(|pod| Ranked { pod, neighbours: 0 })
            .collect();
        ranked.sort_by(|a, b| compare(a, b, self.now));
        pods.extend(ranked.into_iter().map(|ranked| ranked.pod));
    }

    fn delete(&self, pods: &[Arc<Pod>], plan: &mut Plan) {
        let owner = &self.job.metadata;
        let deletes = pods
            .iter()
            .map(|pod| delete_pod(&JOBS, owner, &pod.metadata));
        let deletes: Vec<Op> = deletes.collect();
        if !deletes.is_empty() {
            plan.push(Op::Parallel(deletes));
        }
    }
}
