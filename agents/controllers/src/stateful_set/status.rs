//! What a StatefulSet reports.

use super::Replicas;
use crate::history::revision_of;
use crate::patches::or_absent;
use agent_runtime::kinds::{Pod, StatefulSetStatus};
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::STATEFUL_SETS;
use serde_json::json;

impl Replicas<'_> {
    /// The status patch, when the status has to change.
    pub(super) fn status_op(&self) -> Option<Op> {
        let new = self.status();
        if new == self.set.status {
            return None;
        }
        let body = json!({
            "observedGeneration": or_absent(new.observed_generation),
            "replicas": new.replicas,
            "readyReplicas": or_absent(new.ready_replicas.into()),
            "currentReplicas": or_absent(new.current_replicas.into()),
            "updatedReplicas": or_absent(new.updated_replicas.into()),
            "availableReplicas": new.available_replicas,
            "currentRevision": new.current_revision,
            "updateRevision": new.update_revision,
            "collisionCount": new.collision_count,
        });
        Some(Op::status(&STATEFUL_SETS, &self.set.metadata, body))
    }

    fn status(&self) -> StatefulSetStatus {
        let old = &self.set.status;
        let count = |wanted: &dyn Fn(&Pod) -> bool| {
            let count = self.all.iter().filter(|pod| wanted(pod)).count();
            i32::try_from(count).unwrap_or(i32::MAX)
        };
        let runs = |pod: &Pod| pod.status.phase == "Running" && pod.is_ready();
        let has =
            |pod: &Pod, revision: &str| !pod.metadata.is_deleting() && revision_of(pod) == revision;
        let (current, update) = (&self.history.current, &self.history.update);
        let mut new = StatefulSetStatus {
            observed_generation: self.set.metadata.generation.max(old.observed_generation),
            replicas: count(&|_| true),
            ready_replicas: count(&runs),
            available_replicas: count(&|pod| self.is_available(pod)),
            current_replicas: count(&|pod| has(pod, &current.metadata.name)),
            updated_replicas: count(&|pod| has(pod, &update.metadata.name)),
            current_revision: current.metadata.name.clone(),
            update_revision: update.metadata.name.clone(),
            collision_count: Some(old.collision_count.unwrap_or(0)),
        };
        let all = |count: i32| i64::from(count) == self.count;
        let complete = self.set.spec.update_strategy.kind == "RollingUpdate"
            && all(new.updated_replicas)
            && all(new.ready_replicas)
            && all(new.replicas);
        if complete {
            new.current_replicas = new.updated_replicas;
            new.current_revision.clone_from(&new.update_revision);
        }
        new
    }
}
