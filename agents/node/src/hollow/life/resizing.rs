//! Other amounts for a pod that is there: what is simulated has them as soon as they are given.

use agent_runtime::EventType;

use super::{Life, Note};
use crate::pod::admission::resize::Outcome;
use crate::pod::resize::{self, DEFERRED, INFEASIBLE, Pending};
use crate::spec::Pod;

/// Before another look whether there is room.
pub(super) const LOOK: time::Duration = time::Duration::seconds(10);

impl Life {
    /// The pod has what it asks for.
    pub(in crate::hollow) fn settle(&mut self) {
        self.pending = None;
    }

    /// What has become of that which the pod asks for; notes where it is news.
    pub(in crate::hollow) fn resized(&mut self, pod: &Pod, outcome: Outcome) -> Vec<Note> {
        let generation = pod.metadata.generation;
        let note = |kind, reason, text| Note {
            container: None,
            kind,
            reason,
            text,
        };
        let (reason, event, message) = match outcome {
            Outcome::Fits => {
                self.pending = None;
                let told = [
                    ("ResizeStarted", "started"),
                    ("ResizeCompleted", "completed"),
                ];
                let told = told.map(|(event, what)| {
                    let text = resize::text(what, pod, generation, None);
                    note(EventType::Normal, event, text)
                });
                return told.into();
            }
            Outcome::Deferred(message) => (DEFERRED, "ResizeDeferred", message),
            Outcome::Infeasible(message) => (INFEASIBLE, "ResizeInfeasible", message),
        };
        let pending = Pending {
            reason,
            message,
            generation,
        };
        if self.pending.as_deref() == Some(&pending) {
            return Vec::new();
        }
        let text = resize::text(reason, pod, generation, Some(&pending.message));
        self.pending = Some(Box::new(pending));
        vec![note(EventType::Warning, event, text)]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hollow::slim::Slim;

    #[test]
    fn what_waits_is_told_once_and_what_fits_is_in_force() {
        let object = json!({
            "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 2},
            "spec": {"containers": [{"name": "c", "image": "x", "resources": {"requests": {"cpu": "2"}}}]},
            "status": {"startTime": "2026-01-01T00:00:00Z",
                       "containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "1"}}]}});
        let pod = Pod::decode(&object).unwrap();
        let slim = Slim::of(object).unwrap();
        assert!(slim.asks.as_deref().is_some_and(|asks| *asks != slim.share));
        let mut life = Life::new(slim);
        let told = |notes: Vec<Note>| -> Vec<&'static str> {
            notes.into_iter().map(|note| note.reason).collect()
        };
        let deferred = Outcome::Deferred("why".to_owned());
        let notes = life.resized(&pod, deferred.clone());
        assert_eq!(told(notes), ["ResizeDeferred"]);
        assert!(life.resized(&pod, deferred).is_empty());
        assert_eq!(life.pending.as_ref().unwrap().message, "why");
        let notes = life.resized(&pod, Outcome::Infeasible("no".to_owned()));
        assert_eq!(told(notes), ["ResizeInfeasible"]);
        let notes = life.resized(&pod, Outcome::Fits);
        assert_eq!(told(notes), ["ResizeStarted", "ResizeCompleted"]);
        assert!(life.pending.is_none());
    }
}
