//! The task of one pod: look, plan, act, report, wait.
//!
//! One task per UID, so that no two operations on a pod ever run at once. What it remembers between rounds (back-offs,
//! probe results, reasons of failed starts) may be lost without harm; everything else is read again each round.
//! A round is interrupted when the pod has to go away: then only [`Worker::terminate`] is left to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_runtime::resource_ref::PODS;
use agent_runtime::{EventType, PatchType};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::admission::{self, Admission, preempt, site::Site};
use super::backoff::Backoffs;
use super::container;
use super::desired::{Desired, version};
use super::devices::{self, Drivers};
use super::handler::Target;
use super::plan::{self, Action, Facts, Observation, Plan, Waiting};
use super::prepare::{Prepared, Token};
use super::probe::{Kind, Prober, Report, Results};
use super::resize::{self, Allocation, Resize};
use super::status::{self, Inputs, Verdict};
use crate::agent::Agent;
use crate::clock;
use crate::etc;
use crate::metrics;
use crate::node;
use crate::runtime::{Limits, Observed, RuntimeError, State};
use crate::source::{Owned, Watched};
use crate::spec::{Pod, Role};
use crate::volumes::claimed::Claimed;
use crate::volumes::payload::Reference;

/// How often a pod is looked at without any reason: events of the runtime may be lost.
pub(super) const RELIST: Duration = Duration::from_secs(30);
/// Pause after a failed round, and between tries of whatever the API or the runtime refused.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// The longest pause between tries to make volumes or a sandbox; what volumes refer to is watched, and its coming cuts
/// the pause short.
const RETRY_MAX: Duration = Duration::from_secs(120);
/// The longest pause between looks at claims on devices, which nothing cuts short.
const CLAIMS_RETRY_MAX: Duration = Duration::from_secs(10);
/// Between two looks whether those have ended in whose place the pod was taken.
const ROOM_LOOK: Duration = Duration::from_secs(1);
const REPORTS_MAX: usize = 64;

pub(crate) struct Worker {
    pub(super) agent: Arc<Agent>,
    pub(super) desired: Arc<Desired>,
    /// The version that is worked with, as the API has it.
    pub(super) object: Arc<Value>,
    /// The same with the amounts that the pod was given in place of those that it asks for.
    pub(super) pod: Pod,
    pub(super) wanted: Allocation,
    pub(super) allocated: Allocation,
    pub(super) resize: Resize,
    /// What containers were told since they were made, by id.
    pub(super) told: BTreeMap<String, Limits>,
    pub(super) observed: Observation,
    pub(super) started_at: OffsetDateTime,
    pub(super) backoffs: Backoffs,
    pub(super) image_backoffs: Backoffs,
    /// Failed pulls by image: when, and what the runtime said.
    pub(super) image_failures: BTreeMap<String, (OffsetDateTime, String)>,
    pub(super) waiting: BTreeMap<String, Waiting>,
    pub(super) holds: BTreeMap<String, OffsetDateTime>,
    pub(super) probes: BTreeMap<String, Results>,
    pub(super) probers: BTreeMap<(String, Kind), Owned>,
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) reporter: mpsc::Sender<Report>,
    /// Termination messages by container id.
    pub(super) messages: BTreeMap<String, String>,
    pub(super) tokens: BTreeMap<(String, usize), Token>,
    pub(super) followed: BTreeMap<Reference, Arc<Watched>>,
    /// Where the volumes of claims are, by the pod's name for them.
    pub(super) claimed: BTreeMap<String, Claimed>,
    /// Tries in a row that could not make the volumes.
    pub(super) mount_failures: u32,
    sandbox_failures: u32,
    /// Its start has been counted, or is not this agent's to count.
    start_counted: bool,
    /// Looks in a row at claims on devices that keep the pod waiting.
    claim_failures: u32,
    pub(super) verdict: Option<Verdict>,
    /// Those in whose place it was taken, and until when it waits for their end at the longest.
    replaced: Option<(Vec<String>, OffsetDateTime)>,
    pub(super) last_status: Option<Value>,
    pub(super) last_version: u64,
    /// Containers in back-off for which an event has been written.
    pub(super) announced: BTreeSet<String>,
    pub(super) pre_stopped: BTreeSet<String>,
}

impl Worker {
    /// `None` when the object is not a pod that can be read.
    pub(crate) fn new(agent: Arc<Agent>, desired: Arc<Desired>) -> Result<Worker, String> {
        let object = desired.object();
        let mut pod = Pod::decode(&object)?;
        let (wanted, allocated) = (resize::of(&pod), resize::recorded(&pod));
        resize::overlay(&mut pod, &allocated);
        let probes = recorded_probes(&pod.status);
        let recorded = pod
            .status
            .get("startTime")
            .and_then(Value::as_str)
            .and_then(clock::parse);
        let (reporter, reports) = mpsc::channel(REPORTS_MAX);
        Ok(Worker {
            agent,
            desired,
            object,
            started_at: recorded.unwrap_or_else(clock::now),
            resize: Resize::recorded(&pod),
            pod,
            wanted,
            allocated,
            told: BTreeMap::new(),
            observed: Observation::default(),
            backoffs: Backoffs::default(),
            image_backoffs: Backoffs::default(),
            image_failures: BTreeMap::new(),
            waiting: BTreeMap::new(),
            holds: BTreeMap::new(),
            probes,
            probers: BTreeMap::new(),
            reports,
            reporter,
            messages: BTreeMap::new(),
            tokens: BTreeMap::new(),
            followed: BTreeMap::new(),
            claimed: BTreeMap::new(),
            mount_failures: 0,
            sandbox_failures: 0,
            start_counted: recorded.is_some(),
            claim_failures: 0,
            verdict: None,
            replaced: None,
            last_status: None,
            last_version: 0,
            announced: BTreeSet::new(),
            pre_stopped: BTreeSet::new(),
        })
    }

    /// Runs until the pod is gone from the node and from the API.
    pub(crate) async fn run(mut self) {
        let mut is_first = true;
        loop {
            self.refresh();
            if self.desired.is_leaving() {
                self.terminate().await;
                return;
            }
            let begun = Instant::now();
            let outcome = self.round().await;
            metrics::looked_at(std::mem::take(&mut is_first), begun.elapsed());
            let next = match outcome {
                Ok(next) => next,
                Err(error) => {
                    tracing::debug!(pod = %self.pod.display(), %error, "the runtime failed a round");
                    clock::now() + RETRY
                }
            };
            self.wait(next).await;
        }
    }

    pub(super) fn refresh(&mut self) {
        let object = self.desired.object();
        match Pod::decode(&object) {
            Ok(pod) => self.take_version(object, pod),
            Err(error) => {
                tracing::warn!(pod = %self.pod.display(), %error, "cannot read the pod's new version")
            }
        }
    }

    fn take_version(&mut self, object: Arc<Value>, mut pod: Pod) {
        self.wanted = resize::of(&pod);
        // Before it is taken a pod may ask for what it likes.
        if !self.agent.admitted().has(&pod.metadata.uid) && !admission::was_taken(&object) {
            self.allocated.clone_from(&self.wanted);
        }
        resize::overlay(&mut pod, &self.allocated);
        (self.pod, self.object) = (pod, object);
    }

    pub(super) fn pod_dir(&self) -> PathBuf {
        self.agent.pods_dir().join(&self.pod.metadata.uid)
    }

    pub(super) fn event(
        &self,
        container: Option<(Role, &str)>,
        kind: EventType,
        reason: &'static str,
        text: String,
    ) {
        self.agent
            .pod_event(&self.pod, container, kind, reason, text);
    }

    /// Why this node does not take the pod, of which nothing has begun. Of two that come at once, one is taken. Those in whose
    /// place it is taken are told to end.
    async fn refusal(&mut self) -> Option<Verdict> {
        let uid = &self.pod.metadata.uid;
        if plan::is_recorded_terminal(&self.pod) || self.agent.admitted().has(uid) {
            return None;
        }
        let object = self.desired.object();
        let has_begun = admission::was_taken(&object)
            || self.observed.sandbox().is_some()
            || self.observed.all_containers().next().is_some();
        if has_begun {
            self.agent.admitted().keep(uid);
            return None;
        }
        // Who was deleted by force holds nothing any more, though it may not have ended.
        let decide = |site: &Site, is_last: bool| {
            let mut admitted = self.agent.admitted();
            let admission = admitted.take(site, &object, &self.agent.present_objects());
            if let Admission::InPlaceOf(victims) = &admission
                && is_last
            {
                admitted.replace(uid, victims);
            }
            admission
        };
        if let Some(known) = self.agent.site()
            && decide(&known, false) == Admission::Taken
        {
            return None;
        }
        // What is known of the node may be a little old: nobody is refused or ended for that.
        let site = node::look(&self.agent).await;
        match decide(&site, true) {
            Admission::Taken => None,
            Admission::Refused(verdict) => {
                let text = verdict.message.trim_start_matches(admission::REJECTED);
                self.event(None, EventType::Warning, verdict.reason, text.to_owned());
                Some(verdict)
            }
            Admission::InPlaceOf(victims) => {
                let patience = self.agent.preempt(&victims);
                self.replaced = Some((victims, clock::now() + patience));
                None
            }
        }
    }

    /// Whether those in whose place the pod was taken still have it, and may take the time for that.
    fn waits_for_room(&mut self, now: OffsetDateTime) -> bool {
        let agent = &self.agent;
        self.replaced = self.replaced.take().filter(|(victims, until)| {
            *until > now && victims.iter().any(|uid| agent.is_occupied_by(uid))
        });
        self.replaced.is_some()
    }

    /// The node ends the pod for a more important one.
    fn end_if_preempted(&mut self) {
        let over = plan::is_recorded_terminal(&self.pod) || self.verdict.is_some();
        if self.desired.is_preempted() && !over {
            let message = preempt::MESSAGE.to_owned();
            self.event(None, EventType::Warning, preempt::REASON, message.clone());
            self.verdict = Some(Verdict {
                reason: preempt::REASON,
                message,
            });
        }
    }

    /// Looks, plans and acts once; says when to come back at the latest.
    async fn round(&mut self) -> Result<OffsetDateTime, RuntimeError> {
        self.observe().await?;
        let now = clock::now();
        self.count_start(now);
        self.end_if_preempted();
        if self.verdict.is_none() {
            self.verdict = self.refusal().await;
        }
        let deadline = plan::deadline(&self.pod, self.started_at);
        if self.verdict.is_none()
            && !plan::is_recorded_terminal(&self.pod)
            && deadline.is_some_and(|deadline| deadline <= now)
        {
            let message =
                "Pod was active on the node longer than the specified deadline".to_owned();
            self.event(None, EventType::Normal, "DeadlineExceeded", message.clone());
            self.verdict = Some(Verdict {
                reason: "DeadlineExceeded",
                message,
            });
        }
        if self.verdict.is_some() {
            return self.end_by_verdict().await;
        }
        if self.waits_for_room(now) {
            return Ok(now + ROOM_LOOK);
        }
        if !plan::is_recorded_terminal(&self.pod) {
            self.decide_resize().await;
            self.carry_out_resize().await?;
        }
        let plan = self.plan(now);
        self.update_probers();
        let published = self.publish(&plan, false).await;
        self.announce(&plan);
        let mut next = now + RELIST;
        if !published {
            next = next.min(now + RETRY);
        }
        next = plan
            .wake_at
            .into_iter()
            .chain(deadline.filter(|d| *d > now))
            .fold(next, OffsetDateTime::min);
        let active = !plan::is_recorded_terminal(&self.pod) && self.observed.sandbox().is_some();
        let starts = plan
            .actions
            .iter()
            .any(|a| matches!(a, Action::Start { .. } | Action::RunSandbox { .. }));
        let mut prepared = None;
        if starts || active {
            match self.prepare().await {
                Ok(ready) => {
                    self.mount_failures = 0;
                    prepared = Some(ready);
                }
                Err(text) => {
                    self.event(None, EventType::Warning, "FailedMount", text);
                    next = next.min(clock::now() + retry_pause(self.mount_failures));
                    self.mount_failures = self.mount_failures.saturating_add(1);
                    if starts {
                        // Nothing may start without its volumes; the rest of the plan can wait as well.
                        return Ok(next);
                    }
                }
            }
            next = self
                .tokens
                .values()
                .map(|token| token.refresh_at)
                .fold(next, OffsetDateTime::min);
        }
        if plan.actions.is_empty() {
            return Ok(next);
        }
        let makes_sandbox = |action: &Action| matches!(action, Action::RunSandbox { .. });
        if plan.actions.iter().any(makes_sandbox)
            && let Err(pause) = self.look_at_claims().await
        {
            return Ok(next.min(clock::now() + pause));
        }
        let desired = self.desired.clone();
        let may_be_preempted = !plan::is_recorded_terminal(&self.pod);
        let interrupted = async {
            loop {
                let woken = desired.wake.notified();
                if desired.is_leaving() || may_be_preempted && desired.is_preempted() {
                    return;
                }
                woken.await;
            }
        };
        tokio::select! {
            result = self.execute(plan.actions, prepared) => result?,
            () = interrupted => {}
        }
        // What the notification above has swallowed is seen in the next round, which comes at once.
        Ok(clock::now())
    }

    /// Counts how long it took until all containers ran, once.
    fn count_start(&mut self, now: OffsetDateTime) {
        let runs = |name: &str| {
            let current = self.observed.current(name);
            current.is_some_and(|container| matches!(container.state, State::Running { .. }))
        };
        if !self.start_counted && self.pod.spec.containers.iter().all(|one| runs(&one.name)) {
            self.start_counted = true;
            metrics::started(Duration::try_from(now - self.started_at).unwrap_or_default());
        }
    }

    fn plan(&self, now: OffsetDateTime) -> Plan {
        plan::plan(&Facts {
            pod: &self.pod,
            observed: &self.observed,
            backoffs: &self.backoffs,
            probes: &self.probes,
            holds: &self.holds,
            now,
        })
    }

    pub(super) async fn observe(&mut self) -> Result<(), RuntimeError> {
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

    /// Starts the probes that may run now and drops those whose container does not run any more.
    fn update_probers(&mut self) {
        let now = clock::now();
        let ip = if self.pod.spec.host_network {
            Some(self.agent.host_ip().to_owned())
        } else {
            self.observed
                .sandbox()
                .and_then(|sandbox| sandbox.ip.clone())
        };
        let mut wanted = BTreeMap::new();
        for (_, container) in self.pod.all_containers() {
            let Some(current) = self.observed.current(&container.name) else {
                continue;
            };
            let State::Running { started_at } = current.state else {
                continue;
            };
            let results = self.probes.get(&current.id).copied().unwrap_or_default();
            for kind in Kind::ALL {
                let gated = kind != Kind::Startup && !results.started(container);
                let settled = match kind {
                    Kind::Startup => results.startup.is_some(),
                    Kind::Liveness => results.liveness == Some(false),
                    Kind::Readiness => false,
                };
                if kind.of(container).is_some() && !gated && !settled && !self.agent.is_hollow() {
                    wanted.insert(
                        (current.id.clone(), kind),
                        (container.clone(), now - started_at),
                    );
                } else if self.agent.is_hollow() && kind.of(container).is_some() {
                    // Nothing listens in a simulated container: its probes succeed.
                    self.probes
                        .entry(current.id.clone())
                        .or_default()
                        .set(kind, true);
                }
            }
        }
        self.probers.retain(|key, _| wanted.contains_key(key));
        for (key, (container, age)) in wanted {
            let (runtime, reports) = (self.agent.runtime.clone(), self.reporter.clone());
            let target = Target {
                container_id: key.0.clone(),
                ip: ip.clone().unwrap_or_default(),
            };
            let age = age.try_into().unwrap_or_default();
            self.probers.entry(key.clone()).or_insert_with(|| {
                Owned::spawn(
                    Prober {
                        runtime,
                        kind: key.1,
                        container,
                        target,
                        age,
                        reports,
                    }
                    .run(),
                )
            });
        }
    }

    fn accept(&mut self, report: Report) {
        if let Some(text) = report.failure {
            let role = self
                .pod
                .container(&report.container)
                .map_or(Role::App, |(role, _)| role);
            self.event(
                Some((role, &report.container)),
                EventType::Warning,
                "Unhealthy",
                text,
            );
        }
        if let Some(result) = report.result {
            self.probes
                .entry(report.container_id)
                .or_default()
                .set(report.kind, result);
        }
    }

    /// Sleeps until something happens or the time has come.
    async fn wait(&mut self, until: OffsetDateTime) {
        let pause: Duration = (until - clock::now()).try_into().unwrap_or(Duration::ZERO);
        // No moment is further off than that, unless the clock has been set back.
        let sleep = tokio::time::sleep(pause.min(RELIST));
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                () = &mut sleep => return,
                () = self.desired.wake.notified() => return,
                report = self.reports.recv() => {
                    let Some(report) = report else { return };
                    let before = self.probes.get(&report.container_id).copied();
                    let id = report.container_id.clone();
                    self.accept(report);
                    if self.probes.get(&id).copied() != before {
                        return;
                    }
                }
            }
        }
    }

    /// Writes an event for every container that has come to wait for its back-off.
    fn announce(&mut self, plan: &Plan) {
        for name in plan.waiting.keys() {
            let Some(id) = self
                .observed
                .latest(name)
                .map(|container| container.id.clone())
            else {
                continue;
            };
            if self.announced.insert(id) {
                let role = self.pod.container(name).map_or(Role::App, |(role, _)| role);
                let text = format!(
                    "Back-off restarting failed container {name} in pod {}",
                    self.pod.display()
                );
                self.event(Some((role, name)), EventType::Warning, "BackOff", text);
            }
        }
        let ids: BTreeSet<&String> = self
            .observed
            .all_containers()
            .map(|container| &container.id)
            .collect();
        self.announced.retain(|id| ids.contains(id));
    }

    /// Sends the status when it differs from what is on record. False when the API did not take it.
    pub(super) async fn publish(&mut self, plan: &Plan, over: bool) -> bool {
        let mut waiting = self.waiting.clone();
        waiting.extend(plan.waiting.clone());
        let over = over || plan::is_recorded_terminal(&self.pod);
        let in_force = match self.resize.progress {
            Some(_) => resize::lagging(&self.pod, &self.observed, &self.resize_updates()),
            None => Allocation::new(),
        };
        // One that is over is not resized any more.
        let resize = match over {
            true => Resize::default(),
            false => self.resize.clone(),
        };
        let status = status::assemble(&Inputs {
            pod: &self.pod,
            observed: &self.observed,
            resize: &resize,
            in_force: &in_force,
            probes: &self.probes,
            waiting: &waiting,
            messages: &self.messages,
            verdict: self.verdict.as_ref(),
            over,
            scheme: self.agent.runtime.scheme(),
            host_ip: self.agent.host_ip(),
            started_at: self.started_at,
            now: clock::now(),
        });
        let known = version(&self.desired.object());
        let sent = self.last_status.as_ref() == Some(&status) && known <= self.last_version;
        if sent || status::is_recorded(&self.pod, &status) {
            return true;
        }
        let patch = status::patch(&self.pod, &status);
        let (namespace, name) = (&self.pod.metadata.namespace, &self.pod.metadata.name);
        match self
            .agent
            .client
            .patch_status(&PODS, namespace, name, PatchType::Strategic, &patch)
            .await
        {
            Ok(object) => {
                self.last_version = version(&object);
                self.last_status = Some(status);
                if object.pointer("/metadata/uid").and_then(Value::as_str)
                    == Some(&self.pod.metadata.uid)
                {
                    self.desired.keep(object);
                    self.refresh();
                }
                true
            }
            Err(error) if error.is_invalid() => {
                // Sending it again would not help, and a pod that is going away must not wait for it.
                tracing::error!(pod = %self.pod.display(), error = %error.message, "the API refuses the pod's status");
                self.last_status = Some(status);
                true
            }
            // The pod is gone, or another one has its name: nobody wants this status.
            Err(error) if error.is_not_found() || error.is_conflict() => true,
            Err(error) => {
                tracing::warn!(pod = %self.pod.display(), error = %error.message, "cannot store the pod's status");
                false
            }
        }
    }

    async fn execute(
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

    pub(super) async fn execute_stops(&mut self, stops: Vec<Action>) -> Result<(), RuntimeError> {
        let now = tokio::time::Instant::now();
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
    async fn look_at_claims(&mut self) -> Result<(), Duration> {
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

/// The pause after so many failures in a row, doubling.
fn retry_pause(failures: u32) -> Duration {
    RETRY
        .saturating_mul(2_u32.saturating_pow(failures))
        .min(RETRY_MAX)
}

/// Probe results of containers that an earlier agent has started, so that taking them over changes nothing.
fn recorded_probes(status: &Value) -> BTreeMap<String, Results> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let all = lists
        .iter()
        .filter_map(|list| status.get(list)?.as_array())
        .flatten();
    all.filter_map(|container| {
        let (_, id) = container.get("containerID")?.as_str()?.split_once("://")?;
        let yes = |field: &str| {
            container
                .get(field)
                .and_then(Value::as_bool)
                .filter(|yes| *yes)
        };
        let results = Results {
            startup: yes("started"),
            readiness: yes("ready"),
            liveness: None,
        };
        container
            .pointer("/state/running")
            .map(|_| (id.to_owned(), results))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_ever_less_often() {
        let pauses: Vec<u64> = (0..8).map(|n| retry_pause(n).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(retry_pause(u32::MAX), RETRY_MAX);
    }
}
