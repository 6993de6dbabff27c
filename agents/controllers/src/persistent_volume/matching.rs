//! Which volume fits a claim.

use super::{class, is_meant_for, size};
use crate::world::World;
use agent_runtime::kinds::{PersistentVolume, PersistentVolumeClaim};
use std::sync::Arc;

/// The best volume for a claim: one that is meant for it, else the smallest that fits among those with the fewest access
/// modes. Where the class waits for the first pod, only the former: the scheduler chooses the others.
pub(super) fn best(claim: &PersistentVolumeClaim, world: &World) -> Option<Arc<PersistentVolume>> {
    let waits = class::waits_for_consumer(claim, world);
    let size = size::storage(&claim.spec.resources.requests);
    let could = |volume: &Arc<PersistentVolume>| {
        (volume.spec.claim_ref.is_none() || is_meant_for(volume, claim))
            && has_modes(volume, claim)
            && !has_other_mode(volume, claim)
            && size::storage(&volume.spec.capacity) >= size
            && has_attributes(volume, claim)
            && !volume.metadata.is_deleting()
    };
    let mut candidates: Vec<Arc<PersistentVolume>> = world.caches.volumes.list();
    candidates.retain(could);
    // Equal ones in the order of their names, so that the choice is the same every time.
    candidates.sort_by_key(|volume| volume.spec.access_modes.len());
    if let Some(meant) = candidates.iter().find(|volume| is_meant_for(volume, claim)) {
        return Some(meant.clone());
    }
    if waits {
        return None;
    }
    let selected = |volume: &Arc<PersistentVolume>| {
        let selector = claim.spec.selector.as_ref();
        volume.status.phase == "Available"
            && class::of_volume(volume) == class::of_claim(claim)
            && selector.is_none_or(|selector| selector.matches(&volume.metadata.labels))
    };
    candidates
        .into_iter()
        .filter(selected)
        .min_by_key(|volume| {
            (
                volume.spec.access_modes.len(),
                size::storage(&volume.spec.capacity),
            )
        })
}

/// Why a volume that a claim asks for by name is not for it.
pub(super) fn refusal(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    if volume.metadata.is_deleting() {
        let name = &volume.metadata.name;
        return Some(format!("the volume is marked for deletion \"{name}\""));
    }
    let requested = size::storage(&claim.spec.resources.requests);
    let text = if size::storage(&volume.spec.capacity) < requested {
        "requested PV is too small"
    } else if class::of_volume(volume) != class::of_claim(claim) {
        "storageClassName does not match"
    } else if !has_attributes(volume, claim) {
        "volumeAttributesClassName does not match"
    } else if has_other_mode(volume, claim) {
        "incompatible volumeMode"
    } else if !has_modes(volume, claim) {
        "incompatible accessMode"
    } else {
        return None;
    };
    Some(text.to_owned())
}

fn has_modes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let has = |mode| volume.spec.access_modes.contains(mode);
    claim.spec.access_modes.iter().all(has)
}

/// A block device for who wants files, or the reverse.
pub(super) fn has_other_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let or_files = |mode: &Option<String>| mode.clone().unwrap_or_else(|| "Filesystem".into());
    or_files(&volume.spec.volume_mode) != or_files(&claim.spec.volume_mode)
}

fn has_attributes(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    name(&volume.spec.volume_attributes_class_name)
        == name(&claim.spec.volume_attributes_class_name)
}
