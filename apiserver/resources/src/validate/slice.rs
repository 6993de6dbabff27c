//! ResourceSlice: devices of a driver, or counters that devices of other slices share.

use std::collections::BTreeSet;

use schema::Object;
use schema::field::{ErrorList, FieldError, Path};
use schema::names;
use serde_json::Value;

use super::devices::{bounded, driver};
use super::{complain, immutable, items, require, slice_device};
use crate::look::{Look, spec};

/// Kubernetes' limits of a slice. Devices that say more of themselves are fewer, so that a slice fits into the store.
const DEVICES_MAX: usize = 128;
const ELABORATE_DEVICES_MAX: usize = 64;
const COUNTER_SETS_MAX: usize = 8;
const COUNTERS_MAX: usize = 32;

/// ResourceSlice.
pub(crate) fn slice(object: &Object, errors: &mut ErrorList) {
    let (spec, path) = (spec(object), Path::new("spec"));
    driver(spec, &path, errors);
    pool(spec.at("pool"), &path.child("pool"), errors);
    places(spec, &path, errors);
    if spec.has("sharedCounters") && spec.has("devices") {
        let detail = "only one of `sharedCounters` or `devices` is allowed";
        errors.push(FieldError::invalid(&path, "", detail));
    }
    let is_elaborate = |device: &Value| {
        ["taints", "consumesCounters"]
            .iter()
            .any(|field| !device.list(field).is_empty())
    };
    let most = match spec.list("devices").iter().any(is_elaborate) {
        true => ELABORATE_DEVICES_MAX,
        false => DEVICES_MAX,
    };
    if bounded(spec, "devices", most, &path, errors) {
        for (path, device) in items(spec, "devices", &path) {
            slice_device::device(device, &path, errors);
        }
        once(spec, "devices", "name", &path, errors);
    }
    if bounded(spec, "sharedCounters", COUNTER_SETS_MAX, &path, errors) {
        for (path, set) in items(spec, "sharedCounters", &path) {
            counters(set, "name", &path, errors);
        }
        once(spec, "sharedCounters", "name", &path, errors);
    }
}

fn pool(pool: &Value, path: &Path, errors: &mut ErrorList) {
    super::allocation::pool(pool.text("name"), &path.child("name"), errors);
    let count = pool.int("resourceSliceCount").unwrap_or(0);
    if count <= 0 {
        let path = path.child("resourceSliceCount");
        errors.push(FieldError::invalid(&path, count, super::GREATER_THAN_ZERO));
    }
    if let Some(generation) = pool.int("generation").filter(|number| *number < 0) {
        let detail = "must be greater than or equal to zero";
        let path = path.child("generation");
        errors.push(FieldError::invalid(&path, generation, detail));
    }
}

/// Which nodes have the devices.
fn places(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let said = [
        ("`nodeName`", spec.has("nodeName")),
        ("`nodeSelector`", spec.has("nodeSelector")),
        ("`allNodes`", spec.flag("allNodes")),
        (
            "`perDeviceNodeSelection`",
            spec.flag("perDeviceNodeSelection"),
        ),
    ];
    let said: Vec<&str> = (said.iter())
        .filter(|(_, is_said)| *is_said)
        .map(|(name, _)| *name)
        .collect();
    let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match said.len() {
        0 => errors.push(FieldError::required(path, detail)),
        1 => {}
        _ => {
            let detail = format!("{detail}, but multiple fields are set");
            let value = format!("{{{}}}", said.join(", "));
            errors.push(FieldError::invalid(path, value, detail));
        }
    }
}

/// Items of a list that are told apart by a field.
pub(super) fn once(parent: &Value, list: &str, key: &str, path: &Path, errors: &mut ErrorList) {
    let mut seen = BTreeSet::new();
    for (path, item) in items(parent, list, path) {
        if !seen.insert(item.text(key)) {
            errors.push(FieldError::duplicate(&path, item.text(key)));
        }
    }
}

/// Counters of a set, which a field names.
pub(super) fn counters(set: &Value, name: &str, path: &Path, errors: &mut ErrorList) {
    if require(set, name, path, errors) {
        let label = set.text(name);
        let details = names::is_dns1123_label(label);
        complain(details, &path.child(name), label, errors);
    }
    let path = path.child("counters");
    let count = set.entries("counters").count();
    match count {
        0 => errors.push(FieldError::required(&path, "")),
        1..=COUNTERS_MAX => {
            for (name, _) in set.entries("counters") {
                let details = names::is_dns1123_label(name);
                complain(details, &path.key(&shown(name, 63)), name, errors);
            }
        }
        _ => errors.push(FieldError::too_many(&path, count, COUNTERS_MAX)),
    }
}

/// A key as a path shows it: without its middle where it is longer than it may be.
pub(super) fn shown(key: &str, bytes_max: usize) -> String {
    if key.len() <= bytes_max {
        return key.to_owned();
    }
    let kept = bytes_max.saturating_sub("...".len());
    let head: String = key.chars().take(kept.div_ceil(2)).collect();
    let count = key.chars().count();
    let tail = key.chars().skip(count.saturating_sub(kept / 2));
    format!("{head}...{}", tail.collect::<String>())
}

/// Driver, node and pool of a slice stay.
pub(crate) fn slice_update(new: &Object, old: &Object, errors: &mut ErrorList) {
    let path = Path::new("spec");
    for field in ["driver", "nodeName"] {
        immutable(
            spec(new).at(field),
            spec(old).at(field),
            &path.child(field),
            errors,
        );
    }
    let name = path.child("pool").child("name");
    immutable(
        spec(new).at("pool").at("name"),
        spec(old).at("pool").at("name"),
        &name,
        errors,
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(more: Value) -> Vec<String> {
        let mut spec = json!({"driver": "d.example.com", "allNodes": true, "pool": {"name": "p", "resourceSliceCount": 1}});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let mut errors = ErrorList::new();
        slice(&Object::new(json!({ "spec": spec })).unwrap(), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_slice_has_a_bounded_number_of_devices_or_of_counters() {
        let devices = |count: usize, more: Value| {
            let device = |at: usize| {
                let mut device = more.clone();
                device["name"] = format!("d{at}").into();
                device
            };
            json!({"devices": (0..count).map(device).collect::<Vec<_>>()})
        };
        let taint = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
        assert_eq!(told(devices(128, json!({}))), [""; 0]);
        assert_eq!(
            told(devices(129, json!({}))),
            ["spec.devices: Too many: 129: must have at most 128 items"]
        );
        assert_eq!(told(devices(64, taint.clone())), [""; 0]);
        assert_eq!(
            told(devices(65, taint)),
            ["spec.devices: Too many: 65: must have at most 64 items"]
        );
        assert_eq!(
            told(json!({"devices": [{"name": "a"}, {"name": "a"}]})),
            ["spec.devices[1]: Duplicate value: \"a\""]
        );

        let sets = |count: usize, counters: usize| {
            let amounts = (0..counters).map(|at| (format!("c{at}"), json!({"value": "1"})));
            let amounts = Value::Object(amounts.collect());
            let set = |at: usize| json!({"name": format!("s{at}"), "counters": amounts});
            json!({"sharedCounters": (0..count).map(set).collect::<Vec<_>>()})
        };
        assert_eq!(told(sets(8, 32)), [""; 0]);
        assert_eq!(
            told(sets(9, 1)),
            ["spec.sharedCounters: Too many: 9: must have at most 8 items"]
        );
        assert_eq!(
            told(sets(1, 33)),
            ["spec.sharedCounters[0].counters: Too many: 33: must have at most 32 items"]
        );
        let mut both = sets(1, 1);
        both["devices"] = json!([{"name": "a"}]);
        assert_eq!(
            told(both),
            ["spec: Invalid value: \"\": only one of `sharedCounters` or `devices` is allowed"]
        );
    }

    #[test]
    fn a_slice_says_of_which_pool_it_is_and_where() {
        assert_eq!(
            told(json!({"pool": {"name": "A", "generation": -1}})).len(),
            3
        );
        assert_eq!(
            told(json!({"allNodes": null})),
            [
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
            ]
        );
        assert_eq!(
            told(json!({"nodeName": "n"})),
            [
                "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set"
            ]
        );
    }

    #[test]
    fn a_key_that_is_too_long_is_shown_without_its_middle() {
        assert_eq!(shown("abcdef", 6), "abcdef");
        assert_eq!(shown("abcdefghijk", 9), "abc...ijk");
        assert_eq!(shown(&"\u{e4}".repeat(9), 9).chars().count(), 9);
    }
}
