//! Jobs and cron jobs.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::{Map, Value};

use super::pod::{template, unselected};
use super::{
    domain_path, immutable, job_policies, label_selector, not_negative, one_of, optional_one_of,
    require,
};
use crate::look::{Look, spec, status};

/// Job.
pub(crate) fn job(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    // What a job is called does not change.
    let is_new = object.resource_version().is_empty();
    if is_new && !spec.flag("manualSelector") {
        generated_selector(object, errors);
    }
    job_spec(spec, &path, errors);
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.push(FieldError::required(&path.child("selector"), ""));
    }
    label_selector(selector, &path.child("selector"), errors);
    if !matches(selector, spec.at("template").at("metadata").at("labels")) {
        unselected(
            spec.at("template").at("metadata").at("labels"),
            &path,
            errors,
        );
    }
    if is_new && spec.text("completionMode") == "Indexed" {
        hostname_of_last(object, errors);
    }
}

/// Whether a selector selects these labels; one that cannot be read is somebody else's matter.
fn matches(selector: &Value, labels: &Value) -> bool {
    let labels = labels.as_object().into_iter().flatten();
    let pairs: Vec<(&str, &str)> = labels
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    match schema::selector::LabelSelector::from_object(Some(selector)) {
        Ok(selector) => selector.matches(pairs.iter().copied()),
        Err(_) => true,
    }
}

/// Labels and selector that the server makes, unless the client made others.
fn generated_selector(job: &Object, errors: &mut ErrorList) {
    let selector = spec(job).at("selector");
    if selector.is_null() || job.uid().is_empty() {
        return;
    }
    let labels = spec(job).at("template").at("metadata").at("labels");
    let path = Path::new("spec")
        .child("template")
        .child("metadata")
        .child("labels");
    let expected = [
        ("controller-uid", job.uid()),
        ("job-name", job.name()),
        ("batch.kubernetes.io/controller-uid", job.uid()),
        ("batch.kubernetes.io/job-name", job.name()),
    ];
    for (key, value) in expected {
        let (path, detail) = (path.key(key), format!("must be '{value}'"));
        if !labels.has(key) {
            errors.push(FieldError::required(&path, detail.as_str()));
        }
        if labels.text(key) != value {
            errors.push(FieldError::invalid(&path, labels.clone(), detail));
        }
    }
    let expected = expected.map(|(key, value)| (key.to_owned(), Value::from(value)));
    if !matches(selector, &Value::Object(expected.into_iter().collect())) {
        let path = Path::new("spec").child("selector");
        let detail = "`selector` not auto-generated";
        errors.push(FieldError::invalid(&path, selector.clone(), detail));
    }
}

/// Pods of an indexed job are hosts by its name and their number.
fn hostname_of_last(job: &Object, errors: &mut ErrorList) {
    let Some(count) = spec(job).int("completions").filter(|count| *count > 0) else {
        return;
    };
    let host = format!("{}-{}", job.name(), count - 1);
    if !names::is_dns1123_label(&host).is_empty() {
        let path = Path::new("metadata").child("name");
        let detail = format!("will not able to create pod with invalid DNS label: {host}");
        errors.push(FieldError::invalid(&path, job.name(), detail));
    }
}

/// Who counts the pods of a job.
fn managed_by(value: &str, path: &Path, errors: &mut ErrorList) {
    const LENGTH_MAX: usize = 63;
    domain_path(value, path, errors);
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
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        let path = path.child("backoffLimitPerIndex");
        let detail = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&path, detail));
    }
    if spec.has("managedBy") {
        managed_by(spec.text("managedBy"), &path.child("managedBy"), errors);
    }
    let modes = &["NonIndexed", "Indexed"];
    optional_one_of(spec, "completionMode", modes, path, errors);
    match spec.text("completionMode") {
        "Indexed" => indexed(spec, path, errors),
        "" | "NonIndexed" => not_indexed(spec, path, errors),
        _ => {}
    }
    job_policies::failure(spec, path, errors);
    job_policies::success(spec, path, errors);
    job_policies::replacement(spec, path, errors);
    template(spec.at("template"), &path.child("template"), errors);
    restarts(spec, path, errors);
}

const INDEXED_MAX: i64 = 100_000;
/// Of jobs with more completions than that, when failures are counted by index.
const HIGH_MAX: i64 = 10_000;

fn indexed(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if !spec.has("completions") {
        let path = path.child("completions");
        let detail = "when completion mode is Indexed";
        errors.push(FieldError::required(&path, detail));
    }
    let mut at_most = |field: &str, max: i64, detail: String| {
        if let Some(count) = spec.int(field).filter(|count| *count > max) {
            let detail = format!("must be less than or equal to {detail}");
            errors.push(FieldError::invalid(&path.child(field), count, detail));
        }
    };
    let (parallelism, failed) = ("parallelism", "maxFailedIndexes");
    let when = format!("{INDEXED_MAX} when completion mode is Indexed");
    at_most(parallelism, INDEXED_MAX, when);
    if let Some(completions) = spec.int("completions") {
        at_most(failed, completions, "completions".to_owned());
    }
    at_most(failed, INDEXED_MAX, INDEXED_MAX.to_string());
    let is_high = spec.int("completions").is_some_and(|it| it > INDEXED_MAX);
    if !is_high || !spec.has("backoffLimitPerIndex") {
        return;
    }
    let when = format!(
        "{HIGH_MAX} when completions are above {INDEXED_MAX} and used with backoff limit per index"
    );
    at_most(parallelism, HIGH_MAX, when.clone());
    at_most(failed, HIGH_MAX, when);
    if !spec.has(failed) {
        let detail = format!("must be specified when completions is above {INDEXED_MAX}");
        errors.push(FieldError::required(&path.child(failed), detail));
    }
}

fn not_indexed(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if spec.has(field) {
            let (path, value) = (path.child(field), spec.at(field).clone());
            let detail = "requires indexed completion mode";
            errors.push(FieldError::invalid(&path, value, detail));
        }
    }
}

/// Pods of jobs end.
fn restarts(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("template").child("spec").child("restartPolicy");
    match spec.at("template").at("spec").text("restartPolicy") {
        "Never" => {}
        "OnFailure" if spec.has("podFailurePolicy") => {
            let detail = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(FieldError::invalid(&path, "OnFailure", detail));
        }
        "OnFailure" => {}
        "" | "Always" => {
            let detail = "valid values: \"OnFailure\", \"Never\"";
            errors.push(FieldError::required(&path, detail));
        }
        other => {
            let policies = &["OnFailure", "Never"];
            errors.push(FieldError::not_supported(&path, other, policies));
        }
    }
}

/// What a job counts by never changes; where its pods may run, and with what, can change while it is suspended.
pub(crate) fn job_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    completions(now, before, &path, errors);
    immutable(
        now.at("selector"),
        before.at("selector"),
        &path.child("selector"),
        errors,
    );
    pods_of_job(now, old, &path.child("template"), errors);
    for field in [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        immutable(now.at(field), before.at(field), &path.child(field), errors);
    }
}

fn completions(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    let (count, path) = (now.at("completions"), path.child("completions"));
    if now.text("completionMode") != "Indexed" {
        immutable(count, before.at("completions"), &path, errors);
    } else if count != before.at("completions")
        && !count.is_null()
        && count != now.at("parallelism")
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(&path, count.clone(), detail));
    }
}

/// Whether no pod of a job runs, and none will before it goes on.
fn rests(job: &Object) -> bool {
    let status = job.at("status");
    let mut conditions = status.list("conditions").iter();
    let is_said =
        conditions.any(|one| one.text("type") == "Suspended" && one.text("status") == "True");
    let is_idle = is_said && status.int("active").unwrap_or(0) == 0;
    spec(job).flag("suspend") && (!status.has("startTime") || is_idle)
}

/// The template of a job that is under way stays; of one that rests, node selectors, tolerations, gates and resources of
/// containers may change.
fn pods_of_job(now: &Value, old: &Object, path: &Path, errors: &mut ErrorList) {
    let (template, before) = (now.at("template"), spec(old).at("template"));
    if !rests(old) {
        immutable(template, before, path, errors);
        return;
    }
    let pods = template.at("spec");
    let mut allowed = before.at("spec").clone();
    for field in ["nodeSelector", "tolerations", "schedulingGates"] {
        put(&mut allowed, field, pods.at(field));
    }
    allow_node_affinity(&mut allowed, pods.at("affinity"));
    for field in ["containers", "initContainers"] {
        allow_resources(&mut allowed, field, pods.list(field));
    }
    immutable(pods, &allowed, &path.child("spec"), errors);
}

fn allow_node_affinity(allowed: &mut Value, now: &Value) {
    let mut affinity = allowed.at("affinity").clone();
    if let Some(map) = affinity.as_object_mut() {
        map.remove("nodeAffinity");
    } else if !now.is_null() {
        affinity = Value::Object(Map::new());
    }
    if now.has("nodeAffinity") {
        affinity["nodeAffinity"] = now.at("nodeAffinity").clone();
    }
    let is_empty = affinity.as_object().is_none_or(Map::is_empty);
    match is_empty && now.is_null() {
        true => put(allowed, "affinity", &Value::Null),
        false => put(allowed, "affinity", &affinity),
    }
}

/// Makes a field of a map what it is elsewhere, absence included.
fn put(value: &mut Value, field: &str, now: &Value) {
    let Some(map) = value.as_object_mut() else {
        return;
    };
    if now.is_null() {
        map.remove(field);
    } else {
        map.insert(field.to_owned(), now.clone());
    }
}

fn allow_resources(allowed: &mut Value, field: &str, now: &[Value]) {
    let containers = allowed.get_mut(field).and_then(Value::as_array_mut);
    let Some(containers) = containers.filter(|containers| containers.len() == now.len()) else {
        return;
    };
    for (container, now) in containers.iter_mut().zip(now) {
        if container.text("name") == now.text("name") {
            put(container, "resources", now.at("resources"));
        }
    }
}

/// An update through `status`: what has ended stays so.
pub(crate) fn job_subresource(
    subresource: &str,
    new: &Object,
    old: &Object,
    errors: &mut ErrorList,
) {
    if subresource != "status" {
        return;
    }
    let (now, path) = (status(new), Path::new("status"));
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        not_negative(now, field, &path, errors);
    }
    let is = |job: &Object, kind: &str| {
        let mut conditions = status(job).list("conditions").iter();
        conditions.any(|one| one.text("type") == kind && one.text("status") == "True")
    };
    let path = path.child("conditions");
    let mut refuse = |is_wrong: bool, detail: String| {
        if is_wrong {
            errors.push(FieldError::invalid_part(&path, detail));
        }
    };
    for (one, other) in [
        ("Complete", "Failed"),
        ("Complete", "FailureTarget"),
        ("SuccessCriteriaMet", "Failed"),
        ("SuccessCriteriaMet", "FailureTarget"),
    ] {
        let detail = format!("cannot set {one}=True and {other}=true conditions");
        refuse(is(new, one) && is(new, other), detail);
    }
    for kind in ["Failed", "Complete", "FailureTarget"] {
        let detail = format!("cannot disable the terminal {kind}=True condition");
        refuse(is(old, kind) && !is(new, kind), detail);
    }
    let kind = "SuccessCriteriaMet";
    let detail = format!("cannot disable the {kind}=True condition");
    refuse(is(old, kind) && !is(new, kind), detail);
}

/// CronJob.
pub(crate) fn cron_job(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    if require(spec, "schedule", &path, errors) {
        schedule(spec.text("schedule"), &path.child("schedule"), errors);
    }
    not_negative(spec, "startingDeadlineSeconds", &path, errors);
    if spec.has("timeZone") {
        time_zone(spec.text("timeZone"), &path.child("timeZone"), errors);
    }
    let policies = &["Allow", "Forbid", "Replace"];
    one_of(spec, "concurrencyPolicy", policies, &path, errors);
    let job_path = path.child("jobTemplate").child("spec");
    job_of_cron(spec.at("jobTemplate").at("spec"), &job_path, errors);
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        not_negative(spec, field, &path, errors);
    }
    // Jobs are called after their cron job and the minute.
    const NAME_MAX: usize = 52;
    let name = object.name();
    if name.len() > NAME_MAX && object.resource_version().is_empty() {
        let path = Path::new("metadata").child("name");
        let detail = names::max_len_error(NAME_MAX);
        errors.push(FieldError::invalid(&path, name, detail));
    }
}

fn schedule(schedule: &str, path: &Path, errors: &mut ErrorList) {
    let is_zoned = schedule.starts_with("TZ=") || schedule.starts_with("CRON_TZ=");
    let fields = match schedule.split_once(' ').filter(|_| is_zoned) {
        Some((_, fields)) => fields.trim(),
        None => schedule,
    };
    if let Err(message) = cron::parse(fields) {
        errors.push(FieldError::invalid(path, schedule, message));
    }
    if schedule.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(path, schedule, detail));
    }
}

fn job_of_cron(job: &Value, path: &Path, errors: &mut ErrorList) {
    job_spec(job, path, errors);
    if job.has("selector") {
        let (path, selector) = (path.child("selector"), job.at("selector").clone());
        let detail = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&path, selector, detail));
    }
    if job.flag("manualSelector") {
        let path = path.child("manualSelector");
        errors.push(FieldError::not_supported(&path, true, &["nil", "false"]));
    }
}

/// The name of a zone that there is, and that is the same on every server.
fn time_zone(zone: &str, path: &Path, errors: &mut ErrorList) {
    let is_named = |char: char| char.is_ascii_alphanumeric() || ".-_+".contains(char);
    let is_part = |part: &str| {
        (1..=14).contains(&part.len())
            && part.chars().all(is_named)
            && !part.starts_with('-')
            && part != "."
            && part != ".."
    };
    let detail = if zone.is_empty() {
        "timeZone must be nil or non-empty string".to_owned()
    } else if !zone.split('/').all(is_part) {
        format!("unknown time zone {zone}")
    } else if zone.eq_ignore_ascii_case("local") {
        "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"
            .to_owned()
    } else if let Err(message) = cron::zone::find(zone) {
        message
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, zone, detail));
}
