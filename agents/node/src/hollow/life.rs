//! The life of one simulated pod: a state machine that is told what is seen and what time it is, and answers what is to be
//! written and when it wants to be asked again.
//!
//! What comes next is decided by the same plan as on a real node ([`crate::pod::plan`]), and what is written is assembled by
//! the same hands ([`crate::pod::status`]); only that the orders are carried out on [`Run`]s instead of containers ([`orders`]).
//! Architecture invariant: no I/O, no clock, no chance.

mod calm;
mod obstacles;
mod orders;
mod pulls;
mod resizing;
mod step;
mod telling;
mod trouble;
mod view;

use std::net::Ipv4Addr;
use std::num::NonZeroU64;

use agent_runtime::EventType;
use time::OffsetDateTime;

pub(super) use step::{Event, Note, Step, Write};
use trouble::Trouble;
use view::View;

use super::addresses::Addresses;
use super::images::Images;
use super::runs::{self, Run, Sandbox};
use super::slim::Slim;
use super::stages::Stage;
use crate::clock;
use crate::pod::admission::preempt;
use crate::pod::devices;
use crate::pod::plan::{self, Observation};
use crate::pod::resize;
use crate::pod::status::Verdict;
use crate::spec::{Pod, Probe};

/// Orders that are carried out at once lead to the next ones; no pod needs more rounds than it has containers.
const ROUNDS_MAX: usize = 64;

/// Where the pod lives.
pub(super) struct Place<'a> {
    pub(super) node: u32,
    pub(super) node_name: &'a str,
    pub(super) host_ip: &'a str,
    pub(super) addresses: &'a mut Addresses,
    pub(super) images: &'a mut Images,
    pub(super) stage: &'a Stage,
    /// How many times longer everything takes.
    pub(super) slow: u32,
}

impl Place<'_> {
    fn pace(&self) -> (&Stage, u32) {
        (self.stage, self.slow)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Life {
    pub(super) pod: Slim,
    sandbox: Option<Sandbox>,
    runs: Vec<Run>,
    started_at: Option<OffsetDateTime>,
    adopted: bool,
    /// What was written last says all that there is to say until somebody else changes something.
    is_calm: bool,
    /// What was sent last and, once the API has taken it, of which version it made the pod: a status that comes back in other
    /// words is not sent for ever.
    sending: u64,
    sent: u64,
    made: Option<NonZeroU64>,
    address_missed: bool,
    /// The claims on devices let the pod begin.
    is_cleared: bool,
    trouble: Option<Box<Trouble>>,
}

impl Life {
    pub(super) fn new(pod: Slim) -> Life {
        Life {
            pod,
            sandbox: None,
            runs: Vec::new(),
            started_at: None,
            adopted: false,
            is_calm: false,
            sending: 0,
            sent: 0,
            made: None,
            address_missed: false,
            is_cleared: false,
            trouble: None,
        }
    }

    /// The claims on devices let the pod begin.
    pub(super) fn clear(&mut self) {
        self.is_cleared = true;
    }

    /// What keeps the pod waiting; a note where that is news.
    pub(super) fn unclear(&mut self, text: String) -> Option<Note> {
        let told = &mut self.troubled().unclear;
        if **told == *text {
            return None;
        }
        *told = text.as_str().into();
        Some(Note {
            container: None,
            kind: EventType::Warning,
            reason: devices::REASON,
            text,
        })
    }

    /// Whether nothing may begin before the claims on devices have been looked at.
    fn waits_for_claims(&self, pod: &Pod) -> bool {
        !self.is_cleared && self.sandbox.is_none() && devices::claims(pod).next().is_some()
    }

    /// Whether the node has looked at the pod in this life of its process, and so decided about it.
    pub(super) fn has_begun(&self) -> bool {
        self.adopted
    }

    /// Whether it shall fail and nothing of it has run, be that on record yet or not.
    pub(super) fn is_refused(&self) -> bool {
        self.verdict().is_some() && self.sandbox.is_none() && self.runs.is_empty()
    }

    /// The node ends the pod for a more important one. A note where that is news.
    pub(super) fn preempt(&mut self) -> Option<Note> {
        if self.verdict().is_some() {
            return None;
        }
        self.troubled().verdict = Some(Verdict {
            reason: preempt::REASON,
            message: preempt::MESSAGE.to_owned(),
        });
        Some(Note {
            container: None,
            kind: EventType::Warning,
            reason: preempt::REASON,
            text: preempt::MESSAGE.to_owned(),
        })
    }

    pub(super) fn is_preempted(&self) -> bool {
        let verdict = self.verdict();
        verdict.is_some_and(|verdict| verdict.reason == preempt::REASON)
    }

    /// The node does not take the pod: it fails, and nothing of it runs.
    pub(super) fn refuse(&mut self, verdict: Verdict) {
        if self.verdict().is_none() {
            self.troubled().verdict = Some(verdict);
        }
    }

    /// The address that the pod holds.
    pub(super) fn address(&self) -> Option<Ipv4Addr> {
        let sandbox = self.sandbox.as_ref()?;
        sandbox.ip.filter(|_| !sandbox.stopped)
    }

    /// The runs that go on now.
    pub(super) fn running(&self, now: OffsetDateTime) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.is_running(now))
    }

    pub(super) fn observation(&self, pod: &Pod, node: &str, now: OffsetDateTime) -> Observation {
        runs::observe(pod, node, self.sandbox.as_ref(), &self.runs, now)
    }

    /// The API has taken the last status, and the pod has this version.
    pub(super) fn taken(&mut self, version: u64) {
        self.sent = self.sending;
        self.made = NonZeroU64::new(version);
    }

    /// The version that the last status made of the pod; 0 before there was one.
    pub(super) fn made(&self) -> u64 {
        self.made.map_or(0, NonZeroU64::get)
    }

    /// The API has not taken the last write of this version, or has nothing more to do for it: there is none until there is
    /// another version.
    pub(super) fn rest(&mut self) {
        let version = self.pod.version;
        self.troubled().rests = Some(version);
    }

    pub(super) fn step(
        &mut self,
        event: Event,
        place: &mut Place<'_>,
        now: OffsetDateTime,
    ) -> Step {
        match event {
            Event::Look => {}
            Event::Seen(pod) => {
                let is_newer = pod.version > self.pod.version;
                let is_as_left = is_newer && self.is_as_left(&pod);
                if is_newer {
                    self.pod = pod;
                }
                if is_as_left {
                    debug_assert_eq!(
                        self.clone().look(place, now),
                        Step::default(),
                        "what nobody else has changed needs nothing"
                    );
                    return Step::default();
                }
            }
            Event::Removed => {
                self.release(place);
                return Step {
                    gone: true,
                    ..Step::default()
                };
            }
        }
        self.look(place, now)
    }

    /// What follows from the pod as it is.
    fn look(&mut self, place: &mut Place<'_>, now: OffsetDateTime) -> Step {
        let mut step = Step::default();
        self.is_calm = false;
        let Ok(pod) = self.decode(place) else {
            // The API server has checked it; what it let through nevertheless does not run.
            return step;
        };
        self.adopt(&pod, place, now);
        let (over, view) = match pod.metadata.deletion_timestamp.is_some() {
            true => (self.wind_down(&pod, place, now, &mut step), None),
            false => self.live(&pod, place, now, &mut step),
        };
        let is_settled = view.is_some();
        self.write(&pod, place, (over, view), now, &mut step);
        let is_leaving = over || pod.metadata.deletion_timestamp.is_some();
        if step.write.is_none() && !is_leaving && self.waits_for_claims(&pod) {
            step.write = Some(Write::LookAtClaims);
        }
        if self.waits_for_amounts() && !is_leaving {
            step.wake(now + resizing::LOOK);
        }
        for at in self.runs.iter().filter_map(|run| run.next_change(now)) {
            step.wake(at);
        }
        self.is_calm = is_settled && self.will_be_calm(&pod, &step, now);
        step
    }

    fn decode(&self, place: &Place<'_>) -> Result<Pod, String> {
        let mut pod = self.pod.pod()?;
        if self.waits_for_amounts() {
            let given = resize::recorded(&pod);
            resize::overlay(&mut pod, &given);
        }
        if place.stage.ready.is_some() {
            // What is said of readiness holds for containers without a probe, too.
            let spec = &mut pod.spec;
            for container in spec.init_containers.iter_mut().chain(&mut spec.containers) {
                container.readiness_probe.get_or_insert_with(Probe::default);
            }
        }
        Ok(pod)
    }

    /// Takes over what is on record, once.
    fn adopt(&mut self, pod: &Pod, place: &mut Place<'_>, now: OffsetDateTime) {
        if std::mem::replace(&mut self.adopted, true) {
            return;
        }
        let started = pod.status["startTime"].as_str().and_then(clock::parse);
        self.started_at = Some(started.unwrap_or(now));
        let (sandbox, runs) = runs::recorded(pod, place.stage, place.slow);
        self.sandbox = sandbox.filter(|sandbox| match sandbox.ip {
            Some(ip) if !sandbox.stopped => place.addresses.claim(place.node, ip),
            _ => true,
        });
        for run in &runs {
            place.images.keep(&run.of.image);
        }
        self.runs = runs;
        // Runs know their sandbox by its number, and the first one is all that a record tells of.
        self.adopt_resize(pod);
    }

    fn release(&mut self, place: &mut Place<'_>) {
        if let Some(ip) = self.address() {
            place.addresses.free(place.node, ip);
        }
        if let Some(sandbox) = &mut self.sandbox {
            sandbox.stopped = true;
        }
    }

    /// Goes on with a pod that shall run. Says whether it has been ended, and how it was seen last if nothing followed.
    fn live(
        &mut self,
        pod: &Pod,
        place: &mut Place<'_>,
        now: OffsetDateTime,
        step: &mut Step,
    ) -> (bool, Option<View>) {
        if plan::is_recorded_terminal(pod) {
            self.wind_down(pod, place, now, step);
            return (true, None);
        }
        let began = self.started_at.unwrap_or(now);
        if let Some(deadline) = plan::deadline(pod, began) {
            if deadline > now {
                step.wake(deadline);
            } else if self.verdict().is_none() {
                let message = "Pod was active on the node longer than the specified deadline";
                step.notes.push(Note {
                    container: None,
                    kind: EventType::Normal,
                    reason: "DeadlineExceeded",
                    text: message.to_owned(),
                });
                self.troubled().verdict = Some(Verdict {
                    reason: "DeadlineExceeded",
                    message: message.to_owned(),
                });
            }
        }
        if self.verdict().is_some() {
            return (self.wind_down(pod, place, now, step), None);
        }
        if self.waits_for_claims(pod) {
            return (false, None);
        }
        self.complain(pod, place, now, step);
        for _ in 0..ROUNDS_MAX {
            let mut view = self.view(pod, place, true, now);
            if let Some(at) = view.plan.wake_at {
                step.wake(at);
            }
            let actions = std::mem::take(&mut view.plan.actions);
            if actions.is_empty() {
                return (false, Some(view));
            }
            let mut changed = false;
            for action in actions {
                changed |= self.carry_out(pod, action, place, now, step);
            }
            if !changed {
                break;
            }
        }
        (false, None)
    }
}
