//! `/metrics/probes`: how often probes were asked, as text for Prometheus.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

/// A container's id, and the kind of a probe.
type Key = (String, &'static str);

/// The probes of a node that go on.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<BTreeMap<Key, Probed>>);

impl Probes {
    fn all(&self) -> MutexGuard<'_, BTreeMap<Key, Probed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts for a probe that begins, until what is given is dropped.
    pub(crate) fn begin(
        self: &Arc<Probes>,
        container_id: &str,
        identity: Identity,
        kind: &'static str,
    ) -> Counter {
        let key = (container_id.to_owned(), kind);
        let counts = [0; 3];
        let one = Probed {
            identity,
            kind,
            counts,
        };
        self.all().insert(key.clone(), one);
        Counter {
            probes: self.clone(),
            key,
        }
    }

    /// The text for Prometheus.
    pub(crate) fn exposed(&self) -> String {
        let all: Vec<Probed> = self.all().values().cloned().collect();
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
        if let Some(one) = self.probes.all().get_mut(&self.key) {
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
            identity: Identity {
                pod_name: "p".into(),
                pod_namespace: "d".into(),
                pod_uid: "u".into(),
                container: "c".into(),
                attempt: 1,
            },
            kind: "Liveness",
            counts: [3, 0, 0],
        };
        let line = "prober_probe_total{container=\"c\",namespace=\"d\",pod=\"p\",pod_uid=\"u\",probe_type=\"Liveness\",result=\"successful\"} 3\n";
        let text = probed(&[one]);
        assert!(text.starts_with("# HELP prober_probe_total [BETA] "));
        assert!(text.ends_with(line) && !text.contains("failed"), "{text}");
        assert_eq!(probed(&[]), "");
    }

    #[test]
    fn a_probe_is_counted_while_it_goes_on() {
        let probes = Arc::new(Probes::default());
        let identity = Identity {
            pod_name: "p".into(),
            pod_namespace: "d".into(),
            pod_uid: "u".into(),
            container: "c".into(),
            attempt: 0,
        };
        let counter = probes.begin("id", identity.clone(), "Startup");
        let next = probes.begin("other", identity, "Startup");
        for answer in [Answer::Good, Answer::Bad, Answer::Bad, Answer::None] {
            counter.add(answer);
        }
        let text = probes.exposed();
        for line in [
            "result=\"successful\"} 1",
            "result=\"failed\"} 2",
            "result=\"unknown\"} 1",
        ] {
            assert!(text.contains(line), "{text}");
        }
        drop(counter);
        assert_eq!(probes.exposed(), "");
        drop(next);
    }
}
