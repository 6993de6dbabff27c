//! What is written of a pod and told about it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;

use agent_runtime::EventType;
use time::OffsetDateTime;

use super::{Life, Note, Place, Step, View, Write};
use crate::hollow::health;
use crate::hollow::runs::SCHEME;
use crate::hollow::stages::Stage;
use crate::hollow::words;
use crate::pod::plan::{self, Waiting};
use crate::pod::probe::Kind;
use crate::pod::status::{Inputs, Status};
use crate::spec::{Pod, Role};

/// A pod that runs so soon after it was seen is told of once, as one that runs.
const FIRST_WORD: time::Duration = time::Duration::milliseconds(200);

impl Life {
    /// Compares what is with what is on record.
    pub(super) fn write(
        &mut self,
        pod: &Pod,
        place: &Place<'_>,
        (over, view): (bool, Option<View>),
        now: OffsetDateTime,
        step: &mut Step,
    ) {
        let leaving = pod.metadata.deletion_timestamp.is_some();
        let settled = plan::is_recorded_terminal(pod);
        let lives = !(over || leaving || self.verdict().is_some());
        let rests = self.trouble.as_deref().and_then(|trouble| trouble.rests);
        let is_quiet = rests.is_some_and(|version| version >= self.pod.version)
            || lives && self.begins_soon(pod, now);
        let nothing_waits = self.trouble.is_none() && self.running(now).next().is_none();
        if is_quiet && nothing_waits && view.is_none() {
            // Only back-offs and probes would make another look worthwhile.
            self.tell(pod, &BTreeMap::new(), place.stage, now, step);
            return;
        }
        debug_assert!(
            view.as_ref()
                .is_none_or(|view| *view == self.view(pod, place, lives, now)),
            "what was seen last is what is to be seen"
        );
        let view = view.unwrap_or_else(|| self.view(pod, place, lives, now));
        let View {
            observed,
            probes,
            probed_at,
            plan,
        } = view;
        let mut waiting = plan.waiting;
        self.tell(pod, &waiting, place.stage, now, step);
        if lives {
            self.wait_for_obstacles(pod, &mut waiting);
        }
        if let Some(at) = probed_at {
            step.wake(at);
        }
        if is_quiet {
            return;
        }
        let (resize, in_force) = self.resize(pod, &observed, step);
        let messages = words::messages(pod, place.node_name, &observed);
        let status = Status::of(&Inputs {
            pod,
            observed: &observed,
            resize: &resize,
            in_force: &in_force,
            probes: &probes,
            waiting: &waiting,
            messages: &messages,
            // What fails is told when nothing of it runs any more, as node agents do: it is told once.
            verdict: self.verdict().filter(|_| over),
            over: over || settled,
            scheme: SCHEME,
            host_ip: place.host_ip,
            started_at: self.started_at.unwrap_or(now),
            now,
        });
        let digest = digest(&status);
        let is_shown = |made: NonZeroU64| self.pod.version <= made.get();
        let was_sent = self.sent == digest && self.made.is_some_and(is_shown);
        // What has ended is on record for good, also where a former process wrote it in other words.
        let recorded = (settled && !leaving) || was_sent || status.is_recorded(pod);
        step.write = match (recorded, leaving && over) {
            (false, _) => {
                let patch = status.patch(pod);
                self.sending = digest;
                Some(Write::Status(patch.into()))
            }
            (true, true) => Some(Write::Delete),
            (true, false) => None,
        };
    }

    /// Whether nothing is on record of the pod yet and its first containers are about to run: a wake is set for that.
    fn begins_soon(&self, pod: &Pod, now: OffsetDateTime) -> bool {
        let unknown = self.made.is_none() && pod.status["startTime"].is_null();
        let until = self.started_at.unwrap_or(now) + FIRST_WORD;
        let mut begin = self.runs.iter().filter(|run| run.begins > now);
        unknown && begin.any(|run| run.begins <= until)
    }

    /// Notes for what has begun, and for what waits.
    fn tell(
        &mut self,
        pod: &Pod,
        waiting: &BTreeMap<String, Waiting>,
        stage: &Stage,
        now: OffsetDateTime,
        step: &mut Step,
    ) {
        let role = |name: &str| pod.container(name).map_or(Role::App, |(role, _)| role);
        for run in self
            .runs
            .iter_mut()
            .filter(|run| run.begins <= now && !run.told)
        {
            run.told = true;
            let name = &run.of.container;
            let mut tell = |kind, reason, text: &str| {
                step.notes.push(Note {
                    container: Some((role(name), name.to_string())),
                    kind,
                    reason,
                    text: text.to_owned(),
                });
            };
            tell(EventType::Normal, "Started", "Container started");
            let found = pod.container(name);
            let hook = found.and_then(|(_, container)| container.lifecycle.post_start.as_ref());
            if hook.is_some_and(|hook| !health::hook(hook, stage).1) {
                let failed = "FailedPostStartHook";
                tell(EventType::Warning, failed, "PostStartHook failed");
                tell(EventType::Normal, "Killing", failed);
            }
        }
        for name in waiting.keys() {
            let runs = self
                .runs
                .iter_mut()
                .filter(|run| *run.of.container == **name);
            let Some(run) = runs.max_by_key(|run| run.attempt) else {
                continue;
            };
            if std::mem::replace(&mut run.waits_told, true) {
                continue;
            }
            let text = format!(
                "Back-off restarting failed container {name} in pod {}",
                pod.display()
            );
            step.notes.push(Note {
                container: Some((role(name), name.clone())),
                kind: EventType::Warning,
                reason: "BackOff",
                text,
            });
        }
    }
}

impl Life {
    /// Notes for probes that have failed, once for each run.
    pub(super) fn complain(
        &mut self,
        pod: &Pod,
        place: &Place<'_>,
        now: OffsetDateTime,
        step: &mut Step,
    ) {
        let ip = self.address().map(|ip| ip.to_string());
        let ip = ip.as_deref().unwrap_or(place.host_ip);
        let runs = self.runs.iter_mut();
        for run in runs.filter(|run| run.is_running(now) && !run.stopping) {
            let (results, _) = health::results(pod, run, place.pace(), now);
            let failed = Kind::ALL
                .into_iter()
                .filter(|kind| results.get(*kind) == Some(false));
            for kind in failed {
                let bit = 1_u8 << kind as u8;
                let found = pod.container(&run.of.container);
                let probe = found.and_then(|(_, container)| kind.of(container));
                let (Some((role, container)), Some(probe)) = (found, probe) else {
                    continue;
                };
                if run.failures_told & bit != 0 {
                    continue;
                }
                run.failures_told |= bit;
                step.notes.push(Note {
                    container: Some((role, container.name.clone())),
                    kind: EventType::Warning,
                    reason: "Unhealthy",
                    text: health::complaint(kind, (container, probe), place.stage, ip),
                });
            }
        }
    }
}

fn digest(status: &Status<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.hash(&mut hasher);
    hasher.finish()
}
