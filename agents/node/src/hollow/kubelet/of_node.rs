//! What one node answers about what runs on it and how its probes fare.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Kubelet;
use crate::hollow::engine::lock;
use crate::hollow::health;
use crate::hollow::nodes::Behaviour;
use crate::pod::container::identity;
use crate::runtime::Observed;
use crate::server::{Refusal, exposed, parse_query, running_pods};
use crate::spec::Pod;
use crate::stats::load::{Load, of_node};
use crate::stats::{Measured, Probed, Snapshot, Used, probed};

impl Kubelet {
    /// The pods of a node.
    pub(super) fn objects(&self, number: u32) -> Vec<Arc<Value>> {
        let mut world = lock(&self.world);
        let uids = match world.place(number) {
            Some(place) => place.pods.clone(),
            None => return Vec::new(),
        };
        let pods = uids.iter().filter_map(|uid| world.pods.get(uid));
        pods.map(|entry| Arc::new(entry.life.pod.object()))
            .collect()
    }

    /// What the containers of a node pretend to use now.
    pub(super) fn snapshot(&self, number: u32) -> (Snapshot, Vec<Arc<Value>>) {
        let now = self.clock.now();
        let node_name = self.names.of(number);
        let objects = self.objects(number);
        let mut used = Vec::new();
        for object in &objects {
            let Ok(pod) = Pod::decode(object) else {
                continue;
            };
            let world = lock(&self.world);
            let Some(entry) = world.pods.get(pod.metadata.uid.as_str()) else {
                continue;
            };
            for run in entry.life.running(now) {
                let load = Load::of(Some(object), &pod.metadata.uid, &run.of.container);
                let time = Duration::try_from(now - run.begins).unwrap_or_default();
                used.push(Used {
                    id: run.id(&pod, &node_name),
                    identity: identity(&pod, &run.of.container, run.attempt),
                    started_at: run.begins,
                    at: now,
                    cpu_nanos: load.spent(time),
                    memory: load.memory(),
                    network: None,
                    rate: Some(load.rate()),
                });
            }
        }
        let measured = |used: Used| Measured {
            rate: used.rate,
            used,
        };
        let snapshot = Snapshot {
            node_name,
            memory_bytes: self.size.memory_bytes,
            booted_at: None,
            node: Some(measured(of_node(&used, now))),
            containers: used.into_iter().map(measured).collect(),
        };
        (snapshot, objects)
    }

    /// The containers of a node as a runtime would have them.
    fn observed(&self, number: u32) -> Vec<Observed> {
        let now = self.clock.now();
        let node_name = self.names.of(number);
        let mut all = Vec::new();
        for object in self.objects(number) {
            let Ok(pod) = Pod::decode(&object) else {
                continue;
            };
            let world = lock(&self.world);
            if let Some(entry) = world.pods.get(pod.metadata.uid.as_str()) {
                let observed = entry.life.observation(&pod, &node_name, now);
                all.extend(observed.all_containers().cloned());
            }
        }
        all
    }

    /// How many times longer everything takes on a node.
    fn slow(&self, number: u32) -> u32 {
        let mut world = lock(&self.world);
        let behaviour = world.place(number).map(|place| place.node.behaviour());
        match behaviour {
            Some(Behaviour::Slow) => self.slow_factor.max(1),
            _ => 1,
        }
    }

    /// How often the probes of what runs on a node would have been asked.
    fn probed(&self, number: u32) -> Vec<Probed> {
        let now = self.clock.now();
        let slow = self.slow(number);
        let mut all = Vec::new();
        for object in self.objects(number) {
            let Ok(pod) = Pod::decode(&object) else {
                continue;
            };
            let world = lock(&self.world);
            let Some(entry) = world.pods.get(pod.metadata.uid.as_str()) else {
                continue;
            };
            let stage = self.stages.get(entry.stage);
            for run in entry.life.running(now) {
                let counts = health::counts(&pod, run, (stage, slow), now);
                all.extend(counts.into_iter().map(|(kind, [good, bad])| Probed {
                    identity: identity(&pod, &run.of.container, run.attempt),
                    kind: kind.title(),
                    counts: [good, bad, 0],
                }));
            }
        }
        all
    }
}

/// Of the process where no node is asked for.
pub(super) async fn healthz(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = parse_query(query.as_deref());
    if query.iter().any(|(name, _)| name == "node") {
        kubelet.asked(&query)?;
    }
    Ok("ok".into_response())
}

pub(super) async fn pods(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let number = kubelet.asked(&parse_query(query.as_deref()))?;
    let items = kubelet.objects(number);
    let items: Vec<&Value> = items.iter().map(|object| &**object).collect();
    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
    Ok(axum::Json(list).into_response())
}

pub(super) async fn pods_that_run(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let number = kubelet.asked(&parse_query(query.as_deref()))?;
    Ok(axum::Json(running_pods(&kubelet.observed(number))).into_response())
}

pub(super) async fn metrics_probes(
    State(kubelet): State<Kubelet>,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let number = kubelet.asked(&parse_query(query.as_deref()))?;
    Ok(exposed(probed(&kubelet.probed(number))))
}
