//! Containers: names, images, ports, and what follows from the list that they stand in.

use std::collections::{BTreeMap, BTreeSet};

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::container_env::environment;
use super::handler::{handlers, no_handlers};
use super::mounts::mounts;
use super::{
    complain_of, container_resources, filled, items, one_of, pod_security, port_number_of, require,
};
use crate::look::Look;

const PULL_POLICIES: &[&str] = &["Always", "IfNotPresent", "Never"];

/// What the rules for containers need to know of their pod.
pub(crate) struct Surroundings<'a> {
    pub(crate) spec: &'a Value,
    /// Its volumes by name.
    pub(crate) volumes: BTreeMap<&'a str, &'a Value>,
    /// The names of its claims on devices.
    pub(crate) claims: BTreeSet<&'a str>,
}

impl Surroundings<'_> {
    /// Seconds that the pod has to end.
    fn grace(&self) -> Option<i64> {
        self.spec.int("terminationGracePeriodSeconds")
    }

    fn has_own_users(&self) -> bool {
        self.spec.at("hostUsers").as_bool() == Some(false)
    }
}

/// The three lists of containers.
pub(crate) fn containers(pod: &Surroundings<'_>, path: &Path, errors: &mut ErrorList) {
    let spec = pod.spec;
    if spec.list("containers").is_empty() {
        errors.push(FieldError::required(&path.child("containers"), ""));
    }
    let mut apps: BTreeSet<&str> = BTreeSet::new();
    for (path, container) in items(spec, "containers", path) {
        one(container, pod, &path, errors);
        unique(container, &mut apps, &path, errors);
        handlers(container, pod.grace(), &path, errors);
        restart_rules(container, &path, errors);
    }
    host_ports(spec.list("containers"), "containers", path, errors);
    let mut all = apps;
    for (place, container) in items(spec, "initContainers", path) {
        one(container, pod, &place, errors);
        restart_rules(container, &place, errors);
        if !container.text("name").is_empty() {
            unique(container, &mut all, &place, errors);
        }
        // They run one after the other, and Kubernetes names the first of them whichever it is.
        let alone = std::slice::from_ref(container);
        host_ports(alone, "initContainers", path, errors);
        if container.text("restartPolicy") == "Always" {
            handlers(container, pod.grace(), &place, errors);
        } else {
            no_handlers(container, &place, errors);
            no_restarts_for_resizes(container, &place, errors);
        }
    }
    let others = all.clone();
    for (path, container) in items(spec, "ephemeralContainers", path) {
        one(container, pod, &path, errors);
        image_is_trimmed(container, &path, errors);
        unique(container, &mut all, &path, errors);
        let target = container.text("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            let path = path.child("targetContainerName");
            errors.push(FieldError::not_found(&path, target));
        }
        for_a_look_only(container, &path, errors);
    }
}

/// What holds for every container.
fn one(container: &Value, pod: &Surroundings<'_>, path: &Path, errors: &mut ErrorList) {
    if require(container, "name", path, errors) {
        let name = container.text("name");
        complain_of(names::is_dns1123_label(name), "name", path, name, errors);
    }
    require(container, "image", path, errors);
    let policies = ["File", "FallbackToLogsOnError"];
    one_of(
        container,
        "terminationMessagePolicy",
        &policies,
        path,
        errors,
    );
    ports(container, path, errors);
    environment(container, path, errors);
    mounts(container, &pod.volumes, path, errors);
    one_of(container, "imagePullPolicy", PULL_POLICIES, path, errors);
    if let Some((resources, path)) = filled(container, "resources", path) {
        container_resources::of_container(resources, &pod.claims, &path, errors);
    }
    resize_policies(container, pod, path, errors);
    if let Some((context, path)) = filled(container, "securityContext", path) {
        pod_security::of_container(context, pod.has_own_users(), &path, errors);
    }
}

fn unique<'a>(
    container: &'a Value,
    seen: &mut BTreeSet<&'a str>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let name = container.text("name");
    if !seen.insert(name) {
        errors.push(FieldError::duplicate(&path.child("name"), name));
    }
}

/// Pods name images exactly; templates may hold what others replace.
pub(crate) fn image_is_trimmed(container: &Value, path: &Path, errors: &mut ErrorList) {
    let image = container.text("image");
    if image.trim() != image {
        let detail = "must not have leading or trailing whitespace";
        errors.push(FieldError::invalid(&path.child("image"), image, detail));
    }
}

/// When a container starts again, beyond what its pod says.
fn restart_rules(container: &Value, path: &Path, errors: &mut ErrorList) {
    const POLICIES: &[&str] = &["Always", "Never", "OnFailure"];
    let rules = container.list("restartPolicyRules");
    let place = path.child("restartPolicy");
    if container.has("restartPolicy") {
        let policy = container.text("restartPolicy");
        if !POLICIES.contains(&policy) {
            errors.push(FieldError::not_supported(&place, policy, POLICIES));
        }
    } else if !rules.is_empty() {
        let detail = "must specify restartPolicy when restart rules are used";
        errors.push(FieldError::required(&place, detail));
    }
    if rules.len() > 20 {
        let path = path.child("restartPolicyRules");
        errors.push(FieldError::too_many(&path, rules.len(), 20));
    }
    for (path, rule) in items(container, "restartPolicyRules", path) {
        restart_rule(rule, &path, errors);
    }
}

fn restart_rule(rule: &Value, path: &Path, errors: &mut ErrorList) {
    const ACTIONS: &[&str] = &["Restart", "RestartAllContainers"];
    const OPERATORS: &[&str] = &["In", "NotIn"];
    let action = rule.text("action");
    if !ACTIONS.contains(&action) {
        let path = path.child("action");
        errors.push(FieldError::not_supported(&path, action, ACTIONS));
    }
    let (codes, path) = (rule.at("exitCodes"), path.child("exitCodes"));
    if codes.is_null() {
        errors.push(FieldError::required(&path, "must be specified"));
        return;
    }
    let operator = codes.text("operator");
    if !OPERATORS.contains(&operator) {
        let path = path.child("operator");
        errors.push(FieldError::not_supported(&path, operator, OPERATORS));
    }
    let values = codes.list("values").len();
    if values > 255 {
        errors.push(FieldError::too_many(&path.child("values"), values, 255));
    }
}

fn ports(container: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, entry) in items(container, "ports", path) {
        let name = entry.text("name");
        if !name.is_empty() {
            let messages = names::is_valid_port_name(name);
            if !messages.is_empty() {
                complain_of(messages, "name", &path, name, errors);
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

/// Containers that run side by side cannot have the same port of the host.
fn host_ports(containers: &[Value], field: &str, path: &Path, errors: &mut ErrorList) {
    let mut taken = BTreeSet::new();
    for (container_at, container) in containers.iter().enumerate() {
        for (at, entry) in container.list("ports").iter().enumerate() {
            let number = entry.int("hostPort").unwrap_or(0);
            let key = (entry.text("protocol"), entry.text("hostIP"), number);
            if number != 0 && !taken.insert(key) {
                let path = path.child(field).index(container_at);
                let path = path.child("ports").index(at).child("hostPort");
                let text = format!("{}/{}/{number}", key.0, key.1);
                errors.push(FieldError::duplicate(&path, text));
            }
        }
    }
}

/// Of a pod in the network of its node, ports are those of the node. `is_pod`: not a template, where they may be left to
/// the pods.
pub(crate) fn ports_of_host(spec: &Value, is_pod: bool, path: &Path, errors: &mut ErrorList) {
    if !spec.flag("hostNetwork") {
        return;
    }
    for (path, container) in items(spec, "containers", path) {
        for (path, entry) in items(container, "ports", &path) {
            let number = |field: &str| entry.int(field).unwrap_or(0);
            let (outside, inside) = (number("hostPort"), number("containerPort"));
            if (is_pod || outside != 0) && outside != inside {
                let detail = "must match `containerPort` when `hostNetwork` is true";
                let path = path.child("hostPort");
                errors.push(FieldError::invalid(&path, outside, detail));
            }
        }
    }
}

/// Whether other amounts need a restart. Kubernetes complains of the list.
fn resize_policies(container: &Value, pod: &Surroundings<'_>, path: &Path, errors: &mut ErrorList) {
    const RESOURCES: &[&str] = &["cpu", "memory"];
    const POLICIES: &[&str] = &["NotRequired", "RestartContainer"];
    let list = container.list("resizePolicy");
    if list.is_empty() {
        return;
    }
    let path = path.child("resizePolicy");
    let mut seen = BTreeSet::new();
    for (at, entry) in list.iter().enumerate() {
        let (resource, policy) = (entry.text("resourceName"), entry.text("restartPolicy"));
        if !seen.insert(resource) {
            errors.push(FieldError::duplicate(&path.index(at), resource));
        }
        for (text, known) in [(resource, RESOURCES), (policy, POLICIES)] {
            if text.is_empty() {
                errors.push(FieldError::required(&path, ""));
            } else if !known.contains(&text) {
                errors.push(FieldError::not_supported(&path, text, known));
            }
        }
        if pod.spec.text("restartPolicy") == "Never" && policy != "NotRequired" {
            let detail = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(&path, policy, detail));
        }
    }
}

/// A container that runs to its end is not run again for another amount.
fn no_restarts_for_resizes(container: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, entry) in items(container, "resizePolicy", path) {
        let policy = entry.text("restartPolicy");
        if policy == "RestartContainer" {
            let path = path.child("restartPolicy");
            let detail = "must not be set to 'RestartContainer' for non-sidecar initContainers";
            errors.push(FieldError::invalid(&path, policy, detail));
        }
    }
}

/// A container that somebody puts into a running pod to look at it does none of the work of the pod.
fn for_a_look_only(container: &Value, path: &Path, errors: &mut ErrorList) {
    const FIELDS: &[&str] = &[
        "ports",
        "resources",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle",
    ];
    let detail = "cannot be set for an Ephemeral Container";
    for field in FIELDS {
        let value = container.at(field);
        let is_said = match value {
            Value::Null => false,
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) if *field == "resources" => !map.is_empty(),
            _ => true,
        };
        if is_said {
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
    for (path, mount) in items(container, "volumeMounts", path) {
        for field in ["subPath", "subPathExpr"] {
            if !mount.text(field).is_empty() {
                errors.push(FieldError::forbidden(&path.child(field), detail));
            }
        }
    }
}
