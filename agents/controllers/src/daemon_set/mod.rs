//! DaemonSets: one pod on every node that fits.
//!
//! Each pod is made for one node and says so by a required affinity to its name; the scheduler binds it like any other, so
//! that priorities and resources hold for it too. One reconcile makes one step: the history of templates first, then the
//! pods that are missing or too many, and only when there are none of either the next pods of a rolling update.

mod chosen;
mod manage;
mod placement;
mod revisions;
mod rolling;
mod status;

use crate::history;
use crate::manager::{Body, Controller};
use crate::node_log::is_open_to_the_same;
use crate::pod_control::{self, candidates, claim_plan, delete_pod};
use crate::replication::{enqueue_owners, until_available};
use crate::world::{Caches, World};
use agent_runtime::kinds::{DaemonSet, LabelSelector, ObjectMeta, Pod};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{CONTROLLER_REVISIONS, DAEMON_SETS, PODS};
use agent_runtime::{EventType, Key, Queue};
use chosen::Chosen;
use placement::{Decision, Rules, target_node};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "daemonset-controller",
    help: "runs a pod of each DaemonSet on every node that fits",
    workers: 2,
    body: Body::Keyed { wire, reconcile },
};

/// Pods created, and pods deleted, in one reconcile.
const BURST: usize = 250;
/// The number of the template, from before there were revisions; the API server counts it.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";
/// On a pod: the number of its template.
const TEMPLATE_GENERATION_LABEL: &str = "pod-template-generation";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .daemon_sets
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let sets = caches.daemon_sets.clone();
    let selecting = move |meta: &ObjectMeta| -> Vec<Key> {
        let sets = sets.might_select(&meta.namespace, &meta.labels).into_iter();
        sets.filter(|set| selector_of(set).is_some_and(|s| s.matches(&meta.labels)))
            .map(|set| Key::of(&set.metadata))
            .collect()
    };
    let (keys, of_pod) = (queue.clone(), selecting.clone());
    caches.pods.subscribe(move |change| {
        let sides = [change.old.as_ref(), change.new.as_ref()];
        enqueue_owners(&keys, "DaemonSet", sides, |pod| of_pod(&pod.metadata));
    });
    let (revisions, keys) = (caches.controller_revisions.clone(), queue.clone());
    caches.controller_revisions.subscribe(move |change| {
        let joins = history::joins_its_like(change, |owner| revisions.owned_by(owner));
        if !joins && !history::is_as_before(change, &selecting) {
            history::enqueue_owners(&keys, "DaemonSet", change, &selecting);
        }
    });
    let (sets, keys) = (caches.daemon_sets.clone(), queue.clone());
    caches.nodes.subscribe(move |change| {
        let fits_as_before = match (&change.old, &change.new) {
            (Some(old), Some(new)) => is_open_to_the_same(old, new),
            _ => false,
        };
        if !fits_as_before {
            let all = sets.list();
            all.iter().for_each(|set| keys.add(Key::of(&set.metadata)));
        }
    });
}

fn selector_of(set: &DaemonSet) -> Option<&LabelSelector> {
    set.spec.selector.as_ref().filter(|s| !s.is_empty())
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(set) = world.caches.daemon_sets.by_key(key) else {
        world.forget(key);
        return Plan::none();
    };
    let meta = &set.metadata;
    let Some(selector) = selector_of(&set) else {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        let kind = EventType::Warning;
        return Plan::of(vec![event(meta, kind, "SelectingAll", message.into())]);
    };
    if meta.is_deleting() {
        return Plan::none();
    }
    let pods = candidates(&world.caches.pods, meta, selector);
    let revisions = candidates(&world.caches.controller_revisions, meta, selector);
    let pods_meta = pods.iter().map(|pod| &pod.metadata);
    let claims = claim_plan(&DAEMON_SETS, meta, selector, &PODS, pods_meta);
    let of_revisions = revisions.iter().map(|revision| &revision.metadata);
    let more = claim_plan(
        &DAEMON_SETS,
        meta,
        selector,
        &CONTROLLER_REVISIONS,
        of_revisions,
    );
    if claims.is_some() || more.is_some() {
        // The changed objects bring this key back.
        return Plan::of(claims.into_iter().chain(more).flatten().collect());
    }
    let mine = |owned: &ObjectMeta| owned.is_controlled_by(&meta.uid);
    let pods: Vec<Arc<Pod>> = pods.into_iter().filter(|p| mine(&p.metadata)).collect();
    let revisions = revisions.into_iter().filter(|r| mine(&r.metadata));
    let history = match revisions::look(&set, revisions.collect(), &pods, world) {
        Ok(history) => history,
        Err(ops) => return Plan::of(ops),
    };
    Daemons::new(&set, key, world, &pods, &history.hash).plan(&history, &pods)
}

/// A DaemonSet, its nodes and its pods.
struct Daemons<'a> {
    set: &'a DaemonSet,
    key: &'a Key,
    world: &'a World,
    /// Those that are there and get a pod, may keep one or have one.
    nodes: BTreeMap<Arc<str>, Decision>,
    /// By node, the oldest first; without those that have ended and are going.
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
    /// Of the current revision.
    hash: &'a str,
}

/// What is to be done about pods.
#[derive(Default)]
struct Work {
    events: Vec<Op>,
    delete: Vec<Arc<Pod>>,
    /// Names of nodes.
    create: Vec<String>,
    again_in: Option<Duration>,
}

impl<'a> Daemons<'a> {
    fn new(
        set: &'a DaemonSet,
        key: &'a Key,
        world: &'a World,
        all: &[Arc<Pod>],
        hash: &'a str,
    ) -> Self {
        let mut pods: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
        let there = |pod: &&Arc<Pod>| !(pod.is_finished() && pod.metadata.is_deleting());
        for pod in all.iter().filter(there) {
            if let Some(node) = target_node(pod) {
                pods.entry(node.to_owned()).or_default().push(pod.clone());
            }
        }
        for on_node in pods.values_mut() {
            on_node.sort_by_key(|pod| {
                let meta = &pod.metadata;
                let unassigned = pod.spec.node_name.is_empty();
                (unassigned, meta.created(), meta.name.clone())
            });
        }
        let mut chosen: Chosen = world.take_kept(key);
        let caches = &world.caches;
        chosen.refresh(
            Rules::of(&set.spec.template),
            &caches.node_log,
            &caches.nodes,
        );
        let nodes = chosen.with(pods.keys().map(String::as_str), &caches.nodes);
        world.keep(key, chosen);
        Self {
            set,
            key,
            world,
            nodes,
            pods,
            hash,
        }
    }

    fn plan(&self, history: &revisions::History, all: &[Arc<Pod>]) -> Plan {
        let mut plan = Plan::none();
        plan.ops.extend(self.status_op());
        let min_ready = self.set.spec.min_ready_seconds.into();
        if let Some(delay) = until_available(all, min_ready, self.world.now) {
            plan.again(delay);
        }
        let mut work = self.manage();
        if let Some(delay) = work.again_in {
            plan.again(delay);
        }
        let idle = work.delete.is_empty() && work.create.is_empty();
        if idle && self.set.spec.update_strategy.kind == "RollingUpdate" {
            work = self.rolling_update();
        }
        plan.ops.append(&mut work.events);
        plan.ops.extend(self.perform(work));
        plan.ops.extend(history.surplus(self.set, all));
        plan
    }

    /// Deletes first: a create that is refused ends the plan.
    fn perform(&self, mut work: Work) -> Vec<Op> {
        work.delete.truncate(BURST);
        work.create.truncate(BURST);
        let mut ops = Vec::new();
        if !work.delete.is_empty() {
            let delete =
                |pod: &Arc<Pod>| delete_pod(&DAEMON_SETS, &self.set.metadata, &pod.metadata);
            ops.push(Op::Parallel(work.delete.iter().map(delete).collect()));
        }
        if !work.create.is_empty() {
            let create = |node: &String| self.create_on(node);
            ops.push(Op::SlowStart(work.create.iter().map(create).collect()));
        }
        ops
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.set.spec.min_ready_seconds.into(), self.world.now)
    }

    /// Whether a pod is of the current template: by its revision, or by the number of its template.
    fn is_updated(&self, pod: &Pod) -> bool {
        let label = pod.metadata.labels.get(TEMPLATE_GENERATION_LABEL);
        let numbered = self.template_generation();
        history::revision_of(pod) == self.hash
            || numbered.is_some_and(|number| label == Some(&number.to_string()))
    }

    fn template_generation(&self) -> Option<i64> {
        let annotations = &self.set.metadata.annotations;
        annotations.get(TEMPLATE_GENERATION)?.parse().ok()
    }
}

fn event(meta: &ObjectMeta, kind: EventType, reason: &'static str, message: String) -> Op {
    pod_control::event(&DAEMON_SETS, meta, kind, reason, message)
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;
