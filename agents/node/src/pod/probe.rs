//! Probes: the thresholds (pure), and the task that asks a container again and again.
//!
//! Gating is not decided here. The worker starts the tasks of a container when they may run (startup first, the others
//! once it has succeeded) and drops them when the container is gone, so a task knows nothing but its own period.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::handler::{self, Outcome, Target};
use crate::runtime::Runtime;
use crate::spec::{Container, Probe};
use crate::stats::{Answer, Counter, Pace};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Kind {
    pub(crate) const ALL: [Kind; 3] = [Kind::Startup, Kind::Liveness, Kind::Readiness];

    /// As an event's message begins.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Kind::Startup => "Startup",
            Kind::Liveness => "Liveness",
            Kind::Readiness => "Readiness",
        }
    }

    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Kind::Startup => container.startup_probe.as_ref(),
            Kind::Liveness => container.liveness_probe.as_ref(),
            Kind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

/// What the probes of one running container have concluded; `None` before the thresholds are met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Results {
    pub(crate) startup: Option<bool>,
    pub(crate) liveness: Option<bool>,
    pub(crate) readiness: Option<bool>,
}

impl Results {
    pub(crate) fn get(&self, kind: Kind) -> Option<bool> {
        match kind {
            Kind::Startup => self.startup,
            Kind::Liveness => self.liveness,
            Kind::Readiness => self.readiness,
        }
    }

    pub(crate) fn set(&mut self, kind: Kind, result: bool) -> bool {
        let slot = match kind {
            Kind::Startup => &mut self.startup,
            Kind::Liveness => &mut self.liveness,
            Kind::Readiness => &mut self.readiness,
        };
        let changed = *slot != Some(result);
        *slot = Some(result);
        changed
    }

    /// Whether the container counts as started.
    pub(crate) fn started(&self, container: &Container) -> bool {
        container.startup_probe.is_none() || self.startup == Some(true)
    }

    /// Whether the container counts as ready while it runs.
    pub(crate) fn ready(&self, container: &Container) -> bool {
        self.started(container)
            && (container.readiness_probe.is_none() || self.readiness == Some(true))
    }

    /// The probe that says the container has to be killed.
    pub(crate) fn fatal(&self) -> Option<Kind> {
        match (self.startup, self.liveness) {
            (Some(false), _) => Some(Kind::Startup),
            (_, Some(false)) => Some(Kind::Liveness),
            _ => None,
        }
    }
}

/// Counts equal outcomes in a row and says when they amount to a result.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Thresholds {
    last: Option<bool>,
    run: i64,
}

impl Thresholds {
    pub(crate) fn record(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        if self.last == Some(success) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let needed = if success {
            probe.success_threshold
        } else {
            failures(probe)
        };
        (self.run >= needed.max(1)).then_some(success)
    }
}

/// So many bad answers in a row count.
pub(crate) fn failures(probe: &Probe) -> i64 {
    if probe.failure_threshold > 0 {
        probe.failure_threshold
    } else {
        3
    }
}

pub(crate) fn period(probe: &Probe) -> Duration {
    seconds(probe.period_seconds, 10)
}

pub(crate) fn timeout(probe: &Probe) -> Duration {
    seconds(probe.timeout_seconds, 1)
}

fn seconds(value: i64, default: u64) -> Duration {
    Duration::from_secs(
        u64::try_from(value)
            .ok()
            .filter(|s| *s > 0)
            .unwrap_or(default),
    )
}

pub(crate) fn initial_delay(probe: &Probe) -> Duration {
    Duration::from_secs(u64::try_from(probe.initial_delay_seconds).unwrap_or(0))
}

/// How long after its start a container has passed this probe if every answer is a good one; zero without that probe.
///
/// All initial delays count from the start of the container, and the other probes begin when the startup probe has passed.
pub(crate) fn passes_after(container: &Container, kind: Kind) -> Duration {
    let Some(probe) = kind.of(container) else {
        return Duration::ZERO;
    };
    let more = u32::try_from(probe.success_threshold.saturating_sub(1)).unwrap_or(0);
    asked_after(container, (kind, probe)).saturating_add(period(probe).saturating_mul(more))
}

/// How long after the start of its container a probe is asked first, if every answer is a good one.
fn asked_after(container: &Container, (kind, probe): (Kind, &Probe)) -> Duration {
    let gate = match kind {
        Kind::Startup => Duration::ZERO,
        Kind::Liveness | Kind::Readiness => passes_after(container, Kind::Startup),
    };
    initial_delay(probe).max(gate)
}

/// When the probe of a simulated container is asked, if it has one of this kind. A startup probe is not asked any more once it has
/// passed, as on a real node.
pub(crate) fn pace(container: &Container, kind: Kind, started_at: OffsetDateTime) -> Option<Pace> {
    let probe = kind.of(container)?;
    let most = match kind {
        Kind::Startup => u64::try_from(probe.success_threshold).unwrap_or(0).max(1),
        Kind::Liveness | Kind::Readiness => u64::MAX,
    };
    Some(Pace {
        started_at,
        first: asked_after(container, (kind, probe)),
        period: period(probe),
        most,
    })
}

/// What a task tells its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) container_id: String,
    pub(crate) container: String,
    pub(crate) kind: Kind,
    /// Set when the thresholds are met.
    pub(crate) result: Option<bool>,
    /// Text for an `Unhealthy` event.
    pub(crate) failure: Option<String>,
}

/// Everything a probing task needs.
pub(crate) struct Prober {
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) kind: Kind,
    pub(crate) container: Container,
    pub(crate) target: Target,
    /// How long the container had been running when the task was made.
    pub(crate) age: Duration,
    pub(crate) reports: mpsc::Sender<Report>,
    pub(crate) counter: Arc<Counter>,
}

impl Prober {
    /// Asks nobody, since nothing listens in a simulated container: says once that the probe has passed, when it would have.
    pub(crate) async fn pretend(self) {
        let after = passes_after(&self.container, self.kind);
        tokio::time::sleep(after.saturating_sub(self.age)).await;
        // A worker that has gone needs no answer.
        let _ = self.report(Some(true), None).await;
    }

    /// Probes until dropped, until the worker is gone, or until the result is final (startup passed, or fatal).
    pub(crate) async fn run(self) {
        let Some(probe) = self.kind.of(&self.container).cloned() else {
            return;
        };
        tokio::time::sleep(initial_delay(&probe).saturating_sub(self.age)).await;
        let mut ticks = tokio::time::interval(period(&probe));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut thresholds = Thresholds::default();
        loop {
            ticks.tick().await;
            let outcome = handler::run_probe(
                &*self.runtime,
                &probe.handler,
                &self.container,
                &self.target,
                timeout(&probe),
            )
            .await;
            self.counter.add(match &outcome {
                Outcome::Success => Answer::Good,
                Outcome::Failure(_) => Answer::Bad,
                Outcome::Unknown(_) => Answer::None,
            });
            let (success, failure) = match outcome {
                Outcome::Success => (true, None),
                Outcome::Failure(text) => (
                    false,
                    Some(format!("{} probe failed: {text}", self.kind.title())),
                ),
                Outcome::Unknown(text) => {
                    // The question could not be asked, which says nothing about the container.
                    let failure = format!(
                        "{} probe errored and resulted in unknown state: {text}",
                        self.kind.title()
                    );
                    if self.report(None, Some(failure)).await.is_err() {
                        return;
                    }
                    continue;
                }
            };
            let result = thresholds.record(success, &probe);
            if self.report(result, failure).await.is_err() {
                return;
            }
            let last = match self.kind {
                Kind::Startup => result.is_some(),
                Kind::Liveness => result == Some(false),
                Kind::Readiness => false,
            };
            if last {
                return;
            }
        }
    }

    async fn report(&self, result: Option<bool>, failure: Option<String>) -> Result<(), ()> {
        if result.is_none() && failure.is_none() {
            return Ok(());
        }
        let report = Report {
            container_id: self.target.container_id.clone(),
            container: self.container.name.clone(),
            kind: self.kind,
            result,
            failure,
        };
        self.reports.send(report).await.map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_need_their_thresholds() {
        let probe = Probe {
            success_threshold: 2,
            failure_threshold: 3,
            ..Probe::default()
        };
        let mut thresholds = Thresholds::default();
        let outcomes = [
            true, true, false, false, true, false, false, false, true, true,
        ];
        let results: Vec<_> = outcomes
            .iter()
            .map(|outcome| thresholds.record(*outcome, &probe))
            .collect();
        let (t, f, n) = (Some(true), Some(false), None);
        assert_eq!(results, [n, t, n, n, n, n, n, f, n, t]);
    }

    #[test]
    fn good_answers_count_after_the_delays_and_as_often_as_asked_for() {
        let probe = |initial, period, successes| {
            Some(Probe {
                initial_delay_seconds: initial,
                period_seconds: period,
                success_threshold: successes,
                ..Probe::default()
            })
        };
        // The startup probe, the readiness probe, and the seconds after which each has passed.
        for (startup, readiness, after) in [
            (None, None, [0, 0]),
            (None, probe(0, 10, 1), [0, 0]),
            (None, probe(30, 10, 1), [0, 30]),
            (None, probe(30, 5, 3), [0, 40]),
            (probe(20, 10, 1), None, [20, 0]),
            (probe(20, 10, 1), probe(5, 10, 1), [20, 20]),
            (probe(20, 10, 1), probe(25, 0, 2), [20, 35]),
            (None, probe(-1, -1, -1), [0, 0]),
        ] {
            let container = Container {
                startup_probe: startup,
                readiness_probe: readiness,
                ..Container::default()
            };
            let passed =
                [Kind::Startup, Kind::Readiness].map(|kind| passes_after(&container, kind));
            assert_eq!(passed, after.map(Duration::from_secs), "{container:?}");
        }
    }

    #[test]
    fn a_simulated_probe_is_asked_when_a_real_one_would_be() {
        let probe = |initial, successes| {
            Some(Probe {
                initial_delay_seconds: initial,
                success_threshold: successes,
                ..Probe::default()
            })
        };
        let container = Container {
            startup_probe: probe(20, 1),
            readiness_probe: probe(5, 2),
            ..Container::default()
        };
        let now = OffsetDateTime::UNIX_EPOCH;
        let after = |kind: Kind, seconds: i64| {
            let pace = pace(&container, kind, now)?;
            Some(pace.answers(now + time::Duration::seconds(seconds)))
        };
        for (kind, seconds, answers) in [
            (Kind::Startup, 19, Some(0)),
            (Kind::Startup, 20, Some(1)),
            (Kind::Startup, 99, Some(1)),
            (Kind::Liveness, 99, None),
            (Kind::Readiness, 19, Some(0)),
            (Kind::Readiness, 20, Some(1)),
            (Kind::Readiness, 99, Some(8)),
        ] {
            assert_eq!(after(kind, seconds), answers, "{kind:?} after {seconds} s");
        }
    }

    #[test]
    fn startup_gates_readiness_and_failures_are_fatal() {
        let container = Container {
            startup_probe: Some(Probe::default()),
            readiness_probe: Some(Probe::default()),
            ..Container::default()
        };
        let mut results = Results::default();
        assert!(!results.started(&container));
        assert!(results.set(Kind::Readiness, true));
        assert!(!results.ready(&container));
        assert!(results.set(Kind::Startup, true));
        assert!(results.ready(&container));
        assert_eq!(results.fatal(), None);
        assert!(results.set(Kind::Liveness, false));
        assert!(!results.set(Kind::Liveness, false));
        assert_eq!(results.fatal(), Some(Kind::Liveness));
        let plain = Container::default();
        assert!(Results::default().ready(&plain));
    }
}
