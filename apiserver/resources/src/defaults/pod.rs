//! Defaults of pods and of pod templates.

use schema::Object;
use serde_json::{Map, Value};

use super::{canonical_resources, empty, storage};
use crate::look::{Look, each_map, fill, fill_zero, make_map, map_in, with_map, with_spec};
use crate::quota;

type Fields = Map<String, Value>;

/// The three lists of containers in a pod spec.
pub(crate) const CONTAINER_LISTS: [&str; 3] =
    ["containers", "initContainers", "ephemeralContainers"];

/// A pod gets more defaults than a template: requests from limits, host ports, service links.
pub(crate) fn pod(object: &mut Object) {
    with_spec(object, |spec| {
        template_spec(spec);
        fill(spec, "enableServiceLinks", true);
        let host_network = spec.flag("hostNetwork");
        for list in ["containers", "initContainers"] {
            each_map(spec, list, |container| {
                if let Some(resources) = map_in(container, "resources") {
                    requests_from_limits(resources);
                }
                if host_network {
                    each_map(container, "ports", |port| {
                        let number = port.at("containerPort").clone();
                        fill_zero(port, "hostPort", number);
                    });
                }
            });
        }
        if spec.at("resources").is_object() {
            whole_pod(spec);
        }
    });
    with_map(object, &["status"], |status| {
        let ip = status.at("podIP").clone();
        if ip.as_str().is_some_and(|ip| !ip.is_empty()) && status.list("podIPs").is_empty() {
            status.insert("podIPs".to_owned(), serde_json::json!([{"ip": ip}]));
        }
    });
}

/// Requests of a pod as a whole: those of its containers, else its limits. Huge pages are limited as in its containers.
fn whole_pod(spec: &mut Fields) {
    let of_containers = |spec: &Fields, field: &str| {
        let lists = ["containers", "initContainers"];
        let lists = lists.map(|list| (list.to_owned(), spec.at(list).clone()));
        quota::of_containers(&Value::Object(lists.into_iter().collect()), field)
    };
    let (requests, limits) = (
        of_containers(spec, "requests"),
        of_containers(spec, "limits"),
    );
    let Some(resources) = map_in(spec, "resources") else {
        return;
    };
    canonical_resources(resources);
    let huge = |name: &str| name.starts_with("hugepages-");
    let limits = limits.into_iter().filter(|(name, _)| huge(name));
    fill_amounts(resources, "limits", limits);
    let requests = requests
        .into_iter()
        .filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"));
    fill_amounts(resources, "requests", requests);
    requests_from_limits(resources);
}

/// Sets the amounts that are not set.
fn fill_amounts(
    resources: &mut Fields,
    field: &str,
    amounts: impl Iterator<Item = (String, schema::quantity::Quantity)>,
) {
    for (name, amount) in amounts {
        if let Some(set) = make_map(resources, field) {
            fill(set, &name, amount.to_string());
        }
    }
}

/// Defaults that pods and templates share.
pub(crate) fn template_spec(spec: &mut Fields) {
    fill_zero(spec, "restartPolicy", "Always");
    fill_zero(spec, "dnsPolicy", "ClusterFirst");
    fill_zero(spec, "schedulerName", "default-scheduler");
    fill(spec, "terminationGracePeriodSeconds", 30);
    fill(spec, "securityContext", empty());
    service_account(spec);
    for list in CONTAINER_LISTS {
        each_map(spec, list, container);
    }
    each_map(spec, "volumes", volume);
    if let Some(overhead) = map_in(spec, "overhead") {
        super::canonical_amounts(overhead);
    }
}

/// serviceAccount is the old name of serviceAccountName; both are kept in step.
fn service_account(spec: &mut Fields) {
    let name = match (spec.text("serviceAccountName"), spec.text("serviceAccount")) {
        ("", "") => return,
        ("", old) => old.to_owned(),
        (new, _) => new.to_owned(),
    };
    spec.insert("serviceAccountName".to_owned(), name.clone().into());
    spec.insert("serviceAccount".to_owned(), name.into());
}

fn container(container: &mut Fields) {
    fill_zero(container, "terminationMessagePath", "/dev/termination-log");
    fill_zero(container, "terminationMessagePolicy", "File");
    let policy = pull_policy(container.text("image"));
    fill_zero(container, "imagePullPolicy", policy);
    fill(container, "resources", empty());
    if let Some(resources) = map_in(container, "resources") {
        canonical_resources(resources);
    }
    each_map(container, "ports", |port| {
        fill_zero(port, "protocol", "TCP")
    });
    each_map(container, "env", |env| {
        if let Some(reference) = map_in(env, "valueFrom").and_then(|from| map_in(from, "fieldRef"))
        {
            fill_zero(reference, "apiVersion", "v1");
        }
    });
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = map_in(container, name) {
            self::probe(probe);
        }
    }
    if let Some(lifecycle) = map_in(container, "lifecycle") {
        for hook in ["postStart", "preStop"] {
            if let Some(hook) = map_in(lifecycle, hook) {
                http_get(hook);
            }
        }
    }
}

fn probe(probe: &mut Fields) {
    fill_zero(probe, "timeoutSeconds", 1);
    fill_zero(probe, "periodSeconds", 10);
    fill_zero(probe, "successThreshold", 1);
    fill_zero(probe, "failureThreshold", 3);
    http_get(probe);
    if let Some(grpc) = map_in(probe, "grpc") {
        fill(grpc, "service", "");
    }
}

fn http_get(handler: &mut Fields) {
    if let Some(get) = map_in(handler, "httpGet") {
        fill_zero(get, "path", "/");
        fill_zero(get, "scheme", "HTTP");
    }
}

/// Always for images that are tagged (or by omission mean) `latest`, else IfNotPresent.
pub(crate) fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image.split_once('@').unwrap_or((image, ""));
    let last = name.rsplit('/').next().unwrap_or(name);
    let tag = last.split_once(':').map_or("", |(_, tag)| tag);
    if tag == "latest" || (tag.is_empty() && digest.is_empty()) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

fn requests_from_limits(resources: &mut Fields) {
    // Out while the requests are looked at, instead of copied.
    let Some(limits) = map_in(resources, "limits").map(std::mem::take) else {
        return;
    };
    if !limits.is_empty()
        && let Some(requests) = make_map(resources, "requests")
    {
        for (name, amount) in &limits {
            if !requests.contains_key(name) {
                requests.insert(name.clone(), amount.clone());
            }
        }
    }
    resources.insert("limits".to_owned(), Value::Object(limits));
}

/// Defaults of a volume; a volume without a source is an emptyDir.
pub(crate) fn volume(volume: &mut Fields) {
    if volume
        .iter()
        .all(|(key, value)| key == "name" || value.is_null())
    {
        volume.insert("emptyDir".to_owned(), empty());
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(source) = map_in(volume, source) {
            fill(source, "defaultMode", 420);
        }
    }
    if let Some(source) = map_in(volume, "downwardAPI") {
        downward_items(source);
    }
    if let Some(source) = map_in(volume, "projected") {
        each_map(source, "sources", |source| {
            if let Some(source) = map_in(source, "downwardAPI") {
                downward_items(source);
            }
            if let Some(token) = map_in(source, "serviceAccountToken") {
                fill(token, "expirationSeconds", 3600);
            }
        });
    }
    if let Some(limit) = map_in(volume, "emptyDir")
        && let Ok(amount) = schema::quantity::Quantity::from_json(limit.at("sizeLimit"))
    {
        limit.insert("sizeLimit".to_owned(), amount.to_string().into());
    }
    if let Some(image) = map_in(volume, "image") {
        let policy = pull_policy(image.text("reference"));
        fill_zero(image, "pullPolicy", policy);
    }
    if let Some(template) =
        map_in(volume, "ephemeral").and_then(|source| map_in(source, "volumeClaimTemplate"))
    {
        make_map(template, "metadata");
        if let Some(spec) = map_in(template, "spec") {
            storage::claim_spec(spec);
        }
    }
    source_defaults(volume);
}

/// Defaults of the sources that a pod volume and a persistent volume share.
pub(crate) fn source_defaults(source: &mut Fields) {
    if let Some(path) = map_in(source, "hostPath") {
        fill(path, "type", "");
    }
    if let Some(iscsi) = map_in(source, "iscsi") {
        fill_zero(iscsi, "iscsiInterface", "default");
    }
    if let Some(rbd) = map_in(source, "rbd") {
        fill_zero(rbd, "pool", "rbd");
        fill_zero(rbd, "user", "admin");
        fill_zero(rbd, "keyring", "/etc/ceph/keyring");
    }
    if let Some(disk) = map_in(source, "azureDisk") {
        fill(disk, "cachingMode", "ReadWrite");
        fill(disk, "kind", "Shared");
        fill(disk, "fsType", "ext4");
        fill(disk, "readOnly", false);
    }
    if let Some(scale_io) = map_in(source, "scaleIO") {
        fill_zero(scale_io, "storageMode", "ThinProvisioned");
        fill_zero(scale_io, "fsType", "xfs");
    }
}

fn downward_items(source: &mut Fields) {
    each_map(source, "items", |item| {
        if let Some(reference) = map_in(item, "fieldRef") {
            fill_zero(reference, "apiVersion", "v1");
        }
    });
}

/// As [`template`], for kinds that cannot be without one: what a user left out is then complained about once.
pub(crate) fn required_template(parent: &mut Fields, key: &str) {
    if let Some(template) = make_map(parent, key) {
        make_map(template, "spec");
    }
    template(parent, key);
}

/// Defaults of the pod template at a key: `template`. Its metadata is there even when it says nothing, as that of every
/// template inside an object: protobuf always carries it, and an object read and sent back that way has to be the same.
pub(crate) fn template(parent: &mut Fields, key: &str) {
    if let Some(template) = map_in(parent, key) {
        make_map(template, "metadata");
        if let Some(spec) = map_in(template, "spec") {
            template_spec(spec);
        }
    }
}
