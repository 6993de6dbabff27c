//! Volumes of a pod.

use super::{
    Condition, LabelSelector, Labels, LocalObjectReference, ObjectMeta, ObjectReference, fields,
};
use serde_json::Value;
use std::collections::BTreeMap;

fields! {
    /// A volume; exactly one source is set (an unset volume is an emptyDir). `other` holds sources without a type here.
    pub struct Volume {
        pub name: String,
        pub empty_dir: Option<EmptyDirVolumeSource>,
        pub host_path: Option<HostPathVolumeSource>,
        pub config_map: Option<ConfigMapVolumeSource>,
        pub secret: Option<SecretVolumeSource>,
        #[serde(rename = "downwardAPI")]
        pub downward_api: Option<DownwardApiVolumeSource>,
        pub projected: Option<ProjectedVolumeSource>,
        pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
        pub ephemeral: Option<Value>,
        pub nfs: Option<Value>,
        pub csi: Option<Value>,
        pub image: Option<Value>,
    }
    /// Scratch space that lives as long as the pod.
    pub struct EmptyDirVolumeSource {
        pub medium: String,
        pub size_limit: Option<String>,
    }
    /// A path of the host.
    pub struct HostPathVolumeSource {
        pub path: String,
        #[serde(rename = "type")]
        pub kind: Option<String>,
    }
    /// A key of a ConfigMap or Secret as a file.
    pub struct KeyToPath {
        pub key: String,
        pub path: String,
        pub mode: Option<i32>,
    }
    /// A ConfigMap as files.
    pub struct ConfigMapVolumeSource {
        pub name: String,
        pub items: Vec<KeyToPath>,
        pub default_mode: Option<i32>,
        pub optional: Option<bool>,
    }
    /// A Secret as files.
    pub struct SecretVolumeSource {
        pub secret_name: String,
        pub items: Vec<KeyToPath>,
        pub default_mode: Option<i32>,
        pub optional: Option<bool>,
    }
    /// Pod fields as files.
    pub struct DownwardApiVolumeSource {
        pub items: Vec<DownwardApiVolumeFile>,
        pub default_mode: Option<i32>,
    }
    /// One pod field as a file.
    pub struct DownwardApiVolumeFile {
        pub path: String,
        pub field_ref: Option<ObjectFieldSelector>,
        pub resource_field_ref: Option<ResourceFieldSelector>,
        pub mode: Option<i32>,
    }
    /// A field of the pod.
    pub struct ObjectFieldSelector {
        pub api_version: String,
        pub field_path: String,
    }
    /// A resource of a container.
    pub struct ResourceFieldSelector {
        pub container_name: String,
        pub resource: String,
        pub divisor: String,
    }
    /// Several sources in one directory.
    pub struct ProjectedVolumeSource {
        pub sources: Vec<VolumeProjection>,
        pub default_mode: Option<i32>,
    }
    /// One source of a projected volume.
    pub struct VolumeProjection {
        pub secret: Option<SecretProjection>,
        pub config_map: Option<ConfigMapProjection>,
        #[serde(rename = "downwardAPI")]
        pub downward_api: Option<DownwardApiProjection>,
        pub service_account_token: Option<ServiceAccountTokenProjection>,
        pub cluster_trust_bundle: Option<Value>,
        pub pod_certificate: Option<Value>,
    }
    /// A Secret within a projected volume.
    pub struct SecretProjection {
        pub name: String,
        pub items: Vec<KeyToPath>,
        pub optional: Option<bool>,
    }
    /// A ConfigMap within a projected volume.
    pub struct ConfigMapProjection {
        pub name: String,
        pub items: Vec<KeyToPath>,
        pub optional: Option<bool>,
    }
    /// Pod fields within a projected volume.
    pub struct DownwardApiProjection {
        pub items: Vec<DownwardApiVolumeFile>,
    }
    /// A token of the pod's service account.
    pub struct ServiceAccountTokenProjection {
        pub audience: String,
        pub expiration_seconds: Option<i64>,
        pub path: String,
    }
    /// A claim.
    pub struct PersistentVolumeClaimVolumeSource {
        pub claim_name: String,
        pub read_only: bool,
    }
    /// Where a volume appears in a container.
    pub struct VolumeMount {
        pub name: String,
        pub mount_path: String,
        pub read_only: bool,
        pub recursive_read_only: Option<String>,
        pub sub_path: String,
        pub sub_path_expr: String,
        pub mount_propagation: Option<String>,
    }
    /// A block device of a container.
    pub struct VolumeDevice {
        pub name: String,
        pub device_path: String,
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
    /// Where registry credentials are.
    pub struct ImagePullSecrets {
        pub items: Vec<LocalObjectReference>,
    }
}
super::kind!(
    PersistentVolumeClaim,
    crate::resource_ref::PERSISTENT_VOLUME_CLAIMS
);
super::kind!(PersistentVolume, crate::resource_ref::PERSISTENT_VOLUMES);
super::kind!(StorageClass, crate::resource_ref::STORAGE_CLASSES);
