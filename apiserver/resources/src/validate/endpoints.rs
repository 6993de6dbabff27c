//! Endpoints and endpoint slices.

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::{complain, complain_of, immutable, items, one_of, port_number, require};
use crate::look::Look;

/// An address that a service may point to.
pub(super) fn endpoint_ip(ip: &str, path: &Path, errors: &mut ErrorList) {
    let messages = names::is_valid_ip(ip);
    if !messages.is_empty() {
        complain(messages, path, ip, errors);
        return;
    }
    let Ok(address) = ip.parse::<std::net::IpAddr>() else {
        return;
    };
    let (link_local, link_local_multicast) = match address {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => (
            v6.segments()[0] & 0xffc0 == 0xfe80,
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    let detail = if address.is_unspecified() {
        format!("may not be unspecified ({ip})")
    } else if address.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()
    } else if link_local_multicast {
        "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, ip, detail));
}

/// Endpoints.
pub(crate) fn endpoints(object: &Object, errors: &mut ErrorList) {
    for (path, subset) in items(object, "subsets", &Path::root()) {
        if subset.list("addresses").is_empty() && subset.list("notReadyAddresses").is_empty() {
            errors.push(FieldError::required(
                &path,
                "must specify `addresses` or `notReadyAddresses`",
            ));
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (path, address) in items(subset, field, &path) {
                endpoint_ip(address.text("ip"), &path.child("ip"), errors);
                let host = address.text("hostname");
                if !host.is_empty() {
                    complain(
                        names::is_dns1123_label(host),
                        &path.child("hostname"),
                        host,
                        errors,
                    );
                }
                node_name(address, &path, errors);
            }
        }
        let several = subset.list("ports").len() > 1;
        for (path, entry) in items(subset, "ports", &path) {
            let name = entry.text("name");
            if !name.is_empty() {
                complain(
                    names::is_dns1123_label(name),
                    &path.child("name"),
                    name,
                    errors,
                );
            } else if several {
                errors.push(FieldError::required(&path.child("name"), ""));
            }
            port_number(entry.int("port").unwrap_or(0), &path.child("port"), errors);
            one_of(entry, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
            if entry.has("appProtocol") {
                let protocol = entry.text("appProtocol");
                let messages = names::is_qualified_name(protocol);
                complain_of(messages, "appProtocol", &path, protocol, errors);
            }
        }
    }
}

/// The node of an address, when it says one.
fn node_name(address: &Value, path: &Path, errors: &mut ErrorList) {
    if address.has("nodeName") {
        let name = address.text("nodeName");
        let messages = names::is_dns1123_subdomain(name);
        complain_of(messages, "nodeName", path, name, errors);
    }
}

/// EndpointSlice.
pub(crate) fn endpoint_slice(object: &Object, errors: &mut ErrorList) {
    let root = Path::root();
    let kind = object.at("addressType").as_str().unwrap_or("");
    one_of(
        object,
        "addressType",
        &["FQDN", "IPv4", "IPv6"],
        &root,
        errors,
    );
    let endpoints = object.at("endpoints").as_array().map_or(0, Vec::len);
    if endpoints > 1000 {
        errors.push(FieldError::too_many(
            &Path::new("endpoints"),
            endpoints,
            1000,
        ));
    }
    for (path, endpoint) in items(object, "endpoints", &root) {
        let addresses = endpoint.texts("addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(
                &path.child("addresses"),
                "must contain at least 1 address",
            ));
        } else if addresses.len() > 100 {
            errors.push(FieldError::too_many(
                &path.child("addresses"),
                addresses.len(),
                100,
            ));
        }
        for (at, address) in addresses.into_iter().enumerate() {
            let path = path.child("addresses").index(at);
            match kind {
                "FQDN" => complain(names::is_dns1123_subdomain(address), &path, address, errors),
                "IPv4" | "IPv6" => {
                    endpoint_ip(address, &path, errors);
                    let six = address.contains(':');
                    if names::is_valid_ip(address).is_empty() && six != (kind == "IPv6") {
                        let detail = format!("must be an {kind} address");
                        errors.push(FieldError::invalid(&path, address, detail));
                    }
                }
                _ => {}
            }
        }
        let host = endpoint.text("hostname");
        if !host.is_empty() {
            complain(
                names::is_dns1123_label(host),
                &path.child("hostname"),
                host,
                errors,
            );
        }
        node_name(endpoint, &path, errors);
        for (key, value) in endpoint.entries("deprecatedTopology") {
            let (path, value) = (
                path.child("deprecatedTopology").key(key),
                value.as_str().unwrap_or(""),
            );
            crate::meta::label_name(key, &path, errors);
            complain(names::is_valid_label_value(value), &path, value, errors);
        }
    }
    slice_ports(object, &root, errors);
}

fn slice_ports(object: &Object, root: &Path, errors: &mut ErrorList) {
    let mut seen: Vec<&str> = Vec::new();
    for (path, entry) in items(object, "ports", root) {
        let name = entry.text("name");
        if !name.is_empty() {
            complain(
                names::is_dns1123_label(name),
                &path.child("name"),
                name,
                errors,
            );
        }
        if seen.contains(&name) {
            errors.push(FieldError::duplicate(&path.child("name"), name));
        }
        seen.push(name);
        one_of(entry, "protocol", &["SCTP", "TCP", "UDP"], &path, errors);
        if let Some(number) = entry.int("port") {
            port_number(number, &path.child("port"), errors);
        }
        if entry.has("appProtocol") && require(entry, "appProtocol", &path, errors) {
            let protocol = entry.text("appProtocol");
            complain(
                names::is_qualified_name(protocol),
                &path.child("appProtocol"),
                protocol,
                errors,
            );
        }
    }
}

/// The kind of the addresses never changes.
pub(crate) fn endpoint_slice_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let kind = |object: &Object| -> Value { object.at("addressType").clone() };
    immutable(&kind(new), &kind(old), &Path::new("addressType"), errors);
}
