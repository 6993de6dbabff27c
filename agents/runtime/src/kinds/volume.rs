//! Volumes of a pod.

use super::{Condition, LabelSelector, Labels, ObjectMeta, ObjectReference, fields, mention};
use serde_json::Value;
use std::collections::BTreeMap;

fields! {
    /// A volume, and its source where that makes or uses a claim.
    pub struct Volume {
        pub name: String,
        pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
        pub ephemeral: Option<Value>,
    }
    /// A path of the host.
    pub struct HostPathVolumeSource {
        pub path: String,
        #[serde(rename = "type")]
        pub kind: Option<String>,
    }
    /// A claim.
    pub struct PersistentVolumeClaimVolumeSource {
        pub claim_name: String,
    }
    /// A PersistentVolumeClaim.
    pub struct PersistentVolumeClaim {
        pub metadata: ObjectMeta,
        pub spec: PersistentVolumeClaimSpec,
        pub status: PersistentVolumeClaimStatus,
    }
    /// What is claimed.
    pub struct PersistentVolumeClaimSpec {
        pub access_modes: Vec<String>,
        pub volume_name: String,
        pub storage_class_name: Option<String>,
        pub selector: Option<LabelSelector>,
        pub volume_mode: Option<String>,
        pub resources: VolumeResources,
        pub data_source: Option<Value>,
        pub data_source_ref: Option<Value>,
        pub volume_attributes_class_name: Option<String>,
    }
    /// How much is claimed.
    pub struct VolumeResources {
        pub requests: BTreeMap<String, Value>,
    }
    /// Whether it is bound, and what was got.
    pub struct PersistentVolumeClaimStatus {
        pub phase: String,
        pub access_modes: Vec<String>,
        pub capacity: BTreeMap<String, Value>,
        pub conditions: Vec<Condition>,
        pub current_volume_attributes_class_name: Option<String>,
    }
    /// A PersistentVolume.
    pub struct PersistentVolume {
        pub metadata: ObjectMeta,
        pub spec: PersistentVolumeSpec,
        pub status: PersistentVolumeStatus,
    }
    /// What a volume is; of the sources those that somebody looks at.
    pub struct PersistentVolumeSpec {
        pub capacity: BTreeMap<String, Value>,
        pub access_modes: Vec<String>,
        pub claim_ref: Option<ObjectReference>,
        pub persistent_volume_reclaim_policy: String,
        pub storage_class_name: String,
        pub volume_mode: Option<String>,
        pub volume_attributes_class_name: Option<String>,
        pub node_affinity: Option<Value>,
        pub host_path: Option<HostPathVolumeSource>,
        pub nfs: Option<Value>,
    }
    /// Whether it is bound.
    pub struct PersistentVolumeStatus {
        pub phase: String,
        pub message: String,
        pub reason: String,
    }
    /// A class of volumes.
    pub struct StorageClass {
        pub metadata: ObjectMeta,
        pub provisioner: String,
        pub parameters: Labels,
        pub reclaim_policy: Option<String>,
        pub mount_options: Vec<String>,
        pub allow_volume_expansion: Option<bool>,
        pub volume_binding_mode: Option<String>,
    }
}
super::kind!(
    PersistentVolumeClaim,
    crate::resource_ref::PERSISTENT_VOLUME_CLAIMS,
    mentions: mention::of_claim
);
super::kind!(
    PersistentVolume,
    crate::resource_ref::PERSISTENT_VOLUMES,
    mentions: mention::of_volume
);
super::kind!(StorageClass, crate::resource_ref::STORAGE_CLASSES);

/// The older form of a class name, an annotation that counts before the field.
pub const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

impl PersistentVolumeClaim {
    /// The name of the claim's class; empty for none.
    pub fn class_name(&self) -> &str {
        let old = self.metadata.annotations.get(CLASS_ANNOTATION);
        let name = old.or(self.spec.storage_class_name.as_ref());
        name.map_or("", String::as_str)
    }
}

impl PersistentVolume {
    /// The name of the volume's class; empty for none.
    pub fn class_name(&self) -> &str {
        let old = self.metadata.annotations.get(CLASS_ANNOTATION);
        old.unwrap_or(&self.spec.storage_class_name)
    }
}
