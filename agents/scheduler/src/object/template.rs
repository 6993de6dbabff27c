//! What pods of one owner have alike: nearly all that a template says. It is there once for all of them.

use super::{AffinityTerm, Group, HostPort, SpreadConstraint, Toleration};
use crate::devices::extended::Asking;
use crate::resources::Resources;
use crate::selector::{Labels, NodeSelectorTerm};
use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Templates of so many owners are remembered by each thread.
const REMEMBERED: usize = 256;
/// Those with more terms are not: they would stay when their pods are gone.
const TERMS_MAX: usize = 32;

thread_local! {
    static LATELY: RefCell<Vec<Arc<Template>>> = const { RefCell::new(Vec::new()) };
}

/// See the module head.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Template {
    /// The uid of the controlling owner.
    pub controller_uid: Option<String>,
    /// `spec.schedulerName`.
    pub scheduler_name: String,
    /// Who it is placed with, together or not at all, where the profile knows of groups.
    pub group: Option<Group>,
    /// Whether `spec.preemptionPolicy` is not `Never`.
    pub may_preempt: bool,
    /// Names of the scheduling gates that are still closed.
    pub gates: Vec<String>,
    /// How much it minds each of the pressures on a node, for the profiles that go by them.
    pub pressure_sensitivity: Option<[u8; 3]>,
    /// What it asks for.
    pub requests: Resources,
    /// What it counts for when nodes are scored: thousandths of a core and bytes.
    pub scored: (i64, i64),
    /// Ports on the host.
    pub host_ports: Vec<HostPort>,
    /// Images of all containers, init containers and image volumes, normalized.
    pub images: Vec<String>,
    /// `spec.nodeSelector`.
    pub node_selector: Labels,
    /// Required node affinity: any of the terms; `None` when not given.
    pub required_nodes: Option<Vec<NodeSelectorTerm>>,
    /// Preferred node affinity.
    pub preferred_nodes: Vec<(i64, NodeSelectorTerm)>,
    /// Tolerations.
    pub tolerations: Vec<Toleration>,
    /// Required pod affinity.
    pub affinity: Vec<AffinityTerm>,
    /// Required pod anti-affinity.
    pub anti_affinity: Vec<AffinityTerm>,
    /// Preferred pod affinity; anti-affinity has negative weights.
    pub preferred_affinity: Vec<(i64, AffinityTerm)>,
    /// Topology spread constraints.
    pub spread: Vec<SpreadConstraint>,
    /// Containers that ask for extended resources, for which devices may stand.
    pub extended: Vec<Asking>,
}

impl Template {
    /// The same, in the block of an equal one that this thread has seen lately.
    pub(super) fn shared(self) -> Arc<Template> {
        if !self.is_small() {
            return Arc::new(self);
        }
        let mut hasher = DefaultHasher::new();
        (&self.controller_uid, &self.images).hash(&mut hasher);
        let at = hasher.finish() as usize % REMEMBERED;
        LATELY.with_borrow_mut(|lately| {
            if lately.is_empty() {
                lately.resize_with(REMEMBERED, Arc::<Template>::default);
            }
            if *lately[at] != self {
                lately[at] = Arc::new(self);
            }
            lately[at].clone()
        })
    }

    /// Whether it may be remembered.
    pub(super) fn is_small(&self) -> bool {
        self.terms() <= TERMS_MAX
    }

    fn terms(&self) -> usize {
        self.gates.len()
            + self.host_ports.len()
            + self.images.len()
            + self.node_selector.len()
            + self.required_nodes.as_ref().map_or(0, Vec::len)
            + self.preferred_nodes.len()
            + self.tolerations.len()
            + self.affinity.len()
            + self.anti_affinity.len()
            + self.preferred_affinity.len()
            + self.spread.len()
            + self.extended.len()
    }
}

#[cfg(test)]
mod tests {
    use crate::object::Pod;
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn pod(name: &str, image: &str, tolerations: usize) -> Pod {
        let tolerations: Vec<Value> = (0..tolerations)
            .map(|at| json!({"key": at.to_string(), "operator": "Exists"}))
            .collect();
        Pod::compile(&json!({
            "metadata": {"name": name, "uid": name, "ownerReferences": [{"uid": "set", "controller": true}]},
            "spec": {"nodeName": name, "tolerations": tolerations,
                "containers": [{"image": image, "resources": {"requests": {"cpu": "1"}}}]}}))
    }

    #[test]
    fn pods_of_one_template_share_it() {
        let (one, other) = (pod("a", "web:1", 2), pod("b", "web:1", 2));
        assert!(Arc::ptr_eq(&one.template, &other.template));
        assert_eq!((one.requests.milli_cpu, one.tolerations.len()), (1000, 2));
        assert!(one.counts_as(&one.clone()) && !one.counts_as(&other));
        let newer = pod("a", "web:2", 2);
        assert_eq!(newer.images, ["web:2"]);
        assert!(!one.counts_as(&newer) && one.images == ["web:1"]);
    }

    #[test]
    fn a_pod_is_small() {
        // A hundred thousand of them are there: think before you give it a field that its template could have.
        // With the two counts of its Arc it fills one of the allocator's sizes.
        assert!(size_of::<Pod>() <= 224 - 16, "{}", size_of::<Pod>());
    }

    #[test]
    fn of_a_placed_pod_no_words_are_kept_that_nobody_compares() {
        let told = |status: &str| {
            let condition =
                json!({"type": "PodScheduled", "status": status, "reason": "r", "message": "m"});
            let times = json!({"creationTimestamp": "1970-01-01T00:00:01Z"});
            Pod::compile(
                &json!({"metadata": times, "status": {"conditions": [condition],
                "startTime": "1970-01-01T00:00:02.5Z"}}),
            )
        };
        assert_eq!(told("True").scheduled_condition, None);
        let refused = told("False");
        let words = ("False".to_owned(), "r".to_owned(), "m".to_owned());
        assert_eq!(refused.scheduled_condition, Some(Box::new(words)));
        assert_eq!((refused.created, refused.started), (1_000_000, 2_500_000));
    }

    #[test]
    fn who_is_changed_does_not_change_others() {
        let (one, mut other) = (pod("a", "web:1", 1), pod("a", "web:1", 1));
        other.tolerations.clear();
        assert_eq!((one.tolerations.len(), other.tolerations.len()), (1, 0));
        assert!(!one.counts_as(&other));
    }

    #[test]
    fn what_is_long_is_not_remembered() {
        let many = || pod("a", "web:1", super::TERMS_MAX);
        assert!(!Arc::ptr_eq(&many().template, &many().template) && many() == many());
    }
}
