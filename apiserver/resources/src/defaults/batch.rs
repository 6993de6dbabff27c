//! Defaults of jobs.

use schema::Object;
use serde_json::{Map, Value};

use super::{pod, workload};
use crate::look::{Look, each_map, fill, fill_zero, make_map, map_in, with_spec};

/// One pod to completion, six retries.
pub(crate) fn job(object: &mut Object) {
    let labels: Option<Map<String, Value>> = object
        .get_object(&["spec", "template", "metadata", "labels"])
        .filter(|labels| !labels.is_empty())
        .cloned();
    with_spec(object, |spec| {
        if !spec.has("completions") && !spec.has("parallelism") {
            fill(spec, "completions", 1);
        }
        fill(spec, "parallelism", 1);
        let retries = if spec.has("backoffLimitPerIndex") {
            i64::from(i32::MAX)
        } else {
            6
        };
        fill(spec, "backoffLimit", retries);
        fill(spec, "completionMode", "NonIndexed");
        fill(spec, "suspend", false);
        fill(spec, "manualSelector", false);
        let replacement = if spec.has("podFailurePolicy") {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        fill(spec, "podReplacementPolicy", replacement);
        failure_policy(spec);
        pod::required_template(spec, "template");
    });
    if let Some(labels) = labels {
        workload::inherit_labels(object, labels);
    }
}

fn failure_policy(spec: &mut Map<String, Value>) {
    if let Some(policy) = map_in(spec, "podFailurePolicy") {
        each_map(policy, "rules", |rule| {
            each_map(rule, "onPodConditions", |condition| {
                fill_zero(condition, "status", "True")
            });
        });
    }
}

/// Concurrent runs allowed, three good and one bad job kept.
pub(crate) fn cron_job(object: &mut Object) {
    with_spec(object, |spec| {
        fill_zero(spec, "concurrencyPolicy", "Allow");
        fill(spec, "suspend", false);
        fill(spec, "successfulJobsHistoryLimit", 3);
        fill(spec, "failedJobsHistoryLimit", 1);
        if let Some(template) = make_map(spec, "jobTemplate") {
            make_map(template, "metadata");
            if let Some(job) = make_map(template, "spec") {
                failure_policy(job);
                pod::required_template(job, "template");
            }
        }
    });
}
