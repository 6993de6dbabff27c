//! Doing what a plan says.

use std::time::Duration;

use agent_runtime::EventType;
use tokio::time::Instant;

use super::{Worker, retry_pause};
use crate::etc;
use crate::pod::container;
use crate::pod::devices::{self, Drivers};
use crate::pod::plan::Action;
use crate::pod::prepare::Prepared;
use crate::runtime::RuntimeError;

/// The longest pause between looks at claims on devices, which nothing cuts short.
const CLAIMS_RETRY_MAX: Duration = Duration::from_secs(10);

impl Worker {
    pub(super) async fn execute(
        &mut self,
        actions: Vec<Action>,
        mut prepared: Option<Prepared>,
    ) -> Result<(), RuntimeError> {
        let (stops, others): (Vec<Action>, Vec<Action>) = actions
            .into_iter()
            .partition(|action| matches!(action, Action::Stop { .. }));
        self.execute_stops(stops).await?;
        for action in others {
            match action {
                Action::Stop { .. } => {}
                Action::StopSandbox { id } => {
                    self.agent.runtime.stop(&id, Duration::ZERO).await?;
                }
                Action::Remove { id } => self.agent.runtime.remove(&id).await?,
                Action::RunSandbox { attempt } => return self.run_sandbox(attempt).await,
                Action::Start {
                    container,
                    attempt,
                    replaces,
                } => {
                    let Some(prepared) = &mut prepared else {
                        return Ok(());
                    };
                    self.launch(&container, attempt, replaces, prepared).await?;
                }
            }
        }
        Ok(())
    }

    pub(in crate::pod) async fn execute_stops(
        &mut self,
        stops: Vec<Action>,
    ) -> Result<(), RuntimeError> {
        let now = Instant::now();
        let worker = &*self;
        let futures = stops.into_iter().filter_map(|action| match action {
            Action::Stop {
                id,
                container,
                reason,
            } => {
                let deadline = now + worker.grace(&container, reason);
                Some(async move {
                    worker
                        .stop_container(&id, &container, reason, deadline)
                        .await
                })
            }
            _ => None,
        });
        let stopped = futures::future::try_join_all(futures).await?;
        self.pre_stopped.extend(stopped.into_iter().flatten());
        Ok(())
    }

    /// Whether the claims on devices let the pod begin; else when to look again. A node may not watch claims.
    pub(super) async fn look_at_claims(&mut self) -> Result<(), Duration> {
        let drivers = match self.agent.is_hollow() {
            true => Drivers::Pretended,
            false => Drivers::Missing,
        };
        match devices::look(&self.agent.client, &self.pod, drivers).await {
            Ok(()) => {
                self.claim_failures = 0;
                Ok(())
            }
            Err(text) => {
                self.event(None, EventType::Warning, devices::REASON, text);
                let pause = retry_pause(self.claim_failures).min(CLAIMS_RETRY_MAX);
                self.claim_failures = self.claim_failures.saturating_add(1);
                Err(pause)
            }
        }
    }

    async fn run_sandbox(&mut self, attempt: u32) -> Result<(), RuntimeError> {
        if attempt > 0 {
            let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
            self.event(None, EventType::Normal, "SandboxChanged", text);
        }
        let hostname = etc::hostname(&self.pod, self.agent.cluster_domain());
        let spec = container::sandbox(&self.pod, attempt, hostname);
        match self.agent.runtime.run_sandbox(&spec).await {
            Ok(_) => {
                self.sandbox_failures = 0;
                Ok(())
            }
            Err(RuntimeError::Unavailable(text)) => Err(RuntimeError::Unavailable(text)),
            Err(error) => {
                let text = format!("Failed to create pod sandbox: {error}");
                self.event(None, EventType::Warning, "FailedCreatePodSandBox", text);
                let pause = retry_pause(self.sandbox_failures);
                self.sandbox_failures = self.sandbox_failures.saturating_add(1);
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }
}
