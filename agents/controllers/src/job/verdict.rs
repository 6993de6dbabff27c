//! Whether a Job is over, and why.

use super::failure_policy::Action;
use super::indexes::Intervals;
use super::run::{Indexes, Run};
use agent_runtime::kinds::condition;
use agent_runtime::timestamp::{self, Micros};
use std::time::Duration;

/// How a Job ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) success: bool,
    pub(super) reason: String,
    pub(super) message: String,
    /// Whether the status says so already.
    pub(super) recorded: bool,
}

impl Verdict {
    fn new(success: bool, reason: &str, message: impl Into<String>) -> Self {
        let (reason, message) = (reason.to_owned(), message.into());
        Self {
            success,
            reason,
            message,
            recorded: false,
        }
    }
}

impl Run<'_> {
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.recorded_verdict()
            .or_else(|| {
                self.failure()
                    .map(|(reason, message)| Verdict::new(false, reason, message))
            })
            .or_else(|| self.early_success())
            .or_else(|| {
                let message = "Reached expected number of succeeded pods";
                self.is_complete()
                    .then(|| Verdict::new(true, "CompletionsReached", message))
            })
    }

    /// What was once decided stays.
    fn recorded_verdict(&self) -> Option<Verdict> {
        [("SuccessCriteriaMet", true), ("FailureTarget", false)]
            .into_iter()
            .find_map(|(kind, success)| {
                let recorded =
                    condition(&self.job.status.conditions, kind).filter(|c| c.is_true())?;
                let verdict = Verdict::new(success, &recorded.reason, recorded.message.as_str());
                Some(Verdict {
                    recorded: true,
                    ..verdict
                })
            })
    }

    fn failure(&self) -> Option<(&'static str, String)> {
        let spec = &self.job.spec;
        let mut failed = self.pods.iter().filter(|pod| self.is_failed(pod));
        let fatal = failed.find_map(|pod| match self.action(pod) {
            Action::FailJob(message) => Some(message),
            _ => None,
        });
        if let Some(message) = fatal {
            return Some(("PodFailurePolicy", message));
        }
        let limit = i64::from(spec.backoff_limit.unwrap_or(6));
        if self.failed > limit || self.restarts_exceed(limit) {
            let message = "Job has reached the specified backoff limit";
            return Some(("BackoffLimitExceeded", message.into()));
        }
        if self.left_of_deadline() == Some(0) {
            let message = "Job was active longer than specified deadline";
            return Some(("DeadlineExceeded", message.into()));
        }
        let indexes = self.indexes.as_ref()?;
        let failed = indexes.failed.as_ref()?.total();
        if spec
            .max_failed_indexes
            .is_some_and(|max| failed > max.into())
        {
            let message = "Job has exceeded the specified maximal number of failed indexes";
            return Some(("MaxFailedIndexesExceeded", message.into()));
        }
        let all = failed + indexes.succeeded.total() >= indexes.completions;
        (failed > 0 && all).then(|| ("FailedIndexes", "Job has failed indexes".into()))
    }

    /// Pods that restart their containers themselves do not fail; their restarts count in place of it.
    fn restarts_exceed(&self, limit: i64) -> bool {
        let policy = self.job.spec.template.pointer("/spec/restartPolicy");
        if policy.and_then(|p| p.as_str()) != Some("OnFailure") {
            return false;
        }
        let alive = self
            .pods
            .iter()
            .filter(|pod| matches!(pod.status.phase.as_str(), "Running" | "Pending"));
        let restarts: i64 = alive
            .flat_map(|pod| {
                pod.status
                    .init_container_statuses
                    .iter()
                    .chain(&pod.status.container_statuses)
            })
            .map(|container| i64::from(container.restart_count))
            .sum();
        if limit == 0 {
            restarts > 0
        } else {
            restarts >= limit
        }
    }

    /// What is left of the deadline, which does not run while the Job is suspended.
    fn left_of_deadline(&self) -> Option<Micros> {
        let spec = &self.job.spec;
        let whole = timestamp::seconds(spec.active_deadline_seconds?);
        let started = timestamp::parse(self.job.status.start_time.as_deref()?)?;
        let passed = self.now.saturating_sub(started);
        // A clock that was set back does not make a deadline longer than it is.
        (!spec.suspend).then(|| whole.saturating_sub(passed).clamp(0, whole.max(0)))
    }

    pub(super) fn until_deadline(&self) -> Option<Duration> {
        let left = u64::try_from(self.left_of_deadline()?).unwrap_or(0);
        Some(Duration::from_micros(left) + Duration::from_millis(1))
    }

    fn early_success(&self) -> Option<Verdict> {
        let (indexes, policy) = (
            self.indexes.as_ref()?,
            self.job.spec.success_policy.as_ref()?,
        );
        let at = policy.rules.iter().position(|rule| {
            let count = rule.succeeded_count.map(i64::from);
            satisfies(indexes, rule.succeeded_indexes.as_deref(), count)
        })?;
        let message = format!("Matched rules at index {at}");
        Some(Verdict::new(true, "SuccessPolicy", message))
    }

    /// Without a number of completions one success is enough, but the others may end in peace.
    fn is_complete(&self) -> bool {
        let enough = match self.job.spec.completions {
            None => self.succeeded > 0,
            Some(completions) => self.succeeded >= completions.into(),
        };
        enough && self.active.is_empty()
    }
}

/// All of a list of indexes, so many of them, or so many of any.
fn satisfies(indexes: &Indexes, wanted: Option<&str>, count: Option<i64>) -> bool {
    let succeeded = &indexes.succeeded;
    if succeeded.total() == 0 {
        return false;
    }
    let Some(wanted) = wanted else {
        return count.is_some_and(|count| succeeded.total() >= count);
    };
    let wanted = Intervals::parse(wanted, indexes.completions);
    let there = wanted.overlap(succeeded);
    wanted.total() > 0 && (there == wanted.total() || count.is_some_and(|count| there >= count))
}
