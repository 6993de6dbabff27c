//! The two moves of a rolling update: grow the new set, shrink the old ones.

use super::{Rollout, replicas};
use agent_runtime::kinds::ReplicaSet;
use agent_runtime::plan::Op;
use std::sync::Arc;

impl Rollout<'_> {
    /// How large the new set may be now.
    pub(super) fn size_of_new_set(&self, current: i64) -> i64 {
        if self.deployment.spec.strategy.kind == "Recreate" {
            return self.desired();
        }
        let total: i64 = self.old.iter().map(|set| replicas(set)).sum::<i64>() + current;
        let room = self.desired() + self.max_surge() - total;
        if room <= 0 {
            current
        } else {
            current + room.min(self.desired() - current)
        }
    }

    pub(super) fn grow_new_set(&self, new: &Arc<ReplicaSet>) -> Vec<Op> {
        let current = replicas(new);
        let size = if current > self.desired() {
            self.desired()
        } else {
            self.size_of_new_set(current)
        };
        if size == current {
            Vec::new()
        } else {
            self.scale_to(new, size).into_iter().collect()
        }
    }

    /// Takes replicas from old sets: those that do not work first, then as many as availability permits.
    pub(super) fn shrink_old_sets(&self, new: &Arc<ReplicaSet>) -> Vec<Op> {
        let mut sizes: Vec<i64> = self.old.iter().map(|set| replicas(set)).collect();
        let old_total: i64 = sizes.iter().sum();
        if old_total == 0 {
            return Vec::new();
        }
        let min_available = self.desired() - self.max_unavailable();
        let new_unavailable = replicas(new) - available(new, replicas(new));
        let budget = old_total + replicas(new) - min_available - new_unavailable;
        if budget <= 0 {
            return Vec::new();
        }
        self.drop_unhealthy(&mut sizes, budget);
        self.drop_available(&mut sizes, new, min_available);
        self.old
            .iter()
            .zip(sizes)
            .filter(|(set, size)| replicas(set) != *size)
            .filter_map(|(set, size)| self.scale_to(set, size))
            .collect()
    }

    fn drop_unhealthy(&self, sizes: &mut [i64], budget: i64) {
        let mut dropped = 0;
        for (set, size) in self.old.iter().zip(sizes) {
            let unhealthy = (*size - i64::from(set.status.available_replicas)).max(0);
            let count = unhealthy.min(budget - dropped);
            *size -= count;
            dropped += count;
        }
    }

    fn drop_available(&self, sizes: &mut [i64], new: &ReplicaSet, min_available: i64) {
        let old = self.old.iter().zip(&*sizes);
        let total: i64 = old.map(|(set, size)| available(set, *size)).sum::<i64>()
            + available(new, replicas(new));
        let mut budget = (total - min_available).max(0);
        for size in sizes {
            let count = (*size).min(budget);
            *size -= count;
            budget -= count;
        }
    }
}

/// How many available pods a set of this size has at least. A set that was just made smaller still counts those that are about to
/// go, and one that was made larger again may still count those that went: whoever trusted that would take the last ones that serve.
fn available(set: &ReplicaSet, size: i64) -> i64 {
    if set.metadata.generation > set.status.observed_generation {
        return 0;
    }
    i64::from(set.status.available_replicas).min(size)
}
