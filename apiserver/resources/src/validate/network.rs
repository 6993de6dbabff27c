//! networking.k8s.io.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, immutable, items, label_selector, one_of, optional_one_of, port, require};
use crate::look::{Look, spec};

/// Ingress.
pub(crate) fn ingress(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    if spec.list("rules").is_empty() && !spec.has("defaultBackend") {
        errors.push(FieldError::invalid(
            &path,
            spec.clone(),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if spec.has("defaultBackend") {
        backend(
            spec.at("defaultBackend"),
            &path.child("defaultBackend"),
            errors,
        );
    }
    for (path, rule) in items(spec, "rules", &path) {
        let host = rule.text("host");
        if !host.is_empty() {
            ingress_host(host, &path.child("host"), errors);
        }
        let http = rule.at("http");
        if http.is_null() {
            continue;
        }
        let path = path.child("http");
        if http.list("paths").is_empty() {
            errors.push(FieldError::required(&path.child("paths"), ""));
        }
        for (path, entry) in items(http, "paths", &path) {
            ingress_path(entry, &path, errors);
            backend(entry.at("backend"), &path.child("backend"), errors);
        }
    }
    for (path, tls) in items(spec, "tls", &path) {
        for (at, host) in tls.texts("hosts").into_iter().enumerate() {
            if host.contains('*') {
                complain(
                    names::is_wildcard_dns1123_subdomain(host),
                    &path.child("hosts").index(at),
                    host,
                    errors,
                );
            } else {
                complain(
                    names::is_dns1123_subdomain(host),
                    &path.child("hosts").index(at),
                    host,
                    errors,
                );
            }
        }
    }
    let class = spec.text("ingressClassName");
    if spec.has("ingressClassName") {
        complain(
            names::is_dns1123_subdomain(class),
            &path.child("ingressClassName"),
            class,
            errors,
        );
    }
}

fn ingress_host(host: &str, path: &Path, errors: &mut ErrorList) {
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.push(FieldError::invalid(
            path,
            host,
            "must be a DNS name, not an IP address",
        ));
    } else if host.contains('*') {
        complain(
            names::is_wildcard_dns1123_subdomain(host),
            path,
            host,
            errors,
        );
    } else {
        complain(names::is_dns1123_subdomain(host), path, host, errors);
    }
}

fn ingress_path(entry: &Value, path: &Path, errors: &mut ErrorList) {
    let text = entry.text("path");
    if entry.text("pathType").is_empty() {
        errors.push(FieldError::required(
            &path.child("pathType"),
            "pathType must be specified",
        ));
        return;
    }
    match entry.text("pathType") {
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.push(FieldError::invalid(
                    &path.child("path"),
                    text,
                    "must be an absolute path",
                ));
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.contains(part) {
                    errors.push(FieldError::invalid(
                        &path.child("path"),
                        text,
                        format!("must not contain '{part}'"),
                    ));
                }
            }
            for end in ["/..", "/."] {
                if text.ends_with(end) {
                    errors.push(FieldError::invalid(
                        &path.child("path"),
                        text,
                        format!("cannot end with '{end}'"),
                    ));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.push(FieldError::invalid(
                    &path.child("path"),
                    text,
                    "must be an absolute path",
                ));
            }
        }
        _ => optional_one_of(
            entry,
            "pathType",
            &["Exact", "ImplementationSpecific", "Prefix"],
            path,
            errors,
        ),
    }
}

fn backend(backend: &Value, path: &Path, errors: &mut ErrorList) {
    let (service, resource) = (backend.at("service"), backend.at("resource"));
    match (service.is_null(), resource.is_null()) {
        (false, false) => {
            errors.push(FieldError::invalid(
                path,
                "",
                "cannot set both resource and service backends",
            ));
        }
        (true, true) => errors.push(FieldError::required(
            path,
            "`resource` or `service` is required",
        )),
        (true, false) => {
            require(resource, "kind", &path.child("resource"), errors);
            require(resource, "name", &path.child("resource"), errors);
        }
        (false, true) => {
            let path = path.child("service");
            if require(service, "name", &path, errors) {
                let name = service.text("name");
                complain(
                    names::is_dns1035_label(name),
                    &path.child("name"),
                    name,
                    errors,
                );
            }
            let (entry, path) = (service.at("port"), path.child("port"));
            match (entry.text("name"), entry.int("number").unwrap_or(0)) {
                ("", 0) => errors.push(FieldError::required(
                    &path,
                    "port name or number is required",
                )),
                ("", number) => super::port_number(number, &path.child("number"), errors),
                (name, 0) => complain(
                    names::is_valid_port_name(name),
                    &path.child("name"),
                    name,
                    errors,
                ),
                _ => errors.push(FieldError::invalid(
                    &path,
                    "",
                    "cannot set both port name & port number",
                )),
            }
        }
    }
}

/// IngressClass.
pub(crate) fn ingress_class(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    let controller = spec.text("controller");
    if controller.len() > 250 {
        errors.push(FieldError::too_long(&path.child("controller"), 250));
    }
    let domain = controller.split_once('/').map_or("", |(domain, _)| domain);
    if domain.is_empty() {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        errors.push(FieldError::invalid(
            &path.child("controller"),
            controller,
            detail,
        ));
    } else {
        complain(
            names::is_dns1123_subdomain(domain),
            &path.child("controller"),
            domain,
            errors,
        );
    }
    let parameters = spec.at("parameters");
    if parameters.is_object() {
        let path = path.child("parameters");
        require(parameters, "kind", &path, errors);
        require(parameters, "name", &path, errors);
        one_of(
            parameters,
            "scope",
            &["Cluster", "Namespace"],
            &path,
            errors,
        );
        if parameters.text("scope") == "Namespace" && !parameters.has("namespace") {
            let detail = "`parameters.scope` is set to 'Namespace'";
            errors.push(FieldError::required(&path.child("namespace"), detail));
        }
        if parameters.text("scope") == "Cluster" && parameters.has("namespace") {
            let detail = "`parameters.scope` is set to 'Cluster'";
            errors.push(FieldError::forbidden(&path.child("namespace"), detail));
        }
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
    let types = spec.texts("policyTypes");
    if types.len() > 2 {
        let detail = "may not specify more than two policyTypes";
        errors.push(FieldError::invalid(
            &path.child("policyTypes"),
            spec.at("policyTypes").clone(),
            detail,
        ));
        return;
    }
    for (at, kind) in types.into_iter().enumerate() {
        if !["Egress", "Ingress"].contains(&kind) {
            let path = path.child("policyTypes").index(at);
            errors.push(FieldError::not_supported(
                &path,
                kind,
                &["Egress", "Ingress"],
            ));
        }
    }
}

fn policy_port(entry: &Value, path: &Path, errors: &mut ErrorList) {
    optional_one_of(entry, "protocol", &["SCTP", "TCP", "UDP"], path, errors);
    let number = entry.at("port");
    if !number.is_null() {
        port(number, &path.child("port"), errors);
    }
    if let Some(end) = entry.int("endPort") {
        let end_path = path.child("endPort");
        match crate::look::whole(number) {
            None if number.is_null() => {
                errors.push(FieldError::required(
                    &path.child("port"),
                    "must be specified when `endPort` is set",
                ));
            }
            None => {
                let detail = "may not be specified when `port` is non-numeric";
                errors.push(FieldError::invalid(&end_path, end, detail));
            }
            Some(start) if end < start => {
                errors.push(FieldError::invalid(
                    &end_path,
                    end,
                    "must be greater than or equal to `port`",
                ));
            }
            Some(_) => super::port_number(end, &end_path, errors),
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
    if block.is_null() {
        if !chosen {
            errors.push(FieldError::required(path, "must specify a peer"));
        }
        return;
    }
    if chosen {
        let detail = "may not specify both ipBlock and another peer";
        errors.push(FieldError::forbidden(path, detail));
    }
    let path = path.child("ipBlock");
    let range = block.text("cidr");
    if range.is_empty() {
        errors.push(FieldError::required(&path.child("cidr"), ""));
        return;
    }
    complain(
        names::is_valid_cidr(range),
        &path.child("cidr"),
        range,
        errors,
    );
    for (at, except) in block.texts("except").into_iter().enumerate() {
        let path = path.child("except").index(at);
        complain(names::is_valid_cidr(except), &path, except, errors);
        if let (Some(outer), Some(inner)) = (names::parse_cidr(range), names::parse_cidr(except))
            && !contains(outer, inner)
        {
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
    let (parent, path) = (
        spec(object).at("parentRef"),
        Path::new("spec").child("parentRef"),
    );
    if parent.is_null() {
        errors.push(FieldError::required(&path, ""));
        return;
    }
    require(parent, "resource", &path, errors);
    require(parent, "name", &path, errors);
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
    } else if ranges.len() > 2 {
        let value = spec(object).at("cidrs").clone();
        errors.push(FieldError::invalid(
            &path,
            value,
            "may only hold up to 2 values",
        ));
    }
    for (at, range) in ranges.iter().enumerate() {
        complain(names::is_valid_cidr(range), &path.index(at), range, errors);
    }
    if let [first, second] = ranges[..]
        && first.contains(':') == second.contains(':')
    {
        let value = spec(object).at("cidrs").clone();
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/96";
        errors.push(FieldError::invalid(&path, value, detail));
    }
}

/// Ranges are not taken away from addresses in use.
pub(crate) fn service_cidr_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec").child("cidrs");
    let (now, before) = (spec(new).texts("cidrs"), spec(old).texts("cidrs"));
    for (at, range) in before.iter().enumerate() {
        if now.get(at) != Some(range) {
            let value = spec(new).at("cidrs").clone();
            errors.push(FieldError::invalid(
                &path.index(at),
                value,
                super::IMMUTABLE,
            ));
            return;
        }
    }
}
