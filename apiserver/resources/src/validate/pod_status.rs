//! What nodes and the scheduler may say of a pod.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain_of, items, pod_annotations};
use crate::look::{Look, spec, status};

/// An update through `status`.
pub(crate) fn status_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    pod_annotations::update(new, old, errors);
    let path = Path::new("status");
    let (now, before) = (status(new), status(old));
    conditions(now, &path, errors);
    nominated_node(
        now,
        before,
        !spec(old).text("nodeName").is_empty(),
        &path,
        errors,
    );
    observed(now, &path, errors);
    claim_statuses(new, &path, errors);
    addresses(now, before, &path, errors);
}

fn observed(value: &Value, path: &Path, errors: &mut ErrorList) {
    let generation = value.int("observedGeneration");
    if let Some(generation) = generation.filter(|generation| *generation < 0) {
        let path = path.child("observedGeneration");
        let detail = "must be a non-negative integer";
        errors.push(FieldError::invalid(&path, generation, detail));
    }
}

fn conditions(status: &Value, path: &Path, errors: &mut ErrorList) {
    for (path, condition) in items(status, "conditions", path) {
        observed(condition, &path, errors);
        let kind = condition.text("type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            complain_of(names::is_qualified_name(kind), "Type", &path, kind, errors);
        }
    }
}

/// The node where room is made for a pod, as long as the pod has none.
fn nominated_node(
    now: &Value,
    before: &Value,
    is_bound: bool,
    path: &Path,
    errors: &mut ErrorList,
) {
    let name = now.text("nominatedNodeName");
    if name.is_empty() || name == before.text("nominatedNodeName") {
        return;
    }
    let messages = names::is_dns1123_subdomain(name);
    complain_of(messages, "nominatedNodeName", path, name, errors);
    if is_bound {
        let path = path.child("nominatedNodeName");
        let detail = "may not be set on pods that are already bound to a node";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

/// Addresses of a pod: at most one of each family.
fn addresses(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    let (list, known) = (now.list("podIPs"), before.list("podIPs"));
    if list == known {
        return;
    }
    let path = path.child("podIPs");
    for (at, entry) in list.iter().enumerate() {
        let address = entry.text("ip");
        if !known.iter().any(|one| one.text("ip") == address) {
            super::complain(
                names::is_valid_ip(address),
                &path.index(at),
                address,
                errors,
            );
        }
    }
    let families: BTreeSet<bool> = list
        .iter()
        .filter_map(|entry| entry.text("ip").parse().ok())
        .map(|address: IpAddr| address.is_ipv6())
        .collect();
    if list.len() > 1 && (list.len() > 2 || families.len() < 2) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&path, list.to_vec(), detail));
    }
}

/// The claims that were made for a pod are those of its entries.
fn claim_statuses(pod: &Object, path: &Path, errors: &mut ErrorList) {
    let entries = spec(pod).list("resourceClaims").iter();
    let entries: BTreeSet<&str> = entries.map(|entry| entry.text("name")).collect();
    let mut seen = BTreeSet::new();
    for (path, status) in items(status(pod), "resourceClaimStatuses", path) {
        let name = status.text("name");
        if !entries.contains(name) {
            let detail = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(FieldError::invalid(&path.child("name"), name, detail));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        if status.has("resourceClaimName") {
            let claim = status.text("resourceClaimName");
            let messages = names::is_dns1123_subdomain(claim);
            complain_of(messages, "resourceClaimName", &path, claim, errors);
        }
    }
}
