//! Whether what has ended runs again, and whether anything of a pod does.

use super::recorded::is_recorded_terminal;
use super::{Facts, Observation};
use crate::pod::container::{LABEL_HASH, definition_hash, is_resized};
use crate::runtime::{Observed, State};
use crate::spec::{Container, Pod, Role};

pub(super) fn needs_sandbox(facts: &Facts<'_>) -> bool {
    let observed = facts.observed;
    if is_recorded_terminal(facts.pod) {
        return false;
    }
    // What was created but never started does not count: the agent was interrupted, the pod has not run.
    if observed
        .all_containers()
        .all(|container| container.state == State::Created)
    {
        return true;
    }
    let pod = facts.pod;
    let once = |container: &Container| {
        container.policy(pod) == "Never" && container.restart_policy_rules.is_empty()
    };
    if pod.spec.containers.iter().all(once) {
        return false;
    }
    pod.spec.containers.iter().any(|container| {
        match observed.latest(&container.name).map(|c| &c.state) {
            Some(State::Exited(exit)) => should_restart(pod, Role::App, container, exit.code),
            Some(State::Running { .. }) => !once(container),
            Some(State::Created) | None => true,
        }
    })
}

/// Whether a container that ended with this code is started again.
pub(crate) fn should_restart(pod: &Pod, role: Role, container: &Container, code: i64) -> bool {
    let by_rule = || {
        let mut rules = container.restart_policy_rules.iter();
        rules.any(|rule| rule.restarts_after(code))
    };
    match (role, container.policy(pod)) {
        (Role::Sidecar, _) => true,
        (Role::Ephemeral, _) => false,
        (Role::Init, _) if code == 0 => false,
        _ if by_rule() => true,
        (_, "Never") => false,
        (Role::Init, _) | (Role::App, "OnFailure") => code != 0,
        (Role::App, _) => true,
    }
}

/// Whether the container that is there gives way to one with other amounts of resources, however it ends.
pub(crate) fn is_outgrown(observed: &Observation, container: &Container) -> bool {
    let current = observed.current(&container.name);
    let before = current.and_then(|current| current.labels.get(LABEL_HASH));
    before.is_some_and(|before| is_resized(before, &definition_hash(container)))
}

/// Whether nothing will run any more: every app container has ended for good, or an init container has failed for good.
pub(super) fn is_finished(facts: &Facts<'_>) -> bool {
    if is_recorded_terminal(facts.pod) {
        return true;
    }
    let ended = |role: Role, container: &Container| {
        let exit = facts
            .observed
            .current(&container.name)
            .and_then(Observed::exit);
        exit.is_some_and(|exit| !should_restart(facts.pod, role, container, exit.code))
            && !is_outgrown(facts.observed, container)
    };
    let failed_init = facts.pod.spec.init_containers.iter().any(|container| {
        let failed = || {
            facts
                .observed
                .current(&container.name)
                .and_then(Observed::exit)
                .is_some_and(|e| e.code != 0)
        };
        !container.is_sidecar() && ended(Role::Init, container) && failed()
    });
    let apps = &facts.pod.spec.containers;
    failed_init || (!apps.is_empty() && apps.iter().all(|container| ended(Role::App, container)))
}
