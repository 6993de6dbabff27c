//! Storage classes of claims and volumes.

use crate::world::World;
use agent_runtime::kinds::{PersistentVolume, PersistentVolumeClaim, StorageClass};
use std::cmp::Reverse;
use std::sync::Arc;

/// The older form of `spec.storageClassName`, which counts before it.
const OLD_FORM: &str = "volume.beta.kubernetes.io/storage-class";
pub(super) const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

/// The name of a claim's class; empty for none.
pub(super) fn of_claim(claim: &PersistentVolumeClaim) -> &str {
    let old = claim.metadata.annotations.get(OLD_FORM);
    let name = old.or(claim.spec.storage_class_name.as_ref());
    name.map_or("", String::as_str)
}

/// Whether the claim says anything about its class, be it that there is none.
pub(super) fn is_said(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.annotations.contains_key(OLD_FORM) || claim.spec.storage_class_name.is_some()
}

/// The name of a volume's class; empty for none.
pub(super) fn of_volume(volume: &PersistentVolume) -> &str {
    let old = volume.metadata.annotations.get(OLD_FORM);
    old.unwrap_or(&volume.spec.storage_class_name)
}

/// Whether volumes for the claim are chosen with the node of the first pod, by the scheduler.
pub(super) fn waits_for_consumer(claim: &PersistentVolumeClaim, world: &World) -> bool {
    let class = world.caches.storage_classes.get("", of_claim(claim));
    class.is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"))
}

/// The class of those that say nothing: of several defaults the newest.
pub(super) fn default(world: &World) -> Option<Arc<StorageClass>> {
    let is_default = |class: &Arc<StorageClass>| {
        let says = |name| {
            class
                .metadata
                .annotations
                .get(name)
                .is_some_and(|v| v == "true")
        };
        says(DEFAULT) || says(DEFAULT_BETA)
    };
    let defaults = world.caches.storage_classes.list().into_iter();
    defaults.filter(is_default).min_by_key(|class| {
        (
            Reverse(class.metadata.created()),
            class.metadata.name.clone(),
        )
    })
}
