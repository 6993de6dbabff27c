//! The cluster as the scheduler believes it to be: nodes with the pods on them, kept current change by change, and the
//! pods that it has *assumed* onto a node before the API says so.
//!
//! An assumed pod occupies its node from the moment of the decision, or the next decision would give the same room
//! away again. It is confirmed when the watch shows the pod on its node, forgotten when binding fails, and expires
//! when the confirmation does not come.

use crate::classes::{Journal, Kept};
use crate::devices::Devices;
use crate::devices::effort::Effort;
use crate::object::{HostPort, Node, Pod};
use crate::resources::Resources;
use crate::selector::{LabelSelector, Labels};
use crate::shares::Usage;
use crate::tracked::Tracked;
use crate::volume::Volumes;
use host::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Milliseconds since the scheduler started.
pub type Millis = u64;

/// How long after a finished binding the watch may take to show it.
pub const ASSUMED_TTL_MS: Millis = 60_000;

/// One node and what is on it.
#[derive(Debug, Clone, Default)]
pub struct NodeInfo {
    /// Absent while pods are known on a node that is not (yet, or any more) there.
    pub node: Option<Arc<Node>>,
    /// By uid.
    pub pods: BTreeMap<String, Arc<Pod>>,
    /// Those of them with affinity of any kind.
    with_affinity: Vec<Arc<Pod>>,
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

    fn add(&mut self, pod: Arc<Pod>) {
        self.count(&pod);
        if pod.has_affinity() {
            self.with_affinity.push(pod.clone());
        }
        for port in &pod.host_ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    fn remove(&mut self, uid: &str) -> Option<Arc<Pod>> {
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

    fn is_empty(&self) -> bool {
        self.node.is_none() && self.pods.is_empty()
    }
}

#[derive(Debug, Clone)]
struct Assumed {
    node: String,
    /// Set when binding has finished.
    expires: Option<Millis>,
}

/// The whole picture. Cloning shares pods and nodes.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Where a node stands stays the same as long as it is there or pods are known on it.
    slots: Vec<NodeInfo>,
    slot_of_node: BTreeMap<String, u32>,
    free_slots: Vec<u32>,
    journal: Journal,
    /// What was counted for earlier decisions.
    pub(crate) kept: Kept,
    /// Slots by uid.
    slot_of_pod: HashMap<String, u32>,
    assumed: BTreeMap<String, Assumed>,
    /// On how many nodes an image is.
    image_nodes: BTreeMap<String, i64>,
    /// Number of nodes that are there.
    nodes_present: usize,
    /// Uids of pods with affinity of any kind, so that their absence costs nothing.
    with_affinity: BTreeSet<String>,
    /// Labels by namespace.
    pub namespaces: Tracked<BTreeMap<String, Labels>>,
    /// Selectors of Services by (namespace, name); they and the owners' drive default spreading.
    pub services: BTreeMap<(String, String), LabelSelector>,
    /// Selectors of ReplicaSets, StatefulSets and ReplicationControllers by uid.
    pub owners: BTreeMap<String, LabelSelector>,
    /// Claims and volumes.
    pub volumes: Arc<Volumes>,
    /// Claims on devices, and the devices.
    pub devices: Arc<Devices>,
    /// What may be done yet about devices in the decision that is being made.
    pub effort: Effort,
    /// What each namespace has, where that decides whose turn it is.
    pub usage: Option<Usage>,
    /// Nominated pods waiting for their victims to leave, by uid: node and pod.
    nominated: BTreeMap<String, (String, Arc<Pod>)>,
    /// Uids of pods that are being evicted, which the API need not show yet.
    evicting: BTreeSet<String>,
}

impl Snapshot {
    /// Of an empty cluster, which counts what namespaces have if there is something to count it in.
    pub(crate) fn counting(usage: Option<Usage>) -> Snapshot {
        Snapshot {
            usage,
            ..Snapshot::default()
        }
    }

    /// Nothing but what is known of devices, for whoever asks only about these while the rest is changed.
    pub(crate) fn with_devices_only(&self) -> Snapshot {
        Snapshot {
            devices: self.devices.clone(),
            effort: self.effort.clone(),
            ..Snapshot::default()
        }
    }

    /// Nodes that are there, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        let infos = self.slot_of_node.values().map(|slot| self.slot(*slot));
        infos.filter(|info| info.node.is_some())
    }

    /// The node in a slot, which may be there or not.
    pub(crate) fn slot(&self, slot: u32) -> &NodeInfo {
        &self.slots[slot as usize]
    }

    /// Where the node stands, if it is there or pods are known on it.
    pub(crate) fn slot_of(&self, name: &str) -> Option<u32> {
        self.slot_of_node.get(name).copied()
    }

    /// One more than the largest slot.
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// Which slots have changed.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether any placed pod has affinity of any kind.
    pub(crate) fn any_affinity(&self) -> bool {
        !self.with_affinity.is_empty()
    }

    /// One node that is there.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        let slot = self.slot_of_node.get(name)?;
        Some(self.slot(*slot)).filter(|info| info.node.is_some())
    }

    /// How many nodes are there.
    pub fn node_count(&self) -> usize {
        self.nodes_present
    }

    /// On how many nodes this image is.
    pub fn image_node_count(&self, image: &str) -> i64 {
        self.image_nodes.get(image).copied().unwrap_or(0)
    }

    /// Placed pods with affinity of any kind, each with its node.
    pub fn pods_with_affinity(&self) -> impl Iterator<Item = (&NodeInfo, &Arc<Pod>)> {
        self.with_affinity.iter().filter_map(|uid| {
            let info = self.slot(*self.slot_of_pod.get(uid)?);
            Some((info, info.pods.get(uid)?))
        })
    }

    /// Labels of a namespace, if it is known.
    pub fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }

    /// The selector by which the pod is spread by default: that of its controller and of every Service that selects
    /// it, all together. `None` when nothing selects it.
    pub fn default_spread_selector(&self, pod: &Pod) -> Option<LabelSelector> {
        let mut combined = LabelSelector::default();
        let from = (pod.namespace.clone(), String::new());
        let of_namespace = self
            .services
            .range(from..)
            .take_while(|((namespace, _), _)| *namespace == pod.namespace);
        for (_, selector) in of_namespace {
            if !selector.is_empty() && selector.matches(&pod.labels) {
                combined = combined.and(selector);
            }
        }
        if let Some(selector) = pod
            .controller_uid
            .as_ref()
            .and_then(|uid| self.owners.get(uid))
        {
            combined = combined.and(selector);
        }
        (!combined.is_empty()).then_some(combined)
    }

    /// A node appeared or changed.
    pub fn set_node(&mut self, node: Arc<Node>) {
        self.forget_images(&node.name.clone());
        for image in node.images.keys() {
            *self.image_nodes.entry(image.clone()).or_default() += 1;
        }
        let slot = self.slot_for(&node.name);
        if let Some(usage) = &mut self.usage {
            let old = self.slots[slot as usize].node.as_deref();
            usage.set_node(old, Some(&node));
        }
        let info = self.change(slot);
        let new = info.node.replace(node).is_none();
        self.nodes_present += usize::from(new);
    }

    /// The slot of a node that is there, or may come.
    fn slot_for(&mut self, name: &str) -> u32 {
        if let Some(slot) = self.slot_of_node.get(name) {
            return *slot;
        }
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.slots.push(NodeInfo::default());
            self.slots.len() as u32 - 1
        });
        self.slot_of_node.insert(name.to_string(), slot);
        slot
    }

    /// The node in a slot, for a change.
    fn change(&mut self, slot: u32) -> &mut NodeInfo {
        self.journal.note(slot);
        &mut self.slots[slot as usize]
    }

    /// Gives the slot of a node back if nothing is known of it any more.
    fn free_if_empty(&mut self, name: &str, slot: u32) {
        if self.slots[slot as usize].is_empty() {
            self.slots[slot as usize] = NodeInfo::default();
            self.slot_of_node.remove(name);
            self.free_slots.push(slot);
        }
    }

    /// A node went away; its pods stay known until they go.
    pub fn remove_node(&mut self, name: &str) {
        self.forget_images(name);
        let Some(slot) = self.slot_of_node.get(name).copied() else {
            return;
        };
        let old = self.change(slot).node.take();
        let was_there = old.is_some();
        if let Some(usage) = &mut self.usage {
            usage.set_node(old.as_deref(), None);
        }
        self.nodes_present -= usize::from(was_there);
        self.free_if_empty(name, slot);
    }

    fn forget_images(&mut self, node: &str) {
        let Some(old) = self.node(node).and_then(|info| info.node.clone()) else {
            return;
        };
        for image in old.images.keys() {
            if let Some(count) = self.image_nodes.get_mut(image) {
                *count -= 1;
                if *count == 0 {
                    self.image_nodes.remove(image);
                }
            }
        }
    }

    /// The API shows this pod on a node: adds it, replaces what was known, and confirms an assumption.
    pub fn set_pod(&mut self, pod: Arc<Pod>) {
        if self.renew(&pod) {
            return;
        }
        self.remove_pod(&pod.uid);
        let node = pod.node_name.clone();
        self.place(&node, pod);
    }

    /// Takes the newer state of a pod that stands where it stood and counts for what it counted for. A pod that starts
    /// changes three times, and each time all that was counted on its node would have to be counted again for every class.
    fn renew(&mut self, pod: &Arc<Pod>) -> bool {
        let Some(slot) = self.slot_of_pod.get(&pod.uid) else {
            return false;
        };
        if self.slot_of_node.get(&pod.node_name) != Some(slot) {
            return false;
        }
        let info = &mut self.slots[*slot as usize];
        let Some(known) = info.pods.get_mut(&pod.uid) else {
            return false;
        };
        if !pod.counts_as(known) {
            return false;
        }
        *known = pod.clone();
        let mut with_affinity = info.with_affinity.iter_mut();
        if let Some(known) = with_affinity.find(|other| other.uid == pod.uid) {
            *known = pod.clone();
        }
        self.assumed.remove(&pod.uid);
        self.nominated.remove(&pod.uid);
        true
    }

    /// Whether the pod occupies a node, assumed or confirmed.
    pub fn holds(&self, uid: &str) -> bool {
        self.slot_of_pod.contains_key(uid)
    }

    /// A pod that occupies a node.
    pub(crate) fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        let slot = self.slot_of_pod.get(uid)?;
        self.slot(*slot).pods.get(uid)
    }

    /// The node that a pod occupies.
    pub(crate) fn node_of(&self, uid: &str) -> Option<&str> {
        let slot = self.slot_of_pod.get(uid)?;
        let mut names = self.slot_of_node.iter();
        let info = self.slot(*slot);
        match &info.node {
            Some(node) => Some(&node.name),
            None => names
                .find(|(_, other)| *other == slot)
                .map(|(name, _)| name.as_str()),
        }
    }

    /// Takes the pod away, assumed or confirmed.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<Pod>> {
        self.assumed.remove(uid);
        self.nominated.remove(uid);
        self.with_affinity.remove(uid);
        let slot = self.slot_of_pod.remove(uid)?;
        let info = self.change(slot);
        let pod = info.remove(uid);
        let empty = info.is_empty();
        if let (Some(usage), Some(pod)) = (&mut self.usage, &pod) {
            usage.remove(pod);
        }
        if empty {
            // Without a node the name is in none but this table.
            let name = self.slot_of_node.iter().find(|(_, other)| **other == slot);
            if let Some(name) = name.map(|(name, _)| name.clone()) {
                self.free_if_empty(&name, slot);
            }
        }
        pod
    }

    /// The decision was taken: the pod occupies the node from now on.
    pub fn assume(&mut self, pod: Arc<Pod>, node: &str) {
        self.remove_pod(&pod.uid);
        self.assumed.insert(
            pod.uid.clone(),
            Assumed {
                node: node.to_string(),
                expires: None,
            },
        );
        self.place(node, pod);
    }

    /// It was decided that the pod goes.
    pub(crate) fn begin_eviction(&mut self, uid: &str) {
        self.evicting.insert(uid.to_owned());
    }

    /// The pod is gone, or whoever was to evict it has done what it could.
    pub(crate) fn end_eviction(&mut self, uid: &str) {
        self.evicting.remove(uid);
    }

    /// Whether the pod is on its way out.
    pub(crate) fn is_leaving(&self, pod: &Pod) -> bool {
        pod.deleting || self.evicting.contains(&pod.uid)
    }

    /// Binding has succeeded; the confirmation is due within [`ASSUMED_TTL_MS`].
    pub fn finish_binding(&mut self, uid: &str, now: Millis) {
        if let Some(assumed) = self.assumed.get_mut(uid) {
            assumed.expires = Some(now + ASSUMED_TTL_MS);
        }
    }

    /// Binding has failed: the pod occupies nothing. A confirmed pod is left alone.
    pub fn forget(&mut self, uid: &str) {
        if self.assumed.contains_key(uid) {
            self.remove_pod(uid);
        }
    }

    /// Drops and returns the assumed pods whose confirmation is overdue.
    pub fn expire(&mut self, now: Millis) -> Vec<Arc<Pod>> {
        let overdue = |assumed: &Assumed| assumed.expires.is_some_and(|expires| expires <= now);
        let uids: Vec<String> = self
            .assumed
            .iter()
            .filter(|(_, assumed)| overdue(assumed))
            .map(|(uid, _)| uid.clone())
            .collect();
        uids.iter().filter_map(|uid| self.remove_pod(uid)).collect()
    }

    /// When the next assumption expires.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.assumed
            .values()
            .filter_map(|assumed| assumed.expires)
            .min()
    }

    /// The node an assumed pod waits on.
    pub fn assumed_node(&self, uid: &str) -> Option<&str> {
        self.assumed.get(uid).map(|assumed| assumed.node.as_str())
    }

    /// Keeps room on a node for a pod whose victims are leaving.
    pub fn nominate(&mut self, pod: Arc<Pod>, node: &str) {
        self.nominated
            .insert(pod.uid.clone(), (node.to_string(), pod));
    }

    /// The node where room is kept for the pod.
    pub fn nominated_node(&self, uid: &str) -> Option<&str> {
        self.nominated.get(uid).map(|(node, _)| node.as_str())
    }

    /// Gives up the room that is kept for the pod.
    pub fn withdraw_nomination(&mut self, uid: &str) {
        self.nominated.remove(uid);
    }

    /// Pods of at least this priority, other than `uid`, for which room is kept, by node.
    pub fn nominated_above(
        &self,
        priority: i32,
        uid: &str,
    ) -> impl Iterator<Item = (&str, &Arc<Pod>)> {
        self.nominated
            .iter()
            .filter(move |(other, (_, pod))| other.as_str() != uid && pod.priority >= priority)
            .map(|(_, (node, pod))| (node.as_str(), pod))
    }

    fn place(&mut self, node: &str, pod: Arc<Pod>) {
        if pod.has_affinity() {
            self.with_affinity.insert(pod.uid.clone());
        }
        if let Some(usage) = &mut self.usage {
            usage.add(&pod);
        }
        let slot = self.slot_for(node);
        self.slot_of_pod.insert(pod.uid.clone(), slot);
        self.change(slot).add(pod);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(uid: &str, node: &str) -> Arc<Pod> {
        Arc::new(Pod::compile(&json!({
            "metadata": {"name": uid, "namespace": "default", "uid": uid},
            "spec": {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": "1"}},
                "ports": [{"hostPort": 80}]}]},
        })))
    }

    fn node(name: &str) -> Arc<Node> {
        Arc::new(Node::compile(&json!({
            "metadata": {"name": name},
            "status": {"allocatable": {"cpu": "4", "pods": "10"}, "images": [{"names": ["a:1"], "sizeBytes": 5}]},
        })))
    }

    fn requested(snapshot: &Snapshot, name: &str) -> i64 {
        snapshot.node(name).unwrap().requested.milli_cpu
    }

    #[test]
    fn an_assumed_pod_occupies_until_forgotten_and_is_confirmed_by_the_watch() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node("n1"));
        snapshot.assume(pod("a", ""), "n1");
        assert_eq!(requested(&snapshot, "n1"), 1000);
        assert!(
            !snapshot
                .node("n1")
                .unwrap()
                .ports_free(&pod("b", "").host_ports)
        );
        snapshot.forget("a");
        assert_eq!(requested(&snapshot, "n1"), 0);
        snapshot.assume(pod("a", ""), "n1");
        snapshot.set_pod(pod("a", "n1"));
        snapshot.forget("a");
        assert_eq!(
            requested(&snapshot, "n1"),
            1000,
            "a confirmed pod is not forgotten"
        );
    }

    #[test]
    fn a_pod_that_only_tells_how_it_fares_does_not_change_its_node() {
        let told = |version: &str, labels: Value| {
            let mut object = json!({
                "metadata": {"name": "a", "namespace": "default", "uid": "a", "resourceVersion": version, "labels": labels},
                "spec": {"nodeName": "n1", "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                    [{"topologyKey": "zone", "labelSelector": {}}]}}},
            });
            object["status"] = json!({"startTime": version, "conditions": [{"type": "PodScheduled", "status": version}]});
            Arc::new(Pod::compile(&object))
        };
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node("n1"));
        let mut first = Pod::clone(&told("1", json!({})));
        first.node_name.clear();
        snapshot.assume(Arc::new(first), "n1");
        let before = snapshot.journal().end();
        snapshot.set_pod(told("2", json!({})));
        assert_eq!(snapshot.journal().end(), before);
        assert_eq!(snapshot.assumed_node("a"), None, "it is confirmed");
        assert_eq!(snapshot.pod("a").unwrap().started, "2");
        let (_, known) = snapshot.pods_with_affinity().next().unwrap();
        assert_eq!(known.started, "2");
        assert_eq!(
            snapshot.node("n1").unwrap().pods_with_affinity()[0].started,
            "2"
        );
        snapshot.set_pod(told("3", json!({"app": "web"})));
        assert!(snapshot.journal().end() > before);
        assert_eq!(snapshot.pod("a").unwrap().started, "3");
    }

    #[test]
    fn sums_beyond_all_numbers_are_right_again_when_their_pods_are_gone() {
        let asking = |uid: &str, memory: &str| {
            Arc::new(Pod::compile(&json!({
                "metadata": {"name": uid, "namespace": "default", "uid": uid},
                "spec": {"nodeName": "n1", "containers": [{"resources": {"requests": {"cpu": "1", "memory": memory, "x/y": "9E"}}}]},
            })))
        };
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node("n1"));
        for pod in [asking("a", "1Gi"), asking("b", "8E"), asking("c", "8E")] {
            snapshot.set_pod(pod);
        }
        snapshot.remove_pod("b");
        snapshot.remove_pod("c");
        let info = snapshot.node("n1").unwrap();
        assert_eq!(info.requested, asking("a", "1Gi").requests);
        assert_eq!(info.scored, asking("a", "1Gi").scored);
    }

    #[test]
    fn an_assumption_expires_only_after_binding_has_finished() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node("n1"));
        snapshot.assume(pod("a", ""), "n1");
        assert!(snapshot.expire(u64::MAX).is_empty());
        snapshot.finish_binding("a", 10);
        assert_eq!(snapshot.next_expiry(), Some(10 + ASSUMED_TTL_MS));
        assert!(snapshot.expire(ASSUMED_TTL_MS).is_empty());
        assert_eq!(snapshot.expire(10 + ASSUMED_TTL_MS).len(), 1);
        assert_eq!(requested(&snapshot, "n1"), 0);
    }

    #[test]
    fn a_pod_that_moves_or_a_node_that_goes_leaves_nothing_behind() {
        let mut snapshot = Snapshot::default();
        snapshot.set_node(node("n1"));
        snapshot.set_node(node("n2"));
        assert_eq!(snapshot.image_node_count("a:1"), 2);
        snapshot.set_pod(pod("a", "n1"));
        snapshot.set_pod(pod("a", "n2"));
        assert_eq!(
            (requested(&snapshot, "n1"), requested(&snapshot, "n2")),
            (0, 1000)
        );
        snapshot.remove_node("n2");
        assert_eq!(
            (snapshot.node_count(), snapshot.image_node_count("a:1")),
            (1, 1)
        );
        snapshot.set_node(node("n2"));
        assert_eq!(
            requested(&snapshot, "n2"),
            1000,
            "pods outlive their node's absence"
        );
        snapshot.remove_pod("a");
        snapshot.remove_node("n2");
        assert_eq!(snapshot.slot_of_node.len(), 1);
        snapshot.set_node(node("n3"));
        assert_eq!(snapshot.slots.len(), 2, "the slot is used again");
    }
}
