//! Affinity: to nodes, and to and against other pods.

use super::{Pod, text};
use crate::resources::items;
use crate::selector::{LabelSelector, Labels, NodeSelectorTerm, Requirement, strings};
use serde_json::Value;
use std::collections::BTreeSet;

/// A pod affinity or anti-affinity term.
#[derive(Debug, Clone, PartialEq)]
pub struct AffinityTerm {
    /// The node label whose equal values make one place.
    pub topology_key: String,
    /// `None` matches no pod.
    selector: Option<LabelSelector>,
    namespaces: BTreeSet<String>,
    namespace_selector: Option<LabelSelector>,
}

impl AffinityTerm {
    /// Whether the term means this pod. `namespace_labels` are those of the pod's namespace.
    pub fn matches(&self, pod: &Pod, namespace_labels: Option<&Labels>) -> bool {
        let namespace = self.namespaces.contains(&pod.namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|selector| match namespace_labels {
                    Some(labels) => selector.matches(labels),
                    None => selector.is_empty(),
                });
        namespace
            && self
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&pod.labels))
    }

    pub(super) fn parse(value: &Value, pod_namespace: &str, pod_labels: &Labels) -> AffinityTerm {
        let mut namespaces: BTreeSet<String> =
            strings(value.get("namespaces")).into_iter().collect();
        let namespace_selector = LabelSelector::parse(value.get("namespaceSelector"));
        if namespaces.is_empty() && namespace_selector.is_none() {
            namespaces.insert(pod_namespace.to_string());
        }
        AffinityTerm {
            topology_key: text(value, "/topologyKey"),
            selector: selector_with_keys(value, pod_labels),
            namespaces,
            namespace_selector,
        }
    }
}

/// `labelSelector`, narrowed to pods that share the values of `matchLabelKeys`.
pub(super) fn selector_with_keys(value: &Value, pod_labels: &Labels) -> Option<LabelSelector> {
    let mut selector = LabelSelector::parse(value.get("labelSelector"))?;
    for key in strings(value.get("matchLabelKeys")) {
        if let Some(own) = pod_labels.get(&key) {
            selector.push(Requirement::equals(&key, own));
        }
    }
    Some(selector)
}

/// The required terms of a node affinity; those that do not parse match no node and are left out.
pub(crate) fn required_terms(node_affinity: &Value) -> Option<Vec<NodeSelectorTerm>> {
    let required = node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    let terms = |required| {
        items(required, "nodeSelectorTerms")
            .filter_map(NodeSelectorTerm::parse)
            .collect()
    };
    required.filter(|r| r.is_object()).map(terms)
}

/// The preferred terms of a node affinity with their weights.
pub(crate) fn preferred_terms(node_affinity: &Value) -> Vec<(i64, NodeSelectorTerm)> {
    items(
        node_affinity,
        "preferredDuringSchedulingIgnoredDuringExecution",
    )
    .filter_map(|term| {
        let preference = NodeSelectorTerm::parse(term.get("preference")?)?;
        Some((weight(term), preference))
    })
    .collect()
}

pub(super) fn weight(term: &Value) -> i64 {
    term.get("weight").and_then(Value::as_i64).unwrap_or(0)
}
