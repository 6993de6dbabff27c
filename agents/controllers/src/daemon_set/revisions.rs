//! The history of a DaemonSet: the revision of its template, and the older ones.

use crate::history::{self, Owner, REVISION_LABEL};
use crate::world::World;
use agent_runtime::kinds::{ControllerRevision, DaemonSet, ObjectMeta, Pod};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::{CONTROLLER_REVISIONS, DAEMON_SETS, PODS};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The history, when it is in order.
pub(super) struct History {
    /// Of the current revision: what its pods carry.
    pub(super) hash: String,
    /// Other revisions, the oldest first.
    old: Vec<Arc<ControllerRevision>>,
}

/// Looks at the history, or says what has to be done about it first.
pub(super) fn look(
    set: &DaemonSet,
    mut revisions: Vec<Arc<ControllerRevision>>,
    pods: &[Arc<Pod>],
    world: &World,
) -> Result<History, Vec<Op>> {
    history::sort(&mut revisions);
    let unlabelled = revisions
        .iter()
        .filter(|revision| label(revision).is_none());
    let labels: Vec<Op> = unlabelled
        .map(|revision| {
            let name = &revision.metadata.name;
            relabel(&CONTROLLER_REVISIONS, &revision.metadata, name)
        })
        .collect();
    if !labels.is_empty() {
        return Err(labels);
    }
    let data = history::data(&set.spec.template);
    let (mut current, old): (Vec<_>, Vec<_>) = revisions
        .into_iter()
        .partition(|revision| history::is_of(revision, &data));
    let number = history::next_number(&old);
    let Some(keep) = current.pop() else {
        let owner = Owner {
            resource: DAEMON_SETS,
            meta: &set.metadata,
            template: &set.spec.template,
            collision_count: set.status.collision_count,
            hash_label: REVISION_LABEL,
        };
        return Err(vec![history::create(world, &owner, number)]);
    };
    let hash = label(&keep).unwrap_or_default().to_owned();
    if !current.is_empty() {
        return Err(merge(&current, &hash, pods));
    }
    if keep.revision < number {
        return Err(vec![history::renumber(&keep, number)]);
    }
    Ok(History { hash, old })
}

/// Makes one of several revisions with the same template: the pods of the others are those of the last one.
fn merge(others: &[Arc<ControllerRevision>], hash: &str, pods: &[Arc<Pod>]) -> Vec<Op> {
    let hashes: BTreeSet<&str> = others.iter().filter_map(|other| label(other)).collect();
    let moving = pods
        .iter()
        .filter(|pod| hashes.contains(history::revision_of(pod)));
    let moving = moving
        .map(|pod| relabel(&PODS, &pod.metadata, hash))
        .collect();
    let delete =
        |other: &Arc<ControllerRevision>| Op::delete(&CONTROLLER_REVISIONS, &other.metadata);
    let mut ops = vec![Op::Parallel(moving)];
    ops.extend(others.iter().map(delete));
    ops
}

fn label(revision: &ControllerRevision) -> Option<&str> {
    let label = revision.metadata.labels.get(REVISION_LABEL);
    label.map(String::as_str)
}

fn relabel(resource: &agent_runtime::ResourceRef, meta: &ObjectMeta, hash: &str) -> Op {
    let body = json!({"metadata": {"uid": meta.uid, "labels": {REVISION_LABEL: hash}}});
    Op::merge(resource, meta, body)
}

impl History {
    /// Deletes the oldest revisions beyond the limit, of those that no pod has.
    pub(super) fn surplus(&self, set: &DaemonSet, pods: &[Arc<Pod>]) -> Vec<Op> {
        let Some(limit) = set.spec.revision_history_limit else {
            return Vec::new();
        };
        let live: BTreeSet<&str> = pods.iter().map(|pod| history::revision_of(pod)).collect();
        let surplus = self
            .old
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or(0));
        self.old
            .iter()
            .filter(|revision| !live.contains(label(revision).unwrap_or_default()))
            .filter(|revision| !revision.metadata.is_deleting())
            .take(surplus)
            .map(|revision| Op::delete(&CONTROLLER_REVISIONS, &revision.metadata))
            .collect()
    }
}
