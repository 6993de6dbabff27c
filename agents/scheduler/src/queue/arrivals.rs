//! How many pods wait where, and what brought them there, under Kubernetes' names. Only numbers: the queue does without them.

use super::Place;
use std::collections::BTreeMap;

pub(super) const POD_ADDED: &str = "UnschedulablePodAdd";
pub(super) const POD_UPDATED: &str = "UnschedulablePodUpdate";
pub(super) const FAILED: &str = "ScheduleAttemptFailure";
pub(super) const BACKOFF_OVER: &str = "BackoffComplete";
pub(super) const WAITED_LONG: &str = "UnschedulableTimeout";
/// With its group, or once more with it.
pub(super) const LET_IN: &str = "ForceActivate";

/// A pool of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pool {
    /// Next in their turn.
    Active,
    /// Tried in vain lately.
    Backoff,
    /// Nothing has changed that could help.
    Unschedulable,
    /// Kept out.
    Gated,
}

impl Pool {
    /// Every pool.
    pub const ALL: [Pool; 4] = [
        Pool::Active,
        Pool::Backoff,
        Pool::Unschedulable,
        Pool::Gated,
    ];

    pub(super) fn of(place: &Place) -> Pool {
        match place {
            Place::Active(_) => Pool::Active,
            Place::Backoff(..) | Place::ErrorBackoff(..) => Pool::Backoff,
            Place::Unschedulable(..) => Pool::Unschedulable,
            Place::Gated(_) => Pool::Gated,
        }
    }

    /// Kubernetes' name.
    pub fn label(self) -> &'static str {
        match self {
            Pool::Active => "active",
            Pool::Backoff => "backoff",
            Pool::Unschedulable => "unschedulable",
            Pool::Gated => "gated",
        }
    }
}

/// How many pods wait, in the order of [`Pool::ALL`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts(pub [usize; 4]);

impl Counts {
    pub(super) fn of(&mut self, pool: Pool) -> &mut usize {
        &mut self.0[pool as usize]
    }
}

/// How often what brought a pod into which pool.
#[derive(Debug, Default)]
pub struct Arrivals(BTreeMap<(Pool, &'static str), u64>);

impl Arrivals {
    pub(super) fn add(&mut self, place: &Place, event: &'static str) {
        *self.0.entry((Pool::of(place), event)).or_default() += 1;
    }

    /// Pools, events and numbers.
    pub fn iter(&self) -> impl Iterator<Item = (Pool, &'static str, u64)> {
        self.0
            .iter()
            .map(|((pool, event), count)| (*pool, *event, *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Pod;
    use crate::plugins::Change;
    use crate::queue::Queue;
    use serde_json::json;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn pod(uid: &str, gates: serde_json::Value) -> Arc<Pod> {
        Arc::new(Pod::compile(&json!({
            "metadata": {"name": uid, "namespace": "d", "uid": uid}, "spec": {"schedulingGates": gates},
        })))
    }

    #[test]
    fn what_waits_where_and_why_is_counted() {
        let mut queue = Queue::default();
        for uid in ["a", "b", "c"] {
            queue.set(pod(uid, json!([])), 0);
        }
        queue.set(pod("g", json!([{"name": "x"}])), 0);
        queue.set(pod("g", json!([{"name": "x"}])), 5);
        assert_eq!(queue.counts(), Counts([3, 0, 0, 1]));
        for _ in 0..2 {
            let queued = queue.pop(10).unwrap();
            assert_eq!(queued.first_active, Some(0));
            queue.park(queued, BTreeSet::from(["NodeResourcesFit"]), 10);
        }
        let queued = queue.pop(10).unwrap();
        queue.retry(queued, 10);
        assert_eq!(queue.counts(), Counts([0, 1, 2, 1]));
        queue.wake(&Change::PodGone(pod("other", json!([]))), 20);
        assert_eq!(queue.counts(), Counts([0, 3, 0, 1]));
        queue.remove("a");
        assert_eq!(queue.counts(), Counts([0, 2, 0, 1]));
        let queued = queue.pop(600_000).unwrap();
        assert_eq!(queued.first_active, Some(0));
        assert_eq!(queue.counts(), Counts([1, 0, 0, 1]));
        let arrivals = queue.take_arrivals();
        let arrivals: Vec<_> = arrivals
            .iter()
            .map(|(pool, event, count)| format!("{} {event} {count}", pool.label()))
            .collect();
        let expected = [
            "active BackoffComplete 2",
            "active UnschedulablePodAdd 3",
            "backoff AssignedPodDelete 2",
            "backoff ScheduleAttemptFailure 1",
            "unschedulable ScheduleAttemptFailure 2",
            "gated UnschedulablePodAdd 1",
        ];
        assert_eq!(arrivals, expected);
        assert_eq!(queue.take_arrivals().iter().count(), 0);
        queue.set(pod("g", json!([])), 700_000);
        assert_eq!(queue.counts(), Counts([2, 0, 0, 0]));
    }
}
