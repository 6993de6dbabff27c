//! Pods: the specification.

use super::{
    IntOrString, Kind, LabelSelector, Labels, LocalObjectReference, ObjectFieldSelector,
    ObjectMeta, PodStatus, ResourceFieldSelector, Volume, VolumeDevice, VolumeMount, fields,
};
use crate::resource_ref::{PODS, ResourceRef};
use serde_json::Value;

fields! {
    /// A pod.
    pub struct Pod {
        pub metadata: ObjectMeta,
        pub spec: PodSpec,
        pub status: PodStatus,
    }
    /// What a pod runs and where it may run.
    pub struct PodSpec {
        pub node_name: String,
        pub scheduler_name: String,
        pub containers: Vec<Container>,
        pub init_containers: Vec<Container>,
        pub ephemeral_containers: Vec<Container>,
        pub volumes: Vec<Volume>,
        pub restart_policy: String,
        pub termination_grace_period_seconds: Option<i64>,
        pub active_deadline_seconds: Option<i64>,
        pub dns_policy: String,
        pub dns_config: Option<PodDnsConfig>,
        pub node_selector: Labels,
        pub service_account_name: String,
        pub automount_service_account_token: Option<bool>,
        pub host_network: bool,
        #[serde(rename = "hostPID")]
        pub host_pid: bool,
        #[serde(rename = "hostIPC")]
        pub host_ipc: bool,
        pub host_users: Option<bool>,
        pub share_process_namespace: Option<bool>,
        pub security_context: Option<PodSecurityContext>,
        pub image_pull_secrets: Vec<LocalObjectReference>,
        pub hostname: String,
        pub subdomain: String,
        #[serde(rename = "setHostnameAsFQDN")]
        pub set_hostname_as_fqdn: Option<bool>,
        pub affinity: Option<Affinity>,
        pub tolerations: Vec<Toleration>,
        pub host_aliases: Vec<HostAlias>,
        pub priority_class_name: String,
        pub priority: Option<i32>,
        pub preemption_policy: Option<String>,
        pub readiness_gates: Vec<PodReadinessGate>,
        pub scheduling_gates: Vec<LocalObjectReference>,
        pub runtime_class_name: Option<String>,
        pub enable_service_links: Option<bool>,
        pub overhead: Labels,
        pub resources: Option<ResourceRequirements>,
        pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
        pub resource_claims: Vec<Value>,
    }
    /// The part of a pod template that says which nodes its pods may run on.
    pub struct PodPlacement {
        pub node_name: String,
        pub node_selector: Labels,
        pub affinity: Option<Affinity>,
        pub tolerations: Vec<Toleration>,
        pub host_network: bool,
    }
    /// A container (also an init container: then `restart_policy` `Always` makes it a sidecar).
    pub struct Container {
        pub name: String,
        pub image: String,
        pub image_pull_policy: String,
        pub command: Vec<String>,
        pub args: Vec<String>,
        pub working_dir: String,
        pub ports: Vec<ContainerPort>,
        pub env_from: Vec<EnvFromSource>,
        pub env: Vec<EnvVar>,
        pub resources: ResourceRequirements,
        pub restart_policy: Option<String>,
        pub volume_mounts: Vec<VolumeMount>,
        pub volume_devices: Vec<VolumeDevice>,
        pub liveness_probe: Option<Probe>,
        pub readiness_probe: Option<Probe>,
        pub startup_probe: Option<Probe>,
        pub lifecycle: Option<Lifecycle>,
        pub termination_message_path: String,
        pub termination_message_policy: String,
        pub security_context: Option<SecurityContext>,
        pub stdin: bool,
        pub stdin_once: bool,
        pub tty: bool,
        pub target_container_name: String,
    }
    /// A port that a container listens on.
    pub struct ContainerPort {
        pub name: String,
        pub container_port: i32,
        pub host_port: i32,
        #[serde(rename = "hostIP")]
        pub host_ip: String,
        pub protocol: String,
    }
    /// Environment from all keys of a ConfigMap or Secret.
    pub struct EnvFromSource {
        pub prefix: String,
        pub config_map_ref: Option<EnvSource>,
        pub secret_ref: Option<EnvSource>,
    }
    /// A ConfigMap or Secret.
    pub struct EnvSource {
        pub name: String,
        pub optional: Option<bool>,
    }
    /// A variable.
    pub struct EnvVar {
        pub name: String,
        pub value: String,
        pub value_from: Option<EnvVarSource>,
    }
    /// Where a variable's value comes from.
    pub struct EnvVarSource {
        pub field_ref: Option<ObjectFieldSelector>,
        pub resource_field_ref: Option<ResourceFieldSelector>,
        pub config_map_key_ref: Option<KeySelector>,
        pub secret_key_ref: Option<KeySelector>,
    }
    /// A key of a ConfigMap or Secret.
    pub struct KeySelector {
        pub name: String,
        pub key: String,
        pub optional: Option<bool>,
    }
    /// Requests and limits, quantities as text.
    pub struct ResourceRequirements {
        pub limits: Labels,
        pub requests: Labels,
        pub claims: Vec<Value>,
    }
    /// A health check.
    pub struct Probe {
        pub exec: Option<ExecAction>,
        pub http_get: Option<HttpGetAction>,
        pub tcp_socket: Option<TcpSocketAction>,
        pub grpc: Option<GrpcAction>,
        pub initial_delay_seconds: i32,
        pub timeout_seconds: Option<i32>,
        pub period_seconds: Option<i32>,
        pub success_threshold: Option<i32>,
        pub failure_threshold: Option<i32>,
        pub termination_grace_period_seconds: Option<i64>,
    }
    /// Runs a command.
    pub struct ExecAction {
        pub command: Vec<String>,
    }
    /// Asks over HTTP.
    pub struct HttpGetAction {
        pub path: String,
        pub port: IntOrString,
        pub host: String,
        pub scheme: String,
        pub http_headers: Vec<HttpHeader>,
    }
    /// A header.
    pub struct HttpHeader {
        pub name: String,
        pub value: String,
    }
    /// Opens a connection.
    pub struct TcpSocketAction {
        pub port: IntOrString,
        pub host: String,
    }
    /// Asks the gRPC health service.
    pub struct GrpcAction {
        pub port: i32,
        pub service: Option<String>,
    }
    /// Hooks of a container.
    pub struct Lifecycle {
        pub post_start: Option<LifecycleHandler>,
        pub pre_stop: Option<LifecycleHandler>,
        pub stop_signal: Option<String>,
    }
    /// One hook.
    pub struct LifecycleHandler {
        pub exec: Option<ExecAction>,
        pub http_get: Option<HttpGetAction>,
        pub tcp_socket: Option<TcpSocketAction>,
        pub sleep: Option<SleepAction>,
    }
    /// Waits.
    pub struct SleepAction {
        pub seconds: i64,
    }
    /// Security of the pod.
    pub struct PodSecurityContext {
        pub run_as_user: Option<i64>,
        pub run_as_group: Option<i64>,
        pub run_as_non_root: Option<bool>,
        pub supplemental_groups: Vec<i64>,
        pub fs_group: Option<i64>,
        pub fs_group_change_policy: Option<String>,
        pub sysctls: Vec<Sysctl>,
        pub seccomp_profile: Option<SeccompProfile>,
        pub se_linux_options: Option<Value>,
        pub app_armor_profile: Option<Value>,
    }
    /// A kernel parameter.
    pub struct Sysctl {
        pub name: String,
        pub value: String,
    }
    /// Security of a container.
    pub struct SecurityContext {
        pub capabilities: Option<Capabilities>,
        pub privileged: Option<bool>,
        pub run_as_user: Option<i64>,
        pub run_as_group: Option<i64>,
        pub run_as_non_root: Option<bool>,
        pub read_only_root_filesystem: Option<bool>,
        pub allow_privilege_escalation: Option<bool>,
        pub proc_mount: Option<String>,
        pub seccomp_profile: Option<SeccompProfile>,
        pub se_linux_options: Option<Value>,
        pub app_armor_profile: Option<Value>,
    }
    /// Capabilities added and dropped.
    pub struct Capabilities {
        pub add: Vec<String>,
        pub drop: Vec<String>,
    }
    /// A seccomp profile: `RuntimeDefault`, `Unconfined` or `Localhost`.
    pub struct SeccompProfile {
        #[serde(rename = "type")]
        pub kind: String,
        pub localhost_profile: Option<String>,
    }
    /// Resolver settings.
    pub struct PodDnsConfig {
        pub nameservers: Vec<String>,
        pub searches: Vec<String>,
        pub options: Vec<PodDnsConfigOption>,
    }
    /// A resolver option.
    pub struct PodDnsConfigOption {
        pub name: String,
        pub value: Option<String>,
    }
    /// A line of `/etc/hosts`.
    pub struct HostAlias {
        pub ip: String,
        pub hostnames: Vec<String>,
    }
    /// A condition that readiness waits for.
    pub struct PodReadinessGate {
        pub condition_type: String,
    }
    /// What a pod tolerates.
    pub struct Toleration {
        pub key: String,
        pub operator: String,
        pub value: String,
        pub effect: String,
        pub toleration_seconds: Option<i64>,
    }
    /// Attraction and repulsion.
    pub struct Affinity {
        pub node_affinity: Option<NodeAffinity>,
        pub pod_affinity: Option<PodAffinity>,
        pub pod_anti_affinity: Option<PodAffinity>,
    }
    /// Which nodes.
    pub struct NodeAffinity {
        pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
        pub preferred_during_scheduling_ignored_during_execution: Vec<PreferredSchedulingTerm>,
    }
    /// Alternatives of node terms.
    pub struct NodeSelector {
        pub node_selector_terms: Vec<NodeSelectorTerm>,
    }
    /// Requirements that hold together.
    pub struct NodeSelectorTerm {
        pub match_expressions: Vec<NodeSelectorRequirement>,
        pub match_fields: Vec<NodeSelectorRequirement>,
    }
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`, `Gt` or `Lt`.
    pub struct NodeSelectorRequirement {
        pub key: String,
        pub operator: String,
        pub values: Vec<String>,
    }
    /// A weighted preference.
    pub struct PreferredSchedulingTerm {
        pub weight: i32,
        pub preference: NodeSelectorTerm,
    }
    /// Pods to be near (or far from).
    pub struct PodAffinity {
        pub required_during_scheduling_ignored_during_execution: Vec<PodAffinityTerm>,
        pub preferred_during_scheduling_ignored_during_execution: Vec<WeightedPodAffinityTerm>,
    }
    /// A set of pods and a topology.
    pub struct PodAffinityTerm {
        pub label_selector: Option<LabelSelector>,
        pub namespaces: Vec<String>,
        pub topology_key: String,
        pub namespace_selector: Option<LabelSelector>,
        pub match_label_keys: Vec<String>,
        pub mismatch_label_keys: Vec<String>,
    }
    /// A weighted term.
    pub struct WeightedPodAffinityTerm {
        pub weight: i32,
        pub pod_affinity_term: PodAffinityTerm,
    }
    /// How evenly pods spread.
    pub struct TopologySpreadConstraint {
        pub max_skew: i32,
        pub topology_key: String,
        pub when_unsatisfiable: String,
        pub label_selector: Option<LabelSelector>,
        pub min_domains: Option<i32>,
        pub node_affinity_policy: Option<String>,
        pub node_taints_policy: Option<String>,
        pub match_label_keys: Vec<String>,
    }
}

impl Kind for Pod {
    fn resource() -> ResourceRef {
        PODS
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn node_name(&self) -> &str {
        &self.spec.node_name
    }
}

impl Toleration {
    /// Whether this toleration covers the taint.
    pub fn tolerates(&self, taint: &super::Taint) -> bool {
        (self.effect.is_empty() || self.effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator.as_str() {
                "" | "Equal" => self.value == taint.value && !self.key.is_empty(),
                "Exists" => true,
                _ => false,
            }
    }
}
