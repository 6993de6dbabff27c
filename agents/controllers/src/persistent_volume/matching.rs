//! Which volume fits a claim.

use super::{BIND_COMPLETED, class, is_meant_for, size};
use crate::world::World;
use agent_runtime::Key;
use agent_runtime::kinds::{Mention, PersistentVolume, PersistentVolumeClaim};
use std::sync::Arc;

/// The best volume for a claim: one that is meant for it, else the smallest that fits among those with the fewest access
/// modes. Where the class waits for the first pod, only the former: the scheduler chooses the others.
pub(super) fn best(claim: &PersistentVolumeClaim, world: &World) -> Option<Arc<PersistentVolume>> {
    let caches = &world.caches;
    // Of equal ones the first by name, here and below, so that the choice is the same every time.
    let kept = Mention::Claim(Key::of(&claim.metadata));
    let kept = caches.volumes.mentioning(&kept).into_iter();
    let meant = kept.filter(|volume| is_meant_for(volume, claim) && suits(volume, claim));
    if let Some(meant) = meant.min_by_key(|volume| volume.spec.access_modes.len()) {
        return Some(meant);
    }
    if class::waits_for_consumer(claim.class_name(), &caches.storage_classes) {
        return None;
    }
    let free = Mention::FreeOfClass(claim.class_name().to_owned());
    let free = caches.volumes.mentioning(&free).into_iter();
    free.filter(|volume| fits(volume, claim))
        .min_by_key(|volume| {
            (
                volume.spec.access_modes.len(),
                size::storage(&volume.spec.capacity),
            )
        })
}

/// Whether the claim takes the volume if it has no better one, and its class waits for no pod.
pub(super) fn could_take(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    is_open(claim) && fits(volume, claim)
}

/// Whether a volume is looked for: one that was bound and names none has lost it.
pub(super) fn is_open(claim: &PersistentVolumeClaim) -> bool {
    claim.spec.volume_name.is_empty() && !claim.metadata.annotations.contains_key(BIND_COMPLETED)
}

/// Whether the volume can be had, and has all that the claim asks for.
fn fits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let selector = claim.spec.selector.as_ref();
    volume.spec.claim_ref.is_none()
        && volume.status.phase == "Available"
        && volume.class_name() == claim.class_name()
        && suits(volume, claim)
        && selector.is_none_or(|selector| selector.matches(&volume.metadata.labels))
}

/// Whether the claim can use the volume, whoever has it now.
fn suits(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    !volume.metadata.is_deleting()
        && has_modes(volume, claim)
        && !has_other_mode(volume, claim)
        && has_attributes(volume, claim)
        && size::storage(&volume.spec.capacity) >= size::storage(&claim.spec.resources.requests)
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
    } else if volume.class_name() != claim.class_name() {
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
