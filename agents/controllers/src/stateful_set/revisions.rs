//! The history of a StatefulSet: the revision that its pods have, and the one that they are to get.

use crate::history::{self, Owner};
use crate::world::World;
use agent_runtime::kinds::{ControllerRevision, Pod, StatefulSet};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::{CONTROLLER_REVISIONS, STATEFUL_SETS};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The history, when it is in order.
pub(super) struct History {
    /// Of the pods before an update.
    pub(super) current: Arc<ControllerRevision>,
    /// Of the template as it is.
    pub(super) update: Arc<ControllerRevision>,
    /// All, the oldest first.
    all: Vec<Arc<ControllerRevision>>,
}

/// Looks at the history, or says what has to be done about it first.
pub(super) fn look(
    set: &StatefulSet,
    mut revisions: Vec<Arc<ControllerRevision>>,
    world: &World,
) -> Result<History, Vec<Op>> {
    history::sort(&mut revisions);
    let data = history::data(&set.spec.template);
    let number = history::next_number(&revisions);
    let equal = |revision: &&Arc<ControllerRevision>| history::is_of(revision, &data);
    let Some(update) = revisions.iter().rev().find(equal) else {
        let owner = Owner {
            resource: STATEFUL_SETS,
            meta: &set.metadata,
            template: &set.spec.template,
            collision_count: set.status.collision_count,
            hash_label: "controller.kubernetes.io/hash",
        };
        return Err(vec![history::create(world, &owner, number)]);
    };
    let last = revisions.last().map(|last| &last.metadata.uid);
    if last != Some(&update.metadata.uid) && update.revision < number {
        return Err(vec![history::renumber(update, number)]);
    }
    let has_name =
        |revision: &&Arc<ControllerRevision>| revision.metadata.name == set.status.current_revision;
    let current = revisions.iter().find(has_name).unwrap_or(update);
    Ok(History {
        current: current.clone(),
        update: update.clone(),
        all: revisions,
    })
}

impl History {
    /// Deletes the oldest revisions beyond the limit, of those that nothing has.
    pub(super) fn surplus(&self, set: &StatefulSet, pods: &[Arc<Pod>]) -> Vec<Op> {
        let limit = set.spec.revision_history_limit.map(usize::try_from);
        let Some(Ok(limit)) = limit else {
            return Vec::new();
        };
        let mut live: BTreeSet<&str> = pods.iter().map(|pod| history::revision_of(pod)).collect();
        live.extend([&*self.current.metadata.name, &*self.update.metadata.name]);
        let dead = self.all.iter().filter(|revision| {
            !live.contains(&*revision.metadata.name) && !revision.metadata.is_deleting()
        });
        let dead: Vec<_> = dead.collect();
        let surplus = dead.len().saturating_sub(limit);
        let delete =
            |dead: &&Arc<ControllerRevision>| Op::delete(&CONTROLLER_REVISIONS, &dead.metadata);
        dead[..surplus].iter().map(delete).collect()
    }
}
