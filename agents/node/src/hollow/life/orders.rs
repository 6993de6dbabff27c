//! Carries out on [`Run`]s what a real node would do with containers.

use std::time::Duration;

use agent_runtime::EventType;
use time::OffsetDateTime;

use super::{Life, Note, Place, ROUNDS_MAX, Step};
use crate::hollow::runs::{self, Run, Sandbox};
use crate::pod::plan::{self, Action, StopReason};
use crate::runtime::hollow::seconds;
use crate::spec::{Pod, Role};

/// Before another try to get an address.
const ADDRESS_RETRY: time::Duration = time::Duration::seconds(2);
/// A container that gives way to one of another image goes on so long at least, as on a real node: who has just changed
/// the pod finds it ready.
const CHANGE_MIN: Duration = Duration::from_millis(500);
/// A container that ends itself when it is told to.
const TERMINATED: i64 = 143;
const KILLED: i64 = 137;

impl Life {
    /// True where the next plan will see something else.
    pub(super) fn carry_out(
        &mut self,
        pod: &Pod,
        action: Action,
        place: &mut Place<'_>,
        now: OffsetDateTime,
        step: &mut Step,
    ) -> bool {
        match action {
            Action::RunSandbox { attempt } => {
                self.release(place);
                let ip = match pod.spec.host_network {
                    true => None,
                    false => match place.addresses.take(place.node) {
                        Some(ip) => Some(ip),
                        None => {
                            self.without_address(now, step);
                            return false;
                        }
                    },
                };
                self.address_missed = false;
                self.sandbox = Some(Sandbox {
                    attempt,
                    ip,
                    since: now,
                    stopped: false,
                });
                true
            }
            Action::Start {
                container,
                attempt,
                replaces,
            } => self.start(pod, (&container, attempt, replaces), place, now, step),
            Action::Stop { id, reason, .. } => {
                let least = match reason {
                    StopReason::DefinitionChanged => CHANGE_MIN,
                    _ => Duration::ZERO,
                };
                let pause = self.pause(&id, pod, place).max(least);
                self.stop(&id, pod, pause, place, now, step)
            }
            Action::StopSandbox { .. } => {
                self.release(place);
                true
            }
            Action::Remove { id } => {
                let node = place.node_name;
                self.runs.retain(|run| run.id(pod, node) != id);
                false
            }
        }
    }

    fn without_address(&mut self, now: OffsetDateTime, step: &mut Step) {
        step.wake(now + ADDRESS_RETRY);
        if !std::mem::replace(&mut self.address_missed, true) {
            step.notes.push(Note {
                container: None,
                kind: EventType::Warning,
                reason: "FailedCreatePodSandBox",
                text: "Failed to create pod sandbox: no address of the node's range is free".into(),
            });
        }
    }

    fn start(
        &mut self,
        pod: &Pod,
        (name, attempt, replaces): (&str, u32, Option<OffsetDateTime>),
        place: &mut Place<'_>,
        now: OffsetDateTime,
        step: &mut Step,
    ) -> bool {
        let known = |run: &Run| &*run.container == name && run.attempt == attempt;
        let (Some(found), Some(sandbox)) = (pod.container(name), &self.sandbox) else {
            return false;
        };
        if self.runs.iter().any(known) {
            return false;
        }
        let sandbox = sandbox.attempt;
        if self.is_kept(pod, found, place, now, step) {
            return false;
        }
        if let Some(failed_at) = replaces {
            self.backoffs.next(name, failed_at, now);
        }
        let run = runs::begin(pod, found, attempt, sandbox, place.pace(), now);
        let changed = run.begins <= now;
        // Most pods have one, and a list that grows by itself has room for four.
        self.runs.reserve_exact(1);
        self.runs.push(run);
        changed
    }

    /// How long it takes to stop a container.
    fn pause(&self, id: &str, pod: &Pod, place: &Place<'_>) -> Duration {
        let pause = place.stage.delete.sample((&pod.metadata.uid, id, "delete"));
        pause.saturating_mul(place.slow)
    }

    /// True where it has ended already.
    fn stop(
        &mut self,
        id: &str,
        pod: &Pod,
        pause: Duration,
        place: &Place<'_>,
        now: OffsetDateTime,
        step: &mut Step,
    ) -> bool {
        let grace = Duration::from_secs(u64::try_from(pod.grace_seconds()).unwrap_or(0));
        let code = if pause > grace { KILLED } else { TERMINATED };
        let at = now + seconds(pause.min(grace));
        let node = place.node_name;
        let Some(run) = self.runs.iter_mut().find(|run| run.id(pod, node) == id) else {
            return false;
        };
        if run.ends.is_none_or(|(end, _)| at < end) {
            // A second order counts only where it shortens the first: the grace period has been cut.
            run.ends = Some((at, code));
        }
        if !std::mem::replace(&mut run.stopping, true) {
            let role = pod
                .container(&run.container)
                .map_or(Role::App, |(role, _)| role);
            step.notes.push(Note {
                container: Some((role, run.container.to_string())),
                kind: EventType::Normal,
                reason: "Killing",
                text: format!("Stopping container {}", run.container),
            });
        }
        at <= now
    }

    /// Ends what runs, in the order of a real node. True when nothing runs any more.
    pub(super) fn wind_down(
        &mut self,
        pod: &Pod,
        place: &mut Place<'_>,
        now: OffsetDateTime,
        step: &mut Step,
    ) -> bool {
        self.runs.retain(|run| run.begins <= now);
        for _ in 0..ROUNDS_MAX {
            let observed = self.observation(pod, place.node_name, now);
            let Some(group) = plan::termination(pod, &observed).into_iter().next() else {
                self.release(place);
                return true;
            };
            let mut changed = false;
            for action in group {
                changed |= self.carry_out(pod, action, place, now, step);
            }
            if !changed {
                break;
            }
        }
        false
    }
}
