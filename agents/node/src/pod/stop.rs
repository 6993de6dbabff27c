//! Stopping one container: event, preStop hook within the grace period, stop signal, and in the end the kill.

use std::time::Duration;

use agent_runtime::EventType;
use tokio::time::Instant;

use super::handler::{self, Outcome, Target};
use super::plan::{self, StopReason};
use super::probe::Kind;
use super::worker::Worker;
use crate::runtime::RuntimeError;
use crate::spec::{GRACE_SECONDS_MAX, Pod, Role};

/// What a container gets to end itself even when the grace period is used up or zero: as much as a kubelet gives.
pub(crate) const GRACE_MIN: Duration = Duration::from_secs(2);

/// What a container that a probe has killed usually ends with: anything but success.
const KILLED: i64 = 137;

impl Worker {
    /// How long a container may take to stop for this reason.
    pub(super) fn grace(&self, container: &str, reason: StopReason) -> Duration {
        grace(&self.pod, container, reason)
    }

    /// Stops a container by the deadline at the latest. Gives its id when its preStop hook has been run.
    pub(super) async fn stop_container(
        &self,
        id: &str,
        name: &str,
        reason: StopReason,
        deadline: Instant,
    ) -> Result<Option<String>, RuntimeError> {
        let found = self.pod.container(name);
        let role = found.map_or(Role::App, |(role, _)| role);
        let again = self.pre_stopped.contains(id);
        if !again {
            let text = farewell_of(&self.pod, name, reason);
            self.event(Some((role, name)), EventType::Normal, "Killing", text);
        }
        let hook = found
            .and_then(|(_, container)| Some((container, container.lifecycle.pre_stop.as_ref()?)));
        let mut hooked = None;
        let left = deadline.saturating_duration_since(Instant::now());
        if let Some((container, hook)) = hook
            && !again
            && !left.is_zero()
        {
            let ip = match self.pod.spec.host_network {
                true => Some(self.agent.host_ip().to_owned()),
                false => self
                    .observed
                    .sandbox()
                    .and_then(|sandbox| sandbox.ip.clone()),
            };
            let target = Target {
                container_id: id.to_owned(),
                ip: ip.unwrap_or_default(),
            };
            let outcome =
                handler::run_hook(&*self.agent.runtime, hook, container, &target, left).await;
            if let Outcome::Failure(text) | Outcome::Unknown(text) = outcome {
                tracing::debug!(pod = %self.pod.display(), container = name, %text, "preStop hook failed");
                let text = "PreStopHook failed".to_owned();
                self.event(
                    Some((role, name)),
                    EventType::Warning,
                    "FailedPreStopHook",
                    text,
                );
            }
            hooked = Some(id.to_owned());
        }
        let grace = deadline
            .saturating_duration_since(Instant::now())
            .max(GRACE_MIN);
        self.agent.runtime.stop(id, grace).await?;
        Ok(hooked)
    }
}

/// How long a container may take to stop for this reason.
pub(crate) fn grace(pod: &Pod, container: &str, reason: StopReason) -> Duration {
    let container = pod.container(container).map(|(_, container)| container);
    let probe = match reason {
        StopReason::Probe(kind @ (Kind::Startup | Kind::Liveness)) => {
            container.and_then(|c| kind.of(c))
        }
        _ => None,
    };
    let seconds = probe
        .and_then(|probe| probe.termination_grace_period_seconds)
        .unwrap_or(pod.grace_seconds());
    let seconds = seconds.clamp(0, GRACE_SECONDS_MAX);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The text of a `Killing` event of a container of this pod.
pub(crate) fn farewell_of(pod: &Pod, name: &str, reason: StopReason) -> String {
    let restarts = pod
        .container(name)
        .is_some_and(|(role, container)| plan::should_restart(pod, role, container, KILLED));
    farewell(name, reason, restarts)
}

fn farewell(name: &str, reason: StopReason, restarts: bool) -> String {
    match reason {
        StopReason::DefinitionChanged => {
            format!("Container {name} definition changed, will be restarted")
        }
        StopReason::Resized => format!("Container {name} resize requires restart"),
        StopReason::Probe(kind) => {
            let next = if restarts { ", will be restarted" } else { "" };
            format!(
                "Container {name} failed {} probe{next}",
                kind.title().to_lowercase()
            )
        }
        StopReason::SandboxChanged | StopReason::PodFinished | StopReason::Terminating => {
            format!("Stopping container {name}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_killed_container_is_told_to_come_back_only_where_it_does() {
        let probe = StopReason::Probe(Kind::Liveness);
        assert_eq!(
            farewell("c", probe, true),
            "Container c failed liveness probe, will be restarted"
        );
        assert_eq!(
            farewell("c", probe, false),
            "Container c failed liveness probe"
        );
        assert_eq!(
            farewell("c", StopReason::Terminating, true),
            "Stopping container c"
        );
    }
}
