//! Budgets: how many of some pods may go.

use crate::object::{Pod, text};
use crate::selector::LabelSelector;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A PodDisruptionBudget, compiled.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    namespace: String,
    selector: Option<LabelSelector>,
    disruptions_allowed: i64,
    /// Pods whose eviction is on its way and already counted.
    disrupted: BTreeSet<String>,
}

impl Budget {
    /// Compiles an API object.
    pub fn compile(object: &Value) -> Budget {
        let disrupted = object
            .pointer("/status/disruptedPods")
            .and_then(Value::as_object);
        Budget {
            namespace: text(object, "/metadata/namespace"),
            selector: LabelSelector::parse(object.pointer("/spec/selector")),
            disruptions_allowed: object
                .pointer("/status/disruptionsAllowed")
                .and_then(Value::as_i64)
                .unwrap_or(0),
            disrupted: disrupted
                .map(|pods| pods.keys().cloned().collect())
                .unwrap_or_default(),
        }
    }

    /// The pod goes: where it counts, one less may go.
    pub(crate) fn spend(&mut self, pod: &Pod) {
        if self.covers(pod) && self.disrupted.insert(pod.name.clone()) {
            self.disruptions_allowed -= 1;
        }
    }

    /// Unlike evictions through the API, preemption takes a budget of all pods for one of none, and knows of none for pods
    /// without labels: so does Kubernetes.
    fn covers(&self, pod: &Pod) -> bool {
        self.namespace == pod.namespace
            && !pod.labels.is_empty()
            && self
                .selector
                .as_ref()
                .is_some_and(|s| !s.is_empty() && s.matches(&pod.labels))
    }
}

/// Pods whose eviction would break a budget, and the others.
pub(super) fn split_by_budget(
    pods: Vec<Arc<Pod>>,
    budgets: &[Budget],
) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut left: Vec<i64> = budgets
        .iter()
        .map(|budget| budget.disruptions_allowed)
        .collect();
    pods.into_iter().partition(|pod| {
        let mut broken = false;
        for (left, budget) in left.iter_mut().zip(budgets) {
            if budget.covers(pod) && !budget.disrupted.contains(&pod.name) {
                *left -= 1;
                broken |= *left < 0;
            }
        }
        broken
    })
}
