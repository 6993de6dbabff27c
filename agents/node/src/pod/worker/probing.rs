//! The probes of a pod: which run, and what they have found.

use std::collections::BTreeMap;
use std::sync::Arc;

use agent_runtime::EventType;
use serde_json::Value;

use super::Worker;
use crate::clock;
use crate::pod::container::identity;
use crate::pod::handler::Target;
use crate::pod::probe::{Kind, Prober, Report, Results, pace, passes_after};
use crate::runtime::State;
use crate::source::Owned;
use crate::spec::Role;

impl Worker {
    /// Starts the probes that may run now and drops those whose container does not run any more.
    pub(super) fn update_probers(&mut self) {
        self.update_counters();
        let now = clock::now();
        let ip = if self.pod.spec.host_network {
            Some(self.agent.host_ip().to_owned())
        } else {
            self.observed
                .sandbox()
                .and_then(|sandbox| sandbox.ip.clone())
        };
        let mut wanted = BTreeMap::new();
        for (_, container) in self.pod.all_containers() {
            let Some(current) = self.observed.current(&container.name) else {
                continue;
            };
            let State::Running { started_at } = current.state else {
                continue;
            };
            let results = self.probes.get(&current.id).copied().unwrap_or_default();
            for kind in Kind::ALL {
                let gated = kind != Kind::Startup && !results.started(container);
                let settled = match kind {
                    Kind::Startup => results.startup.is_some(),
                    Kind::Liveness => results.liveness == Some(false),
                    Kind::Readiness => false,
                };
                let asks = match self.agent.is_hollow() {
                    true => results.get(kind).is_none(),
                    false => !gated && !settled,
                };
                if kind.of(container).is_none() || !asks {
                    continue;
                }
                let age = now - started_at;
                if self.agent.is_hollow() && passes_after(container, kind) <= age {
                    // Nothing listens in a simulated container: its probes succeed.
                    let results = self.probes.entry(current.id.clone()).or_default();
                    results.set(kind, true);
                    continue;
                }
                wanted.insert((current.id.clone(), kind), (container.clone(), age));
            }
        }
        self.probers.retain(|key, _| wanted.contains_key(key));
        for (key, (container, age)) in wanted {
            let (runtime, reports) = (self.agent.runtime.clone(), self.reporter.clone());
            let target = Target {
                container_id: key.0.clone(),
                ip: ip.clone().unwrap_or_default(),
            };
            let age = age.try_into().unwrap_or_default();
            let is_hollow = self.agent.is_hollow();
            let Some(counter) = self.counters.get(&key).cloned() else {
                continue;
            };
            self.probers.entry(key.clone()).or_insert_with(|| {
                let prober = Prober {
                    runtime,
                    kind: key.1,
                    container,
                    target,
                    age,
                    reports,
                    counter,
                };
                match is_hollow {
                    true => Owned::spawn(prober.pretend()),
                    false => Owned::spawn(prober.run()),
                }
            });
        }
    }

    /// Counts for each probe of a container that runs. As on a real node what was counted stays while nobody is asked any more,
    /// because the probe has passed for good, or because the container is simulated.
    fn update_counters(&mut self) {
        let mut counters = BTreeMap::new();
        for (_, container) in self.pod.all_containers() {
            let Some(current) = self.observed.current(&container.name) else {
                continue;
            };
            let State::Running { started_at } = current.state else {
                continue;
            };
            for kind in Kind::ALL {
                if kind.of(container).is_none() {
                    continue;
                }
                let key = (current.id.clone(), kind);
                let counter = self.counters.remove(&key).unwrap_or_else(|| {
                    let who = identity(&self.pod, &container.name, 0);
                    let pace = match self.agent.is_hollow() {
                        true => pace(container, kind, started_at),
                        false => None,
                    };
                    let probes = &self.agent.stats.probes;
                    Arc::new(probes.begin(&key.0, who, kind.title(), pace))
                });
                counters.insert(key, counter);
            }
        }
        self.counters = counters;
    }

    /// Asks no more, and forgets what was counted.
    pub(in crate::pod) fn end_probes(&mut self) {
        self.probers.clear();
        self.counters.clear();
    }

    pub(super) fn accept(&mut self, report: Report) {
        if let Some(text) = report.failure {
            let role = self
                .pod
                .container(&report.container)
                .map_or(Role::App, |(role, _)| role);
            self.event(
                Some((role, &report.container)),
                EventType::Warning,
                "Unhealthy",
                text,
            );
        }
        if let Some(result) = report.result {
            self.probes
                .entry(report.container_id)
                .or_default()
                .set(report.kind, result);
        }
    }
}

/// Probe results of containers that an earlier agent has started, so that taking them over changes nothing.
pub(super) fn recorded_probes(status: &Value) -> BTreeMap<String, Results> {
    let lists = [
        "containerStatuses",
        "initContainerStatuses",
        "ephemeralContainerStatuses",
    ];
    let all = lists
        .iter()
        .filter_map(|list| status.get(list)?.as_array())
        .flatten();
    all.filter_map(|container| {
        let (_, id) = container.get("containerID")?.as_str()?.split_once("://")?;
        let yes = |field: &str| {
            container
                .get(field)
                .and_then(Value::as_bool)
                .filter(|yes| *yes)
        };
        let results = Results {
            startup: yes("started"),
            readiness: yes("ready"),
            liveness: None,
        };
        container
            .pointer("/state/running")
            .map(|_| (id.to_owned(), results))
    })
    .collect()
}
