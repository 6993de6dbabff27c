//! What a running pod may get more or less of: CPU and memory.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use serde_json::Value;

use super::pod_annotations::MIRROR;
use super::pod_update::{differences, new_problems};
use crate::look::{Look, make_map, map_in, spec, status};
use crate::pod::qos_class;

/// An update through `resize`.
pub(crate) fn resize(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    let detail = match before.at("os").text("name") {
        _ if old.annotation(MIRROR).is_some() => "static pods cannot be resized",
        "windows" => "windows pods cannot be resized",
        _ => "",
    };
    if !detail.is_empty() {
        errors.push(FieldError::forbidden(&Path::new("[]"), detail));
        return;
    }
    errors.extend(new_problems(new, old));
    let class = match status(old).text("qosClass") {
        "" => qos_class(before),
        class => class,
    };
    if qos_class(now) != class {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&path, class, detail));
    }
    of_whole_pod(now, before, &path, errors);
    if !same_containers(now, before, &path, errors) {
        return;
    }
    for list in ["initContainers", "containers"] {
        for (at, (entry, known)) in pairs(now, before, list).enumerate() {
            let path = path.child(list).index(at);
            removed(
                entry,
                known,
                ["resource requests", "resource limits"],
                &path,
                errors,
            );
        }
    }
    for (entry, known) in pairs(now, before, "containers") {
        if !are_alike(&with_known(entry, known), known) {
            let detail = "only cpu and memory resources are mutable";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    for (at, (entry, known)) in pairs(now, before, "initContainers").enumerate() {
        init_container(
            entry,
            known,
            &path.child("initContainers").index(at),
            errors,
        );
    }
}

fn pairs<'a>(
    now: &'a Value,
    before: &'a Value,
    list: &str,
) -> impl Iterator<Item = (&'a Value, &'a Value)> + use<'a> {
    now.list(list).iter().zip(before.list(list))
}

fn init_container(entry: &Value, known: &Value, path: &Path, errors: &mut ErrorList) {
    if !are_alike(&with_known(entry, known), known) {
        let detail = "only cpu and memory resources for init or sidecar containers are mutable";
        errors.push(FieldError::forbidden(path, detail));
    }
    let is_sidecar = entry.text("restartPolicy") == "Always";
    if is_sidecar || are_alike(entry, known) {
        return;
    }
    let policies = entry.list("resizePolicy").iter();
    for _ in policies.filter(|policy| policy.text("restartPolicy") == "RestartContainer") {
        let detail = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// What is said of the pod as a whole.
fn of_whole_pod(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    if before.has("resources") && !now.has("resources") {
        let detail = "pod-level resources cannot be removed";
        errors.push(FieldError::forbidden(&path.child("resources"), detail));
        return;
    }
    let what = ["pod-level resource requests", "pod-level resource limits"];
    removed(now, before, what, path, errors);
    let known = with_known(now, before);
    if !are_alike(known.at("resources"), before.at("resources")) {
        let detail = "only cpu and memory resources are mutable at pod-level";
        errors.push(FieldError::forbidden(path, detail));
    }
}

/// Containers are the same, and in the same order.
fn same_containers(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) -> bool {
    let count = errors.len();
    for list in ["containers", "initContainers"] {
        let path = path.child(list);
        if now.list(list).len() != before.list(list).len() {
            let detail = format!("{list} may not be added or removed on resize");
            errors.push(FieldError::forbidden(&path, detail));
            continue;
        }
        for (at, (entry, known)) in pairs(now, before, list).enumerate() {
            if entry.text("name") != known.text("name") {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.push(FieldError::forbidden(&path.index(at).child("name"), detail));
            }
        }
    }
    errors.len() == count
}

/// What something got is not taken away altogether.
fn removed(now: &Value, before: &Value, what: [&str; 2], path: &Path, errors: &mut ErrorList) {
    for (field, what) in ["requests", "limits"].into_iter().zip(what) {
        let amounts = now.at("resources").at(field);
        let mut known = before.at("resources").entries(field);
        if known.any(|(name, _)| !amounts.has(name)) {
            let path = path.child("resources").child(field);
            errors.push(FieldError::forbidden(
                &path,
                format!("{what} cannot be removed"),
            ));
        }
    }
}

/// Whether two values say the same, wherever one says nothing and the other does not say that.
fn are_alike(a: &Value, b: &Value) -> bool {
    let mut changed = Vec::new();
    differences(a, b, "", &mut changed);
    changed.is_empty()
}

/// The same with the CPU and memory that it had, so that what else is different can be seen.
fn with_known(new: &Value, old: &Value) -> Value {
    let mut new = new.clone();
    let Some(fields) = new.as_object_mut() else {
        return new;
    };
    let Some(resources) = make_map(fields, "resources") else {
        return new;
    };
    for field in ["requests", "limits"] {
        let known = old.at("resources").at(field);
        if let Some(amounts) = make_map(resources, field) {
            for name in ["cpu", "memory"] {
                amounts.remove(name);
                if known.has(name) {
                    amounts.insert(name.to_owned(), known.at(name).clone());
                }
            }
        }
        if map_in(resources, field).is_some_and(|amounts| amounts.is_empty()) {
            resources.remove(field);
        }
    }
    if resources.is_empty() && !old.has("resources") {
        fields.remove("resources");
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: &Value) -> Object {
        Object::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"},
            "spec": {"terminationGracePeriodSeconds": 30, "restartPolicy": "Always", "dnsPolicy": "Default",
                "containers": containers}}))
        .unwrap()
    }

    fn container(name: &str, resources: &Value) -> Value {
        json!({"name": name, "image": "x", "imagePullPolicy": "Always", "terminationMessagePolicy": "File",
            "resources": resources})
    }

    #[test]
    fn only_amounts_of_cpu_and_memory_change() {
        let known = json!({"requests": {"cpu": "1", "ephemeral-storage": "1Gi"}});
        let old = pod(&json!([container("a", &known)]));
        let told = |resources: Value, more: &[Value]| -> Vec<String> {
            let mut list = vec![container("a", &resources)];
            list.extend_from_slice(more);
            let mut errors = ErrorList::new();
            resize(&pod(&list.into()), &old, &mut errors);
            errors.iter().map(ToString::to_string).collect()
        };
        let none: [&str; 0] = [];
        let more = json!({"requests": {"cpu": "2", "ephemeral-storage": "1Gi"}});
        assert_eq!(told(more.clone(), &[]), none);
        let memory = json!({"requests": {"cpu": "1", "memory": "1Gi", "ephemeral-storage": "1Gi"}});
        assert_eq!(told(memory, &[]), none);
        assert_eq!(
            told(
                json!({"requests": {"cpu": "2", "ephemeral-storage": "2Gi"}}),
                &[]
            ),
            ["spec: Forbidden: only cpu and memory resources are mutable"]
        );
        assert_eq!(
            told(
                json!({"requests": {"memory": "1", "ephemeral-storage": "1Gi"}}),
                &[]
            ),
            [
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
            ]
        );
        assert_eq!(
            told(more, &[container("b", &json!({}))]),
            ["spec.containers: Forbidden: containers may not be added or removed on resize"]
        );
        assert_eq!(
            told(json!({}), &[]),
            [
                "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
                "spec: Forbidden: only cpu and memory resources are mutable"
            ]
        );
    }
}
