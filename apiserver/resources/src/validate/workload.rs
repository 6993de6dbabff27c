//! The kinds that make pods from a template and keep them.

use std::borrow::Cow;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use serde_json::{Map, Value, json};

use super::pod::{selector_matches_template, template};
use super::{
    at_most_hundred_percent, count_or_percent, immutable, is_zero, items, not_negative,
    optional_one_of, selects_all,
};
use crate::look::{Look, spec};
use crate::meta;

/// A stored template.
pub(crate) fn pod_template(object: &Object, errors: &mut ErrorList) {
    template(object.at("template"), &Path::new("template"), errors);
}

/// Selector and template, as Deployments, ReplicaSets, StatefulSets and DaemonSets have them. `empty` is what is said
/// about a selector that selects everything.
fn selector_and_template(spec: &Value, empty: &str, path: &Path, errors: &mut ErrorList) {
    let selector = spec.at("selector");
    if selector.is_null() {
        errors.push(FieldError::required(&path.child("selector"), ""));
    } else if selects_all(selector) {
        errors.push(FieldError::invalid(
            &path.child("selector"),
            selector.clone(),
            empty,
        ));
    }
    selector_matches_template(selector, spec.at("template"), path, errors);
    let pods = with_claims(spec);
    kept_template(&pods, "ReplicaSet", &path.child("template"), errors);
}

/// The template as the pods will have it: each claim a StatefulSet makes is a volume of its pods, which takes the place of
/// one of that name, so containers may mount it though the template names no such volume.
fn with_claims(spec: &Value) -> Cow<'_, Value> {
    let template = spec.at("template");
    let claims: Vec<&str> = spec
        .list("volumeClaimTemplates")
        .iter()
        .map(|claim| claim.at("metadata").text("name"))
        .filter(|name| !name.is_empty())
        .collect();
    if claims.is_empty() || !template.at("spec").is_object() {
        return Cow::Borrowed(template);
    }
    let mut volumes: Vec<Value> = (template.at("spec").list("volumes").iter())
        .filter(|volume| !claims.contains(&volume.text("name")))
        .cloned()
        .collect();
    volumes.extend(
        claims
            .iter()
            .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}})),
    );
    let mut pods = template.clone();
    pods["spec"]["volumes"] = Value::Array(volumes);
    Cow::Owned(pods)
}

/// The template of pods that are made again when they end.
fn kept_template(pods: &Value, owner: &str, path: &Path, errors: &mut ErrorList) {
    template(pods, path, errors);
    let (spec, path) = (pods.at("spec"), path.child("spec"));
    let policy = spec.text("restartPolicy");
    if policy != "Always" && !policy.is_empty() {
        errors.push(FieldError::not_supported(
            &path.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if spec.has("activeDeadlineSeconds") {
        let detail = format!("activeDeadlineSeconds in {owner} is not Supported");
        errors.push(FieldError::forbidden(
            &path.child("activeDeadlineSeconds"),
            detail,
        ));
    }
}

/// Deployment.
pub(crate) fn deployment(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    for field in [
        "replicas",
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        not_negative(spec, field, &path, errors);
    }
    selector_and_template(
        spec,
        "empty selector is invalid for deployment",
        &path,
        errors,
    );
    let strategy = spec.at("strategy");
    let strategy_path = path.child("strategy");
    match strategy.text("type") {
        "Recreate" if strategy.has("rollingUpdate") => errors.push(FieldError::forbidden(
            &strategy_path.child("rollingUpdate"),
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        "RollingUpdate" if !strategy.has("rollingUpdate") => errors.push(FieldError::required(
            &strategy_path.child("rollingUpdate"),
            "this should be defaulted and never be nil",
        )),
        "RollingUpdate" => {
            rolling_update(
                strategy.at("rollingUpdate"),
                &strategy_path.child("rollingUpdate"),
                errors,
            );
        }
        _ => optional_one_of(
            strategy,
            "type",
            &["Recreate", "RollingUpdate"],
            &strategy_path,
            errors,
        ),
    }
    let (deadline, ready) = (
        spec.int("progressDeadlineSeconds"),
        spec.int("minReadySeconds").unwrap_or(0),
    );
    if let Some(deadline) = deadline.filter(|deadline| *deadline <= ready) {
        let path = path.child("progressDeadlineSeconds");
        errors.push(FieldError::invalid(
            &path,
            deadline,
            "must be greater than minReadySeconds",
        ));
    }
}

fn rolling_update(rolling: &Value, path: &Path, errors: &mut ErrorList) {
    let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
    count_or_percent(unavailable, &path.child("maxUnavailable"), errors);
    count_or_percent(surge, &path.child("maxSurge"), errors);
    if is_zero(unavailable) && is_zero(surge) {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(
            &path.child("maxUnavailable"),
            unavailable.clone(),
            detail,
        ));
    }
    at_most_hundred_percent(unavailable, &path.child("maxUnavailable"), errors);
}

/// ReplicaSet.
pub(crate) fn replica_set(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    not_negative(spec, "replicas", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    selector_and_template(
        spec,
        "empty selector is invalid for deployment",
        &path,
        errors,
    );
}

/// DaemonSet.
pub(crate) fn daemon_set(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    not_negative(spec, "minReadySeconds", &path, errors);
    not_negative(spec, "revisionHistoryLimit", &path, errors);
    selector_and_template(
        spec,
        "empty selector is invalid for daemonset",
        &path,
        errors,
    );
    let (strategy, path) = (spec.at("updateStrategy"), path.child("updateStrategy"));
    optional_one_of(
        strategy,
        "type",
        &["RollingUpdate", "OnDelete"],
        &path,
        errors,
    );
    if strategy.text("type") == "RollingUpdate" {
        let (rolling, path) = (strategy.at("rollingUpdate"), path.child("rollingUpdate"));
        if rolling.is_null() {
            errors.push(FieldError::required(&path, ""));
            return;
        }
        let (unavailable, surge) = (rolling.at("maxUnavailable"), rolling.at("maxSurge"));
        for (field, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
            count_or_percent(value, &path.child(field), errors);
            at_most_hundred_percent(value, &path.child(field), errors);
        }
        let none = |value: &Value| value.is_null() || is_zero(value);
        if none(unavailable) && none(surge) {
            errors.push(FieldError::required(
                &path.child("maxUnavailable"),
                "cannot be 0 when maxSurge is 0",
            ));
        } else if !none(unavailable) && !none(surge) {
            let detail = "may not be set when maxUnavailable is non-zero";
            errors.push(FieldError::invalid(
                &path.child("maxSurge"),
                surge.clone(),
                detail,
            ));
        }
    }
}

/// StatefulSet.
pub(crate) fn stateful_set(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    match spec.text("podManagementPolicy") {
        "" => errors.push(FieldError::required(&path.child("podManagementPolicy"), "")),
        "OrderedReady" | "Parallel" => {}
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid(
                &path.child("podManagementPolicy"),
                other,
                detail,
            ));
        }
    }
    let (strategy, strategy_path) = (spec.at("updateStrategy"), path.child("updateStrategy"));
    match strategy.text("type") {
        "" => errors.push(FieldError::required(&strategy_path, "")),
        "OnDelete" if strategy.has("rollingUpdate") => errors.push(FieldError::invalid(
            &strategy_path.child("rollingUpdate"),
            strategy.at("rollingUpdate").clone(),
            "only allowed for updateStrategy 'RollingUpdate'",
        )),
        "OnDelete" => {}
        "RollingUpdate" => {
            let (rolling, path) = (
                strategy.at("rollingUpdate"),
                strategy_path.child("rollingUpdate"),
            );
            not_negative(rolling, "partition", &path, errors);
            let unavailable = rolling.at("maxUnavailable");
            count_or_percent(unavailable, &path.child("maxUnavailable"), errors);
            at_most_hundred_percent(unavailable, &path.child("maxUnavailable"), errors);
            if is_zero(unavailable) {
                errors.push(FieldError::invalid(
                    &path.child("maxUnavailable"),
                    unavailable.clone(),
                    "cannot be 0",
                ));
            }
        }
        other => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(&strategy_path, other, detail));
        }
    }
    let policy = spec.at("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let path = path.child("persistentVolumeClaimRetentionPolicy");
        optional_one_of(policy, field, &["Delete", "Retain"], &path, errors);
    }
    for field in ["replicas", "minReadySeconds"] {
        not_negative(spec, field, &path, errors);
    }
    not_negative(
        spec.at("ordinals"),
        "start",
        &path.child("ordinals"),
        errors,
    );
    selector_and_template(
        spec,
        "empty selector is invalid for statefulset",
        &path,
        errors,
    );
    for (path, claim) in items(spec, "volumeClaimTemplates", &path) {
        meta::validate_template(claim.at("metadata"), &path.child("metadata"), errors);
    }
}

/// Nothing but size, template and strategy of a StatefulSet may change.
pub(crate) fn stateful_set_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    const UPDATABLE: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let rest = |object: &Object| -> Map<String, Value> {
        let mut map = spec(object).as_object().cloned().unwrap_or_default();
        map.retain(|field, value| !UPDATABLE.contains(&field.as_str()) && !value.is_null());
        map
    };
    if rest(new) != rest(old) {
        errors.push(FieldError::forbidden(
            &Path::new("spec"),
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
}

/// The selector of a workload never changes, since its pods would be lost.
pub(crate) fn selector_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("selector");
    immutable(
        spec(new).at("selector"),
        spec(old).at("selector"),
        &path,
        errors,
    );
}

/// ReplicationController.
pub(crate) fn replication_controller(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    not_negative(spec, "minReadySeconds", &path, errors);
    not_negative(spec, "replicas", &path, errors);
    let selector = spec.at("selector");
    if selector.as_object().is_none_or(Map::is_empty) {
        errors.push(FieldError::required(&path.child("selector"), ""));
    }
    if !spec.at("template").is_object() {
        errors.push(FieldError::required(&path.child("template"), ""));
        return;
    }
    let labels = spec.at("template").at("metadata").at("labels");
    if !selector.entries_match(labels) {
        let path = path.child("template").child("metadata").child("labels");
        errors.push(FieldError::invalid(
            &path,
            labels.clone(),
            "`selector` does not match template `labels`",
        ));
    }
    kept_template(
        spec.at("template"),
        "ReplicationController",
        &path.child("template"),
        errors,
    );
}

trait EntriesMatch {
    fn entries_match(&self, labels: &Value) -> bool;
}

impl EntriesMatch for Value {
    /// Whether every pair of this map is in the labels.
    fn entries_match(&self, labels: &Value) -> bool {
        self.as_object()
            .is_none_or(|pairs| pairs.iter().all(|(key, value)| labels.at(key) == value))
    }
}

/// ControllerRevision.
pub(crate) fn controller_revision(object: &Object, errors: &mut ErrorList) {
    if object.at("data").is_null() {
        errors.push(FieldError::required(
            &Path::new("data"),
            "data is mandatory",
        ));
    }
    if let Some(revision) = object
        .at("revision")
        .as_i64()
        .filter(|revision| *revision < 0)
    {
        errors.push(FieldError::invalid(
            &Path::new("revision"),
            revision,
            super::NOT_NEGATIVE,
        ));
    }
}

/// The data of a revision is history.
pub(crate) fn controller_revision_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    immutable(new.at("data"), old.at("data"), &Path::new("data"), errors);
}
