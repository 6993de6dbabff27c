//! What has to happen next for one pod: a function of its spec, what the runtime has, and the time.
//!
//! The worker executes the actions, looks again and plans again, until nothing is left to do. No state is kept between
//! plans but what the arguments carry, so a restarted agent goes on where the old one stopped.
//! Architecture invariant: no I/O, no clock.

mod observation;
mod recorded;
mod restart;

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

pub(crate) use self::observation::Observation;
use self::recorded::recorded;
pub(crate) use self::recorded::{is_recorded_terminal, recorded_restarts, was_recorded};
use self::restart::{is_finished, needs_sandbox};
pub(crate) use self::restart::{is_outgrown, should_restart};
use super::backoff::{self, Backoffs};
use super::container::{LABEL_HASH, definition_hash, is_resized};
use super::durations::go_duration;
use super::probe::{Kind, Results};
use crate::runtime::{Observed, State};
use crate::spec::{Container, Pod, Role};

/// Everything a plan depends on.
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) observed: &'a Observation,
    pub(crate) backoffs: &'a Backoffs,
    /// Probe results by container id.
    pub(crate) probes: &'a BTreeMap<String, Results>,
    /// Starts that failed lately and are not to be tried before this time, by container name.
    pub(crate) holds: &'a BTreeMap<String, OffsetDateTime>,
    pub(crate) now: OffsetDateTime,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Stop a running container and keep it for its logs and its exit code.
    Stop {
        id: String,
        container: String,
        reason: StopReason,
    },
    StopSandbox {
        id: String,
    },
    /// Remove a dead container or sandbox.
    Remove {
        id: String,
    },
    RunSandbox {
        attempt: u32,
    },
    Start {
        container: String,
        attempt: u32,
        replaces: Option<OffsetDateTime>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    SandboxChanged,
    DefinitionChanged,
    /// It has been given other amounts of resources, for which it is to be restarted.
    Resized,
    Probe(Kind),
    /// Every app container has ended; what still runs serves nobody.
    PodFinished,
    /// The pod goes away.
    Terminating,
}

/// Why a container does not run, for its status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Containers that wait for the end of a back-off.
    pub(crate) waiting: BTreeMap<String, Waiting>,
    /// When to plan again although nothing has happened.
    pub(crate) wake_at: Option<OffsetDateTime>,
}

impl Plan {
    pub(crate) fn wake(&mut self, at: OffsetDateTime) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The next steps for a pod that shall run.
pub(crate) fn plan(facts: &Facts<'_>) -> Plan {
    let mut plan = Plan::default();
    match facts.observed.sandbox() {
        None => plan_without_sandbox(facts, &mut plan),
        Some(sandbox) => {
            let id = sandbox.id.clone();
            if is_finished(facts) {
                plan_finish(facts, &id, &mut plan);
            } else {
                plan_ephemeral_containers(facts, &mut plan);
                if plan_init_containers(facts, &mut plan) {
                    for container in &facts.pod.spec.containers {
                        plan_container(facts, Role::App, container, &mut plan);
                    }
                }
            }
        }
    }
    plan_removals(facts, &mut plan);
    plan
}

fn plan_without_sandbox(facts: &Facts<'_>, plan: &mut Plan) {
    for container in facts
        .observed
        .all_containers()
        .filter(|container| container.is_running())
    {
        plan.actions
            .push(stop(container, StopReason::SandboxChanged));
    }
    if !needs_sandbox(facts) {
        return;
    }
    let last = facts.observed.sandboxes.first();
    for sandbox in &facts.observed.sandboxes {
        plan.actions.push(Action::Remove {
            id: sandbox.id.clone(),
        });
    }
    plan.actions.push(Action::RunSandbox {
        attempt: last.map_or(0, |sandbox| sandbox.identity.attempt + 1),
    });
}

/// Stops what still runs, one group after the other: the next plan sees the one before gone.
fn plan_finish(facts: &Facts<'_>, sandbox: &str, plan: &mut Plan) {
    match termination(facts.pod, facts.observed).into_iter().next() {
        Some(group) => plan
            .actions
            .extend(group.into_iter().map(|action| match action {
                Action::Stop { id, container, .. } => Action::Stop {
                    id,
                    container,
                    reason: StopReason::PodFinished,
                },
                other => other,
            })),
        None => plan.actions.push(Action::StopSandbox {
            id: sandbox.to_owned(),
        }),
    }
}

/// Starts what was put into the pod to look at it: each container once, and before all others, whose start may be what is
/// looked at.
fn plan_ephemeral_containers(facts: &Facts<'_>, plan: &mut Plan) {
    for container in &facts.pod.spec.ephemeral_containers {
        let latest = facts.observed.latest(&container.name);
        let has_begun = latest.is_some_and(|latest| latest.state != State::Created);
        if !has_begun && !was_recorded(facts.pod, &container.name) {
            let attempt = latest.map_or(0, |latest| latest.identity.attempt);
            start(facts, container, (attempt, None), plan);
        }
    }
}

/// Plans the init containers; true when the app containers may run.
fn plan_init_containers(facts: &Facts<'_>, plan: &mut Plan) -> bool {
    // Once an app container has been started in this sandbox, initialisation is over for good: an init container that
    // has been cleaned up must not run again.
    let apps = &facts.pod.spec.containers;
    let initialised = apps
        .iter()
        .any(|container| facts.observed.current(&container.name).is_some());
    for container in &facts.pod.spec.init_containers {
        let sidecar = container.is_sidecar();
        if initialised && !sidecar {
            continue;
        }
        let role = if sidecar { Role::Sidecar } else { Role::Init };
        let done = match facts.observed.current(&container.name) {
            Some(observed) if sidecar && observed.is_running() => {
                results(facts, observed).started(container)
            }
            Some(observed) => !sidecar && observed.exit().is_some_and(|exit| exit.code == 0),
            None => false,
        };
        if sidecar || !done {
            plan_container(facts, role, container, plan);
        }
        if !done && !initialised {
            return false;
        }
    }
    true
}

fn results(facts: &Facts<'_>, observed: &Observed) -> Results {
    facts.probes.get(&observed.id).copied().unwrap_or_default()
}

/// Starts a container, or waits where a start that has failed is left alone for a while.
fn start(
    facts: &Facts<'_>,
    container: &Container,
    (attempt, replaces): (u32, Option<OffsetDateTime>),
    plan: &mut Plan,
) {
    match facts.holds.get(&container.name) {
        Some(until) if backoff::is_ahead(*until, facts.now) => plan.wake(*until),
        _ => plan.actions.push(Action::Start {
            container: container.name.clone(),
            attempt,
            replaces,
        }),
    }
}

/// Starts, restarts, replaces or leaves alone one container.
fn plan_container(facts: &Facts<'_>, role: Role, container: &Container, plan: &mut Plan) {
    let latest = facts.observed.latest(&container.name);
    let attempt = match latest {
        Some(latest) if latest.state == State::Created => latest.identity.attempt,
        Some(latest) => latest.identity.attempt + 1,
        // Somebody may have removed what the record still tells of: restarts are never counted backwards.
        None => match recorded(facts.pod, &container.name) {
            None | Some((0, false)) => 0,
            Some((count, _)) => count + 1,
        },
    };
    let start = |plan: &mut Plan, replaces| start(facts, container, (attempt, replaces), plan);
    let Some(current) = facts.observed.current(&container.name) else {
        start(plan, None);
        return;
    };
    match &current.state {
        State::Created => start(plan, None),
        State::Running { .. } => {
            let definition = definition_hash(container);
            let before = current.labels.get(LABEL_HASH);
            if let Some(before) = before.filter(|before| **before != definition) {
                let reason = match is_resized(before, &definition) {
                    true => StopReason::Resized,
                    false => StopReason::DefinitionChanged,
                };
                plan.actions.push(stop(current, reason));
            } else if let Some(kind) = results(facts, current).fatal() {
                plan.actions.push(stop(current, StopReason::Probe(kind)));
            }
        }
        State::Exited(exit) => {
            let replaced = current
                .labels
                .get(LABEL_HASH)
                .is_some_and(|hash| *hash != definition_hash(container));
            if !replaced && !should_restart(facts.pod, role, container, exit.code) {
                return;
            }
            match facts
                .backoffs
                .waiting(&container.name, exit.finished_at, facts.now)
            {
                None => start(plan, Some(exit.finished_at)),
                Some((until, delay)) => {
                    let message = format!(
                        "back-off {} restarting failed container={} pod={}",
                        go_duration(delay),
                        container.name,
                        facts.pod.display()
                    );
                    let waiting = Waiting {
                        reason: "CrashLoopBackOff".to_owned(),
                        message,
                    };
                    plan.waiting.insert(container.name.clone(), waiting);
                    plan.wake(until);
                }
            }
        }
    }
}

fn stop(container: &Observed, reason: StopReason) -> Action {
    Action::Stop {
        id: container.id.clone(),
        container: container.identity.container.clone(),
        reason,
    }
}

/// Keeps the newest container of each name and the one before it, whose logs `kubectl logs -p` shows.
fn plan_removals(facts: &Facts<'_>, plan: &mut Plan) {
    let known: BTreeSet<&str> = facts
        .pod
        .all_containers()
        .map(|(_, c)| c.name.as_str())
        .collect();
    for (name, attempts) in &facts.observed.containers {
        let keep = if known.contains(name.as_str()) { 2 } else { 0 };
        let old = attempts
            .iter()
            .skip(keep)
            .filter(|container| !container.is_running());
        plan.actions.extend(old.map(|container| Action::Remove {
            id: container.id.clone(),
        }));
    }
    let old = facts.observed.sandboxes.iter().skip(1);
    let removed: Vec<_> = old
        .map(|sandbox| Action::Remove {
            id: sandbox.id.clone(),
        })
        .collect();
    for action in removed {
        if !plan.actions.contains(&action) {
            plan.actions.push(action);
        }
    }
}

/// The groups in which the running containers of a pod are stopped, one group after the other: everything but sidecars
/// at once, then the sidecars, last started first.
pub(crate) fn termination(pod: &Pod, observed: &Observation) -> Vec<Vec<Action>> {
    let sidecars: Vec<&str> = pod
        .spec
        .init_containers
        .iter()
        .filter(|c| c.is_sidecar())
        .map(|c| c.name.as_str())
        .rev()
        .collect();
    let running = |name: &str| {
        observed
            .containers
            .get(name)
            .into_iter()
            .flatten()
            .filter(|container| container.is_running())
    };
    let others = observed
        .containers
        .keys()
        .filter(|name| !sidecars.contains(&name.as_str()));
    let mut groups: Vec<Vec<Action>> = vec![
        others
            .flat_map(|name| running(name))
            .map(|c| stop(c, StopReason::Terminating))
            .collect(),
    ];
    groups.extend(sidecars.iter().map(|name| {
        running(name)
            .map(|c| stop(c, StopReason::Terminating))
            .collect()
    }));
    groups.retain(|group| !group.is_empty());
    groups
}

/// When the pod has to be ended because of `activeDeadlineSeconds`.
pub(crate) fn deadline(pod: &Pod, started_at: OffsetDateTime) -> Option<OffsetDateTime> {
    pod.spec
        .active_deadline_seconds
        .and_then(|seconds| started_at.checked_add(Duration::seconds(seconds)))
}

#[cfg(test)]
mod tests;
