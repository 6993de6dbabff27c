//! Jobs and cron jobs.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::pod::template;
use super::{complain, immutable, items, label_selector, not_negative, one_of, optional_one_of};
use crate::look::{Look, spec};

/// Job.
pub(crate) fn job(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    job_spec(spec, &path, errors);
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.push(FieldError::required(&path.child("selector"), ""));
        return;
    }
    label_selector(selector, &path.child("selector"), errors);
    let labels = spec.at("template").at("metadata");
    let pairs: Vec<(&str, &str)> = labels
        .entries("labels")
        .filter_map(|(k, v)| Some((k, v.as_str()?)))
        .collect();
    let parsed = schema::selector::LabelSelector::from_object(Some(selector));
    if parsed.is_ok_and(|selector| !selector.matches(pairs.iter().copied())) {
        let path = path.child("template").child("metadata").child("labels");
        let detail = "`selector` does not match template `labels`";
        errors.push(FieldError::invalid(
            &path,
            labels.at("labels").clone(),
            detail,
        ));
    }
}

/// Who counts the pods of a job: a domain, a slash, and a path.
fn managed_by(value: &str, path: &Path, errors: &mut ErrorList) {
    const LENGTH_MAX: usize = 63;
    let in_paths = |char: char| char.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:".contains(char);
    match value.split_once('/') {
        _ if value.is_empty() => errors.push(FieldError::required(path, "")),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            complain(names::is_dns1123_subdomain(host), path, host, errors);
            if !rest.chars().all(in_paths) {
                let detail = "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
                errors.push(FieldError::invalid(path, rest, detail));
            }
        }
        _ => {
            let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, value, detail));
        }
    }
    if value.len() > LENGTH_MAX {
        errors.push(FieldError::too_long(path, LENGTH_MAX));
    }
}

fn job_spec(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        not_negative(spec, field, path, errors);
    }
    optional_one_of(
        spec,
        "completionMode",
        &["NonIndexed", "Indexed"],
        path,
        errors,
    );
    optional_one_of(
        spec,
        "podReplacementPolicy",
        &["Failed", "TerminatingOrFailed"],
        path,
        errors,
    );
    if spec.has("managedBy") {
        managed_by(spec.text("managedBy"), &path.child("managedBy"), errors);
    }
    if spec.text("completionMode") == "Indexed" {
        if !spec.has("completions") {
            errors.push(FieldError::required(
                &path.child("completions"),
                "when completion mode is Indexed",
            ));
        }
        if let Some(parallelism) = spec.int("parallelism").filter(|p| *p > 100_000) {
            let detail = "must be less than or equal to 100000 when completion mode is Indexed";
            errors.push(FieldError::invalid(
                &path.child("parallelism"),
                parallelism,
                detail,
            ));
        }
    } else {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if spec.has(field) {
                let detail = "requires indexed completion mode";
                errors.push(FieldError::invalid(
                    &path.child(field),
                    spec.at(field).clone(),
                    detail,
                ));
            }
        }
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(
            &path.child("backoffLimitPerIndex"),
            detail,
        ));
    }
    failure_policy(spec, path, errors);
    template(spec.at("template"), &path.child("template"), errors);
    let policy_path = path.child("template").child("spec").child("restartPolicy");
    match spec.at("template").at("spec").text("restartPolicy") {
        "OnFailure" | "Never" => {}
        "Always" => errors.push(FieldError::required(
            &policy_path,
            "valid values: \"OnFailure\", \"Never\"",
        )),
        other => errors.push(FieldError::not_supported(
            &policy_path,
            other,
            &["OnFailure", "Never"],
        )),
    }
}

fn failure_policy(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let policy = spec.at("podFailurePolicy");
    if policy.is_null() {
        return;
    }
    let path = path.child("podFailurePolicy");
    if spec.at("template").at("spec").text("restartPolicy") != "Never" {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        let policy = spec.at("template").at("spec").text("restartPolicy");
        errors.push(FieldError::invalid(
            &Path::new("spec")
                .child("template")
                .child("spec")
                .child("restartPolicy"),
            policy,
            detail,
        ));
    }
    for (path, rule) in items(policy, "rules", &path) {
        one_of(
            rule,
            "action",
            &["Count", "FailIndex", "FailJob", "Ignore"],
            &path,
            errors,
        );
        let (codes, conditions) = (rule.at("onExitCodes"), rule.list("onPodConditions"));
        match (codes.is_object(), conditions.is_empty()) {
            (true, false) => {
                let detail = "specifying both OnExitCodes and OnPodConditions is not supported";
                errors.push(FieldError::invalid(&path, rule.clone(), detail));
            }
            (false, true) => {
                let detail = "specifying one of OnExitCodes and OnPodConditions is required";
                errors.push(FieldError::invalid(&path, rule.clone(), detail));
            }
            (true, true) => {
                let path = path.child("onExitCodes");
                one_of(codes, "operator", &["In", "NotIn"], &path, errors);
                if codes.list("values").is_empty() {
                    let detail = "at least one value is required";
                    errors.push(FieldError::invalid(
                        &path.child("values"),
                        codes.at("values").clone(),
                        detail,
                    ));
                }
            }
            (false, false) => {
                for (path, condition) in items(rule, "onPodConditions", &path) {
                    let kind = condition.text("type");
                    super::complain(
                        names::is_qualified_name(kind),
                        &path.child("type"),
                        kind,
                        errors,
                    );
                    one_of(
                        condition,
                        "status",
                        &["False", "True", "Unknown"],
                        &path,
                        errors,
                    );
                }
            }
        }
    }
}

/// What a job counts by never changes; where its pods may run can change before it starts.
pub(crate) fn job_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    let elastic = now.text("completionMode") == "Indexed"
        && now.int("completions") == now.int("parallelism")
        && before.text("completionMode") == "Indexed";
    if !elastic {
        immutable(
            now.at("completions"),
            before.at("completions"),
            &path.child("completions"),
            errors,
        );
    }
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(now.at(field), before.at(field), &path.child(field), errors);
    }
    let not_started = before.flag("suspend") && !old.at("status").has("startTime");
    let strip = |spec: &Value| -> Value {
        let mut template = spec.at("template").clone();
        if !not_started {
            return template;
        }
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("labels");
            metadata.remove("annotations");
        }
        if let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) {
            for field in ["affinity", "nodeSelector", "tolerations", "schedulingGates"] {
                spec.remove(field);
            }
        }
        template
    };
    if strip(now) != strip(before) {
        let template = now.at("template").clone();
        errors.push(FieldError::invalid(
            &path.child("template"),
            template,
            super::IMMUTABLE,
        ));
    }
}

/// CronJob.
pub(crate) fn cron_job(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    let name = object.name();
    if name.len() > 52 {
        let path = Path::new("metadata").child("name");
        errors.push(FieldError::invalid(
            &path,
            name,
            "must be no more than 52 characters",
        ));
    }
    let schedule = spec.text("schedule");
    if schedule.is_empty() {
        errors.push(FieldError::required(&path.child("schedule"), ""));
    } else if schedule.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(
            &path.child("schedule"),
            schedule,
            detail,
        ));
    } else if let Err(message) = cron::parse(schedule) {
        errors.push(FieldError::invalid(
            &path.child("schedule"),
            schedule,
            message,
        ));
    }
    if spec.has("timeZone") {
        time_zone(spec.text("timeZone"), &path.child("timeZone"), errors);
    }
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        not_negative(spec, field, &path, errors);
    }
    one_of(
        spec,
        "concurrencyPolicy",
        &["Allow", "Forbid", "Replace"],
        &path,
        errors,
    );
    let job = spec.at("jobTemplate").at("spec");
    let path = path.child("jobTemplate").child("spec");
    job_spec(job, &path, errors);
    if job.flag("manualSelector") {
        errors.push(FieldError::not_supported(
            &path.child("manualSelector"),
            true,
            &["nil", "false"],
        ));
    }
}

/// Names of zones are checked for their form; whether the zone exists is known where schedules are computed.
fn time_zone(zone: &str, path: &Path, errors: &mut ErrorList) {
    if zone.is_empty() {
        errors.push(FieldError::invalid(
            path,
            zone,
            "timeZone must be nil or non-empty string",
        ));
    } else if zone.eq_ignore_ascii_case("local") {
        errors.push(FieldError::invalid(
            path,
            zone,
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones",
        ));
    } else if zone.starts_with('/')
        || !zone
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "/_+-".contains(c))
    {
        errors.push(FieldError::invalid(
            path,
            zone,
            format!("unknown time zone {zone}"),
        ));
    }
}
