//! Nodes and runtime classes.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{amount, complain, container_resources, immutable, items};
use crate::look::{Look, spec, status};

/// Node.
pub(crate) fn node(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    super::affinity::taints(spec, &Path::new("metadata"), errors);
    pod_ranges(spec, &path, errors);
    for field in ["capacity", "allocatable"] {
        for (name, value) in status(object).entries(field) {
            amount(value, &Path::new("status").child(field).key(name), errors);
        }
    }
    let mut seen = Vec::new();
    for (path, address) in items(status(object), "addresses", &Path::new("status")) {
        let pair = (address.text("type"), address.text("address"));
        if seen.contains(&pair) {
            errors.push(FieldError::duplicate(&path, address.clone()));
        }
        seen.push(pair);
    }
}

/// Ranges of the node's pods: at most one of each family.
fn pod_ranges(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (ranges, path) = (spec.texts("podCIDRs"), path.child("podCIDRs"));
    for (at, range) in ranges.iter().enumerate() {
        complain(names::is_valid_cidr(range), &path.index(at), range, errors);
    }
    let families: BTreeSet<bool> = ranges
        .iter()
        .filter_map(|range| names::parse_cidr(range))
        .map(|(address, _)| address.is_ipv6())
        .collect();
    if ranges.len() > 1 && (ranges.len() > 2 || families.len() < 2) {
        let value = spec.at("podCIDRs").clone();
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(FieldError::invalid(&path, value, detail));
    }
}

/// Where a node's pods get their addresses, and whose machine it is, are set once.
pub(crate) fn node_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    if !before.list("podCIDRs").is_empty() && now.list("podCIDRs") != before.list("podCIDRs") {
        let detail = "node updates may not change podCIDR except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("podCIDRs"), detail));
    }
    let machine = before.text("providerID");
    if !machine.is_empty() && now.text("providerID") != machine {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(FieldError::forbidden(&path.child("providerID"), detail));
    }
}

/// RuntimeClass.
pub(crate) fn runtime_class(object: &Object, errors: &mut ErrorList) {
    let handler = object.at("handler").as_str().unwrap_or("");
    complain(
        names::is_dns1123_label(handler),
        &Path::new("handler"),
        handler,
        errors,
    );
    let overhead = object.at("overhead").at("podFixed");
    container_resources::overhead(overhead, &Path::new("overhead"), errors);
    let scheduling = Path::new("scheduling");
    crate::meta::labels(
        object.at("scheduling").at("nodeSelector"),
        &scheduling.child("nodeSelector"),
        errors,
    );
    super::affinity::tolerations(object.at("scheduling"), &scheduling, errors);
}

/// The handler is what a runtime class is.
pub(crate) fn runtime_class_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    immutable(
        new.at("handler"),
        old.at("handler"),
        &Path::new("handler"),
        errors,
    );
}
