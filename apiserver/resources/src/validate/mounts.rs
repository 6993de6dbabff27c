//! Where a container finds the volumes of its pod: as directories, and as devices.

use std::collections::{BTreeMap, BTreeSet};

use schema::field::{ErrorList, FieldError, Path};
use serde_json::Value;

use super::items;
use super::pod_volume::{descending, no_backsteps};
use crate::look::Look;

/// Mounts and devices of a container.
pub(crate) fn mounts(
    container: &Value,
    volumes: &BTreeMap<&str, &Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    let list = container.list("volumeMounts");
    if !list.is_empty() {
        // Kubernetes says of the list what is wrong with details of one mount.
        let whole = path.child("volumeMounts");
        let devices = places(container, "volumeDevices", "devicePath");
        let mut taken = BTreeSet::new();
        for (at, mount) in list.iter().enumerate() {
            let (name, place) = (mount.text("name"), mount.text("mountPath"));
            let here = |field: &str| whole.index(at).child(field);
            source_of_mount(name, volumes, &here, errors);
            place_of_mount(place, !taken.insert(place), &here, errors);
            if devices.contains_key(name) {
                let detail = "must not already exist in volumeDevices";
                errors.push(FieldError::invalid(&here("name"), name, detail));
            }
            if devices.values().any(|device| *device == place) {
                let detail = "must not already exist as a path in volumeDevices";
                errors.push(FieldError::invalid(&here("mountPath"), place, detail));
            }
            sub_path(mount, &whole, &here, errors);
            propagation(mount, container, &whole, errors);
        }
    }
    devices(container, volumes, path, errors);
}

/// The volumes that a list of a container names, with the place of each.
fn places<'a>(container: &'a Value, list: &str, field: &str) -> BTreeMap<&'a str, &'a str> {
    let list = container.list(list).iter();
    list.map(|entry| (entry.text("name"), entry.text(field)))
        .collect()
}

fn source_of_mount(
    name: &str,
    volumes: &BTreeMap<&str, &Value>,
    here: &impl Fn(&str) -> Path,
    errors: &mut ErrorList,
) {
    if name.is_empty() {
        errors.push(FieldError::required(&here("name"), ""));
    }
    if !volumes.contains_key(name) {
        errors.push(FieldError::not_found(&here("name"), name));
    }
}

fn place_of_mount(
    place: &str,
    is_taken: bool,
    here: &impl Fn(&str) -> Path,
    errors: &mut ErrorList,
) {
    if place.is_empty() {
        errors.push(FieldError::required(&here("mountPath"), ""));
    }
    if is_taken {
        let detail = "must be unique";
        errors.push(FieldError::invalid(&here("mountPath"), place, detail));
    }
}

fn sub_path(mount: &Value, whole: &Path, here: &impl Fn(&str) -> Path, errors: &mut ErrorList) {
    let (plain, expanded) = (mount.text("subPath"), mount.text("subPathExpr"));
    if !plain.is_empty() {
        descending(plain, &whole.child("subPath"), errors);
    }
    if !expanded.is_empty() {
        if !plain.is_empty() {
            let detail = "subPathExpr and subPath are mutually exclusive";
            errors.push(FieldError::invalid(&here("subPathExpr"), expanded, detail));
        }
        descending(expanded, &whole.child("subPathExpr"), errors);
    }
}

/// Which mounts inside the volume go on to others, and whether they are read-only too.
fn propagation(mount: &Value, container: &Value, whole: &Path, errors: &mut ErrorList) {
    const MODES: &[&str] = &["Bidirectional", "HostToContainer", "None"];
    const READ_ONLY: &[&str] = &["Disabled", "Enabled", "IfPossible"];
    let mode = mount.text("mountPropagation");
    if mount.has("mountPropagation") {
        let path = whole.child("mountPropagation");
        if !MODES.contains(&mode) {
            errors.push(FieldError::not_supported(&path, mode, MODES));
        }
        if mode == "Bidirectional" && !container.at("securityContext").flag("privileged") {
            let detail =
                "Bidirectional mount propagation is available only to privileged containers";
            errors.push(FieldError::forbidden(&path, detail));
        }
    }
    if !mount.has("recursiveReadOnly") {
        return;
    }
    let path = whole.child("recursiveReadOnly");
    match mount.text("recursiveReadOnly") {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.flag("readOnly") {
                let detail = "may only be specified when readOnly is true";
                errors.push(FieldError::forbidden(&path, detail));
            }
            if mount.has("mountPropagation") && mode != "None" {
                let detail = "may only be specified when mountPropagation is None or not specified";
                errors.push(FieldError::forbidden(&path, detail));
            }
        }
        other => errors.push(FieldError::not_supported(&path, other, READ_ONLY)),
    }
}

fn devices(
    container: &Value,
    volumes: &BTreeMap<&str, &Value>,
    path: &Path,
    errors: &mut ErrorList,
) {
    if container.list("volumeDevices").is_empty() {
        return;
    }
    let mounts = places(container, "volumeMounts", "mountPath");
    let (mut names, mut places) = (BTreeSet::new(), BTreeSet::new());
    for (path, device) in items(container, "volumeDevices", path) {
        let (name, place) = (device.text("name"), device.text("devicePath"));
        let (name_path, place_path) = (path.child("name"), path.child("devicePath"));
        if name.is_empty() {
            errors.push(FieldError::required(&name_path, ""));
        } else if !names.insert(name) {
            errors.push(FieldError::invalid(&name_path, name, "must be unique"));
        }
        match volumes.get(name) {
            None => errors.push(FieldError::not_found(&name_path, name)),
            Some(volume) if !volume.has("persistentVolumeClaim") && !volume.has("ephemeral") => {
                let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.push(FieldError::invalid(&name_path, name, detail));
            }
            Some(_) => {}
        }
        if place.is_empty() {
            errors.push(FieldError::required(&place_path, ""));
        }
        if places.contains(place) {
            errors.push(FieldError::invalid(&place_path, place, "must be unique"));
        }
        let mut steps_back = ErrorList::new();
        no_backsteps(place, &place_path, &mut steps_back);
        if steps_back.is_empty() {
            places.insert(place);
        } else {
            let detail = "can not contain backsteps ('..')";
            errors.push(FieldError::invalid(&place_path, place, detail));
        }
        if mounts.contains_key(name) {
            let detail = "must not already exist in volumeMounts";
            errors.push(FieldError::invalid(&name_path, name, detail));
        }
        if mounts.values().any(|mount| *mount == place) {
            let detail = "must not already exist as a path in volumeMounts";
            errors.push(FieldError::invalid(&place_path, place, detail));
        }
    }
}
