//! Persistent volumes and claims.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::quantity::Quantity;
use serde_json::Value;

use super::{amount, complain, immutable, label_selector, optional_one_of, require};
use crate::look::{Look, spec, status};
use crate::resource::same;

const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// Everything a persistent volume can be.
const SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "csi",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "glusterfs",
    "hostPath",
    "iscsi",
    "local",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

fn access_modes(spec: &Value, path: &Path, missing: &str, errors: &mut ErrorList) {
    let modes = spec.texts("accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(&path.child("accessModes"), missing));
    }
    for mode in &modes {
        if !ACCESS_MODES.contains(mode) {
            errors.push(FieldError::not_supported(
                &path.child("accessModes"),
                *mode,
                ACCESS_MODES,
            ));
        }
    }
    if modes.contains(&"ReadWriteOncePod") && modes.len() > 1 {
        let detail = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&path.child("accessModes"), detail));
    }
}

/// PersistentVolumeClaim.
pub(crate) fn claim(object: &Object, errors: &mut ErrorList) {
    claim_spec(spec(object), &Path::new("spec"), errors);
}

/// The spec of a claim, also in ephemeral volumes.
pub(crate) fn claim_spec(spec: &Value, path: &Path, errors: &mut ErrorList) {
    access_modes(spec, path, "at least 1 access mode is required", errors);
    label_selector(spec.at("selector"), &path.child("selector"), errors);
    let requests = spec.at("resources").at("requests");
    let path_of_size = path.child("resources").key("storage");
    if requests.has("storage") {
        if let Some(size) = amount(requests.at("storage"), &path_of_size, errors)
            && size.is_zero()
        {
            let path = path.child("resources").key("storage");
            errors.push(FieldError::invalid(
                &path,
                size.to_string(),
                super::POSITIVE,
            ));
        }
    } else {
        errors.push(FieldError::required(&path_of_size, ""));
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        complain(
            names::is_dns1123_subdomain(class),
            &path.child("storageClassName"),
            class,
            errors,
        );
    }
    optional_one_of(spec, "volumeMode", VOLUME_MODES, path, errors);
    for field in ["dataSource", "dataSourceRef"] {
        let source = spec.at(field);
        if source.is_null() {
            continue;
        }
        let path = path.child(field);
        require(source, "name", &path, errors);
        require(source, "kind", &path, errors);
        if source.text("apiGroup").is_empty() && source.text("kind") != "PersistentVolumeClaim" {
            errors.push(FieldError::invalid(&path, source.text("kind"), ""));
        }
    }
}

/// A claim may grow and get bound; otherwise it asks for what it asked for.
pub(crate) fn claim_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    let size =
        |spec: &Value| Quantity::from_json(spec.at("resources").at("requests").at("storage")).ok();
    let bound = status(old).text("phase") == "Bound";
    let strip = |spec: &Value| -> Value {
        let mut spec = spec.clone();
        if let Some(map) = spec.as_object_mut() {
            map.remove("volumeAttributesClassName");
            if before.text("volumeName").is_empty() {
                map.remove("volumeName");
            }
            if !before.has("storageClassName") {
                map.remove("storageClassName");
            }
            if bound || !before.has("resources") {
                map.remove("resources");
            }
        }
        spec
    };
    if !same(Some(&strip(now)), Some(&strip(before))) {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(FieldError::forbidden(&path, detail));
    }
    if let (Some(now), Some(before)) = (size(now), size(before)) {
        let least = Quantity::from_json(status(old).at("capacity").at("storage")).unwrap_or(before);
        if now < before && now <= least {
            let path = path.child("resources").child("requests").child("storage");
            errors.push(FieldError::forbidden(
                &path,
                "field can not be less than status.capacity",
            ));
        }
    }
}

/// PersistentVolume.
pub(crate) fn volume(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    access_modes(spec, &path, "", errors);
    let capacity = spec.at("capacity");
    let capacity_path = path.child("capacity");
    if !capacity.has("storage") {
        if capacity.as_object().is_none_or(serde_json::Map::is_empty) {
            errors.push(FieldError::required(&capacity_path, ""));
        } else {
            errors.push(FieldError::not_supported(
                &capacity_path,
                capacity.clone(),
                &["storage"],
            ));
        }
    }
    for (name, value) in spec.entries("capacity") {
        if let Some(size) = amount(value, &capacity_path.key(name), errors)
            && size.is_zero()
        {
            errors.push(FieldError::invalid(
                &capacity_path.key(name),
                size.to_string(),
                super::POSITIVE,
            ));
        }
    }
    optional_one_of(
        spec,
        "persistentVolumeReclaimPolicy",
        &["Delete", "Recycle", "Retain"],
        &path,
        errors,
    );
    optional_one_of(spec, "volumeMode", VOLUME_MODES, &path, errors);
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        complain(
            names::is_dns1123_subdomain(class),
            &path.child("storageClassName"),
            class,
            errors,
        );
    }
    let affinity = spec.at("nodeAffinity").at("required");
    if !affinity.is_null() {
        let path = path.child("nodeAffinity").child("required");
        super::affinity::node_selector(affinity, &path, errors);
    }
    sources(spec, &path, errors);
}

fn sources(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut found = 0;
    for name in SOURCES.iter().filter(|name| spec.has(name)) {
        found += 1;
        let (source, path) = (spec.at(name), path.child(name));
        if found > 1 {
            errors.push(FieldError::forbidden(
                &path,
                "may not specify more than 1 volume type",
            ));
            continue;
        }
        match *name {
            "hostPath" | "local" if require(source, "path", &path, errors) => {
                super::pod_volume::no_backsteps(source.text("path"), &path.child("path"), errors);
            }
            "nfs" => {
                require(source, "server", &path, errors);
                require(source, "path", &path, errors);
            }
            "csi" => {
                require(source, "driver", &path, errors);
                require(source, "volumeHandle", &path, errors);
            }
            _ => {}
        }
    }
    if found == 0 {
        errors.push(FieldError::required(path, "must specify a volume type"));
    }
    if spec.has("local") && !spec.has("nodeAffinity") {
        let detail = "Local volume requires node affinity";
        errors.push(FieldError::required(
            &Path::new("metadata").child("annotations"),
            detail,
        ));
    }
}

/// Where a volume comes from never changes.
pub(crate) fn volume_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    let source = |spec: &Value| -> Vec<(usize, Value)> {
        SOURCES
            .iter()
            .enumerate()
            .filter(|(_, name)| spec.has(name))
            .map(|(at, name)| (at, spec.at(name).clone()))
            .collect()
    };
    if source(now) != source(before) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.push(FieldError::forbidden(
            &path.child("persistentvolumesource"),
            detail,
        ));
    }
    immutable(
        now.at("volumeMode"),
        before.at("volumeMode"),
        &path.child("volumeMode"),
        errors,
    );
    if before.has("nodeAffinity") {
        immutable(
            now.at("nodeAffinity"),
            before.at("nodeAffinity"),
            &path.child("nodeAffinity"),
            errors,
        );
    }
}
