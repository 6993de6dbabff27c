//! Defaults of volumes, claims and storage classes.

use schema::Object;
use schema::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::{canonical_amounts, canonical_resources, pod};
use crate::look::{Look, fill, fill_zero, map_in, with_spec};

/// A claim asks for a filesystem.
pub(crate) fn claim(object: &mut Object) {
    with_spec(object, claim_spec);
}

/// The spec of a claim or of a claim template.
pub(crate) fn claim_spec(spec: &mut Map<String, Value>) {
    fill(spec, "volumeMode", "Filesystem");
    if let Some(resources) = map_in(spec, "resources") {
        canonical_resources(resources);
    }
    if spec.has("dataSource") && !spec.has("dataSourceRef") {
        let source = spec.at("dataSource").clone();
        spec.insert("dataSourceRef".to_owned(), source);
    } else if spec.has("dataSourceRef")
        && !spec.has("dataSource")
        && spec.at("dataSourceRef").text("namespace").is_empty()
    {
        let source = spec.at("dataSourceRef").clone();
        let group = source.text("apiGroup").to_owned();
        let kind = source.text("kind").to_owned();
        let known = (group.is_empty() && kind == "PersistentVolumeClaim")
            || (group == "snapshot.storage.k8s.io" && kind == "VolumeSnapshot");
        if known {
            spec.insert("dataSource".to_owned(), source);
        }
    }
}

/// A volume is kept when released and holds a filesystem.
pub(crate) fn volume(object: &mut Object) {
    with_spec(object, |spec| {
        fill_zero(spec, "persistentVolumeReclaimPolicy", "Retain");
        fill(spec, "volumeMode", "Filesystem");
        if let Some(capacity) = map_in(spec, "capacity") {
            canonical_amounts(capacity);
        }
        pod::source_defaults(spec);
    });
}

/// Volumes are deleted with their claim and bound at once.
pub(crate) fn storage_class(object: &mut Object) {
    fill(object.fields_mut(), "reclaimPolicy", "Delete");
    fill(object.fields_mut(), "volumeBindingMode", "Immediate");
}

/// What a driver does unless it says otherwise.
pub(crate) fn csi_driver(object: &mut Object) {
    with_spec(object, |spec| {
        for (field, value) in [
            ("attachRequired", true),
            ("podInfoOnMount", false),
            ("storageCapacity", false),
            ("requiresRepublish", false),
            ("seLinuxMount", false),
        ] {
            fill(spec, field, value);
        }
        fill(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
        if spec.list("volumeLifecycleModes").is_empty() {
            spec.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
        }
    });
}

/// An amount as Kubernetes prints it; the text itself when it is no amount.
pub(crate) fn canonical(amount: &Value) -> String {
    match Quantity::from_json(amount) {
        Ok(quantity) => quantity.to_string(),
        Err(_) => amount.as_str().unwrap_or("").to_owned(),
    }
}
