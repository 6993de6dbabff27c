//! What creates and updates do to an object besides the generic rules of [`crate::Resource`]: the first status, fields
//! that another door owns, and the few fields that are written in one form and kept in another.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schema::Object;
use serde_json::{Map, Value, json};

use crate::definition;
use crate::look::{Look, each_map, make_map, with_map};
use crate::resource::copy_field;
use crate::{meta, pod};

/// The rule of nearly every kind: status is written by controllers, not by whoever creates the object.
pub(crate) fn drop_status(object: &mut Object) {
    object.remove(&["status"]);
}

/// Nodes register themselves with their status.
pub(crate) fn keep_status(_object: &mut Object) {}

/// Claims and volumes start as Pending.
pub(crate) fn pending(object: &mut Object) {
    object.set(&["status"], json!({"phase": "Pending"}));
}

/// Namespaces start Active and hold the finalizer of the namespace controller.
pub(crate) fn namespace_create(object: &mut Object) {
    object.set(&["status"], json!({"phase": "Active"}));
    let mut finalizers: Vec<Value> = object
        .at("spec")
        .list("finalizers")
        .iter()
        .filter(|f| f.as_str() != Some("kubernetes"))
        .cloned()
        .collect();
    finalizers.push("kubernetes".into());
    object.set(&["spec", "finalizers"], Value::Array(finalizers));
}

/// spec.finalizers of a namespace change only through `finalize`.
pub(crate) fn namespace_update(new: &mut Object, old: &Object) {
    copy_field(new, old, "spec");
}

/// A pod starts Pending, with its quality of service and, when gated, a word about that.
pub(crate) fn pod_create(object: &mut Object) {
    super::label_keys::merge(object);
    let class = pod::qos_class(object.at("spec"));
    let mut status = Map::new();
    status.insert("phase".to_owned(), "Pending".into());
    status.insert("qosClass".to_owned(), class.into());
    if !object.at("spec").list("schedulingGates").is_empty() {
        status.insert(
            "conditions".to_owned(),
            json!([{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": null}]),
        );
    }
    object.set(&["status"], Value::Object(status));
}

/// The generic rule keeps status; the gates' condition goes with the last gate.
pub(crate) fn pod_update(new: &mut Object, old: &Object) {
    let gated = |object: &Object| !object.at("spec").list("schedulingGates").is_empty();
    if gated(old)
        && !gated(new)
        && let Some(conditions) = new
            .get_mut(&["status", "conditions"])
            .and_then(Value::as_array_mut)
    {
        conditions.retain(|c| {
            !(c.text("type") == "PodScheduled" && c.text("reason") == "SchedulingGated")
        });
    }
}

/// `status` leaves owners and quality of service alone; `ephemeralcontainers` and `resize` write only what they are for.
pub(crate) fn pod_subresource(subresource: &str, new: &mut Object, old: &Object) {
    match subresource {
        "status" => {
            match old.at("metadata").at("ownerReferences") {
                Value::Null => {
                    new.metadata_mut().remove("ownerReferences");
                }
                owners if new.at("metadata").at("ownerReferences") == owners => {}
                owners => {
                    let owners = owners.clone();
                    new.metadata_mut()
                        .insert("ownerReferences".to_owned(), owners);
                }
            }
            let class = old.at("status").at("qosClass");
            with_map(new, &["status"], |status| {
                if class.is_null() {
                    status.remove("qosClass");
                } else if status.at("qosClass") != class {
                    status.insert("qosClass".to_owned(), class.clone());
                }
                let ip = status.text("podIP");
                if !ip.is_empty() && status.list("podIPs").is_empty() {
                    let ips = json!([{"ip": ip}]);
                    status.insert("podIPs".to_owned(), ips);
                }
            });
        }
        "ephemeralcontainers" => {
            meta::keep_client_metadata(new, old);
            let containers = new.at("spec").at("ephemeralContainers").clone();
            copy_field(new, old, "spec");
            if containers.is_null() {
                new.remove(&["spec", "ephemeralContainers"]);
            } else {
                new.set(&["spec", "ephemeralContainers"], containers);
            }
        }
        "resize" => {
            meta::keep_client_metadata(new, old);
            resized(new, old);
        }
        _ => {}
    }
}

/// Of each container that there is, its amounts and how it takes others. Containers that there are not stay in the list,
/// for validation to refuse.
fn resized(new: &mut Object, old: &Object) {
    let asked = new.at("spec").clone();
    copy_field(new, old, "spec");
    with_map(new, &["spec"], |spec| {
        for list in ["containers", "initContainers"] {
            if !asked.has(list) && !spec.has(list) {
                continue;
            }
            let known = old.at("spec").list(list);
            let containers = asked.list(list).iter().map(|wanted| {
                let name = wanted.text("name");
                let known = known.iter().find(|known| known.text("name") == name);
                let Some(Value::Object(mut container)) = known.cloned() else {
                    return wanted.clone();
                };
                take(&mut container, wanted, "resources");
                take(&mut container, wanted, "resizePolicy");
                Value::Object(container)
            });
            spec.insert(list.to_owned(), containers.collect());
        }
        take(spec, &asked, "resources");
    });
}

/// Makes a field what it is there, absence included.
fn take(fields: &mut Map<String, Value>, from: &Value, field: &str) {
    match from.at(field) {
        Value::Null => fields.remove(field),
        value => fields.insert(field.to_owned(), value.clone()),
    };
}

/// stringData is the writable form of data: merged, encoded, never stored.
pub(crate) fn secret_create(object: &mut Object) {
    let Some(Value::Object(texts)) = object.fields_mut().remove("stringData") else {
        return;
    };
    if texts.is_empty() {
        return;
    }
    if let Some(data) = make_map(object.fields_mut(), "data") {
        for (key, text) in texts {
            if let Value::String(text) = text {
                data.insert(key, STANDARD.encode(text).into());
            }
        }
    }
}

/// As on create; a type left out stays what it was.
pub(crate) fn secret_update(new: &mut Object, old: &Object) {
    secret_create(new);
    if new.at("type").as_str().unwrap_or("").is_empty() {
        copy_field(new, old, "type");
    }
}

/// A load balancer with no addresses yet.
pub(crate) fn service_create(object: &mut Object) {
    object.set(&["status"], json!({"loadBalancer": {}}));
}

/// An ingress with no addresses yet.
pub(crate) fn ingress_create(object: &mut Object) {
    object.set(&["status"], json!({"loadBalancer": {}}));
}

/// Allocated values that an update left out are those of the stored service.
pub(crate) fn service_update(new: &mut Object, old: &Object) {
    let before = old.at("spec");
    with_map(new, &["spec"], |spec| {
        keep_addresses(spec, before);
        keep_node_ports(spec, before);
        let number = "healthCheckNodePort";
        if needs_health_port(before) && needs_health_port(spec) && is_unset(spec.at(number)) {
            spec.insert(number.to_owned(), before.at(number).clone());
        }
        drop_by_type(spec, before);
    });
}

fn needs_address(spec: &(impl Look + ?Sized)) -> bool {
    spec.text("type") != "ExternalName"
}

fn needs_node_ports(spec: &(impl Look + ?Sized)) -> bool {
    match spec.text("type") {
        "NodePort" => true,
        "LoadBalancer" => spec.at("allocateLoadBalancerNodePorts") != &Value::Bool(false),
        _ => false,
    }
}

fn needs_health_port(spec: &(impl Look + ?Sized)) -> bool {
    spec.text("type") == "LoadBalancer" && spec.text("externalTrafficPolicy") == "Local"
}

fn is_exposed(spec: &(impl Look + ?Sized)) -> bool {
    match spec.text("type") {
        "NodePort" | "LoadBalancer" => true,
        "ClusterIP" => !spec.list("externalIPs").is_empty(),
        _ => false,
    }
}

fn keep_addresses(spec: &mut Map<String, Value>, before: &Value) {
    if !needs_address(spec) || !needs_address(before) {
        return;
    }
    if is_unset(spec.at("clusterIP")) && is_unset(spec.at("clusterIPs")) {
        for field in ["clusterIP", "clusterIPs"] {
            if before.has(field) {
                spec.insert(field.to_owned(), before.at(field).clone());
            }
        }
    }
}

/// A port of this name had a node port, which no other port of the update takes.
fn keep_node_ports(spec: &mut Map<String, Value>, before: &Value) {
    if !needs_node_ports(spec) || !needs_node_ports(before) {
        return;
    }
    let asked: BTreeSet<i64> = (spec.list("ports").iter())
        .filter_map(|port| port.int("nodePort"))
        .collect();
    each_map(spec, "ports", |port| {
        let ports = before.list("ports").iter();
        let kept = ports
            .filter(|other| other.text("name") == port.text("name"))
            .filter_map(|other| other.int("nodePort"))
            .find(|number| *number != 0 && !asked.contains(number));
        if let Some(number) = kept.filter(|_| is_unset(port.at("nodePort"))) {
            port.insert("nodePort".to_owned(), number.into());
        }
    });
}

fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => value.as_i64() == Some(0),
    }
}

/// What only the service of before needed goes, when the client left it as it was.
fn drop_by_type(spec: &mut Map<String, Value>, before: &Value) {
    if needs_address(before) && !needs_address(spec) {
        drop_unchanged(spec, before, &["clusterIP", "clusterIPs"]);
        drop_unchanged(spec, before, &["ipFamilies", "ipFamilyPolicy"]);
    }
    // Ports that a balancer was given stay when it is told to do without: the client takes them away.
    let may_have_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if may_have_ports(before.text("type")) && !may_have_ports(spec.text("type")) {
        drop_node_ports(spec, before);
    }
    if needs_health_port(before) && !needs_health_port(spec) {
        drop_unchanged(spec, before, &["healthCheckNodePort"]);
    }
    if before.text("type") == "LoadBalancer" && spec.text("type") != "LoadBalancer" {
        let fields = ["allocateLoadBalancerNodePorts", "loadBalancerClass"];
        drop_unchanged(spec, before, &fields);
    }
    if is_exposed(before) && !is_exposed(spec) {
        drop_unchanged(spec, before, &["externalTrafficPolicy"]);
    }
}

fn drop_unchanged(spec: &mut Map<String, Value>, before: &Value, fields: &[&str]) {
    for field in fields {
        if spec.at(field) == before.at(field) {
            spec.remove(*field);
        }
    }
}

fn drop_node_ports(spec: &mut Map<String, Value>, before: &Value) {
    let numbers = |ports: &[Value]| -> Vec<Value> {
        ports
            .iter()
            .map(|port| port.at("nodePort").clone())
            .collect()
    };
    if numbers(spec.list("ports")) == numbers(before.list("ports")) {
        each_map(spec, "ports", |port| {
            port.remove("nodePort");
        });
    }
}

/// Counters that clients expect to read from the first moment on.
pub(crate) fn daemon_set_create(object: &mut Object) {
    object.set(
        &["status"],
        json!({"currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0}),
    );
    if template_generation(object).is_none_or(|generation| generation < 1) {
        object.set_annotation(TEMPLATE_GENERATION, "1");
    }
}

/// Counts the templates that a DaemonSet has had: the older way, from before revisions, of telling which pods are new.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

fn template_generation(object: &Object) -> Option<i64> {
    object.annotation(TEMPLATE_GENERATION)?.parse().ok()
}

/// The number of the template is the server's: whatever a client writes, it goes on with the template and only so.
pub(crate) fn daemon_set_update(new: &mut Object, old: &Object) {
    let before = template_generation(old).unwrap_or(0);
    let template = |object: &Object| object.at("spec").at("template").clone();
    let generation = if template(new) == template(old) {
        before
    } else {
        before.saturating_add(1)
    };
    if generation > 0 {
        new.set_annotation(TEMPLATE_GENERATION, &generation.to_string());
    } else {
        new.remove_annotation(TEMPLATE_GENERATION);
    }
}

/// A replica count from the first moment on.
pub(crate) fn replicas_create(object: &mut Object) {
    object.set(&["status"], json!({"replicas": 0}));
}

/// Replica counts from the first moment on.
pub(crate) fn stateful_set_create(object: &mut Object) {
    object.set(&["status"], json!({"replicas": 0, "availableReplicas": 0}));
}

/// Counters of a budget that has not been looked at.
pub(crate) fn disruption_budget_create(object: &mut Object) {
    object.set(&["status"], json!({"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}));
}

/// Labels that tie pods to their job, and the selector that finds them. Needs uid and name.
pub(crate) fn job_create(object: &mut Object) {
    drop_status(object);
    let (uid, name) = (object.uid().to_owned(), object.name().to_owned());
    if object.at("spec").flag("manualSelector")
        || uid.is_empty()
        || !object.at("spec").at("template").is_object()
    {
        return;
    }
    let labels = [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ];
    with_map(object, &["spec"], |spec| {
        let own = crate::look::map_in(spec, "template")
            .and_then(|template| make_map(template, "metadata"))
            .and_then(|metadata| make_map(metadata, "labels"));
        if let Some(own) = own {
            for (key, value) in labels {
                own.entry(key.to_owned())
                    .or_insert_with(|| value.as_str().into());
            }
        }
        if let Some(selector) =
            make_map(spec, "selector").and_then(|selector| make_map(selector, "matchLabels"))
        {
            selector
                .entry("batch.kubernetes.io/controller-uid".to_owned())
                .or_insert_with(|| uid.as_str().into());
        }
    });
}

/// The labels that have the name. What a client wrote there itself is not the name that was drawn.
pub(crate) fn job_rename(object: &mut Object, before: &str) {
    let name = object.name().to_owned();
    with_map(
        object,
        &["spec", "template", "metadata", "labels"],
        |labels| {
            for key in ["batch.kubernetes.io/job-name", "job-name"] {
                if labels.text(key) == before {
                    labels.insert(key.to_owned(), name.as_str().into());
                }
            }
        },
    );
}

/// Deployments take status, but no labels, through `status`.
pub(crate) fn deployment_subresource(subresource: &str, new: &mut Object, old: &Object) {
    if subresource == "status" {
        let labels = old.at("metadata").at("labels").clone();
        if labels.is_null() {
            new.metadata_mut().remove("labels");
        } else {
            new.metadata_mut().insert("labels".to_owned(), labels);
        }
    }
}

/// Kinds whose status door leads to status only.
pub(crate) fn status_only(subresource: &str, new: &mut Object, old: &Object) {
    if subresource == "status" {
        meta::keep_client_metadata(new, old);
    }
}

/// The same for claims on devices. What drivers tell of devices goes with them.
pub(crate) fn claim_status(subresource: &str, new: &mut Object, old: &Object) {
    status_only(subresource, new, old);
    let named = |device: &Value| {
        ["driver", "pool", "device", "shareID"].map(|field| device.text(field).to_owned())
    };
    let results = |claim: &Object| -> BTreeSet<[String; 4]> {
        let allocation = claim.at("status").at("allocation");
        let results = allocation.at("devices").list("results");
        results.iter().map(named).collect()
    };
    let (now, before) = (results(new), results(old));
    let Some(status) = new.get_mut(&["status"]).and_then(Value::as_object_mut) else {
        return;
    };
    let Some(devices) = status.get_mut("devices").and_then(Value::as_array_mut) else {
        return;
    };
    devices.retain(|device| {
        let device = named(device);
        !before.contains(&device) || now.contains(&device)
    });
    if devices.is_empty() {
        status.remove("devices");
    }
}

/// What this server serves itself is there at once; nobody has been asked about the others yet.
pub(crate) fn api_service_create(object: &mut Object) {
    object.remove(&["status"]);
    if object.at("spec").at("service").is_object() {
        return;
    }
    let now = object.at("metadata").at("creationTimestamp").clone();
    let condition = json!({"type": "Available", "status": "True", "lastTransitionTime": now,
        "reason": "Local", "message": "Local APIServices are always available"});
    object.set(&["status"], json!({ "conditions": [condition] }));
}

/// A volume is not attached before a driver says so.
pub(crate) fn volume_attachment_create(object: &mut Object) {
    object.set(&["status"], json!({"attached": false}));
}

/// The versions in which objects of this definition are stored.
pub(crate) fn definition_create(object: &mut Object) {
    let stored: Vec<Value> = object
        .at("spec")
        .list("versions")
        .iter()
        .filter(|version| version.flag("storage"))
        .map(|version| version.at("name").clone())
        .collect();
    object.set(
        &["status"],
        json!({"conditions": null, "storedVersions": stored,
        "acceptedNames": {"plural": "", "kind": ""}}),
    );
}

/// Objects may be stored in a version for as long as somebody says so.
pub(crate) fn definition_update(new: &mut Object, _: &Object) {
    definition::add_stored_version(new);
}
