//! The Jobs of a CronJob: made, followed, replaced and, when they are over, cleared away.

use super::Cron;
use crate::pod_control::{controller_reference, reported};
use crate::world::World;
use agent_runtime::client::Propagation;
use agent_runtime::events::reference;
use agent_runtime::kinds::{CronJob, Job, ObjectMeta, ObjectReference};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::{CRON_JOBS, JOBS};
use agent_runtime::timestamp::{self, Micros, seconds};
use agent_runtime::{Cache, DeleteParams, EventType};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The time that a Job is for.
const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// What `kubectl create job --from` puts on the Jobs that it makes.
const INSTANTIATED: &str = "cronjob.kubernetes.io/instantiate";

/// The Jobs of a CronJob.
pub(super) struct Children {
    mine: Vec<Arc<Job>>,
    jobs: Arc<Cache<Job>>,
    owner: ObjectMeta,
}

impl Children {
    pub(super) fn new(cron_job: &CronJob, world: &World) -> Self {
        let owner = cron_job.metadata.clone();
        let jobs = world.caches.jobs.clone();
        let mut mine = jobs.owned_by(&owner.uid);
        mine.retain(|job| {
            let meta = &job.metadata;
            meta.namespace == owner.namespace && meta.is_controlled_by(&owner.uid)
        });
        Self { mine, jobs, owner }
    }

    /// Whether there is a Job of this name, and whether it is ours.
    pub(super) fn taken(&self, name: &str) -> Option<bool> {
        let job = self.jobs.get(&self.owner.namespace, name)?;
        Some(job.metadata.is_controlled_by(&self.owner.uid))
    }

    /// Whether the cache has seen this revision.
    fn has_seen(&self, revision: u64) -> bool {
        self.jobs.version().borrow().revision >= revision
    }

    fn get(&self, uid: &str) -> Option<&Arc<Job>> {
        self.mine.iter().find(|job| job.metadata.uid == uid)
    }
}

/// The name of the Job for this time.
pub(super) fn name(cron_job: &CronJob, at: Micros) -> String {
    format!("{}-{}", cron_job.metadata.name, at.div_euclid(seconds(60)))
}

/// `Thu, 01 Jan 2026 10:00:00 UTC`.
pub(super) fn http_date(at: Micros) -> String {
    let at = Timestamp::from_microsecond(at).unwrap_or_default();
    at.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string()
}

/// Whether we made it, which its name and its time tell.
fn is_scheduled(cron_job: &CronJob, job: &Job) -> bool {
    let meta = &job.metadata;
    let number = meta.name.strip_prefix(cron_job.metadata.name.as_str());
    let number = number.and_then(|rest| rest.strip_prefix('-'));
    number.is_some_and(|number| number.parse::<i64>().is_ok())
        && meta.annotations.contains_key(SCHEDULED_AT)
        && !meta.annotations.contains_key(INSTANTIATED)
}

impl Cron<'_> {
    /// Deletes the oldest of the finished Jobs beyond the limits.
    pub(super) fn tidy_up(&mut self) {
        let spec = &self.cron_job.spec;
        let mut gone = Vec::new();
        for (kind, limit) in [
            ("Complete", spec.successful_jobs_history_limit),
            ("Failed", spec.failed_jobs_history_limit),
        ] {
            let Some(limit) = limit else { continue };
            let finished = self.children.mine.iter().filter(|job| {
                !job.metadata.is_deleting() && job.finished().is_some_and(|c| c.kind == kind)
            });
            let mut finished: Vec<&Arc<Job>> = finished.collect();
            finished.sort_by_cached_key(|job| {
                let started = job.status.start_time.as_deref().and_then(timestamp::parse);
                (started.unwrap_or(Micros::MAX), job.metadata.name.clone())
            });
            let surplus = finished
                .len()
                .saturating_sub(usize::try_from(limit).unwrap_or(0));
            gone.extend(
                finished
                    .into_iter()
                    .take(surplus)
                    .map(|job| self.delete(job)),
            );
        }
        if !gone.is_empty() {
            self.plan.push(Op::Parallel(gone));
        }
    }

    /// Deletes a Job with its pods.
    fn delete(&self, job: &Job) -> Op {
        let op = Op::Delete {
            resource: JOBS,
            namespace: job.metadata.namespace.clone(),
            name: job.metadata.name.clone(),
            params: DeleteParams {
                propagation: Some(Propagation::Background),
                ..DeleteParams::uid(&job.metadata.uid)
            },
        };
        let done = format!("Deleted job {}", job.metadata.name);
        let success = ("SuccessfulDelete", done);
        let failure = ("FailedDelete", "Deleted job: ");
        reported(&CRON_JOBS, &self.cron_job.metadata, op, success, failure)
    }

    /// Brings the list of active Jobs and the last success up to date.
    pub(super) fn follow_jobs(&mut self) {
        let (mut active, mut events) = (Vec::new(), Vec::new());
        for entry in std::mem::take(&mut self.status.active) {
            match self.children.get(&entry.uid) {
                Some(job) => match job.finished() {
                    None => active.push(entry),
                    Some(condition) => {
                        let message = format!(
                            "Saw completed job: {}, condition: {}",
                            entry.name, condition.kind
                        );
                        events.push((EventType::Normal, "SawCompletedJob", message));
                    }
                },
                // The cache of Jobs may be behind that of CronJobs.
                None if entry
                    .resource_version
                    .parse()
                    .is_ok_and(|at| !self.children.has_seen(at)) =>
                {
                    active.push(entry)
                }
                None => {
                    let message = format!("Active job went missing: {}", entry.name);
                    events.push((EventType::Normal, "MissingJob", message));
                }
            }
        }
        for job in &self.children.mine {
            let known = active.iter().any(|entry| entry.uid == job.metadata.uid);
            if job.finished().is_some() {
                self.status.last_successful_time =
                    last_success(self.status.last_successful_time.take(), job);
            } else if !known && is_scheduled(self.cron_job, job) {
                active.push(entry(job));
            } else if !known {
                let message = format!(
                    "Saw a job that the controller did not create or forgot: {}",
                    job.metadata.name
                );
                events.push((EventType::Warning, "UnexpectedJob", message));
            }
        }
        self.status.active = active;
        for (kind, reason, message) in events {
            self.tell(kind, reason, message);
        }
    }

    /// Deletes the Jobs that still run.
    pub(super) fn replace(&mut self) {
        let active = std::mem::take(&mut self.status.active);
        let jobs = active
            .iter()
            .filter_map(|entry| self.children.get(&entry.uid));
        let deletes: Vec<Op> = jobs.map(|job| self.delete(job)).collect();
        if !deletes.is_empty() {
            self.plan.push(Op::Parallel(deletes));
        }
    }

    /// Makes the Job for this time.
    pub(super) fn create(&mut self, name: &str, at: Micros, zone: &TimeZone) {
        let template = &self.cron_job.spec.job_template;
        let meta = &self.cron_job.metadata;
        let mut metadata = Map::new();
        let own = |key: &str| {
            template
                .pointer(&format!("/metadata/{key}"))
                .filter(|v| v.is_object())
        };
        if let Some(labels) = own("labels") {
            metadata.insert("labels".into(), labels.clone());
        }
        let mut annotations = own("annotations").cloned().unwrap_or_else(|| json!({}));
        annotations[SCHEDULED_AT] = super::zone::local_time(at, zone).into();
        metadata.insert("annotations".into(), annotations);
        metadata.insert("name".into(), name.into());
        metadata.insert("namespace".into(), meta.namespace.as_str().into());
        let owner = controller_reference(&CRON_JOBS, meta);
        metadata.insert("ownerReferences".into(), json!([owner]));
        let spec: Value = template.get("spec").cloned().unwrap_or_default();
        let body =
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec});
        let op = Op::create(&JOBS, &meta.namespace, body);
        let success = ("SuccessfulCreate", format!("Created job {name}"));
        let failure = ("FailedCreate", "Error creating job: ");
        self.plan
            .push(reported(&CRON_JOBS, meta, op, success, failure));
    }
}

fn entry(job: &Job) -> ObjectReference {
    reference(&JOBS, &job.metadata)
}

/// The later of this and the Job's success.
fn last_success(last: Option<String>, job: &Job) -> Option<String> {
    let success = job
        .finished()
        .is_some_and(|condition| condition.kind == "Complete");
    let Some(completed) = job.status.completion_time.clone().filter(|_| success) else {
        return last;
    };
    let at = |text: &str| timestamp::parse(text);
    match last {
        Some(last) if at(&last) >= at(&completed) => Some(last),
        _ => Some(completed),
    }
}
