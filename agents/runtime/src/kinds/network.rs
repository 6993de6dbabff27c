//! Services and their endpoints.

use super::{IntOrString, Labels, ObjectMeta, ObjectReference, fields, kind, mention};
use crate::resource_ref::{ENDPOINT_SLICES, ENDPOINTS, IP_ADDRESSES, SERVICE_CIDRS, SERVICES};
use serde_json::Value;

fields! {
    /// A service.
    pub struct Service {
        pub metadata: ObjectMeta,
        pub spec: ServiceSpec,
        pub status: ServiceStatus,
    }
    /// Where the service is reached from outside.
    pub struct ServiceStatus {
        pub load_balancer: LoadBalancerStatus,
    }
    /// The addresses of a load balancer.
    pub struct LoadBalancerStatus {
        pub ingress: Vec<LoadBalancerIngress>,
    }
    /// One of them.
    pub struct LoadBalancerIngress {
        pub ip: String,
        pub hostname: String,
        pub ip_mode: Option<String>,
        pub ports: Option<Value>,
    }
    /// What a service offers and whom it selects.
    pub struct ServiceSpec {
        pub ports: Vec<ServicePort>,
        pub selector: Labels,
        #[serde(rename = "clusterIP")]
        pub cluster_ip: String,
        #[serde(rename = "clusterIPs")]
        pub cluster_ips: Vec<String>,
        #[serde(rename = "type")]
        pub kind: String,
        #[serde(rename = "externalIPs")]
        pub external_ips: Vec<String>,
        pub session_affinity: String,
        pub external_name: String,
        pub external_traffic_policy: String,
        pub internal_traffic_policy: Option<String>,
        pub publish_not_ready_addresses: bool,
        pub ip_families: Vec<String>,
        pub ip_family_policy: Option<String>,
        pub traffic_distribution: Option<String>,
        pub load_balancer_class: Option<String>,
        #[serde(rename = "loadBalancerIP")]
        pub load_balancer_ip: String,
        pub health_check_node_port: i32,
    }
    /// A port of a service.
    pub struct ServicePort {
        pub name: String,
        pub protocol: String,
        pub app_protocol: Option<String>,
        pub port: i32,
        pub target_port: Option<IntOrString>,
        pub node_port: i32,
    }
    /// A slice of a service's endpoints.
    pub struct EndpointSlice {
        pub metadata: ObjectMeta,
        pub address_type: String,
        pub endpoints: Vec<Endpoint>,
        pub ports: Vec<EndpointPort>,
    }
    /// One endpoint.
    pub struct Endpoint {
        pub addresses: Vec<String>,
        pub conditions: EndpointConditions,
        pub hostname: Option<String>,
        pub target_ref: Option<ObjectReference>,
        pub node_name: Option<String>,
        pub zone: Option<String>,
        pub deprecated_topology: Option<Value>,
        pub hints: Option<Value>,
    }
    /// Whether to send traffic.
    pub struct EndpointConditions {
        pub ready: Option<bool>,
        pub serving: Option<bool>,
        pub terminating: Option<bool>,
    }
    /// A port of all endpoints of a slice.
    pub struct EndpointPort {
        pub name: Option<String>,
        pub protocol: Option<String>,
        pub port: Option<i32>,
        pub app_protocol: Option<String>,
    }
    /// Endpoints in the older form.
    pub struct Endpoints {
        pub metadata: ObjectMeta,
        pub subsets: Vec<EndpointSubset>,
    }
    /// Addresses with the same ports.
    pub struct EndpointSubset {
        pub addresses: Vec<EndpointAddress>,
        pub not_ready_addresses: Vec<EndpointAddress>,
        pub ports: Vec<EndpointsPort>,
    }
    /// An address.
    pub struct EndpointAddress {
        pub ip: String,
        pub hostname: String,
        pub node_name: Option<String>,
        pub target_ref: Option<ObjectReference>,
    }
    /// A port in the older form.
    pub struct EndpointsPort {
        pub name: String,
        pub port: i32,
        pub protocol: String,
        pub app_protocol: Option<String>,
    }
    /// Ranges for the addresses of Services.
    pub struct ServiceCidr {
        pub metadata: ObjectMeta,
        pub spec: ServiceCidrSpec,
        pub status: ServiceCidrStatus,
    }
    /// One range, or one of each family.
    pub struct ServiceCidrSpec {
        pub cidrs: Vec<String>,
    }
    /// Whether addresses are taken from them.
    pub struct ServiceCidrStatus {
        pub conditions: Vec<Value>,
    }
    /// An address that is taken; its name says which.
    pub struct IpAddress {
        pub metadata: ObjectMeta,
    }
}
kind!(Service, SERVICES, mentions: mention::of_service);
kind!(ServiceCidr, SERVICE_CIDRS);
kind!(IpAddress, IP_ADDRESSES);
kind!(
    EndpointSlice,
    ENDPOINT_SLICES,
    mentions: mention::of_slice
);
kind!(Endpoints, ENDPOINTS);

/// The label of an EndpointSlice that names its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
