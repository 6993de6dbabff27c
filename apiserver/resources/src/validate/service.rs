//! Services.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::{Map, Value};

use super::endpoints::endpoint_ip;
use super::{
    IMMUTABLE, complain, complain_of, items, one_of, optional_one_of, port_number_of, port_of,
};
use crate::look::{Look, spec, status};
use crate::meta;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// A service, new or updated.
pub(crate) fn service(object: &Object, errors: &mut ErrorList) {
    topology(object, errors);
    let (spec, path) = (spec(object), Path::new("spec"));
    let kind = spec.text("type");
    let headless = is_headless(spec);
    if spec.list("ports").is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(&path.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" if headless => errors.push(FieldError::invalid(
            &path.child("clusterIPs").index(0),
            "None",
            "may not be set to 'None' for LoadBalancer services",
        )),
        "NodePort" if headless => errors.push(FieldError::invalid(
            &path.child("clusterIPs").index(0),
            "None",
            "may not be set to 'None' for NodePort services",
        )),
        "ExternalName" => external_name(spec, &path, errors),
        _ => {}
    }
    ports(spec, &path, errors);
    meta::labels(spec.at("selector"), &path.child("selector"), errors);
    one_of(
        spec,
        "sessionAffinity",
        &["ClientIP", "None"],
        &path,
        errors,
    );
    affinity_timeout(spec, &path, errors);
    if kind != "ExternalName" {
        addresses(spec, &path, errors);
    }
    for (path, ip) in items(spec, "externalIPs", &path) {
        endpoint_ip(ip.as_str().unwrap_or(""), &path, errors);
    }
    one_of(spec, "type", TYPES, &path, errors);
    unique_ports(spec, &path, errors);
    source_ranges(object, errors);
    balancer(spec, &path, errors);
    policies(spec, &path, errors);
}

fn is_headless(spec: &Value) -> bool {
    spec.text("clusterIP") == "None" || spec.texts("clusterIPs") == ["None"]
}

const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// The older of two annotations may not say another thing than the newer one.
fn topology(object: &Object, errors: &mut ErrorList) {
    let (mode, hints) = (
        object.annotation(TOPOLOGY_MODE),
        object.annotation(TOPOLOGY_HINTS),
    );
    if let (Some(mode), Some(hints)) = (mode, hints)
        && mode != hints
    {
        let path = Path::new("metadata")
            .child("annotations")
            .key(TOPOLOGY_MODE);
        let detail = format!("must match annotations[{TOPOLOGY_HINTS}] when both are specified");
        errors.push(FieldError::invalid(&path, mode, detail));
    }
}

fn external_name(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let addresses = !spec.list("clusterIPs").is_empty() || !spec.text("clusterIP").is_empty();
    for (field, is_set) in [
        ("clusterIPs", addresses),
        ("ipFamilies", !spec.list("ipFamilies").is_empty()),
        ("ipFamilyPolicy", spec.has("ipFamilyPolicy")),
    ] {
        if is_set {
            let detail = "may not be set for ExternalName services";
            errors.push(FieldError::forbidden(&path.child(field), detail));
        }
    }
    let name = spec.text("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("externalName"), ""));
    } else {
        let messages = names::is_dns1123_subdomain(name);
        complain_of(messages, "externalName", path, name, errors);
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let several = spec.list("ports").len() > 1;
    let mut seen = BTreeSet::new();
    for (path, entry) in items(spec, "ports", path) {
        let name = entry.text("name");
        if !name.is_empty() {
            complain_of(names::is_dns1123_label(name), "name", &path, name, errors);
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        } else if several {
            errors.push(FieldError::required(&path.child("name"), ""));
        }
        port_number_of(entry.int("port").unwrap_or(0), "port", &path, errors);
        one_of(entry, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
        port_of(entry, "targetPort", &path, errors);
        if entry.has("appProtocol") {
            let protocol = entry.text("appProtocol");
            let messages = names::is_qualified_name(protocol);
            complain_of(messages, "appProtocol", &path, protocol, errors);
        }
    }
}

/// Ports of nodes are for those that have some, and no port is there twice.
fn unique_ports(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let all = || {
        items(spec, "ports", path).map(|(path, entry)| {
            let on_node = entry.int("nodePort").unwrap_or(0);
            (path, entry.text("protocol"), entry, on_node)
        })
    };
    if spec.text("type") == "ClusterIP" {
        for (path, ..) in all().filter(|(.., on_node)| *on_node != 0) {
            let detail = "may not be used when `type` is 'ClusterIP'";
            errors.push(FieldError::forbidden(&path.child("nodePort"), detail));
        }
    }
    let mut seen = BTreeSet::new();
    for (path, protocol, _, on_node) in all().filter(|(.., on_node)| *on_node != 0) {
        if !seen.insert((protocol, on_node)) {
            errors.push(FieldError::duplicate(&path.child("nodePort"), on_node));
        }
    }
    let mut seen = BTreeSet::new();
    for (path, protocol, entry, _) in all() {
        let number = entry.int("port").unwrap_or(0);
        if !seen.insert((protocol, number)) {
            let mut pair = Map::new();
            pair.insert("port".to_owned(), number.into());
            pair.insert("protocol".to_owned(), protocol.into());
            errors.push(FieldError::duplicate(&path, Value::Object(pair)));
        }
    }
}

fn affinity_timeout(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let config = spec.at("sessionAffinityConfig");
    let path = path.child("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            let client = config.at("clientIP");
            let required = "when session affinity type is ClientIP";
            let wrong = if config.is_null() {
                FieldError::required(&path, required)
            } else if client.is_null() {
                FieldError::required(&path.child("clientIP"), required)
            } else {
                let path = path.child("clientIP").child("timeoutSeconds");
                match client.int("timeoutSeconds") {
                    Some(1..=86400) => return,
                    Some(seconds) => {
                        let detail = "must be greater than 0 and less than 86400";
                        FieldError::invalid(&path, seconds, detail)
                    }
                    None => FieldError::required(&path, required),
                }
            };
            errors.push(wrong);
        }
        "None" if !config.is_null() => {
            let detail = "must not be set when session affinity is None";
            errors.push(FieldError::forbidden(&path, detail));
        }
        _ => {}
    }
}

/// The addresses of the service itself. How many of which families go together is told where they are given out.
fn addresses(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (first, list) = (spec.text("clusterIP"), spec.texts("clusterIPs"));
    let listed = path.child("clusterIPs");
    let wrong = |detail: &str| FieldError::invalid(&listed, spec.at("clusterIPs").clone(), detail);
    match list.first() {
        Some(one) if !first.is_empty() && *one != first => {
            errors.push(wrong("first value must match `clusterIP`"));
        }
        Some(_) if first.is_empty() => {
            errors.push(wrong("must be empty when `clusterIP` is not specified"));
        }
        _ => {}
    }
    families(spec, path, errors);
    let list = match list.is_empty() && !first.is_empty() {
        true => vec![first],
        false => list,
    };
    for (at, ip) in list.iter().enumerate() {
        if at == 0 && *ip == "None" {
            if list.len() > 1 {
                errors.push(wrong("'None' must be the first and only value"));
            }
            continue;
        }
        complain(names::is_valid_ip(ip), &listed.index(at), ip, errors);
    }
    if list.len() > 2 {
        errors.push(wrong("may only hold up to 2 values"));
    }
}

fn families(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, family) in items(spec, "ipFamilies", path) {
        let family = family.as_str().unwrap_or("");
        if !["IPv4", "IPv6"].contains(&family) {
            errors.push(FieldError::not_supported(&path, family, &["IPv4", "IPv6"]));
        }
        if !seen.insert(family) {
            errors.push(FieldError::duplicate(&path, family));
        }
    }
    let policies = &["PreferDualStack", "RequireDualStack", "SingleStack"];
    optional_one_of(spec, "ipFamilyPolicy", policies, path, errors);
}

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const OF_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

/// Who may use the balancer, by the field or by the annotation of before.
fn source_ranges(object: &Object, errors: &mut ErrorList) {
    let spec = spec(object);
    let is_balanced = spec.text("type") == "LoadBalancer";
    let ranges = spec.texts("loadBalancerSourceRanges");
    if !ranges.is_empty() {
        // So Kubernetes spells it.
        let path = Path::new("spec").child("LoadBalancerSourceRanges");
        if !is_balanced {
            errors.push(FieldError::forbidden(&path, OF_BALANCERS));
        }
        for (at, range) in ranges.into_iter().map(str::trim).enumerate() {
            complain(names::is_valid_cidr(range), &path.index(at), range, errors);
        }
    } else if let Some(said) = object.annotation(SOURCE_RANGES) {
        let path = Path::new("metadata")
            .child("annotations")
            .key(SOURCE_RANGES);
        if !is_balanced {
            errors.push(FieldError::forbidden(&path, OF_BALANCERS));
        }
        let ranges = said.trim().split(',').map(str::trim);
        for range in ranges.filter(|_| !said.trim().is_empty()) {
            complain(names::is_valid_cidr(range), &path, range, errors);
        }
    }
}

fn balancer(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let is_balanced = spec.text("type") == "LoadBalancer";
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if spec.has(field) && !is_balanced {
            errors.push(FieldError::forbidden(&path.child(field), OF_BALANCERS));
        }
    }
    if is_balanced && spec.has("loadBalancerClass") {
        let class = spec.text("loadBalancerClass");
        let messages = names::is_qualified_name(class);
        complain_of(messages, "loadBalancerClass", path, class, errors);
    }
}

const TRAFFIC: &[&str] = &["Cluster", "Local"];

fn policies(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (kind, external) = (spec.text("type"), spec.text("externalTrafficPolicy"));
    let exposed = match kind {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    };
    if exposed {
        one_of(spec, "externalTrafficPolicy", TRAFFIC, path, errors);
    } else if !external.is_empty() {
        let path = path.child("externalTrafficPolicy");
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(&path, external, detail));
    }
    let health = spec.int("healthCheckNodePort").unwrap_or(0);
    if health != 0 && kind == "LoadBalancer" && external == "Local" {
        port_number_of(health, "healthCheckNodePort", path, errors);
    } else if health != 0 {
        let path = path.child("healthCheckNodePort");
        let detail =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(&path, health, detail));
    }
    if matches!(kind, "ClusterIP" | "LoadBalancer" | "NodePort") {
        one_of(spec, "internalTrafficPolicy", TRAFFIC, path, errors);
    } else {
        optional_one_of(spec, "internalTrafficPolicy", TRAFFIC, path, errors);
    }
    if spec.has("trafficDistribution") {
        let said = spec.text("trafficDistribution");
        if !DISTRIBUTIONS.contains(&said) {
            let path = path.child("trafficDistribution");
            errors.push(FieldError::not_supported(&path, said, DISTRIBUTIONS));
        }
    }
}

const DISTRIBUTIONS: &[&str] = &["PreferClose", "PreferSameZone", "PreferSameNode"];

/// The address of a service stays as long as the service has one, and so does who balances it.
pub(crate) fn service_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    if now.text("type") != "ExternalName" && before.text("type") != "ExternalName" {
        kept_addresses(now, before, &path, errors);
    }
    let both = |field: &str, value: &str| now.text(field) == value && before.text(field) == value;
    if !both("type", "LoadBalancer") {
        return;
    }
    let (class, number) = ("loadBalancerClass", "healthCheckNodePort");
    if now.at(class) != before.at(class) {
        let (path, detail) = (path.child(class), "may not change once set");
        errors.push(FieldError::invalid(&path, now.at(class).clone(), detail));
    }
    if both("externalTrafficPolicy", "Local") && now.int(number) != before.int(number) {
        errors.push(FieldError::forbidden(&path.child(number), IMMUTABLE));
    }
}

/// What was given stays; a second address comes, and goes by the policy alone.
fn kept_addresses(now: &Value, before: &Value, path: &Path, errors: &mut ErrorList) {
    if is_headless(now) && is_headless(before) {
        return;
    }
    let (list, known) = (now.texts("clusterIPs"), before.texts("clusterIPs"));
    let path_of = |at: usize| path.child("clusterIPs").index(at);
    let wrong = |at: usize, detail: &str| FieldError::invalid(&path_of(at), list.clone(), detail);
    if list.is_empty() && !known.is_empty() {
        errors.push(wrong(0, "primary clusterIP can not be unset"));
    }
    // A list that grew or shrank is held to its first address only.
    let held = if list.len() == known.len() { 2 } else { 1 };
    for (at, (one, was)) in list.iter().zip(&known).enumerate().take(held) {
        if one != was {
            errors.push(wrong(at, "may not change once set"));
        }
    }
    let policy = now.text("ipFamilyPolicy");
    if list.len() == 1 && known.len() > 1 && policy != "SingleStack" {
        let detail = "must be set to 'SingleStack' when releasing the secondary clusterIP";
        let path = path.child("ipFamilyPolicy");
        errors.push(FieldError::invalid(&path, policy, detail));
    }
}

/// An update through `status`: where a balancer can be reached.
pub(crate) fn service_subresource(
    subresource: &str,
    new: &Object,
    _old: &Object,
    errors: &mut ErrorList,
) {
    if subresource != "status" {
        return;
    }
    let path = Path::new("status").child("loadBalancer");
    let balancer = status(new).at("loadBalancer");
    if spec(new).text("type") != "LoadBalancer" && !balancer.list("ingress").is_empty() {
        let detail = "may only be used when `spec.type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(&path.child("ingress"), detail));
        return;
    }
    for (path, way) in items(balancer, "ingress", &path) {
        let (ip, mode) = (way.text("ip"), way.text("ipMode"));
        way_in(way, &path, errors);
        if !ip.is_empty() {
            optional_one_of(way, "ipMode", &["Proxy", "VIP"], &path, errors);
        } else if !mode.is_empty() {
            let detail = "may not be specified when `ip` is not set";
            errors.push(FieldError::forbidden(&path.child("ipMode"), detail));
        }
    }
}

/// An address or a name at which a balancer listens, of services and ingresses alike.
pub(super) fn way_in(way: &Value, path: &Path, errors: &mut ErrorList) {
    let (ip, host) = (way.text("ip"), way.text("hostname"));
    if !ip.is_empty() {
        complain_of(names::is_valid_ip(ip), "ip", path, ip, errors);
    }
    if host.is_empty() {
        return;
    }
    let messages = names::is_dns1123_subdomain(host);
    complain_of(messages, "hostname", path, host, errors);
    if host.parse::<std::net::IpAddr>().is_ok() {
        let path = path.child("hostname");
        let detail = "must be a DNS name, not an IP address";
        errors.push(FieldError::invalid(&path, host, detail));
    }
}
