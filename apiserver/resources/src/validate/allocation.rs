//! The status of a ResourceClaim: which devices it has got, with which parameters, and what their drivers tell of them.

use std::collections::BTreeSet;

use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::affinity::node_selector;
use super::conditions::conditions;
use super::devices::{bounded, driver, of_requests, opaque, raw_object, request_ref};
use super::{complain, items, one_of, optional_one_of};
use crate::look::Look;
use crate::meta;

/// Kubernetes' limits: devices that a claim may have got, parameters that go with them (those of the class and those of the
/// claim), conditions under which a device is ready for a pod.
const RESULTS_MAX: usize = 32;
const CONFIGS_MAX: usize = 64;
const BINDING_CONDITIONS_MAX: usize = 4;
/// What a driver may tell of a device.
const CONDITIONS_MAX: usize = 8;
const ADDRESSES_MAX: usize = 16;
const INTERFACE_BYTES_MAX: usize = 256;
const HARDWARE_BYTES_MAX: usize = 128;
const POOL_BYTES_MAX: usize = 253;

/// An allocation that was not there before; `devices` is what the claim asks for.
pub(super) fn allocation(allocation: &Value, devices: &Value, path: &Path, errors: &mut ErrorList) {
    let (got, below) = (allocation.at("devices"), path.child("devices"));
    if bounded(got, "results", RESULTS_MAX, &below, errors) {
        for (path, result) in items(got, "results", &below) {
            self::result(result, devices, &path, errors);
        }
    }
    if bounded(got, "config", CONFIGS_MAX, &below, errors) {
        for (path, config) in items(got, "config", &below) {
            one_of(config, "source", &["FromClaim", "FromClass"], &path, errors);
            of_requests(config, devices, &path, errors);
            opaque(config, &path, errors);
        }
    }
    if allocation.has("nodeSelector") {
        let path = path.child("nodeSelector");
        node_selector(allocation.at("nodeSelector"), &path, errors);
    }
}

/// A device, and for which request it is.
fn result(result: &Value, devices: &Value, path: &Path, errors: &mut ErrorList) {
    let request = result.text("request");
    request_ref(request, devices, &path.child("request"), errors);
    device_name(result, path, errors);
    binding_conditions(result, path, errors);
    for (path, toleration) in items(result, "tolerations", path) {
        self::toleration(toleration, &path, errors);
    }
}

/// Driver, pool, device, and which share of it.
fn device_name(of: &Value, path: &Path, errors: &mut ErrorList) {
    driver(of, path, errors);
    pool(of.text("pool"), &path.child("pool"), errors);
    let device = of.text("device");
    let below = path.child("device");
    complain(names::is_dns1123_label(device), &below, device, errors);
    if of.has("shareID") {
        share(of.text("shareID"), &path.child("shareID"), errors);
    }
}

/// Subdomains with slashes between them.
pub(super) fn pool(name: &str, path: &Path, errors: &mut ErrorList) {
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if name.len() > POOL_BYTES_MAX {
        errors.push(FieldError::too_long(path, POOL_BYTES_MAX));
    }
    for part in name.split('/') {
        complain(names::is_dns1123_subdomain(part), path, part, errors);
    }
}

fn share(uid: &str, path: &Path, errors: &mut ErrorList) {
    let is_normal = uid.len() == 36
        && uid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        });
    if !is_normal {
        let detail = "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters";
        errors.push(FieldError::invalid(path, uid, detail));
    }
}

/// Conditions for which a pod waits, and those that end its waiting: both or none, each once.
pub(super) fn binding_conditions(result: &Value, path: &Path, errors: &mut ErrorList) {
    const READY: &str = "bindingConditions";
    const FAILED: &str = "bindingFailureConditions";
    for field in [READY, FAILED] {
        if !bounded(result, field, BINDING_CONDITIONS_MAX, path, errors) {
            continue;
        }
        for (at, name) in result.texts(field).into_iter().enumerate() {
            meta::label_name(name, &path.child(field).index(at), errors);
        }
    }
    let (ready, failed) = (result.texts(READY), result.texts(FAILED));
    for (field, all) in [(READY, &ready), (FAILED, &failed)] {
        let mut seen = BTreeSet::new();
        for (at, name) in all.iter().enumerate() {
            let path = path.child(field).index(at);
            if !seen.insert(*name) {
                errors.push(FieldError::duplicate(&path, *name));
            }
            if field == FAILED && ready.contains(name) {
                let detail = "bindingFailureConditions must not overlap with bindingConditions";
                errors.push(FieldError::invalid(&path, *name, detail));
            }
        }
    }
    let lacks = match (ready.is_empty(), failed.is_empty()) {
        (true, false) => Some((READY, FAILED)),
        (false, true) => Some((FAILED, READY)),
        _ => None,
    };
    if let Some((lacking, used)) = lacks {
        let detail = format!("{lacking} are required to use {used}");
        errors.push(FieldError::invalid(
            &path.child(lacking),
            Value::Null,
            detail,
        ));
    }
}

fn toleration(toleration: &Value, path: &Path, errors: &mut ErrorList) {
    let (key, value) = (toleration.text("key"), toleration.text("value"));
    if !key.is_empty() {
        meta::label_name(key, &path.child("key"), errors);
    }
    let below = path.child("value");
    match toleration.text("operator") {
        "Exists" if !value.is_empty() => {
            let detail = "must be empty for operator `Exists`";
            errors.push(FieldError::invalid(&below, value, detail));
        }
        "Exists" => {}
        // Equal is what is meant where nothing is said.
        "Equal" | "" => complain(names::is_valid_label_value(value), &below, value, errors),
        _ => one_of(toleration, "operator", &["Equal", "Exists"], path, errors),
    }
    let effects = &["NoExecute", "NoSchedule", "None"];
    optional_one_of(toleration, "effect", effects, path, errors);
}

/// By which a device is known: driver, pool, name, share.
fn identity(device: &Value) -> [&str; 4] {
    ["driver", "pool", "device", "shareID"].map(|field| device.text(field))
}

/// What drivers tell of devices: of those that the claim has got, and of each once.
pub(super) fn devices(status: &Value, path: &Path, errors: &mut ErrorList) {
    let results = status.at("allocation").at("devices").list("results");
    let allocated: BTreeSet<_> = results.iter().map(identity).collect();
    let mut seen = BTreeSet::new();
    for (path, device) in items(status, "devices", path) {
        device_name(device, &path, errors);
        let identity = identity(device);
        let shown = || {
            let parts = identity.iter().filter(|part| !part.is_empty());
            parts.copied().collect::<Vec<_>>().join("/")
        };
        if !allocated.contains(&identity) {
            let detail = "must be an allocated device in the claim";
            errors.push(FieldError::invalid(&path, shown(), detail));
        }
        bounded(device, "conditions", CONDITIONS_MAX, &path, errors);
        conditions(device, &path, errors);
        if device.has("data") {
            raw_object(device.at("data"), &path.child("data"), errors);
        }
        network(device.at("networkData"), &path.child("networkData"), errors);
        if !seen.insert(identity) {
            errors.push(FieldError::duplicate(&path, shown()));
        }
    }
}

/// Of a device that is a network's.
fn network(data: &Value, path: &Path, errors: &mut ErrorList) {
    for (field, bytes_max) in [
        ("interfaceName", INTERFACE_BYTES_MAX),
        ("hardwareAddress", HARDWARE_BYTES_MAX),
    ] {
        if data.text(field).len() > bytes_max {
            errors.push(FieldError::too_long(&path.child(field), bytes_max));
        }
    }
    if !bounded(data, "ips", ADDRESSES_MAX, path, errors) {
        return;
    }
    let mut seen = BTreeSet::new();
    for (at, address) in data.texts("ips").into_iter().enumerate() {
        let path = path.child("ips").index(at);
        if names::parse_cidr(address).is_none() {
            let detail =
                "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.push(FieldError::invalid(&path, address, detail));
        }
        if !seen.insert(address) {
            errors.push(FieldError::duplicate(&path, address));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked() -> Value {
        json!({"requests": [{"name": "a", "exactly": {}}, {"name": "b", "firstAvailable": [{"name": "big"}]}]})
    }

    fn told(found: &ErrorList) -> Vec<String> {
        found.iter().map(ToString::to_string).collect()
    }

    fn wrong(changed: &[(&str, Value)]) -> Vec<String> {
        let mut result = json!({"request": "b/big", "driver": "gpu.example.com", "pool": "n1/x", "device": "d0"});
        for (field, value) in changed {
            result[*field] = value.clone();
        }
        let mut errors = ErrorList::new();
        let value = json!({"devices": {"results": [result]}});
        allocation(&value, &asked(), &Path::new("a"), &mut errors);
        told(&errors)
    }

    #[test]
    fn a_device_is_named_and_for_a_request_of_the_claim() {
        assert_eq!(wrong(&[]), [""; 0]);
        let without_operator = json!([{"key": "k", "value": "v"}]);
        assert_eq!(wrong(&[("tolerations", without_operator)]), [""; 0]);
        for (field, value, expected) in [
            (
                "request",
                json!("c"),
                "request: Invalid value: \"c\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            ),
            ("driver", json!(""), "driver: Required value"),
            ("pool", json!(""), "pool: Required value"),
            (
                "driver",
                json!("x".repeat(64)),
                "driver: Too long: may not be more than 63 bytes",
            ),
            (
                "shareID",
                json!("A"),
                "shareID: Invalid value: \"A\": uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters",
            ),
            (
                "bindingConditions",
                json!(["ok"]),
                "bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions",
            ),
            (
                "tolerations",
                json!([{"operator": "Exists", "value": "x"}]),
                "tolerations[0].value: Invalid value: \"x\": must be empty for operator `Exists`",
            ),
        ] {
            let expected = format!("a.devices.results[0].{expected}");
            assert_eq!(wrong(&[(field, value)]), [expected]);
        }
        let device = wrong(&[("device", json!("No_Label"))]);
        assert!(device[0].starts_with("a.devices.results[0].device: Invalid value: \"No_Label\""));
        let both = [
            ("bindingConditions", json!(["ok", "ok"])),
            ("bindingFailureConditions", json!(["ok"])),
        ];
        assert_eq!(wrong(&both).len(), 2, "twice, and in both lists");
    }

    #[test]
    fn parameters_say_where_they_are_from_and_are_objects() {
        let configs = |config: Value| {
            let mut errors = ErrorList::new();
            let value = json!({"devices": {"config": [config]}, "nodeSelector": {}});
            allocation(&value, &asked(), &Path::new("a"), &mut errors);
            told(&errors)
        };
        let selector = "a.nodeSelector.nodeSelectorTerms: Required value: must have at least one node selector term";
        let fine = json!({"source": "FromClass", "requests": ["a"],
            "opaque": {"driver": "d", "parameters": {"kind": "x"}}});
        assert_eq!(configs(fine), [selector]);
        let broken = json!({"source": "Nobody", "requests": ["a", "a"],
            "opaque": {"driver": "d", "parameters": 5}});
        assert_eq!(
            configs(broken),
            [
                "a.devices.config[0].source: Unsupported value: \"Nobody\": supported values: \"FromClaim\", \"FromClass\"",
                "a.devices.config[0].requests[1]: Duplicate value: \"a\"",
                "a.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
                selector,
            ]
        );
        let large = json!({"source": "FromClaim", "opaque": {"driver": "d", "parameters": {"x": "y".repeat(10_240)}}});
        assert_eq!(
            configs(large)[0],
            "a.devices.config[0].opaque.parameters: Too long: may not be more than 10240 bytes"
        );
    }

    #[test]
    fn drivers_tell_of_devices_that_the_claim_has() {
        let device = json!({"driver": "d", "pool": "p", "device": "one"});
        let other = json!({"driver": "d", "pool": "p", "device": "two",
            "networkData": {"ips": ["10.0.0.1/24", "10.0.0.1"], "interfaceName": "e".repeat(257)}});
        let status = json!({"allocation": {"devices": {"results": [device]}}, "devices": [device, other, device]});
        let mut errors = ErrorList::new();
        devices(&status, &Path::new("s"), &mut errors);
        assert_eq!(
            told(&errors),
            [
                "s.devices[1]: Invalid value: \"d/p/two\": must be an allocated device in the claim",
                "s.devices[1].networkData.interfaceName: Too long: may not be more than 256 bytes",
                "s.devices[1].networkData.ips[1]: Invalid value: \"10.0.0.1\": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
                "s.devices[2]: Duplicate value: \"d/p/one\"",
            ]
        );
    }
}
