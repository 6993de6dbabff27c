//! The Pod as the node reads it: every field that changes what runs here, and no other.
//!
//! The API server has already validated and defaulted the object, yet nothing here trusts that: every field has a
//! default, `null` counts as absent, and a pod that still does not decode is reported instead of crashing the agent.
//! Architecture invariant: this module has no behaviour beyond lookups on the decoded values.

mod container;
pub(crate) mod handler;
mod volume;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::container::{
    Container, EnvFrom, EnvSource, EnvVar, FieldRef, KeyRef, ResourceFieldRef, Resources,
    VolumeMount,
};
pub(crate) use self::handler::{GrpcHandler, Handler, HttpHandler, Probe};
pub(crate) use self::volume::{
    DownwardVolume, EmptyDirVolume, HostPathVolume, ObjectVolume, TokenProjection, Volume,
};

/// No grace period is longer, as the API server has it for deletions: a time has to be added to it.
pub(crate) const GRACE_SECONDS_MAX: i64 = 0x7fff_ffff;

/// A pod, as far as a node has to know it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Pod {
    pub(crate) metadata: Metadata,
    pub(crate) spec: PodSpec,
    pub(crate) status: Value,
}

/// Object metadata.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) resource_version: String,
    pub(crate) generation: i64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) deletion_timestamp: Option<String>,
    pub(crate) deletion_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
    pub(crate) ephemeral_containers: Vec<Container>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) restart_policy: String,
    pub(crate) termination_grace_period_seconds: Option<i64>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) dns_policy: String,
    pub(crate) dns_config: Option<DnsConfig>,
    pub(crate) service_account_name: String,
    pub(crate) node_name: String,
    pub(crate) host_network: bool,
    #[serde(rename = "hostPID")]
    pub(crate) host_pid: bool,
    #[serde(rename = "hostIPC")]
    pub(crate) host_ipc: bool,
    pub(crate) share_process_namespace: bool,
    pub(crate) security_context: PodSecurityContext,
    pub(crate) image_pull_secrets: Vec<LocalReference>,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    #[serde(rename = "setHostnameAsFQDN")]
    pub(crate) set_hostname_as_fqdn: bool,
    pub(crate) host_aliases: Vec<HostAlias>,
    pub(crate) enable_service_links: Option<bool>,
    pub(crate) readiness_gates: Vec<ReadinessGate>,
    pub(crate) resource_claims: Vec<PodResourceClaim>,
}

/// A claim on devices by its name, or one that is made from a template.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodResourceClaim {
    pub(crate) name: String,
    pub(crate) resource_claim_name: Option<String>,
    pub(crate) resource_claim_template_name: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LocalReference {
    pub(crate) name: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HostAlias {
    pub(crate) ip: String,
    pub(crate) hostnames: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReadinessGate {
    pub(crate) condition_type: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DnsConfig {
    pub(crate) nameservers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<DnsOption>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DnsOption {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSecurityContext {
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) supplemental_groups: Vec<i64>,
    pub(crate) fs_group: Option<i64>,
    pub(crate) fs_group_change_policy: Option<String>,
    pub(crate) sysctls: Vec<NameValue>,
    pub(crate) seccomp_profile: Option<SeccompProfile>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NameValue {
    pub(crate) name: String,
    pub(crate) value: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SeccompProfile {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) localhost_profile: Option<String>,
}

impl Pod {
    /// Decodes an API object. The text of the error is fit for a status message.
    pub(crate) fn decode(object: &Value) -> Result<Pod, String> {
        serde_json::from_value(without_nulls(object)).map_err(|error| error.to_string())
    }

    /// `name_namespace(uid)`, as the messages of a node name a pod.
    pub(crate) fn display(&self) -> String {
        let Metadata {
            name,
            namespace,
            uid,
            ..
        } = &self.metadata;
        format!("{name}_{namespace}({uid})")
    }

    /// Every container of the pod with its role, init containers first, ephemeral ones last.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = (Role, &Container)> {
        let init = self
            .spec
            .init_containers
            .iter()
            .map(|container| match container.is_sidecar() {
                true => (Role::Sidecar, container),
                false => (Role::Init, container),
            });
        let apps = self.spec.containers.iter();
        let ephemeral = self.spec.ephemeral_containers.iter();
        init.chain(apps.map(|container| (Role::App, container)))
            .chain(ephemeral.map(|container| (Role::Ephemeral, container)))
    }

    /// The container of that name with its role.
    pub(crate) fn container(&self, name: &str) -> Option<(Role, &Container)> {
        self.all_containers()
            .find(|(_, container)| container.name == name)
    }

    /// The grace period that applies now: the one of the deletion when there is one.
    pub(crate) fn grace_seconds(&self) -> i64 {
        let deletion = self
            .metadata
            .deletion_timestamp
            .as_ref()
            .and(self.metadata.deletion_grace_period_seconds);
        deletion
            .or(self.spec.termination_grace_period_seconds)
            .unwrap_or(30)
            .clamp(0, GRACE_SECONDS_MAX)
    }

    /// The phase that the API has on record.
    pub(crate) fn recorded_phase(&self) -> &str {
        self.status
            .get("phase")
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

/// What a container is for, which decides when it starts and whether it counts for the phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to completion before anything after it starts.
    Init,
    /// An init container with restartPolicy Always: starts in order, then stays.
    Sidecar,
    App,
    /// Put into a pod that is there, to look at it: started once, and counts for nothing.
    Ephemeral,
}

impl Role {
    /// The field of the spec that holds containers of this role, for an event's fieldPath.
    pub(crate) fn field(self) -> &'static str {
        match self {
            Role::App => "spec.containers",
            Role::Init | Role::Sidecar => "spec.initContainers",
            Role::Ephemeral => "spec.ephemeralContainers",
        }
    }
}

/// A copy without object members that are `null`: Kubernetes reads those as absent.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k.clone(), without_nulls(v)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_nulls).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests;
