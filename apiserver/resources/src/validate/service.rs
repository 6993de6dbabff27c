//! Services.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::{Map, Value};

use super::{complain, items, one_of, optional_one_of, port, port_number};
use crate::look::{Look, spec};
use crate::meta;

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// A service, new or updated.
pub(crate) fn service(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    let kind = spec.text("type");
    let headless = spec.text("clusterIP") == "None";
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
    addresses(spec, &path, errors);
    if kind.is_empty() {
        errors.push(FieldError::required(&path.child("type"), ""));
    } else {
        optional_one_of(spec, "type", TYPES, &path, errors);
    }
    policies(spec, &path, errors);
}

fn external_name(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if !spec.list("clusterIPs").is_empty() || !spec.text("clusterIP").is_empty() {
        let detail = "may not be set when type is 'ExternalName'";
        errors.push(FieldError::forbidden(&path.child("clusterIPs"), detail));
    }
    let name = spec.text("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(FieldError::required(&path.child("externalName"), ""));
    } else {
        complain(
            names::is_dns1123_subdomain(name),
            &path.child("externalName"),
            spec.text("externalName"),
            errors,
        );
    }
}

fn ports(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let all = spec.list("ports");
    let kind = spec.text("type");
    let (mut seen_names, mut seen, mut seen_nodes) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (path, entry) in items(spec, "ports", path) {
        let name = entry.text("name");
        if name.is_empty() {
            if all.len() > 1 {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
        } else {
            complain(
                names::is_dns1123_label(name),
                &path.child("name"),
                name,
                errors,
            );
            if !seen_names.insert(name) {
                errors.push(FieldError::duplicate(&path.child("name"), name));
            }
        }
        let number = entry.int("port").unwrap_or(0);
        port_number(number, &path.child("port"), errors);
        one_of(entry, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
        if kind != "ExternalName" {
            port(entry.at("targetPort"), &path.child("targetPort"), errors);
        }
        let protocol = entry.text("protocol");
        if !seen.insert((protocol, number)) {
            let mut pair = Map::new();
            pair.insert("port".to_owned(), number.into());
            pair.insert("protocol".to_owned(), protocol.into());
            errors.push(FieldError::duplicate(&path, Value::Object(pair)));
        }
        match entry.int("nodePort").unwrap_or(0) {
            0 => {}
            node if !matches!(kind, "NodePort" | "LoadBalancer") => {
                let detail = format!("may not be used when `type` is '{kind}'");
                errors.push(FieldError::forbidden(&path.child("nodePort"), detail));
                port_number(node, &path.child("nodePort"), errors);
            }
            node => {
                port_number(node, &path.child("nodePort"), errors);
                if !seen_nodes.insert((protocol, node)) {
                    errors.push(FieldError::duplicate(&path.child("nodePort"), node));
                }
            }
        }
    }
}

fn affinity_timeout(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let config = spec.at("sessionAffinityConfig");
    let path = path.child("sessionAffinityConfig");
    match spec.text("sessionAffinity") {
        "ClientIP" => {
            let path = path.child("clientIP").child("timeoutSeconds");
            match config.at("clientIP").int("timeoutSeconds") {
                Some(1..=86400) => {}
                Some(seconds) => {
                    let detail = "must be greater than 0 and less than 86400";
                    errors.push(FieldError::invalid(&path, seconds, detail));
                }
                None => errors.push(FieldError::required(&path, "")),
            }
        }
        "None" if !config.is_null() => {
            let detail = "must not be set when session affinity is None";
            errors.push(FieldError::forbidden(&path, detail));
        }
        _ => {}
    }
}

fn addresses(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let (first, list) = (spec.text("clusterIP"), spec.texts("clusterIPs"));
    if !list.is_empty() && list[0] != first && !first.is_empty() {
        let detail = "first value must match `clusterIP`";
        errors.push(FieldError::invalid(
            &path.child("clusterIPs"),
            spec.at("clusterIPs").clone(),
            detail,
        ));
    }
    let list = if list.is_empty() && !first.is_empty() {
        vec![first]
    } else {
        list
    };
    if list.len() > 2 {
        let detail = "may only hold up to 2 values";
        errors.push(FieldError::invalid(
            &path.child("clusterIPs"),
            spec.at("clusterIPs").clone(),
            detail,
        ));
    }
    for (at, ip) in list.into_iter().enumerate() {
        let path = path.child("clusterIPs").index(at);
        if at == 0 && (ip == "None" || ip.is_empty()) {
            continue;
        }
        complain(names::is_valid_ip(ip), &path, ip, errors);
    }
    for (at, ip) in spec.texts("externalIPs").into_iter().enumerate() {
        complain(
            names::is_valid_ip(ip),
            &path.child("externalIPs").index(at),
            ip,
            errors,
        );
    }
    let ranges = spec.texts("loadBalancerSourceRanges");
    if !ranges.is_empty() && spec.text("type") != "LoadBalancer" {
        let detail = "may only be used when `type` is 'LoadBalancer'";
        errors.push(FieldError::forbidden(
            &path.child("loadBalancerSourceRanges"),
            detail,
        ));
    }
    for (at, range) in ranges.into_iter().enumerate() {
        complain(
            names::is_valid_cidr(range.trim()),
            &path.child("loadBalancerSourceRanges").index(at),
            range,
            errors,
        );
    }
    for (path, family) in items(spec, "ipFamilies", path) {
        let family = family.as_str().unwrap_or("");
        if !["IPv4", "IPv6"].contains(&family) {
            errors.push(FieldError::not_supported(&path, family, &["IPv4", "IPv6"]));
        }
    }
    optional_one_of(
        spec,
        "ipFamilyPolicy",
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
        path,
        errors,
    );
}

fn policies(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let external = spec.text("externalTrafficPolicy");
    let exposed = match spec.text("type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    };
    if !external.is_empty() && !exposed {
        let detail = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(
            &path.child("externalTrafficPolicy"),
            external,
            detail,
        ));
    } else if exposed {
        if external.is_empty() {
            errors.push(FieldError::required(
                &path.child("externalTrafficPolicy"),
                "",
            ));
        }
        optional_one_of(
            spec,
            "externalTrafficPolicy",
            &["Cluster", "Local"],
            path,
            errors,
        );
    }
    optional_one_of(
        spec,
        "internalTrafficPolicy",
        &["Cluster", "Local"],
        path,
        errors,
    );
    if spec.int("healthCheckNodePort").unwrap_or(0) != 0
        && !(spec.text("type") == "LoadBalancer" && external == "Local")
    {
        let detail =
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(FieldError::invalid(
            &path.child("healthCheckNodePort"),
            spec.at("healthCheckNodePort").clone(),
            detail,
        ));
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        if spec.has(field) && spec.text("type") != "LoadBalancer" {
            errors.push(FieldError::forbidden(
                &path.child(field),
                "may only be used when `type` is 'LoadBalancer'",
            ));
        }
    }
}

/// The address of a service stays as long as the service has one.
pub(crate) fn service_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let (now, before, path) = (spec(new), spec(old), Path::new("spec"));
    if now.text("type") == "ExternalName" || before.text("type") == "ExternalName" {
        return;
    }
    let address = before.text("clusterIP");
    if !address.is_empty() && now.text("clusterIP") != address {
        errors.push(FieldError::invalid(
            &path.child("clusterIPs").index(0),
            now.text("clusterIP"),
            "may not change once set",
        ));
    }
    if before.text("type") == "LoadBalancer"
        && now.text("type") == "LoadBalancer"
        && now.text("loadBalancerClass") != before.text("loadBalancerClass")
    {
        let class = now.text("loadBalancerClass");
        errors.push(FieldError::invalid(
            &path.child("loadBalancerClass"),
            class,
            "may not change once set",
        ));
    }
}
