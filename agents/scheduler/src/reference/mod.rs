//! The scheduler once more, slow and obvious, for tests: it keeps nothing, counts everything again for every node, and reads
//! the API objects as they stand instead of what was compiled from them. It shares no code with the real one, so that a
//! mistake has to be made twice to stay hidden. `property` compares both, plugin by plugin and number by number;
//! `sequence` compares decisions while the cluster changes between them, `preemption` who has to make room.

mod affinity;
mod nodes;
mod opted;
mod preemption;
mod pressure;
mod property;
mod random;
mod resources;
mod sequence;
mod spread;
mod volumes;

use serde_json::Value;

/// Everything as the API has it. Pods have their node in `spec.nodeName`.
#[derive(Debug, Clone, Default)]
struct Cluster {
    nodes: Vec<Value>,
    pods: Vec<Value>,
    namespaces: Vec<Value>,
    services: Vec<Value>,
    claims: Vec<Value>,
    volumes: Vec<Value>,
    classes: Vec<Value>,
    csi_nodes: Vec<Value>,
    drivers: Vec<Value>,
    capacities: Vec<Value>,
    attachments: Vec<Value>,
    /// What the wall clock says, in microseconds.
    now: i64,
}

impl Cluster {
    fn pods_on(&self, node: &Value) -> Vec<&Value> {
        let name = &node["metadata"]["name"];
        let here = |pod: &&Value| &pod["spec"]["nodeName"] == name;
        self.pods.iter().filter(here).collect()
    }
}

/// The reasons of a filter against a node; empty when it passes.
fn filter(name: &str, cluster: &Cluster, pod: &Value, node: &Value) -> Vec<String> {
    match name {
        "NodeUnschedulable" => nodes::unschedulable(pod, node),
        "NodeName" => nodes::name(pod, node),
        "TaintToleration" => nodes::taints(pod, node),
        "NodeAffinity" => nodes::affinity(pod, node),
        "NodePorts" => nodes::ports(cluster, pod, node),
        "NodeResourcesFit" => resources::fit(cluster, pod, node),
        "VolumeRestrictions" => volumes::restrictions(cluster, pod, node),
        "NodeVolumeLimits" => volumes::limits(cluster, pod, node),
        "VolumeBinding" => volumes::binding(cluster, pod, node),
        "VolumeZone" => volumes::zone(cluster, pod, node),
        "PodTopologySpread" => spread::filter(cluster, pod, node),
        "InterPodAffinity" => affinity::filter(cluster, pod, node),
        "PressureAware" => pressure::filter(cluster, pod, node),
        // Pods here claim no devices. What claims get has a reference beside the search.
        "DynamicResources" => Vec::new(),
        other => panic!("the reference does not know the filter {other}"),
    }
}

/// Raw and normalized values for the nodes; `None` when the score has nothing to say about the pod.
fn score(
    name: &str,
    cluster: &Cluster,
    pod: &Value,
    feasible: &[&Value],
) -> Option<(Vec<i64>, Vec<i64>)> {
    match name {
        "TaintToleration" => {
            let raw = feasible.iter().map(|node| nodes::soft_taints(pod, node));
            Some(scaled(raw.collect(), true))
        }
        "NodeAffinity" => nodes::has_preferences(pod).then(|| {
            let raw = feasible.iter().map(|node| nodes::preferences(pod, node));
            scaled(raw.collect(), false)
        }),
        "NodeResourcesFit" => Some(plain(feasible, |node| {
            resources::least_allocated(cluster, pod, node)
        })),
        "NodeResourcesBalancedAllocation" => resources::asks_for_anything(pod)
            .then(|| plain(feasible, |node| resources::balanced(cluster, pod, node))),
        "ImageLocality" => Some(plain(feasible, |node| nodes::images(cluster, pod, node))),
        "PodTopologySpread" => spread::score(cluster, pod, feasible),
        "InterPodAffinity" => affinity::score(cluster, pod, feasible),
        "PressureAware" => pressure::score(cluster, pod, feasible),
        "DynamicResources" => None,
        other => panic!("the reference does not know the score {other}"),
    }
}

fn plain(nodes: &[&Value], value: impl Fn(&Value) -> i64) -> (Vec<i64>, Vec<i64>) {
    let values: Vec<i64> = nodes.iter().map(|node| value(node)).collect();
    (values.clone(), values)
}

/// In hundredths of the largest, from the other end if `reverse`.
fn scaled(raw: Vec<i64>, reverse: bool) -> (Vec<i64>, Vec<i64>) {
    let largest = raw.iter().copied().max().unwrap_or(0);
    let normalized = raw.iter().map(|value| {
        let share = if largest == 0 {
            0
        } else {
            100 * value / largest
        };
        if reverse { 100 - share } else { share }
    });
    (raw.clone(), normalized.collect())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn words(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// `key` among the labels of an object.
fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["labels"].get(key)?.as_str()
}

/// One requirement of a selector against the value of its label.
fn holds(requirement: &Value, actual: Option<&str>) -> bool {
    let values: Vec<&str> = list(&requirement["values"]).iter().map(words).collect();
    let number = |text: &str| text.parse::<i64>().ok();
    match words(&requirement["operator"]) {
        "In" => actual.is_some_and(|actual| values.contains(&actual)),
        "NotIn" => !actual.is_some_and(|actual| values.contains(&actual)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => matches!((actual.and_then(number), number(values[0])), (Some(a), Some(b)) if a > b),
        "Lt" => matches!((actual.and_then(number), number(values[0])), (Some(a), Some(b)) if a < b),
        other => panic!("{other}"),
    }
}

/// A label selector against an object; an absent one matches nothing.
fn selects(selector: &Value, object: &Value) -> bool {
    let Some(selector) = selector.as_object() else {
        return false;
    };
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let equal = |(key, value): (&String, &Value)| label(object, key) == value.as_str();
    let expressions = list(selector.get("matchExpressions").unwrap_or(&Value::Null));
    let of_label = |r: &Value| holds(r, label(object, words(&r["key"])));
    labels.into_iter().flatten().all(equal) && expressions.iter().all(of_label)
}
