//! Affinity between pods, by comparing the pod with every other one.

use super::nodes::refuse;
use super::{Cluster, label, list, selects, words};
use serde_json::Value;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

fn required<'a>(pod: &'a Value, kind: &str) -> &'a [Value] {
    list(&pod["spec"]["affinity"][kind][REQUIRED])
}

/// Preferred terms of both kinds with their weights, those against with negative ones.
fn preferred(pod: &Value) -> Vec<(i64, &Value)> {
    let mut terms = Vec::new();
    for (kind, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
        for weighted in list(&pod["spec"]["affinity"][kind][PREFERRED]) {
            let weight = weighted["weight"].as_i64().unwrap();
            terms.push((sign * weight, &weighted["podAffinityTerm"]));
        }
    }
    terms
}

/// Whether the term of `owner` means `other`.
fn means(cluster: &Cluster, term: &Value, owner: &Value, other: &Value) -> bool {
    let namespace = &other["metadata"]["namespace"];
    let listed = list(&term["namespaces"]);
    let by_selector = &term["namespaceSelector"];
    let own = listed.is_empty() && by_selector.is_null();
    let object = cluster
        .namespaces
        .iter()
        .find(|n| n["metadata"]["name"] == *namespace);
    let in_namespaces = listed.contains(namespace)
        || own && *namespace == owner["metadata"]["namespace"]
        || object.is_some_and(|object| selects(by_selector, object));
    in_namespaces && selects(&term["labelSelector"], other)
}

/// The node where a placed pod is.
fn node_of<'a>(cluster: &'a Cluster, pod: &Value) -> &'a Value {
    let name = &pod["spec"]["nodeName"];
    let found = cluster
        .nodes
        .iter()
        .find(|n| n["metadata"]["name"] == *name);
    found.unwrap()
}

/// Whether both nodes are one place for the term.
fn together(term: &Value, a: &Value, b: &Value) -> bool {
    let key = words(&term["topologyKey"]);
    label(a, key).is_some() && label(a, key) == label(b, key)
}

pub(super) fn filter(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    let near = required(pod, "podAffinity");
    let away = required(pod, "podAntiAffinity");
    // Only pods that every term means count, and only where a term has a place for them.
    let friends: Vec<&Value> = cluster
        .pods
        .iter()
        .filter(|other| near.iter().all(|term| means(cluster, term, pod, other)))
        .collect();
    let placed = |term: &Value| {
        let key = words(&term["topologyKey"]);
        friends
            .iter()
            .any(|other| label(node_of(cluster, other), key).is_some())
    };
    let first = !near.iter().any(placed) && near.iter().all(|term| means(cluster, term, pod, pod));
    let near_enough = near.iter().all(|term| {
        let labelled = label(node, words(&term["topologyKey"])).is_some();
        let met = friends
            .iter()
            .any(|other| together(term, node, node_of(cluster, other)));
        labelled && (met || first)
    });
    if !near_enough {
        return refuse(true, "node(s) didn't match pod affinity rules");
    }
    for other in &cluster.pods {
        for term in away {
            if means(cluster, term, pod, other) && together(term, node, node_of(cluster, other)) {
                return refuse(true, "node(s) didn't match pod anti-affinity rules");
            }
        }
    }
    for other in &cluster.pods {
        for term in required(other, "podAntiAffinity") {
            if means(cluster, term, other, pod) && together(term, node, node_of(cluster, other)) {
                return refuse(
                    true,
                    "node(s) didn't satisfy existing pods anti-affinity rules",
                );
            }
        }
    }
    Vec::new()
}

pub(super) fn score(
    cluster: &Cluster,
    pod: &Value,
    feasible: &[&Value],
) -> Option<(Vec<i64>, Vec<i64>)> {
    let mut counts_at_all = false;
    let mut raw = vec![0; feasible.len()];
    for other in &cluster.pods {
        let there = node_of(cluster, other);
        let mine = preferred(pod)
            .into_iter()
            .filter(|(_, t)| means(cluster, t, pod, other));
        let theirs = preferred(other)
            .into_iter()
            .filter(|(_, t)| means(cluster, t, other, pod));
        let hard = required(other, "podAffinity").iter().map(|term| (1, term));
        let hard = hard.filter(|(_, term)| means(cluster, term, other, pod));
        for (weight, term) in mine.chain(theirs).chain(hard) {
            counts_at_all |= label(there, words(&term["topologyKey"])).is_some();
            for (raw, node) in raw.iter_mut().zip(feasible) {
                if together(term, node, there) {
                    *raw += weight;
                }
            }
        }
    }
    if !counts_at_all {
        return None;
    }
    let (least, most) = (raw.iter().min().copied()?, raw.iter().max().copied()?);
    let stretched = raw.iter().map(|value| {
        if most == least {
            return 0;
        }
        (100.0 * ((value - least) as f64 / (most - least) as f64)) as i64
    });
    Some((raw.clone(), stretched.collect()))
}
