//! Persistent volumes and claims.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use schema::quantity::Quantity;
use serde_json::Value;

use super::pod_update::differences;
use super::volume_source::{self, shown, shown_as_second};
use super::{complain, complain_of, immutable, label_selector, optional_one_of, quantity, require};
use crate::look::{Look, spec, status};

const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const VOLUME_MODES: &[&str] = &["Block", "Filesystem"];

/// Everything a persistent volume can be, in the order in which Kubernetes looks at it.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
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
    let others = modes
        .iter()
        .any(|mode| *mode != "ReadWriteOncePod" && ACCESS_MODES.contains(mode));
    if modes.contains(&"ReadWriteOncePod") && others {
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
        positive(requests.at("storage"), &path_of_size, errors);
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
    data_source(spec, "dataSource", path, errors);
    data_source(spec, "dataSourceRef", path, errors);
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    let differs = ["apiGroup", "kind", "name"]
        .iter()
        .any(|field| source.at(field) != reference.at(field));
    let detail = match source.is_null() || reference.is_null() {
        true => "",
        false if !reference.text("namespace").is_empty() => {
            "may not be specified when dataSourceRef.namespace is specified"
        }
        false if differs => "must match dataSourceRef",
        false => "",
    };
    if !detail.is_empty() {
        let shown = path.child("dataSource");
        errors.push(FieldError::invalid(path, shown.as_str(), detail));
    }
    let class = spec.text("volumeAttributesClassName");
    if !class.is_empty() {
        let messages = names::is_dns1123_subdomain(class);
        complain_of(messages, "volumeAttributesClassName", path, class, errors);
    }
}

/// What a volume is filled with at first.
fn data_source(spec: &Value, field: &str, path: &Path, errors: &mut ErrorList) {
    let source = spec.at(field);
    if source.is_null() {
        return;
    }
    let path = path.child(field);
    require(source, "name", &path, errors);
    require(source, "kind", &path, errors);
    let (group, kind) = (source.text("apiGroup"), source.text("kind"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(&path, kind, detail));
    }
    if !group.is_empty() {
        complain_of(
            names::is_dns1123_subdomain(group),
            "apiGroup",
            &path,
            group,
            errors,
        );
    }
    let namespace = source.text("namespace");
    if field == "dataSourceRef" && !namespace.is_empty() {
        let messages = names::is_dns1123_label(namespace);
        complain_of(messages, "namespace", &path, namespace, errors);
    }
}

/// An amount of something that there has to be some of.
fn positive(value: &Value, path: &Path, errors: &mut ErrorList) {
    if let Some(size) = quantity(value, path, errors).filter(|size| size.sign() <= 0) {
        let detail = super::GREATER_THAN_ZERO;
        errors.push(FieldError::invalid(path, size.to_string(), detail));
    }
}

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// What a claim asks for changes in few ways: it gets a volume and a class once, and once bound it may ask for more.
pub(crate) fn claim_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    let (class, old_class) = (
        now.at("storageClassName").as_str(),
        old.annotation(OLD_CLASS),
    );
    let takes_class = class.is_some()
        && !before.has("storageClassName")
        && old_class.is_none_or(|old| class == Some(old));
    let from_annotation = takes_class
        && old_class.is_some()
        && new
            .annotation(OLD_CLASS)
            .is_none_or(|class| old_class == Some(class));
    if !from_annotation && new.annotation(OLD_CLASS) != old_class {
        let path = Path::new("metadata").child("annotations").child(OLD_CLASS);
        let class = new.annotation(OLD_CLASS).unwrap_or("");
        errors.push(FieldError::invalid(&path, class, super::IMMUTABLE));
    }
    let (mut munged, mut reference) = (now.clone(), before.clone());
    for spec in [&mut munged, &mut reference] {
        if before.text("volumeName").is_empty() {
            forget(spec, &["volumeName"]);
        }
        if takes_class {
            forget(spec, &["storageClassName"]);
        }
        if status(new).text("phase") == "Bound" {
            forget(spec, &["resources", "requests", "storage"]);
            forget(spec, &["volumeAttributesClassName"]);
        }
    }
    let mut changed = Vec::new();
    differences(&munged, &reference, "spec", &mut changed);
    if !changed.is_empty() {
        let changed = changed.join(", ");
        let detail = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\nchanged: {changed}"
        );
        errors.push(FieldError::forbidden(&path, detail));
    }
    smaller(new, old, &path, errors);
    // Kubernetes leaves the spec out of the path.
    let mode = (now.at("volumeMode"), before.at("volumeMode"));
    immutable(mode.0, mode.1, &Path::new("volumeMode"), errors);
    without_class(new, old, &path.child("volumeAttributesClassName"), errors);
}

fn forget(value: &mut Value, path: &[&str]) {
    let Some((last, way)) = path.split_last() else {
        return;
    };
    let mut place = Some(value);
    for step in way {
        place = place.and_then(|value| value.get_mut(step));
    }
    if let Some(map) = place.and_then(Value::as_object_mut) {
        map.remove(*last);
    }
}

/// A claim may ask for less than it did, but not for what it has.
fn smaller(new: &Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    let size = |object: &Object| {
        let amount = spec(object).at("resources").at("requests").at("storage");
        Quantity::from_json(amount).unwrap_or(Quantity::ZERO)
    };
    let given = status(old).at("capacity").at("storage");
    let given = Quantity::from_json(given).unwrap_or(Quantity::ZERO);
    if size(new) < size(old) && size(new) <= given {
        let path = path.child("resources").child("requests").child("storage");
        let detail = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden(&path, detail));
    }
}

/// A volume that has a class of attributes goes on having one.
fn without_class(new: &Object, old: &Object, path: &Path, errors: &mut ErrorList) {
    let (now, before) = (spec(new), spec(old));
    let class = now.at("volumeAttributesClassName");
    let is_same = class == before.at("volumeAttributesClassName");
    if is_same || !status(old).has("currentVolumeAttributesClassName") {
        return;
    }
    let what = match class.as_str() {
        None => "nil",
        Some("") => "empty string",
        Some(_) => return,
    };
    let detail = format!(
        "update to {what} is forbidden when status.currentVolumeAttributesClassName is not nil"
    );
    errors.push(FieldError::forbidden(path, detail));
}

/// PersistentVolume.
pub(crate) fn volume(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    access_modes(spec, &path, "", errors);
    capacity(spec, &path, errors);
    optional_one_of(
        spec,
        "persistentVolumeReclaimPolicy",
        &["Delete", "Recycle", "Retain"],
        &path,
        errors,
    );
    let affinity = spec.at("nodeAffinity");
    if !affinity.is_null() {
        let path = path.child("nodeAffinity").child("required");
        if affinity.has("required") {
            super::affinity::node_selector(affinity.at("required"), &path, errors);
        } else {
            let detail = "must specify required node constraints";
            errors.push(FieldError::required(&path, detail));
        }
    }
    sources(spec, object.name(), &path, errors);
    let root = spec.at("hostPath").text("path");
    let is_root = !root.is_empty() && root.trim_matches('/').is_empty();
    if is_root && spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        let path = path.child("persistentVolumeReclaimPolicy");
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&path, detail));
    }
    let class = spec.text("storageClassName");
    if !class.is_empty() {
        let messages = names::is_dns1123_subdomain(class);
        complain_of(messages, "storageClassName", &path, class, errors);
    }
    optional_one_of(spec, "volumeMode", VOLUME_MODES, &path, errors);
    attributes(spec, &path, errors);
}

/// How much a volume holds: bytes, and nothing else.
fn capacity(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (capacity, path) = (spec.at("capacity"), path.child("capacity"));
    let count = capacity.as_object().map_or(0, serde_json::Map::len);
    if count == 0 {
        errors.push(FieldError::required(&path, ""));
    }
    if !capacity.has("storage") || count > 1 {
        let shown = match capacity {
            Value::Null => serde_json::json!({}),
            other => other.clone(),
        };
        errors.push(FieldError::not_supported(&path, shown, &["storage"]));
    }
    for (name, value) in spec.entries("capacity") {
        positive(value, &path.key(name), errors);
    }
}

fn attributes(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if !spec.has("volumeAttributesClassName") {
        return;
    }
    let (class, place) = (
        spec.text("volumeAttributesClassName"),
        path.child("volumeAttributesClassName"),
    );
    if class.is_empty() {
        let detail = "an empty string is disallowed";
        errors.push(FieldError::required(&place, detail));
    } else {
        complain(names::is_dns1123_subdomain(class), &place, class, errors);
    }
    if !spec.has("csi") {
        let detail = "has to be specified when using volumeAttributesClassName";
        errors.push(FieldError::required(&path.child("csi"), detail));
    }
}

fn sources(spec: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    let mut given = SOURCES.iter().filter(|source| spec.has(source));
    match given.next() {
        Some(kind) => source(kind, spec, name, path, errors),
        None => errors.push(FieldError::required(path, "must specify a volume type")),
    }
    for kind in given {
        let detail = "may not specify more than 1 volume type";
        let path = path.child(shown_as_second(kind));
        errors.push(FieldError::forbidden(&path, detail));
    }
}

fn source(kind: &str, spec: &Value, name: &str, whole: &Path, errors: &mut ErrorList) {
    let (source, path) = (spec.at(kind), whole.child(shown(kind)));
    match kind {
        "local" => {
            if require(source, "path", &path, errors) {
                super::pod_volume::no_backsteps(source.text("path"), &path.child("path"), errors);
            }
            if !spec.has("nodeAffinity") {
                let detail = "Local volume requires node affinity";
                errors.push(FieldError::required(&whole.child("nodeAffinity"), detail));
            }
        }
        "csi" => csi(source, &path, errors),
        _ => {
            volume_source::source(kind, source, true, &path, errors);
            let portal = source.text("targetPortal");
            let is_named = kind == "iscsi" && source.has("initiatorName");
            if is_named && name.len() + 1 + portal.len() > 64 {
                let path = path.child("targetportal");
                let detail = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
                errors.push(FieldError::invalid(&path, portal, detail));
            }
        }
    }
}

fn csi(source: &Value, path: &Path, errors: &mut ErrorList) {
    volume_source::driver_name(source.text("driver"), &path.child("driver"), errors);
    require(source, "volumeHandle", path, errors);
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        let secret = source.at(field);
        if secret.is_null() {
            continue;
        }
        let path = path.child(field);
        if require(secret, "name", &path, errors) {
            let name = secret.text("name");
            complain_of(
                names::is_dns1123_subdomain(name),
                "name",
                &path,
                name,
                errors,
            );
        }
        if require(secret, "namespace", &path, errors) {
            let namespace = secret.text("namespace");
            let messages = names::is_dns1123_label(namespace);
            complain_of(messages, "namespace", &path, namespace, errors);
        }
    }
}

/// Where a volume comes from never changes, except that a secret for its growth may be named later.
pub(crate) fn volume_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    let source = |spec: &Value| -> Value {
        let given = SOURCES.iter().filter(|name| spec.has(name));
        let given = given.map(|name| ((*name).to_owned(), spec.at(name).clone()));
        Value::Object(given.collect())
    };
    let (mut source_now, source_before) = (source(now), source(before));
    let secret = "controllerExpandSecretRef";
    if before.has("csi") && !before.at("csi").has(secret) {
        forget(&mut source_now, &["csi", secret]);
    }
    let mut changed = Vec::new();
    differences(&source_now, &source_before, "spec", &mut changed);
    if !changed.is_empty() {
        let changed = changed.join(", ");
        let detail =
            format!("spec.persistentvolumesource is immutable after creation\nchanged: {changed}");
        let path = path.child("persistentvolumesource");
        errors.push(FieldError::forbidden(&path, detail));
    }
    // Kubernetes leaves the spec out of these paths.
    let mode = (now.at("volumeMode"), before.at("volumeMode"));
    immutable(mode.0, mode.1, &Path::new("volumeMode"), errors);
    let affinity = (now.at("nodeAffinity"), before.at("nodeAffinity"));
    if !affinity.1.is_null() && with_new_labels(affinity.1, affinity.0) != *affinity.0 {
        let path = Path::new("nodeAffinity");
        let detail = "field is immutable, except for updating from beta label to GA";
        errors.push(FieldError::invalid(&path, affinity.0.clone(), detail));
    }
    let class = "volumeAttributesClassName";
    if before.has(class) && !now.has(class) {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden(&path.child(class), detail));
    }
}

/// Labels of nodes that others took the place of.
const NEW_LABELS: &[(&str, &str)] = &[
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
];

/// The old affinity, with the keys of the new one where those are only newer names.
fn with_new_labels(old: &Value, new: &Value) -> Value {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let field = |(name, value): (&String, &Value)| {
                (name.clone(), with_new_labels(value, b.at(name)))
            };
            Value::Object(a.iter().map(field).collect())
        }
        (Value::Array(a), Value::Array(b)) => (a.iter().enumerate())
            .map(|(at, a)| with_new_labels(a, b.get(at).unwrap_or(&Value::Null)))
            .collect(),
        (Value::String(a), Value::String(b)) if NEW_LABELS.contains(&(&**a, &**b)) => new.clone(),
        _ => old.clone(),
    }
}
