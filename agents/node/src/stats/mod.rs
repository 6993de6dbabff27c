//! What the node and its pods use: measured at a steady pace where containers are real, computed from a load where they
//! are simulated, and told in the forms of Kubernetes' node agent, `/stats/summary`, `/metrics/resource` and
//! `/metrics/cadvisor`.

mod cadvisor;
pub(crate) mod cgroup;
mod exposition;
pub(crate) mod load;
mod machine;
mod own;
pub(crate) mod pressure;
mod probed;
mod summary;
mod usage;
pub(crate) mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use time::OffsetDateTime;

use crate::agent::Agent;
use crate::clock;
use crate::runtime::RuntimeError;

pub(crate) use cadvisor::cadvisor;
pub(crate) use exposition::exposition;
pub(crate) use own::own;
pub(crate) use probed::{Answer, Counter, Pace, Probed, Probes, probed};
pub(crate) use summary::summary;
use usage::Series;
pub(crate) use usage::{Measured, Memory, Network, Rate, Used};

/// How often real containers are measured; so does Kubernetes' node agent.
const PERIOD: Duration = Duration::from_secs(10);
/// What was measured longer ago is told to nobody.
const STALE: Duration = Duration::from_secs(60);

/// The last measurements.
#[derive(Default)]
pub(crate) struct Stats {
    state: Mutex<State>,
    pub(crate) volumes: volumes::Volumes,
    pub(crate) probes: Arc<Probes>,
}

#[derive(Default)]
struct State {
    at: Option<OffsetDateTime>,
    node: Series,
    /// By container id.
    containers: BTreeMap<String, Series>,
}

/// Everything at one time.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) node_name: String,
    pub(crate) memory_bytes: u64,
    /// Since when the machine runs.
    pub(crate) booted_at: Option<OffsetDateTime>,
    pub(crate) node: Option<Measured>,
    /// Running containers and sandboxes.
    pub(crate) containers: Vec<Measured>,
}

impl Stats {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what was just measured; what is not among it any more is forgotten.
    fn take(&self, at: OffsetDateTime, node: Option<Used>, used: Vec<Used>) {
        let mut state = self.state();
        state.at = Some(at);
        if let Some(node) = node {
            state.node.push(node);
        }
        let mut before = std::mem::take(&mut state.containers);
        for one in used {
            let mut series = before.remove(&one.id).unwrap_or_default();
            let id = one.id.clone();
            series.push(one);
            state.containers.insert(id, series);
        }
    }

    fn is_fresh(&self, now: OffsetDateTime) -> bool {
        self.state().at.is_some_and(|at| (now - at).abs() < STALE)
    }

    fn read(&self) -> (Option<Measured>, Vec<Measured>) {
        let state = self.state();
        let containers = state.containers.values().filter_map(Series::measured);
        (state.node.measured(), containers.collect())
    }
}

/// Measures real containers at their pace; runs until dropped.
pub(crate) async fn keep(agent: Arc<Agent>) {
    if agent.is_hollow() {
        // Its figures are made when somebody asks.
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = measure(&agent).await {
            tracing::debug!(%error, "cannot measure what containers use");
        }
    }
}

/// Measures everything once.
async fn measure(agent: &Agent) -> Result<(), RuntimeError> {
    let pods = agent.pod_objects();
    let used = agent.runtime.usage(&pods).await?;
    let now = clock::now();
    let node = match agent.is_hollow() {
        true => Some(load::of_node(&used, now)),
        false => tokio::task::spawn_blocking(move || machine::used(now))
            .await
            .unwrap_or_default(),
    };
    agent.stats.take(now, node, used);
    Ok(())
}

/// What is known now. An error where nothing was measured for a while.
pub(crate) async fn snapshot(agent: &Agent) -> Result<Snapshot, RuntimeError> {
    if agent.is_hollow() || !agent.stats.is_fresh(clock::now()) {
        measure(agent).await?;
    }
    let (node, containers) = agent.stats.read();
    Ok(Snapshot {
        node_name: agent.config.node_name.clone(),
        memory_bytes: u64::try_from(agent.memory_bytes()).unwrap_or(0),
        booted_at: machine::booted_at(),
        node,
        containers,
    })
}

/// The pods of the node by UID, with the time at which each began.
pub(crate) fn pod_starts(pods: &[Arc<Value>]) -> BTreeMap<String, String> {
    let text = |pod: &Value, path: &str| {
        let found = pod.pointer(path).and_then(Value::as_str);
        found.unwrap_or_default().to_owned()
    };
    pods.iter()
        .map(|pod| (text(pod, "/metadata/uid"), text(pod, "/status/startTime")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Identity;

    fn used(id: &str, at: OffsetDateTime, cpu_nanos: u64) -> Used {
        Used {
            id: id.to_owned(),
            identity: Identity {
                pod_name: "p".into(),
                pod_namespace: "d".into(),
                pod_uid: "u".into(),
                container: id.to_owned(),
                attempt: 0,
            },
            started_at: OffsetDateTime::UNIX_EPOCH,
            at,
            cpu_nanos,
            memory: Memory::default(),
            network: None,
            rate: None,
        }
    }

    #[test]
    fn two_measurements_make_a_rate_and_what_is_gone_is_forgotten() {
        let stats = Stats::default();
        let at = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let later = at + Duration::from_secs(10);
        assert!(!stats.is_fresh(at));
        stats.take(at, None, vec![used("a", at, 5), used("b", at, 5)]);
        assert!(stats.read().1.iter().all(|one| one.rate.is_none()));
        stats.take(later, None, vec![used("a", later, 2_500_000_005)]);
        let (_, containers) = stats.read();
        assert_eq!(containers.len(), 1);
        let rate = containers[0].rate.unwrap();
        assert_eq!(rate.nanocores, 250_000_000);
        assert_eq!(rate.window, Duration::from_secs(10));
        assert!(stats.is_fresh(later + Duration::from_secs(59)));
        assert!(!stats.is_fresh(later + STALE));
    }
}
