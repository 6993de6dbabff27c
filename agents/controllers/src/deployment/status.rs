//! The status of a Deployment: counts, and the conditions that `kubectl rollout status` waits for.

use super::{Rollout, replicas};
use crate::patches::{self, or_absent};
use agent_runtime::kinds::{Condition, DeploymentStatus, condition};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::DEPLOYMENTS;
use agent_runtime::timestamp::{self, Micros};
use serde_json::json;
use std::time::Duration;

impl Rollout<'_> {
    /// Whether everything runs the current template, as the sets report it now.
    pub(super) fn is_complete(&self) -> bool {
        complete(
            &self.counts(),
            self.desired(),
            self.deployment.metadata.generation,
        )
    }

    /// The status without a verdict on progress: while paused, scaling or being deleted.
    pub(super) fn plain_status(&self) -> Plan {
        self.with_plain_status(Vec::new())
    }

    pub(super) fn with_plain_status(&self, mut ops: Vec<Op>) -> Plan {
        ops.extend(self.status_op(self.counts()));
        Plan::of(ops)
    }

    /// Operations, then the status with the verdict on progress.
    pub(super) fn with_rollout_status(&self, ops: Vec<Op>) -> Plan {
        let mut status = self.counts();
        self.judge_progress(&mut status);
        self.replica_failure(&mut status);
        let mut plan = Plan::of(ops);
        let unchanged = status == self.deployment.status;
        if unchanged && let Some(delay) = self.until_deadline(&status) {
            plan.again(delay);
        }
        plan.ops.extend(self.status_op(status));
        plan
    }

    fn counts(&self) -> DeploymentStatus {
        let old = &self.deployment.status;
        let all = self.all();
        let sum = |of: &dyn Fn(&agent_runtime::kinds::ReplicaSetStatus) -> i32| {
            all.iter()
                .map(|set| of(&set.status))
                .fold(0, i32::saturating_add)
        };
        let wanted =
            i32::try_from(all.iter().map(|set| replicas(set)).sum::<i64>()).unwrap_or(i32::MAX);
        let available = sum(&|s| s.available_replicas);
        let mut status = DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: sum(&|s| s.replicas),
            updated_replicas: self.new.as_ref().map_or(0, |new| new.status.replicas),
            ready_replicas: sum(&|s| s.ready_replicas),
            available_replicas: available,
            unavailable_replicas: wanted.saturating_sub(available).max(0),
            terminating_replicas: Some(sum(&|s| s.terminating_replicas.unwrap_or(0))),
            conditions: old.conditions.clone(),
            collision_count: old.collision_count,
        };
        let verdict = if i64::from(available) >= self.desired() - self.max_unavailable() {
            patches::condition(
                "Available",
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.",
                self.now,
            )
        } else {
            patches::condition(
                "Available",
                "False",
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
                self.now,
            )
        };
        self.set(&mut status.conditions, verdict);
        status
    }

    fn judge_progress(&self, status: &mut DeploymentStatus) {
        if self.deadline().is_none() {
            status.conditions.retain(|c| c.kind != "Progressing");
            return;
        }
        let old = &self.deployment.status;
        let current = condition(&status.conditions, "Progressing").cloned();
        if status.replicas == status.updated_replicas
            && current
                .as_ref()
                .is_some_and(|c| c.reason == "NewReplicaSetAvailable")
        {
            return;
        }
        let subject = self.new.as_ref().map_or_else(
            || format!("Deployment {:?}", self.deployment.metadata.name),
            |new| format!("ReplicaSet {:?}", new.metadata.name),
        );
        let verdict = |value, reason, text: &str| {
            patches::condition(
                "Progressing",
                value,
                reason,
                &format!("{subject} {text}"),
                self.now,
            )
        };
        if complete(status, self.desired(), self.deployment.metadata.generation) {
            self.set(
                &mut status.conditions,
                verdict(
                    "True",
                    "NewReplicaSetAvailable",
                    "has successfully progressed.",
                ),
            );
        } else if progressing(status, old) {
            let mut next = verdict("True", "ReplicaSetUpdated", "is progressing.");
            next.last_update_time = Some(timestamp::time(self.now));
            if let Some(current) = current.filter(Condition::is_true) {
                next.last_transition_time = current.last_transition_time;
            }
            status.conditions.retain(|c| c.kind != "Progressing");
            status.conditions.push(next);
        } else if self.timed_out(current.as_ref()) {
            self.set(
                &mut status.conditions,
                verdict(
                    "False",
                    "ProgressDeadlineExceeded",
                    "has timed out progressing.",
                ),
            );
        }
    }

    fn replica_failure(&self, status: &mut DeploymentStatus) {
        let failing = self
            .new
            .iter()
            .chain(&self.old)
            .find_map(|set| condition(&set.status.conditions, "ReplicaFailure"));
        match failing {
            Some(failure) => self.set(
                &mut status.conditions,
                patches::condition(
                    "ReplicaFailure",
                    &failure.status,
                    &failure.reason,
                    &failure.message,
                    self.now,
                ),
            ),
            None => status.conditions.retain(|c| c.kind != "ReplicaFailure"),
        }
    }

    /// A new `Progressing` condition: a rollout begins, or cannot begin. `None` when it says so already.
    pub(super) fn progress(&self, value: &str, reason: &str, message: &str) -> Option<Op> {
        self.deadline()?;
        let mut status = self.deployment.status.clone();
        self.set(
            &mut status.conditions,
            patches::condition("Progressing", value, reason, message, self.now),
        );
        self.status_op(status)
    }

    /// Pausing and resuming are marked, so that the time in between does not count against the deadline.
    pub(super) fn pause_condition(&self) -> Option<Op> {
        self.deadline()?;
        let current = condition(&self.deployment.status.conditions, "Progressing");
        if current.is_some_and(|c| c.reason == "ProgressDeadlineExceeded") {
            return None;
        }
        let marked = current.is_some_and(|c| c.reason == "DeploymentPaused");
        let next = match (self.deployment.spec.paused, marked) {
            (true, false) => patches::condition(
                "Progressing",
                "Unknown",
                "DeploymentPaused",
                "Deployment is paused",
                self.now,
            ),
            (false, true) => patches::condition(
                "Progressing",
                "Unknown",
                "DeploymentResumed",
                "Deployment is resumed",
                self.now,
            ),
            _ => return None,
        };
        let mut status = self.deployment.status.clone();
        self.set(&mut status.conditions, next);
        self.status_op(status)
    }

    fn deadline(&self) -> Option<Micros> {
        self.deployment
            .spec
            .progress_deadline_seconds
            .filter(|s| *s != i32::MAX)
            .map(|s| timestamp::seconds(s.into()))
    }

    fn timed_out(&self, current: Option<&Condition>) -> bool {
        match current {
            None => false,
            Some(c) if c.reason == "NewReplicaSetAvailable" => false,
            Some(c) if c.reason == "ProgressDeadlineExceeded" => true,
            Some(c) => self.due(c).is_some_and(|due| due < self.now),
        }
    }

    fn due(&self, current: &Condition) -> Option<Micros> {
        let since = current
            .last_update_time
            .as_deref()
            .or(current.last_transition_time.as_deref())
            .and_then(timestamp::parse)?;
        Some(since + self.deadline()?)
    }

    /// When a rollout that stands still has to be judged again.
    fn until_deadline(&self, status: &DeploymentStatus) -> Option<Duration> {
        let current = condition(&status.conditions, "Progressing")?;
        if self.deployment.spec.paused
            || matches!(
                current.reason.as_str(),
                "NewReplicaSetAvailable" | "ProgressDeadlineExceeded"
            )
        {
            return None;
        }
        let left = self.due(current)? - self.now;
        Some(Duration::from_micros(u64::try_from(left).unwrap_or(0)) + Duration::from_secs(1))
    }

    /// A condition with the same status and reason stays as it is; one with the same status keeps its transition time.
    fn set(&self, conditions: &mut Vec<Condition>, mut next: Condition) {
        if let Some(current) = condition(conditions, &next.kind) {
            if current.status == next.status && current.reason == next.reason {
                return;
            }
            if current.status == next.status {
                next.last_transition_time
                    .clone_from(&current.last_transition_time);
            }
        }
        next.last_update_time = Some(timestamp::time(self.now));
        conditions.retain(|c| c.kind != next.kind);
        conditions.push(next);
    }

    fn status_op(&self, status: DeploymentStatus) -> Option<Op> {
        if status == self.deployment.status {
            return None;
        }
        let body = json!({
            "observedGeneration": or_absent(status.observed_generation),
            "replicas": or_absent(status.replicas.into()),
            "updatedReplicas": or_absent(status.updated_replicas.into()),
            "readyReplicas": or_absent(status.ready_replicas.into()),
            "availableReplicas": or_absent(status.available_replicas.into()),
            "unavailableReplicas": or_absent(status.unavailable_replicas.into()),
            "terminatingReplicas": status.terminating_replicas,
            "conditions": patches::conditions(&status.conditions),
        });
        Some(Op::status(&DEPLOYMENTS, &self.deployment.metadata, body))
    }
}

fn complete(status: &DeploymentStatus, desired: i64, generation: i64) -> bool {
    let all = |count: i32| i64::from(count) == desired;
    all(status.updated_replicas)
        && all(status.replicas)
        && all(status.available_replicas)
        && status.observed_generation >= generation
}

fn progressing(new: &DeploymentStatus, old: &DeploymentStatus) -> bool {
    new.updated_replicas > old.updated_replicas
        || new.replicas - new.updated_replicas < old.replicas - old.updated_replicas
        || new.ready_replicas > old.ready_replicas
        || new.available_replicas > old.available_replicas
}
