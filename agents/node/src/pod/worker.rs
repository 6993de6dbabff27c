//! The task of one pod: look, plan, act, report, wait.
//!
//! One task per UID, so that no two operations on a pod ever run at once. What it remembers between rounds (back-offs,
//! probe results, reasons of failed starts) may be lost without harm; everything else is read again each round.
//! A round is interrupted when the pod has to go away: then only [`Worker::terminate`] is left to do.

mod execute;
mod observing;
mod probing;
mod report;
mod taking;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_runtime::EventType;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::probing::recorded_probes;
use super::admission;
use super::backoff::Backoffs;
use super::desired::Desired;
use super::plan::{self, Action, Facts, Observation, Plan, Waiting};
use super::prepare::{Prepared, Token};
use super::probe::{Kind, Report, Results};
use super::resize::{self, Allocation, Resize};
use super::status::Verdict;
use crate::agent::Agent;
use crate::clock;
use crate::metrics;
use crate::runtime::{Limits, RuntimeError};
use crate::source::{Owned, Watched};
use crate::spec::{Pod, Role};
use crate::stats::Counter;
use crate::volumes::claimed::Claimed;
use crate::volumes::payload::Reference;

/// How often a pod is looked at without any reason: events of the runtime may be lost.
pub(super) const RELIST: Duration = Duration::from_secs(30);
/// Pause after a failed round, and between tries of whatever the API or the runtime refused.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// The longest pause between tries to make volumes or a sandbox; what volumes refer to is watched, and its coming cuts
/// the pause short.
const RETRY_MAX: Duration = Duration::from_secs(120);
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
    /// Those of containers that run, whether they are asked now or not.
    counters: BTreeMap<(String, Kind), Arc<Counter>>,
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
            counters: BTreeMap::new(),
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
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.end_as_overdue();
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
            match self.try_prepare().await {
                Ok(ready) => prepared = Some(ready),
                Err(pause) => {
                    next = next.min(clock::now() + pause);
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
        self.act(plan.actions, prepared).await?;
        // What a notification meanwhile has swallowed is seen in the next round, which comes at once.
        Ok(clock::now())
    }

    /// The node ends a pod whose time is over, unless it has ended already.
    fn end_as_overdue(&mut self) {
        if self.verdict.is_some() || plan::is_recorded_terminal(&self.pod) {
            return;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.event(None, EventType::Normal, "DeadlineExceeded", message.clone());
        self.verdict = Some(Verdict {
            reason: "DeadlineExceeded",
            message,
        });
    }

    /// What containers need to start; or how long to leave it alone where it cannot be had.
    async fn try_prepare(&mut self) -> Result<Prepared, Duration> {
        match self.prepare().await {
            Ok(ready) => {
                self.mount_failures = 0;
                Ok(ready)
            }
            Err(text) => {
                self.event(None, EventType::Warning, "FailedMount", text);
                let pause = retry_pause(self.mount_failures);
                self.mount_failures = self.mount_failures.saturating_add(1);
                Err(pause)
            }
        }
    }

    /// Executes actions until they are done or the pod has to go away.
    async fn act(
        &mut self,
        actions: Vec<Action>,
        prepared: Option<Prepared>,
    ) -> Result<(), RuntimeError> {
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
            biased;
            result = self.execute(actions, prepared) => result,
            () = interrupted => Ok(()),
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

    /// Sleeps until something happens or the time has come.
    async fn wait(&mut self, until: OffsetDateTime) {
        let pause: Duration = (until - clock::now()).try_into().unwrap_or(Duration::ZERO);
        // No moment is further off than that, unless the clock has been set back.
        let sleep = tokio::time::sleep(pause.min(RELIST));
        tokio::pin!(sleep);
        loop {
            tokio::select! {
                biased;
                // A pod that is woken again and again shall hear its probes, too.
                report = self.reports.recv() => {
                    let Some(report) = report else { return };
                    let before = self.probes.get(&report.container_id).copied();
                    let id = report.container_id.clone();
                    self.accept(report);
                    if self.probes.get(&id).copied() != before {
                        return;
                    }
                }
                () = self.desired.wake.notified() => return,
                () = &mut sleep => return,
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
