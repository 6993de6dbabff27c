//! Jobs and CronJobs. Their templates stay JSON: they are copied as a whole.

use super::{
    Condition, LabelSelector, ObjectMeta, ObjectReference, condition, fields, kind, mention,
};
use crate::resource_ref::{CRON_JOBS, JOBS};
use serde_json::Value;

fields! {
    /// A Job.
    pub struct Job {
        pub metadata: ObjectMeta,
        pub spec: JobSpec,
        pub status: JobStatus,
    }
    /// What it wants.
    pub struct JobSpec {
        pub parallelism: Option<i32>,
        pub completions: Option<i32>,
        pub active_deadline_seconds: Option<i64>,
        pub selector: Option<LabelSelector>,
        pub template: Value,
        pub backoff_limit: Option<i32>,
        pub ttl_seconds_after_finished: Option<i32>,
        pub completion_mode: String,
        pub suspend: bool,
        pub pod_failure_policy: Option<PodFailurePolicy>,
        pub backoff_limit_per_index: Option<i32>,
        pub max_failed_indexes: Option<i32>,
        pub pod_replacement_policy: String,
        pub managed_by: Option<String>,
        pub success_policy: Option<SuccessPolicy>,
    }
    /// What becomes of failed pods; the first rule that matches counts.
    pub struct PodFailurePolicy {
        pub rules: Vec<PodFailurePolicyRule>,
    }
    /// One rule; its action is `Ignore`, `Count`, `FailIndex` or `FailJob`.
    pub struct PodFailurePolicyRule {
        pub action: String,
        pub on_exit_codes: Option<OnExitCodes>,
        pub on_pod_conditions: Vec<PodConditionPattern>,
    }
    /// Exit codes `In` or `NotIn` a list, of one container or of any.
    pub struct OnExitCodes {
        pub container_name: Option<String>,
        pub operator: String,
        pub values: Vec<i32>,
    }
    /// A condition of a pod.
    pub struct PodConditionPattern {
        #[serde(rename = "type")]
        pub kind: String,
        pub status: String,
    }
    /// When a Job has succeeded before all its indexes have; one rule is enough.
    pub struct SuccessPolicy {
        pub rules: Vec<SuccessPolicyRule>,
    }
    /// Which indexes, and how many of them.
    pub struct SuccessPolicyRule {
        pub succeeded_indexes: Option<String>,
        pub succeeded_count: Option<i32>,
    }
    /// What it has.
    pub struct JobStatus {
        pub conditions: Vec<Condition>,
        pub start_time: Option<String>,
        pub completion_time: Option<String>,
        pub active: i32,
        pub succeeded: i32,
        pub failed: i32,
        pub completed_indexes: String,
        pub failed_indexes: Option<String>,
        pub uncounted_terminated_pods: Option<UncountedTerminatedPods>,
        pub ready: Option<i32>,
        pub terminating: Option<i32>,
    }
    /// Uids of pods that have ended and are not in the counters yet.
    pub struct UncountedTerminatedPods {
        pub succeeded: Vec<String>,
        pub failed: Vec<String>,
    }
    /// A CronJob.
    pub struct CronJob {
        pub metadata: ObjectMeta,
        pub spec: CronJobSpec,
        pub status: CronJobStatus,
    }
    /// What it wants.
    pub struct CronJobSpec {
        pub schedule: String,
        pub time_zone: Option<String>,
        pub starting_deadline_seconds: Option<i64>,
        pub concurrency_policy: String,
        pub suspend: bool,
        pub job_template: Value,
        pub successful_jobs_history_limit: Option<i32>,
        pub failed_jobs_history_limit: Option<i32>,
    }
    /// What it has.
    pub struct CronJobStatus {
        pub active: Vec<ObjectReference>,
        pub last_schedule_time: Option<String>,
        pub last_successful_time: Option<String>,
    }
}
kind!(
    Job,
    JOBS,
    mentions: |one| mention::of_selector(&one.metadata, one.spec.selector.as_ref())
);
kind!(CronJob, CRON_JOBS);

impl Job {
    /// The condition that ends it: `Complete` or `Failed`.
    pub fn finished(&self) -> Option<&Condition> {
        let conditions = &self.status.conditions;
        let holds = |kind| condition(conditions, kind).filter(|c| c.is_true());
        holds("Complete").or_else(|| holds("Failed"))
    }
}
