//! What may change in a pod that exists: next to nothing.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use serde_json::Value;

use super::{pod, pod_annotations, pod_resize, pod_status};
use crate::look::{Look, spec};
use crate::resource::same;

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),\
    `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// An update through the pod itself.
pub(crate) fn pod_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    pod_annotations::update(new, old, errors);
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
    if !deadline(now, before, &path, errors) {
        return;
    }
    added_tolerations(now, before, &path, errors);
    deleted_gates(now, before, &path, errors);
    let (mut munged, mut reference) = (differing(now, before), differing(before, now));
    for spec in [&mut munged, &mut reference] {
        forget_updatable(spec);
    }
    if !before.list("schedulingGates").is_empty() {
        placement(now, before, &path, errors);
        for spec in [&mut munged, &mut reference] {
            forget_placement(spec);
        }
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

fn forget_updatable(spec: &mut Value) {
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
}

fn forget_placement(spec: &mut Value) {
    remove(spec, "nodeSelector");
    if let Some(affinity) = spec.get_mut("affinity") {
        remove(affinity, "nodeAffinity");
        if affinity.as_object().is_some_and(serde_json::Map::is_empty) {
            remove(spec, "affinity");
        }
    }
}

/// What of a value has another one at its place in `other`: all that [`differences`] looks at.
fn differing(value: &Value, other: &Value) -> Value {
    match (value, other) {
        (Value::Object(a), Value::Object(b)) => {
            let parts = a.iter().filter_map(|(key, value)| match b.get(key) {
                Some(other) if value == other => None,
                Some(other) => Some((key.clone(), differing(value, other))),
                None => Some((key.clone(), value.clone())),
            });
            Value::Object(parts.collect())
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let items = a.iter().zip(b);
            items
                .map(|(value, other)| match value == other {
                    // It keeps the others at their places.
                    true => Value::Null,
                    false => differing(value, other),
                })
                .collect()
        }
        _ => value.clone(),
    }
}

/// Paths at which two values differ.
pub(super) fn differences(new: &Value, old: &Value, path: &str, changed: &mut Vec<String>) {
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

/// False where nothing more is to be said.
fn deadline(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) -> bool {
    let path = path.child("activeDeadlineSeconds");
    match (
        now.int("activeDeadlineSeconds"),
        before.int("activeDeadlineSeconds"),
    ) {
        (Some(now), Some(before)) if now > before => {
            let detail = "must be less than or equal to previous value";
            errors.push(FieldError::invalid(&path, now, detail));
            false
        }
        (None, Some(_)) => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::invalid(&path, Value::Null, detail));
            true
        }
        _ => true,
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

fn deleted_gates(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    let known = before.list("schedulingGates");
    for (path, gate) in super::items(now, "schedulingGates", path) {
        let name = gate.text("name");
        if !known.iter().any(|known| known.text("name") == name) {
            let detail =
                format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(&path.child("name"), detail));
        }
    }
}

/// Where a pod may run gets narrower as long as nobody looks for a place for it.
fn placement(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    let (labels, kept) = (now.at("nodeSelector"), before.entries("nodeSelector"));
    let mut kept = kept.map(|(key, value)| labels.at(key) == value);
    if !kept.all(|kept| kept) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        let path = path.child("nodeSelector");
        errors.push(FieldError::invalid(&path, labels.clone(), detail));
    }
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |spec: &Value| {
        let affinity = spec.at("affinity").at("nodeAffinity");
        affinity.at(required).list("nodeSelectorTerms").to_vec()
    };
    let (terms, known) = (terms(now), terms(before));
    let path = path.child("affinity").child("nodeAffinity");
    let path = path.child(required).child("nodeSelectorTerms");
    if known.is_empty() {
        return;
    }
    if terms.len() != known.len() {
        let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&path, terms, detail));
        return;
    }
    for (at, (term, known)) in terms.into_iter().zip(&known).enumerate() {
        if !has_only_additions(&term, known) {
            let detail = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&path.index(at), term, detail));
        }
    }
}

fn has_only_additions(new: &Value, old: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let all_empty = |term: &Value| lists.iter().all(|list| term.list(list).is_empty());
    if all_empty(old) {
        // It selects nothing, and with more in it would select something.
        return all_empty(new);
    }
    lists.iter().all(|list| {
        let kept = new.list(list).get(..old.list(list).len());
        kept.is_some_and(|kept| kept == old.list(list))
    })
}

/// Updates through the doors of a pod, which have rules of their own.
pub(crate) fn pod_subresource(
    subresource: &str,
    new: &Object,
    old: &Object,
    errors: &mut ErrorList,
) {
    match subresource {
        "ephemeralcontainers" => looks(new, old, errors),
        "resize" => pod_resize::resize(new, old, errors),
        "status" => pod_status::status_update(new, old, errors),
        _ => {}
    }
}

/// What is wrong with a pod, and was not before.
pub(super) fn new_problems(new: &Object, old: &Object) -> ErrorList {
    let mut found = ErrorList::new();
    pod::whole_pod(new, &mut found);
    if !found.is_empty() {
        let mut before = ErrorList::new();
        pod::whole_pod(old, &mut before);
        found.retain(|error| !before.contains(error));
    }
    found
}

/// Containers to look at a pod come, and neither go nor change.
fn looks(new: &Object, old: &Object, errors: &mut ErrorList) {
    if old.annotation(pod_annotations::MIRROR).is_some() {
        let detail = "static pods do not support ephemeral containers";
        errors.push(FieldError::forbidden(&Path::new("[]"), detail));
        return;
    }
    errors.extend(new_problems(new, old));
    let path = Path::new("spec").child("ephemeralContainers");
    let now = spec(new).list("ephemeralContainers");
    for container in spec(old).list("ephemeralContainers") {
        let name = container.text("name");
        let shown = schema::field::go_quote(name);
        let detail = match now.iter().find(|one| one.text("name") == name) {
            None => format!("existing ephemeral containers {shown} may not be removed\n"),
            Some(one) if one != container => {
                let mut changed = Vec::new();
                differences(one, container, name, &mut changed);
                let changed = changed.join(", ");
                format!("existing ephemeral containers {shown} may not be changed\n{changed}")
            }
            Some(_) => continue,
        };
        errors.push(FieldError::forbidden(&path, detail));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Specs that differ from each other in one or more parts of every sort.
    fn specs() -> Vec<Value> {
        let mut all = vec![json!({}), Value::Null];
        for image in ["a", "b"] {
            for args in [json!(null), json!([]), json!(["x"]), json!(["x", "y"])] {
                for affinity in [
                    json!(null),
                    json!({}),
                    json!({"nodeAffinity": {"a": 1}}),
                    json!({"nodeAffinity": {"a": 2}, "podAffinity": {}}),
                    json!({"podAffinity": {"p": [{"q": 1}]}}),
                ] {
                    let first = json!({"name": "one", "image": image, "args": args});
                    let second = json!({"name": "two", "args": ["x"], "image": "c"});
                    all.push(json!({"nodeName": "n", "tolerations": args,
                        "containers": [second, first], "affinity": affinity}));
                }
            }
        }
        all
    }

    #[test]
    fn what_differs_is_found_in_the_differing_parts() {
        let found = |mut new: Value, mut old: Value, gated: bool| {
            for spec in [&mut new, &mut old] {
                forget_updatable(spec);
                if gated {
                    forget_placement(spec);
                }
            }
            let mut changed = Vec::new();
            differences(&new, &old, "spec", &mut changed);
            changed.sort_unstable();
            changed
        };
        let all = specs();
        let mut several = 0;
        for new in &all {
            for old in all.iter().filter(|old| *old != new) {
                for gated in [false, true] {
                    let long = found(new.clone(), old.clone(), gated);
                    let short = found(differing(new, old), differing(old, new), gated);
                    assert_eq!(short, long, "{new} {old}");
                    several += usize::from(long.len() > 1);
                }
            }
        }
        assert!(several > 100);
    }
}
