//! The environment of a container, and references to fields of its pod.

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::quantity::Quantity;
use serde_json::Value;

use super::pod_volume::no_backsteps;
use super::{complain, complain_of, items, require};
use crate::look::Look;

/// Fields of a pod that a variable can have the value of.
const OF_VARIABLES: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields of a pod that a file can hold.
const OF_FILES: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];

/// Fields of a pod that one of the two lists leaves out, but that there are.
const OTHERS: &[&str] = &[
    "spec.host",
    "spec.restartPolicy",
    "spec.schedulerName",
    "status.phase",
];

/// Where a reference to a field of the pod stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Variable,
    File,
}

/// The variables of a container.
pub(crate) fn environment(container: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, variable) in items(container, "env", path) {
        if require(variable, "name", &path, errors) {
            let name = variable.text("name");
            let messages = names::is_relaxed_env_var_name(name);
            complain_of(messages, "name", &path, name, errors);
        }
        if variable.has("valueFrom") {
            value_from(variable, &path.child("valueFrom"), errors);
        }
    }
    for (place, source) in items(container, "envFrom", path) {
        source_of_many(source, &place, &path.child("envFrom"), errors);
    }
}

fn value_from(variable: &Value, path: &Path, errors: &mut ErrorList) {
    let from = variable.at("valueFrom");
    let given = [
        "fieldRef",
        "resourceFieldRef",
        "configMapKeyRef",
        "secretKeyRef",
        "fileKeyRef",
    ];
    let mut sources = 0;
    for name in given.into_iter().filter(|name| from.has(name)) {
        sources += 1;
        let (reference, path) = (from.at(name), path.child(name));
        match name {
            "fieldRef" => field_ref(reference, Use::Variable, &path, errors),
            "resourceFieldRef" => resource_field_ref(reference, Use::Variable, &path, errors),
            "fileKeyRef" => file_key(reference, &path, errors),
            _ => key_of_object(reference, &path, errors),
        }
    }
    let detail = match sources {
        0 => {
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        }
        _ if !variable.text("value").is_empty() => "may not be specified when `value` is not empty",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(path, "", detail));
}

/// A key of a config map or secret.
fn key_of_object(reference: &Value, path: &Path, errors: &mut ErrorList) {
    let name = reference.text("name");
    complain_of(
        names::is_dns1123_subdomain(name),
        "name",
        path,
        name,
        errors,
    );
    if require(reference, "key", path, errors) {
        let key = reference.text("key");
        complain_of(names::is_config_map_key(key), "key", path, key, errors);
    }
}

/// A key of a file in a volume.
fn file_key(reference: &Value, path: &Path, errors: &mut ErrorList) {
    if require(reference, "key", path, errors) {
        let key = reference.text("key");
        complain_of(
            names::is_relaxed_env_var_name(key),
            "key",
            path,
            key,
            errors,
        );
    }
    if require(reference, "volumeName", path, errors) {
        let name = reference.text("volumeName");
        complain_of(
            names::is_dns1123_label(name),
            "volumeName",
            path,
            name,
            errors,
        );
    }
    if require(reference, "path", path, errors) {
        no_backsteps(reference.text("path"), &path.child("path"), errors);
    }
}

/// Files of variables are in volumes that go with the pod.
pub(crate) fn volumes_of_files(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (path, container) in items(spec, list, path) {
            for (path, variable) in items(container, "env", &path) {
                let file = variable.at("valueFrom").at("fileKeyRef");
                if file.is_null() {
                    continue;
                }
                let name = file.text("volumeName");
                let path = path
                    .child("valueFrom")
                    .child("fileKeyRef")
                    .child("volumeName");
                let volumes = spec.list("volumes");
                match volumes.iter().find(|volume| volume.text("name") == name) {
                    None => errors.push(FieldError::not_found(&path, name)),
                    Some(volume) if !volume.has("emptyDir") => {
                        let detail = "referenced volume must be of type emptyDir";
                        errors.push(FieldError::invalid(&path, name, detail));
                    }
                    Some(_) => {}
                }
            }
        }
    }
}

/// Variables out of a config map or secret. Kubernetes says what is wrong with their number of the list.
fn source_of_many(source: &Value, path: &Path, list: &Path, errors: &mut ErrorList) {
    let prefix = source.text("prefix");
    if !prefix.is_empty() {
        let messages = names::is_relaxed_env_var_name(prefix);
        complain_of(messages, "prefix", path, prefix, errors);
    }
    let mut sources = 0;
    for kind in ["configMapRef", "secretRef"] {
        if !source.has(kind) {
            continue;
        }
        sources += 1;
        let (reference, path) = (source.at(kind), path.child(kind));
        if require(reference, "name", &path, errors) {
            let name = reference.text("name");
            let messages = crate::meta::subdomain(name, true);
            complain_of(messages, "name", &path, name, errors);
        }
    }
    let detail = match sources {
        0 => "must specify one of: `configMapRef` or `secretRef`",
        1 => return,
        _ => "may not have more than one field specified at a time",
    };
    errors.push(FieldError::invalid(list, "", detail));
}

/// A reference to a field of the pod.
pub(crate) fn field_ref(reference: &Value, place: Use, path: &Path, errors: &mut ErrorList) {
    let is_said = require(reference, "apiVersion", path, errors)
        && require(reference, "fieldPath", path, errors);
    if !is_said {
        return;
    }
    let (version, text) = (reference.text("apiVersion"), reference.text("fieldPath"));
    let subscript = text
        .strip_suffix("']")
        .and_then(|text| text.split_once("['"))
        .filter(|(field, _)| !field.is_empty());
    let problem = match subscript {
        _ if version != "v1" => format!("unsupported pod version: {version}"),
        Some(("metadata.annotations", key)) => {
            let key = key.to_lowercase();
            return complain(names::is_qualified_name(&key), path, &key, errors);
        }
        Some(("metadata.labels", key)) => {
            return complain(names::is_qualified_name(key), path, key, errors);
        }
        Some(_) => format!("field label does not support subscript: {text}"),
        None => {
            let supported = match place {
                Use::Variable => OF_VARIABLES,
                Use::File => OF_FILES,
            };
            // An older name of the same field.
            let field = if text == "spec.host" {
                "spec.nodeName"
            } else {
                text
            };
            if supported.contains(&field) {
                return;
            }
            let is_field = [OF_VARIABLES, OF_FILES, OTHERS]
                .iter()
                .any(|list| list.contains(&text));
            if is_field {
                let path = path.child("fieldPath");
                errors.push(FieldError::not_supported(&path, field, supported));
                return;
            }
            format!("field label not supported: {text}")
        }
    };
    let detail = format!("error converting fieldPath: {problem}");
    errors.push(FieldError::invalid(&path.child("fieldPath"), text, detail));
}

/// A reference to a resource of a container.
pub(crate) fn resource_field_ref(
    reference: &Value,
    place: Use,
    path: &Path,
    errors: &mut ErrorList,
) {
    const KNOWN: &[&str] = &[
        "limits.cpu",
        "limits.ephemeral-storage",
        "limits.memory",
        "requests.cpu",
        "requests.ephemeral-storage",
        "requests.memory",
    ];
    let resource = reference.text("resource");
    if place == Use::File && reference.text("containerName").is_empty() {
        errors.push(FieldError::required(&path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(FieldError::required(&path.child("resource"), ""));
    } else if !KNOWN.contains(&resource) && !is_of_huge_pages(resource) {
        let path = path.child("resource");
        errors.push(FieldError::not_supported(&path, resource, KNOWN));
    }
    divisor(resource, reference.at("divisor"), path, errors);
}

fn is_of_huge_pages(resource: &str) -> bool {
    ["requests.hugepages-", "limits.hugepages-"]
        .iter()
        .any(|prefix| resource.starts_with(prefix))
}

/// The unit of the value.
fn divisor(resource: &str, divisor: &Value, path: &Path, errors: &mut ErrorList) {
    const BYTES: &[&str] = &[
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let Some(unit) = Quantity::from_json(divisor)
        .ok()
        .filter(|unit| !unit.is_zero())
    else {
        return;
    };
    let (units, shown, what) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"][..], "1m and 1".to_owned(), "cpu"),
        "limits.memory" | "requests.memory" => (BYTES, BYTES.join(", "), "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (BYTES, BYTES.join(", "), "local ephemeral storage")
        }
        _ if is_of_huge_pages(resource) => (BYTES, BYTES.join(", "), "hugepages"),
        _ => return,
    };
    if !units.contains(&unit.to_string().as_str()) {
        let detail =
            format!("only divisor's values {shown} are supported with the {what} resource");
        errors.push(FieldError::invalid(
            &path.child("divisor"),
            resource,
            detail,
        ));
    }
}
