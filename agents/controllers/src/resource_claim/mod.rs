//! Claims of pods on devices: made from their templates, reserved for pods that came to a node without the scheduler, and
//! given back when nobody uses them any more.
//!
//! Pods and claims share one queue. The key of a pod says so, since what it names could be a claim as well.

mod claim;
mod name;
mod pod;
#[cfg(test)]
mod tests;

use crate::manager::{Body, Controller};
use crate::world::{Caches, World};
use agent_runtime::kinds::{Mention, ObjectMeta, OwnerReference, Pod, ResourceClaim};
use agent_runtime::plan::Plan;
use agent_runtime::{Key, Queue};
use serde_json::Value;
use std::sync::Arc;

pub(crate) const CONTROLLER: Controller = Controller {
    name: "resourceclaim-controller",
    help: "makes the claims of pods on devices, and frees what nobody uses",
    workers: 10,
    body: Body::Keyed { wire, reconcile },
};

/// Before the name of a pod in a key; no name has a slash.
const POD: &str = "pod/";

fn wire(caches: &Arc<Caches>, queue: &Arc<Queue<Key>>) {
    let keys = queue.clone();
    caches.pods.subscribe(move |change| {
        let now = change.new.as_ref();
        let is_other = |old: &&Arc<Pod>| now.is_none_or(|now| now.metadata.uid != old.metadata.uid);
        let gone = change.old.as_ref().filter(is_other);
        let done = now.filter(|pod| is_done(pod));
        for pod in gone.into_iter().chain(done) {
            let namespace = &pod.metadata.namespace;
            claims_of(pod).for_each(|claim| keys.add(Key::new(namespace, claim)));
        }
        if let Some(pod) = now.filter(|pod| wants_claims(pod)) {
            keys.add(pod_key(&pod.metadata));
        }
    });
    let (pods, keys) = (caches.pods.clone(), queue.clone());
    caches.resource_claims.subscribe(move |change| {
        if let Some(claim) = &change.new {
            keys.add(Key::of(&claim.metadata));
        }
        for claim in change.sides() {
            let meta = &claim.metadata;
            if let Some(owner) = owning_pod(meta) {
                keys.add(Key::new(&meta.namespace, &format!("{POD}{}", owner.name)));
            }
        }
        let shared = change.new.as_ref();
        let shared = shared.filter(|claim| owning_pod(&claim.metadata).is_none());
        let shared = shared.filter(|claim| claim.status.allocation.is_some());
        let before = change.old.as_deref();
        if let Some(claim) = shared.filter(|claim| may_lack_users(before, claim)) {
            let users = pods.mentioning(&Mention::DeviceClaim(Key::of(&claim.metadata)));
            enqueue_users(claim, &users, &keys);
        }
    });
    let (pods, keys) = (caches.pods.clone(), queue.clone());
    caches.resource_claim_templates.subscribe(move |change| {
        // A template never changes; it can only have been missed.
        let (None, Some(template)) = (&change.old, &change.new) else {
            return;
        };
        let template = Mention::DeviceTemplate(Key::of(&template.metadata));
        for pod in pods.mentioning(&template) {
            keys.add(pod_key(&pod.metadata));
        }
    });
}

/// Whether users may lack their reservation for what has become of the claim. That there is one more, or something else was
/// written, is no reason to look at all that use it.
fn may_lack_users(old: Option<&ResourceClaim>, new: &ResourceClaim) -> bool {
    old.is_none_or(|old| {
        old.metadata.uid != new.metadata.uid
            || old.status.allocation.is_none()
            || !new
                .status
                .reserved_for
                .starts_with(&old.status.reserved_for)
    })
}

/// A claim that was not made for one pod may wait to be reserved for those that have a node.
fn enqueue_users(claim: &ResourceClaim, pods: &[Arc<Pod>], keys: &Queue<Key>) {
    for pod in pods.iter().filter(|pod| !pod.spec.node_name.is_empty()) {
        let mut entries = pod.spec.resource_claims.iter();
        if entries.any(|entry| entry["resourceClaimName"] == *claim.metadata.name) {
            keys.add(pod_key(&pod.metadata));
        }
    }
}

fn reconcile(key: &Key, world: &World) -> Plan {
    match key.name.strip_prefix(POD) {
        Some(name) => {
            let pod = world.caches.pods.get(&key.namespace, name);
            let pod = pod.filter(|pod| wants_claims(pod));
            pod.map_or_else(Plan::none, |pod| pod::reconcile(&pod, world))
        }
        None => {
            let claim = world.caches.resource_claims.by_key(key);
            claim.map_or_else(Plan::none, |claim| claim::reconcile(&claim, world))
        }
    }
}

fn pod_key(meta: &ObjectMeta) -> Key {
    Key::new(&meta.namespace, &format!("{POD}{}", meta.name))
}

/// Whether nothing of the pod runs, or ever will.
fn is_done(pod: &Pod) -> bool {
    let has_ended = matches!(pod.status.phase.as_str(), "Succeeded" | "Failed");
    has_ended || (pod.metadata.is_deleting() && pod.spec.node_name.is_empty())
}

/// Whether claims are made or reserved for the pod.
fn wants_claims(pod: &Pod) -> bool {
    !pod.spec.resource_claims.is_empty() && !pod.metadata.is_deleting() && !is_done(pod)
}

/// The pod for which the claim was made.
fn owning_pod(claim: &ObjectMeta) -> Option<&OwnerReference> {
    let owner = claim.controller()?;
    (owner.api_version == "v1" && owner.kind == "Pod").then_some(owner)
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The claim of an entry of the pod's `resourceClaims`; none where there is none yet, or where none is needed.
fn claim_of<'a>(pod: &'a Pod, entry: &'a Value) -> Option<&'a str> {
    let named = text(entry, "resourceClaimName");
    if !named.is_empty() {
        return Some(named);
    }
    let mut recorded = pod.status.resource_claim_statuses.iter();
    let status = recorded.find(|status| status.name == text(entry, "name"))?;
    status.resource_claim_name.as_deref()
}

/// All claims that the pod uses, also the one that the scheduler has made for its extended resources.
pub(crate) fn claims_of(pod: &Pod) -> impl Iterator<Item = &str> {
    let entries = pod.spec.resource_claims.iter();
    let extended = pod.status.extended_resource_claim_status.as_ref();
    let extended = extended.map(|status| status.resource_claim_name.as_str());
    let all = entries.filter_map(move |entry| claim_of(pod, entry));
    all.chain(extended).filter(|name| !name.is_empty())
}
