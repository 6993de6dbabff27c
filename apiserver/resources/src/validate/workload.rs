//! The kinds that make pods from a template and keep them.

use std::borrow::Cow;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::{Map, Value, json};

use super::pod::{selects_template, template, unselected};
use super::pod_update::differences;
use super::volume::claim_spec;
use super::{
    at_most_hundred_percent, complain_of, count_or_percent, filled, immutable, is_zero, items,
    label_selector, not_negative, optional_one_of, selects_all,
};
use crate::look::{Look, spec, status};

/// A stored template.
pub(crate) fn pod_template(object: &Object, errors: &mut ErrorList) {
    template(object.at("template"), &Path::new("template"), errors);
}

/// A selector that must be there. `empty` is what is said about one that selects everything.
fn selector(spec: &Value, empty: &str, path: &Path, errors: &mut ErrorList) {
    let (selector, path) = (spec.at("selector"), path.child("selector"));
    if selector.is_null() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    label_selector(selector, &path, errors);
    if selects_all(selector) {
        errors.push(FieldError::invalid(&path, selector.clone(), empty));
    }
}

/// Selector and template, as Deployments and ReplicaSets have them: without a selector that can be read nobody looks at the
/// template.
fn selector_and_template(spec: &Value, path: &Path, errors: &mut ErrorList) {
    selector(
        spec,
        "empty selector is invalid for deployment",
        path,
        errors,
    );
    if is_selector(spec.at("selector")) {
        selects_template(spec, path, errors);
        kept_template(spec.at("template"), "ReplicaSet", path, errors);
    } else {
        let path = path.child("selector");
        let detail = "invalid label selector";
        errors.push(FieldError::invalid(
            &path,
            spec.at("selector").clone(),
            detail,
        ));
    }
}

fn is_selector(selector: &Value) -> bool {
    schema::selector::LabelSelector::from_object(Some(selector)).is_ok()
}

/// The template of pods that are made again when they end; `path` is that of the spec.
fn kept_template(pods: &Value, owner: &str, path: &Path, errors: &mut ErrorList) {
    let path = path.child("template");
    template(pods, &path, errors);
    always_restarted(pods, owner, &path, errors);
}

fn always_restarted(pods: &Value, owner: &str, path: &Path, errors: &mut ErrorList) {
    let (spec, path) = (pods.at("spec"), path.child("spec"));
    let policy = spec.text("restartPolicy");
    if policy != "Always" && !policy.is_empty() {
        let path = path.child("restartPolicy");
        errors.push(FieldError::not_supported(&path, policy, &["Always"]));
    }
    if spec.has("activeDeadlineSeconds") {
        let path = path.child("activeDeadlineSeconds");
        let detail = format!("activeDeadlineSeconds in {owner} is not Supported");
        errors.push(FieldError::forbidden(&path, detail));
    }
}

/// Deployment.
pub(crate) fn deployment(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    not_negative(spec, "replicas", &path, errors);
    selector_and_template(spec, &path, errors);
    strategy(spec.at("strategy"), &path.child("strategy"), errors);
    let deadline = "progressDeadlineSeconds";
    for field in ["minReadySeconds", "revisionHistoryLimit", deadline] {
        not_negative(spec, field, &path, errors);
    }
    let ready = spec.int("minReadySeconds").unwrap_or(0);
    if let Some(seconds) = spec.int(deadline).filter(|seconds| *seconds <= ready) {
        let (path, detail) = (path.child(deadline), "must be greater than minReadySeconds");
        errors.push(FieldError::invalid(&path, seconds, detail));
    }
}

/// How a deployment replaces its pods.
fn strategy(strategy: &Value, path: &Path, errors: &mut ErrorList) {
    let (rolling, inner) = (strategy.at("rollingUpdate"), path.child("rollingUpdate"));
    match strategy.text("type") {
        "Recreate" if rolling.is_null() => {}
        "Recreate" => {
            let detail = "may not be specified when strategy `type` is 'Recreate'";
            errors.push(FieldError::forbidden(&inner, detail));
        }
        "RollingUpdate" if rolling.is_null() => {
            let detail = "this should be defaulted and never be nil";
            errors.push(FieldError::required(&inner, detail));
        }
        "RollingUpdate" => rolling_update(rolling, &inner, errors),
        _ => errors.push(FieldError::not_supported(
            path,
            strategy.clone(),
            &["Recreate", "RollingUpdate"],
        )),
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
    selector_and_template(spec, &path, errors);
}

/// DaemonSet.
pub(crate) fn daemon_set(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    let selector = spec.at("selector");
    label_selector(selector, &path.child("selector"), errors);
    selects_template(spec, &path, errors);
    if !selector.is_null() && selects_all(selector) {
        let detail = "empty selector is invalid for daemonset";
        let path = path.child("selector");
        errors.push(FieldError::invalid(&path, selector.clone(), detail));
    }
    kept_template(spec.at("template"), "DaemonSet", &path, errors);
    not_negative(spec, "minReadySeconds", &path, errors);
    let strategy_path = path.child("updateStrategy");
    node_strategy(spec.at("updateStrategy"), &strategy_path, errors);
    not_negative(spec, "revisionHistoryLimit", &path, errors);
}

/// How a daemon set replaces its pods.
fn node_strategy(strategy: &Value, path: &Path, errors: &mut ErrorList) {
    let kinds = &["RollingUpdate", "OnDelete"];
    match strategy.text("type") {
        "OnDelete" => return,
        "RollingUpdate" => {}
        _ => {
            errors.push(FieldError::not_supported(path, strategy.clone(), kinds));
            return;
        }
    }
    let (rolling, path) = (strategy.at("rollingUpdate"), path.child("rollingUpdate"));
    if rolling.is_null() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    let fields = ["maxUnavailable", "maxSurge"].map(|field| (rolling.at(field), path.child(field)));
    for (value, path) in &fields {
        count_or_percent(value, path, errors);
    }
    for (value, path) in &fields {
        at_most_hundred_percent(value, path, errors);
    }
    let [unavailable, surge] = fields;
    let none = |value: &Value| value.is_null() || is_zero(value);
    if none(unavailable.0) && none(surge.0) {
        let detail = "cannot be 0 when maxSurge is 0";
        errors.push(FieldError::required(&unavailable.1, detail));
    } else if !none(unavailable.0) && !none(surge.0) {
        let detail = "may not be set when maxUnavailable is non-zero";
        errors.push(FieldError::invalid(&surge.1, surge.0.clone(), detail));
    }
}

/// StatefulSet. The claims become volumes of its pods.
pub(crate) fn stateful_set(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    management(spec, &path, errors);
    let strategy_path = path.child("updateStrategy");
    ordered_strategy(spec.at("updateStrategy"), &strategy_path, errors);
    if let Some((policy, path)) = filled(spec, "persistentVolumeClaimRetentionPolicy", &path) {
        for field in ["whenDeleted", "whenScaled"] {
            optional_one_of(policy, field, &["Retain", "Delete"], &path, errors);
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        not_negative(spec, field, &path, errors);
    }
    let (ordinals, ordinals_path) = (spec.at("ordinals"), path.child("ordinals"));
    not_negative(ordinals, "start", &ordinals_path, errors);
    let service = spec.text("serviceName");
    if !service.is_empty() {
        let messages = names::is_dns1123_label(service);
        complain_of(messages, "serviceName", &path, service, errors);
    }
    selector(
        spec,
        "empty selector is invalid for statefulset",
        &path,
        errors,
    );
    let (pods, template_path) = (spec.at("template"), path.child("template"));
    let claims = spec.list("volumeClaimTemplates");
    if is_selector(spec.at("selector")) {
        selects_template(spec, &path, errors);
        template(&with_claims(pods, claims), &template_path, errors);
    } else {
        let value = spec.at("selector").clone();
        errors.push(FieldError::invalid(&path.child("selector"), value, ""));
    }
    for (path, claim) in items(spec, "volumeClaimTemplates", &path) {
        claim_spec(claim.at("spec"), &path.child("spec"), errors);
    }
    always_restarted(pods, "StatefulSet", &template_path, errors);
}

/// The template with the volumes that its pods will have: those of the claims, which take the place of others of their
/// names. Kubernetes looks at the pods in this form.
fn with_claims<'a>(template: &'a Value, claims: &[Value]) -> Cow<'a, Value> {
    let mut names: Vec<&str> = Vec::new();
    for claim in claims {
        let name = claim.at("metadata").text("name");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let mut template = Cow::Borrowed(template);
    let is_spec = template.at("spec").is_object();
    if names.is_empty() || !is_spec {
        return template;
    }
    let made = names
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
    let others = template.at("spec").list("volumes").iter();
    let others = others.filter(|volume| !names.contains(&volume.text("name")));
    let volumes: Vec<Value> = made.chain(others.cloned()).collect();
    template.to_mut()["spec"]["volumes"] = volumes.into();
    template
}

fn management(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("podManagementPolicy");
    match spec.text("podManagementPolicy") {
        "" => errors.push(FieldError::required(&path, "")),
        "OrderedReady" | "Parallel" => {}
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid(&path, other, detail));
        }
    }
}

/// How a stateful set replaces its pods.
fn ordered_strategy(strategy: &Value, path: &Path, errors: &mut ErrorList) {
    let (rolling, inner) = (strategy.at("rollingUpdate"), path.child("rollingUpdate"));
    match strategy.text("type") {
        "" => errors.push(FieldError::required(path, "")),
        "OnDelete" if rolling.is_null() => {}
        "OnDelete" => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(FieldError::invalid(&inner, rolling.clone(), detail));
        }
        "RollingUpdate" => {
            not_negative(rolling, "partition", &inner, errors);
            let (unavailable, path) = (rolling.at("maxUnavailable"), inner.child("maxUnavailable"));
            count_or_percent(unavailable, &path, errors);
            if is_zero(unavailable) {
                let value = unavailable.clone();
                errors.push(FieldError::invalid(&path, value, "cannot be 0"));
            }
            at_most_hundred_percent(unavailable, &path, errors);
        }
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            errors.push(FieldError::invalid(path, strategy.clone(), detail));
        }
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
    let (now, before) = (rest(new), rest(old));
    if now == before {
        return;
    }
    let mut changed = Vec::new();
    let (now, before) = (Value::Object(now), Value::Object(before));
    differences(&now, &before, "spec", &mut changed);
    // A null deep inside says no more than nothing does.
    if !changed.is_empty() {
        let detail = format!(
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden.\n\
             Difference causing the error:\n{}",
            changed.join(", ")
        );
        errors.push(FieldError::forbidden(&Path::new("spec"), detail));
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
    let selector = spec.at("selector");
    if selector.as_object().is_none_or(Map::is_empty) {
        errors.push(FieldError::required(&path.child("selector"), ""));
    }
    not_negative(spec, "replicas", &path, errors);
    let pods = spec.at("template");
    if !pods.is_object() {
        errors.push(FieldError::required(&path.child("template"), ""));
        return;
    }
    let labels = pods.at("metadata").at("labels");
    let mut pairs = spec.entries("selector");
    if pairs.any(|(key, value)| labels.at(key) != value) {
        unselected(labels, &path, errors);
    }
    kept_template(pods, "ReplicationController", &path, errors);
}

/// ControllerRevision.
pub(crate) fn controller_revision(object: &Object, errors: &mut ErrorList) {
    not_negative(object, "revision", &Path::root(), errors);
    let detail = match object.at("data") {
        Value::Null => "data is mandatory",
        Value::Object(_) => return,
        _ => "data must be a valid JSON object",
    };
    errors.push(FieldError::required(&Path::new("data"), detail));
}

/// The data of a revision is history.
pub(crate) fn controller_revision_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    immutable(new.at("data"), old.at("data"), &Path::new("data"), errors);
}

/// Counts in a status, in the order in which Kubernetes looks at them.
const COUNTS: &[&str] = &[
    "replicas",
    "fullyLabeledReplicas",
    "updatedReplicas",
    "readyReplicas",
    "currentReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "terminatingReplicas",
    "collisionCount",
];

/// The counts that are parts of all replicas.
const PARTS: &[&str] = &[
    "fullyLabeledReplicas",
    "updatedReplicas",
    "readyReplicas",
    "currentReplicas",
    "availableReplicas",
];

/// An update through `status`: the counts fit together.
pub(crate) fn counts(subresource: &str, new: &Object, old: &Object, errors: &mut ErrorList) {
    if subresource != "status" {
        return;
    }
    let (now, path) = (status(new), Path::new("status"));
    let count = |field: &str| now.int(field).unwrap_or(0);
    for field in COUNTS {
        not_negative(now, field, &path, errors);
    }
    let mut above = |field: &str, other: &str, name: &str| {
        if count(field) > count(other) {
            let detail = format!("cannot be greater than {name}");
            errors.push(FieldError::invalid(
                &path.child(field),
                count(field),
                detail,
            ));
        }
    };
    // Sets of nodes have no replicas.
    if new.kind() != "DaemonSet" {
        for field in PARTS {
            above(field, "replicas", "status.replicas");
        }
        let ready = match new.kind() {
            "StatefulSet" => "status.readyReplicas",
            _ => "readyReplicas",
        };
        above("availableReplicas", "readyReplicas", ready);
    }
    let collisions = "collisionCount";
    if count(collisions) < status(old).int(collisions).unwrap_or(0) {
        let path = path.child(collisions);
        let detail = "cannot be decremented";
        errors.push(FieldError::invalid(&path, count(collisions), detail));
    }
}
