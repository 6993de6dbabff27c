use super::*;
use crate::testing::{object, world};
use agent_runtime::ApiError;

/// A CronJob `c` that was created at 9:00:30; it is 10:00.
fn cron_job(spec: &str, status: &str) -> String {
    format!(
        "kind: CronJob\nmetadata: {{name: c, namespace: a, uid: c, creationTimestamp: '2026-01-01T09:00:30Z'}}\n\
         spec: {{{spec}, jobTemplate: {{metadata: {{labels: {{l: x}}, annotations: {{n: y}}}}, spec: {{template: {{spec: {{restartPolicy: Never}}}}}}}}}}\n\
         status: {{{status}}}\n"
    )
}

/// A Job of it: name, conditions and other status, more metadata.
fn job(name: &str, status: &str, metadata: &str) -> String {
    format!(
        "---\nkind: Job\nmetadata: {{name: {name}, namespace: a, uid: {name}, {metadata}ownerReferences: [{{apiVersion: batch/v1, kind: CronJob, name: c, uid: c, controller: true}}]}}\nstatus: {{{status}}}\n"
    )
}

const SCHEDULED: &str =
    "annotations: {batch.kubernetes.io/cronjob-scheduled-timestamp: '2026-01-01T09:30:00Z'}, ";
const COMPLETE: &str =
    "conditions: [{type: Complete, status: 'True'}], completionTime: '2026-01-01T09:40:00Z'";
const FAILED: &str = "conditions: [{type: Failed, status: 'True'}]";

fn plan_of(text: &str) -> Plan {
    reconcile(&Key::new("a", "c"), &world(text))
}

fn plan(text: &str) -> Vec<String> {
    plan_of(text).lines()
}

/// 10:00 on 1 January 2026, in minutes since 1970.
const NOW_MINUTES: u32 = 29_454_360;

fn body(plan: &Plan) -> Option<Value> {
    plan.ops.iter().find_map(|op| match op {
        Op::Reported { op, .. } => match &**op {
            Op::Create { body, .. } => Some(body.clone()),
            _ => None,
        },
        _ => None,
    })
}

#[test]
fn a_job_is_made_at_its_time_under_a_name_of_that_time() {
    let plan = plan_of(&cron_job(
        "schedule: '*/30 * * * *', timeZone: Europe/Berlin",
        "",
    ));
    let lines = plan.lines();
    assert_eq!(lines[0], format!("create jobs.batch a/c-{NOW_MINUTES}"));
    assert_eq!(
        lines[1],
        format!("  then event Normal a/c SuccessfulCreate: Created job c-{NOW_MINUTES}")
    );
    assert_eq!(
        lines[2],
        "patch cronjobs.batch/status a/c {\"status\":{\"active\":null,\"lastScheduleTime\":\"2026-01-01T10:00:00Z\",\"lastSuccessfulTime\":null}}"
    );
    assert_eq!(lines[3..], ["again in 65s"], "clocks may be set");
    let body = body(&plan).unwrap();
    assert_eq!(body["metadata"]["labels"], json!({"l": "x"}));
    let annotations = json!({"n": "y", "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T11:00:00+01:00"});
    assert_eq!(body["metadata"]["annotations"], annotations);
    assert_eq!(body["metadata"]["ownerReferences"][0]["uid"], "c");
    assert_eq!(body["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(body["spec"]["template"]["spec"]["restartPolicy"], "Never");
}

#[test]
fn nothing_is_made_before_its_time_nor_twice() {
    let hourly = |status: &str| cron_job("schedule: '0 * * * *'", status);
    let soon = cron_job(
        "schedule: '1 * * * *'",
        "lastScheduleTime: '2026-01-01T09:01:00Z'",
    );
    assert_eq!(plan(&soon), ["again in 60.1s"]);
    assert_eq!(
        plan(&hourly("lastScheduleTime: '2026-01-01T10:00:00Z'")),
        ["again in 65s"]
    );
    let name = format!("c-{NOW_MINUTES}");
    let made = [hourly(""), job(&name, "", SCHEDULED)].concat();
    let lines = plan(&made);
    assert!(
        lines[0].starts_with("patch cronjobs.batch/status a/c ")
            && lines[0].contains("\"lastScheduleTime\":\"2026-01-01T10:00:00Z\"")
            && lines[0].contains(&format!("\"name\":\"{name}\"")),
        "{lines:#?}"
    );
    assert_eq!(lines.len(), 2, "found again and written down: {lines:#?}");
    let foreign = format!("---\nkind: Job\nmetadata: {{name: {name}, namespace: a, uid: x}}\n");
    assert_eq!(
        plan(&[hourly(""), foreign].concat()),
        ["again in 65s"],
        "the name is taken"
    );
}

#[test]
fn the_time_between_is_looked_at_in_every_state() {
    for (spec, status, reason) in [
        ("schedule: '* * * * *', suspend: true", "", None),
        (
            "schedule: '* * * *'",
            "",
            Some(
                "UnparseableSchedule: unparseable schedule: \"* * * *\" : expected exactly 5 fields, found 4: [* * * *]",
            ),
        ),
        (
            "schedule: '0 0 31 2 *'",
            "",
            Some(
                "InvalidSchedule: invalid schedule: 0 0 31 2 * : time difference between two schedules is less than 1 second",
            ),
        ),
        (
            "schedule: '* * * * *', timeZone: Mars/Olympus",
            "",
            Some(
                "UnknownTimeZone: invalid timeZone: \"Mars/Olympus\": unknown time zone Mars/Olympus",
            ),
        ),
        (
            "schedule: 'TZ=Mars/Olympus * * * * *'",
            "",
            Some(
                "UnparseableSchedule: unparseable schedule: \"TZ=Mars/Olympus * * * * *\" : provided bad location Mars/Olympus: unknown time zone Mars/Olympus",
            ),
        ),
    ] {
        let lines = plan(&cron_job(spec, status));
        match reason {
            None => assert!(lines.is_empty(), "{spec}: {lines:#?}"),
            Some(reason) => assert_eq!(
                *lines.last().unwrap(),
                format!("event Warning a/c {reason}"),
                "{spec}"
            ),
        }
    }
}

#[test]
fn too_many_and_too_late_are_told() {
    let long_ago = "lastScheduleTime: '2025-01-01T00:00:00Z'";
    let lines = plan(&cron_job("schedule: '* * * * *'", long_ago));
    assert_eq!(
        lines[0],
        "event Warning a/c TooManyMissedTimes: too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
    );
    assert_eq!(
        lines[1],
        format!("create jobs.batch a/c-{NOW_MINUTES}"),
        "one is made good"
    );
    // A deadline bounds what is looked at.
    let lines = plan(&cron_job(
        "schedule: '* * * * *', startingDeadlineSeconds: 200",
        long_ago,
    ));
    assert!(lines[0].starts_with("create"), "{lines:#?}");
    let lines = plan(&cron_job(
        "schedule: '30 9 * * *', startingDeadlineSeconds: 60",
        long_ago,
    ));
    assert_eq!(lines, ["again in 65s"], "half an hour ago is out of sight");
}

#[test]
fn concurrency_is_allowed_forbidden_or_replaced() {
    let running = || job("c-29454330", "", SCHEDULED);
    let status = "active: [{name: c-29454330, namespace: a, uid: c-29454330}], lastScheduleTime: '2026-01-01T09:30:00Z'";
    let with = |policy: &str| {
        let spec = format!("schedule: '*/30 * * * *', concurrencyPolicy: {policy}");
        plan(&[cron_job(&spec, status), running()].concat())
    };
    let allowed = with("Allow");
    assert!(allowed[0].starts_with("create"), "{allowed:#?}");
    let forbidden = with("Forbid");
    assert_eq!(
        forbidden[0],
        "event Normal a/c JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid"
    );
    assert_eq!(forbidden.len(), 2, "{forbidden:#?}");
    let replaced = with("Replace");
    assert_eq!(
        replaced[..2],
        [
            "delete jobs.batch a/c-29454330",
            "  then event Normal a/c SuccessfulDelete: Deleted job c-29454330"
        ]
    );
    assert!(
        replaced[2].starts_with("create") && replaced[4].contains("\"active\":null"),
        "{replaced:#?}"
    );
}

#[test]
fn jobs_are_followed_to_their_end() {
    let status = "active: [{name: done, namespace: a, uid: done}, {name: lost, namespace: a, uid: lost, resourceVersion: '1'}, {name: young, namespace: a, uid: young, resourceVersion: '99'}], lastScheduleTime: '2026-01-01T10:00:00Z', lastSuccessfulTime: '2026-01-01T09:35:00Z'";
    let text = [
        cron_job("schedule: '0 * * * *'", status),
        job("done", COMPLETE, ""),
        job(
            "manual",
            "",
            "annotations: {cronjob.kubernetes.io/instantiate: manual}, ",
        ),
        job("c-29454331", "", SCHEDULED),
        job("c-29454332", FAILED, SCHEDULED),
    ];
    let lines = plan(&text.concat());
    assert_eq!(
        lines[..3],
        [
            "event Normal a/c SawCompletedJob: Saw completed job: done, condition: Complete",
            "event Normal a/c MissingJob: Active job went missing: lost",
            "event Warning a/c UnexpectedJob: Saw a job that the controller did not create or forgot: manual",
        ]
    );
    assert!(
        lines[3].contains("\"lastSuccessfulTime\":\"2026-01-01T09:40:00Z\""),
        "{lines:#?}"
    );
    assert!(
        lines[3].contains("\"name\":\"young\"")
            && lines[3].contains("\"name\":\"c-29454331\"")
            && !lines[3].contains("done")
            && !lines[3].contains("manual"),
        "the cache may be behind: {lines:#?}"
    );
}

#[test]
fn only_so_many_finished_jobs_are_kept() {
    let started =
        |status: &str, minute: u32| format!("{status}, startTime: '2026-01-01T09:{minute}:00Z'");
    let text = [
        cron_job(
            "schedule: '0 * * * *', successfulJobsHistoryLimit: 1, failedJobsHistoryLimit: 0",
            "lastScheduleTime: '2026-01-01T10:00:00Z', lastSuccessfulTime: '2026-01-01T09:40:00Z'",
        ),
        job("new", &started(COMPLETE, 30), ""),
        job("old", &started(COMPLETE, 10), ""),
        job("bad", &started(FAILED, 20), ""),
        job(
            "going",
            &started(COMPLETE, 5),
            "deletionTimestamp: '2026-01-01T09:59:00Z', ",
        ),
        job("running", "", SCHEDULED).replace("name: running", "name: c-1"),
    ];
    let lines = plan(&text.concat());
    let deleted: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("delete"))
        .collect();
    assert_eq!(
        deleted,
        ["delete jobs.batch a/old", "delete jobs.batch a/bad"]
    );
    let unlimited = cron_job(
        "schedule: '0 * * * *'",
        "lastScheduleTime: '2026-01-01T10:00:00Z', lastSuccessfulTime: '2026-01-01T09:40:00Z'",
    );
    assert_eq!(
        plan(&[unlimited, job("old", COMPLETE, "")].concat()),
        ["again in 65s"]
    );
}

#[test]
fn one_that_is_being_deleted_or_gone_starts_nothing() {
    let text = cron_job("schedule: '* * * * *'", "").replace(
        "uid: c,",
        "uid: c, deletionTimestamp: '2026-01-01T09:59:00Z',",
    );
    assert!(plan(&text).is_empty());
    assert!(plan("").is_empty());
}

#[test]
fn a_clock_that_is_set_back_starts_nothing_twice() {
    let text = cron_job(
        "schedule: '* * * * *'",
        "lastScheduleTime: '2031-01-01T00:00:00Z'",
    );
    assert_eq!(plan(&text), ["again in 65s"]);
}

#[test]
fn after_a_failed_create_the_same_is_tried_again() {
    let text = cron_job("schedule: '0 * * * *'", "");
    let mut world = world(&text);
    world.last_failure = Some(ApiError {
        code: 403,
        ..ApiError::default()
    });
    let plan = reconcile(&Key::new("a", "c"), &world);
    assert_eq!(
        plan.lines()[0],
        format!("create jobs.batch a/c-{NOW_MINUTES}")
    );
    let same = reconcile(&Key::new("a", "c"), &world);
    assert_eq!(body(&plan), body(&same), "under the same name");
}

#[test]
fn a_job_that_is_stored_reads_as_it_was_made() {
    let plan = plan_of(&cron_job("schedule: '0 * * * *'", ""));
    let stored: agent_runtime::kinds::Job = serde_json::from_value(body(&plan).unwrap()).unwrap();
    assert!(stored.metadata.is_controlled_by("c"));
    let again: CronJob = object("{spec: {schedule: null, suspend: null}, status: null}");
    assert_eq!(again.spec.schedule, "");
}
