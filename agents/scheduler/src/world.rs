//! What the loop knows: the snapshot, the queue, and the objects as they were last applied to both. Pure; each method
//! takes one change and says nothing to anybody.

mod devices;
mod pods;
mod pressure;
mod rooms;

pub(crate) use rooms::Rooms;

use crate::config::{Config, Profile};
use crate::extender::Asked;
use crate::gang;
use crate::object::{Node, Pod};
use crate::plan::Plan;
use crate::plugins::{Change, VolumeChange};
use crate::preempt::Budget;
use crate::queue::{Queue, Queued};
use crate::selector::{LabelSelector, Labels};
use crate::shares::Usage;
use crate::snapshot::{Millis, Snapshot};
use crate::volume::Volumes;
use crate::volume::object::{Attachment, Capacity, Claim, Class, CsiNode, Driver, Volume};
use agent_runtime::timestamp::Micros;
use host::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Namespace and name.
pub type Name = (String, String);

/// What was counted for decisions is kept for so long after the last one. For a hundred owners of pods and thousands of nodes it
/// is some tens of megabytes.
const KEPT_MS: Millis = 30_000;

/// See the module head.
pub struct World {
    /// Whose pods are ours, and what holds for them.
    pub config: Arc<Config>,
    /// The cluster.
    pub snapshot: Snapshot,
    /// Pods that wait.
    pub queue: Queue,
    /// PodDisruptionBudgets.
    pub budgets: BTreeMap<Name, Arc<Budget>>,
    /// What extenders have said of the pods of the group that is being decided about, by uid.
    pub(crate) asked: BTreeMap<String, Asked>,
    pods: pods::Pods,
    nodes: HashMap<String, Arc<Node>>,
    /// By which what nodes say of themselves gets old.
    clock: Micros,
    /// When what a node has said of the pressure on it counts no more.
    expiries: BTreeSet<(Micros, String)>,
    /// Whether any profile goes by that.
    heeds_pressure: bool,
    /// Which owner a selector in the snapshot is of, by source and name.
    owner_uids: HashMap<(&'static str, Name), String>,
    /// Pods whose claims on devices are not there yet.
    kept_out: devices::KeptOut,
    /// When the last pod was taken to be scheduled.
    popped: Millis,
}

impl World {
    /// An empty world. A pod is ours if its `spec.schedulerName` names one of the profiles.
    pub fn new(config: Arc<Config>) -> World {
        let usage = config.sort.by_share.then(Usage::default);
        let heeds_pressure = config.profiles().any(|profile| profile.heeds_pressure());
        World {
            snapshot: Snapshot::counting(usage),
            clock: 0,
            expiries: BTreeSet::new(),
            heeds_pressure,
            queue: Queue::new(config.clone()),
            budgets: BTreeMap::new(),
            asked: BTreeMap::new(),
            pods: pods::Pods::default(),
            nodes: HashMap::default(),
            owner_uids: HashMap::default(),
            kept_out: devices::KeptOut::default(),
            popped: 0,
            config,
        }
    }

    /// The pod as last applied, if this incarnation is still there.
    pub fn pod(&self, pod: &Pod) -> Option<&Arc<Pod>> {
        let known = self.pods.get(&pod.namespace, &pod.name)?;
        (known.uid == pod.uid).then_some(known)
    }

    /// The next pod to schedule. Where there has been none for some time, what was counted for others is forgotten.
    pub fn pop(&mut self, now: Millis) -> Option<Queued> {
        self.settle_shares();
        let next = self.queue.pop(now);
        if next.is_some() {
            self.popped = now;
        } else if now.saturating_sub(self.popped) >= KEPT_MS {
            self.snapshot.kept.clear();
        }
        next
    }

    /// Tells the queue what has changed in the shares of namespaces.
    fn settle_shares(&mut self) {
        let (Some(usage), Some(args)) = (&mut self.snapshot.usage, self.config.shares()) else {
            return;
        };
        for namespace in usage.take_changed() {
            let labels = self.snapshot.namespaces.get(&namespace);
            let (share, _) = usage.share(&namespace, args.weight(&namespace, labels));
            self.queue.set_share(&namespace, share);
        }
    }

    /// How many pods of the group have a node, as the API says or as was decided.
    pub fn placed_of(&self, key: &gang::Key) -> usize {
        let members = self.queue.members().of(key);
        members
            .filter(|(uid, placed)| *placed || self.snapshot.holds(uid))
            .count()
    }

    /// Whether as many pods of the group have a node as have to.
    pub fn is_gang_placed(&self, key: &gang::Key) -> bool {
        self.placed_of(key) >= self.queue.members().min_count(key)
    }

    /// How many of these pods of the group, which have a node that nobody else knows of, have to get it for the group to be
    /// whole.
    pub(crate) fn needed_of<'a>(
        &self,
        key: &gang::Key,
        uids: impl Iterator<Item = &'a str>,
    ) -> usize {
        let these = uids.filter(|uid| self.snapshot.holds(uid)).count();
        let others = self.placed_of(key).saturating_sub(these);
        let min_count = self.queue.members().min_count(key);
        min_count.saturating_sub(others)
    }

    /// A decision was not meant: the pod occupies nothing, and its volumes and devices are free.
    pub(crate) fn take_back(&mut self, pod: &Pod, plan: &Plan) {
        plan.revert(&mut self.snapshot);
        self.snapshot.forget(&pod.uid);
    }

    /// A pod is now like this, or gone.
    pub fn set_pod(&mut self, name: Name, new: Option<Arc<Pod>>, now: Millis) {
        let old = self.pods.set(name, new.clone());
        let same = old
            .as_ref()
            .zip(new.as_ref())
            .is_some_and(|(old, new)| old.uid == new.uid);
        if let Some(old) = old.as_ref().filter(|_| !same) {
            self.take_away(old, now);
        }
        let Some(new) = new else { return };
        let old = old.filter(|_| same);
        if let Some(old) = old.as_ref().filter(|old| old.group != new.group) {
            self.queue.member_gone(old);
        }
        if new.finished {
            self.take_away(&new, now);
            if new.succeeded {
                self.queue.member_placed(&new, now);
            }
        } else if !new.node_name.is_empty() {
            self.placed(old, new, now);
        } else if self.config.profile(&new).is_some() {
            self.waiting(old, new, now);
        }
    }

    /// It no longer waits or occupies anything.
    fn take_away(&mut self, pod: &Arc<Pod>, now: Millis) {
        self.queue.remove(&pod.uid);
        self.kept_out.forget(&pod.uid);
        self.queue.member_gone(pod);
        self.give_up_rooms(pod, now);
        self.give_up_room(&pod.uid, now);
        self.snapshot.end_eviction(&pod.uid);
        if let Some(placed) = self.snapshot.remove_pod(&pod.uid) {
            self.queue.wake(&Change::PodGone(placed), now);
        }
    }

    fn placed(&mut self, old: Option<Arc<Pod>>, new: Arc<Pod>, now: Millis) {
        self.queue.remove(&new.uid);
        self.kept_out.forget(&new.uid);
        self.snapshot.set_pod(new.clone());
        match new.deleting {
            true => self.queue.member_gone(&new),
            false => self.queue.member_placed(&new, now),
        }
        let news = match &old {
            Some(old) if old.node_name == new.node_name => {
                (old.labels != new.labels).then(|| Change::PodRelabelled(new.clone()))
            }
            _ => Some(Change::PodPlaced(new.clone())),
        };
        // One that asks for another amount than before may have left some of it to others, whatever else changed with it.
        let resized = old.filter(|old| !old.node_name.is_empty() && old.requests != new.requests);
        if let Some(news) = news {
            self.queue.wake(&news, now);
        }
        if let Some(old) = resized {
            self.queue.wake(&Change::PodGone(old), now);
        }
    }

    fn waiting(&mut self, old: Option<Arc<Pod>>, new: Arc<Pod>, now: Millis) {
        if new.deleting {
            self.queue.remove(&new.uid);
            self.kept_out.forget(&new.uid);
            self.queue.member_gone(&new);
            self.give_up_rooms(&new, now);
            self.give_up_room(&new.uid, now);
            return;
        }
        if self.snapshot.assumed_node(&new.uid).is_some() {
            return;
        }
        if !new.nominated_node.is_empty() {
            self.keep_room(new.clone(), &new.nominated_node, now);
        } else if old.is_some_and(|old| !old.nominated_node.is_empty()) {
            self.give_up_room(&new.uid, now);
        }
        self.look_for_claims(&new);
        self.queue.set(new, now);
    }

    /// A node is now like this, or gone.
    pub fn set_node(&mut self, name: &str, new: Option<Arc<Node>>, now: Millis) {
        let Some(new) = new else {
            self.forget_pressure(name);
            if self.nodes.remove(name).is_some() {
                self.snapshot.remove_node(name);
                self.queue.wake(&Change::NodeRemoved, now);
            }
            return;
        };
        let new = self.heard(name, new);
        self.put_node(name, new, now);
    }

    fn put_node(&mut self, name: &str, new: Arc<Node>, now: Millis) {
        let old = self.nodes.insert(name.to_string(), new.clone());
        if old.as_ref().is_some_and(|old| **old == *new) {
            return;
        }
        self.snapshot.set_node(new.clone());
        let change = match old {
            Some(old) => Change::NodeUpdated { old, new },
            None => Change::NodeAdded(new),
        };
        self.queue.wake(&change, now);
    }

    /// A namespace now has these labels, or is gone.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>, now: Millis) {
        let before = self.snapshot.namespace_labels(name);
        if before == labels.as_ref() {
            return;
        }
        match labels {
            Some(labels) => drop(self.snapshot.namespaces.insert(name.to_string(), labels)),
            None => drop(self.snapshot.namespaces.remove(name)),
        }
        if let Some(usage) = &mut self.snapshot.usage {
            usage.note(name);
        }
        self.queue.wake(&Change::Namespace, now);
    }

    /// A Service now selects so, or is gone.
    pub fn set_service(&mut self, name: Name, selector: Option<LabelSelector>) {
        match selector {
            Some(selector) => drop(self.snapshot.services.insert(name, selector)),
            None => drop(self.snapshot.services.remove(&name)),
        }
    }

    /// An owner of pods now has this uid and selector, or is gone. `kind` keeps equal names of several kinds apart.
    pub fn set_owner(
        &mut self,
        kind: &'static str,
        name: Name,
        owner: Option<(&str, Option<&LabelSelector>)>,
    ) {
        if let Some(uid) = self.owner_uids.remove(&(kind, name.clone())) {
            self.snapshot.owners.remove(&uid);
        }
        if let Some((uid, Some(selector))) = owner {
            self.snapshot
                .owners
                .insert(uid.to_string(), selector.clone());
            self.owner_uids.insert((kind, name), uid.to_string());
        }
    }

    /// A budget is now like this, or gone.
    pub fn set_budget(&mut self, name: Name, budget: Option<Arc<Budget>>) {
        match budget {
            Some(budget) => drop(self.budgets.insert(name, budget)),
            None => drop(self.budgets.remove(&name)),
        }
    }

    fn volumes(&mut self) -> &mut Volumes {
        Arc::make_mut(&mut self.snapshot.volumes)
    }

    fn wake_by(&mut self, change: VolumeChange, now: Millis) {
        self.queue.wake(&Change::Volumes(change), now);
    }

    /// A claim is now like this, or gone.
    pub fn set_claim(&mut self, name: Name, new: Option<Arc<Claim>>, now: Millis) {
        let there = new.is_some();
        let old = self.volumes().set_claim(name.clone(), new);
        if there {
            let (namespace, name) = name;
            let new = old.is_none();
            let change = VolumeChange::Claim {
                namespace,
                name,
                new,
            };
            self.wake_by(change, now);
        }
    }

    /// A volume is now like this, or gone.
    pub fn set_volume(&mut self, name: &str, new: Option<Arc<Volume>>, now: Millis) {
        let old = self.volumes().set_volume(name, new.clone());
        if let Some(new) = new {
            self.wake_by(VolumeChange::Volume { old, new }, now);
        }
    }

    /// A class is now like this, or gone.
    pub fn set_class(&mut self, name: &str, new: Option<Arc<Class>>, now: Millis) {
        if let (old, Some(new)) = put(&mut self.volumes().classes, name.to_owned(), new) {
            self.wake_by(VolumeChange::Class { old, new }, now);
        }
    }

    /// What drivers say of a node is now this, or nothing.
    pub fn set_csi_node(&mut self, name: &str, new: Option<Arc<CsiNode>>, now: Millis) {
        if let (old, Some(new)) = put(&mut self.volumes().csi_nodes, name.to_owned(), new) {
            self.wake_by(VolumeChange::CsiNode { old, new }, now);
        }
    }

    /// A driver is now like this, or gone.
    pub fn set_driver(&mut self, name: &str, new: Option<Arc<Driver>>, now: Millis) {
        let (old, new) = put(&mut self.volumes().drivers, name.to_owned(), new);
        let tells =
            |driver: &Option<Arc<Driver>>| driver.as_ref().is_some_and(|d| d.tells_capacity);
        if tells(&old) && !tells(&new) {
            self.wake_by(VolumeChange::DriverStopsTelling, now);
        }
    }

    /// The room for volumes of a class is now this, or nothing.
    pub fn set_capacity(&mut self, name: Name, new: Option<Arc<Capacity>>, now: Millis) {
        let (old, new) = put(&mut self.volumes().capacities, name, new);
        let Some(new) = new else { return };
        if old.is_none_or(|old| new.largest > old.largest) {
            self.wake_by(VolumeChange::MoreRoom, now);
        }
    }

    /// An attachment is now like this, or gone.
    pub fn set_attachment(&mut self, name: &str, new: Option<Arc<Attachment>>, now: Millis) {
        let gone = new.is_none();
        let old = self.volumes().set_attachment(name, new);
        if let Some(old) = old.filter(|_| gone) {
            let node = old.node.clone();
            self.wake_by(VolumeChange::Detached { node }, now);
        }
    }

    /// What has to be written before the pod can be bound to a node that was found to do.
    pub fn plan(&self, pod: &Pod, node: &str, profile: &Profile) -> Plan {
        Plan::of(&self.snapshot, pod, node, profile)
    }

    /// Binding failed: the room is free again, and the pod tries again unless it is gone or placed by now.
    pub fn binding_failed(&mut self, mut queued: Queued, now: Millis) {
        let assumed = self.snapshot.assumed_node(&queued.pod.uid).is_some();
        self.snapshot.forget(&queued.pod.uid);
        if assumed {
            self.queue.wake(&Change::PodGone(queued.pod.clone()), now);
        }
        let still_waits =
            |pod: &&Arc<Pod>| pod.node_name.is_empty() && !pod.deleting && !pod.finished;
        if let Some(latest) = self.pod(&queued.pod).filter(still_waits) {
            queued.pod = latest.clone();
            self.queue.retry(queued, now);
        }
    }

    /// Gives up assumptions whose confirmation never came; a pod that still waits is queued again.
    pub fn expire(&mut self, now: Millis) {
        for expired in self.snapshot.expire(now) {
            let latest = self.pod(&expired).cloned();
            self.queue.wake(&Change::PodGone(expired), now);
            if let Some(pod) =
                latest.filter(|pod| pod.node_name.is_empty() && !pod.deleting && !pod.finished)
            {
                self.queue.set(pod, now);
            }
        }
    }

    /// When something is due without any change from outside.
    pub fn next_wakeup(&self) -> Option<Millis> {
        self.queue
            .next_wakeup()
            .into_iter()
            .chain(self.snapshot.next_expiry())
            .min()
    }
}

/// Puts or takes away an entry; gives back what it was and what it is.
fn put<K: Ord, V>(
    map: &mut BTreeMap<K, Arc<V>>,
    key: K,
    new: Option<Arc<V>>,
) -> (Option<Arc<V>>, Option<Arc<V>>) {
    let old = match &new {
        Some(value) => map.insert(key, value.clone()),
        None => map.remove(&key),
    };
    (old, new)
}

#[cfg(test)]
mod tests;
