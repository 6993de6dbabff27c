//! What is to be done for a volume.

use super::{PROVISIONED_BY, binding, event, matching, reclaim};
use crate::world::World;
use agent_runtime::EventType;
use agent_runtime::kinds::{PersistentVolume, PersistentVolumeClaim};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};

pub(super) fn reconcile(volume: &PersistentVolume, world: &World) -> Plan {
    let mut plan = step(volume, world);
    if plan.ops.is_empty() {
        plan.ops.extend(reclaim::hold(volume));
    }
    plan
}

fn step(volume: &PersistentVolume, world: &World) -> Plan {
    let phase = |phase| {
        let op = binding::volume_phase(volume, phase, "", world);
        Plan::of(op.into_iter().collect())
    };
    let Some(named) = volume
        .spec
        .claim_ref
        .as_ref()
        .filter(|named| !named.uid.is_empty())
    else {
        // Free, or kept for a claim that will be bound when it is looked at.
        return phase("Available");
    };
    let claim = world.caches.claims.get(&named.namespace, &named.name);
    let Some(claim) = claim.filter(|claim| claim.metadata.uid == named.uid) else {
        return reclaim::plan(volume, named, world);
    };
    if claim.spec.volume_name == volume.metadata.name {
        return phase("Bound");
    }
    if claim.spec.volume_name.is_empty() {
        // The rest of the binding is done for the claim, which every change of the volume wakes.
        return if matching::has_other_mode(volume, &claim) {
            Plan::of(mismatch(volume, &claim))
        } else {
            Plan::none()
        };
    }
    // The claim has another volume.
    let is_provisioned = volume.metadata.annotations.contains_key(PROVISIONED_BY);
    if is_provisioned && volume.spec.persistent_volume_reclaim_policy == "Delete" {
        return reclaim::unneeded(volume, world);
    }
    binding::unbind(volume)
}

fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Vec<Op> {
    let (volume, claim) = (&volume.metadata, &claim.metadata);
    let (kind, reason) = (EventType::Warning, "VolumeMismatch");
    let of_volume = format!(
        "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{}\" due to incompatible volumeMode.",
        claim.name
    );
    let of_claim = format!(
        "Cannot bind PersistentVolume \"{}\" to requested PersistentVolumeClaim due to incompatible volumeMode.",
        volume.name
    );
    vec![
        event(&PERSISTENT_VOLUMES, volume, kind, reason, of_volume),
        event(&PERSISTENT_VOLUME_CLAIMS, claim, kind, reason, of_claim),
    ]
}
