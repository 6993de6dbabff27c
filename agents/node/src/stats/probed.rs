//! `/metrics/probes`: how often probes were asked, as text for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::OffsetDateTime;

use super::cadvisor::quoted;
use crate::runtime::Identity;

const NAME: &str = "prober_probe_total";
const HELP: &str =
    "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.";

/// In the order in which they are counted.
const RESULTS: [&str; 3] = ["successful", "failed", "unknown"];

/// What came of asking once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The container is well.
    Good,
    /// It is not.
    Bad,
    /// It could not be asked.
    None,
}

/// A probe of a container.
#[derive(Debug, Clone)]
pub(crate) struct Probed {
    pub(crate) identity: Identity,
    /// `Startup`, `Liveness` or `Readiness`.
    pub(crate) kind: &'static str,
    /// Answers that were good, those that were bad, and how often it could not be asked.
    pub(crate) counts: [u64; 3],
}

/// When a probe would be asked that nobody asks, since its container is simulated: all answers would be good ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// The start of the container.
    pub(crate) started_at: OffsetDateTime,
    /// How long after that it is asked first.
    pub(crate) first: Duration,
    pub(crate) period: Duration,
    /// How often at most.
    pub(crate) most: u64,
}

impl Pace {
    /// The number of answers by then.
    pub(crate) fn answers(&self, now: OffsetDateTime) -> u64 {
        // A clock that was set back makes a container that has not started yet.
        let age = Duration::try_from(now - self.started_at).unwrap_or_default();
        let Some(since) = age.checked_sub(self.first) else {
            return 0;
        };
        let more = since.as_nanos() / self.period.as_nanos().max(1);
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        more.saturating_add(1).min(self.most)
    }
}

/// A container's id, and the kind of a probe.
type Key = (String, &'static str);

/// A probe with what it has counted, and its pace where it is not asked.
type Counted = (Probed, Option<Pace>);

/// The probes of a node that go on.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<BTreeMap<Key, Counted>>);

impl Probes {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Counted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for a probe that begins, until what is given is dropped; one with a pace counts by itself.
    pub(crate) fn begin(
        self: &Arc<Probes>,
        container_id: &str,
        identity: Identity,
        kind: &'static str,
        pace: Option<Pace>,
    ) -> Counter {
        let key = (container_id.to_owned(), kind);
        let counts = [0; 3];
        let one = Probed {
            identity,
            kind,
            counts,
        };
        self.all().insert(key.clone(), (one, pace));
        Counter {
            probes: self.clone(),
            key,
        }
    }

    /// The text for Prometheus at a time.
    pub(crate) fn exposed(&self, now: OffsetDateTime) -> String {
        let mut all = Vec::new();
        for (one, pace) in self.all().values() {
            let mut one = one.clone();
            if let Some(pace) = pace {
                one.counts = [pace.answers(now), 0, 0];
            }
            all.push(one);
        }
        probed(&all)
    }
}

/// Counts for one probe of one run of a container.
#[derive(Debug)]
pub(crate) struct Counter {
    probes: Arc<Probes>,
    key: Key,
}

impl Counter {
    pub(crate) fn add(&self, answer: Answer) {
        if let Some((one, _)) = self.probes.all().get_mut(&self.key) {
            let count = &mut one.counts[answer as usize];
            *count = count.saturating_add(1);
        }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.probes.all().remove(&self.key);
    }
}

/// The text; results that never came are left out.
pub(crate) fn probed(all: &[Probed]) -> String {
    let mut text = String::new();
    for one in all {
        let identity = &one.identity;
        for (result, count) in RESULTS.into_iter().zip(one.counts) {
            if count == 0 {
                continue;
            }
            if text.is_empty() {
                let _ = writeln!(text, "# HELP {NAME} {HELP}\n# TYPE {NAME} counter");
            }
            let _ = writeln!(
                text,
                "{NAME}{{container=\"{}\",namespace=\"{}\",pod=\"{}\",pod_uid=\"{}\",probe_type=\"{}\",result=\"{result}\"}} {count}",
                quoted(&identity.container),
                quoted(&identity.pod_namespace),
                quoted(&identity.pod_name),
                quoted(&identity.pod_uid),
                one.kind,
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_by_probe_and_result() {
        let one = Probed {
            identity: identity(),
            kind: "Liveness",
            counts: [3, 0, 0],
        };
        let line = "prober_probe_total{container=\"c\",namespace=\"d\",pod=\"p\",pod_uid=\"u\",probe_type=\"Liveness\",result=\"successful\"} 3\n";
        let text = probed(&[one]);
        assert!(text.starts_with("# HELP prober_probe_total [BETA] "));
        assert!(text.ends_with(line) && !text.contains("failed"), "{text}");
        assert_eq!(probed(&[]), "");
    }

    fn identity() -> Identity {
        Identity {
            pod_name: "p".into(),
            pod_namespace: "d".into(),
            pod_uid: "u".into(),
            container: "c".into(),
            attempt: 0,
        }
    }

    #[test]
    fn what_nobody_asks_is_counted_at_its_pace() {
        let began = OffsetDateTime::UNIX_EPOCH;
        let pace = |first: u64, most: u64| Pace {
            started_at: began,
            first: Duration::from_secs(first),
            period: Duration::from_secs(10),
            most,
        };
        for (first, most, after, answers) in [
            (0, u64::MAX, 0, 1),
            (0, u64::MAX, 9, 1),
            (0, u64::MAX, 10, 2),
            (5, u64::MAX, 4, 0),
            (5, u64::MAX, 25, 3),
            (5, 1, 4, 0),
            (5, 1, 25, 1),
            (0, u64::MAX, -7, 1),
        ] {
            let now = began + time::Duration::seconds(after);
            let told = format!("from {first} s on, after {after} s");
            assert_eq!(pace(first, most).answers(now), answers, "{told}");
        }
        let probes = Arc::new(Probes::default());
        let counter = probes.begin("id", identity(), "Readiness", Some(pace(0, u64::MAX)));
        let text = probes.exposed(began + time::Duration::seconds(60));
        assert!(text.ends_with("result=\"successful\"} 7\n"), "{text}");
        drop(counter);
        assert_eq!(probes.exposed(began), "");
    }

    #[test]
    fn a_probe_is_counted_while_it_goes_on() {
        let probes = Arc::new(Probes::default());
        let now = OffsetDateTime::UNIX_EPOCH;
        let counter = probes.begin("id", identity(), "Startup", None);
        let next = probes.begin("other", identity(), "Startup", None);
        for answer in [Answer::Good, Answer::Bad, Answer::Bad, Answer::None] {
            counter.add(answer);
        }
        let text = probes.exposed(now);
        for line in [
            "result=\"successful\"} 1",
            "result=\"failed\"} 2",
            "result=\"unknown\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
        drop(counter);
        assert_eq!(probes.exposed(now), "");
        drop(next);
    }
}
