//! What becomes of a volume whose claim is gone: kept, left to who provisioned it, or deleted with its directory.
//!
//! A directory is removed by the agent of its node, which is asked by an annotation of the Node. The volume notes that it
//! was asked, so that a name that is gone from the annotation means that the directory is gone.

use super::binding::{self, volume_failed, volume_phase};
use super::{PROVISIONED_BY, host_path, provision};
use crate::world::World;
use agent_runtime::ResourceRef;
use agent_runtime::kinds::{Node, ObjectMeta, ObjectReference, PersistentVolume};
use agent_runtime::local_path::{self, PROVISIONER, REMOVE, REMOVED_MAX, SIMULATED};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES};
use serde_json::{Value, json};

const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// On a volume: the agent of its node has been asked to remove its directory.
pub(super) const ASKED: &str = "kontiki.io/local-path-removal-asked";

/// On volumes that are made here and deleted with their claim: one that somebody deletes by hand is there until its directory
/// is gone, as with external provisioners.
pub(super) const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

fn is_held(volume: &PersistentVolume) -> bool {
    volume
        .metadata
        .finalizers
        .iter()
        .any(|name| name == FINALIZER)
}

/// Puts the finalizer on a volume that is to go with its directory, and takes it from one whose directory is to stay.
pub(super) fn hold(volume: &PersistentVolume) -> Option<Op> {
    let meta = &volume.metadata;
    let is_own = meta
        .annotations
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER);
    let is_deleted = volume.spec.persistent_volume_reclaim_policy == "Delete";
    let is_lacking = is_deleted && volume.status.phase == "Bound" && !meta.is_deleting();
    match (is_own, is_held(volume)) {
        (true, false) if is_lacking => Some(finalizers(volume, true)),
        (true, true) if !is_deleted => Some(finalizers(volume, false)),
        _ => None,
    }
}

fn finalizers(volume: &PersistentVolume, with: bool) -> Op {
    let meta = &volume.metadata;
    let others = meta.finalizers.iter().filter(|name| *name != FINALIZER);
    let own = with.then_some(FINALIZER);
    let all: Vec<&str> = others.map(String::as_str).chain(own).collect();
    let mut metadata = binding::versioned(&meta.resource_version);
    metadata["finalizers"] = json!(all);
    Op::merge(&PERSISTENT_VOLUMES, meta, json!({ "metadata": metadata }))
}

/// Releases a volume whose claim is gone, then reclaims it.
pub(super) fn plan(volume: &PersistentVolume, named: &ObjectReference, world: &World) -> Plan {
    let mut plan = unneeded(volume, world);
    if !plan.ops.is_empty() {
        // A volume may be newer than what is seen of claims: nobody's volume is given away.
        let absent = Op::Absent {
            resource: PERSISTENT_VOLUME_CLAIMS,
            namespace: named.namespace.clone(),
            name: named.name.clone(),
            uid: named.uid.clone(),
        };
        plan.ops.insert(0, absent);
    }
    plan
}

/// Releases and reclaims a volume of which it is known that its claim does not need it.
pub(super) fn unneeded(volume: &PersistentVolume, world: &World) -> Plan {
    if !matches!(volume.status.phase.as_str(), "Released" | "Failed") {
        let op = volume_phase(volume, "Released", "", world);
        return Plan::of(op.into_iter().collect());
    }
    if volume.metadata.annotations.contains_key(MIGRATED_TO) {
        return Plan::none();
    }
    let fail = |reason, text: &str| Plan::of(volume_failed(volume, reason, text, world));
    match volume.spec.persistent_volume_reclaim_policy.as_str() {
        "Retain" => Plan::none(),
        "Delete" => delete(volume, world),
        "Recycle" => match host_path::directory(volume) {
            Some((path, how)) => host_path::plan(volume, path, how, world),
            None => fail(
                "VolumeFailedRecycle",
                "No recycler plugin found for the volume!",
            ),
        },
        _ => fail(
            "VolumeUnknownReclaimPolicy",
            "Volume has unrecognized PersistentVolumeReclaimPolicy",
        ),
    }
}

fn delete(volume: &PersistentVolume, world: &World) -> Plan {
    let by = volume.metadata.annotations.get(PROVISIONED_BY);
    match by.map_or("", String::as_str) {
        PROVISIONER => remove(volume, world),
        by if !by.is_empty() && !by.starts_with("kubernetes.io/") => Plan::none(),
        _ => match host_path::directory(volume) {
            Some((path, how)) => host_path::plan(volume, path, how, world),
            None => {
                let text = no_deleter(volume);
                Plan::of(volume_failed(volume, "VolumeFailedDelete", &text, world))
            }
        },
    }
}

/// Nothing else is deleted here that somebody has made.
fn no_deleter(volume: &PersistentVolume) -> String {
    let name = &volume.metadata.name;
    let why = match &volume.spec.nfs {
        None => "no volume plugin matched",
        Some(_) => "no deletable volume plugin matched",
    };
    format!("error getting deleter volume plugin for volume \"{name}\": {why}")
}

/// The next step of removing a directory and its volume.
fn remove(volume: &PersistentVolume, world: &World) -> Plan {
    let meta = &volume.metadata;
    // First it is deleted, then let go: it is never there without its directory and as if nothing were.
    let delete = match (meta.is_deleting(), is_held(volume)) {
        (false, _) => Plan::of(vec![Op::delete(&PERSISTENT_VOLUMES, meta)]),
        (true, true) => Plan::of(vec![finalizers(volume, false)]),
        (true, false) => return Plan::none(),
    };
    // With a node that is gone its directories are, as far as the cluster knows.
    let Some(node) = provision::node_of(volume.spec.node_affinity.as_ref(), world) else {
        return delete;
    };
    if node.metadata.annotations.contains_key(SIMULATED) {
        return delete;
    }
    let annotation = node.metadata.annotations.get(REMOVE).map(String::as_str);
    let names = local_path::names(annotation);
    let is_listed = names.contains(&meta.name.as_str());
    let is_asked = meta.annotations.get(ASKED) == Some(&node.metadata.uid);
    match (is_asked, is_listed) {
        (true, true) => Plan::none(),
        (true, false) => delete,
        (false, false) if names.len() >= REMOVED_MAX => Plan::none(),
        (false, false) => {
            let all = [names.as_slice(), &[&meta.name]].concat().join(",");
            let ask = annotate(&NODES, &node.metadata, REMOVE, &all.into());
            Plan::of(vec![ask, note_asked(meta, &node)])
        }
        (false, true) => Plan::of(vec![note_asked(meta, &node)]),
    }
}

pub(super) fn note_asked(volume: &ObjectMeta, node: &Node) -> Op {
    let uid = node.metadata.uid.as_str().into();
    annotate(&PERSISTENT_VOLUMES, volume, ASKED, &uid)
}

pub(super) fn annotate(resource: &ResourceRef, meta: &ObjectMeta, name: &str, value: &Value) -> Op {
    let mut metadata = binding::versioned(&meta.resource_version);
    metadata["annotations"] = json!({ name: value });
    Op::merge(resource, meta, json!({ "metadata": metadata }))
}

/// Whether it waits for the agent of its node.
pub(super) fn waits_for_node(volume: &PersistentVolume) -> bool {
    let by = volume.metadata.annotations.get(PROVISIONED_BY);
    (by.is_some_and(|by| by == PROVISIONER) || host_path::directory(volume).is_some())
        && matches!(volume.status.phase.as_str(), "Released" | "Failed")
}
