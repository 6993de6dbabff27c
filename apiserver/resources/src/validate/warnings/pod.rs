//! Warnings about pods and what they are made from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schema::Object;
use serde_json::Value;

use super::{claim_spec, fraction, gone_plugins, of_node_term, old_node_label};
use crate::look::{Look, spec};

/// A pod.
pub(crate) fn pod(object: &Object) -> Vec<String> {
    of_pod(object.at("metadata"), spec(object), "")
}

/// A stored template.
pub(crate) fn pod_template(object: &Object) -> Vec<String> {
    template(object.at("template"), "template")
}

/// A workload: its template, and what else it makes.
pub(crate) fn workload(object: &Object) -> Vec<String> {
    let spec = spec(object);
    match object.kind() {
        "CronJob" => job(spec.at("jobTemplate").at("spec"), "spec.jobTemplate.spec"),
        "Job" => job(spec, "spec"),
        "StatefulSet" => {
            let mut warnings = template(spec.at("template"), "spec.template");
            for (at, claim) in spec.list("volumeClaimTemplates").iter().enumerate() {
                let path = format!("spec.volumeClaimTemplates[{at}]");
                warnings.extend(claim_spec(claim.at("spec"), &path));
            }
            if spec
                .int("revisionHistoryLimit")
                .is_some_and(|limit| limit < 0)
            {
                warnings.push("spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended".to_owned());
            }
            warnings
        }
        _ => template(spec.at("template"), "spec.template"),
    }
}

fn job(spec: &Value, path: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    if spec.text("completionMode") == "Indexed"
        && spec.int("completions").unwrap_or(0) > 100_000
        && spec.int("parallelism").unwrap_or(0) > 10_000
    {
        warnings.push("In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail".to_owned());
    }
    warnings.extend(template(spec.at("template"), &format!("{path}.template")));
    warnings
}

fn template(template: &Value, path: &str) -> Vec<String> {
    of_pod(
        template.at("metadata"),
        template.at("spec"),
        &format!("{path}."),
    )
}

fn of_pod(metadata: &Value, spec: &Value, prefix: &str) -> Vec<String> {
    let path = format!("{prefix}spec");
    let mut warnings = Vec::new();
    selection(spec, &path, &mut warnings);
    annotations(metadata, prefix, &mut warnings);
    volumes(spec, &path, &mut warnings);
    names(spec, &path, &mut warnings);
    let overhead = spec.at("overhead");
    for resource in ["memory", "ephemeral-storage"] {
        let path = format_args!("{path}.overhead");
        warnings.extend(fraction(overhead, resource, path));
    }
    replaced_by_fields(metadata, spec, prefix, &mut warnings);
    for (container, place) in containers(spec, &path) {
        amounts(container, place, &mut warnings);
        duplicate_env(container, place, &mut warnings);
    }
    ports(spec, &path, &mut warnings);
    if spec
        .int("terminationGracePeriodSeconds")
        .is_some_and(|seconds| seconds < 0)
    {
        warnings.push(format!("{path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    null_selectors(spec, &path, &mut warnings);
    warnings
}

/// Where a container stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    list: &'static str,
    at: usize,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}[{}]", self.path, self.list, self.at)
    }
}

fn containers<'a>(spec: &'a Value, path: &'a str) -> impl Iterator<Item = (&'a Value, Place<'a>)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(move |list| {
        let containers = spec.list(list).iter().enumerate();
        containers.map(move |(at, container)| (container, Place { path, list, at }))
    })
}

/// What chooses nodes by labels that others took the place of.
fn selection(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for (key, _) in spec.entries("nodeSelector") {
        if let Some(text) = old_node_label(key) {
            warnings.push(format!("{path}.nodeSelector[{key}]: {text}"));
        }
    }
    let affinity = spec.at("affinity").at("nodeAffinity");
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = affinity.at(required).list("nodeSelectorTerms").iter();
    for (at, term) in terms.enumerate() {
        let path = format_args!("{path}.affinity.nodeAffinity.{required}.nodeSelectorTerms[{at}]");
        warnings.extend(of_node_term(term, path));
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (at, term) in affinity.list(preferred).iter().enumerate() {
        let path = format_args!("{path}.affinity.nodeAffinity.{preferred}[{at}].preference");
        warnings.extend(of_node_term(term.at("preference"), path));
    }
    for (at, constraint) in spec.list("topologySpreadConstraints").iter().enumerate() {
        let path = format!("{path}.topologySpreadConstraints[{at}]");
        let key = constraint.text("topologyKey");
        if let Some(text) = old_node_label(key) {
            warnings.push(format!("{path}.topologyKey: {key} is {text}"));
        }
        if !constraint.has("labelSelector") {
            warnings.push(null_selector(&path));
        }
    }
}

fn null_selector(path: &str) -> String {
    format!("{path}.labelSelector: a null labelSelector results in matching no pod")
}

/// Annotations that do nothing any more.
const GONE_ANNOTATIONS: &[(&str, &str)] = &[
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        r#"non-functional in v1.16+; use the "priorityClassName" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        r#"non-functional in v1.11+; use the "sysctls" field instead"#,
    ),
];

fn annotations(metadata: &Value, prefix: &str, warnings: &mut Vec<String>) {
    let annotations = metadata.at("annotations");
    for (key, text) in GONE_ANNOTATIONS {
        if annotations.has(key) {
            warnings.push(format!("{prefix}metadata.annotations[{key}]: {text}"));
        }
    }
}

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Security profiles in annotations, where the fields are not set.
fn replaced_by_fields(metadata: &Value, spec: &Value, prefix: &str, warnings: &mut Vec<String>) {
    let annotations = metadata.at("annotations");
    if annotations
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        return;
    }
    let mut say = |key: &str, text: &str| {
        if annotations.has(key) {
            warnings.push(format!("{prefix}metadata.annotations[{key}]: {text}"));
        }
    };
    let seccomp = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;
    let app_armor = r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;
    let of_pod = spec.at("securityContext");
    if !of_pod.has("seccompProfile") {
        say(SECCOMP_POD, seccomp);
    }
    for (container, _) in containers(spec, "") {
        let (name, context) = (container.text("name"), container.at("securityContext"));
        if !context.has("seccompProfile") {
            say(&format!("{SECCOMP_CONTAINER}{name}"), seccomp);
        }
        if !of_pod.has("appArmorProfile") && !context.has("appArmorProfile") {
            say(&format!("{APP_ARMOR}{name}"), app_armor);
        }
    }
}

fn volumes(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    let volumes = spec.list("volumes");
    for (at, volume) in volumes.iter().enumerate() {
        let path = format_args!("{path}.volumes[{at}]");
        warnings.extend(gone_plugins(volume, path));
        let template = volume.at("ephemeral").at("volumeClaimTemplate");
        let path = format_args!("{path}.ephemeral.volumeClaimTemplate.spec");
        warnings.extend(claim_spec(template.at("spec"), path));
    }
    let tokens: BTreeSet<&str> = volumes
        .iter()
        .flat_map(|volume| volume.at("projected").list("sources"))
        .filter(|source| source.has("serviceAccountToken"))
        .map(|source| source.at("serviceAccountToken").text("path"))
        .collect();
    if tokens.is_empty() {
        return;
    }
    for (at, volume) in volumes.iter().enumerate() {
        let path = format_args!("{path}.volumes[{at}].projected.sources");
        for source in volume.at("projected").list("sources") {
            let hidden = |at: fmt::Arguments<'_>, file: &str| {
                tokens.contains(file).then(|| {
                    format!("{path}.{at}: has duplicated path with ServiceAccountToken {file:?}")
                })
            };
            for (kind, shown) in [
                ("configMap", "configMap"),
                ("secret", "secrets"),
                ("downwardAPI", "downwardAPI"),
            ] {
                let items = source.at(kind).list("items").iter().enumerate();
                warnings.extend(items.filter_map(|(at, item)| {
                    hidden(format_args!("{shown}[{at}]"), item.text("path"))
                }));
            }
            if source.has("clusterTrustBundle") {
                let file = source.at("clusterTrustBundle").text("path");
                warnings.extend(hidden(format_args!("ClusterTrustBundle"), file));
            }
        }
    }
}

/// Names that stand twice, or are empty.
fn names(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (at, alias) in spec.list("hostAliases").iter().enumerate() {
        let address = alias.text("ip");
        if !seen.insert(address) {
            warnings.push(format!(
                "{path}.hostAliases[{at}].ip: duplicate ip {address:?}"
            ));
        }
    }
    let secrets = spec.list("imagePullSecrets");
    let mut seen = BTreeSet::new();
    for (at, secret) in secrets.iter().enumerate() {
        let name = secret.text("name");
        if !seen.insert(name) {
            warnings.push(format!(
                "{path}.imagePullSecrets[{at}].name: duplicate name {name:?}"
            ));
        }
    }
    for (at, secret) in secrets.iter().enumerate() {
        if secret.text("name").is_empty() {
            warnings.push(format!(
                "{path}.imagePullSecrets[{at}].name: invalid empty name \"\""
            ));
        }
    }
}

fn amounts(container: &Value, place: Place<'_>, warnings: &mut Vec<String>) {
    let resources = container.at("resources");
    for resource in ["memory", "ephemeral-storage"] {
        for list in ["limits", "requests"] {
            let path = format_args!("{place}.resources.{list}");
            warnings.extend(fraction(resources.at(list), resource, path));
        }
    }
}

fn duplicate_env(container: &Value, place: Place<'_>, warnings: &mut Vec<String>) {
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for (at, variable) in container.list("env").iter().enumerate() {
        let name = variable.text("name");
        if !seen.insert(name) && !extends_earlier(variable) {
            warnings.push(format!(
                "{place}.env[{at}]: hides previous definition of \"{name}\", which may be dropped when using apply"
            ));
        }
    }
}

/// Whether the value of a variable refers to the earlier one of its name: then it extends that.
fn extends_earlier(variable: &Value) -> bool {
    let (name, value) = (variable.text("name"), variable.text("value"));
    let earlier = format!("$({name})");
    value.contains(&earlier) && value != earlier && !variable.has("valueFrom")
}

/// Where a port stands (its container, and its place there), its hostIP and its hostPort.
type Taken<'a> = (Place<'a>, usize, &'a str, i64);

/// Ports of all containers of a pod, which share its address.
fn ports(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    let mut all: BTreeMap<(i64, &str), Vec<Taken<'_>>> = BTreeMap::new();
    for (container, place) in containers(spec, path) {
        for (at, port) in container.list("ports").iter().enumerate() {
            let number = |field| port.int(field).unwrap_or(0);
            let (address, host_port) = (port.text("hostIP"), number("hostPort"));
            let protocol = port.text("protocol");
            if !address.is_empty() && host_port == 0 {
                // Kubernetes prints the Go struct.
                warnings.push(format!(
                    "{place}.ports[{at}]: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{} Protocol:{protocol} HostIP:{address}}}",
                    port.text("name"),
                    number("containerPort"),
                ));
            }
            let others = all.entry((number("containerPort"), protocol)).or_default();
            for (other, other_at, other_address, other_port) in others.iter() {
                let what = if (address, host_port) == (*other_address, *other_port) {
                    "duplicate"
                } else if host_port == 0 || *other_port == 0 {
                    "overlapping"
                } else if host_port == *other_port && address.is_empty() != other_address.is_empty()
                {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                warnings.push(format!(
                    "{place}.ports[{at}]: {what} port definition with {other}.ports[{other_at}]"
                ));
            }
            others.push((place, at, address, host_port));
        }
    }
}

/// Affinity to no pod at all.
fn null_selectors(spec: &Value, path: &str, warnings: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let affinity = spec.at("affinity").at(kind);
        if affinity.is_null() {
            continue;
        }
        let path = format!("{path}.affinity.{kind}");
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        for (at, term) in affinity.list(required).iter().enumerate() {
            if !term.has("labelSelector") {
                warnings.push(null_selector(&format!("{path}.{required}[{at}]")));
            }
        }
        let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
        for (at, term) in affinity.list(preferred).iter().enumerate() {
            if !term.at("podAffinityTerm").has("labelSelector") {
                let path = format!("{path}.{preferred}[{at}].podAffinityTerm");
                warnings.push(null_selector(&path));
            }
        }
    }
}
