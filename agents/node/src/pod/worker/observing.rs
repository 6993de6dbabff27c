//! What the runtime has of the pod, and what follows from that alone.

use std::collections::BTreeSet;
use std::time::Duration;

use time::OffsetDateTime;

use super::Worker;
use crate::metrics;
use crate::pod::plan::Observation;
use crate::runtime::{Observed, RuntimeError, State};

impl Worker {
    /// Looks at the pod's containers, and forgets what was kept of those that are gone.
    pub(in crate::pod) async fn observe(&mut self) -> Result<(), RuntimeError> {
        let all = self
            .agent
            .runtime
            .list(Some(&self.pod.metadata.uid))
            .await?;
        self.observed = Observation::new(all);
        let dead: Vec<Observed> = self
            .observed
            .all_containers()
            .filter(|container| {
                container.exit().is_some() && !self.messages.contains_key(&container.id)
            })
            .cloned()
            .collect();
        for container in dead {
            let message = self.termination_message(&container).await;
            self.messages.insert(container.id.clone(), message);
        }
        let ids: BTreeSet<&str> = self
            .observed
            .all_containers()
            .map(|container| container.id.as_str())
            .collect();
        self.messages.retain(|id, _| ids.contains(id.as_str()));
        self.probes.retain(|id, _| ids.contains(id.as_str()));
        self.told.retain(|id, _| ids.contains(id.as_str()));
        Ok(())
    }

    /// Counts how long it took until all containers ran, once.
    pub(super) fn count_start(&mut self, now: OffsetDateTime) {
        let runs = |name: &str| {
            let current = self.observed.current(name);
            current.is_some_and(|container| matches!(container.state, State::Running { .. }))
        };
        if !self.start_counted && self.pod.spec.containers.iter().all(|one| runs(&one.name)) {
            self.start_counted = true;
            metrics::started(Duration::try_from(now - self.started_at).unwrap_or_default());
        }
    }
}
