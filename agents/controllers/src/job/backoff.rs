//! How long a Job waits before it replaces failed pods: ten seconds after the first failure since the last success, twice
//! as long after each further one, ten minutes at most.
//!
//! Nothing of this is written down, so it follows from the pods that can still be seen, and, for those that have vanished,
//! from what this process has seen of the counters grow. A clock that is set back holds nothing up: a failure is at least
//! as old as its sighting.

use super::run::Run;
use crate::world::World;
use agent_runtime::Key;
use agent_runtime::kinds::{ContainerStatus, Pod};
use agent_runtime::timestamp::{self, Micros};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const MAX: Duration = Duration::from_secs(600);
/// More failures in a row make no difference.
const FAILURES_MAX: i64 = 7;

/// What a Job has to wait for.
pub(super) struct Backoff {
    /// Failures since the last success.
    failures: i64,
    last_failure: Option<Micros>,
    /// Since when the newest failure is known.
    known_for: Duration,
    now: Micros,
}

impl Backoff {
    /// Before any pod may be replaced.
    pub(super) fn remaining(&self) -> Option<Duration> {
        self.after(self.failures, self.last_failure)
    }

    /// Before a pod with so many predecessors may be replaced that failed at this time.
    pub(super) fn remaining_of(&self, failures: i64, failed_at: Micros) -> Option<Duration> {
        self.after(failures, Some(failed_at))
    }

    fn after(&self, failures: i64, failed_at: Option<Micros>) -> Option<Duration> {
        let doublings = u32::try_from(failures.min(FAILURES_MAX) - 1).ok()?;
        let delay = FIRST.saturating_mul(1 << doublings).min(MAX);
        let since = failed_at.map_or(0, |at| self.now.saturating_sub(at).max(0));
        let since = Duration::from_micros(u64::try_from(since).unwrap_or(0));
        let left = delay.saturating_sub(since.max(self.known_for));
        (!left.is_zero()).then_some(left)
    }
}

/// Remembers what is new. Must be called whenever a Job is looked at.
pub(super) fn observe(run: &Run<'_>, key: &Key, world: &World) -> Backoff {
    let counts = (run.failed - FAILURES_MAX).max(0) + 1..=run.failed;
    let mut names = vec!["job".to_owned(), format!("succeeded {}", run.succeeded)];
    names.extend(counts.map(|count| format!("failed {count}")));
    let ages = world.ages(key, &names);
    let (job, success, failures) = (ages[0], ages[1], &ages[2..]);
    // What was there when we came is told by the pods.
    let after_success = |age: Duration| age < success || success == job;
    let seen = failures
        .iter()
        .filter(|age| **age < job && after_success(**age));
    let (visible, last_failure) = visible(run);
    Backoff {
        failures: visible.max(super::run::length(seen.count())),
        last_failure,
        known_for: failures.last().copied().unwrap_or_default(),
        now: run.now,
    }
}

/// Nothing is remembered of a Job that has ended.
pub(super) fn forget(key: &Key, world: &World) {
    world.ages(key, &[]);
}

/// Failures since the last success, and the last one, as the pods tell.
fn visible(run: &Run<'_>) -> (i64, Option<Micros>) {
    let succeeded = run
        .pods
        .iter()
        .filter(|pod| pod.status.phase == "Succeeded");
    let success = succeeded.map(|pod| finished_at(pod)).max();
    let failed = run.pods.iter().filter(|pod| run.is_failed(pod));
    let after: Vec<Micros> = failed
        .map(|pod| finished_at(pod))
        .filter(|at| success.is_none_or(|success| *at > success))
        .collect();
    (super::run::length(after.len()), after.into_iter().max())
}

/// When a pod ended, by what is known best: its containers, its readiness, its deletion, its creation.
pub(super) fn finished_at(pod: &Pod) -> Micros {
    containers_finished(pod)
        .or_else(|| {
            let ready = pod.condition("Ready").filter(|c| c.status == "False");
            timestamp::parse(ready?.last_transition_time.as_deref()?)
        })
        .or_else(|| {
            let at = timestamp::parse(pod.metadata.deletion_timestamp.as_deref()?)?;
            let grace = pod.metadata.deletion_grace_period_seconds;
            Some(at.saturating_sub(timestamp::seconds(grace)))
        })
        .unwrap_or_else(|| pod.metadata.created())
}

/// When the last container ended, sidecars among them; `None` if one runs.
fn containers_finished(pod: &Pod) -> Option<Micros> {
    let is_sidecar = |status: &&ContainerStatus| {
        let mut init = pod.spec.init_containers.iter();
        init.any(|c| c.name == status.name && c.restart_policy.as_deref() == Some("Always"))
    };
    let status = &pod.status;
    let sidecars = status.init_container_statuses.iter().filter(is_sidecar);
    let ends = status
        .container_statuses
        .iter()
        .chain(sidecars)
        .map(|container| {
            let terminated = container.state.terminated.as_ref()?;
            timestamp::parse(terminated.finished_at.as_deref()?)
        });
    ends.collect::<Option<Vec<Micros>>>()?.into_iter().max()
}
