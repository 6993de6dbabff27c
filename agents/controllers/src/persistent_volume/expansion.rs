//! Claims that ask for more than they have. A directory grows by itself: its volume says the new size, then the claim. Other
//! volumes are grown by whoever made them.

use super::claim::say;
use super::{PROVISIONED_BY, binding, size};
use agent_runtime::EventType;
use agent_runtime::kinds::{PersistentVolume, PersistentVolumeClaim};
use agent_runtime::local_path::PROVISIONER;
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use serde_json::{Value, json};

const OF_RESIZING: &[&str] = &["Resizing", "FileSystemResizePending"];

/// The next step for a claim that is bound to the volume.
pub(super) fn plan(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Plan {
    let wanted = size::storage(&claim.spec.resources.requests);
    let has = size::storage(&claim.status.capacity);
    if wanted <= has {
        return Plan::none();
    }
    let by = volume.metadata.annotations.get(PROVISIONED_BY);
    if by.is_none_or(|by| by != PROVISIONER) {
        let text = "Ignoring the PVC: didn't find a plugin capable of expanding the volume; waiting for an external controller to process this PVC.";
        return Plan::of(vec![say(
            claim,
            EventType::Normal,
            "ExternalExpanding",
            text,
        )]);
    }
    let size = claim.spec.resources.requests.get("storage");
    if size::storage(&volume.spec.capacity) < wanted {
        let metadata = binding::versioned(&volume.metadata.resource_version);
        let body = json!({"metadata": metadata, "spec": {"capacity": {"storage": size}}});
        return Plan::of(vec![Op::merge(&PERSISTENT_VOLUMES, &volume.metadata, body)]);
    }
    let mut status = json!({"capacity": volume.spec.capacity});
    let mut rest = claim.status.conditions.clone();
    rest.retain(|condition| !OF_RESIZING.contains(&condition.kind.as_str()));
    if rest.len() < claim.status.conditions.len() {
        status["conditions"] = if rest.is_empty() {
            Value::Null
        } else {
            json!(rest)
        };
    }
    let text = "Resize volume succeeded";
    Plan::of(vec![
        Op::status(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata, status),
        say(claim, EventType::Normal, "VolumeResizeSuccessful", text),
    ])
}
