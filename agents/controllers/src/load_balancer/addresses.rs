//! Which addresses a Service may have. Values in, values out.

use super::{is_local, wants};
use agent_runtime::kinds::{EndpointSlice, Node, Service};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";

/// What a Service gets.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Granted {
    /// These, in order. None where it wants to be reached only at nodes with endpoints, and there are none.
    Addresses(Vec<String>),
    /// No node takes traffic from outside.
    NoNode,
    /// Nothing, and why.
    Refused(String),
}

/// Whether traffic from outside may go to the node.
pub(super) fn takes_traffic(node: &Node) -> bool {
    !node.metadata.labels.contains_key(EXCLUDED)
        && !node.spec.taints.iter().any(|taint| taint.key == LEAVING)
        && node.is_ready()
}

pub(super) fn grant(
    service: &Service,
    nodes: &[Arc<Node>],
    slices: &[Arc<EndpointSlice>],
    services: &[Arc<Service>],
) -> Granted {
    let mut hosts: Vec<&Arc<Node>> = nodes.iter().filter(|node| takes_traffic(node)).collect();
    if hosts.is_empty() {
        return Granted::NoNode;
    }
    hosts.sort_by_key(|node| &node.metadata.name);
    if is_local(service) {
        let with_endpoints = nodes_of(slices);
        hosts.retain(|node| with_endpoints.contains(node.metadata.name.as_str()));
        if hosts.is_empty() {
            return Granted::Addresses(Vec::new());
        }
    }
    let mut all: Vec<IpAddr> = Vec::new();
    for is_v6 in families(service) {
        for address in hosts.iter().flat_map(|node| addresses_of(node, is_v6)) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
    }
    if all.is_empty() {
        return Granted::Refused("no node has an address of the Service's families".into());
    }
    if !service.spec.load_balancer_ip.is_empty() {
        let wished = &service.spec.load_balancer_ip;
        all.retain(|address| wished.parse() == Ok(*address));
        if all.is_empty() {
            return Granted::Refused(format!(
                "{wished} is not the address of a node that takes traffic"
            ));
        }
    }
    let mut holder = None;
    all.retain(|address| match taken_by(*address, service, services) {
        Some(other) => {
            holder.get_or_insert_with(|| (other.clone(), shared_port(service, other)));
            false
        }
        None => true,
    });
    match holder {
        Some((other, Some((protocol, port)))) if all.is_empty() => {
            let meta = &other.metadata;
            Granted::Refused(format!(
                "port {port}/{protocol} of all its addresses is in use by Service {}/{}",
                meta.namespace, meta.name
            ))
        }
        _ => Granted::Addresses(all.iter().map(ToString::to_string).collect()),
    }
}

/// The families of the Service in its order; whether each is IPv6.
fn families(service: &Service) -> Vec<bool> {
    match service.spec.ip_families.as_slice() {
        [] => vec![false, true],
        families => families.iter().map(|family| family == "IPv6").collect(),
    }
}

/// The addresses at which a node is reached from outside: the external ones where it has any, as whoever set them knows more.
fn addresses_of(node: &Node, is_v6: bool) -> Vec<IpAddr> {
    let of_kind = |kind: &str| -> Vec<IpAddr> {
        let all = node
            .status
            .addresses
            .iter()
            .filter(|address| address.kind == kind);
        let all = all.filter_map(|address| address.address.parse().ok());
        all.filter(|address: &IpAddr| address.is_ipv6() == is_v6)
            .collect()
    };
    let external = of_kind("ExternalIP");
    if external.is_empty() {
        of_kind("InternalIP")
    } else {
        external
    }
}

/// Names of nodes with an endpoint that is ready.
fn nodes_of(slices: &[Arc<EndpointSlice>]) -> BTreeSet<&str> {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let ready = endpoints.filter(|endpoint| endpoint.conditions.ready != Some(false));
    ready
        .filter_map(|endpoint| endpoint.node_name.as_deref())
        .collect()
}

/// The Service that has one of the ports on an address.
fn taken_by<'a>(
    address: IpAddr,
    service: &Service,
    services: &'a [Arc<Service>],
) -> Option<&'a Arc<Service>> {
    let has = |service: &Service| {
        let ingress = &service.status.load_balancer.ingress;
        ingress.iter().any(|place| place.ip.parse() == Ok(address))
    };
    let mine = has(service);
    services.iter().find(|other| {
        other.metadata.uid != service.metadata.uid
            && wants(other)
            && has(other)
            // Where both have it, which only two at a time could do, the older one keeps it.
            && (!mine || age(other) < age(service))
            && shared_port(service, other).is_some()
    })
}

fn age(service: &Service) -> (i64, &str) {
    (service.metadata.created(), &service.metadata.uid)
}

/// A port that both offer.
fn shared_port(one: &Service, other: &Service) -> Option<(String, i32)> {
    let ports = |service: &Service| -> BTreeSet<(String, i32)> {
        let protocol = |text: &str| if text.is_empty() { "TCP" } else { text }.to_owned();
        let ports = service.spec.ports.iter();
        ports
            .map(|port| (protocol(&port.protocol), port.port))
            .collect()
    };
    ports(one).intersection(&ports(other)).next().cloned()
}
