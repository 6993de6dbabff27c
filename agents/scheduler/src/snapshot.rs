//! The cluster as the scheduler believes it to be: nodes with the pods on them, kept current change by change, and the
//! pods that it has *assumed* onto a node before the API says so.
//!
//! An assumed pod occupies its node from the moment of the decision, or the next decision would give the same room
//! away again. It is confirmed when the watch shows the pod on its node, forgotten when binding fails, and expires
//! when the confirmation does not come.

mod by_uid;
mod decided;
mod node_info;

pub use by_uid::Occupants;
pub use node_info::NodeInfo;

use crate::classes::{Journal, Kept};
use crate::devices::Devices;
use crate::devices::effort::Effort;
use crate::object::{Node, Pod};
use crate::selector::{LabelSelector, Labels};
use crate::shares::Usage;
use crate::tracked::Tracked;
use crate::volume::Volumes;
use by_uid::Slots;
use decided::Assumed;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Milliseconds since the scheduler started.
pub type Millis = u64;

/// How long after a finished binding the watch may take to show it.
pub const ASSUMED_TTL_MS: Millis = 60_000;

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
    slot_of_pod: Slots,
    assumed: BTreeMap<String, Assumed>,
    /// None of them expires before; `None` if none does.
    first_expiry: Option<Millis>,
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
            let info = self.slot(self.slot_of_pod.of(uid)?);
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
        let Some((known, slot)) = self.slot_of_pod.get(&pod.uid) else {
            return false;
        };
        if self.slot_of_node.get(&pod.node_name) != Some(&slot) || !pod.counts_as(known) {
            return false;
        }
        let info = &mut self.slots[slot as usize];
        if !info.pods.renew(known, pod.clone()) {
            return false;
        }
        let mut with_affinity = info.with_affinity.iter_mut();
        if let Some(known) = with_affinity.find(|other| other.uid == pod.uid) {
            *known = pod.clone();
        }
        self.slot_of_pod.set(pod.clone(), slot);
        self.assumed.remove(&pod.uid);
        self.nominated.remove(&pod.uid);
        true
    }

    /// Whether the pod occupies a node, assumed or confirmed.
    pub fn holds(&self, uid: &str) -> bool {
        self.slot_of_pod.of(uid).is_some()
    }

    /// A pod that occupies a node.
    pub(crate) fn pod(&self, uid: &str) -> Option<&Arc<Pod>> {
        let slot = self.slot_of_pod.of(uid)?;
        self.slot(slot).pods.get(uid)
    }

    /// The node that a pod occupies.
    pub(crate) fn node_of(&self, uid: &str) -> Option<&str> {
        let slot = self.slot_of_pod.of(uid)?;
        let mut names = self.slot_of_node.iter();
        let info = self.slot(slot);
        match &info.node {
            Some(node) => Some(&node.name),
            None => names
                .find(|(_, other)| **other == slot)
                .map(|(name, _)| name.as_str()),
        }
    }

    /// Takes the pod away, assumed or confirmed.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<Pod>> {
        self.assumed.remove(uid);
        self.nominated.remove(uid);
        self.with_affinity.remove(uid);
        let slot = self.slot_of_pod.remove(uid)?;
        let info = &mut self.slots[slot as usize];
        let pod = info.remove(uid);
        let empty = info.is_empty();
        match &pod {
            Some(pod) => self.journal.note_pod(slot, &pod.labels),
            None => self.journal.note(slot),
        }
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

    fn place(&mut self, node: &str, pod: Arc<Pod>) {
        if pod.has_affinity() {
            self.with_affinity.insert(pod.uid.clone());
        }
        if let Some(usage) = &mut self.usage {
            usage.add(&pod);
        }
        let slot = self.slot_for(node);
        self.slot_of_pod.set(pod.clone(), slot);
        self.journal.note_pod(slot, &pod.labels);
        self.slots[slot as usize].add(pod);
    }
}

#[cfg(test)]
mod tests;
