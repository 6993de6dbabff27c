//! Which addresses a Service may have. Values in, values out.

use super::{is_local, wants};
use agent_runtime::kinds::{EndpointSlice, Node, Service, ServicePort};
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
        Some(taken) => {
            holder.get_or_insert(taken);
            false
        }
        None => true,
    });
    match holder {
        Some(Taken { by, port, use_ }) if all.is_empty() => {
            let ((protocol, port), meta) = (port, &by.metadata);
            Granted::Refused(format!(
                "port {port}/{protocol} of all its addresses is {use_} Service {}/{}",
                meta.namespace, meta.name
            ))
        }
        _ => Granted::Addresses(all.iter().map(ToString::to_string).collect()),
    }
}

/// A protocol and a number.
type Port = (String, i32);

/// A port that cannot be had.
struct Taken<'a> {
    by: &'a Service,
    port: Port,
    use_: &'static str,
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

/// The Service that has one of the ports on an address: by a load balancer, or by a node port, which is one of every address.
fn taken_by<'a>(
    address: IpAddr,
    service: &'a Service,
    services: &'a [Arc<Service>],
) -> Option<Taken<'a>> {
    let has = |service: &Service| {
        let ingress = &service.status.load_balancer.ingress;
        ingress.iter().any(|place| place.ip.parse() == Ok(address))
    };
    let (mine, wanted) = (has(service), offered(service));
    if let Some(port) = own_conflict(service) {
        let (by, use_) = (service, "a node port of the same");
        return Some(Taken { by, port, use_ });
    }
    // Where both have it, the older one keeps it: nobody takes a port by making a node port of its number.
    let comes_first = |other: &&Arc<Service>| {
        other.metadata.uid != service.metadata.uid && (!mine || age(other) < age(service))
    };
    services.iter().filter(comes_first).find_map(|other| {
        let shared = |ports: BTreeSet<Port>| wanted.intersection(&ports).next().cloned();
        let balanced = (wants(other) && has(other)).then(|| offered(other));
        let found = balanced.and_then(shared).map(|port| (port, "in use by"));
        let found = found.or_else(|| Some((shared(node_ports(other))?, "a node port of")));
        let ((port, use_), by) = (found?, other);
        Some(Taken { by, port, use_ })
    })
}

/// A port that one entry of the Service offers while another has it as its node port.
fn own_conflict(service: &Service) -> Option<Port> {
    let ports = &service.spec.ports;
    let collides = |entry: &&ServicePort| {
        let mut others = ports.iter();
        others.any(|other| {
            other.node_port == entry.port
                && other.port != entry.port
                && protocol(other) == protocol(entry)
        })
    };
    let found = ports.iter().find(collides)?;
    Some((protocol(found).to_owned(), found.port))
}

fn age(service: &Service) -> (i64, &str) {
    (service.metadata.created(), &service.metadata.uid)
}

fn protocol(port: &ServicePort) -> &str {
    match port.protocol.as_str() {
        "" => "TCP",
        protocol => protocol,
    }
}

/// The ports of its load balancer.
fn offered(service: &Service) -> BTreeSet<Port> {
    let ports = service.spec.ports.iter();
    ports
        .map(|port| (protocol(port).to_owned(), port.port))
        .collect()
}

/// The ports that it has on every node.
pub(super) fn node_ports(service: &Service) -> BTreeSet<Port> {
    let spec = &service.spec;
    if !matches!(spec.kind.as_str(), "NodePort" | "LoadBalancer") {
        return BTreeSet::new();
    }
    let ports = spec.ports.iter();
    let ports = ports.map(|port| (protocol(port).to_owned(), port.node_port));
    let health = ("TCP".to_owned(), spec.health_check_node_port);
    ports
        .chain([health])
        .filter(|(_, number)| *number != 0)
        .collect()
}
