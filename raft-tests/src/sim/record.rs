//! What is written down of a run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use crate::recording::{
    Fault, Operation, Outcome, Recording, Request, Sample, Violation, Watch, WatchBody,
    WatchMessage,
};

/// Everything that the parts of a simulation have to say, with the time.
pub struct Recorder {
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    recording: Recording,
    violations: Vec<Violation>,
    notes: Vec<(u64, String)>,
    /// Members whose start was refused, and why, the last one each.
    refused: BTreeMap<u64, String>,
}

impl Recorder {
    pub fn new(start: Instant) -> Recorder {
        Recorder {
            start,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub fn called(&self, client: u32, member: u64, request: Request) -> u64 {
        let called = self.now();
        let operations = &mut self.lock().recording.operations;
        let id = operations.len() as u64;
        operations.push(Operation {
            id,
            client,
            member,
            called,
            returned: None,
            request,
            outcome: Outcome::Unknown {
                message: "no answer before the end".into(),
            },
        });
        id
    }

    pub fn returned(&self, id: u64, outcome: Outcome) {
        let now = self.now();
        if let Some(operation) = self.lock().recording.operations.get_mut(id as usize) {
            operation.returned = Some(now);
            operation.outcome = outcome;
        }
    }

    /// A new watch; answers its id.
    pub fn watch(&self, watch: Watch) -> u64 {
        let called = self.now();
        let watches = &mut self.lock().recording.watches;
        let id = watches.len() as u64;
        watches.push(Watch {
            id,
            called,
            ..watch
        });
        id
    }

    pub fn watched(&self, id: u64, revision: i64, body: WatchBody) {
        let at = self.now();
        if let Some(watch) = self.lock().recording.watches.get_mut(id as usize) {
            watch.messages.push(WatchMessage { at, revision, body });
        }
    }

    /// A fault that begins now; answers its place.
    pub fn fault(&self, kind: &str, what: String, members: &[u64]) -> usize {
        let from = self.now();
        let faults = &mut self.lock().recording.faults;
        faults.push(Fault {
            kind: kind.into(),
            what,
            members: members.to_vec(),
            from,
            until: None,
        });
        faults.len() - 1
    }

    pub fn fault_over(&self, place: usize) {
        let until = Some(self.now());
        if let Some(fault) = self.lock().recording.faults.get_mut(place) {
            fault.until = until;
        }
    }

    pub fn all_faults_over(&self) {
        let now = self.now();
        let recording = &mut self.lock().recording;
        recording.run.healed = Some(now);
        for fault in &mut recording.faults {
            fault.until.get_or_insert(now);
        }
    }

    /// Takes note of how a member stands.
    pub fn sample(&self, sample: Sample) {
        self.lock().recording.samples.push(sample);
    }

    pub fn violation(&self, rule: &str, story: String) {
        self.lock().violations.push(violation(rule, story));
    }

    /// For who looks at one run.
    pub fn note(&self, text: String) {
        let now = self.now();
        self.lock().notes.push((now, text));
    }

    pub fn refused(&self, member: u64, why: String) {
        self.lock().refused.insert(member, why);
    }

    /// Takes back what [`Recorder::refused`] said.
    pub fn take_refusal(&self, member: u64) -> Option<String> {
        self.lock().refused.remove(&member)
    }

    pub fn refusals(&self) -> BTreeMap<u64, String> {
        self.lock().refused.clone()
    }

    pub fn stopped(&self, member: u64, why: &str) {
        let inner = &mut *self.lock();
        let expected = [
            "cannot be written",
            "sync",
            "os error 5",
            "is not in the cluster",
        ];
        if !expected.iter().any(|text| why.contains(text)) {
            let story = format!("Member {member} has stopped without a reason to: {why}");
            inner.violations.push(violation("stopped", story));
        }
    }

    /// Whether a reason to stop is that the member is not one any more.
    pub fn is_removed(&self, why: &str) -> bool {
        why.contains("is not in the cluster")
    }

    pub fn change(&self, change: impl FnOnce(&mut Recording)) {
        change(&mut self.lock().recording);
    }

    pub fn take(&self) -> (Recording, Vec<Violation>, Vec<(u64, String)>) {
        let inner = std::mem::take(&mut *self.lock());
        (inner.recording, inner.violations, inner.notes)
    }
}

fn violation(rule: &str, story: String) -> Violation {
    Violation {
        rule: rule.into(),
        story,
        ..Violation::default()
    }
}
