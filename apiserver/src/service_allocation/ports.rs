//! Ports of nodes: which a Service names, and which are chosen for it.

use std::collections::{BTreeMap, BTreeSet};

use schema::Object;
use schema::field::{FieldError, Path};
use serde_json::Value;

use super::range::DRAWS;
use super::{Taken, invalid};
use crate::status::{ApiError, ApiResult};

const PORT_PREFIX: &str = "/kontiki/nodeports/";

pub(super) fn port_key(port: u16, protocol: &str) -> String {
    format!("{PORT_PREFIX}{port}-{protocol}")
}

pub(super) fn wants_ports(service: &Object) -> bool {
    match service.get_str(&["spec", "type"]) {
        Some("NodePort") => true,
        Some("LoadBalancer") => {
            service.get_bool(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false)
        }
        _ => false,
    }
}

/// Node ports that the Service names, with their protocols.
pub(super) fn named_ports(service: &Object) -> Vec<(u16, String)> {
    let ports = service
        .get_array(&["spec", "ports"])
        .map(Vec::as_slice)
        .unwrap_or_default();
    ports
        .iter()
        .filter_map(|port| Some((on_node(port)?, protocol(port).to_owned())))
        .chain(health_port(service).map(|port| (port, "TCP".to_owned())))
        .collect()
}

/// The port of nodes that a port of a Service names.
fn on_node(port: &Value) -> Option<u16> {
    let number = port.get("nodePort").and_then(Value::as_u64)?;
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn protocol(port: &Value) -> &str {
    let protocol = port.get("protocol").and_then(Value::as_str);
    protocol.unwrap_or("TCP")
}

fn health_port(service: &Object) -> Option<u16> {
    let port = service.get_i64(&["spec", "healthCheckNodePort"])?;
    u16::try_from(port).ok().filter(|port| *port != 0)
}

fn wants_health_port(service: &Object) -> bool {
    service.get_str(&["spec", "type"]) == Some("LoadBalancer")
        && service.get_str(&["spec", "externalTrafficPolicy"]) == Some("Local")
}

pub(super) fn port_taken(service: &Object, index: usize, port: u16) -> ApiError {
    let path = Path::new("spec")
        .child("ports")
        .index(index)
        .child("nodePort");
    invalid(
        service,
        FieldError::invalid(&path, port, "provided port is already allocated"),
    )
}

/// Whether the ports that a Service names can be had; those that it holds already are not looked at.
fn check_named(
    (first, last): (u16, u16),
    taken: &Taken,
    own: &[(u16, String)],
    service: &Object,
) -> ApiResult<()> {
    for (index, (port, protocol)) in named_ports(service).into_iter().enumerate() {
        if own.contains(&(port, protocol.clone())) {
            continue;
        }
        if !(first..=last).contains(&port) {
            let path = Path::new("spec")
                .child("ports")
                .index(index)
                .child("nodePort");
            let text = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            return Err(invalid(service, FieldError::invalid(&path, port, text)));
        }
        if taken.ports.contains(&(port, protocol)) {
            return Err(port_taken(service, index, port));
        }
    }
    Ok(())
}

/// Fills in node ports; `own` are those that a Service which is there holds already. In a new one, ports with one number and
/// different protocols, such as those of DNS, share the port of nodes that is chosen or named for the first, as in Kubernetes.
pub(super) fn settle_ports(
    (first, last): (u16, u16),
    taken: &Taken,
    own: Option<&[(u16, String)]>,
    service: &mut Object,
) -> ApiResult<()> {
    let (is_new, own) = (own.is_none(), own.unwrap_or_default());
    check_named((first, last), taken, own, service)?;
    let mut used: BTreeSet<u16> = taken.ports.iter().map(|(port, _)| *port).collect();
    used.extend(named_ports(service).iter().map(|(port, _)| *port));
    let mut pick = || -> ApiResult<u16> {
        let span = u64::from(last - first) + 1;
        let drawn = (0..DRAWS)
            .map(|_| first + (host::random::<u64>() % span) as u16)
            .find(|port| !used.contains(port));
        let port = drawn.or_else(|| (first..=last).find(|port| !used.contains(port)));
        let port =
            port.ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))?;
        used.insert(port);
        Ok(port)
    };
    let mut held: BTreeSet<(u16, String)> = named_ports(service).into_iter().collect();
    if wants_ports(service)
        && let Some(ports) = service
            .get_mut(&["spec", "ports"])
            .and_then(Value::as_array_mut)
    {
        let number = |port: &Value| port.get("port").and_then(Value::as_u64);
        let mut of_number: BTreeMap<Option<u64>, u16> = BTreeMap::new();
        for port in &*ports {
            if let Some(on_node) = on_node(port) {
                of_number.entry(number(port)).or_insert(on_node);
            }
        }
        for port in ports {
            if port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) != 0 {
                continue;
            }
            let of_first = of_number.get(&number(port)).copied();
            let shared = of_first
                .map(|on_node| (on_node, protocol(port).to_owned()))
                .filter(|pair| is_new && !taken.ports.contains(pair) && !held.contains(pair));
            let chosen = match shared {
                Some(pair) => pair,
                None => (pick()?, protocol(port).to_owned()),
            };
            of_number.entry(number(port)).or_insert(chosen.0);
            port["nodePort"] = chosen.0.into();
            held.insert(chosen);
        }
    }
    if wants_health_port(service) && health_port(service).is_none() {
        let port = pick()?;
        service.set(&["spec", "healthCheckNodePort"], port);
    }
    Ok(())
}

/// Those of before that an update leaves out, and may keep. Ones that were only carried along go with the type that had them.
pub(super) fn carry_over(new: &mut Object, old: &Object) {
    if wants_health_port(new)
        && health_port(new).is_none()
        && let Some(port) = health_port(old)
    {
        new.set(&["spec", "healthCheckNodePort"], port);
    }
    if !wants_health_port(new) {
        new.remove(&["spec", "healthCheckNodePort"]);
    }
    let same_type = new.get_str(&["spec", "type"]) == old.get_str(&["spec", "type"]);
    let old_ports = old
        .get_array(&["spec", "ports"])
        .cloned()
        .unwrap_or_default();
    let wants = wants_ports(new);
    let Some(ports) = new
        .get_mut(&["spec", "ports"])
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    let asked: BTreeSet<u64> = (ports.iter())
        .filter_map(|port| port.get("nodePort").and_then(Value::as_u64))
        .collect();
    for port in ports {
        // As in Kubernetes: under one name a port may change its number and keep what it is reached by.
        let name = |port: &Value| {
            let name = port.get("name").and_then(Value::as_str);
            name.unwrap_or_default().to_owned()
        };
        let unset = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) == 0;
        let before = old_ports
            .iter()
            .find(|other| name(other) == name(port))
            .and_then(|other| other.get("nodePort"));
        let before = before.and_then(Value::as_u64).filter(|port| *port != 0);
        match before {
            Some(before) if wants && unset && !asked.contains(&before) => {
                port["nodePort"] = before.into();
            }
            // Back to ClusterIP: ports that were only carried along are given back.
            Some(before)
                if !wants
                    && !same_type
                    && port.get("nodePort").and_then(Value::as_u64) == Some(before) =>
            {
                if let Some(port) = port.as_object_mut() {
                    port.remove("nodePort");
                }
            }
            _ => {}
        }
    }
}
