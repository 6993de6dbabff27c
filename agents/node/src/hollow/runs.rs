//! The containers of a simulated pod: when each run began and when it ends, both known from its beginning on. What the
//! runtime of a real node would answer at some time follows from that. Pure.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::health;
use super::interned::{Interned, group};
use super::stages::{Fail, Stage};
use crate::clock;
use crate::pod::container::{LABEL_HASH, LABEL_SANDBOX, definition_hash, identity};
use crate::pod::plan::Observation;
use crate::runtime::hollow::{identifier, program, seconds};
use crate::runtime::{Exit, Observed, SANDBOX, State};
use crate::spec::{Container, Pod, Resources, Role};

/// The scheme of container ids.
pub(super) const SCHEME: &str = "hollow";
/// No hook takes longer.
const HOOK_MAX: Duration = Duration::from_secs(600);
/// How a container ends whose `postStart` fails, and that is killed for it.
const HOOK_FAILED: i64 = 137;

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sandbox {
    pub(super) attempt: u32,
    /// None in the node's own network.
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) since: OffsetDateTime,
    pub(super) stopped: bool,
}

thread_local! {
    static DEFINITIONS: RefCell<Interned<Definition>> = const { RefCell::new(Interned::new()) };
}

/// What of a container its runs have to know: the same for all pods of an owner, and kept once for them.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Definition {
    pub(super) container: Box<str>,
    pub(super) image: Box<str>,
    hash: Box<str>,
}

impl Definition {
    fn of(container: &Container) -> Arc<Definition> {
        let definition = Definition {
            container: container.name.as_str().into(),
            image: container.image.as_str().into(),
            hash: definition_hash(container).into(),
        };
        let group = group(&definition.hash);
        DEFINITIONS.with_borrow_mut(|all| all.share(group, definition))
    }
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) of: Arc<Definition>,
    pub(super) attempt: u32,
    sandbox: u32,
    /// Until then it is being started.
    pub(super) begins: OffsetDateTime,
    pub(super) ends: Option<(OffsetDateTime, i64)>,
    /// It ends because memory has run out.
    pub(super) oom: bool,
    /// It ends because it was told to.
    pub(super) stopping: bool,
    /// Its start has been told in an event.
    pub(super) told: bool,
    /// That the next one waits for the end of a back-off has been told in an event.
    pub(super) waits_told: bool,
    /// Of which of its probes an event has told that they failed: a bit each.
    pub(super) failures_told: u8,
}

impl Run {
    /// The container's id, which follows from what it is of.
    pub(super) fn id(&self, pod: &Pod, node: &str) -> String {
        identifier(node, &identity(pod, &self.of.container, self.attempt))
    }

    pub(super) fn is_running(&self, now: OffsetDateTime) -> bool {
        self.begins <= now && self.ends.is_none_or(|(at, _)| at > now)
    }

    /// When the state of this run changes next.
    pub(super) fn next_change(&self, now: OffsetDateTime) -> Option<OffsetDateTime> {
        let ends = self.ends.map(|(at, _)| at);
        let changes = [Some(self.begins), ends].into_iter().flatten();
        changes.filter(|at| *at > now).min()
    }

    fn state(&self, now: OffsetDateTime) -> State {
        match self.ends {
            Some((at, code)) if at <= now => State::Exited(Exit {
                code,
                oom_killed: self.oom,
                start_error: None,
                started_at: Some(self.begins),
                finished_at: at,
            }),
            _ => State::Running {
                started_at: self.begins,
            },
        }
    }
}

/// How much longer everything takes on a slow node.
pub(super) fn slowed(duration: Duration, factor: u32) -> time::Duration {
    seconds(duration.saturating_mul(factor))
}

/// A run that is ordered now.
pub(super) fn begin(
    pod: &Pod,
    (role, container): (Role, &Container),
    attempt: u32,
    sandbox: u32,
    (stage, slow): (&Stage, u32),
    now: OffsetDateTime,
) -> Run {
    let what = (&pod.metadata.uid, &container.name, attempt);
    let hook = container.lifecycle.post_start.as_ref();
    // It counts as running when what it does first of all is done.
    let (hook, is_good) = hook.map_or((Duration::ZERO, true), |hook| health::hook(hook, stage));
    let start = stage.start.sample((what, "start"));
    let begins = now.saturating_add(slowed(start.saturating_add(hook.min(HOOK_MAX)), slow));
    let ends = match is_good {
        true => end(pod, role, container, attempt, (stage, slow), begins),
        false => Some((begins, HOOK_FAILED)),
    };
    let fail = failure(pod, role, container, attempt, stage).filter(|_| is_good);
    Run {
        of: Definition::of(container),
        attempt,
        sandbox,
        begins,
        ends,
        oom: fail.is_some_and(|fail| fail.oom),
        stopping: false,
        told: false,
        waits_told: false,
        failures_told: 0,
    }
}

/// The end that a container's command says.
fn said(role: Role, container: &Container, stage: &Stage) -> Option<(Duration, i64)> {
    let is_heard = stage.program && role != Role::Sidecar;
    let said = || program(&container.command, &container.args).end;
    is_heard.then(said).flatten()
}

/// The bad end that the stage has for a run whose command says nothing.
fn failure<'a>(
    pod: &Pod,
    role: Role,
    container: &Container,
    attempt: u32,
    stage: &'a Stage,
) -> Option<&'a Fail> {
    let fail = stage.fail.as_ref().filter(|_| role == Role::App)?;
    let strikes = fail.strikes(&pod.metadata.uid, &container.name, attempt);
    (strikes && said(role, container, stage).is_none()).then_some(fail)
}

/// When a run ends by itself, and with which code.
fn end(
    pod: &Pod,
    role: Role,
    container: &Container,
    attempt: u32,
    (stage, slow): (&Stage, u32),
    begins: OffsetDateTime,
) -> Option<(OffsetDateTime, i64)> {
    let what = (&pod.metadata.uid, &container.name, attempt);
    let after = |duration: Duration| begins.saturating_add(slowed(duration, slow));
    if let Some((duration, code)) = said(role, container, stage) {
        return Some((after(duration), code));
    }
    if let Some(fail) = failure(pod, role, container, attempt, stage) {
        return Some((after(fail.after.sample((what, "fail"))), fail.exit_code));
    }
    match role {
        Role::Sidecar | Role::Ephemeral => None,
        Role::Init => Some((after(stage.init.sample((what, "init"))), 0)),
        Role::App => {
            let run = stage.run.as_ref()?.sample((what, "run"));
            Some((after(run), stage.exit_code))
        }
    }
}

/// What a runtime would answer now.
pub(super) fn observe(
    pod: &Pod,
    node: &str,
    sandbox: Option<&Sandbox>,
    runs: &[Run],
    now: OffsetDateTime,
) -> Observation {
    let sandbox_of = |attempt: u32| identifier(node, &identity(pod, SANDBOX, attempt));
    let present = sandbox.map(|sandbox| (sandbox.attempt, sandbox_of(sandbox.attempt)));
    // Most runs are in the sandbox that is there.
    let sandbox_id = |attempt: u32| match &present {
        Some((known, id)) if *known == attempt => id.clone(),
        _ => sandbox_of(attempt),
    };
    let mut all = Vec::with_capacity(runs.len() + 1);
    if let Some(sandbox) = sandbox {
        let state = match sandbox.stopped {
            false => State::Running {
                started_at: sandbox.since,
            },
            true => State::Exited(Exit {
                code: 0,
                oom_killed: false,
                start_error: None,
                started_at: Some(sandbox.since),
                finished_at: sandbox.since,
            }),
        };
        all.push(Observed {
            id: sandbox_id(sandbox.attempt),
            identity: identity(pod, SANDBOX, sandbox.attempt),
            state,
            created_at: sandbox.since,
            image: String::new(),
            image_id: String::new(),
            labels: Default::default(),
            ip: sandbox.ip.map(|ip| ip.to_string()),
            pid: None,
            limits: None,
        });
    }
    let begun = runs.iter().filter(|run| run.begins <= now);
    all.extend(begun.map(|run| {
        Observed {
            id: run.id(pod, node),
            identity: identity(pod, &run.of.container, run.attempt),
            state: run.state(now),
            created_at: run.begins,
            image: run.of.image.to_string(),
            image_id: format!("{SCHEME}://{}", run.of.image),
            labels: [
                (LABEL_SANDBOX.to_owned(), sandbox_id(run.sandbox)),
                (LABEL_HASH.to_owned(), run.of.hash.to_string()),
            ]
            .into(),
            ip: None,
            pid: None,
            limits: None,
        }
    }));
    Observation::new(all)
}

/// The sandbox and the runs that a former process has left on record, so that a restart of this one changes nothing.
pub(super) fn recorded(pod: &Pod, stage: &Stage, slow: u32) -> (Option<Sandbox>, Vec<Run>) {
    let text = |value: &Value, path: &str| {
        let found = value.pointer(path).and_then(Value::as_str);
        found.and_then(clock::parse)
    };
    let statuses = |list: &str| pod.status[list].as_array().cloned().unwrap_or_default();
    let mut runs = Vec::new();
    let all = statuses("initContainerStatuses")
        .into_iter()
        .chain(statuses("containerStatuses"))
        .chain(statuses("ephemeralContainerStatuses"));
    for status in all {
        let name = status["name"].as_str().unwrap_or_default();
        let Some((role, container)) = pod.container(name) else {
            continue;
        };
        if status.get("containerID").is_none() {
            continue;
        }
        let attempt = status["restartCount"].as_u64().unwrap_or(0);
        let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
        let exit = |state: &Value| {
            let code = state["exitCode"].as_i64()?;
            Some((
                text(state, "/startedAt")?,
                text(state, "/finishedAt")?,
                code,
                state["reason"] == "OOMKilled",
            ))
        };
        let was = as_recorded(container, &status);
        let of = Definition::of(&was);
        let mut left = |attempt: u32, begins, ends, oom| {
            runs.push(Run {
                of: of.clone(),
                attempt,
                sandbox: 0,
                begins,
                ends,
                oom,
                stopping: false,
                told: true,
                waits_told: false,
                failures_told: 0,
            });
        };
        let last = exit(&status["lastState"]["terminated"]);
        if let Some(begins) = text(&status, "/state/running/startedAt") {
            let ends = end(pod, role, container, attempt, (stage, slow), begins);
            let fail = failure(pod, role, container, attempt, stage);
            left(attempt, begins, ends, fail.is_some_and(|fail| fail.oom));
        } else if let Some((begins, at, code, oom)) = exit(&status["state"]["terminated"]) {
            left(attempt, begins, Some((at, code)), oom);
        } else if let Some((begins, at, code, oom)) = last {
            left(attempt, begins, Some((at, code)), oom);
            continue;
        }
        if let (Some((begins, at, code, oom)), Some(before)) = (last, attempt.checked_sub(1)) {
            left(before, begins, Some((at, code)), oom);
        }
    }
    let ip = pod.status["podIP"].as_str().and_then(|ip| ip.parse().ok());
    let since = text(&pod.status, "/startTime");
    let is_over = matches!(pod.recorded_phase(), "Succeeded" | "Failed");
    let sandbox = since.filter(|_| ip.is_some()).map(|since| Sandbox {
        attempt: 0,
        ip: ip.filter(|_| !pod.spec.host_network),
        since,
        stopped: is_over,
    });
    (sandbox, runs)
}

/// The container as it was when it was told of last: what was asked for since then, another image or other amounts, it does not
/// have yet.
fn as_recorded(container: &Container, status: &Value) -> Container {
    let mut was = container.clone();
    if let Some(image) = status["image"].as_str() {
        was.image = image.to_owned();
    }
    if let Ok(resources) = Resources::deserialize(&status["resources"]) {
        was.resources = resources;
    }
    was
}
