//! Containers: image, ports, environment, probes, hooks, resources, security.

use std::collections::{BTreeMap, BTreeSet};

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::pod_volume::{field_ref, mounts, resource_field_ref};
use super::{
    amount, complain, complain_of, filled, items, not_negative, one_of, optional_one_of,
    port_number_of, port_of, require,
};
use crate::look::Look;

const ENV_FIELDS: &[&str] = &[
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
const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// Which of the three lists a container stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    App,
    Init,
    Ephemeral,
}

/// Validates one list of containers. `seen` has the names of all lists.
pub(crate) fn containers<'a>(
    spec: &'a Value,
    field: &str,
    role: Role,
    volumes: &BTreeMap<&str, &Value>,
    seen: &mut BTreeSet<&'a str>,
    path: &Path,
    errors: &mut ErrorList,
) {
    if role == Role::App && spec.list(field).is_empty() {
        errors.push(FieldError::required(&path.child(field), ""));
    }
    for (path, container) in items(spec, field, path) {
        let name = container.text("name");
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else {
            complain_of(names::is_dns1123_label(name), "name", &path, name, errors);
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        one(container, role, volumes, &path, errors);
    }
    host_ports(spec, field, path, errors);
}

fn one(
    container: &Value,
    role: Role,
    volumes: &BTreeMap<&str, &Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let image = container.text("image");
    if image.is_empty() {
        errors.push(FieldError::required(&path.child("image"), ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(
            &path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        ));
    }
    optional_one_of(
        container,
        "terminationMessagePolicy",
        &["FallbackToLogsOnError", "File"],
        path,
        errors,
    );
    one_of(container, "imagePullPolicy", PULL_POLICIES, path, errors);
    ports(container, path, errors);
    environment(container, path, errors);
    environment_from(container, path, errors);
    mounts(container, volumes, path, errors);
    if let Some((all, path)) = filled(container, "resources", path) {
        resources(all, &path, errors);
    }
    if let Some((context, path)) = filled(container, "securityContext", path) {
        security_context(context, &path, errors);
    }
    for (path, policy) in items(container, "resizePolicy", path) {
        one_of(policy, "resourceName", &["cpu", "memory"], &path, errors);
        one_of(
            policy,
            "restartPolicy",
            &["NotRequired", "RestartContainer"],
            &path,
            errors,
        );
    }
    restart_policy(container, role, path, errors);
    let sidecar = role == Role::Init && container.text("restartPolicy") == "Always";
    for field in [
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ] {
        if !container.has(field) || role == Role::App || sidecar {
            continue;
        }
        let detail = match role {
            Role::Ephemeral => format!("{} not allowed for ephemeral containers", capital(field)),
            _ => "may not be set for init containers without restartPolicy=Always".to_owned(),
        };
        errors.push(FieldError::forbidden(&path.child(field), detail));
    }
    if role == Role::Ephemeral {
        for field in ["ports", "resources"] {
            let value = container.at(field);
            let empty = value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty);
            if !value.is_null() && !empty {
                let detail = "field not allowed for ephemeral containers";
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
        }
    } else {
        if let Some((hooks, path)) = filled(container, "lifecycle", path) {
            lifecycle(hooks, &path, errors);
        }
        for field in ["livenessProbe", "readinessProbe", "startupProbe"] {
            if container.has(field) {
                probe(container.at(field), field, &path.child(field), errors);
            }
        }
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

fn restart_policy(container: &Value, role: Role, path: &Path, errors: &mut ErrorList) {
    let policy = container.text("restartPolicy");
    if policy.is_empty() {
        return;
    }
    let path = path.child("restartPolicy");
    if role == Role::Ephemeral {
        errors.push(FieldError::forbidden(
            &path,
            "not allowed for ephemeral containers",
        ));
    } else if !["Always", "Never", "OnFailure"].contains(&policy) {
        errors.push(FieldError::not_supported(
            &path,
            policy,
            &["Always", "Never", "OnFailure"],
        ));
    }
}

fn ports(container: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, entry) in items(container, "ports", path) {
        let name = entry.text("name");
        if !name.is_empty() {
            let messages = names::is_valid_port_name(name);
            if !messages.is_empty() {
                complain(messages, &path.child("name"), name, errors);
            } else if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        match entry.int("containerPort").unwrap_or(0) {
            0 => errors.push(FieldError::required(&path.child("containerPort"), "")),
            number => port_number_of(number, "containerPort", &path, errors),
        }
        match entry.int("hostPort").unwrap_or(0) {
            0 => {}
            number => port_number_of(number, "hostPort", &path, errors),
        }
        one_of(entry, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
    }
}

/// Two containers of a pod cannot have the same port of the host.
fn host_ports(spec: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    let host_network = spec.flag("hostNetwork");
    let mut taken = BTreeSet::new();
    for (container_at, container) in spec.list(field).iter().enumerate() {
        for (at, entry) in container.list("ports").iter().enumerate() {
            let number = entry.int("hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let path = path.child(field).index(container_at);
            let path = path.child("ports").index(at);
            let text = format!(
                "{}/{}/{number}",
                entry.text("protocol"),
                entry.text("hostIP")
            );
            if !taken.insert(text.clone()) {
                errors.push(FieldError::duplicate(&path.child("hostPort"), text));
            }
            let inside = entry.int("containerPort").unwrap_or(0);
            if host_network && inside != number {
                let detail = "must match `hostPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(
                    &path.child("containerPort"),
                    inside,
                    detail,
                ));
            }
        }
    }
}

fn environment(container: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, variable) in items(container, "env", path) {
        let name = variable.text("name");
        if name.is_empty() {
            errors.push(FieldError::required(&path.child("name"), ""));
        } else {
            complain_of(
                names::is_relaxed_env_var_name(name),
                "name",
                &path,
                name,
                errors,
            );
        }
        let from = variable.at("valueFrom");
        if from.is_null() {
            continue;
        }
        let path = path.child("valueFrom");
        let mut sources = 0;
        for source in [
            "fieldRef",
            "resourceFieldRef",
            "configMapKeyRef",
            "secretKeyRef",
            "fileKeyRef",
        ] {
            if !from.has(source) {
                continue;
            }
            sources += 1;
            let (reference, path) = (from.at(source), path.child(source));
            match source {
                "fieldRef" => field_ref(reference, ENV_FIELDS, &path, errors),
                "resourceFieldRef" => resource_field_ref(reference, false, &path, errors),
                "fileKeyRef" => {
                    for field in ["volumeName", "path", "key"] {
                        require(reference, field, &path, errors);
                    }
                }
                _ => {
                    require(reference, "name", &path, errors);
                    if require(reference, "key", &path, errors) {
                        let key = reference.text("key");
                        complain(
                            names::is_config_map_key(key),
                            &path.child("key"),
                            key,
                            errors,
                        );
                    }
                }
            }
        }
        if sources == 0 {
            errors.push(FieldError::invalid(
                &path,
                "",
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ));
        } else if !variable.text("value").is_empty() {
            errors.push(FieldError::invalid(
                &path,
                "",
                "may not be specified when `value` is not empty",
            ));
        } else if sources > 1 {
            errors.push(FieldError::invalid(
                &path,
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
}

fn environment_from(container: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, source) in items(container, "envFrom", path) {
        let prefix = source.text("prefix");
        if !prefix.is_empty() {
            complain(
                names::is_relaxed_env_var_name(prefix),
                &path.child("prefix"),
                prefix,
                errors,
            );
        }
        let mut sources = 0;
        for name in ["configMapRef", "secretRef"] {
            if source.has(name) {
                sources += 1;
                require(source.at(name), "name", &path.child(name), errors);
            }
        }
        if sources == 0 {
            errors.push(FieldError::invalid(
                &path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ));
        } else if sources > 1 {
            errors.push(FieldError::invalid(
                &path,
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
}

fn lifecycle(lifecycle: &Value, path: &Path, errors: &mut ErrorList) {
    for hook in ["postStart", "preStop"] {
        if lifecycle.has(hook) {
            handler(
                lifecycle.at(hook),
                &["exec", "httpGet", "tcpSocket", "sleep"],
                &path.child(hook),
                errors,
            );
        }
    }
}

fn probe(probe: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    handler(
        probe,
        &["exec", "httpGet", "tcpSocket", "grpc"],
        path,
        errors,
    );
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        not_negative(probe, field, path, errors);
    }
    let threshold = probe.int("successThreshold").unwrap_or(1);
    if name != "readinessProbe" && threshold != 1 {
        errors.push(FieldError::invalid(
            &path.child("successThreshold"),
            threshold,
            "must be 1",
        ));
    }
    if let Some(grace) = probe.int("terminationGracePeriodSeconds") {
        let path = path.child("terminationGracePeriodSeconds");
        if name == "readinessProbe" {
            errors.push(FieldError::invalid(
                &path,
                grace,
                "must not be set for readinessProbes",
            ));
        } else if grace <= 0 {
            errors.push(FieldError::invalid(&path, grace, "must be greater than 0"));
        }
    }
}

fn handler(handler: &Value, kinds: &[&str], path: &Path, errors: &mut ErrorList) {
    let mut found = 0;
    for kind in kinds.iter().filter(|kind| handler.has(kind)) {
        found += 1;
        let (action, path) = (handler.at(kind), path.child(kind));
        if found > 1 {
            errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 handler type",
            ));
            continue;
        }
        match *kind {
            "exec" => {
                if action.list("command").is_empty() {
                    errors.push(FieldError::required(&path.child("command"), ""));
                }
            }
            "httpGet" => {
                require(action, "path", &path, errors);
                port_of(action, "port", &path, errors);
                one_of(action, "scheme", &["HTTP", "HTTPS"], &path, errors);
                for (path, header) in items(action, "httpHeaders", &path) {
                    let name = header.text("name");
                    complain(
                        names::is_http_header_name(name),
                        &path.child("name"),
                        name,
                        errors,
                    );
                }
            }
            "tcpSocket" => port_of(action, "port", &path, errors),
            "grpc" => port_number_of(action.int("port").unwrap_or(0), "port", &path, errors),
            _ => {
                if action.int("seconds").unwrap_or(0) < 0 {
                    errors.push(FieldError::invalid(
                        &path,
                        action.int("seconds"),
                        "must be greater than 0",
                    ));
                }
            }
        }
    }
    if found == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

/// Requests and limits of a container.
pub(crate) fn resources(resources: &Value, path: &Path, errors: &mut ErrorList) {
    let limits = resources.at("limits");
    for field in ["limits", "requests"] {
        let Some((amounts, path)) = filled(resources, field, path) else {
            continue;
        };
        for (name, value) in amounts.as_object().into_iter().flatten() {
            let place = path.key(name);
            resource_name(name, &place, errors);
            let Some(quantity) = amount(value, &place, errors) else {
                continue;
            };
            if is_extended(name) && quantity.milli_value() % 1000 != 0 {
                errors.push(FieldError::invalid(
                    &place,
                    quantity.to_string(),
                    "must be an integer",
                ));
            }
            if field == "limits" {
                continue;
            }
            let exact = is_extended(name) || name.starts_with("hugepages-");
            let limit = schema::quantity::Quantity::from_json(limits.at(name)).ok();
            match limit {
                Some(limit) if exact && quantity != limit => {
                    let detail = format!("must be equal to {name} limit of {limit}");
                    errors.push(FieldError::invalid(&path, quantity.to_string(), detail));
                }
                Some(limit) if !exact && quantity > limit => {
                    let detail = format!("must be less than or equal to {name} limit of {limit}");
                    errors.push(FieldError::invalid(&path, quantity.to_string(), detail));
                }
                None if exact => {
                    let detail = "Limit must be set for non overcommitable resources";
                    errors.push(FieldError::required(&path, detail));
                }
                _ => {}
            }
        }
    }
}

fn is_extended(name: &str) -> bool {
    name.contains('/')
        && !name.starts_with("requests.")
        && !name
            .split('/')
            .next()
            .is_some_and(|d| d.ends_with("kubernetes.io"))
}

fn resource_name(name: &str, path: &Path, errors: &mut ErrorList) {
    let messages = names::is_qualified_name(name);
    if !messages.is_empty() {
        complain(messages, path, name, errors);
        return;
    }
    let standard =
        matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !name.contains('/') && !standard {
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource type or fully qualified",
        ));
        errors.push(FieldError::invalid(
            path,
            name,
            "must be a standard resource for containers",
        ));
    }
}

/// Security settings of a container.
fn security_context(context: &Value, path: &Path, errors: &mut ErrorList) {
    for field in ["runAsUser", "runAsGroup"] {
        if let Some(id) = context.int(field) {
            for message in names::is_valid_id(id) {
                errors.push(FieldError::invalid(&path.child(field), id, message));
            }
        }
    }
    optional_one_of(context, "procMount", &["Default", "Unmasked"], path, errors);
    for field in ["seccompProfile", "appArmorProfile"] {
        profile(context, field, path, errors);
    }
    if context.at("allowPrivilegeEscalation").as_bool() == Some(false) {
        if context.flag("privileged") {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
        if context
            .at("capabilities")
            .texts("add")
            .contains(&"CAP_SYS_ADMIN")
        {
            let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), detail));
        }
    }
}

/// The seccomp or AppArmor profile in a field.
pub(crate) fn profile(context: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    let profile = context.at(field);
    if profile.is_null() {
        return;
    }
    let path = &path.child(field);
    one_of(
        profile,
        "type",
        &["Localhost", "RuntimeDefault", "Unconfined"],
        path,
        errors,
    );
    let named = !profile.text("localhostProfile").is_empty();
    if profile.text("type") == "Localhost" && !named {
        errors.push(FieldError::required(
            &path.child("localhostProfile"),
            "must be set when seccomp type is Localhost",
        ));
    } else if profile.text("type") == "Localhost" {
        let name = profile.text("localhostProfile");
        let wrong = if name.starts_with('/') {
            Some("must be a relative path")
        } else if name.split('/').any(|part| part == "..") {
            Some("must not contain '..'")
        } else {
            None
        };
        if let Some(detail) = wrong {
            errors.push(FieldError::invalid(
                &path.child("localhostProfile"),
                name,
                detail,
            ));
        }
    } else if profile.text("type") != "Localhost" && named {
        errors.push(FieldError::invalid(
            &path.child("localhostProfile"),
            profile.text("localhostProfile"),
            "can only be set when seccomp type is Localhost",
        ));
    }
}
