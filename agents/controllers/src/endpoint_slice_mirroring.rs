//! EndpointSlices of Endpoints that somebody made by hand for a service without selector: consumers read slices only.
//!
//! The subsets are first repacked, so that an address stands once under the set of its ports; then there is one slice for
//! each set of ports and family, which the slices that are there are changed into before any is made or deleted.

use crate::endpoint_slice::{MANAGED_BY, SERVICE_NAME, same_ports, written, written_ports};
use crate::endpoints::LEADER;
use crate::manager::{Body, Controller};
use crate::patches;
use crate::pod_control::controller_reference;
use crate::world::{Caches, World};
use agent_runtime::EventType;
use agent_runtime::events::reference;
use agent_runtime::kinds::{
    Endpoint, EndpointAddress, EndpointConditions, EndpointPort, EndpointSlice, EndpointSubset,
    Endpoints, EndpointsPort, Labels, Mention, Service,
};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::{ENDPOINT_SLICES, ENDPOINTS};
use agent_runtime::{Key, Queue};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "endpoint-slice-mirroring-controller",
    help: "mirrors Endpoints of services without selector into EndpointSlices",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const PER_SUBSET_MAX: usize = 1000;

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.services.subscribe(move |change| {
        let selects = |service: &Arc<Service>| !service.spec.selector.is_empty();
        let same = match (&change.old, &change.new) {
            (Some(old), Some(new)) => selects(old) == selects(new),
            _ => false,
        };
        if !same {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
    let keys = queue.clone();
    caches.endpoints.subscribe(move |change| {
        if change.sides().any(|endpoints| is_mirrored(endpoints)) {
            keys.add(Key::of(&change.latest().metadata));
        }
    });
    let keys = queue.clone();
    caches.endpoint_slices.subscribe(move |change| {
        for slice in change.sides().filter(|slice| is_ours(slice)) {
            if let Some(service) = slice.metadata.labels.get(SERVICE_NAME) {
                keys.add(Key::new(&slice.metadata.namespace, service));
            }
        }
    });
}

/// Records of leader elections have no service, and whoever says so keeps slices of his own.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    let skips = endpoints.metadata.labels.get(SKIP);
    skips.is_none_or(|value| value != "true")
        && !endpoints.metadata.annotations.contains_key(LEADER)
}

fn is_ours(slice: &EndpointSlice) -> bool {
    let manager = slice.metadata.labels.get(MANAGED_BY);
    manager.is_some_and(|manager| manager == MANAGER)
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let slices = &world.caches.endpoint_slices;
    let mut existing = slices.mentioning(&Mention::Service(key.clone()));
    existing.retain(|slice| is_ours(slice));
    let service = world.caches.services.by_key(key);
    let endpoints = world.caches.endpoints.by_key(key);
    let wanted = endpoints.filter(|endpoints| {
        let selectorless = |service: Arc<Service>| service.spec.selector.is_empty();
        is_mirrored(endpoints) && service.is_some_and(selectorless)
    });
    match wanted {
        Some(endpoints) => mirror(&endpoints, &existing, world),
        None => Plan::of(existing.iter().filter_map(delete).collect()),
    }
}

fn delete(slice: &Arc<EndpointSlice>) -> Option<Op> {
    let is_going = slice.metadata.is_deleting();
    (!is_going).then(|| Op::delete(&ENDPOINT_SLICES, &slice.metadata))
}

/// What one slice should hold.
struct Content {
    family: &'static str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
}

fn mirror(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>], world: &World) -> Plan {
    let (contents, skipped) = contents(endpoints);
    let mut plan = Plan::of(skipped.events(endpoints));
    let mut free: Vec<&Arc<EndpointSlice>> = existing
        .iter()
        .filter(|slice| !slice.metadata.is_deleting())
        .collect();
    let mut take = |fits: &dyn Fn(&EndpointSlice) -> bool| {
        let at = free.iter().position(|slice| fits(slice))?;
        Some(free.remove(at))
    };
    let matched: Vec<Option<&Arc<EndpointSlice>>> = contents
        .iter()
        .map(|content| {
            take(&|slice| {
                slice.address_type == content.family && same_ports(&slice.ports, &content.ports)
            })
        })
        .collect();
    let mut creates = Vec::new();
    for (content, matched) in contents.iter().zip(matched) {
        // The family of a slice never changes, its ports may.
        let reused = matched.or_else(|| take(&|slice| slice.address_type == content.family));
        match reused {
            Some(slice) => plan.ops.extend(update(endpoints, slice, content)),
            None if endpoints.metadata.is_deleting() => {}
            None => creates.push(create(endpoints, content, world)),
        }
    }
    // Between two writes there should rather be too many endpoints than none.
    plan.ops.splice(0..0, creates);
    plan.ops.extend(free.into_iter().filter_map(delete));
    plan
}

fn labels(endpoints: &Endpoints) -> Labels {
    let mut labels = endpoints.metadata.labels.clone();
    labels.insert(SERVICE_NAME.into(), endpoints.metadata.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels
}

/// The annotations of the Endpoints without those that speak of the Endpoints alone.
fn annotations(endpoints: &Endpoints) -> Labels {
    let mut annotations = endpoints.metadata.annotations.clone();
    annotations.retain(|name, _| name != TRIGGER_TIME && name != LAST_APPLIED);
    annotations
}

fn create(endpoints: &Endpoints, content: &Content, world: &World) -> Op {
    let meta = &endpoints.metadata;
    let prefix = format!("{}-", meta.name);
    let body = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": content.family,
        "metadata": {
            "name": world.generate_name(&prefix), "generateName": prefix, "namespace": meta.namespace,
            "labels": labels(endpoints), "annotations": annotations(endpoints),
            "ownerReferences": [controller_reference(&ENDPOINTS, meta)],
        },
        "endpoints": written(&content.endpoints), "ports": written_ports(&content.ports),
    });
    Op::create(&ENDPOINT_SLICES, &meta.namespace, body)
}

/// The patch that makes a slice hold the content; none where it does.
fn update(endpoints: &Endpoints, slice: &EndpointSlice, content: &Content) -> Option<Op> {
    let old = &slice.metadata;
    let (labels, annotations) = (labels(endpoints), annotations(endpoints));
    let owners = vec![controller_reference(&ENDPOINTS, &endpoints.metadata)];
    let same = old.labels == labels
        && old.annotations == annotations
        && *old.owner_references == *owners
        && same_ports(&slice.ports, &content.ports)
        && slice.endpoints == content.endpoints;
    if same {
        return None;
    }
    let metadata = json!({
        "uid": old.uid, "resourceVersion": old.resource_version,
        "labels": patches::map(&old.labels, &labels),
        "annotations": patches::map(&old.annotations, &annotations),
        "ownerReferences": owners,
    });
    let body = json!({"metadata": metadata, "endpoints": written(&content.endpoints), "ports": written_ports(&content.ports)});
    Some(Op::merge(&ENDPOINT_SLICES, old, body))
}

/// Addresses that are in no slice.
#[derive(Default)]
struct Skipped {
    invalid: usize,
    beyond: usize,
}

impl Skipped {
    fn events(&self, endpoints: &Endpoints) -> Vec<Op> {
        let warning = |reason, message| {
            Op::Event(Box::new(Report {
                regarding: reference(&ENDPOINTS, &endpoints.metadata),
                kind: EventType::Warning,
                reason,
                message,
            }))
        };
        let invalid = (self.invalid > 0).then(|| {
            let message = format!(
                "Skipped {} invalid IP addresses when mirroring to EndpointSlices",
                self.invalid
            );
            warning("InvalidIPAddress", message)
        });
        let beyond = (self.beyond > 0).then(|| {
            let message = format!(
                "A max of {PER_SUBSET_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                self.beyond + self.invalid
            );
            warning("TooManyAddressesToMirror", message)
        });
        invalid.into_iter().chain(beyond).collect()
    }
}

/// The slices that the Endpoints make, in the order of the repacked subsets.
fn contents(endpoints: &Endpoints) -> (Vec<Content>, Skipped) {
    let mut skipped = Skipped::default();
    let mut contents: Vec<Content> = Vec::new();
    for (ports, addresses) in repacked(&endpoints.subsets) {
        let ports: Vec<EndpointPort> = ports.iter().map(|port| slice_port(port)).collect();
        skipped.beyond += addresses.len().saturating_sub(PER_SUBSET_MAX);
        for (address, ready) in addresses.into_iter().take(PER_SUBSET_MAX) {
            let family = match address.ip.parse() {
                Ok(IpAddr::V4(_)) => "IPv4",
                Ok(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_none() => "IPv6",
                _ => {
                    skipped.invalid += 1;
                    continue;
                }
            };
            let same = |content: &&mut Content| content.family == family && content.ports == ports;
            let made = endpoint(address, ready);
            match contents.iter_mut().find(same) {
                Some(content) => content.endpoints.push(made),
                None => contents.push(Content {
                    family,
                    ports: ports.clone(),
                    endpoints: vec![made],
                }),
            }
        }
    }
    (contents, skipped)
}

/// Where an address is at a port, and whether it is ready there.
type Places<'a> = BTreeMap<(&'a str, &'a str), (&'a EndpointAddress, bool)>;

/// Ports, and who is at all of them.
type Repacked<'a> = (Vec<&'a EndpointsPort>, Vec<(&'a EndpointAddress, bool)>);

/// Each address once for each set of ports that it has in common with others, the ready ones first. Of one that is in
/// both lists it holds that it is not ready.
fn repacked(subsets: &[EndpointSubset]) -> Vec<Repacked<'_>> {
    // A subset without ports has one that is none.
    let mut by_port: Vec<(Option<&EndpointsPort>, Places<'_>)> = Vec::new();
    for subset in subsets {
        let ports = subset.ports.iter().map(Some);
        let none = subset.ports.is_empty().then_some(None);
        for port in ports.chain(none) {
            let at = match by_port.iter().position(|(known, _)| *known == port) {
                Some(at) => at,
                None => {
                    by_port.push((port, Places::new()));
                    by_port.len() - 1
                }
            };
            let ready = subset.addresses.iter().map(|address| (address, true));
            let waiting = subset.not_ready_addresses.iter().map(|a| (a, false));
            for (address, ready) in ready.chain(waiting) {
                let target = address.target_ref.as_ref();
                let uid = target.map_or("", |target| target.uid.as_str());
                let place = by_port[at].1.entry((&address.ip, uid));
                let (_, so_far) = place.or_insert((address, ready));
                *so_far &= ready;
            }
        }
    }
    let mut groups: Vec<(Vec<&EndpointsPort>, Places<'_>)> = Vec::new();
    for (port, places) in by_port {
        let is_same = |other: &Places<'_>| {
            let states = places.iter().map(|(key, (_, ready))| (key, ready));
            states.eq(other.iter().map(|(key, (_, ready))| (key, ready)))
        };
        match groups
            .iter_mut()
            .find(|(ports, other)| port.is_some() && !ports.is_empty() && is_same(other))
        {
            Some((ports, _)) => ports.extend(port),
            None => groups.push((port.into_iter().collect(), places)),
        }
    }
    groups
        .into_iter()
        .map(|(mut ports, places)| {
            ports.sort_by_cached_key(|port| json!(port).to_string());
            let mut addresses: Vec<_> = places.into_values().collect();
            addresses.sort_by_key(|(_, ready)| !ready);
            (ports, addresses)
        })
        .collect()
}

fn slice_port(port: &EndpointsPort) -> EndpointPort {
    EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(crate::endpoint_slice::or_tcp(&port.protocol).to_owned()),
        port: Some(port.port),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        },
        hostname: (!address.hostname.is_empty()).then(|| address.hostname.clone()),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;
