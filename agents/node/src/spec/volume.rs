//! The volumes of a pod.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{FieldRef, ResourceFieldRef};

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Volume {
    pub(crate) name: String,
    pub(crate) empty_dir: Option<EmptyDirVolume>,
    pub(crate) host_path: Option<HostPathVolume>,
    pub(crate) config_map: Option<ObjectVolume>,
    pub(crate) secret: Option<ObjectVolume>,
    #[serde(rename = "downwardAPI")]
    pub(crate) downward_api: Option<DownwardVolume>,
    pub(crate) projected: Option<ProjectedVolume>,
    pub(crate) persistent_volume_claim: Option<ClaimVolume>,
    pub(crate) ephemeral: Option<Value>,
    /// Whatever else the volume says; its keys name the kinds that this node cannot mount.
    #[serde(flatten)]
    pub(crate) other: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EmptyDirVolume {
    pub(crate) medium: String,
    pub(crate) size_limit: Option<Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HostPathVolume {
    pub(crate) path: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClaimVolume {
    pub(crate) claim_name: String,
    pub(crate) read_only: bool,
}

/// A configMap or secret, as a volume of its own or as a source of a projected one.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ObjectVolume {
    /// ConfigMaps and projected sources say `name`, secret volumes `secretName`.
    #[serde(alias = "secretName")]
    pub(crate) name: String,
    pub(crate) items: Vec<KeyToPath>,
    pub(crate) default_mode: Option<u32>,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KeyToPath {
    pub(crate) key: String,
    pub(crate) path: String,
    pub(crate) mode: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DownwardVolume {
    pub(crate) items: Vec<DownwardItem>,
    pub(crate) default_mode: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DownwardItem {
    pub(crate) path: String,
    pub(crate) field_ref: Option<FieldRef>,
    pub(crate) resource_field_ref: Option<ResourceFieldRef>,
    pub(crate) mode: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProjectedVolume {
    pub(crate) sources: Vec<ProjectedSource>,
    pub(crate) default_mode: Option<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ProjectedSource {
    pub(crate) config_map: Option<ObjectVolume>,
    pub(crate) secret: Option<ObjectVolume>,
    #[serde(rename = "downwardAPI")]
    pub(crate) downward_api: Option<DownwardVolume>,
    pub(crate) service_account_token: Option<TokenProjection>,
    #[serde(flatten)]
    pub(crate) other: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TokenProjection {
    pub(crate) audience: String,
    pub(crate) expiration_seconds: Option<i64>,
    pub(crate) path: String,
}
