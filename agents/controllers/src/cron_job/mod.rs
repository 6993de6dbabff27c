//! CronJobs: make a Job at each scheduled time, and tidy up after the Jobs.
//!
//! A Job's name is made of the minute that it is for, so that it is made once, whoever makes it. Of the times that were
//! missed only the last one is made good. Schedules without a time zone are read in UTC.

mod due;
mod jobs;
mod schedule;
mod zone;

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::events::reference;
use agent_runtime::kinds::{CronJob, CronJobStatus};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::CRON_JOBS;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{EventType, Key, Queue};
use due::{Due, Missed};
use jiff::tz::TimeZone;
use jobs::Children;
use schedule::Schedule;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "cronjob-controller",
    help: "makes Jobs at the times that CronJobs say",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

/// After the scheduled time, so that clocks that differ a little agree that it has come.
const AFTER: Duration = Duration::from_millis(100);
/// Wall clocks are set, and machines sleep: nobody waits longer without looking at the clock. More than a minute, so that a schedule
/// of every minute is looked at once for each time.
const LOOK_MAX: Duration = Duration::from_secs(65);

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .cron_jobs
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let keys = queue.clone();
    caches.jobs.subscribe(move |change| {
        for job in change.sides() {
            let owner = job.metadata.controller();
            if let Some(owner) = owner.filter(|owner| owner.kind == "CronJob") {
                keys.add(Key::new(&job.metadata.namespace, &owner.name));
            }
        }
    });
}

/// A CronJob in the middle of a reconcile.
struct Cron<'a> {
    cron_job: &'a CronJob,
    children: Children,
    status: CronJobStatus,
    now: Micros,
    plan: Plan,
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(cron_job) = world.caches.cron_jobs.by_key(key) else {
        return Plan::none();
    };
    let mut cron = Cron {
        cron_job: &cron_job,
        children: Children::new(&cron_job, world),
        status: cron_job.status.clone(),
        now: world.now,
        plan: Plan::none(),
    };
    cron.tidy_up();
    cron.follow_jobs();
    if !cron_job.metadata.is_deleting() {
        cron.run();
    }
    cron.finish()
}

impl Cron<'_> {
    fn tell(&mut self, kind: EventType, reason: &'static str, message: String) {
        let regarding = reference(&CRON_JOBS, &self.cron_job.metadata);
        let report = Report {
            regarding,
            kind,
            reason,
            message,
        };
        self.plan.push(Op::Event(Box::new(report)));
    }

    /// Makes the Job that is due, and says when to look again.
    fn run(&mut self) {
        let Some((schedule, zone)) = self.schedule() else {
            return;
        };
        let spec = &self.cron_job.spec;
        let meta = &self.cron_job.metadata;
        let last = self
            .status
            .last_schedule_time
            .as_deref()
            .and_then(timestamp::parse);
        let since = last.unwrap_or_else(|| meta.created());
        let deadline = spec.starting_deadline_seconds.map(timestamp::seconds);
        let from = deadline.map_or(since, |deadline| {
            since.max(self.now.saturating_sub(deadline))
        });
        let due = match due::last_due(&schedule, &zone, from, self.now) {
            Ok(due) => due,
            Err(message) => {
                let message = format!("invalid schedule: {} : {message}", spec.schedule);
                return self.tell(EventType::Warning, "InvalidSchedule", message);
            }
        };
        if let Some(due) = due {
            self.start(due, last, deadline, &zone);
        }
        let again = due::next_look(&schedule, &zone, since, self.now);
        if let Some(again) = again {
            self.plan.again((again + AFTER).min(LOOK_MAX));
        }
    }

    /// The schedule and its zone, unless nothing is to be started.
    fn schedule(&mut self) -> Option<(Schedule, TimeZone)> {
        let spec = &self.cron_job.spec;
        let zone = match spec
            .time_zone
            .as_deref()
            .map_or(Ok(TimeZone::UTC), zone::find)
        {
            Ok(zone) => zone,
            Err(message) => {
                let name = spec.time_zone.as_deref().unwrap_or_default();
                let message = format!("invalid timeZone: {name:?}: {message}");
                self.tell(EventType::Warning, "UnknownTimeZone", message);
                return None;
            }
        };
        if spec.suspend {
            return None;
        }
        if spec.schedule.contains("TZ") {
            let message = format!(
                "CRON_TZ or TZ used in schedule {:?} is not officially supported, see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details",
                spec.schedule
            );
            self.tell(EventType::Warning, "UnsupportedSchedule", message);
        }
        match read(&spec.schedule, zone) {
            Ok(read) => Some(read),
            Err(message) => {
                let message = format!("unparseable schedule: {:?} : {message}", spec.schedule);
                self.tell(EventType::Warning, "UnparseableSchedule", message);
                None
            }
        }
    }

    /// Starts the Job of this time, unless something speaks against it.
    fn start(&mut self, due: Due, last: Option<Micros>, deadline: Option<Micros>, zone: &TimeZone) {
        if due.missed == Missed::Many {
            let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
            self.tell(EventType::Warning, "TooManyMissedTimes", message.into());
        }
        if deadline.is_some_and(|deadline| due.at.saturating_add(deadline) < self.now) {
            let message = format!(
                "Missed scheduled time to start a job: {}",
                jobs::http_date(due.at)
            );
            return self.tell(EventType::Warning, "MissSchedule", message);
        }
        let name = jobs::name(self.cron_job, due.at);
        if last == Some(due.at) || self.status.active.iter().any(|job| job.name == name) {
            if last != Some(due.at) {
                self.status.last_schedule_time = Some(timestamp::time(due.at));
            }
            return;
        }
        match self.children.taken(&name) {
            // Made before, by us or by who led before us, and not written down.
            Some(true) => {
                self.status.last_schedule_time = Some(timestamp::time(due.at));
                return;
            }
            // Somebody else's: the name cannot be had.
            Some(false) => return,
            None => {}
        }
        let policy = self.cron_job.spec.concurrency_policy.as_str();
        if policy == "Forbid" && !self.status.active.is_empty() {
            let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
            return self.tell(EventType::Normal, "JobAlreadyActive", message.into());
        }
        if policy == "Replace" {
            self.replace();
        }
        self.create(&name, due.at, zone);
        self.status.last_schedule_time = Some(timestamp::time(due.at));
    }

    /// Writes the status last: what was done before it is found again by its name.
    fn finish(mut self) -> Plan {
        let old = &self.cron_job.status;
        if self.status != *old {
            let active = &self.status.active;
            let active = if active.is_empty() {
                Value::Null
            } else {
                json!(active)
            };
            let status = json!({
                "active": active,
                "lastScheduleTime": self.status.last_schedule_time,
                "lastSuccessfulTime": self.status.last_successful_time,
            });
            self.plan
                .push(Op::status(&CRON_JOBS, &self.cron_job.metadata, status));
        }
        self.plan
    }
}

/// A schedule may bring its own zone, where it was stored before that was refused.
fn read(text: &str, zone: TimeZone) -> Result<(Schedule, TimeZone), String> {
    let own = text
        .strip_prefix("TZ=")
        .or_else(|| text.strip_prefix("CRON_TZ="));
    let Some(own) = own else {
        return Ok((Schedule::parse(text)?, zone));
    };
    let (name, rest) = own.split_once(' ').unwrap_or((own, ""));
    let zone =
        zone::find(name).map_err(|error| format!("provided bad location {name}: {error}"))?;
    Ok((Schedule::parse(rest.trim())?, zone))
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;
