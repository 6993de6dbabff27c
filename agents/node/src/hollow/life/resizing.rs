//! Other amounts for a pod that is there. What is simulated has them as soon as they are given, but for containers that have to
//! be made anew for that.

use agent_runtime::EventType;

use super::{Life, Note, Step};
use crate::pod::admission::resize::Outcome;
use crate::pod::plan::Observation;
use crate::pod::resize::{self, Allocation, DEFERRED, INFEASIBLE, Pending, Progress, Resize};
use crate::spec::Pod;

/// Before another look whether there is room.
pub(super) const LOOK: time::Duration = time::Duration::seconds(10);

/// What has become of what a pod asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Course {
    /// It was not given.
    Waits {
        pending: Pending,
        /// The version of the pod that began to wait; versions go up with time.
        since: u64,
    },
    /// It was given in this generation of the pod, be that on record yet or not.
    Given {
        generation: i64,
        /// It is in force, and that was told.
        is_complete: bool,
    },
}

fn note(kind: EventType, reason: &'static str, text: String) -> Note {
    Note {
        container: None,
        kind,
        reason,
        text,
    }
}

impl Life {
    /// The pod asks for what it has, as it is on record.
    pub(in crate::hollow) fn settle(&mut self) {
        let lasts = |course: &Course| {
            matches!(
                course,
                Course::Given {
                    is_complete: false,
                    ..
                }
            )
        };
        if !self.course().is_some_and(lasts)
            && let Some(trouble) = self.trouble.as_deref_mut()
        {
            trouble.course = None;
        }
    }

    /// What it asks for was given to it, which may not be on record yet.
    pub(in crate::hollow) fn is_given(&self) -> bool {
        matches!(self.course(), Some(Course::Given { .. }))
    }

    /// It asks for what it was not given.
    pub(super) fn waits_for_amounts(&self) -> bool {
        matches!(self.course(), Some(Course::Waits { .. }))
    }

    /// Since which version it waits for others to have less.
    pub(in crate::hollow) fn deferred_since(&self) -> Option<u64> {
        match self.course()? {
            Course::Waits { pending, since } if pending.reason == DEFERRED => Some(*since),
            _ => None,
        }
    }

    /// What has become of that which the pod asks for; notes where it is news.
    pub(in crate::hollow) fn resized(&mut self, pod: &Pod, outcome: Outcome) -> Vec<Note> {
        let generation = pod.metadata.generation;
        let (reason, event, message) = match outcome {
            Outcome::Fits => return self.give(pod).into_iter().collect(),
            Outcome::Deferred(message) => (DEFERRED, "ResizeDeferred", message),
            Outcome::Infeasible(message) => (INFEASIBLE, "ResizeInfeasible", message),
        };
        let pending = Pending {
            reason,
            message,
            generation,
        };
        let since = match self.course() {
            Some(Course::Waits { pending: told, .. }) if *told == pending => return Vec::new(),
            Some(Course::Waits { since, .. }) => *since,
            _ => self.pod.version,
        };
        let text = resize::text(reason, pod, generation, Some(&pending.message));
        self.troubled().course = Some(Course::Waits { pending, since });
        vec![note(EventType::Warning, event, text)]
    }

    /// Goes on with what a former process has given and what is not in force yet.
    pub(super) fn adopt_resize(&mut self, pod: &Pod) {
        if self.course().is_none()
            && let Some(progress) = Resize::recorded(pod).progress
        {
            self.troubled().course = Some(Course::Given {
                generation: progress.generation,
                is_complete: false,
            });
        }
    }

    /// The note that it was given, once.
    fn give(&mut self, pod: &Pod) -> Option<Note> {
        let now = pod.metadata.generation;
        if let Some(Course::Given { generation, .. }) = self.course()
            && *generation == now
        {
            return None;
        }
        self.troubled().course = Some(Course::Given {
            generation: now,
            is_complete: false,
        });
        let text = resize::text("started", pod, now, None);
        Some(note(EventType::Normal, "ResizeStarted", text))
    }

    /// How far it has come, and what those containers have that do not have yet what they were given. A note when all have.
    pub(super) fn resize(
        &mut self,
        pod: &Pod,
        observed: &Observation,
        step: &mut Step,
    ) -> (Resize, Allocation) {
        let mut told = (Resize::default(), Allocation::new());
        let trouble = self.trouble.as_deref_mut();
        match trouble.and_then(|trouble| trouble.course.as_mut()) {
            None => {}
            Some(Course::Waits { pending, .. }) => told.0.pending = Some(pending.clone()),
            Some(Course::Given {
                generation,
                is_complete,
            }) if !*is_complete => {
                let generation = *generation;
                // Nobody has to be told limits here.
                told.1 = resize::lagging(pod, observed, &[]);
                if told.1.is_empty() {
                    *is_complete = true;
                    let text = resize::text("completed", pod, generation, None);
                    step.notes
                        .push(note(EventType::Normal, "ResizeCompleted", text));
                } else {
                    told.0.progress = Some(Progress {
                        generation,
                        error: None,
                    });
                }
            }
            Some(Course::Given { .. }) => {}
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hollow::slim::Slim;

    #[test]
    fn what_waits_is_told_once_and_what_fits_is_given_once() {
        let object = json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "7", "generation": 2},
            "spec": {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "2"}}}]},
            "status": {"startTime": "2026-01-01T00:00:00Z",
                       "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "1"}}]}});
        let mut pod = Pod::decode(&object).unwrap();
        let slim = Slim::of(object).unwrap();
        assert!(
            slim.asks
                .as_deref()
                .is_some_and(|asks| *asks != slim.kind.share)
        );
        let mut life = Life::new(slim);
        let told = |notes: Vec<Note>| -> Vec<&'static str> {
            notes.into_iter().map(|note| note.reason).collect()
        };
        let deferred = Outcome::Deferred("why".to_owned());
        let notes = life.resized(&pod, deferred.clone());
        assert_eq!(told(notes), ["ResizeDeferred"]);
        assert!(life.resized(&pod, deferred).is_empty());
        assert_eq!(life.deferred_since(), Some(7));
        let notes = life.resized(&pod, Outcome::Infeasible("no".to_owned()));
        assert_eq!(told(notes), ["ResizeInfeasible"]);
        assert_eq!(life.deferred_since(), None);
        let notes = life.resized(&pod, Outcome::Fits);
        assert_eq!(told(notes), ["ResizeStarted"]);
        assert!(life.is_given());
        assert!(life.resized(&pod, Outcome::Fits).is_empty());
        life.settle();
        assert!(life.is_given(), "it is not in force yet");
        let mut step = Step::default();
        let nothing = Observation::default();
        let (resize, lagging) = life.resize(&pod, &nothing, &mut step);
        assert!(resize == Resize::default() && lagging.is_empty());
        life.resize(&pod, &nothing, &mut step);
        assert_eq!(told(step.notes), ["ResizeCompleted"]);
        pod.metadata.generation = 3;
        let notes = life.resized(&pod, Outcome::Fits);
        assert_eq!(told(notes), ["ResizeStarted"], "that is another one");
        life.resize(&pod, &nothing, &mut Step::default());
        life.settle();
        assert!(!life.is_given());
    }
}
