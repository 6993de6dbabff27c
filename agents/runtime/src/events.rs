//! Events about objects, recorded without ever holding up who reports them.
//!
//! What happens again is counted on the first event instead of stored again; many similar events of one object become
//! one combined event; an object that never stops is silenced. The queue is bounded: under pressure events are dropped,
//! as the API promises no more ("best effort, supplemental data").

use crate::client::{Client, PatchType};
use crate::error::ApiError;
use crate::kinds::{ObjectMeta, ObjectReference};
use crate::plan::Report;
use crate::resource_ref::{EVENTS, ResourceRef};
use crate::timestamp::{self, Micros, seconds};
use host::HashMap;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const QUEUED_MAX: usize = 1000;
/// Distinct events and objects remembered; beyond it the oldest are forgotten.
const REMEMBERED_MAX: usize = 4096;
/// From so many different messages within the window on, an object's events of one reason are combined.
const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: Micros = seconds(600);
/// Events of one object: a burst, then one in five minutes.
const BURST: f64 = 25.0;
const REFILL_MICROS: f64 = 300_000_000.0;

/// Normal or warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// Something happened as it should.
    Normal,
    /// Somebody may have to act.
    Warning,
}

impl EventType {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// A reference to an object, for events and target references.
pub fn reference(resource: &ResourceRef, meta: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: resource.api_version(),
        kind: resource.kind.to_string(),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.to_string(),
        field_path: String::new(),
    }
}

/// Takes reports; clones feed one queue.
#[derive(Clone)]
pub struct EventRecorder {
    queue: Option<mpsc::Sender<(Report, Micros)>>,
}

impl EventRecorder {
    /// Starts the task that stores events, as `component` (on `host`, empty for components without one), until `stop`.
    pub fn start(client: Client, component: &str, host: &str, stop: &CancellationToken) -> Self {
        let (queue, reports) = mpsc::channel(QUEUED_MAX);
        let correlator = Correlator::new(component, host);
        host::spawn(store(client, correlator, reports, stop.clone()));
        Self { queue: Some(queue) }
    }

    /// A recorder that forgets everything.
    pub fn silent() -> Self {
        Self { queue: None }
    }

    /// Records an event; drops it when too many wait.
    pub fn event(
        &self,
        regarding: ObjectReference,
        kind: EventType,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        self.report(Report {
            regarding,
            kind,
            reason,
            message: message.into(),
        });
    }

    /// Records a report.
    pub fn report(&self, report: Report) {
        if let Some(queue) = &self.queue
            && queue.try_send((report, timestamp::now())).is_err()
        {
            tracing::debug!("too many events wait, one is dropped");
        }
    }
}

async fn store(
    client: Client,
    mut correlator: Correlator,
    mut reports: mpsc::Receiver<(Report, Micros)>,
    stop: CancellationToken,
) {
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = reports.recv() => next,
        };
        let Some((report, now)) = next else { return };
        let Some(step) = correlator.observe(&report, now) else {
            continue;
        };
        let stored = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            stored = write(&client, &step) => stored,
        };
        if let Err(error) = stored {
            correlator.forget(&step);
            tracing::debug!(error = %error.message, reason = report.reason, "an event could not be stored");
        }
    }
}

async fn write(client: &Client, step: &Step) -> Result<(), ApiError> {
    if step.count > 1 {
        let bump = json!({"count": step.count, "lastTimestamp": step.body["lastTimestamp"], "message": step.body["message"]});
        match client
            .patch(
                &EVENTS,
                &step.namespace,
                &step.name,
                PatchType::Strategic,
                &bump,
            )
            .await
        {
            // Events expire; the next one starts anew.
            Err(error) if error.is_not_found() => {}
            other => return other.map(drop),
        }
    }
    match client.create(&EVENTS, &step.namespace, &step.body).await {
        // A namespace that goes away needs no events.
        Err(error) if error.is_namespace_terminating() || error.is_already_exists() => Ok(()),
        other => other.map(drop),
    }
}

/// Decides what a report becomes. Pure: time is an argument.
struct Correlator {
    component: String,
    host: String,
    /// What the name of the last new event ends with.
    stamp: Micros,
    seen: HashMap<String, Seen>,
    similar: HashMap<String, (Micros, Vec<String>)>,
    budgets: HashMap<String, (f64, Micros)>,
}

struct Seen {
    name: String,
    count: u32,
    first: Micros,
    last: Micros,
}

struct Step {
    key: String,
    namespace: String,
    name: String,
    count: u32,
    body: Value,
}

impl Correlator {
    fn new(component: &str, host: &str) -> Self {
        Self {
            component: component.into(),
            host: host.into(),
            stamp: 0,
            seen: HashMap::default(),
            similar: HashMap::default(),
            budgets: HashMap::default(),
        }
    }

    fn observe(&mut self, report: &Report, now: Micros) -> Option<Step> {
        let object = &report.regarding;
        let about = format!(
            "{}|{}|{}|{}",
            object.kind, object.namespace, object.name, object.uid
        );
        let group = format!("{about}|{}|{}", report.kind.as_str(), report.reason);
        let combined = self.is_too_similar(&group, &report.message, now);
        let message = if combined {
            format!("(combined from similar events): {}", report.message)
        } else {
            report.message.clone()
        };
        let key = if combined {
            group
        } else {
            format!("{group}|{}|{message}", object.field_path)
        };
        forget_oldest(&mut self.seen, |seen| seen.last);
        let seen = self.seen.entry(key.clone()).or_insert_with(|| {
            // What is said of an object within one microsecond must not get one name: all but the first would be lost.
            self.stamp = now.saturating_mul(1000).max(self.stamp.saturating_add(1));
            Seen {
                name: format!("{}.{:x}", object.name, self.stamp),
                count: 0,
                first: now,
                last: now,
            }
        });
        seen.count = seen.count.saturating_add(1);
        seen.last = now;
        let (name, count, first) = (seen.name.clone(), seen.count, seen.first);
        // What is not stored for lack of budget is counted all the same, and told with the next that is.
        if !self.within_budget(&about, now) {
            return None;
        }
        let namespace = if object.namespace.is_empty() {
            "default".to_owned()
        } else {
            object.namespace.clone()
        };
        let mut source = json!({"component": self.component});
        if !self.host.is_empty() {
            source["host"] = self.host.as_str().into();
        }
        let body = json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": object,
            "reason": report.reason, "message": message, "type": report.kind.as_str(),
            "source": source, "reportingComponent": self.component, "reportingInstance": self.host,
            "firstTimestamp": timestamp::time(first), "lastTimestamp": timestamp::time(now), "count": count,
        });
        Some(Step {
            key,
            namespace,
            name,
            count,
            body,
        })
    }

    fn forget(&mut self, step: &Step) {
        self.seen.remove(&step.key);
    }

    fn within_budget(&mut self, about: &str, now: Micros) -> bool {
        forget_oldest(&mut self.budgets, |(_, at)| *at);
        let (tokens, at) = self.budgets.entry(about.to_owned()).or_insert((BURST, now));
        #[expect(
            clippy::cast_precision_loss,
            reason = "an interval is far below 2^52 microseconds"
        )]
        let elapsed = (now - *at).max(0) as f64;
        *tokens = (*tokens + elapsed / REFILL_MICROS).min(BURST);
        *at = now;
        let may = *tokens >= 1.0;
        if may {
            *tokens -= 1.0;
        }
        may
    }

    fn is_too_similar(&mut self, group: &str, message: &str, now: Micros) -> bool {
        forget_oldest(&mut self.similar, |(at, _)| *at);
        let (at, messages) = self
            .similar
            .entry(group.to_owned())
            .or_insert_with(|| (now, Vec::new()));
        if now - *at > SIMILAR_WINDOW {
            messages.clear();
        }
        *at = now;
        if messages.iter().any(|m| m == message) {
            return false;
        }
        if messages.len() + 1 >= SIMILAR_MAX {
            return true;
        }
        messages.push(message.to_owned());
        false
    }
}

fn forget_oldest<V>(map: &mut HashMap<String, V>, at: impl Fn(&V) -> Micros) {
    if map.len() >= REMEMBERED_MAX {
        let mut times: Vec<Micros> = map.values().map(&at).collect();
        times.sort_unstable();
        let median = times[times.len() / 2];
        map.retain(|_, value| at(value) > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str, message: &str) -> Report {
        let regarding = ObjectReference {
            kind: "Pod".into(),
            namespace: "a".into(),
            name: name.into(),
            uid: "u".into(),
            ..ObjectReference::default()
        };
        Report {
            regarding,
            kind: EventType::Normal,
            reason: "Started",
            message: message.into(),
        }
    }

    #[test]
    fn repetitions_are_counted_on_the_first_event() {
        let mut correlator = Correlator::new("test", "");
        let first = correlator.observe(&report("p", "m"), seconds(1)).unwrap();
        let second = correlator.observe(&report("p", "m"), seconds(9)).unwrap();
        assert_eq!((first.count, second.count), (1, 2));
        assert_eq!(first.name, second.name);
        assert_eq!(second.body["firstTimestamp"], "1970-01-01T00:00:01Z");
        assert_eq!(second.body["lastTimestamp"], "1970-01-01T00:00:09Z");
        assert_eq!(
            correlator
                .observe(&report("q", "m"), seconds(9))
                .unwrap()
                .count,
            1
        );
    }

    #[test]
    fn events_of_one_moment_have_names_of_their_own() {
        let mut correlator = Correlator::new("test", "");
        let mut name = |message: &str, at| {
            let step = correlator.observe(&report("p", message), at);
            step.unwrap().name
        };
        let names = [
            name("memory", seconds(1)),
            name("disk", seconds(1)),
            name("late", seconds(1) - 5),
            name("ready", seconds(2)),
        ];
        assert_eq!(names[0], format!("p.{:x}", seconds(1) * 1000));
        assert_eq!(names[3], format!("p.{:x}", seconds(2) * 1000));
        let unlike: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unlike.len(), names.len(), "{names:?}");
        assert_eq!(name("disk", seconds(3)), names[1], "and keep them");
    }

    #[test]
    fn similar_events_are_combined_and_endless_ones_silenced() {
        let mut correlator = Correlator::new("test", "");
        let steps: Vec<_> = (0..40)
            .map(|i| correlator.observe(&report("p", &format!("m{i}")), seconds(1)))
            .collect();
        assert_eq!(steps.iter().flatten().count(), 25);
        let combined: Vec<_> = steps
            .iter()
            .flatten()
            .filter(|s| s.body["message"].as_str().unwrap().starts_with("(combined"))
            .collect();
        assert_eq!(combined.len(), 16);
        assert_eq!(combined[15].count, 16);
        let later = correlator
            .observe(&report("p", "later"), seconds(310))
            .unwrap();
        assert_eq!(later.count, 32, "what was silenced is counted");
        assert_eq!(
            correlator
                .observe(&report("p", "anew"), seconds(1000))
                .unwrap()
                .count,
            1
        );
    }
}
