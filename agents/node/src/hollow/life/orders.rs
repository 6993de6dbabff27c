//! Carries out on [`Run`]s what a real node would do with containers.

use std::time::Duration;

use agent_runtime::EventType;
use time::OffsetDateTime;

use super::{Life, Note, Place, ROUNDS_MAX, Step};
use crate::hollow::health;
use crate::hollow::runs::{self, Run, Sandbox};
use crate::pod::plan::{self, Action, StopReason};
use crate::pod::stop;
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
const SANDBOX_CHANGED: &str = "Pod sandbox changed, it will be killed and re-created.";

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
                if attempt > 0 {
                    step.notes.push(Note {
                        container: None,
                        kind: EventType::Normal,
                        reason: "SandboxChanged",
                        text: SANDBOX_CHANGED.to_owned(),
                    });
                }
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
            Action::Stop { id, reason, .. } => self.stop(&id, reason, pod, place, now, step),
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
        let known = |run: &Run| &*run.of.container == name && run.attempt == attempt;
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
            self.troubled().backoffs.next(name, failed_at, now);
        }
        let run = runs::begin(pod, found, attempt, sandbox, place.pace(), now);
        let changed = run.begins <= now;
        // Most pods have one, and a list that grows by itself has room for four.
        self.runs.reserve_exact(1);
        self.runs.push(run);
        changed
    }

    /// Tells a container to end, first of all by its hook. True where it has ended already.
    fn stop(
        &mut self,
        id: &str,
        reason: StopReason,
        pod: &Pod,
        place: &Place<'_>,
        now: OffsetDateTime,
        step: &mut Step,
    ) -> bool {
        let node = place.node_name;
        let Some(run) = self.runs.iter_mut().find(|run| run.id(pod, node) == id) else {
            return false;
        };
        let mut grace = stop::grace(pod, &run.of.container, reason);
        let leaves = self.trouble.as_deref().and_then(|trouble| trouble.leaves);
        if let Some(began) = leaves {
            // Sidecars, which go last, share the time of the others.
            grace = rest(grace, Duration::try_from(now - began).unwrap_or_default());
        }
        let pause = place.stage.delete.sample((&pod.metadata.uid, id, "delete"));
        let least = match reason {
            StopReason::DefinitionChanged => CHANGE_MIN,
            _ => Duration::ZERO,
        };
        let pause = pause.saturating_mul(place.slow).max(least);
        let found = pod.container(&run.of.container);
        let hook = found.and_then(|(_, container)| container.lifecycle.pre_stop.as_ref());
        let hook = hook.filter(|_| !grace.is_zero());
        let hook = hook.map(|hook| health::hook(hook, place.stage));
        let (takes, code, hook_ends_well) = ending(pause, hook, place.slow, grace);
        // A grace period may be longer than there are years.
        let at = now.saturating_add(seconds(takes));
        if run.ends.is_none_or(|(end, _)| at < end) {
            // A second order counts only where it shortens the first: the grace period has been cut.
            run.ends = Some((at, code));
            run.oom = false;
        }
        if !std::mem::replace(&mut run.stopping, true) {
            let role = found.map_or(Role::App, |(role, _)| role);
            let name = &run.of.container;
            let mut tell = |kind, reason, text| {
                step.notes.push(Note {
                    container: Some((role, name.to_string())),
                    kind,
                    reason,
                    text,
                });
            };
            let text = stop::farewell_of(pod, name, reason);
            tell(EventType::Normal, "Killing", text);
            if !hook_ends_well {
                let text = "PreStopHook failed".to_owned();
                tell(EventType::Warning, "FailedPreStopHook", text);
            }
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
        if pod.metadata.deletion_timestamp.is_some() {
            self.troubled().leaves.get_or_insert(now);
        }
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

/// What is left of a grace period that began so long ago.
fn rest(grace: Duration, since: Duration) -> Duration {
    match since.is_zero() {
        true => grace,
        false => grace.saturating_sub(since).max(stop::GRACE_MIN.min(grace)),
    }
}

/// How long a container takes to end that takes `pause` when it is told to, after a hook which takes its time and succeeds or not;
/// with which code it ends; and whether the hook came to a good end.
fn ending(
    pause: Duration,
    hook: Option<(Duration, bool)>,
    slow: u32,
    grace: Duration,
) -> (Duration, i64, bool) {
    let (hooked, left, is_good) = match hook {
        None => (Duration::ZERO, grace, true),
        Some((takes, is_good)) => {
            let takes = takes.saturating_mul(slow);
            let hooked = takes.min(grace);
            let left = (grace - hooked).max(stop::GRACE_MIN);
            (hooked, left, is_good && takes <= grace)
        }
    };
    let code = if pause > left { KILLED } else { TERMINATED };
    (hooked.saturating_add(pause.min(left)), code, is_good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_to_end_later_has_what_the_others_have_left() {
        for (grace, since, left) in [(30, 0, 30), (30, 10, 20), (30, 29, 2), (1, 5, 1), (0, 5, 0)] {
            let found = rest(Duration::from_secs(grace), Duration::from_secs(since));
            assert_eq!(found.as_secs(), left, "{grace} {since}");
        }
    }

    #[test]
    fn a_container_ends_after_its_hook_and_within_its_grace_period() {
        let millis = Duration::from_millis;
        // What the container takes, its hook, and its grace period; when it ends, how, and how the hook did.
        for (pause, hook, grace, expected) in [
            (200, None, 30_000, (200, TERMINATED, true)),
            (60_000, None, 30_000, (30_000, KILLED, true)),
            (200, None, 0, (0, KILLED, true)),
            (200, Some((5_000, true)), 30_000, (5_200, TERMINATED, true)),
            (200, Some((0, false)), 30_000, (200, TERMINATED, false)),
            (
                200,
                Some((60_000, true)),
                30_000,
                (30_200, TERMINATED, false),
            ),
            (9_000, Some((29_000, true)), 30_000, (31_000, KILLED, true)),
        ] {
            let hook = hook.map(|(takes, is_good)| (millis(takes), is_good));
            let (takes, code, is_good) = ending(millis(pause), hook, 1, millis(grace));
            let found = (u64::try_from(takes.as_millis()).unwrap(), code, is_good);
            assert_eq!(found, expected, "{pause} {hook:?} {grace}");
        }
    }
}
