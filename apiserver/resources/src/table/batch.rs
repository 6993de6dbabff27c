//! Jobs and what starts them.

use schema::{Object, time};
use serde_json::Value;

use super::Column;
use super::{
    AGE, CONTAINERS, IMAGES, NAME, NONE, SELECTOR, age, boolean, containers, human_duration,
    integer, name, or_none, selector, since, terminating, text, truth,
};
use crate::look::{Look, spec, status};

pub(crate) const JOB: &[Column] = &[
    NAME,
    text("Status", "Where the job stands."),
    text("Completions", "Pods that succeeded, of those that have to."),
    text("Duration", "Time from the start to the end, or until now."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];
pub(crate) const CRON_JOB: &[Column] = &[
    NAME,
    text("Schedule", "When jobs are started, in cron's notation."),
    text("Timezone", "Time zone of the schedule."),
    boolean("Suspend", "Whether the schedule rests."),
    integer("Active", "Jobs that run now."),
    text("Last Schedule", "Time since a job was last started."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(crate) fn job(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (spec(object), status(object));
    let succeeded = status.int("succeeded").unwrap_or(0);
    let completions = match (
        spec.int("completions"),
        spec.int("parallelism").unwrap_or(0),
    ) {
        (Some(completions), _) => format!("{succeeded}/{completions}"),
        (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let start = status.at("startTime").as_str().and_then(time::parse);
    let end = status.at("completionTime").as_str().and_then(time::parse);
    let duration = start.map_or(String::new(), |start| {
        human_duration(end.unwrap_or(now).saturating_sub(start))
    });
    let (names, images) = containers(spec.at("template").at("spec"));
    vec![
        name(object),
        job_status(object).into(),
        completions.into(),
        duration.into(),
        age(object, now),
        names,
        images,
        selector(spec.at("selector")).into(),
    ]
}

fn job_status(object: &Object) -> &'static str {
    let is = |condition: &str| object.condition_status(condition) == Some("True");
    if is("Complete") {
        "Complete"
    } else if is("Failed") {
        "Failed"
    } else if terminating(object) {
        "Terminating"
    } else if is("Suspended") {
        "Suspended"
    } else if is("FailureTarget") {
        "FailureTarget"
    } else if is("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

pub(crate) fn cron_job(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (spec(object), status(object));
    let last = status.at("lastScheduleTime");
    let job = spec.at("jobTemplate").at("spec");
    let (names, images) = containers(job.at("template").at("spec"));
    vec![
        name(object),
        spec.text("schedule").into(),
        or_none(spec.text("timeZone")),
        truth(spec.at("suspend")),
        status.list("active").len().into(),
        if last.is_string() {
            since(last, now).into()
        } else {
            NONE.into()
        },
        age(object, now),
        names,
        images,
        selector(job.at("selector")).into(),
    ]
}
