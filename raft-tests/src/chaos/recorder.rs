//! Everything that happens in a run, as it happens, with one clock.

use crate::recording::{
    Fault, Operation, Outcome, Recording, Request, Sample, Violation, Watch, WatchBody,
    WatchMessage,
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Shared by all who have something to say.
pub struct Recorder {
    began: Instant,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    recording: Recording,
    violations: Vec<Violation>,
    trouble: Vec<String>,
    /// The id of the first operation that is kept.
    first: u64,
}

/// How much there is so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub operations: usize,
    pub good: usize,
    pub failed: usize,
    pub unknown: usize,
    pub events: usize,
    pub faults: usize,
}

impl Recorder {
    pub fn new(recording: Recording) -> Recorder {
        Recorder {
            began: Instant::now(),
            kept: Mutex::new(Kept {
                recording,
                ..Kept::default()
            }),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn began(&self) -> Instant {
        self.began
    }

    /// Nanoseconds since the run began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// A call is about to be made. Until it returns its outcome is not known. Answers its id.
    pub fn called(&self, client: u32, member: u64, request: Request) -> u64 {
        let mut kept = self.kept();
        let id = kept.first + kept.recording.operations.len() as u64;
        kept.recording.operations.push(Operation {
            id,
            client,
            member,
            // Under the lock, so that ids ascend with it.
            called: self.now(),
            returned: None,
            request,
            outcome: Outcome::Unknown {
                message: "the run ended first".into(),
            },
        });
        id
    }

    /// `answered` unless no answer ever came, which is when the client gave up waiting.
    pub fn returned(&self, id: u64, outcome: Outcome, answered: bool) {
        let now = self.now();
        let mut kept = self.kept();
        let Some(place) = id.checked_sub(kept.first) else {
            return;
        };
        if let Some(operation) = kept.recording.operations.get_mut(place as usize) {
            operation.returned = answered.then_some(now);
            operation.outcome = outcome;
        }
    }

    /// A watch is about to be made; its id and the time are set here. Answers the id.
    pub fn watch(&self, watch: Watch) -> u64 {
        let mut kept = self.kept();
        let id = kept.recording.watches.len() as u64;
        kept.recording.watches.push(Watch {
            id,
            called: self.now(),
            ..watch
        });
        id
    }

    pub fn message(&self, watch: u64, revision: i64, body: WatchBody) {
        let at = self.now();
        let mut kept = self.kept();
        if let Some(watch) = kept.recording.watches.get_mut(watch as usize) {
            watch.messages.push(WatchMessage { at, revision, body });
        }
    }

    /// A fault comes. Answers a number for [`Recorder::undone`].
    pub fn fault(&self, kind: &str, what: String, members: Vec<u64>) -> usize {
        let from = self.now();
        let mut kept = self.kept();
        kept.recording.faults.push(Fault {
            kind: kind.into(),
            what,
            members,
            from,
            until: None,
        });
        kept.recording.faults.len() - 1
    }

    pub fn undone(&self, number: usize) {
        let now = self.now();
        if let Some(fault) = self.kept().recording.faults.get_mut(number) {
            fault.until = Some(now);
        }
    }

    /// Adds to what a fault was, in words.
    pub fn noted(&self, number: usize, words: &str) {
        if let Some(fault) = self.kept().recording.faults.get_mut(number) {
            fault.what.push_str("; ");
            fault.what.push_str(words);
        }
    }

    pub fn sample(&self, sample: Sample) {
        self.kept().recording.samples.push(sample);
    }

    /// What no judge can see in a recording: a member that ended by itself, a cluster that did not heal.
    pub fn violation(&self, rule: &str, story: String) {
        self.kept().violations.push(Violation {
            rule: rule.into(),
            story,
            ..Violation::default()
        });
    }

    /// The test itself could not do something.
    pub fn trouble(&self, text: String) {
        self.kept().trouble.push(text);
    }

    pub fn tally(&self) -> Tally {
        let kept = self.kept();
        let mut tally = Tally {
            operations: kept.recording.operations.len(),
            faults: kept.recording.faults.len(),
            ..Tally::default()
        };
        for operation in &kept.recording.operations {
            match operation.outcome {
                Outcome::Ok { .. } => tally.good += 1,
                Outcome::Failed { .. } => tally.failed += 1,
                Outcome::Unknown { .. } => tally.unknown += 1,
            }
        }
        let messages = kept
            .recording
            .watches
            .iter()
            .flat_map(|watch| &watch.messages);
        tally.events = messages
            .map(|message| match &message.body {
                WatchBody::Events { events, .. } => events.len(),
                _ => 0,
            })
            .sum();
        tally
    }

    /// What is wrong so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.kept().violations.clone()
    }

    /// Calls and samples of before this time are not kept any longer.
    pub fn forget(&self, before: u64) {
        let mut kept = self.kept();
        let operations = &mut kept.recording.operations;
        let gone = operations.partition_point(|operation| operation.called < before);
        operations.drain(..gone);
        kept.first += gone as u64;
        kept.recording.samples.retain(|sample| sample.at >= before);
    }

    /// Lets the recording be changed, at its end.
    pub fn change(&self, change: impl FnOnce(&mut Recording)) {
        change(&mut self.kept().recording);
    }

    /// The recording, the violations and the troubles so far.
    pub fn taken(&self) -> (Recording, Vec<Violation>, Vec<String>) {
        let kept = self.kept();
        (
            kept.recording.clone(),
            kept.violations.clone(),
            kept.trouble.clone(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::Response;

    #[test]
    fn what_is_forgotten_changes_nothing_of_the_rest() {
        let recorder = Recorder::new(Recording::default());
        let ask = || recorder.called(1, 2, Request::Compact { revision: 3 });
        let done = || Outcome::Ok {
            revision: 1,
            response: Response::Compacted,
        };
        let first = ask();
        recorder.sample(Sample::default());
        recorder.forget(recorder.now() + 1);
        let (second, third) = (ask(), ask());
        // One that was forgotten may still return.
        recorder.returned(first, done(), true);
        recorder.returned(third, done(), true);
        let (recording, _, _) = recorder.taken();
        let kept: Vec<(u64, bool)> = recording
            .operations
            .iter()
            .map(|operation| (operation.id, operation.outcome == done()))
            .collect();
        assert_eq!(kept, [(second, false), (third, true)]);
        assert_eq!(third, first + 2);
        assert!(recording.samples.is_empty());
    }

    #[test]
    fn a_call_without_an_answer_stays_open() {
        let recorder = Recorder::new(Recording::default());
        let ask = || recorder.called(1, 2, Request::Compact { revision: 3 });
        let (first, second, third) = (ask(), ask(), ask());
        let unknown = |message: &str| Outcome::Unknown {
            message: message.into(),
        };
        recorder.returned(second, unknown("broken"), true);
        recorder.returned(third, unknown("no answer"), false);
        let (recording, _, _) = recorder.taken();
        let ids: Vec<u64> = recording.operations.iter().map(|it| it.id).collect();
        assert_eq!(ids, [first, second, third]);
        let calls: Vec<u64> = recording.operations.iter().map(|it| it.called).collect();
        assert!(calls.is_sorted());
        let open = |index: usize| recording.operations[index].returned.is_none();
        assert!(open(0) && !open(1) && open(2));
        assert_eq!(recorder.tally().unknown, 3);
    }
}
