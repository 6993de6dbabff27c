//! The steps of a binding, and the states of both sides.

use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, YES, event, host_path, is_meant_for, size};
use crate::world::World;
use agent_runtime::EventType;
use agent_runtime::kinds::{PersistentVolume, PersistentVolumeClaim};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use agent_runtime::timestamp;
use serde_json::{Map, Value, json};

/// The next step of a binding; nothing when it is complete. The claim names the volume only after the volume was seen to
/// name the claim: a volume that is deleted in between must not leave a claim that has lost it.
pub(super) fn bind(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
    world: &World,
) -> Plan {
    if let Some(op) = name_claim(volume, claim) {
        return Plan::of(vec![op]);
    }
    let mut plan = Plan::none();
    plan.ops.extend(volume_phase(volume, "Bound", "", world));
    match name_volume(volume, claim) {
        Some(op) => plan.push(op),
        None => plan.ops.extend(claim_status(claim, "Bound", Some(volume))),
    }
    plan
}

fn name_claim(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Op> {
    let meta = &claim.metadata;
    let is_named = volume.spec.claim_ref.as_ref().is_some_and(|named| {
        (&named.name, &named.namespace, &named.uid) == (&meta.name, &meta.namespace, &meta.uid)
    });
    if is_named {
        return None;
    }
    let mut metadata = versioned(volume.metadata.resource_version.as_str());
    if !is_meant_for(volume, claim) {
        metadata["annotations"] = json!({BOUND_BY_CONTROLLER: YES});
    }
    let named = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace, "name": meta.name,
        "uid": meta.uid, "resourceVersion": meta.resource_version, "fieldPath": null,
    });
    let body = json!({"metadata": metadata, "spec": {"claimRef": named}});
    Some(Op::merge(&PERSISTENT_VOLUMES, &volume.metadata, body))
}

fn name_volume(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<Op> {
    let (name, annotations) = (&volume.metadata.name, &claim.metadata.annotations);
    let is_named = claim.spec.volume_name == *name;
    let mut added = Map::new();
    if !is_named && !annotations.contains_key(BOUND_BY_CONTROLLER) {
        added.insert(BOUND_BY_CONTROLLER.into(), YES.into());
    }
    if !annotations.contains_key(BIND_COMPLETED) {
        added.insert(BIND_COMPLETED.into(), YES.into());
    }
    if is_named && added.is_empty() {
        return None;
    }
    let mut metadata = versioned(claim.metadata.resource_version.as_str());
    metadata["annotations"] = added.into();
    let body = json!({"metadata": metadata, "spec": {"volumeName": name}});
    Some(Op::merge(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata, body))
}

/// Gives a volume back to all where the controller had taken it, and to its claim of whatever uid where somebody else
/// had reserved it.
pub(super) fn unbind(volume: &PersistentVolume) -> Plan {
    let mut metadata = versioned(volume.metadata.resource_version.as_str());
    let annotations = &volume.metadata.annotations;
    let is_taken = annotations.contains_key(BOUND_BY_CONTROLLER);
    let taken = is_taken.then_some((BOUND_BY_CONTROLLER, Value::Null));
    for (name, none) in taken.into_iter().chain(host_path::forget(volume)) {
        metadata["annotations"][name] = none;
    }
    let spec = if is_taken {
        json!({"claimRef": null})
    } else {
        json!({"claimRef": {"uid": null}})
    };
    let body = json!({"metadata": metadata, "spec": spec});
    Plan::of(vec![Op::merge(&PERSISTENT_VOLUMES, &volume.metadata, body)])
}

/// The part of a patch that refuses it when the object has changed.
pub(super) fn versioned(resource_version: &str) -> Value {
    json!({ "resourceVersion": resource_version })
}

/// Puts a volume into a phase, unless it is in it.
pub(super) fn volume_phase(
    volume: &PersistentVolume,
    phase: &str,
    message: &str,
    world: &World,
) -> Option<Op> {
    if volume.status.phase == phase {
        return None;
    }
    let message = if message.is_empty() {
        Value::Null
    } else {
        message.into()
    };
    let status = json!({"phase": phase, "message": message, "lastPhaseTransitionTime": timestamp::time(world.now)});
    Some(Op::status(&PERSISTENT_VOLUMES, &volume.metadata, status))
}

/// Says that a volume could not be reclaimed. Once: the message is that of the first failure.
pub(super) fn volume_failed(
    volume: &PersistentVolume,
    reason: &'static str,
    message: &str,
    world: &World,
) -> Vec<Op> {
    let Some(op) = volume_phase(volume, "Failed", message, world) else {
        return Vec::new();
    };
    let (meta, warning) = (&volume.metadata, EventType::Warning);
    vec![
        op,
        event(&PERSISTENT_VOLUMES, meta, warning, reason, message),
    ]
}

/// Says what the claim has got; without a volume it has nothing.
pub(super) fn claim_status(
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolume>,
) -> Option<Op> {
    let old = &claim.status;
    let mut status = Map::new();
    if old.phase != phase {
        status.insert("phase".into(), phase.into());
    }
    let modes = volume.map_or(&[][..], |volume| &volume.spec.access_modes);
    if old.access_modes != modes {
        let modes = if modes.is_empty() {
            Value::Null
        } else {
            json!(modes)
        };
        status.insert("accessModes".into(), modes);
    }
    match volume {
        None if !old.capacity.is_empty() => {
            status.insert("capacity".into(), Value::Null);
        }
        // A claim that is bound may have grown less than its volume.
        Some(volume)
            if old.phase != phase
                && size::storage(&volume.spec.capacity) != size::storage(&old.capacity) =>
        {
            status.insert("capacity".into(), json!(volume.spec.capacity));
        }
        _ => {}
    }
    let attributes = volume.and_then(|v| v.spec.volume_attributes_class_name.as_ref());
    let is_new = volume.is_none() || old.phase != phase;
    if is_new && old.current_volume_attributes_class_name.as_ref() != attributes {
        status.insert("currentVolumeAttributesClassName".into(), json!(attributes));
    }
    (!status.is_empty())
        .then(|| Op::status(&PERSISTENT_VOLUME_CLAIMS, &claim.metadata, status.into()))
}
