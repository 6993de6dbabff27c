//! Pods and the pod templates of workloads.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::container::{self, Surroundings, containers, ports_of_host};
use super::pod_volume::volumes;
use super::{
    affinity, complain, complain_of, container_env, container_resources, filled, items, one_of,
    optional_one_of, pod_annotations, pod_security, require,
};
use crate::look::{Look, spec};
use crate::meta;

const RESTART_POLICIES: &[&str] = &["Always", "OnFailure", "Never"];
const DNS_POLICIES: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
/// Bytes of a host name.
const HOSTNAME_BYTES_MAX: usize = 64;
/// Domains that names are looked up in, and their characters together.
const SEARCHES_MAX: usize = 32;
const SEARCHES_BYTES_MAX: usize = 2048;

/// A pod, new or updated.
pub(crate) fn pod(object: &Object, errors: &mut ErrorList) {
    whole_pod(object, errors);
    // Objects that come in for creation have no version yet.
    if !object.resource_version().is_empty() {
        return;
    }
    let (spec, path) = (spec(object), Path::new("spec"));
    if !spec.list("ephemeralContainers").is_empty() {
        let path = path.child("ephemeralContainers");
        errors.push(FieldError::forbidden(&path, "cannot be set on create"));
    }
    if !spec.list("schedulingGates").is_empty() && !spec.text("nodeName").is_empty() {
        let detail = "cannot be set until all schedulingGates have been cleared";
        errors.push(FieldError::forbidden(&path.child("nodeName"), detail));
    }
    pod_annotations::agreement(object.at("metadata"), spec, &path, errors);
}

/// What holds for a pod at any time.
pub(crate) fn whole_pod(object: &Object, errors: &mut ErrorList) {
    let (metadata, spec, path) = (object.at("metadata"), spec(object), Path::new("spec"));
    pod_annotations::annotations(metadata, spec, &Path::new("metadata"), errors);
    pod_spec(spec, Some(object), &path, errors);
    if spec.text("serviceAccountName").is_empty() {
        tokens_of_nobody(spec, &path, errors);
    }
    for list in ["containers", "initContainers"] {
        for (at, entry) in spec.list(list).iter().enumerate() {
            container::image_is_trimmed(entry, &path.child(list).index(at), errors);
        }
    }
}

fn tokens_of_nobody(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, volume) in items(spec, "volumes", path) {
        let path = path.child("projected");
        for (path, source) in items(volume.at("projected"), "sources", &path) {
            if source.has("serviceAccountToken") {
                let path = path.child("serviceAccountToken");
                let detail = "must not be specified when serviceAccountName is not set";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
    }
}

/// A pod template: `{metadata, spec}`.
pub(crate) fn template(template: &Value, path: &Path, errors: &mut ErrorList) {
    let (metadata, spec) = (template.at("metadata"), template.at("spec"));
    // Kubernetes leaves the word metadata out.
    meta::validate_template(metadata, path, errors);
    pod_annotations::annotations(metadata, spec, path, errors);
    let path = path.child("spec");
    pod_spec(spec, None, &path, errors);
    pod_annotations::agreement(metadata, spec, &path, errors);
    if !spec.list("ephemeralContainers").is_empty() {
        let path = path.child("ephemeralContainers");
        let detail = "ephemeral containers not allowed in pod template";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

/// The spec of a pod or of a template, in the order of Kubernetes. `pod`: whose spec it is, None for a template.
pub(crate) fn pod_spec(spec: &Value, pod: Option<&Object>, path: &Path, errors: &mut ErrorList) {
    let surroundings = Surroundings {
        spec,
        volumes: volumes(spec, pod, path, errors),
        claims: claims(spec, pod, path, errors),
    };
    containers(&surroundings, path, errors);
    container_resources::of_pod(spec, path, errors);
    ports_of_host(spec, pod.is_some(), path, errors);
    one_of(spec, "restartPolicy", RESTART_POLICIES, path, errors);
    one_of(spec, "dnsPolicy", DNS_POLICIES, path, errors);
    if let Some((selector, path)) = filled(spec, "nodeSelector", path) {
        meta::labels(selector, &path, errors);
    }
    pod_security::of_pod(spec, path, errors);
    if let Some((affinity, path)) = filled(spec, "affinity", path) {
        affinity::affinity(affinity, &path, errors);
    }
    dns(spec, path, errors);
    gates(spec, path, errors);
    affinity::topology_spread(spec, path, errors);
    pod_security::own_users(spec, path, errors);
    hostname_override(spec, path, errors);
    names_of(spec, &OWN_NAMES[..2], path, errors);
    deadline(spec, path, errors);
    names_of(spec, &OWN_NAMES[2..4], path, errors);
    affinity::tolerations(spec, path, errors);
    host_aliases(spec, path, errors);
    names_of(spec, &OWN_NAMES[4..], path, errors);
    optional_one_of(
        spec,
        "preemptionPolicy",
        &["PreemptLowerPriority", "Never"],
        path,
        errors,
    );
    if let Some((overhead, path)) = filled(spec, "overhead", path) {
        container_resources::overhead(overhead, &path, errors);
    }
    pod_security::operating_system(spec, path, errors);
    container_env::volumes_of_files(spec, path, errors);
}

/// Claims on devices: their names.
fn claims<'a>(
    spec: &'a Value,
    pod: Option<&Object>,
    path: &Path,
    errors: &mut ErrorList,
) -> BTreeSet<&'a str> {
    let is_static = pod.is_some_and(|pod| pod.annotation(pod_annotations::MIRROR).is_some());
    let mut seen = BTreeSet::new();
    for (path, claim) in items(spec, "resourceClaims", path) {
        let name = claim.text("name");
        if is_static {
            let detail = "static pods do not support resource claims";
            errors.push(FieldError::forbidden(&Path::new("[]"), detail));
        } else if require(claim, "name", &path, errors) {
            if seen.contains(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            } else {
                complain_of(names::is_dns1123_label(name), "name", &path, name, errors);
            }
        }
        if !name.is_empty() {
            seen.insert(name);
        }
        if !is_static {
            source_of_claim(claim, &path, errors);
        }
    }
    seen
}

fn source_of_claim(claim: &Value, path: &Path, errors: &mut ErrorList) {
    let fields = ["resourceClaimName", "resourceClaimTemplateName"];
    let detail = match fields.map(|field| claim.has(field)) {
        [true, true] => {
            "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
        }
        [false, false] => "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
        _ => "",
    };
    if !detail.is_empty() {
        errors.push(FieldError::invalid(path, claim.clone(), detail));
    }
    for field in fields.into_iter().filter(|field| claim.has(field)) {
        let name = claim.text(field);
        complain_of(names::is_dns1123_subdomain(name), field, path, name, errors);
    }
}

type Rule = fn(&str) -> Vec<String>;

/// Names in the spec of a pod, each with its rule.
const OWN_NAMES: [(&str, Rule); 6] = [
    ("serviceAccountName", names::is_dns1123_subdomain),
    ("nodeName", names::is_dns1123_subdomain),
    ("hostname", names::is_dns1123_label),
    ("subdomain", names::is_dns1123_label),
    ("priorityClassName", names::is_dns1123_subdomain),
    ("runtimeClassName", names::is_dns1123_subdomain),
];

fn names_of(spec: &Value, rules: &[(&str, Rule)], path: &Path, errors: &mut ErrorList) {
    for (field, rule) in rules {
        let name = spec.text(field);
        if !name.is_empty() {
            complain_of(rule(name), field, path, name, errors);
        }
    }
}

fn deadline(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let most = i64::from(i32::MAX);
    let seconds = spec.int("activeDeadlineSeconds");
    if let Some(seconds) = seconds.filter(|seconds| !(1..=most).contains(seconds)) {
        let path = path.child("activeDeadlineSeconds");
        let detail = names::inclusive_range_error(1, most);
        errors.push(FieldError::invalid(&path, seconds, detail));
    }
}

fn hostname_override(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if !spec.has("hostnameOverride") {
        return;
    }
    let (name, path) = (
        spec.text("hostnameOverride"),
        path.child("hostnameOverride"),
    );
    if spec.flag("setHostnameAsFQDN") {
        let detail = "may not be specified when setHostnameAsFQDN is true";
        errors.push(FieldError::forbidden(&path, detail));
    }
    if spec.flag("hostNetwork") {
        let detail = "may not be specified when hostNetwork is true";
        errors.push(FieldError::forbidden(&path, detail));
    }
    if name.len() > HOSTNAME_BYTES_MAX {
        errors.push(FieldError::too_long(&path, HOSTNAME_BYTES_MAX));
    }
    complain(names::is_dns1123_subdomain(name), &path, name, errors);
}

fn dns(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (config, place) = (spec.at("dnsConfig"), path.child("dnsConfig"));
    let servers = config.texts("nameservers");
    if spec.text("dnsPolicy") == "None" && (config.is_null() || servers.is_empty()) {
        let (path, detail) = match config.is_null() {
            true => (place, "must provide `dnsConfig` when `dnsPolicy` is None"),
            false => (
                place.child("nameservers"),
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            ),
        };
        errors.push(FieldError::required(&path, detail));
        return;
    }
    let Some((config, path)) = filled(spec, "dnsConfig", path) else {
        return;
    };
    if servers.len() > 3 {
        let detail = "must not have more than 3 nameservers";
        let servers = config.at("nameservers").clone();
        errors.push(FieldError::invalid(
            &path.child("nameservers"),
            servers,
            detail,
        ));
    }
    for (at, server) in servers.into_iter().enumerate() {
        let path = path.child("nameservers").index(at);
        complain(names::is_valid_ip(server), &path, server, errors);
    }
    searches(config, &path, errors);
    for (path, option) in items(config, "options", &path) {
        if option.text("name").is_empty() {
            errors.push(FieldError::required(&path, "must not be empty"));
        }
    }
}

fn searches(config: &Value, path: &Path, errors: &mut ErrorList) {
    let (searches, path) = (config.texts("searches"), path.child("searches"));
    let mut refuse = |detail: String| {
        errors.push(FieldError::invalid(
            &path,
            config.at("searches").clone(),
            detail,
        ));
    };
    if searches.len() > SEARCHES_MAX {
        refuse(format!(
            "must not have more than {SEARCHES_MAX} search paths"
        ));
    }
    if searches.join(" ").len() > SEARCHES_BYTES_MAX {
        refuse(format!(
            "must not have more than {SEARCHES_BYTES_MAX} characters (including spaces) in the search list"
        ));
    }
    for (at, search) in searches.into_iter().enumerate() {
        if search != "." {
            let name = search.strip_suffix('.').unwrap_or(search);
            let messages = names::is_dns1123_subdomain_with_underscore(name);
            complain(messages, &path.index(at), name, errors);
        }
    }
}

fn gates(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, gate) in items(spec, "readinessGates", path) {
        let kind = gate.text("conditionType");
        complain(
            names::is_qualified_name(kind),
            &path.child("conditionType"),
            kind,
            errors,
        );
    }
    let mut seen = BTreeSet::new();
    for (path, gate) in items(spec, "schedulingGates", path) {
        let name = gate.text("name");
        complain(names::is_qualified_name(name), &path, name, errors);
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path, name));
        }
    }
}

fn host_aliases(spec: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, alias) in items(spec, "hostAliases", path) {
        let address = alias.text("ip");
        complain_of(names::is_valid_ip(address), "ip", &path, address, errors);
        for (at, name) in alias.texts("hostnames").into_iter().enumerate() {
            let path = path.child("hostnames").index(at);
            complain(names::is_dns1123_subdomain(name), &path, name, errors);
        }
    }
}

/// A selector that can be read has to find the pods of the template next to it.
pub(super) fn selects_template(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let metadata = spec.at("template").at("metadata");
    let pairs: Vec<(&str, &str)> = metadata
        .entries("labels")
        .filter_map(|(k, v)| Some((k, v.as_str()?)))
        .collect();
    let parsed = schema::selector::LabelSelector::from_object(Some(spec.at("selector")));
    if parsed.is_ok_and(|selector| !selector.is_empty() && !selector.matches(pairs.iter().copied()))
    {
        unselected(metadata.at("labels"), path, errors);
    }
}

pub(super) fn unselected(labels: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("template").child("metadata").child("labels");
    let detail = "`selector` does not match template `labels`";
    errors.push(FieldError::invalid(&path, labels.clone(), detail));
}
