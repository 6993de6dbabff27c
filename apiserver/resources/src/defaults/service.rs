//! Defaults of services and endpoints.

use schema::Object;
use serde_json::{Map, Value};

use crate::look::{Look, each_map, fill, fill_zero, make_map, spec, with_map, with_spec};

/// Type, affinity, traffic policies and ports. Addresses with their families and node ports are the allocator's.
pub(crate) fn service(object: &mut Object) {
    with_spec(object, |spec| {
        fill_zero(spec, "type", "ClusterIP");
        fill_zero(spec, "sessionAffinity", "None");
        match spec.text("sessionAffinity") {
            "None" => {
                spec.remove("sessionAffinityConfig");
            }
            "ClientIP" => {
                if let Some(client) = make_map(spec, "sessionAffinityConfig")
                    .and_then(|config| make_map(config, "clientIP"))
                {
                    fill(client, "timeoutSeconds", 10800);
                }
            }
            _ => {}
        }
        each_map(spec, "ports", |port| {
            fill_zero(port, "protocol", "TCP");
            let number = port.at("port").clone();
            if !number.is_null() {
                fill_zero(port, "targetPort", number);
            }
        });
        let kind = spec.text("type").to_owned();
        if externally_accessible(spec) {
            fill_zero(spec, "externalTrafficPolicy", "Cluster");
        }
        if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
            fill(spec, "internalTrafficPolicy", "Cluster");
        }
        if kind == "LoadBalancer" {
            fill(spec, "allocateLoadBalancerNodePorts", true);
        }
    });
    if spec(object).text("type") == "LoadBalancer" {
        with_map(object, &["status", "loadBalancer"], |balancer| {
            each_map(balancer, "ingress", |way| {
                if !way.text("ip").is_empty() {
                    fill(way, "ipMode", "VIP");
                }
            });
        });
    }
}

fn externally_accessible(spec: &Map<String, Value>) -> bool {
    match spec.text("type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    }
}

/// Ports are TCP.
pub(crate) fn endpoints(object: &mut Object) {
    each_map(object.fields_mut(), "subsets", |subset| {
        each_map(subset, "ports", |port| fill_zero(port, "protocol", "TCP"));
    });
}

/// Ports are TCP and may be nameless.
pub(crate) fn endpoint_slice(object: &mut Object) {
    each_map(object.fields_mut(), "ports", |port| {
        fill(port, "name", "");
        fill_zero(port, "protocol", "TCP");
    });
}
