//! How the node is, measured.

use std::sync::Arc;
use std::time::Duration;

use agent_runtime::pressure::{self, Pressure};
use agent_runtime::timestamp;
use serde_json::{Value, json};

use super::machine::{Space, memory};
use crate::agent::Agent;
use crate::runtime::{Image, RuntimeInfo};
use crate::stats;

const RUNTIME_PATIENCE: Duration = Duration::from_secs(10);
const IMAGES_MAX: usize = 50;

/// How the node is, measured now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Health {
    /// Versions of the runtime, or why it does not answer.
    pub(super) runtime: Result<RuntimeInfo, String>,
    pub(super) memory_pressure: bool,
    pub(super) disk_pressure: bool,
    pub(super) images: Vec<Image>,
}

impl Health {
    /// Of a node on which nothing is ever short.
    pub(crate) fn of(runtime: Result<RuntimeInfo, String>) -> Health {
        Health {
            runtime,
            memory_pressure: false,
            disk_pressure: false,
            images: Vec::new(),
        }
    }
}

pub(super) async fn measure(agent: &Arc<Agent>) -> Health {
    let timed_out = || "container runtime did not answer in time".to_owned();
    let runtime = match tokio::time::timeout(RUNTIME_PATIENCE, agent.runtime.info()).await {
        Ok(info) => info.map_err(|error| error.to_string()),
        Err(_) => Err(timed_out()),
    };
    let images = match runtime.is_ok() {
        true => agent.runtime.images().await.unwrap_or_default(),
        false => Vec::new(),
    };
    let mut health = Health {
        runtime,
        memory_pressure: false,
        disk_pressure: false,
        images,
    };
    health.images.sort_by(|a, b| {
        b.size_bytes
            .cmp(&a.size_bytes)
            .then_with(|| a.id.cmp(&b.id))
    });
    health.images.truncate(IMAGES_MAX);
    if !agent.is_hollow() {
        let dir = agent.config.data_dir.clone();
        let space = tokio::task::spawn_blocking(move || Space::of(&dir))
            .await
            .ok()
            .flatten();
        let limits = &agent.config.eviction_hard;
        health.disk_pressure = space.is_some_and(|space| space.is_short(limits));
        let least = limits.memory_available.of(agent.capacity.memory_bytes);
        health.memory_pressure = memory("MemAvailable").is_some_and(|bytes| bytes < least);
    }
    health
}

/// How long work waits on this machine; of a hollow node nothing is known.
pub(super) async fn measured_pressure(agent: &Agent) -> Option<Pressure> {
    if agent.is_hollow() {
        return None;
    }
    let measured = tokio::task::spawn_blocking(stats::pressure::measure).await;
    measured.ok().flatten()
}

/// The metadata that says it; what was said before is taken away where nothing is known.
pub(crate) fn told_of(pressure: Option<Pressure>, now: timestamp::Micros) -> Value {
    let told = pressure.map(|pressure| pressure.tell(now));
    json!({"annotations": {pressure::ANNOTATION: told}})
}
