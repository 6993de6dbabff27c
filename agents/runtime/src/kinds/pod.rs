//! Pods: the specification.

use super::{
    Few, Kind, Labels, List, Mention, ObjectMeta, PodStatus, Seldom, Text, Volume, fields, mention,
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
        pub node_name: Text,
        pub containers: List<Container>,
        pub init_containers: List<Container>,
        /// Those that make or use a claim.
        pub volumes: List<Volume>,
        pub node_selector: Labels,
        pub hostname: Seldom,
        pub subdomain: Seldom,
        pub affinity: Option<Box<Affinity>>,
        pub tolerations: List<Toleration>,
        pub priority: Option<i32>,
        pub resources: Option<Box<ResourceRequirements>>,
        pub resource_claims: Few<Value>,
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
        pub ports: Vec<ContainerPort>,
        pub resources: ResourceRequirements,
        pub restart_policy: Option<String>,
    }
    /// A port that a container listens on.
    pub struct ContainerPort {
        pub name: String,
        pub container_port: i32,
        pub protocol: String,
    }
    /// Requests and limits, quantities as text.
    pub struct ResourceRequirements {
        pub limits: Labels,
        pub requests: Labels,
    }
    /// What a pod tolerates.
    pub struct Toleration {
        pub key: String,
        pub operator: String,
        pub value: String,
        pub effect: String,
        pub toleration_seconds: Option<i64>,
    }
    /// Attraction to nodes.
    pub struct Affinity {
        pub node_affinity: Option<NodeAffinity>,
    }
    /// Which nodes.
    pub struct NodeAffinity {
        pub required_during_scheduling_ignored_during_execution: Option<NodeSelector>,
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
}

impl Kind for Pod {
    const IS_MANY: bool = true;

    fn resource() -> ResourceRef {
        PODS
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn node_name(&self) -> &str {
        &self.spec.node_name
    }
    fn mentions(&self) -> Vec<Mention> {
        mention::of_pod(self)
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
