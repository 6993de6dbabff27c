//! What containers of Docker have used: from the kernel's files where the agent can read them, which costs next to nothing,
//! else from the daemon.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bollard::Docker;
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters as query;
use futures::StreamExt;
use time::OffsetDateTime;

use super::process;
use crate::runtime::{Observed, Result, State};
use crate::stats::cgroup::{self, Place};
use crate::stats::{Memory, Network, Used};

/// Questions to the daemon at a time.
const ASKED_MAX: usize = 4;

/// Containers that run, so that each is inspected once.
#[derive(Default)]
pub(super) struct Known(Mutex<BTreeMap<String, Watched>>);

/// A running container and where it is measured.
#[derive(Clone)]
pub(super) struct Watched {
    observed: Observed,
    started_at: OffsetDateTime,
    /// None: the daemon has to be asked.
    place: Option<Place>,
}

impl Watched {
    /// None where it does not run.
    pub(super) fn of(observed: Observed) -> Option<Watched> {
        let State::Running { started_at } = observed.state else {
            return None;
        };
        let place = observed.pid.and_then(|pid| Place::of(pid, &observed.id));
        Some(Watched {
            observed,
            started_at,
            place,
        })
    }

    fn used(&self, at: OffsetDateTime, (cpu_nanos, memory): (u64, Memory)) -> Used {
        Used {
            id: self.observed.id.clone(),
            identity: self.observed.identity.clone(),
            started_at: self.started_at,
            at,
            cpu_nanos,
            memory,
            network: self.network(),
            rate: None,
        }
    }

    /// The traffic of a sandbox with a network of its own.
    fn network(&self) -> Option<Network> {
        let pid = self.observed.pid.filter(|_| self.observed.ip.is_some())?;
        // The number may be another process's by now.
        if !process::is_in_container(pid, &self.observed.id) {
            return None;
        }
        network(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?)
    }
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what does not run any more, and says what is new.
    pub(super) fn keep(&self, running: &[String]) -> Vec<String> {
        let mut known = self.lock();
        known.retain(|id, _| running.contains(id));
        let new = running.iter().filter(|id| !known.contains_key(*id));
        new.cloned().collect()
    }

    pub(super) fn add(&self, watched: Watched) {
        let id = watched.observed.id.clone();
        self.lock().insert(id, watched);
    }

    fn all(&self) -> Vec<Watched> {
        self.lock().values().cloned().collect()
    }
}

/// Measures all that are known.
pub(super) async fn measure(docker: &Docker, known: &Known) -> Result<Vec<Used>> {
    let (here, elsewhere): (Vec<Watched>, Vec<Watched>) = known
        .all()
        .into_iter()
        .partition(|watched| watched.place.is_some());
    let read = move || {
        let one = |watched: &Watched| {
            let read = watched.place.as_ref()?.read()?;
            Some(watched.used(OffsetDateTime::now_utc(), read))
        };
        here.iter().filter_map(one).collect::<Vec<_>>()
    };
    let mut used = tokio::task::spawn_blocking(read).await.unwrap_or_default();
    let asked = futures::stream::iter(elsewhere).map(|watched| async move {
        let options = query::StatsOptionsBuilder::new()
            .stream(false)
            .one_shot(true)
            .build();
        let answer = docker.stats(&watched.observed.id, Some(options));
        let answer = std::pin::pin!(answer).next().await?.ok()?;
        Some(watched.used(OffsetDateTime::now_utc(), figures(&answer)?))
    });
    let asked: Vec<Option<Used>> = asked.buffer_unordered(ASKED_MAX).collect().await;
    used.extend(asked.into_iter().flatten());
    Ok(used)
}

/// Processor time and memory as the daemon tells them.
fn figures(answer: &ContainerStatsResponse) -> Option<(u64, Memory)> {
    let cpu = answer.cpu_stats.as_ref()?.cpu_usage.as_ref()?.total_usage?;
    let memory = answer.memory_stats.as_ref()?;
    let stat = |name: &str| memory.stats.as_ref()?.get(name).copied();
    Some((cpu, cgroup::memory_of(memory.usage?, stat)))
}

/// The sums over all interfaces but the loopback one.
fn network(text: &str) -> Option<Network> {
    let mut total = Network::default();
    let mut any = false;
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else {
            continue;
        };
        let figures: Vec<u64> = rest
            .split_ascii_whitespace()
            .filter_map(|figure| figure.parse().ok())
            .collect();
        if name.trim() == "lo" || figures.len() < 11 {
            continue;
        }
        any = true;
        total.received_bytes = total.received_bytes.saturating_add(figures[0]);
        total.receive_errors = total.receive_errors.saturating_add(figures[2]);
        total.sent_bytes = total.sent_bytes.saturating_add(figures[8]);
        total.send_errors = total.send_errors.saturating_add(figures[10]);
    }
    any.then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn traffic_is_summed_without_the_loopback_interface() {
        let text = "Inter-|   Receive\n face |bytes packets errs drop fifo frame compressed multicast|bytes\n\
            lo: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n  eth0: 100 2 3 0 0 0 0 0 200 5 6 0 0 0 0 0\neth1:1 0 0 0 0 0 0 0 2 0 0 0 0 0 0 0\nbad: x\n";
        let expected = Network {
            received_bytes: 101,
            receive_errors: 3,
            sent_bytes: 202,
            send_errors: 6,
        };
        assert_eq!(network(text), Some(expected));
        assert_eq!(network("lo: 1 1 1 1 1 1 1 1 1 1 1\n"), None);
    }

    #[test]
    fn the_daemons_figures_are_those_of_the_files() {
        let answer = |stats: serde_json::Value| {
            let answer = json!({"cpu_stats": {"cpu_usage": {"total_usage": 5}}, "memory_stats": {"usage": 100, "stats": stats}});
            figures(&serde_json::from_value(answer).unwrap())
        };
        let of = |stats| answer(stats).map(|(cpu, memory)| (cpu, memory.working_set, memory.rss));
        assert_eq!(
            of(json!({"total_inactive_file": 40, "inactive_file": 1, "total_rss": 7})),
            Some((5, 60, 7))
        );
        assert_eq!(
            of(json!({"inactive_file": 30, "anon": 8})),
            Some((5, 70, 8))
        );
        assert_eq!(figures(&ContainerStatsResponse::default()), None);
    }
}
