//! What a DaemonSet reports.

use super::Daemons;
use crate::patches::or_absent;
use agent_runtime::kinds::DaemonSetStatus;
use agent_runtime::plan::Op;
use agent_runtime::resource_ref::DAEMON_SETS;
use serde_json::json;

impl Daemons<'_> {
    /// The status patch, when the status has to change.
    pub(super) fn status_op(&self) -> Option<Op> {
        let old = &self.set.status;
        let new = self.status();
        if new == *old {
            return None;
        }
        let body = json!({
            "currentNumberScheduled": new.current_number_scheduled,
            "numberMisscheduled": new.number_misscheduled,
            "desiredNumberScheduled": new.desired_number_scheduled,
            "numberReady": new.number_ready,
            "observedGeneration": or_absent(new.observed_generation),
            "updatedNumberScheduled": or_absent(new.updated_number_scheduled.into()),
            "numberAvailable": or_absent(new.number_available.into()),
            "numberUnavailable": or_absent(new.number_unavailable.into()),
        });
        Some(Op::status(&DAEMON_SETS, &self.set.metadata, body))
    }

    /// Of several pods on a node the oldest counts.
    fn status(&self) -> DaemonSetStatus {
        let old = &self.set.status;
        let mut new = DaemonSetStatus {
            observed_generation: self.set.metadata.generation.max(old.observed_generation),
            collision_count: old.collision_count,
            ..DaemonSetStatus::default()
        };
        for (node, decision) in &self.nodes {
            let pod = self.pods.get(&**node).and_then(|pods| pods.first());
            if !decision.runs {
                new.number_misscheduled += i32::from(pod.is_some());
                continue;
            }
            new.desired_number_scheduled += 1;
            let Some(pod) = pod else { continue };
            new.current_number_scheduled += 1;
            new.number_ready += i32::from(pod.is_ready());
            new.number_available += i32::from(self.is_available(pod));
            new.updated_number_scheduled += i32::from(self.is_updated(pod));
        }
        new.number_unavailable = new.desired_number_scheduled - new.number_available;
        new
    }
}
