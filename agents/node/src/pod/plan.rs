//! What has to happen next for one pod: a function of its spec, what the runtime has, and the time.
//!
//! The worker executes the actions, looks again and plans again, until nothing is left to do. No state is kept between
//! plans but what the arguments carry, so a restarted agent goes on where the old one stopped.
//! Architecture invariant: no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::backoff::{self, Backoffs};
use super::container::{LABEL_HASH, LABEL_SANDBOX, definition_hash, is_resized};
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

/// The containers of one pod as the runtime has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Observation {
    /// Newest first.
    pub(crate) sandboxes: Vec<Observed>,
    /// By name, newest attempt first.
    pub(crate) containers: BTreeMap<String, Vec<Observed>>,
}

impl Observation {
    pub(crate) fn new(all: Vec<Observed>) -> Observation {
        let mut observation = Observation::default();
        for container in all {
            if container.is_sandbox() {
                observation.sandboxes.push(container);
            } else {
                observation
                    .containers
                    .entry(container.identity.container.clone())
                    .or_default()
                    .push(container);
            }
        }
        let newest_first =
            |list: &mut Vec<Observed>| list.sort_by_key(|c| std::cmp::Reverse(c.identity.attempt));
        newest_first(&mut observation.sandboxes);
        observation.containers.values_mut().for_each(newest_first);
        observation
    }

    /// The sandbox that containers may be put into.
    pub(crate) fn sandbox(&self) -> Option<&Observed> {
        self.sandboxes
            .first()
            .filter(|sandbox| sandbox.is_running())
    }

    /// The newest container of that name in any sandbox.
    pub(crate) fn latest(&self, name: &str) -> Option<&Observed> {
        self.containers.get(name)?.first()
    }

    /// The newest container of that name in the running sandbox, if it has ever been started.
    pub(crate) fn current(&self, name: &str) -> Option<&Observed> {
        let sandbox = self.sandbox()?;
        let in_sandbox = |c: &&Observed| c.labels.get(LABEL_SANDBOX) == Some(&sandbox.id);
        self.latest(name)
            .filter(in_sandbox)
            .filter(|container| container.state != State::Created)
    }

    pub(crate) fn all_containers(&self) -> impl Iterator<Item = &Observed> {
        self.containers.values().flatten()
    }
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

fn needs_sandbox(facts: &Facts<'_>) -> bool {
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

/// Whether the API already has the pod as ended, which nothing undoes.
pub(crate) fn is_recorded_terminal(pod: &Pod) -> bool {
    matches!(pod.recorded_phase(), "Succeeded" | "Failed")
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
fn is_finished(facts: &Facts<'_>) -> bool {
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

/// What the API has on record of a container: how often it was restarted, and whether there was one at all.
fn recorded(pod: &Pod, name: &str) -> Option<(u32, bool)> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let mut statuses = lists
        .iter()
        .filter_map(|list| pod.status.get(list)?.as_array())
        .flatten();
    let status =
        statuses.find(|status| status.get("name").and_then(Value::as_str) == Some(name))?;
    let count = u32::try_from(status.get("restartCount")?.as_u64()?).ok()?;
    Some((count, status.get("containerID").is_some()))
}

/// Whether the API has a container on record that has run.
pub(crate) fn was_recorded(pod: &Pod, name: &str) -> bool {
    recorded(pod, name).is_some_and(|(_, existed)| existed)
}

/// The restarts of a container of which the runtime knows nothing (any more).
pub(crate) fn recorded_restarts(pod: &Pod, name: &str) -> u32 {
    recorded(pod, name).map_or(0, |(count, _)| count)
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

/// A whole number of seconds as Go prints durations: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_duration(duration: Duration) -> String {
    let seconds = duration.whole_seconds().max(0);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// A time to the millisecond as Go prints it: `0s`, `12ms`, `1.5s`, `1m2.25s`.
pub(crate) fn go_millis(duration: std::time::Duration) -> String {
    let millis = duration.as_millis();
    match (millis / 1000, millis % 1000) {
        (0, 0) => "0s".to_owned(),
        (0, rest) => format!("{rest}ms"),
        (seconds, rest) => {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            let whole = go_duration(Duration::seconds(seconds));
            if rest == 0 {
                whole
            } else {
                let (whole, rest) = (whole.trim_end_matches('s'), format!("{rest:03}"));
                format!("{whole}.{}s", rest.trim_end_matches('0'))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runtime::{Exit, Identity, SANDBOX};

    pub(super) fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::seconds(seconds)
    }

    fn pod(policy: &str) -> Pod {
        Pod::decode(&json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u"},
            "spec": {
                "restartPolicy": policy,
                "initContainers": [
                    {"name": "i", "image": "x"},
                    {"name": "s", "image": "x", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}},
                ],
                "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}],
            },
        }))
        .unwrap()
    }

    fn container(name: &str, attempt: u32, state: State) -> Observed {
        let hash = definition_hash(&Container {
            name: name.into(),
            image: "x".into(),
            ..Container::default()
        });
        Observed {
            id: format!("{name}{attempt}"),
            identity: Identity {
                pod_name: "p".into(),
                pod_namespace: "d".into(),
                pod_uid: "u".into(),
                container: name.into(),
                attempt,
            },
            state,
            created_at: at(0),
            image: "x".into(),
            image_id: String::new(),
            labels: [
                (LABEL_SANDBOX.to_owned(), format!("{SANDBOX}0")),
                (LABEL_HASH.to_owned(), hash),
            ]
            .into(),
            ip: None,
            pid: None,
            limits: None,
        }
    }

    fn running() -> State {
        State::Running { started_at: at(1) }
    }

    fn exited(code: i64) -> State {
        State::Exited(Exit {
            code,
            oom_killed: false,
            start_error: None,
            started_at: Some(at(1)),
            finished_at: at(100),
        })
    }

    /// Plans one second after the last exit and writes the actions down.
    fn steps(
        pod: &Pod,
        containers: &[(&str, u32, State)],
        probes: &[(&str, Results)],
    ) -> Vec<String> {
        let backoffs = Backoffs::default();
        write(&planned(pod, containers, probes, &backoffs))
    }

    fn planned(
        pod: &Pod,
        containers: &[(&str, u32, State)],
        probes: &[(&str, Results)],
        backoffs: &Backoffs,
    ) -> Plan {
        let all = containers
            .iter()
            .map(|(name, attempt, state)| container(name, *attempt, state.clone()))
            .collect();
        let probes = probes
            .iter()
            .map(|(id, results)| ((*id).to_owned(), *results))
            .collect();
        let observed = Observation::new(all);
        let holds = BTreeMap::new();
        plan(&Facts {
            pod,
            observed: &observed,
            backoffs,
            probes: &probes,
            holds: &holds,
            now: at(101),
        })
    }

    fn write(plan: &Plan) -> Vec<String> {
        let write = |action: &Action| match action {
            Action::Stop { id, reason, .. } => format!("stop {id} {reason:?}"),
            Action::StopSandbox { id } => format!("stop {id}"),
            Action::Remove { id } => format!("remove {id}"),
            Action::RunSandbox { attempt } => format!("sandbox {attempt}"),
            Action::Start {
                container, attempt, ..
            } => format!("start {container}{attempt}"),
        };
        plan.actions.iter().map(write).collect()
    }

    const STARTED: Results = Results {
        startup: Some(true),
        liveness: None,
        readiness: None,
    };

    #[test]
    fn a_pod_comes_up_in_order() {
        let pod = pod("Always");
        let mut world = vec![];
        assert_eq!(steps(&pod, &world, &[]), ["sandbox 0"]);
        world.push((SANDBOX, 0, running()));
        assert_eq!(steps(&pod, &world, &[]), ["start i0"]);
        world.push(("i", 0, running()));
        assert!(
            steps(&pod, &world, &[]).is_empty(),
            "an init container has to end"
        );
        world[1].2 = exited(0);
        assert_eq!(steps(&pod, &world, &[]), ["start s0"]);
        world.push(("s", 0, running()));
        assert!(
            steps(&pod, &world, &[]).is_empty(),
            "a sidecar has to be started"
        );
        assert_eq!(
            steps(&pod, &world, &[("s0", STARTED)]),
            ["start a0", "start b0"]
        );
        world.push(("a", 0, running()));
        world.push(("b", 0, running()));
        assert!(steps(&pod, &world, &[]).is_empty(), "everything runs");
    }

    #[test]
    fn an_ephemeral_container_is_started_once_whatever_the_others_do() {
        let mut pod = pod("Always");
        pod.spec.ephemeral_containers = vec![Container {
            name: "e".into(),
            image: "x".into(),
            ..Container::default()
        }];
        let mut world = vec![(SANDBOX, 0, running())];
        assert_eq!(steps(&pod, &world, &[]), ["start e0", "start i0"]);
        world.extend([("i", 0, running()), ("e", 0, State::Created)]);
        assert_eq!(steps(&pod, &world, &[]), ["start e0"], "it has not begun");
        for state in [running(), exited(0), exited(1)] {
            world[2].2 = state;
            assert!(steps(&pod, &world, &[]).is_empty());
        }
        world.pop();
        pod.status = json!({"ephemeralContainerStatuses": [
            {"name": "e", "restartCount": 0, "containerID": "docker://e0"}]});
        assert!(
            steps(&pod, &world, &[]).is_empty(),
            "somebody has removed it"
        );
    }

    #[test]
    fn restart_policies() {
        let base = [
            (SANDBOX, 0, running()),
            ("i", 0, exited(0)),
            ("s", 0, running()),
        ];
        let cases: &[(&str, i64, i64, &[&str])] = &[
            ("Always", 0, 1, &["start a1", "start b1"]),
            ("OnFailure", 0, 1, &["start b1"]),
            ("OnFailure", 0, 0, &["stop s0 PodFinished"]),
            ("Never", 0, 1, &["stop s0 PodFinished"]),
        ];
        for (policy, a, b, expected) in cases {
            let mut world = base.to_vec();
            world.extend([("a", 0, exited(*a)), ("b", 0, exited(*b))]);
            assert_eq!(
                steps(&pod(policy), &world, &[("s0", STARTED)]),
                *expected,
                "{policy} {a} {b}"
            );
        }
    }

    #[test]
    fn a_container_may_have_a_policy_of_its_own() {
        let mut pod = pod("Never");
        pod.spec.init_containers.clear();
        let container = |fields: serde_json::Value| -> Container {
            let mut container = json!({"name": "a", "image": "x"});
            container
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            serde_json::from_value(container).unwrap()
        };
        let rule = |operator: &str| {
            json!({"restartPolicy": "Never", "restartPolicyRules": [
                {"action": "Restart", "exitCodes": {"operator": operator, "values": [42, 43]}}]})
        };
        let cases = [
            (json!({}), 1, false),
            (json!({"restartPolicy": "OnFailure"}), 1, true),
            (json!({"restartPolicy": "OnFailure"}), 0, false),
            (json!({"restartPolicy": "Always"}), 0, true),
            (rule("In"), 42, true),
            (rule("In"), 1, false),
            (rule("NotIn"), 1, true),
            (rule("NotIn"), 43, false),
        ];
        for (fields, code, expected) in cases {
            pod.spec.containers[0] = container(fields.clone());
            let in_sandbox = [
                (SANDBOX, 0, running()),
                ("a", 0, exited(code)),
                ("b", 0, exited(0)),
            ];
            let restarted = steps(&pod, &in_sandbox, &[]) == ["start a1"];
            assert_eq!(restarted, expected, "{fields} {code}");
            let without = [("a", 0, exited(code)), ("b", 0, exited(0))];
            let anew = steps(&pod, &without, &[]) == ["sandbox 0"];
            assert_eq!(anew, expected, "{fields} {code}");
        }
    }

    #[test]
    fn a_failed_init_container_is_retried_or_ends_the_pod() {
        let world = [(SANDBOX, 0, running()), ("i", 0, exited(1))];
        assert_eq!(steps(&pod("Always"), &world, &[]), ["start i1"]);
        assert_eq!(steps(&pod("OnFailure"), &world, &[]), ["start i1"]);
        assert_eq!(steps(&pod("Never"), &world, &[]), ["stop POD0"]);
    }

    #[test]
    fn sidecars_are_restarted_for_ever_and_init_containers_never_again() {
        let world = [
            (SANDBOX, 0, running()),
            ("s", 0, exited(0)),
            ("a", 0, running()),
            ("b", 0, running()),
        ];
        assert_eq!(steps(&pod("Never"), &world, &[]), ["start s1"]);
    }

    #[test]
    fn crashes_wait_for_their_backoff() {
        let mut backoffs = Backoffs::default();
        backoffs.next("a", at(90), at(90));
        backoffs.next("a", at(100), at(100));
        let world = [
            (SANDBOX, 0, running()),
            ("i", 0, exited(0)),
            ("s", 0, running()),
            ("a", 2, exited(1)),
            ("a", 1, exited(1)),
            ("a", 0, exited(1)),
            ("b", 0, running()),
        ];
        let plan = planned(&pod("Always"), &world, &[("s0", STARTED)], &backoffs);
        assert_eq!(write(&plan), ["remove a0"]);
        assert_eq!(plan.wake_at, Some(at(120)));
        assert_eq!(plan.waiting["a"].reason, "CrashLoopBackOff");
        assert_eq!(
            plan.waiting["a"].message,
            "back-off 20s restarting failed container=a pod=p_d(u)"
        );
    }

    #[test]
    fn probes_and_changed_images_stop_a_container() {
        let base = [
            (SANDBOX, 0, running()),
            ("i", 0, exited(0)),
            ("s", 0, running()),
            ("b", 0, running()),
        ];
        let mut world = base.to_vec();
        world.push(("a", 0, running()));
        let dead = Results {
            liveness: Some(false),
            ..Results::default()
        };
        let probes = [("s0", STARTED), ("a0", dead)];
        assert_eq!(
            steps(&pod("Always"), &world, &probes),
            ["stop a0 Probe(Liveness)"]
        );
        let mut changed = pod("Always");
        changed.spec.containers[0].image = "y".into();
        assert_eq!(
            steps(&changed, &world, &[("s0", STARTED)]),
            ["stop a0 DefinitionChanged"]
        );
    }

    #[test]
    fn other_amounts_restart_a_container_that_asks_for_it() {
        let mut pod = pod("OnFailure");
        pod.spec.init_containers.clear();
        let resized = |memory: &str| {
            serde_json::from_value::<Container>(json!({"name": "a", "image": "x",
                "resources": {"limits": {"memory": memory}},
                "resizePolicy": [{"resourceName": "memory", "restartPolicy": "RestartContainer"}]}))
            .unwrap()
        };
        pod.spec.containers = vec![resized("2Gi")];
        let steps = |state: State| {
            let mut one = container("a", 0, state);
            let before = definition_hash(&resized("1Gi"));
            one.labels.insert(LABEL_HASH.to_owned(), before);
            let observed = Observation::new(vec![container(SANDBOX, 0, running()), one]);
            write(&plan(&Facts {
                pod: &pod,
                observed: &observed,
                backoffs: &Backoffs::default(),
                probes: &BTreeMap::new(),
                holds: &BTreeMap::new(),
                now: at(101),
            }))
        };
        assert_eq!(steps(running()), ["stop a0 Resized"]);
        for code in [0, 143] {
            assert_eq!(steps(exited(code)), ["start a1"], "{code}");
        }
    }

    #[test]
    fn a_dead_sandbox_is_replaced_and_restarts_everything() {
        let world = [
            (SANDBOX, 0, exited(0)),
            ("i", 0, exited(0)),
            ("a", 0, running()),
            ("b", 0, exited(0)),
        ];
        assert_eq!(
            steps(&pod("Always"), &world, &[]),
            ["stop a0 SandboxChanged", "remove POD0", "sandbox 1"]
        );
        assert_eq!(
            steps(&pod("Never"), &world, &[]),
            ["stop a0 SandboxChanged"]
        );
        let world = [
            (SANDBOX, 1, running()),
            (SANDBOX, 0, exited(0)),
            ("i", 0, exited(0)),
            ("a", 0, exited(0)),
        ];
        assert_eq!(
            steps(&pod("Always"), &world, &[]),
            ["start i1", "remove POD0"]
        );
    }

    #[test]
    fn half_created_containers_are_made_again_under_the_same_number() {
        let world = [(SANDBOX, 0, running()), ("i", 3, State::Created)];
        assert_eq!(steps(&pod("Always"), &world, &[]), ["start i3"]);
    }

    #[test]
    fn restarts_are_counted_on_when_somebody_has_removed_the_containers() {
        let mut pod = pod("Always");
        pod.spec.init_containers.clear();
        pod.status = json!({"containerStatuses": [
            {"name": "a", "restartCount": 4, "containerID": "docker://x"},
            {"name": "b", "restartCount": 0}]});
        let world = [(SANDBOX, 0, running())];
        assert_eq!(steps(&pod, &world, &[]), ["start a5", "start b0"]);
        pod.status = json!({"containerStatuses": [{"name": "a", "restartCount": 4}]});
        assert_eq!(steps(&pod, &world, &[])[0], "start a5");
    }

    #[test]
    fn an_ended_pod_stays_ended() {
        let mut pod = pod("Always");
        pod.status = json!({"phase": "Failed"});
        assert!(steps(&pod, &[], &[]).is_empty());
        let mut world = [
            (SANDBOX, 0, running()),
            ("a", 0, running()),
            ("s", 0, running()),
        ];
        for (index, expected) in [(1, "stop a0 PodFinished"), (2, "stop s0 PodFinished")] {
            assert_eq!(steps(&pod, &world, &[]), [expected]);
            world[index].2 = exited(0);
        }
        assert_eq!(steps(&pod, &world, &[]), ["stop POD0"]);
    }

    #[test]
    fn sidecars_stop_last_in_reverse() {
        let mut pod = pod("Always");
        let mut second = pod.spec.init_containers[1].clone();
        second.name = "t".into();
        pod.spec.init_containers.push(second);
        let all = ["a", "b", "s", "t"]
            .map(|name| container(name, 0, running()))
            .into();
        let groups: Vec<Vec<String>> = termination(&pod, &Observation::new(all))
            .into_iter()
            .map(|group| {
                write(&Plan {
                    actions: group,
                    ..Plan::default()
                })
            })
            .collect();
        assert_eq!(
            groups,
            [
                vec!["stop a0 Terminating", "stop b0 Terminating"],
                vec!["stop t0 Terminating"],
                vec!["stop s0 Terminating"]
            ]
        );
    }

    #[test]
    fn times_to_the_millisecond_read_like_those_of_go() {
        for (millis, text) in [
            (0, "0s"),
            (7, "7ms"),
            (1_000, "1s"),
            (1_050, "1.05s"),
            (62_250, "1m2.25s"),
            (3_600_001, "1h0m0.001s"),
        ] {
            assert_eq!(go_millis(std::time::Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn durations_are_written_as_in_go() {
        for (seconds, text) in [(10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
            assert_eq!(go_duration(Duration::seconds(seconds)), text);
        }
    }
}
