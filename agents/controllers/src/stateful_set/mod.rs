//! StatefulSets: pods that keep their names, and with them their place in DNS and their volumes.
//!
//! A pod is known by its ordinal. In order, one pod is made, replaced or taken at a time, and only while all before it are
//! available; in parallel nobody waits for anybody, except that updates keep to their bound. One reconcile makes one step.

mod claims;
mod identity;
mod replicas;
mod revisions;
mod status;
mod update;

use crate::history;
use crate::manager::{Body, Controller};
use crate::pod_control::{candidates, claim_plan_where};
use crate::replication::{enqueue_owners, until_available};
use crate::world::{Caches, World};
use agent_runtime::kinds::{LabelSelector, ObjectMeta, Pod, StatefulSet};
use agent_runtime::plan::Plan;
use agent_runtime::resource_ref::{CONTROLLER_REVISIONS, PODS, STATEFUL_SETS};
use agent_runtime::{Key, Queue};
use identity::{is_member, member};
use revisions::History;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "statefulset-controller",
    help: "makes the pods of StatefulSets, each with its own name and volumes",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

/// Pods that one reconcile makes or takes at most, where they need not wait for each other.
const BURST: usize = 500;

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .stateful_sets
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let (sets, keys) = (caches.stateful_sets.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        let by_name = |pod: &Pod| {
            let (parent, _) = member(&pod.metadata.name)?;
            sets.get(&pod.metadata.namespace, parent)
        };
        let sides = [change.old.as_ref(), change.new.as_ref()];
        enqueue_owners(&keys, "StatefulSet", sides, |pod| {
            let set = by_name(pod).filter(|set| {
                let selector = selector_of(set);
                selector.is_some_and(|selector| selector.matches(&pod.metadata.labels))
            });
            set.iter().map(|set| Key::of(&set.metadata)).collect()
        });
        if change.new.is_none() {
            // Somebody else's pod may have had the name that a set needs.
            let waiting = by_name(change.latest());
            waiting
                .iter()
                .for_each(|set| keys.add(Key::of(&set.metadata)));
        }
    });
    let (sets, keys) = (caches.stateful_sets.clone(), queue.clone());
    caches.controller_revisions.subscribe(move |change| {
        history::enqueue_owners(&keys, "StatefulSet", change, |meta| {
            let sets = sets.might_select(&meta.namespace, &meta.labels).into_iter();
            sets.filter(|set| selector_of(set).is_some_and(|s| s.matches(&meta.labels)))
                .map(|set| Key::of(&set.metadata))
                .collect()
        });
    });
    let (sets, keys) = (caches.stateful_sets.clone(), queue.clone());
    caches.claims.subscribe(move |change| {
        // A pod may wait for a claim to go, or need another one.
        if change.new.is_none() {
            let claim = &change.latest().metadata;
            claims::sets_of(&claim.name)
                .filter_map(|name| sets.get(&claim.namespace, name))
                .filter(|set| claims::has_claim(set, &claim.name))
                .for_each(|set| keys.add(Key::of(&set.metadata)));
        }
    });
}

fn selector_of(set: &StatefulSet) -> Option<&LabelSelector> {
    set.spec.selector.as_ref().filter(|s| !s.is_empty())
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(set) = world.caches.stateful_sets.by_key(key) else {
        world.forget(key);
        return Plan::none();
    };
    let Some(selector) = selector_of(&set) else {
        return Plan::none();
    };
    let meta = &set.metadata;
    let pods = candidates(&world.caches.pods, meta, selector);
    let named = |pod: &ObjectMeta| selector.matches(&pod.labels) && is_member(&set, pod);
    let pods_meta = pods.iter().map(|pod| &pod.metadata);
    let claims = claim_plan_where(&STATEFUL_SETS, meta, &named, &PODS, pods_meta);
    let revisions = candidates(&world.caches.controller_revisions, meta, selector);
    // A revision that is ours stays ours, whatever its labels.
    let kept = |revision: &ObjectMeta| {
        revision.is_controlled_by(&meta.uid) || selector.matches(&revision.labels)
    };
    let of_revisions = revisions.iter().map(|revision| &revision.metadata);
    let more = claim_plan_where(
        &STATEFUL_SETS,
        meta,
        &kept,
        &CONTROLLER_REVISIONS,
        of_revisions,
    );
    if claims.is_some() || more.is_some() {
        // The changed objects bring this key back.
        return Plan::of(claims.into_iter().chain(more).flatten().collect());
    }
    let mine = |owned: &ObjectMeta| owned.is_controlled_by(&meta.uid);
    let pods = pods.into_iter().filter(|pod| mine(&pod.metadata)).collect();
    let revisions = revisions.into_iter().filter(|r| mine(&r.metadata));
    match revisions::look(&set, revisions.collect(), world) {
        Ok(history) => Replicas::new(&set, key, world, &history, pods).plan(),
        // A set that goes gets no history any more.
        Err(_) if meta.is_deleting() => Plan::none(),
        Err(ops) => Plan::of(ops),
    }
}

/// A StatefulSet and its pods by ordinal.
struct Replicas<'a> {
    set: &'a StatefulSet,
    key: &'a Key,
    world: &'a World,
    history: &'a History,
    /// All of them.
    all: Vec<Arc<Pod>>,
    /// Those that are wanted.
    pods: BTreeMap<i64, Arc<Pod>>,
    /// Those that are not, the highest ordinal first.
    condemned: Vec<(i64, Arc<Pod>)>,
    start: i64,
    count: i64,
}

impl<'a> Replicas<'a> {
    fn new(
        set: &'a StatefulSet,
        key: &'a Key,
        world: &'a World,
        history: &'a History,
        all: Vec<Arc<Pod>>,
    ) -> Self {
        let start = set.spec.ordinals.as_ref().map_or(0, |o| i64::from(o.start));
        let count = i64::from(set.spec.replicas.unwrap_or(1)).max(0);
        let mut pods = BTreeMap::new();
        let mut condemned = Vec::new();
        for pod in &all {
            let Some((_, ordinal)) = member(&pod.metadata.name) else {
                continue;
            };
            if (start..start + count).contains(&ordinal) {
                pods.insert(ordinal, pod.clone());
            } else {
                condemned.push((ordinal, pod.clone()));
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        Self {
            set,
            key,
            world,
            history,
            all,
            pods,
            condemned,
            start,
            count,
        }
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan::none();
        plan.ops.extend(self.status_op());
        let min_ready = self.set.spec.min_ready_seconds.into();
        if let Some(delay) = until_available(&self.all, min_ready, self.world.now) {
            plan.again(delay);
        }
        if !self.set.metadata.is_deleting() {
            self.work(&mut plan);
            plan.ops.extend(self.history.surplus(self.set, &self.all));
        }
        plan
    }

    fn ordinals(&self) -> std::ops::Range<i64> {
        self.start..self.start + self.count
    }

    /// Whether one pod waits for another.
    fn in_order(&self) -> bool {
        self.set.spec.pod_management_policy != "Parallel"
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let min_ready = self.set.spec.min_ready_seconds.into();
        pod.status.phase == "Running" && pod.is_available(min_ready, self.world.now)
    }

    /// Whether a pod does not serve, or not for long.
    fn is_unavailable(&self, pod: &Pod) -> bool {
        pod.metadata.is_deleting() || !self.is_available(pod)
    }
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;
