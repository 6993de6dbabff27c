//! networking.k8s.io.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::service::way_in;
use super::{
    IMMUTABLE, complain, complain_of, domain_path, immutable, items, label_selector, one_of,
    optional_one_of, port, port_number_of, require,
};
use crate::look::{Look, spec, status};
use crate::meta;

/// Ingress.
pub(crate) fn ingress(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    if spec.list("rules").is_empty() && !spec.has("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        let rules = spec.at("rules").clone();
        errors.push(FieldError::invalid(&path, rules, detail));
    }
    if spec.has("defaultBackend") {
        let path = path.child("defaultBackend");
        backend(spec.at("defaultBackend"), &path, errors);
    }
    for (path, rule) in items(spec, "rules", &path) {
        let host = rule.text("host");
        if host.parse::<std::net::IpAddr>().is_ok() {
            let detail = "must be a DNS name, not an IP address";
            errors.push(FieldError::invalid(&path.child("host"), host, detail));
        }
        if !host.is_empty() {
            ingress_host(host, &path.child("host"), errors);
        }
        if rule.has("http") {
            http(rule.at("http"), &path.child("http"), errors);
        }
    }
    for (path, tls) in items(spec, "tls", &path) {
        for (at, host) in tls.texts("hosts").into_iter().enumerate() {
            ingress_host(host, &path.child("hosts").index(at), errors);
        }
        let secret = tls.text("secretName");
        if !secret.is_empty() {
            let messages = names::is_dns1123_subdomain(secret);
            complain_of(messages, "secretName", &path, secret, errors);
        }
    }
    if spec.has("ingressClassName") {
        let class = spec.text("ingressClassName");
        let messages = names::is_dns1123_subdomain(class);
        complain_of(messages, "ingressClassName", &path, class, errors);
    }
    one_class(object, errors);
}

const CLASS: &str = "kubernetes.io/ingress.class";

/// A new ingress does not say by the annotation of before that it is of another class.
fn one_class(object: &Object, errors: &mut ErrorList) {
    let Some(said) = object.annotation(CLASS) else {
        return;
    };
    let class = spec(object).at("ingressClassName");
    if object.resource_version().is_empty() && class.as_str().is_some_and(|class| class != said) {
        let path = Path::new("annotations").child(CLASS);
        let detail = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(&path, said, detail));
    }
}

fn ingress_host(host: &str, path: &Path, errors: &mut ErrorList) {
    let messages = match host.contains('*') {
        true => names::is_wildcard_dns1123_subdomain(host),
        false => names::is_dns1123_subdomain(host),
    };
    complain(messages, path, host, errors);
}

fn http(http: &Value, path: &Path, errors: &mut ErrorList) {
    if http.list("paths").is_empty() {
        errors.push(FieldError::required(&path.child("paths"), ""));
    }
    for (path, entry) in items(http, "paths", path) {
        if !entry.has("pathType") {
            let path = path.child("pathType");
            errors.push(FieldError::required(&path, "pathType must be specified"));
            continue;
        }
        ingress_path(entry, &path, errors);
        backend(entry.at("backend"), &path.child("backend"), errors);
    }
}

/// An update through `status`: where the ingress can be reached.
pub(crate) fn ingress_subresource(
    subresource: &str,
    new: &Object,
    _old: &Object,
    errors: &mut ErrorList,
) {
    if subresource != "status" {
        return;
    }
    let path = Path::new("status").child("loadBalancer");
    for (path, way) in items(status(new).at("loadBalancer"), "ingress", &path) {
        way_in(way, &path, errors);
    }
}

fn ingress_path(entry: &Value, path: &Path, errors: &mut ErrorList) {
    let (text, kind) = (entry.text("path"), entry.text("pathType"));
    let is_exact = matches!(kind, "Exact" | "Prefix");
    if !is_exact && kind != "ImplementationSpecific" {
        let kinds = &["Exact", "ImplementationSpecific", "Prefix"];
        let path = path.child("pathType");
        errors.push(FieldError::not_supported(&path, kind, kinds));
        return;
    }
    let path = path.child("path");
    let mut wrong = |detail: String| errors.push(FieldError::invalid(&path, text, detail));
    if !text.starts_with('/') && (is_exact || !text.is_empty()) {
        wrong("must be an absolute path".to_owned());
    }
    if !is_exact {
        return;
    }
    for part in ["//", "/./", "/../", "%2f", "%2F"] {
        if text.contains(part) {
            wrong(format!("must not contain '{part}'"));
        }
    }
    for end in ["/..", "/."] {
        if text.ends_with(end) {
            wrong(format!("cannot end with '{end}'"));
        }
    }
}

fn backend(backend: &Value, path: &Path, errors: &mut ErrorList) {
    let (service, resource) = (backend.at("service"), backend.at("resource"));
    match (service.is_null(), resource.is_null()) {
        (false, false) => {
            let detail = "cannot set both resource and service backends";
            errors.push(FieldError::invalid(path, "", detail));
        }
        (true, true) => {
            let detail = "resource or service backend is required";
            errors.push(FieldError::invalid(path, "", detail));
        }
        (true, false) => reference(resource, &path.child("resource"), errors),
        (false, true) => service_backend(service, path, errors),
    }
}

/// An object of any kind, by name.
fn reference(value: &Value, path: &Path, errors: &mut ErrorList) {
    if value.has("apiGroup") {
        let group = value.text("apiGroup");
        let messages = names::is_dns1123_subdomain(group);
        complain_of(messages, "apiGroup", path, group, errors);
    }
    segments(value, &["kind", "name"], path, errors);
}

/// Fields that must be there and may stand in a path.
fn segments(value: &Value, fields: &[&str], path: &Path, errors: &mut ErrorList) {
    for field in fields {
        if require(value, field, path, errors) {
            let text = value.text(field);
            let messages = meta::path_segment(text, false);
            complain_of(messages, field, path, text, errors);
        }
    }
}

fn service_backend(service: &Value, path: &Path, errors: &mut ErrorList) {
    let inner = path.child("service");
    if require(service, "name", &inner, errors) {
        let name = service.text("name");
        complain_of(names::is_dns1123_label(name), "name", &inner, name, errors);
    }
    let (entry, inner) = (service.at("port"), inner.child("port"));
    match (entry.text("name"), entry.int("number").unwrap_or(0)) {
        ("", 0) => {
            let detail = "port name or number is required";
            errors.push(FieldError::required(path, detail));
        }
        ("", number) => port_number_of(number, "number", &inner, errors),
        (name, 0) => {
            let messages = names::is_valid_port_name(name);
            complain_of(messages, "name", &inner, name, errors);
        }
        _ => {
            let detail = "cannot set both port name & port number";
            errors.push(FieldError::invalid(path, "", detail));
        }
    }
}

/// IngressClass.
pub(crate) fn ingress_class(object: &Object, errors: &mut ErrorList) {
    const LENGTH_MAX: usize = 250;
    let (spec, path) = (spec(object), Path::new("spec"));
    let (controller, controller_path) = (spec.text("controller"), path.child("controller"));
    if controller.len() > LENGTH_MAX {
        errors.push(FieldError::too_long(&controller_path, LENGTH_MAX));
    }
    domain_path(controller, &controller_path, errors);
    let parameters = spec.at("parameters");
    if parameters.is_object() {
        class_parameters(parameters, &path.child("parameters"), errors);
    }
}

fn class_parameters(parameters: &Value, path: &Path, errors: &mut ErrorList) {
    reference(parameters, path, errors);
    one_of(parameters, "scope", &["Cluster", "Namespace"], path, errors);
    let (field, namespace) = ("namespace", parameters.text("namespace"));
    let of = |scope: &str| format!("`parameters.scope` is set to '{scope}'");
    match (parameters.text("scope"), parameters.has(field)) {
        ("Namespace", false) => {
            errors.push(FieldError::required(&path.child(field), of("Namespace")));
        }
        ("Namespace", true) => {
            let messages = names::is_dns1123_label(namespace);
            complain_of(messages, field, path, namespace, errors);
        }
        ("Cluster", true) => {
            errors.push(FieldError::forbidden(&path.child(field), of("Cluster")));
        }
        _ => {}
    }
}

/// The controller is what a class is.
pub(crate) fn ingress_class_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("controller");
    immutable(
        spec(new).at("controller"),
        spec(old).at("controller"),
        &path,
        errors,
    );
}

/// NetworkPolicy.
pub(crate) fn network_policy(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    label_selector(spec.at("podSelector"), &path.child("podSelector"), errors);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (path, rule) in items(spec, rules, &path) {
            for (path, entry) in items(rule, "ports", &path) {
                policy_port(entry, &path, errors);
            }
            for (path, peer) in items(rule, peers, &path) {
                policy_peer(peer, &path, errors);
            }
        }
    }
    policy_types(spec, &path, errors);
}

fn policy_types(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let types = spec.texts("policyTypes");
    if types.len() > 2 {
        let value = spec.at("policyTypes").clone();
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(
            &path.child("policyTypes"),
            value,
            detail,
        ));
        return;
    }
    for (at, kind) in types.into_iter().enumerate() {
        let kinds = &["Ingress", "Egress"];
        if !kinds.contains(&kind) {
            let path = path.child("policyTypes").index(at);
            errors.push(FieldError::not_supported(&path, kind, kinds));
        }
    }
}

fn policy_port(entry: &Value, path: &Path, errors: &mut ErrorList) {
    optional_one_of(entry, "protocol", &["TCP", "UDP", "SCTP"], path, errors);
    let number = entry.at("port");
    let Some(end) = entry.int("endPort") else {
        if !number.is_null() {
            port(number, &path.child("port"), errors);
        }
        return;
    };
    let wrong = |detail: &str, errors: &mut ErrorList| {
        errors.push(FieldError::invalid(&path.child("endPort"), end, detail));
    };
    match crate::look::whole(number) {
        _ if number.is_null() => {
            wrong("may not be specified when `port` is not specified", errors);
        }
        None => {
            wrong("may not be specified when `port` is non-numeric", errors);
            port(number, &path.child("port"), errors);
        }
        Some(start) => {
            port(number, &path.child("port"), errors);
            if end < start {
                wrong("must be greater than or equal to `port`", errors);
            }
            port_number_of(end, "endPort", path, errors);
        }
    }
}

fn policy_peer(peer: &Value, path: &Path, errors: &mut ErrorList) {
    let selectors = ["podSelector", "namespaceSelector"];
    for field in selectors {
        label_selector(peer.at(field), &path.child(field), errors);
    }
    let chosen = selectors.iter().any(|field| peer.has(field));
    let block = peer.at("ipBlock");
    if !block.is_null() {
        ip_block(block, &path.child("ipBlock"), errors);
        if chosen {
            let detail = "may not specify both ipBlock and another peer";
            errors.push(FieldError::forbidden(path, detail));
        }
    } else if !chosen {
        errors.push(FieldError::required(path, "must specify a peer"));
    }
}

fn ip_block(block: &Value, path: &Path, errors: &mut ErrorList) {
    if !require(block, "cidr", path, errors) {
        return;
    }
    let range = block.text("cidr");
    complain_of(names::is_valid_cidr(range), "cidr", path, range, errors);
    let Some(outer) = names::parse_cidr(range) else {
        return;
    };
    for (at, except) in block.texts("except").into_iter().enumerate() {
        let path = path.child("except").index(at);
        complain(names::is_valid_cidr(except), &path, except, errors);
        if names::parse_cidr(except).is_some_and(|inner| !contains(outer, inner)) {
            let detail = "must be a strict subset of `cidr`";
            errors.push(FieldError::invalid(&path, except, detail));
        }
    }
}

/// Whether the second block lies in the first and is smaller.
fn contains(outer: (std::net::IpAddr, u8), inner: (std::net::IpAddr, u8)) -> bool {
    use std::net::IpAddr;
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let ((a, width), (b, other)) = (bits(outer.0), bits(inner.0));
    let shift = width - u32::from(outer.1).min(width);
    let head = |value: u128| value.checked_shr(shift).unwrap_or(0);
    width == other && outer.1 < inner.1 && head(a) == head(b)
}

/// IPAddress.
pub(crate) fn ip_address(object: &Object, errors: &mut ErrorList) {
    let parent = spec(object).at("parentRef");
    let path = Path::new("spec").child("parentRef");
    if parent.is_null() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    let (group, namespace) = (parent.text("group"), parent.text("namespace"));
    if !group.is_empty() {
        let messages = names::is_dns1123_subdomain(group);
        complain_of(messages, "group", &path, group, errors);
    }
    segments(parent, &["resource", "name"], &path, errors);
    if !namespace.is_empty() {
        let messages = meta::path_segment(namespace, false);
        complain_of(messages, "namespace", &path, namespace, errors);
    }
}

/// To whom an address belongs never changes.
pub(crate) fn ip_address_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("parentRef");
    immutable(
        spec(new).at("parentRef"),
        spec(old).at("parentRef"),
        &path,
        errors,
    );
}

/// ServiceCIDR.
pub(crate) fn service_cidr(object: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("cidrs");
    let ranges = spec(object).texts("cidrs");
    if ranges.is_empty() {
        errors.push(FieldError::required(&path, "at least one CIDR required"));
        return;
    }
    if ranges.len() > 2 {
        let value = spec(object).clone();
        let detail = "may only hold up to 2 values";
        errors.push(FieldError::invalid(&path, value, detail));
        return;
    }
    for (at, range) in ranges.iter().enumerate() {
        complain(names::is_valid_cidr(range), &path.index(at), range, errors);
    }
    let is_six = |range: &str| names::parse_cidr(range).map(|(address, _)| address.is_ipv6());
    if let [first, second] = ranges[..]
        && is_six(first).is_some()
        && is_six(first) == is_six(second)
    {
        let value = spec(object).at("cidrs").clone();
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(&path, value, detail));
    }
}

/// Ranges are not taken away from addresses in use; a second one may be added.
pub(crate) fn service_cidr_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("cidrs");
    let (now, before) = (spec(new).texts("cidrs"), spec(old).texts("cidrs"));
    if now.len() != before.len() && (before.len(), now.len()) != (1, 2) {
        let value = spec(new).at("cidrs").clone();
        errors.push(FieldError::invalid(&path, value, IMMUTABLE));
        return;
    }
    for (at, (range, was)) in now.into_iter().zip(before).enumerate() {
        if range != was {
            errors.push(FieldError::invalid(&path.index(at), range, IMMUTABLE));
        }
    }
}
