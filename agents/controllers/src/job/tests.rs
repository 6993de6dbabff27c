use super::simulation::Simulation;
use super::*;
use crate::testing::world;
use serde_json::json;

fn started(simulation: &Simulation) -> usize {
    let created = simulation
        .events
        .iter()
        .filter(|event| event.starts_with("SuccessfulCreate: "));
    created.count()
}

#[test]
fn pods_run_in_parallel_until_enough_have_succeeded() {
    let mut job = Simulation::new("parallelism: 2, completions: 3");
    let lines = job.reconcile();
    assert!(
        lines[0].starts_with("patch jobs.batch/status a/j ")
            && lines[0].contains("\"startTime\":\"2026-01-01T10:00:00Z\""),
        "{lines:#?}"
    );
    assert!(lines[1].starts_with("create pods a/j-"), "{lines:#?}");
    assert_eq!(job.active().len(), 2);
    job.settle();
    let status = job.status();
    assert_eq!(
        (status.active, status.ready, status.terminating),
        (2, Some(0), Some(0))
    );
    assert!(
        job.pods()
            .iter()
            .all(|pod| pod.metadata.finalizers == [finalizer::TRACKING])
    );

    job.finish_all(0);
    let lines = job.reconcile();
    assert!(
        lines[0].contains("\"uncountedTerminatedPods\":{\"failed\":null,\"succeeded\":[\"j-"),
        "first named: {lines:#?}"
    );
    assert!(
        lines[1].contains("$deleteFromPrimitiveList/finalizers"),
        "then released: {lines:#?}"
    );
    assert_eq!(job.status().succeeded, 0);
    job.settle();
    assert_eq!(
        (job.status().succeeded, job.active().len()),
        (2, 1),
        "one is still to come"
    );
    job.finish_all(0);
    job.reconcile();
    assert_eq!(job.conditions(), ["SuccessCriteriaMet CompletionsReached"]);
    job.settle();
    assert_eq!(
        job.conditions(),
        [
            "SuccessCriteriaMet CompletionsReached",
            "Complete CompletionsReached"
        ]
    );
    let status = job.status();
    assert_eq!((status.succeeded, status.active, status.failed), (3, 0, 0));
    assert_eq!(
        status.completion_time.as_deref(),
        Some("2026-01-01T10:00:00Z")
    );
    assert_eq!(job.job["status"]["uncountedTerminatedPods"], json!({}));
    assert_eq!(job.events.last().unwrap(), "Completed: Job completed");
    assert!(job.reconcile().is_empty());
}

#[test]
fn without_a_number_the_first_success_is_enough_and_the_others_end_in_peace() {
    let mut job = Simulation::new("parallelism: 3");
    job.settle();
    let first = job.active()[0].clone();
    job.finish(&first, 0);
    job.settle();
    assert_eq!((job.active().len(), started(&job)), (2, 3));
    assert!(!job.finished());
    job.finish_all(1);
    job.settle();
    assert_eq!(job.conditions()[1], "Complete CompletionsReached");
    assert_eq!((job.status().succeeded, job.status().failed), (1, 2));
}

#[test]
fn a_job_that_goes_lets_its_pods_go_also_those_that_wait_for_the_next_of_their_index() {
    let mut job = Simulation::new(
        "parallelism: 1, completions: 1, completionMode: Indexed, backoffLimitPerIndex: 5, backoffLimit: 2147483647",
    );
    job.settle();
    job.finish_all(1);
    job.settle();
    let failed = job.pods()[0].metadata.name.clone();
    job.delete(&failed);
    job.settle();
    assert_eq!(
        job.pods()[0].metadata.finalizers,
        [finalizer::TRACKING],
        "the next of its index bears its failures"
    );
    job.job["metadata"]["deletionTimestamp"] = "2026-01-01T10:00:00Z".into();
    job.set("parallelism", json!(1));
    job.settle();
    assert!(job.pods.is_empty(), "{:#?}", job.pods);
}

#[test]
fn a_job_that_wants_nothing_is_complete_at_once() {
    let mut job = Simulation::new("parallelism: 1, completions: 0");
    job.settle();
    assert!(job.finished() && job.pods.is_empty());
}

#[test]
fn failed_pods_are_replaced_later_and_later_until_the_limit() {
    let mut job = Simulation::new("parallelism: 1, completions: 1, backoffLimit: 2");
    job.settle();
    for delay in [10, 20] {
        job.finish_all(1);
        assert_eq!(job.settle(), [format!("again in {delay}s")]);
        job.seconds += delay - 1;
        assert_eq!(job.settle(), ["again in 1s"]);
        assert!(job.active().is_empty());
        job.seconds += 1;
        job.settle();
        assert_eq!(job.active().len(), 1);
    }
    job.finish_all(1);
    job.reconcile();
    assert_eq!(job.conditions(), ["FailureTarget BackoffLimitExceeded"]);
    job.settle();
    assert_eq!(job.conditions()[1], "Failed BackoffLimitExceeded");
    assert_eq!(job.status().failed, 3);
    assert_eq!(job.status().completion_time, None);
    let last = "BackoffLimitExceeded: Job has reached the specified backoff limit";
    assert_eq!(job.events.last().unwrap(), last);
}

#[test]
fn a_success_ends_the_delay() {
    let mut job = Simulation::new("parallelism: 1, completions: 5, backoffLimit: 9");
    job.settle();
    for _ in 0..2 {
        job.finish_all(1);
        job.settle();
        job.seconds += 600;
        job.settle();
    }
    job.finish_all(0);
    job.settle();
    job.seconds += 1;
    job.finish_all(1);
    assert_eq!(job.settle(), ["again in 10s"]);
}

#[test]
fn pods_that_vanish_hold_their_replacement_up_as_well() {
    let mut job = Simulation::new("parallelism: 1, completions: 1, backoffLimit: 9");
    job.settle();
    job.seconds += 5;
    for delay in [10, 20] {
        let pod = job.active()[0].clone();
        job.delete(&pod);
        job.end_deleted();
        job.settle();
        assert!(job.pods.is_empty(), "it is counted and gone");
        assert_eq!(job.settle(), [format!("again in {delay}s")]);
        job.seconds += delay;
        job.settle();
        assert_eq!(job.active().len(), 1);
    }
    assert_eq!(job.status().failed, 2);
}

#[test]
fn a_clock_that_is_set_back_holds_nothing_up_for_ever() {
    let mut job = Simulation::new("parallelism: 1, completions: 1, activeDeadlineSeconds: 100");
    job.settle();
    job.finish_all(1);
    let pod = job.pods.keys().next().unwrap().clone();
    let late = json!([{"name": "c", "state": {"terminated": {"exitCode": 1, "finishedAt": "2031-01-01T00:00:00Z"}}}]);
    job.change(&pod, |pod| pod["status"]["containerStatuses"] = late);
    job.settle();
    assert_eq!(job.settle(), ["again in 10s"]);
    job.seconds += 10;
    job.settle();
    assert_eq!(job.active().len(), 1);
    job.job["status"]["startTime"] = "2031-01-01T00:00:00Z".into();
    job.set("parallelism", json!(1));
    assert_eq!(
        job.settle(),
        ["again in 100.001s"],
        "no more than the deadline"
    );
}

#[test]
fn restarts_within_pods_count_where_pods_restart_themselves() {
    for (limit, restarts, failed) in [(0, 0, false), (0, 1, true), (3, 2, false), (3, 3, true)] {
        let spec = format!(
            "parallelism: 1, completions: 1, backoffLimit: {limit}, template: {{spec: {{restartPolicy: OnFailure}}}}"
        );
        let mut job = Simulation::new(&spec);
        job.settle();
        let name = job.active()[0].clone();
        let status = json!({"phase": "Running", "initContainerStatuses": [{"name": "i", "restartCount": restarts / 2}],
            "containerStatuses": [{"name": "c", "restartCount": restarts - restarts / 2}]});
        job.change(&name, |pod| pod["status"] = status);
        job.settle();
        assert_eq!(!job.conditions().is_empty(), failed, "{limit} {restarts}");
    }
}

#[test]
fn a_deadline_ends_the_job_with_its_pods() {
    let mut job = Simulation::new("parallelism: 2, completions: 2, activeDeadlineSeconds: 30");
    assert!(job.settle().contains(&"again in 30.001s".to_owned()));
    job.seconds += 30;
    let lines = job.reconcile();
    assert!(
        lines[0].contains("FailureTarget")
            && lines[0].contains("Job was active longer than specified deadline"),
        "{lines:#?}"
    );
    assert_eq!(
        lines
            .iter()
            .filter(|line| line.starts_with("delete pods"))
            .count(),
        2
    );
    job.settle();
    assert_eq!(
        job.conditions(),
        ["FailureTarget DeadlineExceeded"],
        "the pods still run"
    );
    assert_eq!(
        (job.status().terminating, job.status().active),
        (Some(2), 0)
    );
    job.end_deleted();
    job.settle();
    assert_eq!(job.conditions()[1], "Failed DeadlineExceeded");
    assert_eq!(
        (job.status().failed, job.status().terminating),
        (2, Some(0))
    );
    assert!(job.pods.is_empty());
}

#[test]
fn a_suspended_job_has_no_pods_and_its_clock_stands_still() {
    let mut job =
        Simulation::new("parallelism: 2, completions: 2, suspend: true, activeDeadlineSeconds: 10");
    job.settle();
    assert_eq!(
        (job.conditions().as_slice(), job.pods.len()),
        (&["Suspended JobSuspended".to_owned()][..], 0)
    );
    assert_eq!(job.status().start_time, None);
    assert_eq!(job.events, ["Suspended: Job suspended"]);
    job.seconds += 100;
    job.set("suspend", json!(false));
    job.settle();
    assert_eq!(job.active().len(), 2);
    assert_eq!(
        job.status().start_time.as_deref(),
        Some("2026-01-01T10:01:40Z")
    );
    let condition = &job.status().conditions[0];
    assert_eq!(
        (
            condition.status.as_str(),
            condition.reason.as_str(),
            condition.message.as_str()
        ),
        ("False", "JobResumed", "Job resumed")
    );
    assert!(job.events.contains(&"Resumed: Job resumed".to_owned()));
    job.seconds += 5;
    job.set("suspend", json!(true));
    job.settle();
    job.end_deleted();
    job.settle();
    assert!(job.pods.is_empty());
    assert_eq!(
        (job.status().failed, job.status().start_time),
        (0, None),
        "it is no failure of theirs"
    );
    job.seconds += 100;
    job.settle();
    assert!(!job.finished());
}

#[test]
fn orphans_are_adopted_with_the_finalizer_and_strangers_released() {
    let owner =
        "ownerReferences: [{apiVersion: batch/v1, kind: Job, name: j, uid: j, controller: true}]";
    let mut job = Simulation::new("parallelism: 1, completions: 1");
    job.add("{metadata: {name: orphan, namespace: a, labels: {job: j}, resourceVersion: '7'}}");
    job.add(&format!("{{metadata: {{name: stray, namespace: a, labels: {{job: other}}, finalizers: [x, {}], {owner}}}}}", finalizer::TRACKING));
    let lines = job.reconcile();
    assert_eq!(
        lines[0],
        "patch pods a/stray {\"metadata\":{\"finalizers\":[\"x\"],\"ownerReferences\":null}}"
    );
    assert_eq!(lines[1], "confirm jobs.batch a/j");
    assert!(lines[2].starts_with("patch pods a/orphan {\"metadata\":{\"finalizers\":[\"batch.kubernetes.io/job-tracking\"],\"ownerReferences\":[{"), "{lines:#?}");
    assert_eq!(lines.len(), 3);
    job.settle();
    assert_eq!(job.active(), ["orphan", "stray"], "one is enough");
    job.finish("orphan", 0);
    job.settle();
    assert_eq!(job.conditions()[1], "Complete CompletionsReached");
}

#[test]
fn a_job_that_is_being_deleted_lets_its_pods_go_and_makes_none() {
    let mut job = Simulation::new("parallelism: 2, completions: 4");
    job.settle();
    job.job["metadata"]["deletionTimestamp"] = json!("2026-01-01T10:00:00Z");
    job.set("parallelism", json!(4));
    job.settle();
    assert_eq!(started(&job), 2);
    assert!(
        job.pods
            .values()
            .all(|pod| pod["metadata"]["finalizers"] == json!([]))
    );
}

#[test]
fn others_jobs_and_unreadable_ones_are_left_alone() {
    for spec in ["managedBy: example.com/other", "completionMode: Sometimes"] {
        let mut job = Simulation::new(&format!("parallelism: 1, completions: 1, {spec}"));
        let lines = job.reconcile();
        assert!(
            lines
                .iter()
                .all(|line| line.starts_with("event Warning a/j UnknownCompletionMode")),
            "{lines:#?}"
        );
    }
    let mut ours =
        Simulation::new("parallelism: 1, completions: 1, managedBy: kubernetes.io/job-controller");
    ours.settle();
    assert_eq!(ours.active().len(), 1);
    let without = "kind: Job\nmetadata: {name: j, namespace: a, uid: j}\nspec: {parallelism: 1}\n";
    assert!(
        reconcile(&Key::new("a", "j"), &world(without))
            .lines()
            .is_empty()
    );
}

#[test]
fn a_thousand_failed_pods_are_counted_in_steps() {
    let mut job = Simulation::new("parallelism: 1000, completions: 2000, backoffLimit: 5000");
    job.settle();
    assert_eq!(job.active().len(), 1000);
    job.finish_all(1);
    let lines = job.reconcile();
    assert_eq!(
        lines.len(),
        501 + usize::from(lines.last().unwrap().starts_with("again in"))
    );
    assert_eq!(
        job.status().uncounted_terminated_pods.unwrap().failed.len(),
        500
    );
    let events = job.events.len();
    let last = job.settle();
    assert_eq!(last, ["again in 600s"], "and then it waits");
    assert_eq!((job.status().failed, job.events.len()), (1000, events));
}

#[test]
fn more_pods_than_wanted_go_without_being_counted() {
    let mut job = Simulation::new("parallelism: 3, completions: 3");
    job.settle();
    job.set("parallelism", json!(1));
    let lines = job.reconcile();
    let at = |what: &str| lines.iter().position(|line| line.contains(what)).unwrap();
    assert!(
        at("$deleteFromPrimitiveList") < at("delete pods"),
        "{lines:#?}"
    );
    job.settle();
    job.end_deleted();
    job.settle();
    assert_eq!((job.active().len(), job.status().failed), (1, 0));
}
