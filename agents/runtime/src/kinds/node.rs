//! Nodes and leases.

use super::{Condition, Kind, Labels, ObjectMeta, condition, fields, kind};
use crate::resource_ref::{LEASES, NODES, ResourceRef};

fields! {
    /// A node.
    pub struct Node {
        pub metadata: ObjectMeta,
        pub spec: NodeSpec,
        pub status: NodeStatus,
    }
    /// What the cluster wants of a node.
    pub struct NodeSpec {
        #[serde(rename = "podCIDR")]
        pub pod_cidr: String,
        #[serde(rename = "podCIDRs")]
        pub pod_cidrs: Vec<String>,
        #[serde(rename = "providerID")]
        pub provider_id: String,
        pub unschedulable: bool,
        pub taints: Vec<Taint>,
    }
    /// What keeps pods away.
    pub struct Taint {
        pub key: String,
        pub value: String,
        pub effect: String,
        pub time_added: Option<String>,
    }
    /// What a node says of itself.
    pub struct NodeStatus {
        pub capacity: Labels,
        pub allocatable: Labels,
        pub phase: String,
        pub conditions: Vec<Condition>,
        pub addresses: Vec<NodeAddress>,
        pub daemon_endpoints: NodeDaemonEndpoints,
        pub node_info: NodeSystemInfo,
        pub images: Vec<ContainerImage>,
        pub volumes_in_use: Vec<String>,
    }
    /// An address and its type: `InternalIP`, `Hostname`..
    pub struct NodeAddress {
        #[serde(rename = "type")]
        pub kind: String,
        pub address: String,
    }
    /// Where the node agent listens.
    pub struct NodeDaemonEndpoints {
        pub kubelet_endpoint: DaemonEndpoint,
    }
    /// A port.
    pub struct DaemonEndpoint {
        #[serde(rename = "Port")]
        pub port: i32,
    }
    /// Versions and ids.
    pub struct NodeSystemInfo {
        #[serde(rename = "machineID")]
        pub machine_id: String,
        #[serde(rename = "systemUUID")]
        pub system_uuid: String,
        #[serde(rename = "bootID")]
        pub boot_id: String,
        pub kernel_version: String,
        pub os_image: String,
        pub container_runtime_version: String,
        pub kubelet_version: String,
        pub kube_proxy_version: String,
        pub operating_system: String,
        pub architecture: String,
    }
    /// An image on the node.
    pub struct ContainerImage {
        pub names: Vec<String>,
        pub size_bytes: i64,
    }
    /// A lease: a heartbeat or a lock.
    pub struct Lease {
        pub metadata: ObjectMeta,
        pub spec: LeaseSpec,
    }
    /// Holder and times.
    pub struct LeaseSpec {
        pub holder_identity: Option<String>,
        pub lease_duration_seconds: Option<i32>,
        pub acquire_time: Option<String>,
        pub renew_time: Option<String>,
        pub lease_transitions: Option<i32>,
    }
}
kind!(Node, NODES);
impl Kind for Lease {
    /// Of five thousand nodes each renews its own every ten seconds, and they are asked for by name.
    const IS_INDEXED: bool = false;

    fn resource() -> ResourceRef {
        LEASES
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
}

impl Node {
    /// The condition of a kind.
    pub fn condition(&self, kind: &str) -> Option<&Condition> {
        condition(&self.status.conditions, kind)
    }

    /// Whether the node is `Ready`.
    pub fn is_ready(&self) -> bool {
        self.condition("Ready").is_some_and(Condition::is_true)
    }
}
