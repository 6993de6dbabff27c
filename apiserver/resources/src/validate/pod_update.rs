//! What may change in a pod that exists: next to nothing.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{container, pod};
use crate::look::{Look, spec, status};
use crate::resource::same;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update through the pod itself.
pub(crate) fn pod_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let (now, before) = (spec(new), spec(old));
    if now == before {
        return;
    }
    for list in ["containers", "initContainers"] {
        if now.list(list).len() != before.list(list).len() {
            let detail = "pod updates may not add or remove containers";
            errors.push(FieldError::forbidden(&path.child(list), detail));
            return;
        }
    }
    deadline(now, before, &path, errors);
    added_tolerations(now, before, &path, errors);
    for gate in now.list("schedulingGates") {
        if !before
            .list("schedulingGates")
            .iter()
            .any(|known| known.text("name") == gate.text("name"))
        {
            let detail = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                gate.text("name")
            );
            errors.push(FieldError::forbidden(
                &path.child("schedulingGates"),
                detail,
            ));
        }
    }
    let (mut munged, mut reference) = (now.clone(), before.clone());
    for spec in [&mut munged, &mut reference] {
        forget_updatable(spec, !before.list("schedulingGates").is_empty());
    }
    let grace = "terminationGracePeriodSeconds";
    if before.int(grace).is_some_and(|seconds| seconds < 0) && now.int(grace) == Some(1) {
        remove(&mut munged, grace);
        remove(&mut reference, grace);
    }
    let mut changed = Vec::new();
    differences(&munged, &reference, "spec", &mut changed);
    if !changed.is_empty() {
        changed.sort_unstable();
        errors.push(FieldError::forbidden(
            &path,
            format!("{UPDATABLE}\nchanged: {}", changed.join(", ")),
        ));
    }
}

fn remove(value: &mut Value, key: &str) {
    if let Some(map) = value.as_object_mut() {
        map.remove(key);
    }
}

fn forget_updatable(spec: &mut Value, gated: bool) {
    for list in ["containers", "initContainers"] {
        for container in spec
            .get_mut(list)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            remove(container, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        remove(spec, field);
    }
    if gated {
        remove(spec, "nodeSelector");
        if let Some(affinity) = spec.get_mut("affinity") {
            remove(affinity, "nodeAffinity");
            if affinity.as_object().is_some_and(serde_json::Map::is_empty) {
                remove(spec, "affinity");
            }
        }
    }
}

/// Paths at which two values differ.
fn differences(new: &Value, old: &Value, path: &str, changed: &mut Vec<String>) {
    if same(Some(new), Some(old)) {
        return;
    }
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|key| !a.contains_key(*key))) {
                differences(a.at(key), b.at(key), &format!("{path}.{key}"), changed);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                differences(a, b, &format!("{path}[{at}]"), changed);
            }
        }
        _ => changed.push(path.to_owned()),
    }
}

fn deadline(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("activeDeadlineSeconds");
    match (
        now.int("activeDeadlineSeconds"),
        before.int("activeDeadlineSeconds"),
    ) {
        (Some(now), Some(before)) if now > before => {
            errors.push(FieldError::invalid(
                &path,
                now,
                "must be less than or equal to previous value",
            ));
        }
        (None, Some(_)) => errors.push(FieldError::invalid(
            &path,
            Value::Null,
            "must not update from a positive integer to nil value",
        )),
        _ => {}
    }
}

fn added_tolerations(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    let kept = |old: &Value| {
        now.list("tolerations").iter().any(|new| {
            ["key", "operator", "value", "effect"]
                .iter()
                .all(|field| new.text(field) == old.text(field))
        })
    };
    if !before.list("tolerations").iter().all(kept) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden(&path.child("tolerations"), detail));
    }
}

/// Updates through `ephemeralcontainers` and `resize`, which have rules of their own; `status` may hold anything.
pub(crate) fn pod_subresource(
    subresource: &str,
    new: &Object,
    old: &Object,
    errors: &mut ErrorList,
) {
    let path = Path::new("spec");
    match subresource {
        "ephemeralcontainers" => {
            pod::pod_spec(spec(new), &path, errors);
            for container in spec(old).list("ephemeralContainers") {
                let name = container.text("name");
                let detail = match spec(new)
                    .list("ephemeralContainers")
                    .iter()
                    .find(|c| c.text("name") == name)
                {
                    None => "existing ephemeral containers may not be removed\n",
                    Some(now) if now != container => {
                        "existing ephemeral containers may not be changed\n"
                    }
                    Some(_) => continue,
                };
                errors.push(FieldError::forbidden(
                    &path.child("ephemeralContainers"),
                    detail,
                ));
            }
        }
        "resize" => {
            for list in ["containers", "initContainers"] {
                for (path, entry) in super::items(spec(new), list, &path) {
                    container::resources(entry.at("resources"), &path.child("resources"), errors);
                }
            }
            if crate::pod::qos_class(spec(new))
                != old.get_str(&["status", "qosClass"]).unwrap_or("")
                && old.get_str(&["status", "qosClass"]).is_some()
            {
                errors.push(FieldError::invalid(
                    &path,
                    crate::pod::qos_class(spec(new)),
                    "Pod QOS Class may not change as a result of resizing",
                ));
            }
        }
        "status" => claim_statuses(new, errors),
        _ => {}
    }
}

/// The claims that were made for a pod are those of its entries.
fn claim_statuses(pod: &Object, errors: &mut ErrorList) {
    let path = Path::new("status");
    let entries = spec(pod).list("resourceClaims").iter();
    let entries: BTreeSet<&str> = entries.map(|entry| entry.text("name")).collect();
    let mut seen = BTreeSet::new();
    for (path, status) in super::items(status(pod), "resourceClaimStatuses", &path) {
        let (name, path) = (status.text("name"), path.child("name"));
        if !entries.contains(name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&path, name, detail));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
        if status.has("resourceClaimName") {
            let claim = status.text("resourceClaimName");
            // Kubernetes tells the same path of both.
            super::complain(names::is_dns1123_subdomain(claim), &path, claim, errors);
        }
    }
}
