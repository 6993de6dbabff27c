//! Topology spread, counted anew for every node.

use super::nodes::{lets_in, refuse, wants};
use super::{Cluster, label, list, selects, words};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

fn constraints(pod: &Value, when: &str) -> Vec<Value> {
    let all = list(&pod["spec"]["topologySpreadConstraints"]);
    let of_kind = all
        .iter()
        .filter(|c| words(&c["whenUnsatisfiable"]) == when);
    of_kind.cloned().collect()
}

fn key(constraint: &Value) -> &str {
    words(&constraint["topologyKey"])
}

fn max_skew(constraint: &Value) -> i64 {
    constraint["maxSkew"].as_i64().unwrap()
}

fn counts_pod(constraint: &Value, pod: &Value, other: &Value) -> bool {
    let mut keys = list(&constraint["matchLabelKeys"]).iter().map(words);
    other["metadata"]["namespace"] == pod["metadata"]["namespace"]
        && selects(&constraint["labelSelector"], other)
        && keys.all(|key| label(pod, key).is_none() || label(other, key) == label(pod, key))
}

/// Matching pods on a node that are not on their way out.
fn on_node(cluster: &Cluster, constraint: &Value, pod: &Value, node: &Value) -> i64 {
    let there = cluster.pods_on(node);
    let counted = there.iter().filter(|other| {
        other["metadata"]["deletionTimestamp"].is_null() && counts_pod(constraint, pod, other)
    });
    counted.count() as i64
}

/// Whether a node takes part in counting.
fn counts_node(constraint: &Value, pod: &Value, node: &Value) -> bool {
    (constraint["nodeAffinityPolicy"] == "Ignore" || wants(pod, node))
        && (constraint["nodeTaintsPolicy"] != "Honor" || lets_in(pod, node))
}

fn has_all_labels(constraints: &[Value], node: &Value) -> bool {
    constraints.iter().all(|c| label(node, key(c)).is_some())
}

pub(super) fn filter(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    let hard = constraints(pod, "DoNotSchedule");
    for constraint in &hard {
        let Some(place) = label(node, key(constraint)) else {
            return refuse(
                true,
                "node(s) didn't match pod topology spread constraints (missing required label)",
            );
        };
        let counted: Vec<&Value> = cluster
            .nodes
            .iter()
            .filter(|node| has_all_labels(&hard, node) && counts_node(constraint, pod, node))
            .collect();
        let places: BTreeSet<&str> = counted
            .iter()
            .map(|n| label(n, key(constraint)).unwrap())
            .collect();
        let in_place = |place: &str| -> i64 {
            let nodes = counted
                .iter()
                .filter(|n| label(n, key(constraint)) == Some(place));
            nodes
                .map(|node| on_node(cluster, constraint, pod, node))
                .sum()
        };
        let Some(mut emptiest) = places.iter().map(|place| in_place(place)).min() else {
            continue;
        };
        if (places.len() as i64) < constraint["minDomains"].as_i64().unwrap_or(1) {
            emptiest = 0;
        }
        let itself = i64::from(selects(&constraint["labelSelector"], pod));
        if in_place(place) + itself - emptiest > max_skew(constraint) {
            return refuse(true, "node(s) didn't match pod topology spread constraints");
        }
    }
    Vec::new()
}

/// For pods that say nothing: over hosts and zones, counting what the Services that select the pod select.
fn by_default(cluster: &Cluster, pod: &Value) -> Vec<Value> {
    let mut labels = serde_json::Map::new();
    for service in &cluster.services {
        let selector = json!({"matchLabels": service["spec"]["selector"]});
        let same = service["metadata"]["namespace"] == pod["metadata"]["namespace"];
        if same && selects(&selector, pod) {
            labels.extend(service["spec"]["selector"].as_object().unwrap().clone());
        }
    }
    if labels.is_empty() {
        return Vec::new();
    }
    let constraint = |key: &str, skew: i64| json!({"topologyKey": key, "maxSkew": skew, "labelSelector": {"matchLabels": labels}});
    vec![constraint(HOSTNAME, 3), constraint(ZONE, 5)]
}

pub(super) fn score(
    cluster: &Cluster,
    pod: &Value,
    feasible: &[&Value],
) -> Option<(Vec<i64>, Vec<i64>)> {
    let own = !list(&pod["spec"]["topologySpreadConstraints"]).is_empty();
    let soft = match own {
        true => constraints(pod, "ScheduleAnyway"),
        false => by_default(cluster, pod),
    };
    if soft.is_empty() {
        return None;
    }
    let takes_part = |node: &Value| !own || has_all_labels(&soft, node);
    let taking_part: Vec<&Value> = feasible.iter().copied().filter(|n| takes_part(n)).collect();
    let mut raw = Vec::new();
    for node in feasible {
        let mut sum = 0.0;
        for constraint in &soft {
            let Some(place) = label(node, key(constraint)) else {
                continue;
            };
            let (count, places) = if key(constraint) == HOSTNAME {
                (on_node(cluster, constraint, pod, node), taking_part.len())
            } else {
                // A label that is missing is a place too, where hosts and zones are only proposed.
                let of = |n: &&Value| label(n, key(constraint)).unwrap_or_default().to_owned();
                let places: BTreeSet<String> = taking_part.iter().map(of).collect();
                let count = if places.contains(place) {
                    let counted = cluster.nodes.iter().filter(|n| {
                        label(n, key(constraint)) == Some(place)
                            && counts_node(constraint, pod, n)
                            && takes_part(n)
                    });
                    counted.map(|n| on_node(cluster, constraint, pod, n)).sum()
                } else {
                    0
                };
                (count, places.len())
            };
            let weight = ((places + 2) as f64).ln();
            sum += count as f64 * weight + (max_skew(constraint) - 1) as f64;
        }
        raw.push(sum.round() as i64);
    }
    let of_part: Vec<i64> = feasible
        .iter()
        .zip(&raw)
        .filter(|(node, _)| takes_part(node))
        .map(|(_, raw)| *raw)
        .collect();
    let least = of_part.iter().copied().min().unwrap_or(0);
    let most = of_part.iter().copied().max().unwrap_or(0);
    let normalized = feasible.iter().zip(&raw).map(|(node, raw)| {
        if !takes_part(node) {
            0
        } else if most == 0 {
            100
        } else {
            100 * (most + least - raw) / most
        }
    });
    Some((raw.clone(), normalized.collect()))
}
