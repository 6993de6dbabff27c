//! Jobs: run pods until enough of them have succeeded, or too many failed.
//!
//! Counting must survive that pods vanish, so every pod of a Job bears a finalizer. A pod that has ended is first named in
//! the Job's status (a completed index, or a uid among the uncounted), then loses the finalizer, and only when it has lost
//! it the counters grow: whoever takes over in between neither forgets a pod nor counts it twice. A Job ends in two
//! steps, too: `SuccessCriteriaMet` or `FailureTarget` says what it will be, `Complete` or `Failed` comes when the last
//! pod has gone. One reconcile makes one step, all of it behind a status patch that a stale copy cannot make.

mod backoff;
mod failure_policy;
mod finalizer;
mod indexes;
mod manage;
mod pods;
mod run;
mod status;
mod verdict;

use crate::manager::{Body, Controller};
use crate::pod_control::candidates;
use crate::world::{Caches, World};
use agent_runtime::events::reference;
use agent_runtime::kinds::Job;
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::JOBS;
use agent_runtime::{EventType, Key, Queue};
use run::Run;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "job-controller",
    help: "runs the pods of Jobs until enough have succeeded",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

pub(crate) use finalizer::ORPHANS;

/// Pods created, deleted or released in one reconcile.
const BURST: usize = 500;
/// What happens to the pods of one Job within this time is looked at together.
const BATCH: Duration = Duration::from_millis(100);
/// The value of `spec.managedBy` that means this controller.
const OURSELVES: &str = "kubernetes.io/job-controller";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.jobs.subscribe(move |change| {
        let key = Key::of(&change.latest().metadata);
        match (&change.old, &change.new) {
            (Some(old), Some(new)) if old.metadata.generation == new.metadata.generation => {
                keys.add_after(key, BATCH)
            }
            _ => keys.add(key),
        }
    });
    let (jobs, keys) = (caches.jobs.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        for pod in change.sides() {
            let meta = &pod.metadata;
            match meta.controller() {
                Some(owner) if owner.kind == "Job" => {
                    keys.add_after(Key::new(&meta.namespace, &owner.name), BATCH)
                }
                Some(_) => {}
                None => {
                    let selecting = |job: &Arc<Job>| {
                        let selector = job.spec.selector.as_ref();
                        selector.is_some_and(|s| !s.is_empty() && s.matches(&meta.labels))
                    };
                    let jobs = jobs.might_select(&meta.namespace, &meta.labels);
                    for job in jobs.into_iter().filter(selecting) {
                        keys.add_after(Key::of(&job.metadata), BATCH);
                    }
                }
            }
        }
    });
}

/// Whether another controller runs this Job.
fn is_managed_elsewhere(job: &Job) -> bool {
    job.spec
        .managed_by
        .as_ref()
        .is_some_and(|by| by != OURSELVES)
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let job = world.caches.jobs.by_key(key);
    let unfinished = |job: &Arc<Job>| !is_managed_elsewhere(job) && job.finished().is_none();
    let Some(job) = job.filter(unfinished) else {
        backoff::forget(key, world);
        return Plan::none();
    };
    if !matches!(
        job.spec.completion_mode.as_str(),
        "" | "NonIndexed" | "Indexed"
    ) {
        let message = "Skipped Job sync because completion mode is unknown";
        let report = report(&job, EventType::Warning, "UnknownCompletionMode", message);
        return Plan::of(vec![report]);
    }
    let Some(selector) = job.spec.selector.clone().filter(|s| !s.is_empty()) else {
        return Plan::none();
    };
    let candidates = candidates(&world.caches.pods, &job.metadata, &selector);
    if let Some(ops) = finalizer::claim_plan(&job.metadata, &selector, &candidates) {
        // The changed pods bring this key back.
        return Plan::of(ops);
    }
    let mine = candidates
        .into_iter()
        .filter(|pod| pod.metadata.is_controlled_by(&job.metadata.uid));
    Run::new(&job, mine.collect(), world.now).plan(key, world)
}

impl Run<'_> {
    fn plan(&self, key: &Key, world: &World) -> Plan {
        let backoff = backoff::observe(self, key, world);
        let verdict = self.verdict();
        let step = self.next_status(verdict.as_ref());
        let mut plan = Plan::none();
        if let Some(op) = self.status_op(&step.status) {
            plan.push(op);
            // After the patch, which ends the plan when it fails: they are told once.
            for (kind, reason, message) in &step.events {
                plan.push(report(self.job, *kind, reason, message));
            }
        }
        if verdict.is_some() {
            self.stop(&mut plan);
            plan.ops.extend(finalizer::release_all(&step.released));
        } else {
            plan.ops.extend(finalizer::release_all(&step.released));
            if !self.job.metadata.is_deleting() {
                self.manage(&backoff, world, &mut plan);
            }
            if let Some(delay) = self.until_deadline() {
                plan.again(delay);
            }
        }
        plan
    }
}

fn report(job: &Job, kind: EventType, reason: &'static str, message: &str) -> Op {
    Op::Event(Box::new(Report {
        regarding: reference(&JOBS, &job.metadata),
        kind,
        reason,
        message: message.to_owned(),
    }))
}

#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod property;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
