//! Amounts: what is asked for, what is there, what is used.

use super::nodes::is_sidecar;
use super::{Cluster, list, words};
use serde_json::Value;

/// Units that the test's objects use, in thousandths.
fn thousandths(quantity: &str) -> i64 {
    let units = [("m", 1), ("Mi", 1000 << 20), ("Gi", 1000 << 30), ("", 1000)];
    for (unit, factor) in units {
        if let Some(number) = quantity.strip_suffix(unit)
            && let Ok(number) = number.parse::<i64>()
        {
            return number * factor;
        }
    }
    panic!("{quantity}")
}

/// Thousandths of cores, or whole units of anything else.
pub(super) fn amount(amounts: &Value, resource: &str) -> i64 {
    let Some(quantity) = amounts.get(resource) else {
        return 0;
    };
    let value = thousandths(words(quantity));
    if resource == "cpu" {
        value
    } else {
        value / 1000
    }
}

/// What a container that is being resized was given or still has, whatever is more.
fn given(pod: &Value, container: &Value, resource: &str) -> Option<i64> {
    let mut told = list(&pod["status"]["containerStatuses"]).iter();
    let told = told.find(|told| told["name"] == container["name"])?;
    let has = amount(&told["resources"]["requests"], resource);
    Some(has.max(amount(&told["allocatedResources"], resource)))
}

/// Whether the node will not give what the pod would now like to have.
fn is_denied(pod: &Value) -> bool {
    let mut conditions = list(&pod["status"]["conditions"]).iter();
    conditions.any(|c| c["type"] == "PodResizePending" && c["reason"] == "Infeasible")
}

/// The most that runs at once: the containers and all sidecars, or an init container and the sidecars before it; or else what
/// the pod says of itself as a whole. In any case its overhead as well.
pub(super) fn asked(pod: &Value, resource: &str, default: i64) -> i64 {
    let spec = &pod["spec"];
    let overhead = amount(&spec["overhead"], resource);
    let whole = &spec["resources"]["requests"];
    if whole.get(resource).is_some() {
        return amount(whole, resource) + overhead;
    }
    let of = |container: &Value| {
        let requests = &container["resources"]["requests"];
        if requests.get(resource).is_none() && default > 0 {
            return default;
        }
        let wanted = amount(requests, resource);
        match given(pod, container, resource) {
            Some(given) if is_denied(pod) => given,
            Some(given) => wanted.max(given),
            None => wanted,
        }
    };
    let init = list(&spec["initContainers"]);
    let sidecars = |init: &[Value]| -> i64 {
        let sidecars = init.iter().filter(|container| is_sidecar(container));
        sidecars.map(of).sum()
    };
    let containers: i64 = list(&spec["containers"]).iter().map(of).sum();
    let mut most = containers + sidecars(init);
    for (at, step) in init.iter().enumerate() {
        most = most.max(sidecars(&init[..at]) + of(step));
    }
    most + overhead
}

/// As [`asked`]; a container that says nothing counts a little.
pub(super) fn asked_for_score(pod: &Value, resource: &str) -> i64 {
    let default = if resource == "cpu" { 100 } else { 200 << 20 };
    asked(pod, resource, default)
}

pub(super) fn fit(cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    let mut reasons = Vec::new();
    let there = cluster.pods_on(node);
    let allocatable = &node["status"]["allocatable"];
    if there.len() as i64 + 1 > amount(allocatable, "pods") {
        reasons.push("Too many pods".to_owned());
    }
    for resource in ["cpu", "memory", "ephemeral-storage", "example.com/gpu"] {
        let wanted = asked(pod, resource, 0);
        let used: i64 = there.iter().map(|other| asked(other, resource, 0)).sum();
        if wanted > 0 && used + wanted > amount(allocatable, resource) {
            reasons.push(format!("Insufficient {resource}"));
        }
    }
    reasons
}

pub(super) fn least_allocated(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let free = |resource: &str| {
        let capacity = amount(&node["status"]["allocatable"], resource);
        let there = cluster.pods_on(node);
        let used: i64 = there
            .iter()
            .map(|other| asked_for_score(other, resource))
            .sum();
        let used = used + asked_for_score(pod, resource);
        if used > capacity {
            0
        } else {
            (capacity - used) * 100 / capacity
        }
    };
    (free("cpu") + free("memory")) / 2
}

pub(super) fn asks_for_anything(pod: &Value) -> bool {
    asked(pod, "cpu", 0) > 0 || asked(pod, "memory", 0) > 0
}

/// By how much the use of cpu and memory comes closer together.
pub(super) fn balanced(cluster: &Cluster, pod: &Value, node: &Value) -> i64 {
    let balance = |with: bool| {
        let used = |resource: &str| {
            let there = cluster.pods_on(node);
            let used: i64 = there.iter().map(|other| asked(other, resource, 0)).sum();
            let more = if with { asked(pod, resource, 0) } else { 0 };
            let capacity = amount(&node["status"]["allocatable"], resource);
            ((used + more) as f64 / capacity as f64).min(1.0)
        };
        let deviation = ((used("cpu") - used("memory")) / 2.0).abs();
        ((1.0 - deviation) * 100.0) as i64
    };
    50 + (50 + balance(true) - balance(false)) / 2
}
