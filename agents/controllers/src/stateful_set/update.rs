//! Rolling updates: pods of another revision go, from the highest ordinal down to the partition, and come back new.

use super::Replicas;
use crate::history::revision_of;
use agent_runtime::kinds::Pod;
use agent_runtime::plan::Op;
use std::sync::Arc;

impl Replicas<'_> {
    pub(super) fn update(&self, ops: &mut Vec<Op>) {
        let rolling = self.set.spec.update_strategy.rolling_update.as_ref();
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        let first = self.start + i64::from(partition).max(0);
        let bound = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let victims = match bound {
            None => self.next_outdated(first).into_iter().collect(),
            Some(bound) => {
                // Rounded down, and one at least.
                let bound = bound.scaled(self.count, false).unwrap_or(1).max(1);
                self.outdated_within(first, bound)
            }
        };
        ops.extend(victims.into_iter().map(|pod| self.delete(&pod.metadata)));
    }

    /// Whether a pod is to be replaced by the update. One that ended goes anyway.
    fn is_outdated(&self, pod: &Pod) -> bool {
        revision_of(pod) != self.history.update.metadata.name && pod.is_active()
    }

    /// The highest pod that is not new, when all above it serve.
    fn next_outdated(&self, first: i64) -> Option<&Arc<Pod>> {
        for ordinal in (first..self.start + self.count).rev() {
            let pod = self.pods.get(&ordinal)?;
            if self.is_outdated(pod) {
                return Some(pod);
            }
            if self.is_unavailable(pod) {
                return None;
            }
        }
        None
    }

    /// As many pods that are not new as may be missing. Where pods do not wait for each other, those that serve nobody go
    /// first and at once: an update must be able to heal what it updates.
    fn outdated_within(&self, first: i64, bound: i64) -> Vec<&Arc<Pod>> {
        let serving = self.pods.values().filter(|pod| !self.is_unavailable(pod));
        let serving = i64::try_from(serving.count()).unwrap_or(i64::MAX);
        let budget = bound - (self.count - serving);
        let budget = usize::try_from(budget).unwrap_or(0);
        let outdated = self.pods.range(first..).rev().map(|(_, pod)| pod);
        let outdated = outdated.filter(|pod| self.is_outdated(pod));
        if self.in_order() {
            return outdated.take(budget).collect();
        }
        let (broken, whole): (Vec<_>, Vec<_>) = outdated.partition(|pod| self.is_unavailable(pod));
        broken
            .into_iter()
            .chain(whole.into_iter().take(budget))
            .collect()
    }
}
