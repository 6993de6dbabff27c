//! Reclaims what somebody made a volume of by hand: a directory of a host. The agent of the node that has it removes it, or
//! empties it so that the volume can be had again.
//!
//! Kubernetes removes such a directory from whatever machine its controllers run on, and only below `/tmp`, which is kept; and
//! empties any, in a pod. Here nothing but what is below `/tmp` is touched, and only where it is clear on which node it is.

use super::binding::{self, volume_failed};
use super::event;
use super::reclaim::{ASKED, annotate, note_asked};
use crate::world::World;
use agent_runtime::host_path::{How, RECLAIM, Task, annotation, below_tmp, tasks};
use agent_runtime::kinds::{Mention, Node, PersistentVolume, PodPlacement};
use agent_runtime::local_path::{REMOVED_MAX, SIMULATED};
use agent_runtime::plan::{Op, Plan};
use agent_runtime::resource_ref::{NODES, PERSISTENT_VOLUMES};
use agent_runtime::{EventType, Key};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Before another look whether pods still use a volume.
const IN_USE: Duration = Duration::from_secs(15);

/// The next step for a volume that is no longer claimed.
pub(super) fn plan(volume: &PersistentVolume, path: &str, how: How, world: &World) -> Plan {
    let (reason, plugin) = match how {
        How::Remove => ("VolumeFailedDelete", "deleter"),
        How::Scrub => ("VolumeFailedRecycle", "recycler"),
    };
    let fail = |text: &str| Plan::of(volume_failed(volume, reason, text, world));
    if below_tmp(path).is_none() {
        return fail(&format!(
            "host_path {plugin} only supports /tmp/.+ but received provided {path}"
        ));
    }
    if how == How::Scrub
        && let Some(users) = users(volume, world)
    {
        let text = format!("Volume is used by pods: {users}");
        let (meta, kind) = (&volume.metadata, EventType::Normal);
        let mut plan = Plan::of(vec![event(&PERSISTENT_VOLUMES, meta, kind, reason, text)]);
        plan.again(IN_USE);
        return plan;
    }
    let nodes = nodes_of(volume, world);
    let node = match nodes.as_slice() {
        // With a node that is gone its directories are, as far as the cluster knows.
        [] => return done(volume, how),
        [node] => node,
        _ => return fail("the directory may be on several nodes: nodeAffinity has to name one"),
    };
    if node.metadata.annotations.contains_key(SIMULATED) {
        return done(volume, how);
    }
    let meta = &volume.metadata;
    let listed = node.metadata.annotations.get(RECLAIM);
    let mut all = tasks(listed.map(String::as_str));
    let is_listed = all.contains_key(&meta.name);
    let is_asked = meta.annotations.get(ASKED) == Some(&node.metadata.uid);
    match (is_asked, is_listed) {
        (true, true) => Plan::none(),
        (true, false) => done(volume, how),
        (false, false) if all.len() >= REMOVED_MAX => Plan::none(),
        (false, false) => {
            let path = path.to_owned();
            all.insert(meta.name.clone(), Task { how, path });
            let ask = annotate(&NODES, &node.metadata, RECLAIM, &annotation(&all));
            Plan::of(vec![ask, note_asked(meta, node)])
        }
        (false, true) => Plan::of(vec![note_asked(meta, node)]),
    }
}

fn done(volume: &PersistentVolume, how: How) -> Plan {
    let meta = &volume.metadata;
    match how {
        How::Remove if meta.is_deleting() => Plan::none(),
        How::Remove => Plan::of(vec![Op::delete(&PERSISTENT_VOLUMES, meta)]),
        How::Scrub => {
            let mut plan = binding::unbind(volume);
            let (kind, reason) = (EventType::Normal, "VolumeRecycled");
            plan.push(event(
                &PERSISTENT_VOLUMES,
                meta,
                kind,
                reason,
                "Volume recycled",
            ));
            plan
        }
    }
}

/// The nodes that may have the directory.
fn nodes_of(volume: &PersistentVolume, world: &World) -> Vec<Arc<Node>> {
    let mut nodes = world.caches.nodes.list();
    let required = volume.spec.node_affinity.as_ref();
    if let Some(required) = required.and_then(|affinity| affinity.get("required")) {
        let affinity = json!({"requiredDuringSchedulingIgnoredDuringExecution": required});
        let spec = json!({"affinity": {"nodeAffinity": affinity}});
        let placement = serde_json::from_value::<PodPlacement>(spec);
        nodes.retain(|node| placement.as_ref().is_ok_and(|place| place.selects(node)));
    }
    nodes
}

/// The pods that use a claim of the name that the volume's claim had.
fn users(volume: &PersistentVolume, world: &World) -> Option<String> {
    let claim = volume.spec.claim_ref.as_ref()?;
    let claim = Mention::Claim(Key::new(&claim.namespace, &claim.name));
    let pods = world.caches.pods.mentioning(&claim);
    let uses = pods.iter().filter(|pod| !pod.is_finished());
    let names: Vec<String> = uses
        .map(|pod| format!("{}/{}", pod.metadata.namespace, pod.metadata.name))
        .collect();
    (!names.is_empty()).then(|| names.join(","))
}

/// The directory of a volume that is reclaimed here.
pub(super) fn directory(volume: &PersistentVolume) -> Option<(&str, How)> {
    let path = &volume.spec.host_path.as_ref()?.path;
    let how = match volume.spec.persistent_volume_reclaim_policy.as_str() {
        "Delete" => How::Remove,
        "Recycle" => How::Scrub,
        _ => return None,
    };
    Some((path, how))
}

/// What the agent of a node has been asked, for those who notice that it has changed.
pub(super) fn asked(node: &Node) -> Option<&String> {
    node.metadata.annotations.get(RECLAIM)
}

/// An annotation that is taken away with the binding.
pub(super) fn forget(volume: &PersistentVolume) -> Option<(&'static str, Value)> {
    let is_noted = volume.metadata.annotations.contains_key(ASKED);
    is_noted.then_some((ASKED, Value::Null))
}
