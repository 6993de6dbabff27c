//! One node and what is on it.

use super::Occupants;
use crate::object::{HostPort, Node, Pod};
use crate::resources::Resources;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One node and what is on it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// Absent while pods are known on a node that is not (yet, or any more) there.
    pub node: Option<Arc<Node>>,
    /// By uid.
    pub pods: Occupants,
    /// Those of them with affinity of any kind.
    pub(super) with_affinity: Vec<Arc<Pod>>,
    /// Sum of what the pods ask for.
    pub requested: Resources,
    /// Sum of what the pods count for in scoring: thousandths of a core and bytes.
    pub scored: (i64, i64),
    /// Taken host ports, with how many pods take each.
    ports: BTreeMap<HostPort, usize>,
}

impl NodeInfo {
    /// A node with nothing on it.
    pub fn empty(node: Arc<Node>) -> NodeInfo {
        NodeInfo {
            node: Some(node),
            ..NodeInfo::default()
        }
    }

    /// The name, empty while the node is not there.
    pub fn name(&self) -> &str {
        self.node.as_ref().map_or("", |node| &node.name)
    }

    /// The value of a label, if the node is there and has it.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.node.as_ref()?.labels.get(key).map(String::as_str)
    }

    /// Whether none of these ports is taken.
    pub fn ports_free(&self, wanted: &[HostPort]) -> bool {
        !wanted
            .iter()
            .any(|port| self.ports.keys().any(|taken| taken.conflicts(port)))
    }

    /// The pods with affinity of any kind.
    pub fn pods_with_affinity(&self) -> &[Arc<Pod>] {
        &self.with_affinity
    }

    pub(super) fn add(&mut self, pod: Arc<Pod>) {
        self.count(&pod);
        if pod.has_affinity() {
            self.with_affinity.push(pod.clone());
        }
        for port in &pod.host_ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
        self.pods.insert(pod);
    }

    pub(super) fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
        let pod = self.pods.remove(uid)?;
        self.with_affinity.retain(|other| other.uid != uid);
        // Recounted instead of subtracted: a sum that was too large to be counted must not stay wrong afterwards.
        if self.requested.is_saturated() {
            self.requested = Resources::default();
            self.scored = (0, 0);
            let rest: Vec<_> = self.pods.values().cloned().collect();
            rest.iter().for_each(|pod| self.count(pod));
        } else {
            self.requested.subtract(&pod.requests);
            self.scored.0 = self.scored.0.saturating_sub(pod.scored.0);
            self.scored.1 = self.scored.1.saturating_sub(pod.scored.1);
        }
        for port in &pod.host_ports {
            if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
        Some(pod)
    }

    fn count(&mut self, pod: &Pod) {
        self.requested.add(&pod.requests);
        self.scored.0 = self.scored.0.saturating_add(pod.scored.0);
        self.scored.1 = self.scored.1.saturating_add(pod.scored.1);
    }

    /// The same with more pods on it.
    pub(crate) fn with<'a>(&self, pods: impl Iterator<Item = &'a Arc<Pod>>) -> NodeInfo {
        let mut crowded = self.clone();
        for pod in pods {
            crowded.remove(&pod.uid);
            crowded.add(pod.clone());
        }
        crowded
    }

    pub(super) fn is_empty(&self) -> bool {
        self.node.is_none() && self.pods.is_empty()
    }
}
