//! Services of type LoadBalancer, on the addresses of the nodes themselves: the cloud of a cluster that has none.
//!
//! A Service gets the addresses of all nodes that may take traffic from outside, but not those on which another one has one
//! of its ports already, be it as a node port. Each look does the next step that is missing: the finalizer, the addresses, and in the end the
//! addresses and the finalizer off again.

mod addresses;

use crate::endpoint_slice::SERVICE_NAME;
use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use addresses::Granted;
use agent_runtime::events::reference;
use agent_runtime::kinds::{EndpointSlice, Kind, LoadBalancerIngress, Mention, Node, Service};
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::resource_ref::SERVICES;
use agent_runtime::{Cache, Change, EventType, Key, Queue};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "service-lb-controller",
    help: "gives Services of type LoadBalancer the addresses of nodes",
    // Two at a time could give the same port of an address away twice.
    workers: 1,
    body: Body::Keyed { wire, reconcile },
};

const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let (services, keys) = (Arc::downgrade(&caches.services), queue.clone());
    caches.services.subscribe(move |change| {
        let node_ports = |side: &Option<Arc<Service>>| {
            let ports = side.as_ref().map(|one| addresses::node_ports(one));
            ports.unwrap_or_default()
        };
        if node_ports(&change.old) != node_ports(&change.new)
            && let Some(services) = services.upgrade()
        {
            enqueue_rivals(change, &services, &keys);
        }
        let concerned = |service: &Arc<Service>| wants(service) || has_finalizer(service);
        if !change.sides().any(concerned) {
            return;
        }
        keys.add(Key::of(&change.latest().metadata));
        // What one lets go of, another may wait for.
        let held = |service: &Arc<Service>| {
            let spec = &service.spec;
            let ingress = service.status.load_balancer.ingress.clone();
            (spec.ports.clone(), ingress, wants(service))
        };
        let is_other = change.old.as_ref().map(held) != change.new.as_ref().map(held);
        if let Some(services) = services.upgrade().filter(|_| is_other) {
            enqueue_rivals(change, &services, &keys);
        }
    });
    let (services, keys) = (caches.services.clone(), queue.clone());
    caches.nodes.subscribe(move |change| {
        let sides = [&change.old, &change.new].map(|side| side.as_ref().map(|node| taking(node)));
        if sides[0] != sides[1] {
            enqueue(&services, &keys);
        }
    });
    let keys = queue.clone();
    let services = caches.services.clone();
    caches.endpoint_slices.subscribe(move |change| {
        let slice = change.latest();
        if let Some(name) = slice.metadata.labels.get(SERVICE_NAME) {
            let service = services.get(&slice.metadata.namespace, name);
            if service.is_some_and(|service| wants(&service) && is_local(&service)) {
                keys.add(Key::new(&slice.metadata.namespace, name));
            }
        }
    });
}

/// Looks at all that have or want addresses.
fn enqueue(services: &Cache<Service>, keys: &Queue<Key>) {
    for service in services.list().iter().filter(|service| wants(service)) {
        keys.add(Key::of(&service.metadata));
    }
}

/// Looks at those that have or want addresses and have a port that the changed one has or had: what happens to any other port is
/// nothing to them.
fn enqueue_rivals(change: &Change<Service>, services: &Cache<Service>, keys: &Queue<Key>) {
    let mentions = change.sides().flat_map(|service| service.mentions());
    let ports = mentions.filter(|mention| matches!(mention, Mention::Port(_)));
    for port in ports {
        let rivals = services.mentioning(&port);
        for service in rivals.iter().filter(|service| wants(service)) {
            keys.add(Key::of(&service.metadata));
        }
    }
}

/// What makes a node take traffic, and where.
fn taking(node: &Node) -> (bool, Vec<(String, String)>) {
    let addresses = node.status.addresses.iter();
    let addresses = addresses.map(|address| (address.kind.clone(), address.address.clone()));
    (addresses::takes_traffic(node), addresses.collect())
}

/// A class names somebody else.
fn wants(service: &Service) -> bool {
    service.spec.kind == "LoadBalancer"
        && service.spec.load_balancer_class.is_none()
        && !service.metadata.is_deleting()
}

fn is_local(service: &Service) -> bool {
    service.spec.external_traffic_policy == "Local"
}

fn has_finalizer(service: &Service) -> bool {
    service
        .metadata
        .finalizers
        .iter()
        .any(|name| name == FINALIZER)
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let service = world.caches.services.by_key(key);
    let Some(service) = service.filter(|_| world.options.local_cloud) else {
        return Plan::none();
    };
    if wants(&service) {
        ensure(&service, world)
    } else if has_finalizer(&service) && !is_anothers(&service) {
        clean_up(&service)
    } else {
        Plan::none()
    }
}

/// One of another class has the same finalizer by whoever serves that class.
fn is_anothers(service: &Service) -> bool {
    service.spec.kind == "LoadBalancer" && service.spec.load_balancer_class.is_some()
}

fn ensure(service: &Service, world: &World) -> Plan {
    if !has_finalizer(service) {
        return Plan::of(vec![
            say(
                service,
                EventType::Normal,
                "EnsuringLoadBalancer",
                "Ensuring load balancer",
            ),
            finalizers(service, true),
        ]);
    }
    let nodes = world.caches.nodes.list();
    let services = rivals(service, world);
    let slices = slices(service, world);
    let present = &service.status.load_balancer.ingress;
    let mut plan = Plan::none();
    match addresses::grant(service, &nodes, &slices, &services) {
        Granted::Addresses(addresses) => {
            let ingress: Vec<LoadBalancerIngress> = addresses.into_iter().map(ingress).collect();
            if ingress == *present {
                return plan;
            }
            let (reason, text) = match present.is_empty() {
                true => ("EnsuredLoadBalancer", "Ensured load balancer"),
                false => (
                    "UpdatedLoadBalancer",
                    "Updated load balancer with new hosts",
                ),
            };
            plan.push(write(service, &ingress));
            plan.push(say(service, EventType::Normal, reason, text));
        }
        Granted::NoNode => {
            if !present.is_empty() {
                plan.push(write(service, &[]));
            }
            let text = "There are no available nodes for LoadBalancer";
            plan.push(say(
                service,
                EventType::Warning,
                "UnAvailableLoadBalancer",
                text,
            ));
        }
        Granted::Refused(text) => {
            let text =
                format!("Error syncing load balancer: failed to ensure load balancer: {text}");
            if !present.is_empty() {
                plan.push(write(service, &[]));
            }
            plan.push(say(
                service,
                EventType::Warning,
                "SyncLoadBalancerFailed",
                &text,
            ));
        }
    }
    plan
}

fn ingress(address: String) -> LoadBalancerIngress {
    LoadBalancerIngress {
        ip: address,
        // Traffic comes with the address of the node, as it would with that of a proxy's interface.
        ip_mode: Some("VIP".into()),
        ..LoadBalancerIngress::default()
    }
}

fn clean_up(service: &Service) -> Plan {
    let is_set = !service.status.load_balancer.ingress.is_empty();
    if is_set && !service.metadata.is_deleting() {
        return Plan::of(vec![
            say(
                service,
                EventType::Normal,
                "DeletingLoadBalancer",
                "Deleting load balancer",
            ),
            write(service, &[]),
        ]);
    }
    let mut plan = Plan::none();
    if is_set {
        plan.push(say(
            service,
            EventType::Normal,
            "DeletingLoadBalancer",
            "Deleting load balancer",
        ));
    }
    plan.push(finalizers(service, false));
    plan.push(say(
        service,
        EventType::Normal,
        "DeletedLoadBalancer",
        "Deleted load balancer",
    ));
    plan
}

fn write(service: &Service, ingress: &[LoadBalancerIngress]) -> Op {
    let ingress = if ingress.is_empty() {
        Value::Null
    } else {
        json!(ingress)
    };
    let status = json!({"loadBalancer": {"ingress": ingress}});
    Op::status(&SERVICES, &service.metadata, status)
}

fn finalizers(service: &Service, with: bool) -> Op {
    let meta = &service.metadata;
    let others = meta.finalizers.iter().filter(|name| *name != FINALIZER);
    let own = with.then_some(FINALIZER);
    let all: Vec<&str> = others.map(String::as_str).chain(own).collect();
    // The version makes sure that no finalizer of somebody else is lost.
    let metadata =
        json!({"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": all});
    Op::merge(&SERVICES, meta, json!({ "metadata": metadata }))
}

fn say(service: &Service, kind: EventType, reason: &'static str, text: &str) -> Op {
    Op::Event(Box::new(Report {
        regarding: reference(&SERVICES, &service.metadata),
        kind,
        reason,
        message: text.to_owned(),
    }))
}

/// The Services that may have a port of this one, by namespace and name.
fn rivals(service: &Service, world: &World) -> Vec<Arc<Service>> {
    let ports = service.spec.ports.iter();
    let numbers: BTreeSet<i32> = ports.map(|port| port.port).collect();
    let services = &world.caches.services;
    let found = numbers
        .into_iter()
        .flat_map(|number| services.mentioning(&Mention::Port(number)));
    let by_key: BTreeMap<Key, Arc<Service>> = found
        .map(|service| (Key::of(&service.metadata), service))
        .collect();
    by_key.into_values().collect()
}

fn slices(service: &Service, world: &World) -> Vec<Arc<EndpointSlice>> {
    if !is_local(service) {
        return Vec::new();
    }
    let slices = &world.caches.endpoint_slices;
    slices.mentioning(&Mention::Service(Key::of(&service.metadata)))
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;
