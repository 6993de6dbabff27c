//! Kubernetes defaulting: what an object means when it leaves something out. Every function is idempotent and ignores
//! what has the wrong shape; validation speaks about that.

pub(crate) mod admission;
pub(crate) mod batch;
pub(crate) mod device_taints;
mod label_keys;
pub(crate) mod network;
pub(crate) mod pod;
pub(crate) mod policy_status;
pub(crate) mod prepare;
pub(crate) mod rbac;
pub(crate) mod scaler;
pub(crate) mod service;
pub(crate) mod signing;
pub(crate) mod storage;
pub(crate) mod workload;

use schema::Object;
use schema::quantity::Quantity;
use serde_json::{Map, Value, json};

use crate::look::{Look, each_map, fill, fill_zero, make_map, map_in, with_map, with_spec};

/// Every namespace carries its name as a label, so that selectors can name namespaces.
pub(crate) fn namespace(object: &mut Object) {
    let name = object.name().to_owned();
    if !name.is_empty() && object.label("kubernetes.io/metadata.name").is_none() {
        object.set_label("kubernetes.io/metadata.name", &name);
    }
}

/// Secrets are Opaque unless they say otherwise.
pub(crate) fn secret(object: &mut Object) {
    fill_zero(object.fields_mut(), "type", "Opaque");
}

/// A node's allocatable is its capacity until the node says less; podCIDR and podCIDRs tell the same story.
pub(crate) fn node(object: &mut Object) {
    with_map(object, &["spec"], |spec| {
        if !spec.text("podCIDR").is_empty() && spec.list("podCIDRs").is_empty() {
            let first = spec.at("podCIDR").clone();
            spec.insert("podCIDRs".to_owned(), Value::Array(vec![first]));
        }
    });
    with_map(object, &["status"], |status| {
        for field in ["capacity", "allocatable"] {
            if let Some(amounts) = map_in(status, field) {
                canonical_amounts(amounts);
            }
        }
        if status.has("capacity") {
            let capacity = status.at("capacity").clone();
            fill(status, "allocatable", capacity);
        }
    });
}

/// A container limit range derives default from max and defaultRequest from default or min.
pub(crate) fn limit_range(object: &mut Object) {
    with_map(object, &["spec"], |spec| {
        each_map(spec, "limits", |item| {
            for field in [
                "max",
                "min",
                "default",
                "defaultRequest",
                "maxLimitRequestRatio",
            ] {
                if let Some(amounts) = map_in(item, field) {
                    canonical_amounts(amounts);
                }
            }
            if item.text("type") != "Container" {
                return;
            }
            inherit(item, "default", "max");
            inherit(item, "defaultRequest", "default");
            inherit(item, "defaultRequest", "min");
        });
    });
}

fn inherit(item: &mut Map<String, Value>, target: &str, source: &str) {
    let Some(source) = item.get(source).and_then(Value::as_object).cloned() else {
        return;
    };
    if source.is_empty() {
        return;
    }
    if let Some(target) = make_map(item, target) {
        for (name, amount) in source {
            target.entry(name).or_insert(amount);
        }
    }
}

/// A priority class preempts unless it says Never.
pub(crate) fn priority_class(object: &mut Object) {
    fill(
        object.fields_mut(),
        "preemptionPolicy",
        "PreemptLowerPriority",
    );
}

/// The aggregator's port.
pub(crate) fn api_service(object: &mut Object) {
    with_map(object, &["spec", "service"], |service| {
        fill(service, "port", 443)
    });
}

/// Names that follow from the kind, and no conversion.
pub(crate) fn custom_resource_definition(object: &mut Object) {
    with_map(object, &["spec"], |spec| {
        if let Some(names) = make_map(spec, "names") {
            let kind = names.text("kind").to_owned();
            if !kind.is_empty() {
                fill_zero(names, "singular", kind.to_lowercase());
                fill_zero(names, "listKind", format!("{kind}List"));
            }
        }
        if let Some(conversion) = make_map(spec, "conversion") {
            fill_zero(conversion, "strategy", "None");
            if let Some(service) = map_in(conversion, "webhook")
                .and_then(|webhook| map_in(webhook, "clientConfig"))
                .and_then(|config| map_in(config, "service"))
            {
                fill(service, "port", 443);
            }
        }
    });
}

/// Flow schemas match late unless they say otherwise.
pub(crate) fn flow_schema(object: &mut Object) {
    with_spec(object, |spec| fill_zero(spec, "matchingPrecedence", 1000));
}

/// Shares and queue sizes of a priority level.
pub(crate) fn priority_level(object: &mut Object) {
    with_map(object, &["spec"], |spec| match spec.text("type") {
        "Exempt" => {
            if let Some(exempt) = make_map(spec, "exempt") {
                fill(exempt, "nominalConcurrencyShares", 0);
                fill(exempt, "lendablePercent", 0);
            }
        }
        "Limited" => {
            if let Some(limited) = map_in(spec, "limited") {
                fill(limited, "nominalConcurrencyShares", 30);
                fill(limited, "lendablePercent", 0);
                if let Some(queuing) = map_in(limited, "limitResponse")
                    .and_then(|response| map_in(response, "queuing"))
                {
                    fill_zero(queuing, "queues", 64);
                    fill_zero(queuing, "handSize", 8);
                    fill_zero(queuing, "queueLengthLimit", 50);
                }
            }
        }
        _ => {}
    });
}

/// One device per request unless it says otherwise.
pub(crate) fn resource_claim(object: &mut Object) {
    with_map(object, &["spec"], claim_spec);
}

/// A template defaults like the claim it makes.
pub(crate) fn resource_claim_template(object: &mut Object) {
    with_map(object, &["spec"], |spec| {
        make_map(spec, "metadata");
        if let Some(claim) = map_in(spec, "spec") {
            claim_spec(claim);
        }
    });
}

fn claim_spec(spec: &mut Map<String, Value>) {
    let Some(devices) = map_in(spec, "devices") else {
        return;
    };
    each_map(devices, "requests", |request| {
        if let Some(exactly) = map_in(request, "exactly") {
            device_request(exactly);
        }
        each_map(request, "firstAvailable", device_request);
    });
}

fn device_request(request: &mut Map<String, Value>) {
    fill_zero(request, "allocationMode", "ExactCount");
    if request.text("allocationMode") == "ExactCount" {
        fill_zero(request, "count", 1);
    }
    each_map(request, "tolerations", |toleration| {
        fill_zero(toleration, "operator", "Equal")
    });
}

/// Rewrites amounts as Kubernetes stores them: "0.5" is "500m", "1000m" is "1".
pub(crate) fn canonical_amounts(amounts: &mut Map<String, Value>) {
    for (_, amount) in amounts.iter_mut() {
        if let Ok(quantity) = Quantity::from_json(amount) {
            *amount = Value::String(quantity.to_string());
        }
    }
}

/// Canonical `requests` and `limits`.
pub(crate) fn canonical_resources(resources: &mut Map<String, Value>) {
    for field in ["requests", "limits"] {
        if let Some(amounts) = map_in(resources, field) {
            canonical_amounts(amounts);
        }
    }
}

pub(crate) fn empty() -> Value {
    json!({})
}
