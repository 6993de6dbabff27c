//! Warnings: things that are allowed and probably not meant.

mod pod;

use std::fmt::Display;
use std::net::IpAddr;

use schema::quantity::Quantity;
use schema::{Object, names};
use serde_json::Value;

use crate::look::{Look, spec};
pub(crate) use pod::{pod, pod_template, workload};

/// What is said of an object when it is made, and never again: its name, and an annotation that a field replaces.
pub(crate) fn of_creation(object: &Object) -> Vec<String> {
    let kind = (object.group(), object.kind());
    let used = match kind {
        ("", "Pod") => "this is used in the Pod's hostname",
        ("apps", "Deployment" | "ReplicaSet")
        | ("batch", "CronJob" | "Job")
        | ("", "ReplicationController") => "this is used in Pod names and hostnames",
        ("networking.k8s.io", "Ingress") => return old_ingress_class(object),
        _ => return Vec::new(),
    };
    let problems = names::is_dns1123_label(object.name());
    match problems.is_empty() {
        true => Vec::new(),
        false => vec![format!(
            "metadata.name: {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            problems.join(" ")
        )],
    }
}

const INGRESS_CLASS: &str = "kubernetes.io/ingress.class";

fn old_ingress_class(object: &Object) -> Vec<String> {
    let replaced = object.annotation(INGRESS_CLASS).is_some();
    match replaced && !spec(object).has("ingressClassName") {
        true => vec![format!(
            "annotation \"{INGRESS_CLASS}\" is deprecated, please use 'spec.ingressClassName' instead"
        )],
        false => Vec::new(),
    }
}

/// A service: what is ignored of it, and addresses that have a better form.
pub(crate) fn service(object: &Object) -> Vec<String> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let spec = spec(object);
    let mut warnings = Vec::new();
    if object.annotation(HINTS).is_some() {
        warnings.push(format!("annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"));
    }
    for (at, address) in spec.texts("clusterIPs").into_iter().enumerate() {
        warnings.extend(of_address(&format!("spec.clusterIPs[{at}]"), address));
    }
    let external = spec.texts("externalIPs");
    let is_external_name = spec.text("type") == "ExternalName";
    let is_headless = spec.text("type") == "ClusterIP" && spec.text("clusterIP") == "None";
    if is_headless {
        if !spec.text("loadBalancerIP").is_empty() {
            warnings.push("spec.loadBalancerIP is ignored for headless services".to_owned());
        }
        if !external.is_empty() {
            warnings.push("spec.externalIPs is ignored for headless services".to_owned());
        }
        if spec.text("sessionAffinity") != "None" {
            warnings.push("spec.SessionAffinity is ignored for headless services".to_owned());
        }
    }
    for (at, address) in external.iter().enumerate() {
        warnings.extend(of_address(&format!("spec.externalIPs[{at}]"), address));
    }
    if !external.is_empty() && !is_headless && !is_external_name {
        warnings.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
                .to_owned(),
        );
    }
    warnings.extend(of_address(
        "spec.loadBalancerIP",
        spec.text("loadBalancerIP"),
    ));
    for (at, block) in spec
        .texts("loadBalancerSourceRanges")
        .into_iter()
        .enumerate()
    {
        let path = format!("spec.loadBalancerSourceRanges[{at}]");
        warnings.extend(of_address_block(&path, block));
    }
    if is_external_name && !external.is_empty() {
        warnings.push(r#"spec.externalIPs is ignored when spec.type is "ExternalName""#.to_owned());
    }
    if !is_external_name && !spec.text("externalName").is_empty() {
        warnings.push(
            r#"spec.externalName is ignored when spec.type is not "ExternalName""#.to_owned(),
        );
    }
    if spec.text("trafficDistribution") == "PreferClose" {
        warnings.push(
            r#"spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone""#
                .to_owned(),
        );
    }
    warnings
}

/// A network policy: its address blocks.
pub(crate) fn network_policy(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (rule_at, rule) in spec(object).list(rules).iter().enumerate() {
            for (peer_at, peer) in rule.list(peers).iter().enumerate() {
                let path = format!("spec.{rules}[{rule_at}].{peers}[{peer_at}].ipBlock");
                let block = peer.at("ipBlock");
                warnings.extend(of_address_block(
                    &format!("{path}.cidr"),
                    block.text("cidr"),
                ));
                for (at, except) in block.texts("except").into_iter().enumerate() {
                    warnings.extend(of_address_block(&format!("{path}.except[{at}]"), except));
                }
            }
        }
    }
    warnings
}

/// Addresses of an endpoint slice.
pub(crate) fn endpoint_slice(object: &Object) -> Vec<String> {
    if object.text("addressType") == "FQDN" {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    for (at, endpoint) in object.list("endpoints").iter().enumerate() {
        for (address_at, address) in endpoint.texts("addresses").into_iter().enumerate() {
            let path = format!("endpoints[{at}].addresses[{address_at}]");
            warnings.extend(of_address(&path, address));
        }
    }
    warnings
}

/// An IPv6 address that is not written as all others write it.
fn of_address(path: &str, text: &str) -> Option<String> {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) if address.to_string() != text => Some(format!(
            "{path}: IPv6 address {text:?} should be in RFC 5952 canonical format (\"{address}\")"
        )),
        _ => None,
    }
}

fn of_address_block(path: &str, text: &str) -> Option<String> {
    let (address, bits) = names::parse_cidr(text)?;
    let canonical = format!("{address}/{bits}");
    (address.is_ipv6() && canonical != text).then(|| {
        format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"
        )
    })
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";

/// A volume: annotations that fields replaced, plugins that are gone.
pub(crate) fn volume(object: &Object) -> Vec<String> {
    let spec = spec(object);
    let mut warnings = old_class(object);
    if object.annotation(MOUNT_OPTIONS).is_some() {
        warnings.push(format!("metadata.annotations[{MOUNT_OPTIONS}]: deprecated since v1.31; use \"mountOptions\" attribute instead"));
    }
    if spec.text("persistentVolumeReclaimPolicy") == "Recycle" {
        warnings.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    warnings.extend(fraction(spec.at("capacity"), "storage", "spec.capacity"));
    let terms = spec.at("nodeAffinity").at("required");
    for (at, term) in terms.list("nodeSelectorTerms").iter().enumerate() {
        let path = format!("spec.nodeAffinity.required.nodeSelectorTerms[{at}]");
        warnings.extend(of_node_term(term, &path));
    }
    warnings.extend(gone_plugins(spec, "spec"));
    warnings
}

/// A claim for one.
pub(crate) fn claim(object: &Object) -> Vec<String> {
    let mut warnings = old_class(object);
    warnings.extend(claim_spec(spec(object), "spec"));
    warnings
}

fn old_class(object: &Object) -> Vec<String> {
    match object.annotation(BETA_CLASS) {
        Some(_) => vec![format!(
            "metadata.annotations[{BETA_CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        )],
        None => Vec::new(),
    }
}

fn claim_spec(spec: &Value, path: impl Display) -> Vec<String> {
    let resources = spec.at("resources");
    ["requests", "limits"]
        .into_iter()
        .filter_map(|list| {
            let path = format_args!("{path}.resources.{list}");
            fraction(resources.at(list), "storage", path)
        })
        .collect()
}

/// A number of bytes that is not whole. Here and elsewhere a path is written only where there is something to warn of.
fn fraction(amounts: &Value, name: &str, path: impl Display) -> Option<String> {
    let amount = Quantity::from_json(amounts.at(name)).ok()?;
    (amount.milli_value() % 1000 != 0).then(|| {
        format!("{path}[{name}]: fractional byte value \"{amount}\" is invalid, must be an integer")
    })
}

/// Volume plugins that do nothing any more.
const GONE_PLUGINS: &[(&str, &str)] = &[
    (
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

fn gone_plugins(source: &Value, path: impl Display) -> impl Iterator<Item = String> {
    GONE_PLUGINS
        .iter()
        .filter(move |(plugin, _)| source.has(plugin))
        .map(move |(plugin, text)| {
            // Kubernetes calls this one by its Go name.
            let shown = match *plugin {
                "storageos" => "storageOS",
                other => other,
            };
            format!("{path}.{shown}: {text}")
        })
}

/// Labels of nodes that others took the place of.
fn old_node_label(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
        "beta.kubernetes.io/os" => r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
        "failure-domain.beta.kubernetes.io/region" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#
        }
        "beta.kubernetes.io/instance-type" => {
            r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => {
            r#"use "node-role.kubernetes.io/control-plane" instead"#
        }
        _ => return None,
    })
}

/// A term of a node selector: labels that others took the place of.
fn of_node_term(term: &Value, path: impl Display) -> Vec<String> {
    let expressions = term.list("matchExpressions").iter().enumerate();
    expressions
        .filter_map(|(at, expression)| {
            let key = expression.text("key");
            let text = old_node_label(key)?;
            Some(format!(
                "{path}.matchExpressions[{at}].key: {key} is {text}"
            ))
        })
        .collect()
}

/// A runtime class: what it selects nodes by.
pub(crate) fn runtime_class(object: &Object) -> Vec<String> {
    let selector = object.at("scheduling").entries("nodeSelector");
    selector
        .filter_map(|(key, _)| old_node_label(key))
        .map(|text| format!("scheduling.nodeSelector: {text}"))
        .collect()
}

/// A storage class: the topologies that it allows.
pub(crate) fn storage_class(object: &Object) -> Vec<String> {
    let mut warnings = Vec::new();
    for (at, topology) in object.list("allowedTopologies").iter().enumerate() {
        let expressions = topology.list("matchLabelExpressions").iter().enumerate();
        for (expression_at, expression) in expressions {
            let Some(text) = old_node_label(expression.text("key")) else {
                continue;
            };
            warnings.push(format!(
                "allowedTopologies[{at}].matchLabelExpressions[{expression_at}].key: {text}"
            ));
        }
    }
    warnings
}

/// The room that a topology has: what it selects nodes by.
pub(crate) fn storage_capacity(object: &Object) -> Vec<String> {
    let topology = object.at("nodeTopology");
    let mut warnings = of_node_term(topology, "nodeTopology");
    for (label, _) in topology.entries("matchLabels") {
        if let Some(text) = old_node_label(label) {
            warnings.push(format!("nodeTopology.matchLabels.{label}: {text}"));
        }
    }
    warnings
}

/// An annotation that never kept what it promised.
pub(crate) fn service_account(object: &Object) -> Vec<String> {
    const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";
    match object.annotation(MOUNTABLE) {
        Some(_) => vec![format!(
            "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )],
        None => Vec::new(),
    }
}

/// A field that nobody reads.
pub(crate) fn node(object: &Object) -> Vec<String> {
    match spec(object).text("externalID").is_empty() {
        true => Vec::new(),
        false => vec![
            "spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned(),
        ],
    }
}

#[cfg(test)]
mod tests;
