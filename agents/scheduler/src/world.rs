//! What the loop knows: the snapshot, the queue, and the objects as they were last applied to both. Pure; each method
//! takes one change and says nothing to anybody.

use crate::object::{Node, Pod};
use crate::plugins::Change;
use crate::preempt::Budget;
use crate::queue::{Queue, Queued};
use crate::selector::{LabelSelector, Labels};
use crate::snapshot::{Millis, Snapshot};
use host::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Namespace and name.
pub type Name = (String, String);

/// See the module head.
pub struct World {
    /// Whose pods are ours.
    scheduler_name: String,
    /// The cluster.
    pub snapshot: Snapshot,
    /// Pods that wait.
    pub queue: Queue,
    /// PodDisruptionBudgets.
    pub budgets: BTreeMap<Name, Arc<Budget>>,
    pods: HashMap<Name, Arc<Pod>>,
    nodes: HashMap<String, Arc<Node>>,
    /// Which owner a selector in the snapshot is of, by source and name.
    owner_uids: HashMap<(&'static str, Name), String>,
}

impl World {
    /// An empty world; `scheduler_name` is what a pod's `spec.schedulerName` must be for us to take it.
    pub fn new(scheduler_name: &str) -> World {
        World {
            scheduler_name: scheduler_name.into(),
            snapshot: Snapshot::default(),
            queue: Queue::default(),
            budgets: BTreeMap::new(),
            pods: HashMap::default(),
            nodes: HashMap::default(),
            owner_uids: HashMap::default(),
        }
    }

    /// The pod as last applied, if this incarnation is still there.
    pub fn pod(&self, pod: &Pod) -> Option<&Arc<Pod>> {
        let known = self.pods.get(&(pod.namespace.clone(), pod.name.clone()))?;
        (known.uid == pod.uid).then_some(known)
    }

    /// A pod is now like this, or gone.
    pub fn set_pod(&mut self, name: Name, new: Option<Arc<Pod>>, now: Millis) {
        let old = match &new {
            Some(pod) => self.pods.insert(name, pod.clone()),
            None => self.pods.remove(&name),
        };
        let same = old
            .as_ref()
            .zip(new.as_ref())
            .is_some_and(|(old, new)| old.uid == new.uid);
        if let Some(old) = old.as_ref().filter(|_| !same) {
            self.take_away(old, now);
        }
        let Some(new) = new else { return };
        let old = old.filter(|_| same);
        if new.finished {
            self.take_away(&new, now);
        } else if !new.node_name.is_empty() {
            self.placed(old, new, now);
        } else if new.scheduler_name == self.scheduler_name {
            self.waiting(old, new, now);
        }
    }

    /// It no longer waits or occupies anything.
    fn take_away(&mut self, pod: &Arc<Pod>, now: Millis) {
        self.queue.remove(&pod.uid);
        if let Some(placed) = self.snapshot.remove_pod(&pod.uid) {
            self.queue.wake(&Change::PodGone(placed), now);
        }
    }

    fn placed(&mut self, old: Option<Arc<Pod>>, new: Arc<Pod>, now: Millis) {
        self.queue.remove(&new.uid);
        self.snapshot.set_pod(new.clone());
        let news = old
            .as_ref()
            .is_none_or(|old| old.node_name != new.node_name || old.labels != new.labels);
        if news {
            self.queue.wake(&Change::PodPlaced(new), now);
        } else if let Some(old) = old.filter(|old| old.requests != new.requests) {
            self.queue.wake(&Change::PodGone(old), now);
        }
    }

    fn waiting(&mut self, old: Option<Arc<Pod>>, new: Arc<Pod>, now: Millis) {
        if new.deleting {
            self.queue.remove(&new.uid);
            self.snapshot.withdraw_nomination(&new.uid);
            return;
        }
        if self.snapshot.assumed_node(&new.uid).is_some() {
            return;
        }
        if !new.nominated_node.is_empty() {
            self.snapshot.nominate(new.clone(), &new.nominated_node);
        } else if old.is_some_and(|old| !old.nominated_node.is_empty()) {
            self.snapshot.withdraw_nomination(&new.uid);
        }
        self.queue.set(new, now);
    }

    /// A node is now like this, or gone.
    pub fn set_node(&mut self, name: &str, new: Option<Arc<Node>>, now: Millis) {
        let Some(new) = new else {
            if self.nodes.remove(name).is_some() {
                self.snapshot.remove_node(name);
                self.queue.wake(&Change::NodeRemoved, now);
            }
            return;
        };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::testing::node;
    use crate::snapshot::ASSUMED_TTL_MS;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn pod(name: &str, uid: &str, on: &str) -> Arc<Pod> {
        Arc::new(Pod::compile(&json!({
            "metadata": {"name": name, "namespace": "default", "uid": uid},
            "spec": {"nodeName": on, "containers": [{"resources": {"requests": {"cpu": "1"}}}]},
        })))
    }

    fn name(name: &str) -> Name {
        ("default".into(), name.into())
    }

    fn world() -> World {
        let mut world = World::new("default-scheduler");
        world.set_node("n", Some(Arc::new(node("n", json!({}), json!({})))), 0);
        world
    }

    fn used(world: &World) -> i64 {
        world.snapshot.node("n").unwrap().requested.milli_cpu
    }

    #[test]
    fn a_pod_is_queued_assumed_confirmed_and_gone() {
        let mut world = world();
        world.set_pod(name("p"), Some(pod("p", "u", "")), 0);
        let queued = world.queue.pop(0).unwrap();
        world.snapshot.assume(queued.pod.clone(), "n");
        world.set_pod(name("p"), Some(pod("p", "u", "")), 1);
        assert!(
            world.queue.is_empty(),
            "an assumed pod does not come back into the queue"
        );
        world.set_pod(name("p"), Some(pod("p", "u", "n")), 2);
        assert_eq!(used(&world), 1000);
        world.set_pod(name("p"), None, 3);
        assert_eq!(used(&world), 0);
    }

    #[test]
    fn a_new_incarnation_under_the_old_name_replaces_the_old() {
        let mut world = world();
        world.set_pod(name("p"), Some(pod("p", "u1", "n")), 0);
        world.set_pod(name("p"), Some(pod("p", "u2", "")), 1);
        assert_eq!(used(&world), 0);
        assert_eq!(world.queue.pop(1).unwrap().pod.uid, "u2");
    }

    #[test]
    fn failed_binding_frees_the_room_and_tries_again_unless_the_pod_is_gone() {
        let mut world = world();
        world.set_pod(name("p"), Some(pod("p", "u", "")), 0);
        let queued = world.queue.pop(0).unwrap();
        world.snapshot.assume(queued.pod.clone(), "n");
        world.binding_failed(queued, 10);
        assert_eq!((used(&world), world.queue.next_wakeup()), (0, Some(1010)));
        let queued = world.queue.pop(1010).unwrap();
        world.snapshot.assume(queued.pod.clone(), "n");
        world.set_pod(name("p"), None, 1011);
        world.binding_failed(queued, 1012);
        assert!(world.queue.is_empty());
    }

    #[test]
    fn an_overdue_assumption_is_given_up() {
        let mut world = world();
        world.set_pod(name("p"), Some(pod("p", "u", "")), 0);
        let queued = world.queue.pop(0).unwrap();
        world.snapshot.assume(queued.pod.clone(), "n");
        world.snapshot.finish_binding("u", 5);
        assert_eq!(world.next_wakeup(), Some(5 + ASSUMED_TTL_MS));
        world.expire(5 + ASSUMED_TTL_MS);
        assert_eq!((used(&world), world.queue.len()), (0, 1));
    }

    #[test]
    fn a_finished_pod_frees_its_room_and_wakes_the_refused() {
        let mut world = world();
        world.set_pod(name("p"), Some(pod("p", "u", "n")), 0);
        world.set_pod(name("q"), Some(pod("q", "v", "")), 0);
        let queued = world.queue.pop(0).unwrap();
        world
            .queue
            .park(queued, BTreeSet::from(["NodeResourcesFit"]), 0);
        let mut finished = (*pod("p", "u", "n")).clone();
        finished.finished = true;
        world.set_pod(name("p"), Some(Arc::new(finished)), 20_000);
        assert_eq!(used(&world), 0);
        assert_eq!(world.queue.pop(20_000).unwrap().pod.uid, "v");
    }

    #[test]
    fn pods_of_other_schedulers_are_left_alone() {
        let mut world = world();
        let mut foreign = (*pod("p", "u", "")).clone();
        foreign.scheduler_name = "other".into();
        world.set_pod(name("p"), Some(Arc::new(foreign)), 0);
        assert!(world.queue.is_empty());
    }
}
