//! What is to be done for a claim.

use super::{
    BIND_COMPLETED, SELECTED_NODE, binding, class, event, expansion, is_meant_for, matching,
    provision,
};
use crate::world::World;
use agent_runtime::kinds::{Mention, PersistentVolume, PersistentVolumeClaim};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::PERSISTENT_VOLUME_CLAIMS;
use agent_runtime::{EventType, Key};
use serde_json::json;

pub(super) fn reconcile(claim: &PersistentVolumeClaim, world: &World) -> Plan {
    let volume = world.caches.volumes.get("", &claim.spec.volume_name);
    let is_complete = claim.metadata.annotations.contains_key(BIND_COMPLETED);
    match (is_complete, claim.spec.volume_name.is_empty(), volume) {
        (true, true, _) => {
            let text =
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!";
            lost(claim, "ClaimLost", text)
        }
        (true, false, None) => {
            let text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
            lost(claim, "ClaimLost", text)
        }
        (true, false, Some(volume)) => bound(claim, &volume, world),
        (false, true, _) => any_volume(claim, world),
        (false, false, Some(volume)) => asked_volume(claim, &volume, world),
        // It may come yet.
        (false, false, None) => pending(claim),
    }
}

fn pending(claim: &PersistentVolumeClaim) -> Plan {
    Plan::of(
        binding::claim_status(claim, "Pending", None)
            .into_iter()
            .collect(),
    )
}

/// There is no way back from this phase but that the volume turns up.
fn lost(claim: &PersistentVolumeClaim, reason: &'static str, text: &str) -> Plan {
    if claim.status.phase == "Lost" {
        return Plan::none();
    }
    let mut plan = Plan::of(
        binding::claim_status(claim, "Lost", None)
            .into_iter()
            .collect(),
    );
    plan.push(say(claim, EventType::Warning, reason, text));
    plan
}

pub(super) fn say(
    claim: &PersistentVolumeClaim,
    kind: EventType,
    reason: &'static str,
    text: impl Into<String>,
) -> Op {
    event(
        &PERSISTENT_VOLUME_CLAIMS,
        &claim.metadata,
        kind,
        reason,
        text,
    )
}

/// A claim that was bound: the volume may have lost its side.
fn bound(claim: &PersistentVolumeClaim, volume: &PersistentVolume, world: &World) -> Plan {
    let named = volume.spec.claim_ref.as_ref();
    if named.is_some_and(|named| named.uid != claim.metadata.uid) {
        let text = "Two claims are bound to the same volume, this one is bound incorrectly";
        return lost(claim, "ClaimMisbound", text);
    }
    let plan = binding::bind(volume, claim, world);
    if plan.ops.is_empty() {
        return expansion::plan(volume, claim);
    }
    plan
}

/// A claim that asks for one volume.
fn asked_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume, world: &World) -> Plan {
    let name = &volume.metadata.name;
    let refused = if volume.spec.claim_ref.is_none() {
        matching::refusal(volume, claim).map(|text| {
            let text = format!("Cannot bind to requested volume \"{name}\": {text}");
            say(claim, EventType::Warning, "VolumeMismatch", text)
        })
    } else if is_meant_for(volume, claim) {
        None
    } else {
        let text = format!("volume \"{name}\" already bound to a different claim.");
        Some(say(claim, EventType::Warning, "FailedBinding", text))
    };
    let Some(refused) = refused else {
        return binding::bind(volume, claim, world);
    };
    let mut plan = pending(claim);
    plan.ops.insert(0, refused);
    plan
}

/// A claim that takes any volume that fits.
fn any_volume(claim: &PersistentVolumeClaim, world: &World) -> Plan {
    if let Some(volume) = matching::best(claim, world) {
        return binding::bind(&volume, claim, world);
    }
    if let Some(op) = default_class(claim, world) {
        return Plan::of(vec![op]);
    }
    let has_node = claim.metadata.annotations.contains_key(SELECTED_NODE);
    if class::waits_for_consumer(claim.class_name(), &world.caches.storage_classes) && !has_node {
        let mut plan = pending(claim);
        plan.ops.insert(0, waiting(claim, world));
        return plan;
    }
    if !claim.class_name().is_empty() {
        return provision::plan(claim, world);
    }
    let text = "no persistent volumes available for this claim and no storage class is set";
    let mut plan = pending(claim);
    plan.ops
        .insert(0, say(claim, EventType::Normal, "FailedBinding", text));
    plan
}

/// A claim that says nothing of its class gets the default one also after it was made.
fn default_class(claim: &PersistentVolumeClaim, world: &World) -> Option<Op> {
    if class::is_said(claim) {
        return None;
    }
    let class = class::default(world)?;
    let metadata = binding::versioned(&claim.metadata.resource_version);
    let spec = json!({"storageClassName": class.metadata.name});
    let body = json!({"metadata": metadata, "spec": spec});
    Some(Op::merge(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata, body))
}

/// Says for whom a claim waits that is bound with its first pod.
fn waiting(claim: &PersistentVolumeClaim, world: &World) -> Op {
    let meta = &claim.metadata;
    let pods = world.caches.pods.mentioning(&Mention::Claim(Key::of(meta)));
    let waiting = pods
        .iter()
        .filter(|pod| pod.spec.node_name.is_empty() && !pod.is_finished());
    let names: Vec<String> = waiting.map(|pod| pod.metadata.name.clone()).collect();
    let (reason, text) = match names.as_slice() {
        [] => (
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding".to_owned(),
        ),
        [name] => (
            "WaitForPodScheduled",
            format!("waiting for pod {name} to be scheduled"),
        ),
        names => (
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", names.join(",")),
        ),
    };
    say(claim, EventType::Normal, reason, text)
}
