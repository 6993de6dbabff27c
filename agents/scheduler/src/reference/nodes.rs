//! What depends on the node alone, or on the node and the pods on it.

use super::{Cluster, holds, label, list, words};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn refuse(refused: bool, reason: &str) -> Vec<String> {
    if refused {
        vec![reason.to_owned()]
    } else {
        Vec::new()
    }
}

pub(super) fn unschedulable(pod: &Value, node: &Value) -> Vec<String> {
    let cordon =
        serde_json::json!({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"});
    let tolerated = list(&pod["spec"]["tolerations"])
        .iter()
        .any(|t| tolerates(t, &cordon));
    let cordoned = node["spec"]["unschedulable"] == true;
    refuse(cordoned && !tolerated, "node(s) were unschedulable")
}

pub(super) fn name(pod: &Value, node: &Value) -> Vec<String> {
    let wanted = words(&pod["spec"]["nodeName"]);
    let other = !wanted.is_empty() && wanted != words(&node["metadata"]["name"]);
    refuse(other, "node(s) didn't match the requested node name")
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let exists = toleration["operator"] == "Exists";
    let key = words(&toleration["key"]);
    let effect = words(&toleration["effect"]);
    if !effect.is_empty() && effect != words(&taint["effect"]) {
        return false;
    }
    if key.is_empty() {
        return exists;
    }
    key == words(&taint["key"]) && (exists || words(&toleration["value"]) == words(&taint["value"]))
}

/// Whether no taint keeps the pod out.
pub(super) fn lets_in(pod: &Value, node: &Value) -> bool {
    list(&node["spec"]["taints"]).iter().all(|taint| {
        let soft = taint["effect"] == "PreferNoSchedule";
        soft || list(&pod["spec"]["tolerations"])
            .iter()
            .any(|t| tolerates(t, taint))
    })
}

pub(super) fn taints(pod: &Value, node: &Value) -> Vec<String> {
    refuse(!lets_in(pod, node), "node(s) had untolerated taint(s)")
}

pub(super) fn soft_taints(pod: &Value, node: &Value) -> i64 {
    let mut count = 0;
    for taint in list(&node["spec"]["taints"]) {
        let tolerated = list(&pod["spec"]["tolerations"]).iter().any(|toleration| {
            let about_soft = ["", "PreferNoSchedule"].contains(&words(&toleration["effect"]));
            about_soft && tolerates(toleration, taint)
        });
        if taint["effect"] == "PreferNoSchedule" && !tolerated {
            count += 1;
        }
    }
    count
}

/// One term of a node selector. One without requirements means no node.
pub(super) fn term_matches(term: &Value, node: &Value) -> bool {
    let (expressions, fields) = (list(&term["matchExpressions"]), list(&term["matchFields"]));
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let name = Some(words(&node["metadata"]["name"]));
    expressions
        .iter()
        .all(|r| holds(r, label(node, words(&r["key"]))))
        && fields.iter().all(|r| holds(r, name))
}

/// `nodeSelector` and required node affinity.
pub(super) fn wants(pod: &Value, node: &Value) -> bool {
    let selector = pod["spec"]["nodeSelector"].as_object();
    let selected = selector
        .into_iter()
        .flatten()
        .all(|(key, value)| label(node, key) == value.as_str());
    let required =
        &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let terms = list(&required["nodeSelectorTerms"]);
    selected && (!required.is_object() || terms.iter().any(|term| term_matches(term, node)))
}

pub(super) fn affinity(pod: &Value, node: &Value) -> Vec<String> {
    refuse(
        !wants(pod, node),
        "node(s) didn't match Pod's node affinity/selector",
    )
}

fn preferred(pod: &Value) -> &[Value] {
    list(
        &pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"],
    )
}

pub(super) fn has_preferences(pod: &Value) -> bool {
    !preferred(pod).is_empty()
}

pub(super) fn preferences(pod: &Value, node: &Value) -> i64 {
    let matching = preferred(pod)
        .iter()
        .filter(|p| term_matches(&p["preference"], node));
    matching.map(|p| p["weight"].as_i64().unwrap()).sum()
}

/// An init container that runs on beside the others.
pub(super) fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// Address, protocol and number of every port that a pod takes on its node.
fn host_ports(pod: &Value) -> Vec<(String, String, u64)> {
    let mut ports = Vec::new();
    let sidecars = list(&pod["spec"]["initContainers"]).iter();
    let sidecars = sidecars.filter(|container| is_sidecar(container));
    for container in list(&pod["spec"]["containers"]).iter().chain(sidecars) {
        for port in list(&container["ports"]) {
            let or = |field: &str, default: &str| {
                let text = words(&port[field]);
                if text.is_empty() { default } else { text }.to_owned()
            };
            let number = port["hostPort"].as_u64().unwrap_or(0);
            if number > 0 {
                ports.push((or("hostIP", "0.0.0.0"), or("protocol", "TCP"), number));
            }
        }
    }
    ports
}

pub(super) fn ports(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    let mut conflict = false;
    for other in cluster.pods_on(node) {
        for (ip, protocol, number) in host_ports(pod) {
            for (their_ip, their_protocol, their_number) in host_ports(other) {
                let same_address = ip == their_ip || ip == "0.0.0.0" || their_ip == "0.0.0.0";
                let same = protocol == their_protocol && number == their_number;
                conflict |= same && same_address;
            }
        }
    }
    refuse(
        conflict,
        "node(s) didn't have free ports for the requested pod ports",
    )
}

/// The name by which nodes know an image.
pub(super) fn tagged(image: &str) -> String {
    if image.contains(':') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// Bytes of the pod's images on the node, each by how many of the nodes have it, between 23 and 1000 MiB a container.
pub(super) fn images(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let init = list(&pod["spec"]["initContainers"]).iter();
    let containers: Vec<&Value> = init.chain(list(&pod["spec"]["containers"])).collect();
    let size_on = |node: &Value, image: &str| -> Option<i64> {
        let has = |listed: &&Value| list(&listed["names"]).iter().any(|name| name == image);
        let found = list(&node["status"]["images"]).iter().find(has)?;
        found["sizeBytes"].as_i64()
    };
    let mut sum = 0;
    for container in &containers {
        let image = tagged(words(&container["image"]));
        if let Some(size) = size_on(node, &image) {
            let with: BTreeSet<&str> = cluster
                .nodes
                .iter()
                .filter(|node| size_on(node, &image).is_some())
                .map(|node| words(&node["metadata"]["name"]))
                .collect();
            let spread = with.len() as f64 / cluster.nodes.len() as f64;
            sum += (size as f64 * spread) as i64;
        }
    }
    let mebibyte = 1 << 20;
    let (least, most) = (23 * mebibyte, 1000 * mebibyte * containers.len() as i64);
    100 * (sum.clamp(least, most) - least) / (most - least)
}
