//! The status of a Job: what is counted, what waits to be counted, and its conditions.

use super::BURST;
use super::finalizer::is_tracked;
use super::run::Run;
use super::verdict::Verdict;
use crate::patches::{self, or_absent};
use agent_runtime::EventType;
use agent_runtime::kinds::{Condition, JobStatus, Pod, UncountedTerminatedPods};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::JOBS;
use agent_runtime::timestamp;
use host::HashSet;
use serde_json::{Value, json};
use std::sync::Arc;

/// Uids and indexes that wait in a status to be counted, so that it stays small.
const UNCOUNTED_MAX: usize = 500;

/// What one reconcile makes of the status.
pub(super) struct Step {
    pub(super) status: JobStatus,
    /// Pods that the new status accounts for.
    pub(super) released: Vec<Arc<Pod>>,
    pub(super) events: Vec<(EventType, &'static str, String)>,
}

impl Run<'_> {
    pub(super) fn next_status(&self, verdict: Option<&Verdict>) -> Step {
        let mut status = self.job.status.clone();
        status.active = small(self.active.len());
        status.ready = Some(small(
            self.active.iter().filter(|pod| pod.is_ready()).count(),
        ));
        status.terminating = Some(small(self.terminating));
        if status.start_time.is_none() && !self.job.spec.suspend {
            status.start_time = Some(timestamp::time(self.now));
        }
        let mut uncounted = self.count_released(&mut status);
        let released = self.release(verdict, &mut uncounted);
        if let Some(indexes) = &self.indexes {
            status.succeeded = i32::try_from(indexes.succeeded.total()).unwrap_or(i32::MAX);
            status.completed_indexes = indexes.succeeded.to_string();
            status.failed_indexes = indexes.failed.as_ref().map(ToString::to_string);
        }
        let counted = released.is_empty() && uncounted == UncountedTerminatedPods::default();
        status.uncounted_terminated_pods = Some(uncounted);
        let mut step = Step {
            status,
            released,
            events: Vec::new(),
        };
        match verdict {
            Some(verdict) => self.end(verdict, counted, &mut step),
            None if self.job.metadata.is_deleting() => {}
            None => self.suspend_or_resume(&mut step),
        }
        step
    }

    /// Counts those of the uncounted that have lost their finalizer, and gives the rest.
    fn count_released(&self, status: &mut JobStatus) -> UncountedTerminatedPods {
        let tracked = self.pods.iter().filter(|pod| is_tracked(pod));
        let tracked: HashSet<&str> = tracked.map(|pod| pod.metadata.uid.as_str()).collect();
        let mut uncounted = status.uncounted_terminated_pods.take().unwrap_or_default();
        for (uids, count) in [
            (&mut uncounted.succeeded, &mut status.succeeded),
            (&mut uncounted.failed, &mut status.failed),
        ] {
            let before = uids.len();
            uids.retain(|uid| tracked.contains(uid.as_str()));
            *count = count.saturating_add(small(before - uids.len()));
        }
        uncounted
    }

    /// Names the pods that have ended in the status, and gives those that need no finalizer then.
    fn release(
        &self,
        verdict: Option<&Verdict>,
        uncounted: &mut UncountedTerminatedPods,
    ) -> Vec<Arc<Pod>> {
        let mut released: Vec<Arc<Pod>> = Vec::new();
        let mut new_indexes = 0;
        for pod in self.pods.iter().filter(|pod| is_tracked(pod)) {
            let named = self.uncounted.contains(&pod.metadata.uid);
            let waiting = new_indexes + uncounted.succeeded.len() + uncounted.failed.len();
            let room = released.len() < BURST && (named || waiting < UNCOUNTED_MAX);
            if !room || !self.may_be_released(pod, verdict) {
                continue;
            }
            released.push(pod.clone());
            if named || !self.has_place(pod) {
                continue;
            }
            let failed = self.is_failed(pod) || verdict.is_some_and(|verdict| !verdict.success);
            match &self.indexes {
                // The index is enough to know that it is counted.
                Some(indexes) if pod.status.phase == "Succeeded" => {
                    let new = indexes
                        .of(pod)
                        .is_some_and(|index| !indexes.before.has(index));
                    new_indexes += usize::from(new);
                }
                None if pod.status.phase == "Succeeded" => {
                    uncounted.succeeded.push(pod.metadata.uid.clone())
                }
                _ if failed && self.action(pod).counts() => {
                    uncounted.failed.push(pod.metadata.uid.clone())
                }
                _ => {}
            }
        }
        released
    }

    fn may_be_released(&self, pod: &Pod, verdict: Option<&Verdict>) -> bool {
        if self.job.metadata.is_deleting() || verdict.is_some() || pod.status.phase == "Succeeded" {
            return true;
        }
        let is_replaced = self.indexes.as_ref().is_some_and(|indexes| {
            let last = indexes
                .of(pod)
                .and_then(|index| indexes.replaced.get(&index));
            last.is_some_and(|last| last.metadata.uid == pod.metadata.uid)
        });
        self.is_failed(pod) && !is_replaced
    }

    /// Says what the Job will be, or, when its last pod is counted and gone, what it is.
    fn end(&self, verdict: &Verdict, counted: bool, step: &mut Step) {
        let (interim, last) = if verdict.success {
            ("SuccessCriteriaMet", "Complete")
        } else {
            ("FailureTarget", "Failed")
        };
        let conditions = &mut step.status.conditions;
        if !verdict.recorded {
            self.set(
                conditions,
                interim,
                "True",
                &verdict.reason,
                &verdict.message,
            );
            return;
        }
        if !counted || self.terminating > 0 || !self.active.is_empty() {
            return;
        }
        self.set(conditions, last, "True", &verdict.reason, &verdict.message);
        if !verdict.success {
            let reason = known_reason(&verdict.reason);
            step.events
                .push((EventType::Warning, reason, verdict.message.clone()));
            return;
        }
        step.status.completion_time = Some(timestamp::time(self.now));
        if self
            .job
            .spec
            .completions
            .is_some_and(|wanted| step.status.succeeded > wanted)
        {
            let message = "Too many succeeded pods running after completion count reached";
            step.events
                .push((EventType::Warning, "TooManySucceededPods", message.into()));
        }
        step.events
            .push((EventType::Normal, "Completed", "Job completed".into()));
    }

    /// The clock of a Job stands still while it is suspended, and starts anew.
    fn suspend_or_resume(&self, step: &mut Step) {
        let conditions = &mut step.status.conditions;
        if self.job.spec.suspend {
            step.status.start_time = None;
            if self.set(
                conditions,
                "Suspended",
                "True",
                "JobSuspended",
                "Job suspended",
            ) {
                step.events
                    .push((EventType::Normal, "Suspended", "Job suspended".into()));
            }
        } else if self.set(
            conditions,
            "Suspended",
            "False",
            "JobResumed",
            "Job resumed",
        ) {
            step.status.start_time = Some(timestamp::time(self.now));
            step.events
                .push((EventType::Normal, "Resumed", "Job resumed".into()));
        }
    }

    /// Sets a condition, unless it never held and does not now. Whether it changed.
    fn set(
        &self,
        conditions: &mut Vec<Condition>,
        kind: &str,
        value: &str,
        reason: &str,
        message: &str,
    ) -> bool {
        let new = Condition {
            last_probe_time: Some(timestamp::time(self.now)),
            ..patches::condition(kind, value, reason, message, self.now)
        };
        match conditions.iter_mut().find(|c| c.kind == kind) {
            Some(old) if old.status == value && old.reason == reason && old.message == message => {
                false
            }
            Some(old) => {
                *old = new;
                true
            }
            None if value == "False" => false,
            None => {
                conditions.push(new);
                true
            }
        }
    }

    /// The status patch, when the status has to change.
    pub(super) fn status_op(&self, new: &JobStatus) -> Option<Op> {
        let mut old = self.job.status.clone();
        old.uncounted_terminated_pods.get_or_insert_default();
        if *new == old {
            return None;
        }
        let list = |uids: &[String]| {
            if uids.is_empty() {
                Value::Null
            } else {
                json!(uids)
            }
        };
        let uncounted = new.uncounted_terminated_pods.clone().unwrap_or_default();
        let completed = Some(&new.completed_indexes).filter(|text| !text.is_empty());
        let status = json!({
            "conditions": patches::conditions(&new.conditions),
            "startTime": new.start_time,
            "completionTime": new.completion_time,
            "active": or_absent(new.active.into()),
            "succeeded": or_absent(new.succeeded.into()),
            "failed": or_absent(new.failed.into()),
            "completedIndexes": completed,
            "failedIndexes": new.failed_indexes,
            "uncountedTerminatedPods": {"succeeded": list(&uncounted.succeeded), "failed": list(&uncounted.failed)},
            "ready": new.ready,
            "terminating": new.terminating,
        });
        Some(Op::status(&JOBS, &self.job.metadata, status))
    }
}

fn small(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Events are told by the reason of the condition; what others wrote there is told by none of theirs.
fn known_reason(reason: &str) -> &'static str {
    const KNOWN: [&str; 5] = [
        "PodFailurePolicy",
        "BackoffLimitExceeded",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == reason)
        .unwrap_or("Failed")
}
