//! Volumes and claims find each other, volumes are made for claims, and given back when their claim is gone.
//!
//! A binding is written in two objects: first `spec.claimRef` of the volume, then `spec.volumeName` of the claim. Each
//! reconcile does the next step that is missing and every write wakes both sides, so that whoever begins anew in the
//! middle goes on from there. A volume that names a claim by its uid is never another's; one whose claim is gone is
//! released, and never bound again by itself. Claims have a namespace and volumes have none: that tells their keys apart.

mod binding;
mod claim;
mod class;
mod default_class;
mod expansion;
mod host_path;
mod matching;
mod provision;
mod reclaim;
mod size;
#[cfg(test)]
mod tests;
mod volume;
mod waking;

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::events::reference;
use agent_runtime::kinds::{Mention, Node, ObjectMeta, PersistentVolume, PersistentVolumeClaim};
use agent_runtime::local_path::REMOVE;
use agent_runtime::plan::{Op, Plan, Report};
use agent_runtime::{Cache, EventType, Key, Queue, ResourceRef};
use std::sync::Arc;

pub(crate) use default_class::CONTROLLER as DEFAULT_CLASS;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "persistentvolume-controller",
    help: "binds claims to volumes, provisions volumes and reclaims them",
    // Two that choose the same volume are told apart by its version.
    workers: 4,
    body: Body::Keyed { wire, reconcile },
};

const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const YES: &str = "yes";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    waking::wire_claims(caches, queue);
    waking::wire_volumes(caches, queue);
    waking::wire_pods(caches, queue);
    let (claims, keys) = (caches.claims.clone(), queue.clone());
    caches.storage_classes.subscribe(move |change| {
        let name = &change.latest().metadata.name;
        enqueue_claims(&claims, &keys, |claim| {
            let class = claim.class_name();
            let grows = claim.status.phase == "Bound" && class == name;
            grows || (is_pending(claim) && (class.is_empty() || class == name))
        });
    });
    let (volumes, keys) = (caches.volumes.clone(), queue.clone());
    caches.nodes.subscribe(move |change| {
        let asked = |node: &Option<Arc<Node>>| {
            let node = node.as_ref()?;
            let removals = node.metadata.annotations.get(REMOVE).cloned();
            Some((removals, host_path::asked(node).cloned()))
        };
        if change.old.is_some() && change.new.is_some() && asked(&change.old) == asked(&change.new)
        {
            return;
        }
        // At the beginning each node asks.
        for volume in volumes.mentioning(&Mention::LostClaim) {
            if reclaim::waits_for_node(&volume) {
                keys.add(Key::of(&volume.metadata));
            }
        }
    });
}

fn is_pending(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.volume_name.is_empty()
}

fn enqueue_claims(
    claims: &Cache<PersistentVolumeClaim>,
    keys: &Queue<Key>,
    concerned: impl Fn(&PersistentVolumeClaim) -> bool,
) {
    for claim in claims.list() {
        if concerned(&claim) {
            keys.add(Key::of(&claim.metadata));
        }
    }
}

fn reconcile(key: &Key, world: &World) -> Plan {
    if key.namespace.is_empty() {
        let volume = world.caches.volumes.by_key(key);
        volume.map_or_else(Plan::none, |volume| volume::reconcile(&volume, world))
    } else {
        let claim = world.caches.claims.by_key(key);
        claim.map_or_else(Plan::none, |claim| claim::reconcile(&claim, world))
    }
}

fn event(
    resource: &ResourceRef,
    about: &ObjectMeta,
    kind: EventType,
    reason: &'static str,
    message: impl Into<String>,
) -> Op {
    Op::Event(Box::new(Report {
        regarding: reference(resource, about),
        kind,
        reason,
        message: message.into(),
    }))
}

/// Whether the volume is meant for the claim: by its uid, or by its name alone where somebody has reserved it.
fn is_meant_for(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    volume.spec.claim_ref.as_ref().is_some_and(|wanted| {
        wanted.name == claim.metadata.name
            && wanted.namespace == claim.metadata.namespace
            && (wanted.uid.is_empty() || wanted.uid == claim.metadata.uid)
    })
}
