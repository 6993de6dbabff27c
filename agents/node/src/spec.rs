//! The Pod as the node reads it: every field that changes what runs here, and no other.
//!
//! The API server has already validated and defaulted the object, yet nothing here trusts that: every field has a
//! default, `null` counts as absent, and a pod that still does not decode is reported instead of crashing the agent.
//! Architecture invariant: this module has no behaviour beyond lookups on the decoded values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// A container, init container, sidecar or ephemeral container.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_pull_policy: String,
    pub(crate) command: Vec<String>,
    pub(crate) args: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) env: Vec<EnvVar>,
    pub(crate) env_from: Vec<EnvFrom>,
    pub(crate) resources: Resources,
    pub(crate) resize_policy: Vec<ResizePolicy>,
    pub(crate) volume_mounts: Vec<VolumeMount>,
    pub(crate) liveness_probe: Option<Probe>,
    pub(crate) readiness_probe: Option<Probe>,
    pub(crate) startup_probe: Option<Probe>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) termination_message_path: String,
    pub(crate) termination_message_policy: String,
    pub(crate) security_context: SecurityContext,
    pub(crate) stdin: bool,
    pub(crate) stdin_once: bool,
    pub(crate) tty: bool,
    pub(crate) restart_policy: Option<String>,
    pub(crate) restart_policy_rules: Vec<RestartRule>,
    /// The container whose processes an ephemeral one sees.
    pub(crate) target_container_name: String,
}

/// What it takes to give a container another amount of a resource.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResizePolicy {
    pub(crate) resource_name: String,
    /// `NotRequired` or `RestartContainer`.
    pub(crate) restart_policy: String,
}

/// Exit codes after which a container is started again whatever its policy says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RestartRule {
    pub(crate) action: String,
    pub(crate) exit_codes: Option<ExitCodes>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ExitCodes {
    pub(crate) operator: String,
    pub(crate) values: Vec<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub(crate) name: String,
    pub(crate) container_port: u16,
    pub(crate) host_port: u16,
    #[serde(rename = "hostIP")]
    pub(crate) host_ip: String,
    pub(crate) protocol: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvVar {
    pub(crate) name: String,
    pub(crate) value: Option<String>,
    pub(crate) value_from: Option<EnvSource>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvSource {
    pub(crate) field_ref: Option<FieldRef>,
    pub(crate) resource_field_ref: Option<ResourceFieldRef>,
    pub(crate) config_map_key_ref: Option<KeyRef>,
    pub(crate) secret_key_ref: Option<KeyRef>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EnvFrom {
    pub(crate) prefix: String,
    pub(crate) config_map_ref: Option<OptionalReference>,
    pub(crate) secret_ref: Option<OptionalReference>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct OptionalReference {
    pub(crate) name: String,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct KeyRef {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) optional: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct FieldRef {
    pub(crate) field_path: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ResourceFieldRef {
    pub(crate) container_name: String,
    pub(crate) resource: String,
    pub(crate) divisor: Option<Value>,
}

/// Requests and limits; quantities stay as they were written until somebody needs the number.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Resources {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) limits: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) requests: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct VolumeMount {
    pub(crate) name: String,
    pub(crate) mount_path: String,
    pub(crate) sub_path: String,
    pub(crate) sub_path_expr: String,
    pub(crate) read_only: bool,
    pub(crate) mount_propagation: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Lifecycle {
    pub(crate) post_start: Option<Handler>,
    pub(crate) pre_stop: Option<Handler>,
    pub(crate) stop_signal: Option<String>,
}

/// What a probe or a hook does; exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Handler {
    pub(crate) exec: Option<ExecHandler>,
    pub(crate) http_get: Option<HttpHandler>,
    pub(crate) tcp_socket: Option<TcpHandler>,
    pub(crate) grpc: Option<GrpcHandler>,
    pub(crate) sleep: Option<SleepHandler>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ExecHandler {
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct HttpHandler {
    pub(crate) path: String,
    pub(crate) port: PortRef,
    pub(crate) host: String,
    pub(crate) scheme: String,
    pub(crate) http_headers: Vec<NameValue>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct TcpHandler {
    pub(crate) port: PortRef,
    pub(crate) host: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct GrpcHandler {
    pub(crate) port: u16,
    pub(crate) service: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SleepHandler {
    pub(crate) seconds: i64,
}

/// A port by number or by the name that a container gave it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(crate) enum PortRef {
    Number(i64),
    Name(String),
}

impl Default for PortRef {
    fn default() -> Self {
        PortRef::Number(0)
    }
}

impl PortRef {
    /// The number, looked up among the container's ports when this is a name.
    pub(crate) fn resolve(&self, container: &Container) -> Option<u16> {
        match self {
            PortRef::Number(number) => u16::try_from(*number).ok().filter(|port| *port > 0),
            PortRef::Name(name) => container
                .ports
                .iter()
                .find(|port| port.name == *name)
                .map(|port| port.container_port)
                .or_else(|| name.parse().ok()),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Probe {
    #[serde(flatten)]
    pub(crate) handler: Handler,
    pub(crate) initial_delay_seconds: i64,
    pub(crate) timeout_seconds: i64,
    pub(crate) period_seconds: i64,
    pub(crate) success_threshold: i64,
    pub(crate) failure_threshold: i64,
    pub(crate) termination_grace_period_seconds: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SecurityContext {
    pub(crate) run_as_user: Option<i64>,
    pub(crate) run_as_group: Option<i64>,
    pub(crate) run_as_non_root: Option<bool>,
    pub(crate) privileged: Option<bool>,
    pub(crate) read_only_root_filesystem: Option<bool>,
    pub(crate) allow_privilege_escalation: Option<bool>,
    pub(crate) capabilities: Capabilities,
    pub(crate) seccomp_profile: Option<SeccompProfile>,
    pub(crate) proc_mount: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Capabilities {
    pub(crate) add: Vec<String>,
    pub(crate) drop: Vec<String>,
}

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
            .max(0)
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

impl RestartRule {
    pub(crate) fn restarts_after(&self, code: i64) -> bool {
        let matches = self.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.contains(&code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        });
        self.action == "Restart" && matches
    }
}

impl Container {
    /// The restart policy that applies to this container: its own or its pod's.
    pub(crate) fn policy<'a>(&'a self, pod: &'a Pod) -> &'a str {
        self.restart_policy
            .as_deref()
            .unwrap_or(&pod.spec.restart_policy)
    }

    /// Whether this init container keeps running beside the app containers.
    pub(crate) fn is_sidecar(&self) -> bool {
        self.restart_policy.as_deref() == Some("Always")
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
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nulls_are_absent_and_roles_follow_the_spec() {
        let pod = Pod::decode(&json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "labels": null},
            "spec": {
                "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always", "env": null}],
                "containers": [{"name": "c", "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 3},
                                "ports": [{"name": "web", "containerPort": 80}]}],
                "ephemeralContainers": [{"name": "e", "targetContainerName": "c"}],
                "volumes": [{"name": "x", "secret": {"secretName": "tls"}}, {"name": "y", "nfs": {"server": "z"}}],
            },
        }))
        .unwrap();
        let roles: Vec<_> = pod
            .all_containers()
            .map(|(role, c)| (role, c.name.as_str()))
            .collect();
        assert_eq!(
            roles,
            [
                (Role::Init, "i"),
                (Role::Sidecar, "s"),
                (Role::App, "c"),
                (Role::Ephemeral, "e")
            ]
        );
        let probe = pod.spec.containers[0].liveness_probe.as_ref().unwrap();
        assert_eq!(
            probe
                .handler
                .http_get
                .as_ref()
                .unwrap()
                .port
                .resolve(&pod.spec.containers[0]),
            Some(80)
        );
        assert_eq!(pod.spec.volumes[0].secret.as_ref().unwrap().name, "tls");
        assert!(pod.spec.volumes[1].other.contains_key("nfs"));
        assert_eq!(pod.display(), "p_d(u)");
    }

    #[test]
    fn wrong_types_are_an_error_not_a_panic() {
        assert!(Pod::decode(&json!({"spec": {"containers": "no"}})).is_err());
        assert!(Pod::decode(&json!(3)).is_err());
    }
}
