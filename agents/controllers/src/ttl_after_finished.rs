//! Deletes finished Jobs when their time to live is over.

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::client::Propagation;
use agent_runtime::kinds::Job;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::JOBS;
use agent_runtime::timestamp::{self, Micros};
use agent_runtime::{DeleteParams, Key, Queue};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "ttl-after-finished-controller",
    help: "deletes finished Jobs after their time to live",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

/// Wall clocks are set, and machines sleep: nobody waits longer without looking at the clock.
const LOOK_MAX: Duration = Duration::from_secs(300);

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.jobs.subscribe(move |change| {
        if let Some(job) = &change.new
            && expires_at(job).is_some()
        {
            keys.add(Key::of(&job.metadata));
        }
    });
}

/// When a Job has to go; `None` if it stays.
fn expires_at(job: &Job) -> Option<Micros> {
    let ttl = job.spec.ttl_seconds_after_finished?;
    let finished = job.finished().filter(|_| !job.metadata.is_deleting())?;
    let finished = timestamp::parse(finished.last_transition_time.as_deref()?)?;
    Some(finished.saturating_add(timestamp::seconds(ttl.into())))
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(job) = world.caches.jobs.by_key(key) else {
        return Plan::none();
    };
    let Some(expires_at) = expires_at(&job) else {
        return Plan::none();
    };
    let mut plan = Plan::none();
    let left = u64::try_from(expires_at.saturating_sub(world.now)).unwrap_or(0);
    if left > 0 {
        plan.again(Duration::from_micros(left).min(LOOK_MAX));
        return plan;
    }
    let meta = &job.metadata;
    // The server itself compares the version: a time to live that was made longer since then saves the Job.
    plan.push(Op::confirm(&JOBS, meta));
    plan.push(Op::Delete {
        resource: JOBS,
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        params: DeleteParams {
            propagation: Some(Propagation::Foreground),
            resource_version: Some(meta.resource_version.to_string()),
            ..DeleteParams::uid(&meta.uid)
        },
    });
    plan
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::world;

    fn plan(ttl: &str, condition: &str, deleting: &str) -> Plan {
        let text = format!(
            "kind: Job\nmetadata: {{name: j, namespace: a, uid: j, resourceVersion: '7'{deleting}}}\nspec: {{{ttl}}}\nstatus: {{conditions: [{condition}]}}\n"
        );
        reconcile(&Key::new("a", "j"), &world(&text))
    }

    #[test]
    fn a_job_goes_when_its_time_is_over_and_not_before() {
        let ended = |kind: &str, at: &str| {
            format!("{{type: {kind}, status: 'True', lastTransitionTime: '{at}'}}")
        };
        let complete = ended("Complete", "2026-01-01T09:59:00Z");
        let gone = ["confirm jobs.batch a/j", "delete jobs.batch a/j"];
        for (ttl, condition, deleting, expected) in [
            ("ttlSecondsAfterFinished: 60", &complete, "", &gone[..]),
            (
                "ttlSecondsAfterFinished: 0",
                &ended("Failed", "2026-01-01T10:00:00Z"),
                "",
                &gone[..],
            ),
            (
                "ttlSecondsAfterFinished: 61",
                &complete,
                "",
                &["again in 1s"][..],
            ),
            (
                "ttlSecondsAfterFinished: 2147483647",
                &complete,
                "",
                &["again in 300s"][..],
            ),
            // A clock that was set back.
            (
                "ttlSecondsAfterFinished: 1",
                &ended("Complete", "2031-01-01T00:00:00Z"),
                "",
                &["again in 300s"][..],
            ),
            ("", &complete, "", &[][..]),
            (
                "ttlSecondsAfterFinished: 1",
                &ended("SuccessCriteriaMet", "2026-01-01T09:00:00Z"),
                "",
                &[][..],
            ),
            (
                "ttlSecondsAfterFinished: 1",
                &ended("Complete", "yesterday"),
                "",
                &[][..],
            ),
            (
                "ttlSecondsAfterFinished: 1",
                &complete,
                ", deletionTimestamp: '2026-01-01T09:59:59Z'",
                &[][..],
            ),
        ] {
            assert_eq!(
                plan(ttl, condition, deleting).lines(),
                expected,
                "{ttl} {condition}"
            );
        }
    }

    #[test]
    fn only_the_version_that_was_looked_at_is_deleted_and_its_pods_before_it() {
        let complete =
            "{type: Complete, status: 'True', lastTransitionTime: '2026-01-01T09:00:00Z'}";
        let plan = plan("ttlSecondsAfterFinished: 0", complete, "");
        let Some(Op::Delete { params, .. }) = plan.ops.last() else {
            panic!("{plan:?}");
        };
        assert_eq!(params.uid.as_deref(), Some("j"));
        assert_eq!(params.resource_version.as_deref(), Some("7"));
        assert_eq!(params.propagation, Some(Propagation::Foreground));
    }
}
