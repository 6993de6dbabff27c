//! A Job and its pods, counted.

use super::backoff::finished_at;
use super::failure_policy::{Action, action};
use super::finalizer::is_tracked;
use super::indexes::{Intervals, completion_index};
use super::pods::{absolute_failures, index_failures};
use agent_runtime::kinds::{Job, Pod};
use agent_runtime::timestamp::Micros;
use host::HashSet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// See the module head.
pub(super) struct Run<'a> {
    pub(super) job: &'a Job,
    /// All that the Job controls, by index.
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) active: Vec<Arc<Pod>>,
    pub(super) terminating: usize,
    /// Uids that the status names as uncounted.
    pub(super) uncounted: HashSet<String>,
    /// With those that are not in the counters yet.
    pub(super) succeeded: i64,
    pub(super) failed: i64,
    /// Of an Indexed Job.
    pub(super) indexes: Option<Indexes>,
    pub(super) now: Micros,
}

/// The indexes of an Indexed Job.
pub(super) struct Indexes {
    pub(super) completions: i64,
    /// Those that the status names.
    pub(super) before: Intervals,
    pub(super) succeeded: Intervals,
    /// Only where each index has a limit of its own.
    pub(super) failed: Option<Intervals>,
    /// The last failed pod of each index that has no other. It keeps its finalizer until its replacement bears the count
    /// of its failures.
    pub(super) replaced: BTreeMap<i64, Arc<Pod>>,
}

impl<'a> Run<'a> {
    pub(super) fn new(job: &'a Job, mut pods: Vec<Arc<Pod>>, now: Micros) -> Self {
        pods.sort_by_cached_key(|pod| (completion_index(pod), pod.metadata.name.clone()));
        let active = pods.iter().filter(|pod| pod.is_active()).cloned().collect();
        let uncounted = job
            .status
            .uncounted_terminated_pods
            .clone()
            .unwrap_or_default();
        let mut run = Self {
            job,
            terminating: pods.iter().filter(|pod| is_terminating(pod)).count(),
            pods,
            active,
            succeeded: 0,
            failed: 0,
            indexes: None,
            uncounted: uncounted
                .succeeded
                .iter()
                .chain(&uncounted.failed)
                .cloned()
                .collect(),
            now,
        };
        run.indexes = run.count_indexes();
        let new = |wanted: &dyn Fn(&Pod) -> bool| {
            let new = run.pods.iter().filter(|pod| run.is_new(pod) && wanted(pod));
            length(new.count())
        };
        let status = &job.status;
        let succeeded = new(&|pod| pod.status.phase == "Succeeded");
        let failed = new(&|pod| run.is_failed(pod) && run.action(pod).counts());
        run.failed = i64::from(status.failed) + failed + length(uncounted.failed.len());
        run.succeeded = match &run.indexes {
            Some(indexes) => indexes.succeeded.total(),
            None => i64::from(status.succeeded) + succeeded + length(uncounted.succeeded.len()),
        };
        run
    }

    /// Whether a pod has ended, or will, without success. A pod that is being deleted is one unless only those are
    /// replaced that have really ended: it may never say so.
    pub(super) fn is_failed(&self, pod: &Pod) -> bool {
        let phase = pod.status.phase.as_str();
        phase == "Failed"
            || !self.waits_for_the_end() && pod.metadata.is_deleting() && phase != "Succeeded"
    }

    /// Whether a pod is only replaced when it has ended.
    pub(super) fn waits_for_the_end(&self) -> bool {
        let spec = &self.job.spec;
        spec.pod_replacement_policy == "Failed" || spec.pod_failure_policy.is_some()
    }

    /// What the failure policy says of a failed pod.
    pub(super) fn action(&self, pod: &Pod) -> Action {
        let policy = self.job.spec.pod_failure_policy.as_ref();
        policy.map_or(Action::Count, |policy| action(&policy.rules, pod))
    }

    /// Whether the pod's index, if the Job has them, is one of the Job's.
    pub(super) fn has_place(&self, pod: &Pod) -> bool {
        let place = |indexes: &Indexes| indexes.of(pod).is_some();
        self.indexes.as_ref().is_none_or(place)
    }

    /// Whether nothing of the pod is in the status yet.
    fn is_new(&self, pod: &Pod) -> bool {
        is_tracked(pod) && !self.uncounted.contains(&pod.metadata.uid) && self.has_place(pod)
    }

    fn count_indexes(&self) -> Option<Indexes> {
        let (spec, status) = (&self.job.spec, &self.job.status);
        if spec.completion_mode != "Indexed" {
            return None;
        }
        let completions = i64::from(spec.completions.unwrap_or(0));
        let before = Intervals::parse(&status.completed_indexes, completions);
        let mut indexes = Indexes {
            succeeded: before.clone(),
            before,
            failed: None,
            completions,
            replaced: BTreeMap::new(),
        };
        let tracked = || self.pods.iter().filter(|pod| is_tracked(pod));
        let succeeded = tracked().filter(|pod| pod.status.phase == "Succeeded");
        let succeeded = succeeded.filter_map(|pod| indexes.of(pod));
        indexes.succeeded = indexes.before.with(succeeded);
        if let Some(limit) = spec.backoff_limit_per_index {
            let text = status.failed_indexes.as_deref().unwrap_or_default();
            let over = tracked().filter(|pod| self.is_over(pod, limit));
            let failed = Intervals::parse(text, completions);
            indexes.failed = Some(failed.with(over.filter_map(|pod| indexes.of(pod))));
            indexes.replaced = self.replaced(&indexes);
        }
        Some(indexes)
    }

    /// Whether this pod was the last of its index.
    fn is_over(&self, pod: &Pod, limit: i32) -> bool {
        self.is_failed(pod)
            && match self.action(pod) {
                Action::FailIndex => true,
                action => action.counts() && index_failures(pod) >= i64::from(limit),
            }
    }

    fn replaced(&self, indexes: &Indexes) -> BTreeMap<i64, Arc<Pod>> {
        let running: HashSet<i64> = self
            .active
            .iter()
            .filter_map(|pod| indexes.of(pod))
            .collect();
        let is_over = |index: i64| {
            let failed = indexes
                .failed
                .as_ref()
                .is_some_and(|failed| failed.has(index));
            failed || indexes.succeeded.has(index) || running.contains(&index)
        };
        let rank = |pod: &Pod| (absolute_failures(pod), finished_at(pod));
        let mut replaced: BTreeMap<i64, Arc<Pod>> = BTreeMap::new();
        for pod in self
            .pods
            .iter()
            .filter(|pod| is_tracked(pod) && self.is_failed(pod))
        {
            let Some(index) = indexes.of(pod).filter(|index| !is_over(*index)) else {
                continue;
            };
            match replaced.get(&index) {
                Some(other) if rank(other) > rank(pod) => {}
                _ => drop(replaced.insert(index, pod.clone())),
            }
        }
        replaced
    }
}

impl Indexes {
    /// The index of a pod, if it is one of the Job's.
    pub(super) fn of(&self, pod: &Pod) -> Option<i64> {
        completion_index(pod).filter(|index| *index < self.completions)
    }
}

/// Whether a pod still runs but is being deleted.
pub(super) fn is_terminating(pod: &Pod) -> bool {
    !pod.is_finished() && pod.metadata.is_deleting()
}

pub(super) fn length(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
