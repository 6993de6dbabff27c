//! Storage classes of claims and volumes.

use crate::world::World;
use agent_runtime::Cache;
use agent_runtime::kinds::{CLASS_ANNOTATION, PersistentVolumeClaim, StorageClass};
use std::cmp::Reverse;
use std::sync::Arc;

pub(super) const DEFAULT: &str = "storageclass.kubernetes.io/is-default-class";
const DEFAULT_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";

/// Whether the claim says anything about its class, be it that there is none.
pub(super) fn is_said(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.annotations.contains_key(CLASS_ANNOTATION)
        || claim.spec.storage_class_name.is_some()
}

/// Whether volumes for the claims of a class are chosen with the node of the first pod, by the scheduler.
pub(super) fn waits_for_consumer(class: &str, classes: &Cache<StorageClass>) -> bool {
    let class = classes.get("", class);
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
