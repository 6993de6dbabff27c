//! Deployments: roll a template out through ReplicaSets, one per template, keeping the old ones for going back.
//!
//! One reconcile makes one step (create the new set, move some replicas, update the status) and is called again when the
//! caches have seen it, so that every step is decided on what really is.

mod revisions;
mod rolling;
mod scaling;
mod status;

use crate::manager::{Body, Controller};
use crate::pod_control::{candidates, claim_plan};
use crate::world::{Caches, World};
use agent_runtime::kinds::{Deployment, Pod, ReplicaSet};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{DEPLOYMENTS, REPLICA_SETS};
use agent_runtime::timestamp::Micros;
use agent_runtime::{Key, Queue};
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "deployment-controller",
    help: "rolls out Deployments through ReplicaSets",
    workers: 5,
    body: Body::Keyed { wire, reconcile },
};

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches
        .deployments
        .subscribe(move |change| keys.add(Key::of(&change.latest().metadata)));
    let (deployments, keys) = (caches.deployments.clone(), queue.clone());
    caches.replica_sets.subscribe(move |change| {
        for set in change.sides() {
            match set.metadata.controller() {
                Some(owner) if owner.kind == "Deployment" => {
                    keys.add(Key::new(&set.metadata.namespace, &owner.name))
                }
                Some(_) => {}
                None => {
                    let meta = &set.metadata;
                    for deployment in deployments.might_select(&meta.namespace, &meta.labels) {
                        if deployment
                            .spec
                            .selector
                            .as_ref()
                            .is_some_and(|s| s.matches(&meta.labels))
                        {
                            keys.add(Key::of(&deployment.metadata));
                        }
                    }
                }
            }
        }
    });
    // A Recreate rollout waits for the last old pod; nothing else depends on pods directly.
    let (sets, keys) = (caches.replica_sets.clone(), queue.clone());
    caches.pods.subscribe(move |change| {
        if change.new.is_some() {
            return;
        }
        let pod = change.latest();
        let set = pod
            .metadata
            .controller()
            .filter(|o| o.kind == "ReplicaSet")
            .and_then(|o| sets.get(&pod.metadata.namespace, &o.name));
        if let Some(owner) = set.as_ref().and_then(|set| set.metadata.controller()) {
            keys.add(Key::new(&pod.metadata.namespace, &owner.name));
        }
    });
}

/// A Deployment and its ReplicaSets, sorted by age.
struct Rollout<'a> {
    deployment: &'a Deployment,
    /// The set whose template is the Deployment's.
    new: Option<Arc<ReplicaSet>>,
    old: Vec<Arc<ReplicaSet>>,
    now: Micros,
}

fn reconcile(key: &Key, world: &World) -> Plan {
    let Some(deployment) = world.caches.deployments.by_key(key) else {
        return Plan::none();
    };
    let Some(selector) = deployment.spec.selector.clone().filter(|s| !s.is_empty()) else {
        return Plan::none();
    };
    let meta = &deployment.metadata;
    let candidates = candidates(&world.caches.replica_sets, meta, &selector);
    if let Some(ops) = claim_plan(
        &DEPLOYMENTS,
        meta,
        &selector,
        &REPLICA_SETS,
        candidates.iter().map(|set| &set.metadata),
    ) {
        return Plan::of(ops);
    }
    let mut sets: Vec<_> = candidates
        .into_iter()
        .filter(|set| set.metadata.is_controlled_by(&meta.uid))
        .collect();
    sets.sort_by(|a, b| {
        (a.metadata.created(), &a.metadata.name).cmp(&(b.metadata.created(), &b.metadata.name))
    });
    let new = revisions::find_new(&deployment, &sets);
    let old = sets
        .into_iter()
        .filter(|set| {
            new.as_ref()
                .is_none_or(|new| new.metadata.uid != set.metadata.uid)
        })
        .collect();
    Rollout {
        deployment: &deployment,
        new,
        old,
        now: world.now,
    }
    .plan(world)
}

impl Rollout<'_> {
    fn plan(&self, world: &World) -> Plan {
        let deployment = self.deployment;
        if deployment.metadata.is_deleting() {
            return self.plain_status();
        }
        if let Some(op) = self.pause_condition() {
            return Plan::of(vec![op]);
        }
        let adjustments = self.adjust_new_set();
        if !adjustments.is_empty() {
            // They change the Deployment itself; the status follows when the caches have seen it.
            return Plan::of(adjustments);
        }
        if deployment.spec.paused || self.is_scaling() {
            let mut ops = self.scale();
            if ops.is_empty() && deployment.spec.paused {
                ops = self.cleanup();
            }
            if !ops.is_empty() || deployment.spec.paused {
                return self.with_plain_status(ops);
            }
        }
        if deployment.spec.strategy.kind == "Recreate" {
            self.recreate(world)
        } else {
            self.rolling_update(world)
        }
    }

    fn rolling_update(&self, world: &World) -> Plan {
        let Some(new) = &self.new else {
            return self.create_new_set(world);
        };
        let mut ops = self.grow_new_set(new);
        if ops.is_empty() {
            ops = self.shrink_old_sets(new);
        }
        if ops.is_empty() && self.is_complete() {
            ops = self.cleanup();
        }
        self.with_rollout_status(ops)
    }

    fn recreate(&self, world: &World) -> Plan {
        let ops: Vec<Op> = self
            .old
            .iter()
            .filter(|set| replicas(set) > 0)
            .filter_map(|set| self.scale_to(set, 0))
            .collect();
        if !ops.is_empty() {
            return self.with_rollout_status(ops);
        }
        if self.old_pods_live(world) {
            return self.with_rollout_status(Vec::new());
        }
        let Some(new) = &self.new else {
            return self.create_new_set(world);
        };
        let mut ops: Vec<Op> = self.scale_to(new, self.desired()).into_iter().collect();
        if ops.is_empty() && self.is_complete() {
            ops = self.cleanup();
        }
        self.with_rollout_status(ops)
    }

    /// Whether a pod of an old set still exists and has not ended; one that is being deleted still runs. The set may
    /// know of a pod that our cache of pods has not seen yet.
    fn old_pods_live(&self, world: &World) -> bool {
        let live = |pod: &Arc<Pod>| !pod.is_finished();
        self.old.iter().any(|set| {
            let known_to_set = set.status.replicas > 0;
            let mut pods = world.caches.pods.owned_by(&set.metadata.uid).into_iter();
            known_to_set || pods.any(|pod| live(&pod))
        })
    }

    fn desired(&self) -> i64 {
        self.deployment.spec.replicas.unwrap_or(1).into()
    }

    /// New and old, by age.
    fn all(&self) -> Vec<&Arc<ReplicaSet>> {
        let mut all: Vec<_> = self.old.iter().chain(&self.new).collect();
        all.sort_by(|a, b| {
            (a.metadata.created(), &a.metadata.name).cmp(&(b.metadata.created(), &b.metadata.name))
        });
        all
    }
}

/// The wanted size of a set.
fn replicas(set: &ReplicaSet) -> i64 {
    set.spec.replicas.unwrap_or(1).into()
}

#[cfg(test)]
mod convergence;
#[cfg(test)]
mod tests;
