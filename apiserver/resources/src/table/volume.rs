//! Volumes, claims, and storage.k8s.io.

use schema::Object;
use serde_json::Value;

use super::Column;
use super::{AGE, NAME, UNSET, age, boolean, integer, name, or, terminating, text, wide};
use crate::defaults::storage::canonical;
use crate::look::{Look, spec, status};

const STORAGE_CLASS_COLUMN: Column = text("StorageClass", "Class of the storage.");
const ATTRIBUTES_CLASS_COLUMN: Column =
    text("VolumeAttributesClass", "Class of the volume's attributes.");
const ACCESS_MODES: Column = text("Access Modes", "How the volume may be mounted.");
const VOLUME_MODE: Column = wide("VolumeMode", "Filesystem or Block.");

pub(crate) const VOLUME: &[Column] = &[
    NAME,
    text("Capacity", "Size of the volume."),
    ACCESS_MODES,
    text(
        "Reclaim Policy",
        "What happens to the volume when its claim is gone.",
    ),
    text("Status", "Whether the volume is bound."),
    text("Claim", "Claim to which the volume is bound."),
    STORAGE_CLASS_COLUMN,
    ATTRIBUTES_CLASS_COLUMN,
    text("Reason", "Why the volume is in this state."),
    AGE,
    VOLUME_MODE,
];
pub(crate) const CLAIM: &[Column] = &[
    NAME,
    text("Status", "Whether the claim is bound."),
    text("Volume", "Volume to which the claim is bound."),
    text("Capacity", "Size of the bound volume."),
    ACCESS_MODES,
    STORAGE_CLASS_COLUMN,
    ATTRIBUTES_CLASS_COLUMN,
    AGE,
    VOLUME_MODE,
];
pub(crate) const STORAGE_CLASS: &[Column] = &[
    NAME,
    text("Provisioner", "Who makes the volumes."),
    text(
        "ReclaimPolicy",
        "What happens to volumes whose claim is gone.",
    ),
    text("VolumeBindingMode", "When volumes are bound."),
    text("AllowVolumeExpansion", "Whether claims may grow."),
    AGE,
];
pub(crate) const VOLUME_ATTRIBUTES_CLASS: &[Column] =
    &[NAME, text("DriverName", "Driver of the class."), AGE];
pub(crate) const VOLUME_ATTACHMENT: &[Column] = &[
    NAME,
    text("Attacher", "Driver that attaches."),
    text("PV", "Volume that is attached."),
    text("Node", "Node to which the volume is attached."),
    boolean("Attached", "Whether the volume is attached."),
    AGE,
];
pub(crate) const CSI_NODE: &[Column] = &[
    NAME,
    integer("Drivers", "Number of drivers on the node."),
    AGE,
];
pub(crate) const CSI_DRIVER: &[Column] = &[
    NAME,
    boolean("AttachRequired", "Whether volumes have to be attached."),
    boolean(
        "PodInfoOnMount",
        "Whether the driver wants to know the pod.",
    ),
    boolean("StorageCapacity", "Whether the driver tells its capacity."),
    text(
        "TokenRequests",
        "Audiences of the tokens that the driver wants.",
    ),
    boolean("RequiresRepublish", "Whether mounts are refreshed."),
    text("Modes", "Life cycles of volumes that the driver supports."),
    AGE,
];
pub(crate) const CSI_STORAGE_CAPACITY: &[Column] = &[
    NAME,
    text("StorageClassName", "Class whose capacity this is."),
    text("Capacity", "Storage that is left."),
];

fn access_modes(modes: &Value) -> String {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let has = |mode: &str| {
        modes
            .as_array()
            .is_some_and(|list| list.iter().any(|m| m.as_str() == Some(mode)))
    };
    let short: Vec<&str> = known
        .iter()
        .filter(|(mode, _)| has(mode))
        .map(|(_, short)| *short)
        .collect();
    short.join(",")
}

fn phase(object: &Object) -> Value {
    if terminating(object) {
        "Terminating".into()
    } else {
        status(object).text("phase").into()
    }
}

fn class(object: &Object) -> Value {
    let old = object
        .annotation("volume.beta.kubernetes.io/storage-class")
        .unwrap_or("");
    or(old, spec(object).text("storageClassName"))
}

pub(crate) fn volume(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let claim = spec.at("claimRef");
    let claim = if claim.is_object() {
        format!("{}/{}", claim.text("namespace"), claim.text("name"))
    } else {
        String::new()
    };
    vec![
        name(object),
        canonical(spec.at("capacity").at("storage")).into(),
        access_modes(spec.at("accessModes")).into(),
        spec.text("persistentVolumeReclaimPolicy").into(),
        phase(object),
        claim.into(),
        class(object),
        or(spec.text("volumeAttributesClassName"), UNSET),
        status(object).text("reason").into(),
        age(object, now),
        or(spec.text("volumeMode"), UNSET),
    ]
}

pub(crate) fn claim(object: &Object, now: i64) -> Vec<Value> {
    let (spec, status) = (spec(object), status(object));
    let bound = !spec.text("volumeName").is_empty();
    let (capacity, modes) = if bound {
        (
            canonical(status.at("capacity").at("storage")),
            access_modes(status.at("accessModes")),
        )
    } else {
        (String::new(), String::new())
    };
    vec![
        name(object),
        phase(object),
        spec.text("volumeName").into(),
        capacity.into(),
        modes.into(),
        class(object),
        or(spec.text("volumeAttributesClassName"), UNSET),
        age(object, now),
        or(spec.text("volumeMode"), UNSET),
    ]
}

fn name_and_default(object: &Object, annotations: &[&str]) -> Value {
    if annotations
        .iter()
        .any(|key| object.annotation(key) == Some("true"))
    {
        format!("{} (default)", object.name()).into()
    } else {
        name(object)
    }
}

fn root_text(object: &Object, field: &str) -> Value {
    object.at(field).as_str().unwrap_or("").into()
}

pub(crate) fn storage_class(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name_and_default(
            object,
            &[
                "storageclass.kubernetes.io/is-default-class",
                "storageclass.beta.kubernetes.io/is-default-class",
            ],
        ),
        root_text(object, "provisioner"),
        or(object.at("reclaimPolicy").as_str().unwrap_or(""), "Delete"),
        or(object.at("volumeBindingMode").as_str().unwrap_or(""), UNSET),
        object
            .at("allowVolumeExpansion")
            .as_bool()
            .unwrap_or(false)
            .into(),
        age(object, now),
    ]
}

pub(crate) fn volume_attributes_class(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name_and_default(
            object,
            &["volumeattributesclass.alpha.kubernetes.io/is-default-class"],
        ),
        root_text(object, "driverName"),
        age(object, now),
    ]
}

pub(crate) fn volume_attachment(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    vec![
        name(object),
        spec.text("attacher").into(),
        spec.at("source").text("persistentVolumeName").into(),
        spec.text("nodeName").into(),
        status(object).flag("attached").into(),
        age(object, now),
    ]
}

pub(crate) fn csi_node(object: &Object, now: i64) -> Vec<Value> {
    vec![
        name(object),
        spec(object).list("drivers").len().into(),
        age(object, now),
    ]
}

pub(crate) fn csi_driver(object: &Object, now: i64) -> Vec<Value> {
    let spec = spec(object);
    let audiences: Vec<&str> = spec
        .list("tokenRequests")
        .iter()
        .map(|token| token.text("audience"))
        .collect();
    let audiences = if audiences.is_empty() {
        UNSET.to_owned()
    } else {
        audiences.join(",")
    };
    let modes = spec.texts("volumeLifecycleModes").join(",");
    vec![
        name(object),
        spec.at("attachRequired").as_bool().unwrap_or(true).into(),
        spec.flag("podInfoOnMount").into(),
        spec.flag("storageCapacity").into(),
        audiences.into(),
        spec.flag("requiresRepublish").into(),
        or(&modes, super::NONE),
        age(object, now),
    ]
}

pub(crate) fn csi_storage_capacity(object: &Object, _now: i64) -> Vec<Value> {
    vec![
        name(object),
        root_text(object, "storageClassName"),
        or(&canonical(object.at("capacity")), UNSET),
    ]
}
