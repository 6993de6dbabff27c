//! What becomes of a claim: consumers that are gone are taken off, devices that nobody uses are given back, and a claim
//! that was made for a pod goes when that is done.

use super::{is_done, owning_pod, text};
use crate::world::World;
use agent_runtime::kinds::{ObjectMeta, ResourceClaim};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{PODS, RESOURCE_CLAIMS};
use serde_json::{Map, Value, json};

/// The scheduler puts it on claims before it gives them devices.
pub(super) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// What is known of a consumer.
enum Standing {
    Stays,
    Gone,
    /// The caches do not know the pod, or still one of its name before it. They may be late, and a pod that is just being
    /// scheduled needs its reservation.
    Unknown,
}

pub(super) fn reconcile(claim: &ResourceClaim, world: &World) -> Plan {
    let (meta, status) = (&claim.metadata, &claim.status);
    let mut plan = Plan::none();
    let mut remaining = Vec::new();
    for consumer in &status.reserved_for {
        match standing(consumer, &meta.namespace, world) {
            Standing::Stays => remaining.push(consumer.clone()),
            Standing::Gone => {}
            Standing::Unknown => plan.push(Op::Absent {
                resource: PODS,
                namespace: meta.namespace.clone(),
                name: text(consumer, "name").to_owned(),
                uid: text(consumer, "uid").to_owned(),
            }),
        }
    }
    let is_unused = remaining.is_empty();
    let is_protected = meta.finalizers.iter().any(|name| name == FINALIZER);
    let is_freed = remaining.len() < status.reserved_for.len();
    // A claim that was never reserved keeps its devices: who has allocated them may be about to.
    let is_given_back = is_protected && is_unused && (is_freed || meta.is_deleting());
    let mut changes = Map::new();
    if is_freed {
        let left = if is_unused {
            Value::Null
        } else {
            remaining.into()
        };
        changes.insert("reservedFor".into(), left);
    }
    if is_given_back && status.allocation.is_some() {
        changes.insert("allocation".into(), Value::Null);
    }
    let is_allocated = status.allocation.is_some() && !is_given_back;
    let unprotects = is_protected && !is_allocated && (is_freed || is_given_back);
    let unprotected = unprotects.then(|| unprotect(meta));
    match (changes.is_empty(), unprotected) {
        (true, None) => {}
        (true, Some(op)) => plan.push(op),
        (false, None) => plan.push(Op::status(&RESOURCE_CLAIMS, meta, changes.into())),
        (false, Some(op)) => plan.push(Op::Follow {
            first: Box::new(Op::status(&RESOURCE_CLAIMS, meta, changes.into())),
            then: Box::new(op),
        }),
    }
    if is_unused && !meta.is_deleting() && was_for_done_pod(meta, world) {
        plan.push(Op::delete(&RESOURCE_CLAIMS, meta));
    }
    plan
}

fn standing(consumer: &Value, namespace: &str, world: &World) -> Standing {
    if text(consumer, "resource") != "pods" || !text(consumer, "apiGroup").is_empty() {
        // Whoever reserves it for something else takes that off, too.
        return Standing::Stays;
    }
    match world.caches.pods.get(namespace, text(consumer, "name")) {
        None => Standing::Unknown,
        Some(pod) if pod.metadata.uid != text(consumer, "uid") => Standing::Unknown,
        Some(pod) if is_done(&pod) => Standing::Gone,
        Some(_) => Standing::Stays,
    }
}

/// Takes the finalizer off. The version makes sure that no finalizer of somebody else is lost, and that the scheduler has
/// not begun to allocate the claim anew.
fn unprotect(meta: &ObjectMeta) -> Op {
    let finalizers = meta.finalizers.iter();
    let rest: Vec<&String> = finalizers.filter(|name| *name != FINALIZER).collect();
    let body = json!({"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": rest}});
    Op::merge(&RESOURCE_CLAIMS, meta, body)
}

/// Whether the claim was made for a pod that needs it no more. Of one that the caches do not know, garbage collection decides.
fn was_for_done_pod(meta: &ObjectMeta, world: &World) -> bool {
    owning_pod(meta).is_some_and(|owner| {
        let pod = world.caches.pods.get(&meta.namespace, &owner.name);
        pod.is_some_and(|pod| pod.metadata.uid != owner.uid || is_done(&pod))
    })
}
