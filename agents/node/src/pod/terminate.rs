//! The end of a pod: containers stopped within the grace period, the last status on record, everything taken away.

use std::time::Duration;

use agent_runtime::DeleteParams;
use agent_runtime::resource_ref::PODS;
use time::OffsetDateTime;

use super::plan::{self, Action, Plan};
use super::worker::{RELIST, RETRY, Worker};
use crate::clock;
use crate::runtime::{Observed, RuntimeError};
use crate::spec::Pod;
use crate::volumes;

impl Worker {
    /// Ends a pod that the node has failed; it stays on record until somebody deletes it.
    pub(super) async fn end_by_verdict(&mut self) -> Result<OffsetDateTime, RuntimeError> {
        self.end_probes();
        let groups = plan::termination(&self.pod, &self.observed);
        for group in groups {
            self.execute_stops(group).await?;
        }
        if let Some(sandbox) = self.observed.sandbox().map(|sandbox| sandbox.id.clone()) {
            self.agent.runtime.stop(&sandbox, Duration::ZERO).await?;
        }
        self.observe().await?;
        let published = self.publish(&Plan::default(), true).await;
        Ok(clock::now() + if published { RELIST } else { RETRY })
    }

    /// Takes the pod off the node: containers, record, volumes, and at last the object itself.
    pub(super) async fn terminate(&mut self) {
        self.end_probes();
        self.waiting.clear();
        while let Err(error) = self.stop_all().await {
            tracing::debug!(pod = %self.pod.display(), %error, "cannot stop the pod yet");
            tokio::time::sleep(RETRY).await;
        }
        // The final states have to be on record before the object goes.
        while !self.desired.is_removed() && !self.publish(&Plan::default(), true).await {
            tokio::time::sleep(RETRY).await;
        }
        while let Err(error) = self.remove_all().await {
            tracing::warn!(pod = %self.pod.display(), %error, "cannot clean up after the pod yet");
            tokio::time::sleep(RETRY).await;
        }
        while !self.desired.is_removed() && !self.delete().await {
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Stops every container within the grace period, which may be cut short while this goes on.
    async fn stop_all(&mut self) -> Result<(), RuntimeError> {
        self.observe().await?;
        self.publish_deleting().await;
        let started = tokio::time::Instant::now();
        loop {
            let grace = self.termination_grace();
            let groups = plan::termination(&self.pod, &self.observed);
            if groups.is_empty() {
                break;
            }
            let deadline = started + grace;
            let desired = self.desired.clone();
            let stopping = async {
                for group in &groups {
                    let worker = &*self;
                    let futures = group.iter().filter_map(|action| match action {
                        Action::Stop {
                            id,
                            container,
                            reason,
                        } => Some(worker.stop_container(id, container, *reason, deadline)),
                        _ => None,
                    });
                    futures::future::try_join_all(futures).await?;
                }
                Ok(())
            };
            let before = self.pod.clone();
            let shortened = async {
                loop {
                    desired.wake.notified().await;
                    let Ok(pod) = Pod::decode(&desired.object()) else {
                        continue;
                    };
                    if desired.is_removed() || pod.grace_seconds() < before.grace_seconds() {
                        return;
                    }
                }
            };
            tokio::select! {
                biased;
                result = stopping => result?,
                () = shortened, if !self.desired.is_removed() => {}
            }
            let running = groups.iter().flatten().filter_map(|action| match action {
                Action::Stop { id, .. } => Some(id.clone()),
                _ => None,
            });
            // Their hooks have run or are running; they are not run a second time.
            self.pre_stopped.extend(running);
            self.refresh();
            self.observe().await?;
        }
        if let Some(sandbox) = self.observed.sandbox().map(|sandbox| sandbox.id.clone()) {
            self.agent.runtime.stop(&sandbox, Duration::ZERO).await?;
        }
        self.observe().await
    }

    /// While containers are being stopped the record still shows them running.
    async fn publish_deleting(&mut self) {
        if !self.desired.is_removed() && self.observed.sandbox().is_some() {
            self.publish(&Plan::default(), false).await;
        }
    }

    fn termination_grace(&self) -> Duration {
        let seconds = u64::try_from(self.pod.grace_seconds()).unwrap_or(0);
        Duration::from_secs(seconds)
    }

    async fn remove_all(&mut self) -> Result<(), String> {
        let all = self
            .agent
            .runtime
            .list(Some(&self.pod.metadata.uid))
            .await
            .map_err(|error| error.to_string())?;
        // Containers before the sandbox whose namespaces they are in.
        let (sandboxes, containers): (Vec<_>, Vec<_>) =
            all.into_iter().partition(Observed::is_sandbox);
        for container in containers.into_iter().chain(sandboxes) {
            self.agent
                .runtime
                .remove(&container.id)
                .await
                .map_err(|error| error.to_string())?;
        }
        let dir = self.pod_dir();
        let removed = tokio::task::spawn_blocking(move || volumes::remove(&dir)).await;
        removed
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    /// Tells the API that the pod is gone from the node. False when it has to be told again.
    async fn delete(&self) -> bool {
        let metadata = &self.pod.metadata;
        let params = DeleteParams {
            grace_seconds: Some(0),
            uid: Some(metadata.uid.clone()),
            ..DeleteParams::default()
        };
        match self
            .agent
            .client
            .delete(&PODS, &metadata.namespace, &metadata.name, &params)
            .await
        {
            Ok(_) => true,
            Err(error) if error.is_not_found() || error.is_conflict() => true,
            Err(error) => {
                tracing::warn!(pod = %self.pod.display(), error = %error.message, "cannot delete the pod's object");
                false
            }
        }
    }
}
