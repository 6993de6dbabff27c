//! storage.k8s.io.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::volume_source::driver_name;
use super::{
    IMMUTABLE, amount, complain, complain_of, immutable, items, label_selector, optional_one_of,
    require,
};
use crate::look::{Look, spec};
use crate::meta;
use crate::resource::same;

const PARAMETERS_BYTES_MAX: usize = 256 * 1024;
const PARAMETERS_MAX: usize = 512;

fn root_text<'a>(object: &'a Object, field: &str) -> &'a str {
    object.at(field).as_str().unwrap_or("")
}

/// StorageClass.
pub(crate) fn storage_class(object: &Object, errors: &mut ErrorList) {
    let provisioner = root_text(object, "provisioner");
    if provisioner.is_empty() {
        errors.push(FieldError::required(&Path::new("provisioner"), ""));
    } else {
        let lower = provisioner.to_lowercase();
        complain(
            names::is_qualified_name(&lower),
            &Path::new("provisioner"),
            provisioner,
            errors,
        );
    }
    parameters(object, errors);
    let root = Path::root();
    optional_one_of(
        object,
        "reclaimPolicy",
        &["Delete", "Retain"],
        &root,
        errors,
    );
    if root_text(object, "volumeBindingMode").is_empty() {
        errors.push(FieldError::required(&Path::new("volumeBindingMode"), ""));
    }
    optional_one_of(
        object,
        "volumeBindingMode",
        &["Immediate", "WaitForFirstConsumer"],
        &root,
        errors,
    );
    allowed_topologies(object, errors);
}

/// What a driver is told: not too much of it.
fn parameters(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("parameters");
    let entries = || object.entries("parameters");
    if entries().count() > PARAMETERS_MAX {
        errors.push(FieldError::too_long(&path, PARAMETERS_MAX));
        return;
    }
    if entries().any(|(key, _)| key.is_empty()) {
        errors.push(FieldError::invalid(&path, "", "field can not be empty."));
    }
    let size: usize = entries()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > PARAMETERS_BYTES_MAX {
        errors.push(FieldError::too_long(&path, PARAMETERS_BYTES_MAX));
    }
}

/// Where volumes of a class may be: no term and no label twice.
fn allowed_topologies(object: &Object, errors: &mut ErrorList) {
    let list = Path::new("allowedTopologies");
    let mut seen: Vec<&Value> = Vec::new();
    for (path, term) in items(object, "allowedTopologies", &Path::root()) {
        let mut keys = Vec::new();
        for (path, label) in items(term, "matchLabelExpressions", &list) {
            topology_label(label, &path, errors);
            let key = label.text("key");
            if keys.contains(&key) {
                errors.push(FieldError::duplicate(&path.child("key"), key));
            }
            keys.push(key);
        }
        let labels = term.at("matchLabelExpressions");
        if seen.contains(&labels) {
            let path = path.child("matchLabelExpressions");
            errors.push(FieldError::duplicate(&path, ""));
        }
        seen.push(labels);
    }
}

fn topology_label(label: &Value, path: &Path, errors: &mut ErrorList) {
    let (values, list) = (label.texts("values"), path.child("values"));
    if values.is_empty() {
        errors.push(FieldError::required(&list, ""));
    }
    for (at, value) in values.iter().enumerate() {
        if values[..at].contains(value) {
            errors.push(FieldError::duplicate(&list.index(at), *value));
        }
    }
    meta::label_name_of(label, "key", path, errors);
}

/// What volumes were made with is history.
pub(crate) fn storage_class_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    if !same(new.get(&["parameters"]), old.get(&["parameters"])) {
        let detail = "updates to parameters are forbidden.";
        errors.push(FieldError::forbidden(&Path::new("parameters"), detail));
    }
    if root_text(new, "provisioner") != root_text(old, "provisioner") {
        let detail = "updates to provisioner are forbidden.";
        errors.push(FieldError::forbidden(&Path::new("provisioner"), detail));
    }
    if root_text(new, "reclaimPolicy") != root_text(old, "reclaimPolicy") {
        let detail = "updates to reclaimPolicy are forbidden.";
        errors.push(FieldError::forbidden(&Path::new("reclaimPolicy"), detail));
    }
    immutable(
        new.at("volumeBindingMode"),
        old.at("volumeBindingMode"),
        &Path::new("volumeBindingMode"),
        errors,
    );
}

/// VolumeAttributesClass.
pub(crate) fn volume_attributes_class(object: &Object, errors: &mut ErrorList) {
    driver_name(
        root_text(object, "driverName"),
        &Path::new("driverName"),
        errors,
    );
    if object
        .at("parameters")
        .as_object()
        .is_none_or(serde_json::Map::is_empty)
    {
        let detail = "must contain at least one key/value pair";
        errors.push(FieldError::required(&Path::new("parameters"), detail));
    }
    parameters(object, errors);
}

/// A class of attributes is what it is.
pub(crate) fn volume_attributes_class_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    for field in ["driverName", "parameters"] {
        if !same(new.get(&[field]), old.get(&[field])) {
            let detail = format!("updates to {field} are forbidden.");
            errors.push(FieldError::forbidden(&Path::new(field), detail));
        }
    }
}

/// VolumeAttachment.
pub(crate) fn volume_attachment(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    driver_name(spec.text("attacher"), &path.child("attacher"), errors);
    let source = spec.at("source");
    match (
        source.has("persistentVolumeName"),
        source.has("inlineVolumeSpec"),
    ) {
        (false, false) => {
            let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            errors.push(FieldError::required(&path.child("source"), detail));
        }
        (true, true) => {
            let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
            errors.push(FieldError::forbidden(&path.child("source"), detail));
        }
        (true, false) if source.text("persistentVolumeName").is_empty() => {
            let path = path.child("source").child("persistentVolumeName");
            errors.push(FieldError::required(
                &path,
                "must specify non empty persistentVolumeName",
            ));
        }
        _ => {}
    }
    let name = spec.text("nodeName");
    let messages = names::is_dns1123_subdomain(name);
    complain_of(messages, "nodeName", &path, name, errors);
}

/// An attachment is made and deleted, never moved.
pub(crate) fn volume_attachment_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    immutable(spec(new), spec(old), &Path::new("spec"), errors);
}

/// CSIDriver.
pub(crate) fn csi_driver(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    driver_name(object.name(), &Path::new("metadata").child("name"), errors);
    for field in ["attachRequired", "podInfoOnMount", "storageCapacity"] {
        if !spec.has(field) {
            errors.push(FieldError::required(&path.child(field), ""));
        }
    }
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    optional_one_of(spec, "fsGroupPolicy", &policies, &path, errors);
    token_requests(spec, &path, errors);
    for (path, mode) in items(spec, "volumeLifecycleModes", &path) {
        let (mode, modes) = (mode.as_str().unwrap_or(""), &["Ephemeral", "Persistent"]);
        if !modes.contains(&mode) {
            errors.push(FieldError::not_supported(&path, mode, modes));
        }
    }
    let field = "nodeAllocatableUpdatePeriodSeconds";
    if let Some(seconds) = spec.int(field).filter(|seconds| *seconds < 10) {
        let detail = "must be greater than or equal to 10 seconds";
        errors.push(FieldError::invalid(&path.child(field), seconds, detail));
    }
}

/// Tokens for a driver: one of each audience, valid for a while.
fn token_requests(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut audiences = Vec::new();
    for (path, token) in items(spec, "tokenRequests", path) {
        let audience = token.text("audience");
        if audiences.contains(&audience) {
            errors.push(FieldError::duplicate(&path.child("audience"), audience));
        }
        audiences.push(audience);
        let detail = match token.int("expirationSeconds") {
            Some(..600) => "may not specify a duration less than 10 minutes",
            Some(0x1_0000_0001..) => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        let (path, seconds) = (
            path.child("expirationSeconds"),
            token.at("expirationSeconds"),
        );
        errors.push(FieldError::invalid(&path, seconds.clone(), detail));
    }
}

/// How volumes of a driver are attached and live never changes.
pub(crate) fn csi_driver_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    for (field, spelling) in [
        ("attachRequired", "attachedRequired"),
        ("volumeLifecycleModes", "volumeLifecycleModes"),
    ] {
        immutable(
            spec(new).at(field),
            spec(old).at(field),
            &path.child(spelling),
            errors,
        );
    }
}

/// CSINode.
pub(crate) fn csi_node(object: &Object, errors: &mut ErrorList) {
    let mut seen = Vec::new();
    for (path, driver) in items(spec(object), "drivers", &Path::new("spec")) {
        driver_name(driver.text("name"), &path.child("name"), errors);
        if seen.contains(&driver.text("name")) {
            errors.push(FieldError::duplicate(
                &path.child("name"),
                driver.text("name"),
            ));
        }
        seen.push(driver.text("name"));
        require(driver, "nodeID", &path, errors);
        let keys = driver.texts("topologyKeys");
        for (at, key) in keys.iter().enumerate() {
            let path = path.child("topologyKeys");
            complain(names::is_qualified_name(key), &path, key, errors);
            if keys[..at].contains(key) {
                errors.push(FieldError::duplicate(&path, *key));
            }
        }
    }
}

/// A driver of a node stays as it was registered, but for how many volumes it can attach.
pub(crate) fn csi_node_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        if let Some(map) = driver.as_object_mut() {
            map.remove("allocatable");
        }
        driver
    };
    for before in spec(old).list("drivers") {
        let name = before.text("name");
        let mut drivers = spec(new).list("drivers").iter();
        let now = drivers.find(|driver| driver.text("name") == name);
        if let Some(now) = now.filter(|now| fixed(now) != fixed(before)) {
            let path = Path::new("CSINodeDriver");
            errors.push(FieldError::invalid(&path, now.clone(), IMMUTABLE));
        }
    }
}

/// CSIStorageCapacity.
pub(crate) fn csi_storage_capacity(object: &Object, errors: &mut ErrorList) {
    let class = root_text(object, "storageClassName");
    complain(
        names::is_dns1123_subdomain(class),
        &Path::new("storageClassName"),
        class,
        errors,
    );
    for field in ["capacity", "maximumVolumeSize"] {
        if object.has(field) {
            amount(object.at(field), &Path::new(field), errors);
        }
    }
    label_selector(
        object.at("nodeTopology"),
        &Path::new("nodeTopology"),
        errors,
    );
}

/// Capacity of what and where never changes.
pub(crate) fn csi_storage_capacity_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    for field in ["nodeTopology", "storageClassName"] {
        immutable(new.at(field), old.at(field), &Path::new(field), errors);
    }
}
